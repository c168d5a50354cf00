"""What is reported of training, over whole intervals."""

import keras
import numpy as np

__all__ = ["Means"]


class Means(keras.callbacks.Callback):
    """Makes what Keras reports of training the mean of a whole interval between validations.

    Keras begins anew where a run goes on in the midst of one. Comes first: the other callbacks, and
    the checkpoints, get what it makes.

    Args:
      checkpoint: of `checkpoints.restore`.
      begun: steps of the interval that an earlier run made.
      names: of `names_of`.
    """

    def __init__(self, checkpoint, begun, names):
        super().__init__()
        self._means, self._names = checkpoint.means, names  # steps, and the mean of each over these
        self._before = checkpoint.means.numpy() * bool(begun)
        self._steps, self._logs = 0, {}

    @staticmethod
    def names_of(model):
        """What is reported of the training of a compiled model."""
        if model.divergence is not None:
            return "loss", "ess"
        return ("loss", "nll", "bpd") + ("accuracy",) * (model.head is not None)

    def on_train_batch_end(self, batch, logs=None):
        self._steps, self._logs = self._steps + 1, logs

    def on_epoch_end(self, epoch, logs=None):
        _, *means = self._with_before(logs)
        logs.update({n: mean for n, mean in zip(self._names, means) if n in logs})
        self._before, self._steps = np.zeros_like(self._before), 0

    def kept(self):
        """What the checkpoint knows, by name."""
        return dict(zip(self._names, self._means.numpy()[1:]))

    def note(self):
        """Brings the checkpoint's variable up to date, for it to be saved."""
        self._means.assign(self._with_before(self._logs))

    def _with_before(self, logs):
        now = np.array([1.0, *(float(logs.get(name, 0.0)) for name in self._names)])
        steps = self._before[0] + self._steps
        total = now * self._steps + np.r_[1.0, self._before[1:]] * self._before[0]
        return np.r_[steps, total[1:] / max(1, steps)]
