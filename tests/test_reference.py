"""Models of the PyTorch reference: what it computed of them, and its files."""

import re

import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from bijectors.flows.reference_orders import to_ours, to_theirs
from tests.reference import (ARGS, FILE, MODELS, arrays, blocks, model, named_entries,
                             random_state_dict, state_dict, to_rows)
from tfresflow import logdet

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="what the reference computed is not here")
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


def assert_relative(found, wanted, rtol):
    """`max |found - wanted| <= rtol max |wanted|`."""
    error = np.max(np.abs(np.asarray(found) - wanted)) / np.max(np.abs(wanted))
    assert error <= rtol, error


def with_probes(flow, name, num_terms, gradient=None):
    """The flow with the oracle's probe in each block, and a truncated series of so many terms."""
    for i, block in enumerate(blocks(flow)):
        probe = to_rows(arrays(name)[f"probe.{i}"])
        if len(block.event_shape) == 1:
            probe = arrays(name)[f"probe.{i}"].reshape(len(probe), -1)

        def given(shape, seed, dtype, probe=probe):
            del seed
            return tf.reshape(tf.constant(probe, dtype), shape)

        block.log_det = logdet.LogDet(logdet.Truncated(num_terms), gradient or logdet.Neumann(),
                                      probe=given)
        block.__dict__.pop("_estimator", None)
    return flow


@pytest.mark.fast("toy-float64", "toy-float32", "factor-float64")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", MODELS)
def test_z(name, dtype):
    flow, x = model(name, dtype)
    assert_relative(flow.forward(x), arrays(name)["z"], TOLERANCES[dtype])


@pytest.mark.fast("toy", "fcact")
@pytest.mark.parametrize("name", MODELS)
def test_the_way_back_is_the_same_to_the_byte(name):
    wanted = state_dict(name)
    flow, _ = model(name, "float32")
    back = flows.to_reference(flow, ARGS[name], wanted)
    assert list(back) == list(wanted)
    for key, value in wanted.items():
        assert (back[key].dtype, back[key].shape) == (value.dtype, value.shape), key
        assert back[key].tobytes() == value.tobytes(), key
    fresh = flows.to_reference(flow, ARGS[name])
    for key, value in wanted.items():
        if key.endswith(".scale"):
            sigma = arrays(name).get(f"sigma.{key[:-6]}", value)
            np.testing.assert_allclose(fresh[key], sigma, rtol=1e-5)
    assert fresh[next(k for k in wanted if k.endswith(".geom_p"))].dtype == np.float64


@pytest.mark.fast("toy-6", "factor-6")
@pytest.mark.parametrize("num_terms", [6, 30])
@pytest.mark.parametrize("name", MODELS)
def test_series_with_the_same_probes(name, num_terms):
    for dtype, rtol in TOLERANCES.items():
        flow, x = model(name, dtype)
        _, log_det = with_probes(flow, name, num_terms).forward_and_log_det(x, seed=0)
        assert_relative(log_det, arrays(name)[f"log_det_series{num_terms}"], rtol)


@pytest.mark.fast("toy")
@pytest.mark.parametrize("name", MODELS)
def test_exact_log_determinants(name):
    flow, x = model(name)
    _, log_det = flow.with_log_det(logdet.Exact()).forward_and_log_det(x)
    assert_relative(log_det, arrays(name)["log_det_exact"], 1e-10)


@pytest.mark.fast("toy")
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_the_neumann_surrogate(name):
    known = arrays(name)
    flow, x = model(name)
    with_probes(flow, name, 6)
    weights = tf.constant(known["weights"], x.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, log_det = flow.forward_and_log_det(x, seed=0)
        loss = tf.reduce_sum(weights * (tf.reduce_sum(z ** 2, 1) / 2 - log_det))
    entries = {key: entry for key, entry in named_entries(flow, name).items()
               if f"gradnorm.neumann.{key}" in known and entry.weight is not None}
    dx, *found = tape.gradient(loss, [x, *(e.weight.value for e in entries.values())])
    assert_relative(dx, to_rows(known["grad.neumann.x"]), 1e-6)
    for (key, entry), gradient in zip(entries.items(), found):
        np.testing.assert_allclose(np.linalg.norm(gradient), known[f"gradnorm.neumann.{key}"],
                                   rtol=1e-8, err_msg=key)
        if f"grad.neumann.{key}" in known:
            assert_relative(entry.theirs(gradient), known[f"grad.neumann.{key}"], 1e-6)
    assert len(entries) == len(flow.trainable_variables)


@pytest.mark.fast("toy")
@pytest.mark.parametrize("name", MODELS)
def test_inverse(name):
    """To the tolerance of the solver, where the reference's own misses x by thousandths."""
    known = arrays(name)
    flow, x = model(name)
    assert np.max(np.abs(flow.inverse(flow.forward(x)) - x)) < 1e-9
    found = flow.inverse(tf.constant(known["z_random"]))
    assert_relative(found, to_rows(known["x_of_z_random"]), 1e-6)  # it is stored in float32


def test_learned_orders_are_the_same_function():
    raw = np.linspace(-4, 4, 41)
    x = 0.5493061829986572 - raw
    order = 3 + 2 * np.tanh(-(0.3 * x + 0.7 * np.where(x > 0, x, np.expm1(x))))
    np.testing.assert_allclose(1 + 4 / (1 + np.exp(-to_ours(raw))), order, rtol=1e-12)
    np.testing.assert_allclose(to_theirs(to_ours(raw)), raw, atol=1e-10)


@pytest.mark.fast("2222")
@pytest.mark.parametrize("vnorms", ["2222", "1221", "3243", "2f22", "learned", "shared"])
def test_other_orders_there_and_back(vnorms):
    """Kernels of one pixel have vectors of one pixel; norms in closed form have none here."""
    args = {"dims": "6-5", "nblocks": 2, "actnorm": True, "mixed": vnorms != "shared",
            **({"learn_p": True} if vnorms[0] in "ls" else {"vnorms": vnorms})}
    images = {**ARGS["colour"], "data": "mnist", "imagesize": 8, "idim": 4, "nblocks": "1-1",
              **{k: v for k, v in args.items() if k in ("learn_p", "vnorms")}}
    for args in (args, images)[:1 if vnorms == "shared" else 2]:
        kept, _ = random_state_dict(args)
        flow = flows.from_reference(kept, args)
        back = flows.to_reference(flow, args, kept)
        assert all(back[key].tobytes() == kept[key].tobytes() for key in kept)
        assert np.all(np.isfinite(flow.forward(tf.ones([2, *flow.event_shape]))))


def test_what_has_no_place_is_named():
    wanted, args = state_dict("toy"), ARGS["toy"]
    name = "chain.1.nnet.1.weight"
    for given, message in (
            ({k: v for k, v in wanted.items() if k != name}, f"{name} of shape (32, 2). There is"),
            ({**wanted, name: wanted[name].T}, f"{name} of shape (32, 2). Received: (2, 32)"),
            ({**wanted, "chain.9.mean": 1.0}, "no place in the model: chain.9.mean of shape ()")):
        with pytest.raises(ValueError, match=re.escape(message)):
            flows.from_reference(given, args)
    flow = flows.from_reference(wanted, args)
    with pytest.raises(ValueError, match="`kept` has an entry that has no place"):
        flows.to_reference(flow, args, {**wanted, "x": np.ones(2)})


@pytest.mark.parametrize("args, message", [
    ({"batchnorm": True}, "`args` must have batchnorm=False"),
    ({"task": "hybrid"}, "`args` must have task=density"), ({"padding": 1}, "padding=0"),
    ({"vnorms": "222f"}, "vnorms that end as they begin"), ({"vnorms": "222"}, "have 4 orders"),
    ({"nblocks": "2"}, "`args` must have several scales"),
    ({"act": "selu", "dims": "8"}, "`args` must have another act"),
    ({"densenet": True}, "`args` must have densenet=False: i-DenseNet's published code"),
    ({"arch": "realnvp", "dims": "8"}, "`args` must have arch=iresnet: the script gives its")])
def test_arguments_without_a_model_are_named(args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        flows.from_reference({}, args)


def mlp(random, name, sizes):
    """Entries of a residual block of normflows."""
    found = {"geom_p": 0.0, "lamb": 2.0, "last_n_samples": [0], "last_firmom": [0],
             "last_secmom": [0]}
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        weight = random.randn(outputs, inputs)
        u, (sigma, *_), v = np.linalg.svd(weight)
        layer = {"weight": weight, "bias": random.randn(outputs), "scale": sigma, "u": u[:, 0],
                 "v": v[0]}
        found[f"nnet.net.{2 * i}.beta"] = random.randn(1)
        found |= {f"nnet.net.{2 * i + 1}.{key}": value for key, value in layer.items()}
    return {f"{name}.iresblock.{key}": np.asarray(value) for key, value in found.items()}


def test_models_of_normflows():
    """By its formulas, from data to latents."""
    random, coeff = np.random.RandomState(0), 0.9
    affine = {"flows.1.s": random.randn(1, 3), "flows.1.t": random.randn(1, 3),
              "flows.1.data_dep_init_done": np.ones([])}
    base = {"q0.loc": random.randn(1, 3), "q0.log_scale": random.randn(1, 3)}
    known = {**base, **mlp(random, "flows.0", [3, 5, 3]), **affine,
             **mlp(random, "flows.2", [3, 4, 3])}

    def block(x, name):
        h = x
        for i in (0, 1):
            own = f"{name}.iresblock.nnet.net.{2 * i}"
            h = h / (1 + np.exp(-np.log1p(np.exp(known[f"{own}.beta"])) * h)) / 1.1
            own = own[:-1] + str(2 * i + 1)
            weight = known[f"{own}.weight"]
            weight = weight / max(1, np.linalg.norm(weight, 2) / coeff)
            h = h @ weight.T + known[f"{own}.bias"]
        return x + h

    x = random.randn(5, 3)
    h = (block(x, "flows.2") - known["flows.1.t"]) * np.exp(-known["flows.1.s"])
    z = (block(h, "flows.0") - known["q0.loc"]) * np.exp(-known["q0.log_scale"])
    flow = flows.from_normflows(known, coeff, dtype="float64")
    np.testing.assert_allclose(flow.forward(x), z, rtol=1e-12)
    assert [b.name[:5] for b in flow.bijectors] == ["actno", "dense", "actno", "dense"]
    for wrong, message in (({"flows.3.mask": 1}, "or s and t. Received: flows.3.mask"),
                           ({"q0.weights": 1}, "no place in a flow of residual blocks: q0.weights"),
                           ({"flows.1.x": 1}, "no place: flows.1.x"),
                           ({"flows.0.iresblock.a": 1}, "model: flows.0.iresblock.a of shape ()")):
        with pytest.raises(ValueError, match=re.escape(message)):
            flows.from_normflows({**known, **wrong}, coeff)
