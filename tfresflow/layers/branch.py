"""The residual branch whose norms are chained."""

import keras

from tfresflow.layers.orders import Order

__all__ = ["Branch"]


@keras.saving.register_keras_serializable("tfresflow")
class Branch(keras.Sequential):
    """The residual branch g: a `keras.Sequential` for norms of orders other than 2.

    Gives each layer of bounded norm (`InducedNormDense` and the convolutions) its `domain`: the
    codomain of the layer before it, and to the first layer that of the last. So the Lipschitz
    constant of g is at most the product of the layers' `coeff`, up to the `rtol` of their power
    iteration. Activations in between do not change the order.

    Args:
      layers: list of Keras layers, in order.

    Raises:
      ValueError: in `build`, if a layer asks for a domain that it cannot have, or is a
        `keras.Sequential`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> hidden = layers.InducedNormDense(16, codomain=None)  # ends where it begins
      >>> last = layers.InducedNormDense(3, codomain=1)
      >>> layers.Branch([hidden, layers.LipSwish(), last])(tf.zeros([5, 3])).shape
      TensorShape([5, 3])
      >>> f"{hidden.domain_order} -> {last.domain_order} -> {last.codomain_order}"
      '1 -> 1 -> 1'

    References: Chen et al., Residual Flows (2019), equation 12.
    """

    def build(self, input_shape=None):
        if not self.built:
            if any(isinstance(layer, keras.Sequential) for layer in self.layers):
                raise ValueError("`layers` of a Branch must not be keras.Sequentials. Received: "
                                 f"{[layer.name for layer in self.layers]}")
            order = next((layer.codomain_order for layer in reversed(self.layers)
                          if getattr(layer, "codomain", None) is not None), Order(2.0))
            for layer in self.layers:
                if hasattr(layer, "set_domain"):
                    order = layer.set_domain(order)
        super().build(input_shape)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras would add, and build, one layer after the other.
        layers = [keras.saving.deserialize_keras_object(layer, custom_objects)
                  for layer in config["layers"]]
        branch = cls(layers, name=config.get("name"))
        if not branch.built and config.get("build_input_shape"):
            branch.build(config["build_input_shape"])
        return branch
