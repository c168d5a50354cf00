"""Keras layers that hold a flow, saved with all of it."""

from tfresflow.saving.adopted import check_untied
from tfresflow.saving.configurable import deserialize, serialize_whole

__all__ = ["SavedWhole"]


class SavedWhole:
    """Mixin: a subclass sets `_config`, the arguments of its constructor."""

    def get_config(self):
        """Constructor arguments, as Keras saves them, and whether it is frozen."""
        check_untied(self._flatten_layers())
        frozen = {} if self.trainable else {"trainable": False}
        return serialize_whole({**self._config, **frozen})

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize(config))
