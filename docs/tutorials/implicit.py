# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Implicit layers: fixed points and their gradients
#
# The inverse of a residual block is the fixed point of $x = z - g(x)$. Its gradient does not need
# the steps of the solver: differentiate the equation, and one linear solve is left.
# `solvers.Implicit` does this for any fixed point $h = F(h)$.

# %%
import os
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tfresflow import layers, solvers

keras.utils.set_random_seed(0)

# %% [markdown]
# ## A number first
#
# $h = a \cos(h)$ has a solution for every $a$ in (0, 1), whose derivative is
# $\cos(h) / (1 + a \sin(h))$. `F` may use whatever it likes; tensors and variables in it get
# gradients.

# %%
a = tf.constant([[0.3], [0.6], [0.9]], tf.float64)
root = solvers.Implicit(solvers.Anderson(), solvers.BiCGSTAB())
with tf.GradientTape() as tape:
    tape.watch(a)
    solution = root(lambda h: a * tf.cos(h), tf.zeros_like(a))
gradient = tape.gradient(solution.value, a)
h = solution.value
print("steps:", solution.num_steps.numpy(), "largest residual:", float(tf.reduce_max(solution.residual)))
print("error of the gradient:",
      float(tf.reduce_max(tf.abs(gradient - tf.cos(h) / (1 + a * tf.sin(h))))))

# %% [markdown]
# ## A deep equilibrium layer in a Keras model
#
# The layer's output is the state where $h = \tanh(W h + U x + b)$ comes to rest. `InducedNormDense`
# keeps the norm of $W$ below 1, so that there is exactly one such state, for every input.


# %%
@keras.saving.register_keras_serializable("mine")
class Equilibrium(keras.layers.Layer):
    """`h = tanh(W h + U x + b)`, `[N, features] -> [N, units]`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state = layers.InducedNormDense(units, coeff=0.9)
        self.drive = keras.layers.Dense(units)
        # Looser than the default, which is near what float32 can resolve: faster, and enough here.
        self.root = solvers.Implicit(solvers.Anderson(rtol=1e-5), solvers.BiCGSTAB(rtol=1e-5))

    def build(self, input_shape):
        self.drive.build(input_shape)
        self.state.build([None, self.units])

    def call(self, x):
        drive = self.drive(x)
        return self.root(lambda h: tf.tanh(self.state(h) + drive), tf.zeros_like(drive)).value

    def get_config(self):
        return {**super().get_config(), "units": self.units}


data = load_digits()
images = (data.data / 16).astype("float32")
x, x_test, y, y_test = train_test_split(images, data.target, random_state=0)
model = keras.Sequential([keras.Input([64]), Equilibrium(48), keras.layers.Dense(10)])
model.compile(keras.optimizers.Adam(5e-3), metrics=["accuracy"],
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = model.fit(x, y, epochs=12, batch_size=64, verbose=0, validation_data=(x_test, y_test))
print({name: round(values[-1], 3) for name, values in history.history.items()})

# %% [markdown]
# The norm of $W$ is brought up to date when its weights have changed, in `fit` and in any other
# loop. Power iteration stops at a tolerance, by default a thousandth, so the norm may be above its
# bound by that:

# %%
layer = model.layers[0]
print("norm of W:", round(float(layer.state.measure_norm()), 3), "bound 0.9")

# %% [markdown]
# The layer is registered and has a `get_config`, so the model is saved as any other. To load it in
# another program, import the module of `Equilibrium` first.

# %%
path = os.path.join(tempfile.mkdtemp(), "equilibrium.keras")
model.save(path)
again = keras.models.load_model(path)
difference = again.predict(x_test, verbose=0) - model.predict(x_test, verbose=0)
print("largest difference:", np.abs(difference).max())

# %% [markdown]
# ## Against back-propagation through the steps
#
# `Unrolled` keeps every step and differentiates through them. In the limit of many steps both give
# the same gradient; memory of the implicit one does not grow.

# %%
drive = layer.drive(x_test[:100])


def gradient_by(root):
    with tf.GradientTape() as tape:
        tape.watch(drive)
        h = root(lambda h: tf.tanh(layer.state(h) + drive), tf.zeros_like(drive)).value
        value = tf.reduce_sum(h ** 2)
    return tape.gradient(value, drive)


want = gradient_by(solvers.Implicit(solvers.Anderson(rtol=1e-6), solvers.BiCGSTAB(rtol=1e-6)))
steps = np.array([1, 2, 5, 10, 20, 40])
errors = [float(tf.norm(gradient_by(solvers.Unrolled(int(k))) - want) / tf.norm(want)) for k in steps]
terms = [float(tf.norm(gradient_by(solvers.Implicit(
    solvers.Anderson(rtol=1e-6), solvers.FixedPoint(int(k)))) - want) / tf.norm(want)) for k in steps]

figure, axis = plt.subplots(figsize=(6, 3))
axis.semilogy(steps, errors, "o-", label="through k unrolled steps")
axis.semilogy(steps, terms, "s-", label="implicit, k steps for the gradient")
axis.set_xlabel("k")
axis.set_ylabel("relative error of the gradient")
axis.legend()
plt.show()

# %% [markdown]
# ## When it does not converge
#
# Nothing wrong is passed on in silence. A solve that fails raises `tf.errors.InvalidArgumentError`,
# which says how many rows, how large the residual is, and what to do:

# %%
try:
    solvers.Implicit(solvers.Anderson(max_steps=20))(lambda h: 2 * h + 1 + tf.sin(5 * h), a)
except tf.errors.InvalidArgumentError as error:
    print(error.message)

# %% [markdown]
# `on_failure="warn"` or `"ignore"` go on; the `Solution` tells which rows have `converged`.
#
# Which solver? `Anderson` and `Broyden` need the fewest evaluations for maps that contract slowly;
# `Picard` is plain iteration, with the least memory; `Newton` is the fastest for rows of a few
# numbers. For the gradient `BiCGSTAB` suits every map, and `Direct` those of a few numbers; `CG`
# needs a symmetric one (`Normal(CG())` makes one), `Neumann` and `FixedPoint` cost a fixed number
# of products, `Roulette` is unbiased with few.
