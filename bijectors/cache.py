"""What TFP asks a bijector for twice, of tensors that are still alive."""

import weakref

import tensorflow as tf

__all__ = ["Cache"]


class Cache:
    """In the place of TFP's own cache, which serves all bijectors of equal arguments.

    That one gives a log-determinant again for as long as x lives, and z for as long as that does,
    though the weights may have changed, or another tape may be listening. Here

      - `forward(x)` leaves its log-determinant to one question for that of the same x and seed;
      - `inverse(z)` of a z that `forward` made is what it was made of, without a solver;
      - in a function that is traced, `forward` and `inverse` are computed once for one tensor.

    Nothing goes from one traced function to another, or between these and eager execution.

    Args:
      forward: `(x, seed) -> (z, log_det)`.
      inverse: `(z, seed) -> x`.
    """

    def __init__(self, forward, inverse):
        self._call_forward, self._call_inverse = forward, inverse
        self._latents, self._data, self._log_dets = _Alive(), _Alive(), _Alive()

    def forward(self, x, seed=None):
        z = _here(self._latents.get(x))
        if z is None:
            z, log_det = self._call_forward(x, seed)
            self._log_dets.put(x, (seed, weakref.ref(z), _reference(log_det)))
            if x.dtype == z.dtype:  # else x was cast
                self._data.put(z, _reference(x) if x is not z else weakref.ref(x))
            self._know_latent(x, z)
        return z

    def inverse(self, z, seed=None):
        x = _here(self._data.get(z))
        if x is None:
            x = self._call_inverse(z, seed)
            self._know_latent(x, z)
            if tf.is_symbolic_tensor(x):
                self._data.put(z, weakref.ref(x))
        return x

    def _know_latent(self, x, z):
        if tf.is_symbolic_tensor(z):
            self._latents.put(x, weakref.ref(z))

    def take_log_det(self, x, seed=None):
        """That of the last `forward(x, seed)`, once and while its result lives; else None."""
        known, z, log_det = self._log_dets.pop(x) or (seed, lambda: None, None)
        return _here(log_det) if known is seed and z() is not None else None

    def forward_attributes(self, x, **kwargs):
        """Nothing: where TFP keeps log-determinants."""
        return {}

    inverse_attributes = forward_attributes


class _Alive:
    """What is known of tensors, by identity, while they live."""

    def __init__(self):
        self._entries = {}

    def put(self, tensor, value):
        key = id(tensor)
        forget = weakref.ref(tensor, lambda _: self._entries.pop(key, None))
        self._entries[key] = forget, value

    def get(self, tensor):
        reference, value = self._entries.get(id(tensor), (lambda: None, None))
        return value if reference() is tensor else None

    def pop(self, tensor):
        value = self.get(tensor)
        self._entries.pop(id(tensor), None)
        return value


def _reference(tensor):
    """A function that gives the tensor; of a traced one, whose graph keeps it, a weak one."""
    return weakref.ref(tensor) if tf.is_symbolic_tensor(tensor) else lambda: tensor


def _here(reference):
    """The tensor of a reference if it belongs to what is being computed now; else None."""
    tensor = reference() if reference else None
    if tensor is None or tf.executing_eagerly() == tf.is_symbolic_tensor(tensor):
        return None
    graph = tf.compat.v1.get_default_graph()
    return tensor if tf.executing_eagerly() or tensor.graph is graph else None
