"""What was exported or saved, in a process that has never seen the flow."""

import json
import pickle
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows, parts
from tests.registry import actnorm, double, example, tfp_constants
from tfresflow import FlowModel, logdet, serving

tfb, tfd = tfp.bijectors, tfp.distributions


def run(program, *arguments):
    """What a process of its own prints, as JSON, from its last line."""
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)],
                          capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().split("\n")[-1])


@pytest.fixture(scope="module")
def model():
    """With random log-determinants, an ActNorm that has started, and members of TFP's."""
    flow = bijectors.Chain([tfb.Shift(double([0.5, -0.5])), flows.toy_flow(
        nblocks=1, dims=(4,), seed=0, dtype="float64", log_det=logdet.LogDet())])
    model = FlowModel(flow, tfd.Sample(tfd.StudentT(double(5.0), double(0.0), double(1.0)), 2))
    model.initialize(3 + 2 * example([2], 50))
    return model


SERVED = """
import json, sys
import numpy as np
import tensorflow as tf
served, x = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2])
forward = served.signatures["forward"](x=tf.constant(x), seed=tf.constant(3, tf.int64))
ours = {"tfresflow", "bijectors", "tensorflow_probability"}
print(json.dumps({
    "serve": served.serve(x).numpy().tolist(),
    "log_prob": served.log_prob(x, seed=3)["log_prob"].numpy().tolist(),
    "sample": served.sample(4, seed=3)["x"].numpy().tolist(),
    "z": forward["z"].numpy().tolist(), "log_det": forward["log_det"].numpy().tolist(),
    "x": served.inverse(forward["z"])["x"].numpy().tolist(),
    "one": served.serve(x[:1]).shape.as_list(),
    "signatures": sorted(served.signatures), "imported": sorted(ours & set(sys.modules))}))
"""


@pytest.mark.slow
@pytest.mark.optimised
def test_an_exported_model_is_equal_where_there_is_tensorflow_alone(model, tmp_path):
    x = example([2], 5).numpy()
    model.export(tmp_path / "served")
    np.save(tmp_path / "x.npy", x)
    got = run(SERVED, tmp_path / "served", tmp_path / "x.npy")
    assert not got["imported"]
    assert got["signatures"] == ["forward", "inverse", "log_prob", "sample", "serve",
                                 "serving_default"]
    z, log_det = model.flow.forward_and_log_det(x, seed=3)
    want = {"serve": model(x), "log_prob": model.log_prob(x, seed=3), "z": z, "log_det": log_det,
            "sample": model.sample(4, seed=3), "x": x}
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
    assert got["one"] == [1]


LOADED = """
import json, pickle, sys
import numpy as np
import keras
import tfresflow
before = "bijectors" in sys.modules
x = np.load(sys.argv[2])
model = keras.saving.load_model(sys.argv[1])
with open(sys.argv[3], "rb") as file:
    flow = pickle.load(file)
print(json.dumps([before, model.log_prob(x, seed=3).numpy().tolist(),
                  flow.forward_and_log_det(x)[0].numpy().tolist()]))
"""


@pytest.mark.slow
def test_a_saved_model_is_loaded_where_tfresflow_alone_was_imported(model, tmp_path):
    """With a base and a member of TFP's. A pickled flow, as a spawned process is given one."""
    x = example([2], 5).numpy()
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.keras")
    (tmp_path / "flow.pickle").write_bytes(pickle.dumps(model.flow))
    imported, log_prob, z = run(LOADED, *(tmp_path / n for n in (
        "model.keras", "x.npy", "flow.pickle")))
    assert not imported
    np.testing.assert_allclose(log_prob, model.log_prob(x, seed=3), rtol=1e-10)
    np.testing.assert_allclose(z, model.flow.forward_and_log_det(x)[0], rtol=1e-10)


@pytest.mark.slow
def test_a_flow_alone_is_exported_and_saved(tmp_path):
    flow, x = tfp_constants(), example([4])
    serving.export(flow, tmp_path / "flow")
    served = tf.saved_model.load(tmp_path / "flow")
    z, log_det = flow.forward_and_log_det(x)
    got = served.forward(x, seed=0)
    np.testing.assert_allclose(got["z"], z, rtol=1e-10)
    np.testing.assert_allclose(got["log_det"], log_det, rtol=1e-10)
    np.testing.assert_allclose(served.inverse(z)["x"], x, rtol=0, atol=1e-9)
    tf.saved_model.save(flow, tmp_path / "plain")
    tf.saved_model.load(tmp_path / "plain")


def test_a_module_of_ones_own_without_a_seed_is_exported(tmp_path):
    """Its samples are other ones at each call."""
    module = tf.Module()
    module.flow = flow = bijectors.Chain([actnorm([2])])
    module.sample = tf.function(FlowModel(flow).sample, [tf.TensorSpec([], tf.int32)])
    tf.saved_model.save(module, tmp_path / "module")
    served = tf.saved_model.load(tmp_path / "module")
    assert np.abs(served.sample(3) - served.sample(3)).min() > 0


@pytest.mark.slow
def test_other_formats_where_the_operations_allow(tmp_path):
    simple = FlowModel(bijectors.Chain([bijectors.ActNorm([2])]))
    simple.initialize(3 + 2 * tf.cast(example([2], 50), tf.float32))
    x = tf.cast(example([2], 1), tf.float32)
    simple.export(tmp_path / "simple.tflite", format="litert", verbose=False)
    lite = tf.lite.Interpreter(model_path=str(tmp_path / "simple.tflite"))
    lite.allocate_tensors()
    lite.set_tensor(lite.get_input_details()[0]["index"], x)
    lite.invoke()
    got = lite.get_tensor(lite.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, simple(x), rtol=1e-5)
    residual = FlowModel(flows.toy_flow(nblocks=1, dims=(4,), actnorm=False))
    with pytest.raises(ValueError, match="`format` must be 'tf_saved_model' .*'litert'"):
        residual.export(tmp_path / "model.tflite", format="litert", verbose=False)


def test_weight_files_have_the_layout_that_they_had(tmp_path):
    """Of 0.1: the name of a class is part of it."""
    model = FlowModel(bijectors.Chain([actnorm([2])]))
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert list(file["flow_layers"]) == ["__scale_and_shift"]


@pytest.mark.parametrize("base", [
    tfd.MultivariateNormalTriL(tf.zeros(2), tf.constant([[1.0, 0.0], [0.5, 2.0]])),
    tfd.MixtureSameFamily(tfd.Categorical(logits=[0.0, 1.0]),
                          tfd.MultivariateNormalDiag(tf.constant([[0.0, 1.0], [2.0, 3.0]]))),
    tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Chain(
        [tfb.Shift([1.0, 2.0]), tfb.Invert(tfb.Softplus())])),
    tfd.Independent(tfd.Normal(tf.Variable([1.0, 2.0], trainable=False), np.float32(3.0)), 1),
    tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(1.0, 2.0)]),
], ids=lambda base: type(base).__name__)
def test_distributions_of_tfp_are_saved(base):
    again = parts.Saved.from_config(json.loads(json.dumps(parts.Saved(base).get_config())))
    assert type(again) is type(base)
    z = base.sample(5, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(again.log_prob(z), base.log_prob(z))
    assert [v.trainable for v in again.variables] == [v.trainable for v in base.variables]


@pytest.mark.parametrize("config, message", [
    ({"parts": ["bijectors", "real_nvp_default_template"], "arguments": {}}, "public class"),
    ({"parts": ["os", "system"], "arguments": {"command": "true"}}, "public class"),
])
def test_a_file_makes_nothing_but_classes_of_tfp(config, message):
    with pytest.raises(ValueError, match=message):
        parts.Saved.from_config({"parts": config, "variables": []})


def test_functions_are_not_saved():
    with pytest.raises(TypeError, match="`Inline.forward_fn` cannot be saved. Numbers, .*exp"):
        keras.saving.serialize_keras_object(
            bijectors.Foreign(tfb.Inline(forward_fn=tf.exp, inverse_fn=tf.math.log,
                                         forward_log_det_jacobian_fn=lambda x: x,
                                         forward_min_event_ndims=0), [2]))
