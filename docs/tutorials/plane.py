# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A density in the plane
#
# A normalizing flow is an invertible function $f$ from data $x$ to noise $z$. It gives every point
# a density, and new points from noise:
#
# $$\log p(x) = \log p_z(f(x)) + \log \left|\det \frac{df}{dx}\right|, \qquad x = f^{-1}(z).$$
#
# A *residual* flow is made of blocks $f(x) = x + g(x)$, where $g$ is an ordinary network whose
# Lipschitz constant is below 1. You need to know Keras; all else is explained where it occurs.

# %%
import os
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import make_moons

import tfresflow
from bijectors import norm_report
from bijectors.flows import toy_flow
from tfresflow import FlowModel, logdet

tfresflow.threads.prepare()     # faster on a machine with two cores; does nothing on others
keras.utils.set_random_seed(0)

x, _ = make_moons(6000, noise=0.1, random_state=0)
x = x.astype("float32")
train, test = x[:4000], x[4000:]

# %% [markdown]
# ## Twenty lines
#
# `toy_flow` makes a flow for vectors: blocks of dense layers, an ActNorm after each. `FlowModel` is
# a `keras.Model` that maximises the likelihood; labels and a `loss` are not needed. For training,
# the log-determinant is estimated, without bias. For evaluation in the plane we can afford the
# exact one.

# %%
flow = toy_flow(nblocks=8, dims=(32, 32), act="sin", coeff=0.98, seed=0)
model = FlowModel(flow, eval_log_det=logdet.Exact())
rate = keras.optimizers.schedules.CosineDecay(1e-2, decay_steps=30 * 20)
model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0, use_ema=True))
history = model.fit(train, batch_size=200, epochs=30, validation_data=test, validation_freq=5,
                    verbose=0)
model.evaluate(test, return_dict=True, verbose=0)

# %% [markdown]
# `nll` is the mean of $-\log p(x)$ over the test data, in nats: smaller is better. With
# `use_ema=True` the scores are those of averaged weights, as always in Keras.

# %%
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(np.arange(1, 31), history.history["nll"], label="training (estimated)")
axis.plot(np.arange(5, 31, 5), history.history["val_nll"], "o-", label="test (exact)")
axis.set_xlabel("epoch")
axis.set_ylabel("-log p(x), nats")
axis.legend()
plt.show()

# %% [markdown]
# ## The density and samples
#
# `log_prob` gives $\log p(x)$ of each row, `sample` new rows. Sampling inverts each block by a
# fixed-point solver, to a tolerance; if that failed, it would raise an error.

# %%
across, up = (np.linspace(*ends, 160, dtype="float32") for ends in [(-1.7, 2.7), (-1.2, 1.7)])
points = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
density = np.exp(model.log_prob(points)).reshape(160, 160)
samples = model.sample(3000, seed=1)

figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), sharex=True, sharey=True)
axes[0].plot(*train.T, ".", markersize=1)
axes[0].set_title("data")
axes[1].imshow(density, extent=(-1.7, 2.7, -1.2, 1.7), origin="lower", cmap="viridis")
axes[1].set_title("density")
axes[2].plot(*samples.numpy().T, ".", markersize=1)
axes[2].set_title("samples")
plt.show()
pixel = (across[1] - across[0]) * (up[1] - up[0])
print(f"integral of the density over the picture: {density.sum() * pixel:.3f}")

# %% [markdown]
# The integral shows that it is a density, up to the sum over pixels and what lies outside the
# picture.
#
# ## Is it really invertible?
#
# The report lists a proven bound of the Lipschitz constant of every branch. If all are below 1, the
# flow is certified invertible.

# %%
report = norm_report(flow)
print(report.verdict())
z = flow.forward(test)
print("largest error of f^-1(f(x)):",
      float(tf.reduce_max(tf.abs(flow.inverse(tf.identity(z)) - test))))

# %% [markdown]
# ## The same flow in TensorFlow Probability
#
# The flow is a TFP bijector, from data to noise, so `TransformedDistribution` takes its inverse.

# %%
base = tfp.distributions.MultivariateNormalDiag(tf.zeros(2), tf.ones(2))
distribution = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))
print(distribution.sample(4, seed=0).shape, distribution.log_prob(test[:3]).shape)

# %% [markdown]
# ## Save and load
#
# One file holds architecture, weights and, for a model that was trained with averages, both sets of
# weights.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "moons.keras")
    model.save(path)
    again = keras.models.load_model(path)
print([float(m.evaluate(test, verbose=0, return_dict=True)["nll"]) for m in (model, again)])
