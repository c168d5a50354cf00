# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An activation, a layer, a block of your own
#
# A residual block is invertible if the Lipschitz constant of its branch is below 1. So whatever you
# put into a branch has to say what its Lipschitz constant is.

# %%
import os
import tempfile

import keras
import tensorflow as tf

import bijectors
from bijectors import InvertibleResidual, norm_report
from bijectors.flows import toy_flow
from tfresflow import FlowModel, layers

keras.utils.set_random_seed(0)

# %% [markdown]
# ## An activation
#
# Any Keras layer with an attribute `lipschitz`, at most 1, is an activation. Here is $\log(1 + x^2)
# $ with its slope $2x / (1 + x^2)$, which is at most 1.


# %%
@keras.saving.register_keras_serializable("mine")
class LogSquare(keras.layers.Layer):
    """`log(1 + x^2)`, slope at most 1."""

    lipschitz = 1.0

    def call(self, x):
        return tf.math.log1p(x ** 2)


flow = toy_flow(nblocks=3, dims=(16, 16), act=LogSquare, seed=0)
x = tf.random.stateless_normal([500, 2], [0, 1]) * [1.0, 0.2]
model = FlowModel(flow)
model.compile(keras.optimizers.Adam(1e-2))
model.fit(x, batch_size=100, epochs=10, verbose=0)
print(norm_report(flow).verdict())

# %% [markdown]
# Check the constant that you claim. Nobody else can: a wrong one makes the certificate wrong.

# %%
points = tf.linspace(-10.0, 10.0, 100001)
with tf.GradientTape() as tape:
    tape.watch(points)
    y = LogSquare()(points)
print("steepest slope:", float(tf.reduce_max(tf.abs(tape.gradient(y, points)))))

# %% [markdown]
# One that is too steep, or does not say `lipschitz`, is refused; the line lists the names that are
# known. An instance is taken as well as a class, and copied for each place. (In a branch that you
# make by hand, see below, `lipschitz` may be above 1: the product of all parts must be below 1.)

# %%
try:
    toy_flow(nblocks=1, act=tf.keras.activations.gelu)
except ValueError as error:
    print(error)

# %% [markdown]
# A registered class is saved with the flow. In another program import its module before
# `load_model`.

# %%
path = os.path.join(tempfile.mkdtemp(), "flow.keras")
model.save(path)
again = keras.models.load_model(path)
print("difference:", float(tf.reduce_max(tf.abs(again.log_prob(x, seed=0)
                                                - model.log_prob(x, seed=0)))))

# %% [markdown]
# ## A layer
#
# A layer with weights needs a bound that holds *whatever the weights become*. The layers of
# `tfresflow.layers` divide by a norm that they track. For your own, find a parametrisation whose
# norm is bounded by itself. A rotation by a learned angle, for one, keeps all lengths:


# %%
@keras.saving.register_keras_serializable("mine")
class Rotation(keras.layers.Layer):
    """`c R(angle) x` for vectors of two, `|c| < 1`."""

    def __init__(self, coeff=0.9, **kwargs):
        super().__init__(**kwargs)
        self.coeff = self.lipschitz = coeff

    def build(self, input_shape):
        self.angle = self.add_weight(name="angle", shape=[], initializer="zeros")

    def call(self, x):
        c, s = tf.cos(self.angle), tf.sin(self.angle)
        return self.coeff * tf.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], axis=1)

    def get_config(self):
        return {**super().get_config(), "coeff": self.coeff}


branch = keras.Sequential([Rotation(), layers.LipSwish(), Rotation()])
block = InvertibleResidual(branch, event_shape=[2])
z, log_det = block.forward_and_log_det(x, seed=0)
print("bound of the branch:", list(norm_report(block).blocks.values()))
print("round trip:", float(tf.reduce_max(tf.abs(block.inverse(tf.identity(z)) - x))))

# %% [markdown]
# ## Layers of bounded norm without a flow
#
# They are Keras layers like others: a network made of them is a 1-Lipschitz critic, or a classifier
# that a small change of its input can change by little.

# %%
critic = keras.Sequential([layers.InducedNormDense(32, coeff=0.999), layers.FullSort(),
                           layers.InducedNormDense(1, coeff=0.999)])
left, right = x, x + 0.1 * tf.random.stateless_normal([500, 2], [5, 6])
ratio = tf.norm(critic(left) - critic(right), axis=1) / tf.norm(left - right, axis=1)
print("largest change of the output for a change of the input:", float(tf.reduce_max(ratio)))

# %% [markdown]
# ## A bijector
#
# Any other invertible map can stand between residual blocks. Define the pair; its derivative,
# training, saving, copies and TFP's methods follow.


# %%
@keras.saving.register_keras_serializable("mine")
class Sinh(bijectors.Flow):
    """`z = sinh(x)`, elementwise."""

    def __init__(self, event_shape, name=None):
        super().__init__(event_shape, parameters=dict(locals()), name=name)

    def forward_and_log_det(self, x, seed=None):
        return tf.sinh(x), tf.reduce_sum(tf.math.log(tf.cosh(x)), axis=-1)

    def inverse_and_log_det(self, z, seed=None):
        x = tf.asinh(z)
        return x, -self.forward_and_log_det(x)[1]


chain = bijectors.Chain([block, Sinh([2])])          # x meets Sinh first
model = FlowModel(chain)
model.compile(keras.optimizers.Adam(1e-2))
print(model.fit(x, batch_size=100, epochs=5, verbose=0).history["nll"][-1])
