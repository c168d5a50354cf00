"""What the methods of a flow are given: data, latents and contexts, checked and cast."""

import functools

import tensorflow as tf

from tfresflow.checks.events import as_numbers, of_contexts, of_shape, take

__all__ = ["Taking"]


class Taking:
    """Mixin of `Flow`."""

    @functools.cached_property
    def _events(self):
        """Shapes of one x and of one z."""
        return {"x": self.event_shape, "z": self.latent_shape(self.event_shape)}

    def _take(self, name, x):
        """What the user gives as x, or as z, as a tensor `[N, ...]` of the dtype of the weights."""
        return take(name, x, self._events[name], self._float)

    def _look_at(self, name, x):
        """The same for TFP's methods, which know tensors by identity: none is cast here."""
        return of_shape(name, as_numbers(name, x, self._float), self._events[name], leading=None)

    def given(self, context):
        """This flow at a context, as a flow of x alone: see `bijectors.Given`."""
        from bijectors.given import Given

        return Given(self, context)

    def _at(self, context):
        """`given(context)`, the same object for the same one: TFP asks for z, then for log_det."""
        if self._given is None or self._given[0] is not context:
            self._given = context, self.given(context)
        return self._given[1]

    def _call_forward(self, x, name, *, context=None, **kwargs):
        if context is not None:
            return self._at(context)._call_forward(x, name, **kwargs)
        return super()._call_forward(self._look_at("x", x), name, **kwargs)

    def _call_inverse(self, z, name, *, context=None, **kwargs):
        if context is not None:
            return self._at(context)._call_inverse(z, name, **kwargs)
        return super()._call_inverse(self._look_at("z", z), name, **kwargs)

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, *, context=None, **kwargs):
        if context is not None:
            return self._at(context)._call_forward_log_det_jacobian(x, event_ndims, name, **kwargs)
        x = self._look_at("x", x)
        return super()._call_forward_log_det_jacobian(x, event_ndims, name, **kwargs)

    def _call_inverse_log_det_jacobian(self, z, event_ndims, name, *, context=None, **kwargs):
        if context is not None:
            return self._at(context)._call_inverse_log_det_jacobian(z, event_ndims, name, **kwargs)
        z = self._look_at("z", z)
        return super()._call_inverse_log_det_jacobian(z, event_ndims, name, **kwargs)

    def _take_context(self, x, given):
        """Keyword arguments: the context of each row of x, or none for a flow that takes none.

        Args:
          x: `[N, ...]`.
          given: keyword arguments; `context` is `[N, ...]`, or one for all rows.

        Raises:
          ValueError: if a context is missing, not wanted, or of another shape.
        """
        context, shape = given.get("context"), self.context_shape
        if (context is None) != (shape is None):
            rule = ("not be given to a flow without one" if shape is None else
                    f"be given: [{', '.join(['N', *map(str, shape)])}], or one for all")
            raise ValueError(f"`context` must {rule}. Received: {context}")
        if shape is None:
            return {}
        context = of_contexts(context, shape, self._float)
        if context.shape.rank == len(shape):
            n = tf.shape(x)[:1] if x.shape[0] is None else x.shape[:1]
            one = take("context", context[None], shape, self._float)
            context = tf.broadcast_to(one, tf.concat([n, shape], axis=0))
        context = take("context", context, shape, self._float)
        if not context.shape[:1].is_compatible_with(x.shape[:1]):
            raise ValueError(f"`context` must have one row for each of x, {x.shape[0]}. "
                             f"Received: shape={tuple(context.shape)}")
        return {"context": context}
