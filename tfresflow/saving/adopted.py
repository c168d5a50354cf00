"""`tf.Variable`s of another library in a Keras layer, so that Keras trains and saves them."""

import weakref

import keras
import tensorflow as tf

__all__ = ["Adopted", "adopted", "check_untied"]


class Adopted(keras.layers.Layer):
    """Holds variables, the same ones and no copies, where a `keras.Model` can see them.

    Args:
      variables: `tf.Variable`s, the trainable ones and the others.
      owner: what they belong to. A copy of this layer is the one of the owner's copy.
      attribute: where the owner keeps this layer.
    """

    def __init__(self, variables, owner, attribute):
        super().__init__()
        self._owner_and_attribute = lambda: (owner, attribute)  # Keras looks into what it can see
        self.held = [_same(v, f"{i}_{v.name.split(':')[0].replace('/', '_')}")
                     for i, v in enumerate(variables)]
        self.built = True

    def __reduce__(self):
        return getattr, self._owner_and_attribute()


def adopted(member, model, attribute):
    """A layer of the variables of a member that a Keras model does not see; None if it sees them.

    Args:
      member: has `trainable_variables` and `variables`, or none.
      model: a Keras model or layer.
      attribute: where the model keeps the layer.
    """
    own = tuple(getattr(member, "trainable_variables", ()))
    seen = {id(v) for w in model.weights for v in (w, w.value)}
    if own and all(isinstance(v, tf.Variable) and id(v) not in seen for v in own):
        return Adopted(member.variables, model, attribute)
    return None


def check_untied(layers):
    """Raises `TypeError` if different objects hold one variable: a file would make it several."""
    owners = {}
    for layer in layers:
        for variable in layer.held if isinstance(layer, Adopted) else ():
            owners.setdefault(id(variable), set()).add(id(layer))
            if len(owners[id(variable)]) > 1:
                raise TypeError(
                    f"the variable {variable.value.name} cannot be saved in a model: different "
                    "objects of TensorFlow Probability hold it, and would hold several once they "
                    "are loaded. Save the weights alone (`save_weights`)")


class _Same(keras.Variable):
    """A Keras variable whose value is a `tf.Variable` that exists."""

    def __init__(self, variable, name):
        super().__init__(lambda shape, dtype: variable, shape=variable.shape, dtype=variable.dtype,
                         trainable=variable.trainable, autocast=False, name=name)

    def _initialize_with_initializer(self, initializer):
        self._initialize(initializer(self._shape, self._dtype))


# By the id of the variable, which each holds: Keras trains it once, however many layers do.
_ALIVE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _same(variable, name):
    known = _ALIVE.get(id(variable))
    if known is None:
        known = _ALIVE[id(variable)] = _Same(variable, name)
    return known
