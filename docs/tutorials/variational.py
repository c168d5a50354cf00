# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Variational inference with tfp.vi
#
# We know a posterior up to a constant, and want samples of it. Variational inference fits a flow
# $q$ by maximising the evidence lower bound
#
# $$\operatorname{ELBO} = E_{x \sim q}\left[\log \tilde p(x) - \log q(x)\right] \le \log Z.$$
#
# The target here is a banana whose normalising constant $Z$ we know, so that we can see how far the
# bound is from the truth.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.flows import toy_flow
from tfresflow import logdet

tfd = tfp.distributions
keras.utils.set_random_seed(0)

log_z = 1.5


def target_log_prob(x):
    """`log Z` plus the log-density of a bent Gaussian."""
    first, second = tf.unstack(x, axis=-1)
    return (log_z + tfd.Normal(0.0, 1.5).log_prob(first)
            + tfd.Normal(0.5 * first ** 2 - 1.0, 0.5).log_prob(second))


# %% [markdown]
# ## The direction of the flow
#
# Each direction of a residual flow can be differentiated, but one is cheap: `forward` is one
# evaluation of each block, `inverse` is solved. Density estimation maps data to noise, so there the
# distribution is `TransformedDistribution(base, Invert(flow))`. Variational inference draws samples
# and asks for the density of *those samples*: it needs noise to data. So take the flow as it is.
# TFP remembers from where its samples came, and nothing is solved.

# %%
flow = toy_flow(nblocks=6, dims=(32, 32), coeff=0.98, act="sin", seed=0, log_det=logdet.Exact())
surrogate = tfd.TransformedDistribution(
    tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)), flow)

# %% [markdown]
# TFP finds the variables of the flow's layers: they are `surrogate.trainable_variables`. Norms
# follow their weights by themselves, in any training loop.

# %%
rate = keras.optimizers.schedules.CosineDecay(5e-3, decay_steps=1200)
losses = tfp.vi.fit_surrogate_posterior(
    target_log_prob, surrogate, keras.optimizers.Adam(rate, global_clipnorm=10.0), num_steps=1200,
    sample_size=128, seed=1)

# %%
samples = surrogate.sample(4000, seed=2)
log_weights = target_log_prob(samples) - surrogate.log_prob(samples)
elbo = float(tf.reduce_mean(log_weights))
error = float(tf.math.reduce_std(log_weights)) / 4000 ** 0.5
print(f"log Z {log_z}, evidence lower bound {elbo:.3f} +- {error:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
axes[0].plot(-losses.numpy())
axes[0].axhline(log_z, color="gray", linestyle=":", label="log Z")
axes[0].set_ylim(-3, 3)
axes[0].set_xlabel("step")
axes[0].set_ylabel("evidence lower bound")
axes[0].legend()
side = np.linspace(-5, 5, 120, dtype="float32")
points = np.stack(np.meshgrid(side, side + 2), axis=-1)
axes[1].contour(side, side + 2, np.exp(target_log_prob(points)), cmap="viridis")
axes[1].plot(*samples[:1500].numpy().T, ".", markersize=1.5)
axes[1].set_title("target (lines) and samples of the flow")
plt.show()

# %% [markdown]
# ## Expectations of the target
#
# Samples of the flow are nearly those of the target. Importance weights correct what is left; the
# effective sample size says how much of the sample they use.

# %%
weights = tf.nn.softmax(log_weights)
size = float(1 / tf.reduce_sum(weights ** 2))
second = float(tf.reduce_sum(weights * samples[:, 1]))
print(f"effective sample size {size:.0f} of 4000")
print(f"mean of the second coordinate: {second:.3f}, exact {0.5 * 1.5 ** 2 - 1.0:.3f}")

# %% [markdown]
# In two dimensions the determinant itself is cheap, hence `Exact()`. In many take the default, an
# unbiased estimate: the bound stays one, with some noise. See [](../concepts/log_determinant.py).
