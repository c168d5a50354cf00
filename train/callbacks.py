"""What happens around training, as Keras callbacks: checkpoints, limits, progress, pictures."""

import contextlib
import signal
import sys
import time

import keras
import tensorflow as tf

from tfresflow.training.distributed import NonFinite
from train import plots
from train.errors import Interrupted
from train.status import duration, repeating

__all__ = ["Checkpoints", "Limits", "Progress", "SampleGrid"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(keras.callbacks.Callback):
    """Saves `last` at each validation and every `save_every` steps, `best` by validation.

    Comes after the callbacks that write what a validation found, so that a checkpoint after it is
    never there without that, and after `Limits`.

    A checkpoint counts only once it is whole: TensorFlow names it in its `checkpoint` file by
    a rename after everything else is written.

    Args:
      checkpoint, saved: of `checkpoints.restore`.
      means: `Means`, which has something to save, too.
      monitor: name of the score, less is better.
      save_every: steps, or 0.
      writes: whether this process does; of several workers one.
    """

    def __init__(self, checkpoint, saved, means, monitor, save_every, writes=True):
        super().__init__()
        self._writes, self._means = writes, means
        self._checkpoint, self._saved = checkpoint, saved
        self._monitor, self._save_every = monitor, save_every
        self._since = None
        self._written = {}

    def on_train_begin(self, logs=None):
        self._since = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        # What a validation will save is not saved before it: a run that was killed in between would
        # go on after it, and never have made it.
        due = self._save_every and step % self._save_every == 0
        if due and not self.model.stop_training:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        self.judge(logs[self._monitor])
        self.save()

    def judge(self, score):
        """Keeps the weights as they are if none had a smaller score."""
        if score < float(self._checkpoint.best.numpy()):
            self._checkpoint.best.assign(score)
            self._save("best")

    def save(self):
        """Writes the run's state now."""
        self._save("last")

    def seconds(self):
        """Seconds trained, earlier runs of the workdir included."""
        since = 0 if self._since is None else time.monotonic() - self._since
        return float(self._checkpoint.seconds.numpy()) + since

    def stop(self, reason):
        """Raises `NonFinite`, and says what is left."""
        last = self._saved["last"].latest_checkpoint
        raise NonFinite(f"{reason}. " + (f"The last good checkpoint is {last}" if last else
                                         "There is no checkpoint yet"))

    def _save(self, name):
        if not self._writes:
            return
        self._means.note()
        self._checkpoint.seconds.assign(self.seconds())
        self._since = time.monotonic()
        step, manager = int(self.model.optimizer.iterations.numpy()), self._saved[name]
        try:
            self.model.check_weights()
        except NonFinite as error:
            self.stop(error)
        # Never write over a checkpoint that is whole.
        if self._written.get(name) != step:
            manager.save(step)
            self._written[name] = step


class Limits(keras.callbacks.Callback):
    """Ends training at a step or after so many minutes; raises `Interrupted` on SIGINT, SIGTERM.

    Ends an epoch, at which Keras validates, where the step is a multiple of `interval`: that of a
    run that goes on in the middle of one is shorter. All workers of the `Cluster` end at the same
    step: what one has noticed counts for all.
    """

    def __init__(self, checkpoints, steps, interval, max_minutes, cluster):
        super().__init__()
        self._signal, self._over, self._interval = None, False, interval
        self._cluster = cluster
        self._checkpoints, self._steps, self._seconds = checkpoints, steps, 60 * max_minutes
        self._handlers = {}

    @contextlib.contextmanager
    def catching_signals(self):
        """Within: a first SIGINT or SIGTERM ends training after its step, a second at once."""
        self._handlers = {number: signal.signal(number, self._received)
                          for number in _SIGNALS}
        try:
            yield
        finally:
            self._restore()

    def late(self):
        """Whether the time is over."""
        return 0 < self._seconds <= self._checkpoints.seconds()

    def on_train_batch_end(self, batch, logs=None):
        late, step = self._noticed(self.late()), int(self.model.optimizer.iterations.numpy())
        self._over = bool(late) or step >= self._steps
        if self._over or step % self._interval == 0:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self._over

    def on_test_batch_end(self, batch, logs=None):
        self._noticed()

    def _noticed(self, *own):
        """Whether `own` is true of any worker; raises where one has received a signal."""
        signals = [self._signal == number for number in _SIGNALS]
        *signals, others = self._cluster.total([*signals, any(own)])
        for number, received in zip(_SIGNALS, signals):
            if received:
                raise Interrupted(number)
        return others

    def _received(self, number, frame):
        self._signal = number
        self._restore()
        print(f"\n{signal.Signals(number).name}: saving after this batch; once more stops at once",
              flush=True)

    def _restore(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class Progress(keras.callbacks.Callback):
    """A line at each validation: step, bits/dim or nats, speed, time left; others before the first.

    Args:
      checkpoints: `Checkpoints`, for the time that earlier runs took.
      monitor: name of the metric.
      unit: of it.
      steps: when training ends.
      max_minutes: when it ends, too, or 0.
    """

    def __init__(self, checkpoints, monitor, unit, steps, max_minutes):
        super().__init__()
        self._checkpoints, self._monitor, self._unit = checkpoints, monitor, unit
        self._steps, self._limit = steps, 60 * max_minutes
        self._began = self._at = None
        # What `_news` tells, from another thread: the last step's number, end and metrics.
        self._doing, self._last, self._first = "preparing the first step", None, None
        self._since = time.monotonic()

    def until_validated(self):
        """A line now and, within, each 10 seconds, until the first validation has been made."""
        print(f"{self._doing} ...", flush=True)
        return repeating(self._news)

    def _news(self):
        if self._doing is None:
            return None
        if self._last is None or self._doing != "training":
            return f"{self._doing} ... {duration(time.monotonic() - self._since)}"
        (first, began), (step, ended, logs) = self._first, self._last
        line = f"step {step:>7}  train {float(logs[self._monitor]):.4f} {self._unit}"
        if step > first:
            speed = (ended - began) / (step - first)
            line += f"  {speed:.3f} s/step  {duration(self._left(step, speed))} left"
        return line

    def _left(self, step, speed):
        """Seconds to the end."""
        left = (self._steps - step) * speed
        return min(left, self._limit - self._checkpoints.seconds()) if self._limit else left

    def on_epoch_begin(self, epoch, logs=None):
        self._began, self._at = time.monotonic(), self._step()

    def on_train_batch_end(self, batch, logs=None):
        if self._doing is None:
            return
        self._last = self._step(), time.monotonic(), logs
        self._first = self._first or self._last[:2]
        self._doing = "training"

    def on_test_begin(self, logs=None):
        self._trained = time.monotonic()
        if self._doing is not None:
            self._doing, self._since = f"validating at step {self._step()}", self._trained

    def on_epoch_end(self, epoch, logs=None):
        step, self._doing = self._step(), None
        speed = (self._trained - self._began) / max(1, step - self._at)
        whole = (time.monotonic() - self._began) / max(1, step - self._at)
        others = "".join(f"{label} {logs[name]:.4f}  " for name, label in (
            ("val_accuracy", "accuracy"), ("val_ess", "ESS")) if name in logs)
        print(f"step {step:>7}  train {logs[self._monitor]:.4f}  "
              f"validation {logs['val_' + self._monitor]:.4f} {self._unit}  {others}"
              f"{speed:.3f} s/step  {duration(self._left(step, whole))} left", flush=True)

    def _step(self):
        return int(self.model.optimizer.iterations.numpy())


class SampleGrid(keras.callbacks.Callback):
    """Writes samples to TensorBoard after a validation, at most once in `seconds`.

    Of a conditional model, `count` for each context.
    """

    def __init__(self, folder, seed, seconds=120, count=16, context=None):
        super().__init__()
        self._given = {} if context is None else {"context": context}
        self._writer = tf.summary.create_file_writer(str(folder))
        self._seed, self._seconds, self._count = seed, seconds, count
        self._last = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._last < self._seconds:
            return
        self._last = time.monotonic()
        try:
            with self.model.averaged_weights():
                images = self.model.sample(self._count, seed=self._seed, **self._given)
        except tf.errors.InvalidArgumentError as error:
            print(f"no samples at this validation: {error.message.splitlines()[0]}",
                  file=sys.stderr)
            return
        images = plots.pixels(images.numpy(), self.model.flow.nbits)
        images = images.reshape(-1, *images.shape[-3:])  # of all contexts
        with self._writer.as_default():
            tf.summary.image("samples", plots.tile(images)[None],
                             step=int(self.model.optimizer.iterations.numpy()))
