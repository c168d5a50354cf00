"""Path gradients: the score, the three gradients, and what they are where q is p."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from bijectors import Inverted, flows
from tests.registry import EXACT, branch, coupling, example, image
from tfresflow import logdet, losses, seeds, solvers, targets
from tfresflow.functions.steps import Rows, bind
from tfresflow.losses.ways import against, along

KINDS = [losses.ReverseKL, losses.ForwardKL]
GRADIENTS = {"path": losses.Path(), "drop_in": losses.DropIn(), "standard": losses.Standard()}
# To rounding: what a solver leaves is an error of the score.
TIGHT = {"solver": solvers.Picard(rtol=1e-15, atol=1e-15),
         "adjoint": solvers.Neumann(rtol=1e-15, atol=1e-15)}


def toy(**kwargs):
    return flows.toy_flow([2], **{"nblocks": 2, "dims": (6, 6), **EXACT, **TIGHT, **kwargs})


FLOWS = {"toy": toy, "inverted": lambda: Inverted(toy()),
         "multiscale": lambda: image(logit_alpha=None, **TIGHT),
         "phi4": lambda: flows.phi4_flow(3, nblocks=2, idim=2, kernels=(3, 3), **EXACT, **TIGHT),
         "u1": lambda: flows.u1_flow(2, nblocks=2, idim=2, kernels=(1, 2), **EXACT, **TIGHT),
         "coupling": lambda: coupling([3]),
         "monotone": lambda: bijectors.Monotone(branch([3]), [3], logdet.Exact(), **TIGHT),
         "monotone_series": lambda: bijectors.Monotone(
             branch([3]), [3], logdet.LogDet(logdet.Truncated(5)), **TIGHT),
         "implicit": lambda: toy(actnorm=False, block=[
             bijectors.InvertibleResidual, Inverted.of(bijectors.InvertibleResidual)])}
every_flow = pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("toy", "inverted") else pytest.mark.slow)
    for name in FLOWS])
every_kind = pytest.mark.parametrize("kind", KINDS)


def built(name):
    flow = FLOWS[name]()
    if name != "inverted":
        flow.initialize(example(flow.event_shape, 32))
    return flow


def quartic(event_shape):
    axes = list(range(1, len(event_shape) + 1))
    return targets.as_target(lambda x: -tf.reduce_sum(x ** 4 / 8 - x / 2, axis=axes), event_shape)


class Case:
    """A flow, a target, and rows where samples begin; the derivatives of its divergences.

    Args:
      flow: in float64.
      kind: class of a divergence.
      target: default `quartic`.
      n: how many rows.
    """

    def __init__(self, flow, kind, target=None, n=5):
        self.flow, self.kind = flow, kind
        self.target = quartic(flow.event_shape) if target is None else target
        self.reverse = kind is losses.ReverseKL
        self.latent = flow.latent_shape(flow.event_shape)
        self.base = losses.StandardNormal(self.latent, "float64")
        self.x = self.rows(n, 3)
        self.weights = tf.random.stateless_uniform([n], [1, 2], dtype=tf.float64)
        self.variables = [v.value for layer in flow.layers for v in layer.trainable_variables]

    def rows(self, n, seed):
        latents = losses.StandardNormal(self.latent if self.reverse else self.flow.event_shape,
                                        "float64").sample(n, seeds.as_seed(seed))
        return latents if self.reverse else 0.5 + latents / 4

    def found(self, gradient, x=None, weights=None, seed=1):
        """`(losses, derivatives by the variables)` as one vector."""
        x = self.x if x is None else x
        weights = self.weights if weights is None else weights
        with tf.GradientTape() as tape:
            bound = bind(self.flow, seeds.as_seed(seed), x.shape[0], x.dtype)
        found = self.kind(self.target, gradient).sampled(
            bound.steps, x, Rows(tf.range(tf.shape(x)[0])), weights, self.base, end)
        dweights = [d for own in found.dweights for d in own]
        return found.losses, flat(tape.gradient(bound.weights, self.variables, dweights,
                                                unconnected_gradients="zero"))

    def losses(self):
        """By the pair."""
        return self.kind(self.target).losses(self.flow, self.base, self.x, 1)

    def by_tape(self):
        """The standard gradient, by a tape around the pair."""
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(self.weights * self.losses())
        return flat(tape.gradient(total, self.variables, unconnected_gradients="zero"))

    def log_q(self, y):
        """The log-density that samples have at y, by the pair against the sampler."""
        if self.reverse:
            x, log_det = self.flow.forward_and_log_det(y, 1)
            return self.base.log_prob(x) + log_det
        x, log_det = self.flow.inverse_and_log_det(y, 1)
        return self.target.log_prob(x) + log_det


def end(log_prob, y):
    with tf.GradientTape() as tape:
        tape.watch(y)
        value = log_prob(y)
    return value, tape.gradient(value, y), []


def flat(tensors):
    return np.concatenate([np.ravel(t) for t in tensors])


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@every_kind
@every_flow
def test_the_score_is_that_of_the_density(name, kind):
    """By a tape through the pair the other way, to 1e-10; so is the log-determinant."""
    case = Case(built(name), kind)
    steps = bind(case.flow, seeds.as_seed(1), case.x.shape[0], case.x.dtype).steps
    rows = Rows(tf.range(tf.shape(case.x)[0]), of_weights=False)
    begin = case.base.log_prob if case.reverse else case.target.log_prob
    y = case.x
    log_q, score, _ = end(begin, y)
    for way in (against if case.reverse else along)(steps):
        y, score, log_det = way.push(y, rows, score)
        log_q -= log_det
    want = end(case.log_q, y)
    np.testing.assert_allclose(log_q, want[0], rtol=1e-10, atol=1e-10)
    assert relative(score, want[1]) < 1e-10


@every_kind
@every_flow
def test_the_gradients_of_the_same_samples(name, kind):
    """Path = drop-in; standard = a tape around the pair; all have the same losses."""
    case = Case(built(name), kind)
    found = {way: case.found(gradient) for way, gradient in GRADIENTS.items()}
    for loss, _ in found.values():
        np.testing.assert_allclose(loss, case.losses(), rtol=1e-10, atol=1e-10)
    assert relative(found["path"][1], found["drop_in"][1]) < 1e-10
    assert relative(found["standard"][1], case.by_tape()) < 1e-10
    assert relative(found["path"][1], found["standard"][1]) > 1e-3  # another one, of few samples


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("name", ["toy", "inverted"])
def test_the_mean_gradients_are_one(name, kind):
    """Of samples of the density that begins: within 4 standard errors of the difference."""
    flow = built(name)
    target = None if kind is losses.ReverseKL else targets.GaussianMixture(
        locs=np.zeros([1, 2]), variance=0.3)
    case = Case(flow, kind, target)
    ones = tf.ones([20], tf.float64)

    @tf.function(autograph=False)
    def difference(x):
        path, standard = (by_weights(case, gradient, x, ones)
                          for gradient in (losses.Path(), losses.Standard()))
        return path - standard

    found = []
    for i in range(400):
        x = (case.rows(20, i) if case.reverse else target.sample(20, i, "float64"))
        found.append(difference(x).numpy())
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / len(found) ** 0.5
    assert (np.abs(mean) <= 4 * error + 1e-12).all() and error.max() > 1e-3


def by_weights(case, gradient, x, weights, seed=1):
    """The derivatives by the weights of bound steps, as one tensor."""
    bound = bind(case.flow, seeds.as_seed(seed), x.shape[0], x.dtype)
    found = case.kind(case.target, gradient).sampled(
        bound.steps, x, Rows(tf.range(tf.shape(x)[0])), weights, case.base, end)
    return tf.concat([tf.reshape(d, [-1]) for own in found.dweights for d in own], axis=0)


def own_density(flow, kind, base):
    """The target that the flow is right for."""
    def log_prob(x):
        z, log_det = flow.with_log_det(logdet.Exact()).forward_and_log_det(x)
        return base.log_prob(z) + log_det

    return targets.as_target(log_prob, flow.event_shape)


@every_kind
@pytest.mark.parametrize("name", [p for p in every_flow.args[1] if "series" not in p.values[0]])
def test_nothing_is_left_where_q_is_p(name, kind):
    """The path gradient of each batch is 0 to 1e-12 with exact log-determinants; not the other."""
    flow = built(name)
    base = losses.StandardNormal(flow.latent_shape(flow.event_shape), "float64")
    case = Case(flow, kind, own_density(flow, kind, base))
    loss, path = case.found(losses.Path())
    standard = case.found(losses.Standard())[1]
    np.testing.assert_allclose(loss, 0, atol=1e-10)
    assert np.abs(path).max() < 1e-12
    assert np.abs(standard).max() > 1e-2


@pytest.mark.slow
@every_kind
def test_with_a_stochastic_log_determinant_nothing_is_left_on_average(kind):
    flow = toy(nblocks=1, actnorm=False)
    for layer in flow.layers:
        for weight in layer.trainable_variables:
            weight.assign(3 * weight)
    flow.update_norms()
    base = losses.StandardNormal([2], "float64")
    case = Case(flow.with_log_det(logdet.LogDet(logdet.Poisson(2.0, n_exact=2))),
                kind, own_density(flow, kind, base))
    x, weights = case.rows(2000, 5), tf.ones([2000], tf.float64)
    single = tf.function(lambda seed: by_weights(case, losses.Path(), x, weights, seed),
                         autograph=False)
    found = np.array([single(tf.constant([0, i])).numpy() for i in range(30)])
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5
    assert (np.abs(mean) <= 4 * error + 1e-12).all() and error.max() > 1e-2


@pytest.mark.slow
@every_kind
def test_near_the_target_the_path_gradient_varies_less(kind):
    flow = built("toy")
    case = Case(flow, kind, own_density(flow, kind, losses.StandardNormal([2], "float64")))
    for v in case.variables:  # no longer that of the target's weights, but near: a copy holds them
        v.assign(1.002 * v)
    spread = {}
    for way in ("path", "standard"):
        found = [case.found(GRADIENTS[way], case.rows(20, i), tf.ones([20], tf.float64))[1]
                 for i in range(20)]
        spread[way] = np.var(found, axis=0).sum()
    assert spread["path"] < 0.1 * spread["standard"]
