"""Every public bijector and flow, small, in float64, with an input to try it on.

`REGISTRY` maps a name to `(builder, event_shape)`; a law is a test over all of it.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from bijectors.coupling import sides
from tfresflow import layers, logdet, solvers
from tfresflow.functions import traced

tfb = tfp.bijectors

# Exact, so that the laws of any bijector (log-det against the Jacobian) hold as they stand.
EXACT = {"log_det": logdet.Exact(), "dtype": "float64", "seed": 0}


def branch(event_shape, hidden=8, act=layers.LipSwish, coeff=0.8):
    """A small residual branch, dense or convolutional, in float64."""
    size, dtype = event_shape[-1], "float64"
    if len(event_shape) == 1:
        dense = layers.InducedNormDense
        return keras.Sequential([dense(hidden, coeff, dtype=dtype), act(dtype=dtype),
                                 dense(size, coeff, dtype=dtype)])
    conv = {2: layers.InducedNormConv1D, 3: layers.InducedNormConv2D,
            4: layers.InducedNormConv3D}[len(event_shape)]
    return keras.Sequential([conv(hidden, 3, coeff, dtype=dtype), act(dtype=dtype),
                             conv(size, 1, coeff, dtype=dtype)])


def dense_block():
    return bijectors.InvertibleResidual(branch([3]), [3], logdet.Exact())


def conv_block(event_shape, hidden=8):
    return bijectors.InvertibleResidual(branch(event_shape, hidden), event_shape, logdet.Exact(),
                                        solvers.Picard())


def monotone(event_shape, hidden=8):
    return bijectors.Monotone(branch(event_shape, hidden), event_shape, logdet.Exact())


def coupling(event_shape, hidden=4, **kwargs):
    """Of a checkerboard if x is an image."""
    dense = len(event_shape) == 1
    mask = None if dense else bijectors.checkerboard(event_shape)
    swap, size = kwargs.get("swap", False), 1 if "log_scale" in kwargs else 2
    inputs, moved = sides(event_shape[-1], swap, mask)
    linear = keras.layers.Dense if dense else functools.partial(
        keras.layers.Conv2D, kernel_size=3, padding="same")
    random = {"dtype": "float64", "kernel_initializer": keras.initializers.RandomNormal(0, 0.3, 1),
              "bias_initializer": keras.initializers.RandomNormal(0, 0.3, 2)}
    network = keras.Sequential([keras.Input([*event_shape[:-1], inputs], dtype="float64"),
                                linear(hidden, activation="tanh", **random),
                                linear(size * moved, **random)])
    return bijectors.Coupling(network, event_shape, mask=mask, **kwargs)


IMPLICIT = [bijectors.InvertibleResidual, bijectors.Inverted.of(bijectors.InvertibleResidual)]


def actnorm(event_shape, per_element=False, shift=True):
    bijector = bijectors.ActNorm(event_shape, per_element=per_element, dtype="float64",
                                 shift=shift)
    bijector.initialize(2 + 3 * example(event_shape, 50, seed=7))
    return bijector


def image(**kwargs):
    settings = {"nblocks": (1, 1), "idim": 4, "kernels": (3, 3), "fc_idim": 4, "n_fc_blocks": 1,
                **EXACT, **kwargs}
    return flows.image_flow([4, 4, 1], **settings)


def chain(*middle):
    return bijectors.Chain([bijectors.Flatten([2, 2, 1]), *middle, actnorm([2, 2, 1])])


SUPPORTS = ["positive", None, ("interval", -1, 2), "softplus", ("interval", -0.5, 1.5)]


def double(value):
    return tf.constant(value, tf.float64)


def tfp_constants():
    """Every kind of member of TFP's that has no variables, with one of ours among them."""
    spline = tfb.RationalQuadraticSpline(
        double([[0.5, 1.5]]), double([[1.0, 1.0]]), double([[2.0]]), range_min=double(-1.0))
    return bijectors.Chain([
        tfb.Reshape([4], [2, 2]), tfb.Transpose(perm=[1, 0]), actnorm([2, 2]), tfb.Softplus(),
        tfb.Reshape([2, 2], [4]), tfb.Shift(double([1.0, 2.0, 3.0, 4.0])), spline,
        tfb.Chain([tfb.Scale(double(0.5)), tfb.Invert(tfb.Shift(double(1.0)))]),
        tfb.Permute([1, 0, 3, 2]), tfb.ScaleMatvecTriL(np.eye(4) + np.tri(4))], [4])


def tfp_variables():
    positive = tfp.util.TransformedVariable(double(2.0), tfb.Softplus())
    return bijectors.Chain([
        tfb.Scale(positive), actnorm([2]), tfb.Shift(tf.Variable(double([1.0, 2.0]))),
        tfb.RationalQuadraticSpline(
            double([[0.5, 1.5]]), double([[1.0, 1.0]]), tf.Variable(double([[2.0]])))], [2])


def conditional(kind="toy", **kwargs):
    """A flow with a context, that counts: two numbers, a label, or a map of the image's size."""
    blocks = {"toy": bijectors.InvertibleResidual, "monotone": bijectors.Monotone,
              "implicit": IMPLICIT, "coupling": bijectors.Coupling}
    if kind in blocks:
        flow = flows.toy_flow(nblocks=2, dims=(6, 6), context_shape=2, context_gates=True,
                              block=blocks[kind], **{**EXACT, **kwargs})
    elif kind == "table":
        network = keras.layers.Embedding(3, 2, dtype="float64")
        flow = flows.tabular_flow([3], nblocks=1, dims=(6,), context_shape=[],
                                  context_network=network, **{**EXACT, **kwargs})
    else:
        network = keras.layers.Conv2D(2, 3, padding="same", dtype="float64")
        flow = image(factor_out=True, fc_actnorm=True, context_shape=[4, 4, 1],
                     context_network=network, **kwargs)
    return moved(flow)


def moved(flow):
    """With weights a little elsewhere: untrained ActNorms do not look at a context."""
    for layer in flow.layers:
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(weight + 0.2 * np.random.RandomState(i).randn(*weight.shape))
    flow.update_norms()
    return flow


def given(kind, context):
    return conditional(kind).given(double(context))


def between_levels():
    """Noise of two entries that are not independent, given two levels."""
    noise = conditional("toy")
    steps = [tfb.Sigmoid(), noise, tfb.Invert(tfb.Sigmoid())]
    return bijectors.Dequantize(bijectors.Chain(steps, [2]), [2], nbits=2)


def dequantizer(event_shape=(4, 4, 1), **kwargs):
    """With ActNorms that are not the identity, as if it were trained."""
    flow = flows.dequantizer(event_shape, **{"nbits": 2, "nblocks": 1, "idim": 4, "features": 3,
                                             "kernels": (3, 3), **EXACT, **kwargs})
    return moved(flow)


MAP = np.linspace(-1.0, 1.0, 16).reshape(4, 4, 1)
REGISTRY = {
    "ActNorm": (lambda: actnorm([2, 3, 2]), [2, 3, 2]),
    "ActNorm_scale": (lambda: actnorm([2, 3, 1], shift=False), [2, 3, 1]),
    "ActNorm_per_element": (lambda: actnorm([4], per_element=True), [4]),
    "Chain": (chain, [2, 2, 1]),
    "Chain_with_tfp": (lambda: chain(tfb.Softsign()), [2, 2, 1]),
    "Chain_tfp_constants": (tfp_constants, [4]),
    "Chain_tfp_variables": (tfp_variables, [2]),
    "ColumnSupports": (lambda: bijectors.ColumnSupports([5], SUPPORTS), [5]),
    "Coupling": (lambda: coupling([3], swap=True), [3]),
    "Coupling_additive": (lambda: coupling([2, 3, 1], log_scale=None), [2, 3, 1]),
    "Dequantize": (between_levels, [2]),
    "Dequantize_uniform": (lambda: bijectors.Dequantize(None, [2, 2, 1], nbits=2), [2, 2, 1]),
    "FactorOut": (lambda: bijectors.FactorOut(actnorm([2, 2, 1]), [2, 2, 2]), [2, 2, 2]),
    "Embedded": (lambda: given("table", 2.0), [3]),
    "Given": (lambda: given("toy", [1.0, -0.5]), [2]),
    "Given_coupling": (lambda: given("coupling", [1.0, -0.5]), [2]),
    "Foreign": (lambda: bijectors.Foreign(tfb.Softplus(), [3]), [3]),
    "FactorOut_channels_first": (
        lambda: bijectors.FactorOut(actnorm([2, 2, 2]), [2, 2, 4], channels_first=True), [2, 2, 4]),
    "Flatten": (lambda: bijectors.Flatten([2, 3, 1]), [2, 3, 1]),
    "Flatten_channels_first": (lambda: bijectors.Flatten([2, 3, 2], True), [2, 3, 2]),
    "InvertibleConv1x1": (lambda: bijectors.InvertibleConv1x1([2, 2, 3], seed=0, dtype="float64"),
                          [2, 2, 3]),
    "InvertibleResidual_dense": (dense_block, [3]),
    "InvertibleResidual_conv": (lambda: conv_block([3, 5, 2]), [3, 5, 2]),
    "InvertibleResidual_sequence": (lambda: conv_block([6, 2], 4), [6, 2]),
    "InvertibleResidual_volume": (lambda: conv_block([2, 3, 2, 1], 4), [2, 3, 2, 1]),
    "Inverted_block": (lambda: bijectors.Inverted(dense_block()), [3]),
    "Logit": (lambda: bijectors.Logit([2, 2, 1], alpha=0.05), [2, 2, 1]),
    "Monotone_dense": (lambda: monotone([3]), [3]),
    "Monotone_conv": (lambda: monotone([3, 4, 2], 4), [3, 4, 2]),
    "Squeeze": (lambda: bijectors.Squeeze([4, 2, 2]), [4, 2, 2]),
    "Squeeze_channels_first": (
        lambda: bijectors.Squeeze([4, 2, 3], channels_first=True), [4, 2, 3]),
    "dequantizer": (dequantizer, [4, 4, 1]),
    "image_flow": (image, [4, 4, 1]),
    "image_flow_coupling": (
        lambda: image(nblocks=(2, 2), block=bijectors.Coupling, factor_out=True, fc_end=False),
        [4, 4, 1]),
    "image_flow_factor_out": (
        lambda: image(nblocks=(1, 1), factor_out=True, squeeze_first=False, preact=False,
                      fc_actnorm=True, fc_end=False), [4, 4, 1]),
    "image_flow_squeeze_first": (
        lambda: image(nblocks=(1,), kernels=(3, 1, 3), squeeze_first=True, actnorm=False,
                      fc_end=False, first_resblock=False, act=layers.ELU), [4, 4, 1]),
    "image_flow_dense_net": (
        lambda: image(nblocks=(1,), act=layers.CLipSwish, fc_end=False,
                      dense_net=flows.DenseNet(depth=2, growth=3)), [4, 4, 1]),
    "image_flow_mixed_norms": (
        lambda: image(nblocks=(1,), fc_end=False, act=layers.CLipSwish, orders=(1.5, 2.5)),
        [4, 4, 1]),
    "phi4_couplings": (lambda: flows.phi4_couplings(
        4, nblocks=2, idim=4, kernels=(3, 3), dtype="float64", seed=0), [4, 4, 1]),
    "phi4_flow": (lambda: flows.phi4_flow(4, nblocks=2, idim=4, **EXACT), [4, 4, 1]),
    "u1_flow": (lambda: flows.u1_flow(4, nblocks=2, idim=4, **EXACT), [4, 4, 2]),
    "tabular_flow": (lambda: flows.tabular_flow([3], nblocks=2, dims=(6,), **EXACT), [3]),
    "tabular_flow_with_supports": (lambda: flows.tabular_flow(
        [5], nblocks=1, dims=(6,), supports=SUPPORTS, **EXACT), [5]),
    "toy_flow_closed_norms": (
        lambda: flows.toy_flow(nblocks=1, dims=(6, 6), act=layers.Sin, orders=(1, float("inf"), 2),
                               **EXACT), [2]),
    "toy_flow_dense_net": (
        lambda: flows.toy_flow(nblocks=2, preact=True, dense_net=flows.DenseNet(2, 4), **EXACT),
        [2]),
    "toy_flow_monotone": (
        lambda: flows.toy_flow(nblocks=2, dims=(6,), act=layers.CPila, block=bijectors.Monotone,
                               **EXACT), [2]),
    "toy_flow_implicit": (
        lambda: flows.toy_flow(nblocks=2, dims=(6,), block=IMPLICIT, **EXACT), [2]),
    "toy_flow": (lambda: flows.toy_flow(nblocks=2, dims=(6, 6), **EXACT), [2]),
}

# One of each kind, and the smallest: the others are slow.
QUICK = [name for name in REGISTRY if not name.startswith(
    ("image_flow", "toy_flow_", "tabular_flow", "InvertibleResidual_", "Chain_tfp_constants",
     "Coupling_", "Dequantize", "Embedded", "Given_", "Inverted_", "Monotone_", "dequantizer",
     "phi4_", "u1_"))]
QUICK += ["InvertibleResidual_dense", "image_flow_squeeze_first"]


def every_flow(test):
    """A law: tried on all of `REGISTRY`, at every change on what is `QUICK`."""
    return pytest.mark.fast(*QUICK)(pytest.mark.parametrize("name", REGISTRY)(test))


# Not bijective: forward draws noise, which inverse drops. Of levels.
NOISY = {name for name in REGISTRY if name.startswith(("Dequantize", "dequantizer"))}


def every_bijection(test):
    """A law of maps that have a Jacobian."""
    names = [name for name in REGISTRY if name not in NOISY]
    return pytest.mark.fast(*(name for name in QUICK if name in names))(
        pytest.mark.parametrize("name", names)(test))


UNIT_INTERVAL = {name for name in REGISTRY if name.startswith(
    ("ColumnSupports", "Logit", "image_flow", "tabular_flow_with_supports"))}


def example(event_shape, n=3, seed=1, unit=False):
    """`[n, ...]` float64: standard normal, or uniform on the unit interval."""
    draw = tf.random.stateless_uniform if unit else tf.random.stateless_normal
    return draw([n, *event_shape], [seed, 0], dtype=tf.float64)


def build(name, n=3):
    """A flow of one's own and an input for it."""
    builder, event_shape = REGISTRY[name]
    return builder(), _input(name, event_shape, n)


def _input(name, event_shape, n):
    if name in NOISY:
        return tf.floor(4 * example(event_shape, n, unit=True))
    return example(event_shape, n, unit=name in UNIT_INTERVAL)


def shared(name, n=3):
    """The same for tests that change no weight: one for all of a process, and traced once."""
    flow, weights = _shared(name)
    for now, before in zip(_weights(flow), weights, strict=True):
        np.testing.assert_array_equal(now, before, f"A test has changed the shared {name}.")
    return flow, _input(name, flow.event_shape, n)


@functools.cache
def _shared(name):
    flow = build(name)[0]
    return flow, _weights(flow)


def let_go():
    """Of flows that are shared, and of what was traced."""
    _shared.cache_clear()
    traced._traced.cache_clear()


def _weights(flow):
    return [w.numpy() for layer in flow.layers for w in layer.weights]
