"""Objects that are injected: each in its own place, of which names that are there twice say which.

`Released` is a way to the gradient and what a block keeps, `Neumann` a gradient and a solver.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows, norm_report
from tests.registry import EXACT
from tfresflow import FlowLayer, FlowModel, autodiff, layers, logdet, solvers

FLOW = flows.toy_flow(nblocks=1, dims=(4,), **EXACT)
X = np.ones([2, 2])


def total(z, log_det):
    return tf.reduce_sum(z) + tf.reduce_sum(log_det)


# Objects of each kind, by where they come from.
KINDS = {
    "autodiff": (autodiff.Recomputed(), autodiff.Stored(), autodiff.Released()),
    "memory": (logdet.Auto(), logdet.Recompute(), logdet.Released(), logdet.Tape()),
    "log_det": (logdet.LogDet(), logdet.Exact()),
    "gradient": (logdet.Neumann(), logdet.Series()),
    "coefficients": (logdet.Truncated(2), logdet.Geometric(), logdet.Poisson()),
    "solver": (solvers.Picard(), solvers.Anderson(), solvers.Broyden()),
    "adjoint": (solvers.Neumann(), solvers.FixedPoint(), solvers.BiCGSTAB(), solvers.CG(),
                solvers.Normal(), solvers.Roulette(logdet.Poisson())),
    "root": (solvers.Implicit(), solvers.Unrolled(2), solvers.Truncated(2)),
    "probe": (logdet.normal, logdet.orthogonal, logdet.rademacher),
    "power_iteration": (layers.PowerIteration(), layers.PowerIteration(num_steps=3)),
    "dense_net": (flows.DenseNet(1, 3),),
    "flow": (FLOW,), "model": (FlowModel(FLOW), FlowLayer(FLOW)), "tensor": (tf.ones([2, 2]),),
}
# Where they go, and what else fits there, as any function of three arguments does.
PLACES = {
    "autodiff": (lambda o: FlowModel(FLOW, autodiff=o), ()),
    "gradients(autodiff)": (lambda o: autodiff.gradients(FLOW, total, X, autodiff=o), ()),
    "memory": (lambda o: logdet.LogDet(memory=o), ()),
    "gradient": (lambda o: logdet.LogDet(gradient=o), ()),
    "coefficients": (lambda o: logdet.LogDet(o), ()),
    "probe": (lambda o: logdet.LogDet(probe=o), ()),
    "log_det": (lambda o: flows.toy_flow(nblocks=1, dims=(4,), log_det=o), ("probe",)),
    "eval_log_det": (lambda o: FlowModel(FLOW, eval_log_det=o), ("probe",)),
    "solver": (lambda o: flows.toy_flow(nblocks=1, dims=(4,), solver=o), ()),
    "Truncated(solver)": (lambda o: solvers.Truncated(2, o), ()),
    "adjoint": (lambda o: flows.toy_flow(nblocks=1, dims=(4,), adjoint=o), ()),
    "Normal(solver)": (lambda o: solvers.Normal(o), ()),
    "Roulette(terms)": (lambda o: solvers.Roulette(o), ()),
    "power_iteration": (lambda o: layers.InducedNormDense(3, power_iteration=o), ()),
    "dense_net": (lambda o: flows.toy_flow(nblocks=1, dims=(4,), dense_net=o), ()),
    "flow": (lambda o: FlowModel(o), ()), "FlowLayer(flow)": (lambda o: FlowLayer(o), ()),
    "norm_report(flow)": (norm_report, ()),
    "gradients(flow)": (lambda o: autodiff.gradients(o, total, X), ()),
}
OF = {"eval_log_det": "log_det", "Normal(solver)": "adjoint", "Roulette(terms)": "coefficients"}


@pytest.mark.parametrize("place", PLACES)
def test_objects_in_the_place_of_others_are_refused(place):
    """All of all other kinds, and their classes, in one line that says where they are from."""
    call, others = PLACES[place]
    argument = place.split("(")[-1].strip(")")
    kind = OF.get(place, argument)
    assert kind in KINDS
    for other, things in KINDS.items():
        for thing in () if other in (kind, *others) else (*things, type(things[0])):
            with pytest.raises(ValueError) as caught:
                call(thing)
            text = str(caught.value)
            assert re.match(f"`{argument}` must (be|have) ", text), text
            assert "\n" not in text and "Received: " in text
            module = type(thing).__module__.split(".")
            if module[0] in ("tfresflow", "bijectors") and "dense" not in argument:
                assert f" of {module[0]}" in text.split("Received: ")[1], text
    for thing in KINDS[kind]:
        call(thing)


def test_the_received_one_is_told_from_the_one_that_is_meant():
    with pytest.raises(ValueError) as caught:
        FlowModel(FLOW, autodiff=logdet.Released())
    assert str(caught.value) == (
        "`autodiff` must be `Recomputed()`, `Stored()`, `Moonwalk()` or another strategy of "
        "tfresflow.autodiff. Received: autodiff=Released() of tfresflow.logdet")


@pytest.mark.parametrize("function", [lambda x: x, lambda: 0, keras.layers.Dense])
@pytest.mark.parametrize("place", ["probe", "log_det", "eval_log_det"])
def test_functions_of_another_number_of_arguments_are_refused(place, function):
    with pytest.raises(ValueError, match=f"^`{place}` must be .* function"):
        PLACES[place][0](function)


@pytest.mark.parametrize("call", [FlowModel, FlowLayer, norm_report,
                                  lambda flow: autodiff.gradients(flow, total, X)],
                         ids=["FlowModel", "FlowLayer", "norm_report", "gradients"])
def test_what_is_asked_for_of_a_model_names_its_flow(call):
    for flow in (FlowModel(FLOW), tfp.bijectors.Invert(FLOW)):
        with pytest.raises(ValueError, match="^`flow` must .*of a model take `model.flow`"):
            call(flow)


@pytest.mark.parametrize("call, message", [
    (lambda: autodiff.gradients(FLOW, X, total), "`loss` must be a function"),
    (lambda: FlowLayer(FLOW, FLOW), "`base` must be a distribution"),
    (lambda: FlowLayer(FLOW, loss_weight="a"), "`loss_weight` must be a number, or None"),
    (lambda: FlowLayer(FLOW, seed=1.5), "`seed` must be a whole number"),
    (lambda: FlowLayer(FLOW, tfp.distributions.Normal(0.0, 1.0)), "`base` must have the event_sh"),
    (lambda: bijectors.FactorOut(FlowModel(FLOW), [2]), "`inner` must be an injective bijector"),
    (lambda: bijectors.Chain([FlowModel(FLOW)], [2]), "`bijectors.*` must be .* bijector"),
])
def test_other_arguments(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_variables_of_the_base_of_a_layer_are_trained():
    """As those of a model's base."""
    mean = tf.Variable([1.0, 2.0], dtype=tf.float64)
    base = tfp.distributions.MultivariateNormalDiag(mean, np.ones(2))
    layer = FlowLayer(FLOW, base, loss_weight=1.0)
    assert len(layer.trainable_weights) == len(FlowLayer(FLOW).trainable_weights) + 1
    assert any(v.value is mean for v in layer.trainable_weights)
