"""Weights and their moving averages: what is scored is what is kept.

With `use_ema=True` an optimizer trains one set of weights and keeps their moving averages, a
second one. Keras scores and keeps the first. Here the average is what counts outside of the
training step, and no variable changes to show it: where averages are to be seen, a thread reads
them in place of the weights, and all others go on as before. A layer whose norm follows its
weights has a second set of vectors, too, which belongs to the averages.
"""

import contextlib
import inspect
import types
import weakref

import keras
import numpy as np
import tensorflow as tf

from tfresflow.functions import upkeep
from tfresflow.training.compiling import check_compile
from tfresflow.training.distributed import DistributedModel

__all__ = ["AveragedModel"]


class AveragedModel(DistributedModel):
    """A model that is scored, predicts and is kept with the averages of its weights.

    As soon as a training step has set weights and averages apart, `evaluate`, `predict`,
    `get_weights` and `averaged_weights` show the averages. Files hold both: a model that is loaded
    with its optimizer goes on as if it had never stopped, one without gets the averages for
    weights. What is set, or loaded without averages, begins them anew. `fit` ends with the
    averages for weights.

    Subclasses set `norm_layers`: layers with `refresh_norm(num_steps)` and `vectors`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm_layers = []
        # Not for Keras to track. `even`: the optimizer's step at which weights and averages were
        # the same. `norms`: `vectors` for the averages, made for those of these `sums`.
        self._kept = types.SimpleNamespace(even=0, norms=None, sums=None, tests={}, predicts={},
                                           read=False)
        # Keras saves and loads private attributes last. It is no layer of the model.
        vars(self)["_saved_averages"] = _SavedAverages(self)

    def compile(self, *args, **kwargs):
        """As in Keras; a new optimizer has no averages yet.

        Raises:
          ValueError: an argument would be ignored.
        """
        check_compile(self, inspect.signature(super().compile).bind(*args, **kwargs).arguments)
        super().compile(*args, **kwargs)
        self._kept.even = 0

    def compile_from_config(self, config):
        # Keras leaves this out where `compile` is another one than its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def save(self, filepath, *args, **kwargs):
        """As in Keras, in its own format.

        Raises:
          ValueError: for a file of the older one, from which no model could be loaded.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError("`filepath` must end in .keras: from Keras's older format nothing "
                             "could be loaded again; weights alone are saved by `save_weights` "
                             f"(.weights.h5). Received: filepath={filepath}")
        super().save(filepath, *args, **kwargs)

    # Reading ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def averaged_weights(self, num_steps=200):
        """Within, this thread reads the averages in place of the weights, and their norms.

        Other threads do not notice. A `tf.function` keeps what it read when it was traced. Does
        nothing if no training step has set weights and averages apart.

        Args:
          num_steps: of the power iteration for averages that have changed.
        """
        if self._update_averages(num_steps):
            with self._reading():
                yield
        else:
            yield

    def adopt_averages(self):
        """Makes the averages the weights, for good, as `fit` does in the end."""
        if not self._update_averages(num_steps=1000):
            return
        for variable, value in [*self._averages(), *zip(self._vectors(), self._norms())]:
            variable.assign(value)
        self._set_even()

    def get_weights(self):
        """As in Keras: what `evaluate` scores."""
        with self.averaged_weights():
            return super().get_weights()

    def make_test_function(self, force=False):
        averaged, kept = self._update_averages(), self._kept
        if self.test_function is None or force:
            kept.tests = {}
        if averaged not in kept.tests:
            super().make_test_function(force=True)
            kept.tests[averaged] = self.test_function
        self.test_function, kept.read = kept.tests[averaged], averaged

    def scoring(self):
        return self._reading() if self._kept.read else super().scoring()

    def make_predict_function(self, force=False):
        averaged, kept = self._update_averages(), self._kept
        if self.predict_function is None or force:
            kept.predicts = {}
        if averaged not in kept.predicts:
            super().make_predict_function(force=True)
            kept.predicts[averaged] = self.predict_function
        self.predict_function, kept.read = kept.predicts[averaged], averaged

    def predict_step(self, data):
        with self.scoring():
            return super().predict_step(data)

    # Setting, loading, training -----------------------------------------------------------------

    def set_weights(self, weights):
        """As in Keras: what is set is what `evaluate` scores from now on."""
        super().set_weights(weights)
        self._begin_averages()

    def load_weights(self, *args, **kwargs):
        """As in Keras: what is loaded is what `evaluate` scores from now on."""
        if not self._keeps_averages():
            super().load_weights(*args, **kwargs)
            return
        step = self.optimizer.iterations
        before = int(step.numpy())
        step.assign(-1)  # to see whether the file has a state of the optimizer
        try:
            super().load_weights(*args, **kwargs)
        finally:
            if int(step.numpy()) == -1:
                step.assign(before)
                self._begin_averages()

    def make_train_function(self, force=False):
        super().make_train_function(force)
        if self._keeps_averages() and not self._are_apart():
            self._begin_averages()  # weights may have been set since

    def _begin_averages(self):
        """The weights are their own averages, until the next step."""
        if self._keeps_averages():
            for variable, average in self._averages():
                average.assign(variable)
            self._set_even()

    def _set_even(self):
        self._kept.even = int(self.optimizer.iterations.numpy())

    # Private ------------------------------------------------------------------------------------

    def _keeps_averages(self):
        optimizer = getattr(self, "optimizer", None)
        return bool(optimizer is not None and optimizer.use_ema and optimizer.built)

    def _are_apart(self):
        """Whether a step was made since weights and averages were the same."""
        return self._keeps_averages() and (
            int(self.optimizer.iterations.numpy()) not in (0, self._kept.even))

    def _averages(self):
        return list(zip(self.optimizer._trainable_variables,
                        self.optimizer._model_variables_moving_average))

    def _vectors(self):
        return [vector for layer in self.norm_layers for vector in layer.vectors]

    def _fingerprints(self):
        return [float(tf.reduce_sum(average.value)) for _, average in self._averages()]

    @contextlib.contextmanager
    def _reading(self):
        pairs = [*self._averages(), *zip(self._vectors(), self._norms())]
        # The norms are those of the averages: nobody need look after them.
        with upkeep.kept(), _Reading([(v, tf.convert_to_tensor(other)) for v, other in pairs]):
            yield

    def _norms(self):
        if self._kept.norms is None:
            with self.distribute_strategy.scope():
                self._kept.norms = [tf.Variable(tf.convert_to_tensor(v.value), trainable=False)
                                    for v in self._vectors()]
        return self._kept.norms

    def _update_averages(self, num_steps=200):
        """Brings the norms of the averages up to date; returns whether these are to be read."""
        if not self._are_apart():
            return False
        kept, vectors = self._kept, self._vectors()
        sums = self._fingerprints()
        if sums != kept.sums:
            with self._reading():
                for layer in self.norm_layers:
                    layer.refresh_norm(num_steps)
                new = [tf.convert_to_tensor(v.value) for v in vectors]
            for norm, value in zip(self._norms(), new):
                norm.assign(value)
            kept.sums = sums
        return True


class _Reading(keras.StatelessScope):
    """Within, this thread reads given values in place of some variables; all others are as ever."""

    def add_update(self, update):
        variable, value = update
        if id(variable) in self.state_mapping:
            super().add_update(update)
        else:
            variable.value.assign(tf.cast(value, variable.value.dtype))


class _SavedAverages(keras.layers.Layer):
    """What a file holds beside weights and optimizer: what is scored, where that is the average."""

    def __init__(self, model):
        super().__init__()
        self._owner = weakref.ref(model)  # where Keras does not look for more to save

    def save_own_variables(self, store):
        model = self._owner()
        if model._update_averages():
            with model._reading():
                for i, variable in enumerate(model.weights):
                    if not isinstance(variable.value, tf.Variable):
                        store[str(i)] = variable.value

    def load_own_variables(self, store):
        model, stored = self._owner(), {int(i): store[i] for i in store.keys()}
        weights = model.weights
        averages = {id(v): a for v, a in model._averages()} if model._keeps_averages() else {}
        known = [i for i in stored if id(weights[i]) in averages]
        if stored and known and all(np.array_equal(stored[i], averages[id(weights[i])])
                                    for i in known):
            for vector, norm in zip(model._vectors(), model._norms()):
                norm.assign(next(stored[i] for i, w in enumerate(weights) if w is vector))
            model._kept.sums = model._fingerprints()
        elif stored:  # without the optimizer, which has the averages, too
            for i, value in stored.items():
                weights[i].assign(value)
            model._begin_averages()
        if averages:
            model._kept.even = 0  # though the step may be the one at which they were the same
        if averages and all(np.array_equal(v, a) for v, a in model._averages()):
            model._set_even()
