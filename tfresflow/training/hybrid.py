"""Classification beside density: a head on what the scales of a flow end with.

    loss = weight bits/dim(x) + cross-entropy(head(features(x)), label)

One pass through the flow serves both: it is cut where a scale ends, and each part begins, on the
way back, with the derivative that the head adds there.

References: Chen et al., Residual Flows (2019), section 5.3; Nalisnick et al., Hybrid models with
deep and invertible features (2019).
"""

import functools
import math

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check, check_number
from tfresflow.functions.branch import warn_of_states
from tfresflow.functions.steps import Rows, bind
from tfresflow.logdet.base import Estimator
from tfresflow.losses import bits_per_dim
from tfresflow.training.gradient_of_sum import ByFlow, measured
from tfresflow.training.joined import Labelled

__all__ = ["ByHead", "Hybrid", "features_of"]


def features_of(flow, x):
    """What the scales of a flow end with: a list of `[N, h, w, C]`, or `[z]` if it has none.

    Args:
      flow: a flow.
      x: `[N, ...]`, a tensor.
    """
    steps = bind(flow, seeds.as_seed(0), x.shape[0], x.dtype).steps
    rows, found = Rows(tf.range(tf.shape(x)[0])), []
    for segment in _segments(steps):
        for step in segment:
            x = step.value(x, rows)
        found.append(_first(x))
    return _of_scales(found)


class ByHead(ByFlow):
    """`ByFlow` of a model with a head; `sum` also gives `-log p(x)` and which rows are right."""

    num_outputs = 3

    def _sum(self, x, weights, places):
        model, rows, features, found = self._model, self._rows(places), [], {}
        segments, labels = _segments(self._bound.steps), model.rows_flow.apart(x)[1]

        def run(i, state):
            outputs, dstate, *found[i] = model.autodiff(
                segments[i], state, rows, -model.per_nat * weights, functools.partial(end, i))
            return outputs, dstate

        def end(i, state):
            features.append(_first(state))
            last = i + 1 == len(segments)
            (scores, added), dstate = (self._end(state, _of_scales(features), labels, weights)
                                       if last else run(i + 1, state))
            return (scores, added), _added(dstate, added[i]) if i < len(added) else dstate

        ((log_prob, entropy, right, of_base), _), _ = run(0, x)
        log_dets, dweights, errors = zip(*(found[i] for i in range(len(segments))))
        nll = -log_prob - tf.add_n(log_dets)
        return ([model.loss_of(nll, entropy), nll, right, *measured(errors)],
                [*(d for own in dweights for d in own), *of_base])

    def _end(self, z, features, labels, weights):
        """`((scores, derivatives by the features), dz)`."""
        model = self._model
        with tf.GradientTape() as tape:
            tape.watch([z, *features])
            log_prob = model.base.log_prob(z)
            entropy, right = model.classified(features, labels)
        dz, *others = tape.gradient([log_prob, entropy], [z, *features, *self._of_base],
                                    [-model.per_nat * weights, weights],
                                    unconnected_gradients="zero")
        if features[0] is z:  # its derivative is among those of z
            others[0] = tf.zeros_like(z)
        added, of_base = others[:len(features)], others[len(features):]
        return ((log_prob, entropy, right, of_base), added), dz


class Hybrid:
    """Mixin of a model that may have a `head`; without one, it does nothing."""

    def take_head(self, head, weight):
        """Checks and builds the head; to be called once the flow is there."""
        self.head, self.weight = head, weight
        check_number("weight", weight, "not be negative", lambda value: value >= 0)
        if head is None:
            check(weight == 1, "weight", "be 1 without a head: it weighs the density beside it",
                  weight)
            return
        check(isinstance(head, keras.layers.Layer), "head", "be a Keras layer or model", head)
        check(getattr(self.flow, "context_shape", None) is None, "head",
              "be None for a flow that takes a context", head)
        half = tf.constant(0.5, self.variable_dtype)
        logits = self.classify(tf.fill([1, *self.flow.event_shape], half))
        check(logits.shape.rank == 2 and logits.shape[1] > 1, "head",
              "give logits [N, classes]", tuple(logits.shape))
        if not self.trains_density:
            self.rows_flow = Labelled(self.flow.with_log_det(WithoutLogDet()))
        self.rows_flow.num_classes = logits.shape[1]
        warn_of_states("head", head)
        self.accuracy_metric = keras.metrics.Mean(name="accuracy")

    @property
    def trains_density(self):
        """Whether the density counts in the loss; else the log-determinants are not computed."""
        return self.weight > 0

    @property
    def per_nat(self):
        """What a nat of density weighs in the loss."""
        return self.weight / (math.prod(self.flow.event_shape) * math.log(2))

    def loss_of(self, nll, entropy):
        """`[N]`; see the top of this file. Of what is no images as if `nbits` were 0."""
        if not self.trains_density:
            return entropy
        size = math.prod(self.flow.event_shape)
        return self.weight * bits_per_dim(nll, size, self.scale_bits or 0) + entropy

    def classified(self, features, labels):
        """`(cross-entropy, whether the likeliest class is right)`, `[N]` each, as floats."""
        logits, labels = self._logits(features), tf.cast(labels, tf.int32)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels)
        return entropy, tf.cast(right, entropy.dtype)

    @tf.autograph.experimental.do_not_convert
    def classify(self, x):
        """Probabilities of the classes, `[N, ...] -> [N, classes]`; a model with a head has them.

        Args:
          x: as for `log_prob`.
        """
        check(self.head is not None, "head", "be given to FlowModel for classes", None)
        x, _ = self.rows_flow.apart(self.as_weights(x))
        return tf.nn.softmax(self._logits(features_of(self.flow, x)))

    def _logits(self, features):
        return self.head(features if len(features) > 1 else features[0])

    def example_scores(self, x, seed):
        if self.head is None:
            return super().example_scores(x, seed)
        nll = self.compute_nll(x, seed, self.eval_flow) if self.trains_density else None
        x, labels = self.rows_flow.apart(x)
        entropy, right = self.classified(features_of(self.flow, x), labels)
        return [self.loss_of(nll, entropy), nll, right]

    def update_metrics(self, x, losses, weights, nll=None, right=None):
        if self.trains_density:
            super().update_metrics(x, losses if nll is None else nll, weights)
        if right is not None:
            self.accuracy_metric.update_state(right, weights)


class WithoutLogDet(Estimator):
    """g alone, and 0 in place of a log-determinant: where nothing depends on it."""

    def __call__(self, g, x, seed=None):
        return g(x), tf.zeros(tf.shape(x)[:1], x.dtype)


def _segments(steps):
    """The steps, cut where a scale ends: before squeezes and flattenings that follow weights."""
    segments, trained = [[]], False
    for step in steps:
        if step.ends_scale and trained:
            segments.append([])
        trained = trained or bool(step.weights)
        segments[-1].append(step)
    return segments


def _of_scales(found):
    """Without the latent, which says no more, if there are others."""
    return found[:-1] or found


def _first(state):
    return tf.nest.flatten(state)[0]


def _added(state, dfirst):
    """Derivatives by a state, one by its first tensor added."""
    first, *others = tf.nest.flatten(state)
    return tf.nest.pack_sequence_as(state, [first + dfirst, *others])
