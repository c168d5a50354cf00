# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sampling with path gradients
#
# We know a density up to a constant, $p(x) = \tilde p(x) / Z$, and want samples of it, and $Z$. A
# flow $q$ is trained by a Kullback-Leibler divergence, and its samples are weighed by
# $w = \tilde p(x) / q(x)$, which corrects what training has left.
#
# The target is a pair of coordinates of the many-well density of Noé et al.: two wells of different
# depth. Its $Z$ is known, so we see how far we are from it.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from bijectors import flows
from tfresflow import FlowModel, logdet, losses, targets

keras.utils.set_random_seed(0)
target = targets.ManyWell(2)
print(f"log Z = {target.log_z:.3f}")

# %% [markdown]
# ## Likelihood first
#
# A flow that is trained on its own samples alone looks for one mode and may never meet another. So
# where there are samples of the target, from a simulation say, begin by maximum likelihood. Here we
# have 300 of them.

# %%
data = target.sample(300, seed=0)
flow = flows.toy_flow([2], nblocks=6, dims=(32, 32), coeff=0.97, act="sin", seed=0,
                      log_det=logdet.Exact())
model = FlowModel(flow)
model.compile(keras.optimizers.Adam(3e-3))
history = model.fit(data, batch_size=100, epochs=80, verbose=0)
print(f"negative log-likelihood {history.history['nll'][-1]:.3f}")


def report(samples):
    value, error = samples.log_z()
    print(f"log Z {value:.3f} +- {error:.3f}, effective sample size {samples.effective_size:.2f}, "
          f"Pareto k {samples.pareto_k:.2f}")


report(model.sample_importance(2000, target, seed=1))

# %% [markdown]
# ## Finish by path gradients
#
# `ReverseKL` needs no data: it draws samples of the flow, as many as one likes, and asks the target
# for its density and force at them. With `Path()` its gradient vanishes for every batch as $q$ comes
# near $p$, where the standard one does so on average alone.

# %%
model.compile(keras.optimizers.Adam(5e-4), loss=losses.ReverseKL(target, losses.Path()))
history = model.fit(batch_size=200, steps_per_epoch=50, epochs=3, verbose=0)
print("loss by epoch, never below -log Z:", np.round(history.history["loss"], 3))
samples = model.sample_importance(2000, seed=1)
report(samples)

# %% [markdown]
# This flow is fitted to data, so that its samples are solved for; `bijectors.Inverted(flow)` samples
# by evaluating the blocks. `ForwardKL` takes samples of the target, in place of the flow's, and its
# force at them: it learns the slope of the density, but how much of it lies in each well only the
# likelihood tells.
#
# ## Samples of the target itself
#
# An independence Metropolis chain accepts or rejects the flow's samples by their weights: its
# states are samples of $p$.

# %%
chain = samples.metropolis(seed=0)
print(f"acceptance {chain.acceptance:.2f}, longest wait {chain.longest_wait} of {len(chain.x)}")

side = np.linspace(-3.5, 3.5, 150, dtype=np.float32)
points = np.stack(np.meshgrid(side, side), axis=-1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
axes[0].imshow(np.exp(target.log_prob(points) - target.log_z), extent=(-3.5, 3.5) * 2,
               origin="lower", cmap="viridis")
axes[0].set(title="density of the target", xlabel="$x_1$", ylabel="$x_2$")
axes[1].hist2d(*chain.x.T, bins=[np.linspace(-3.5, 3.5, 60)] * 2, cmap="viridis")
axes[1].set(title="states of the chain", xlabel="$x_1$")
for ax in axes:
    ax.grid(False)
plt.show()

# %% [markdown]
# ## Hand over to MCMC
#
# In the flow's latent space the target is nearly a standard normal, and Hamiltonian Monte Carlo
# mixes well there (NeuTra). TFP's `TransformedTransitionKernel` needs a bijector from latents to
# data: `tfb.Invert(flow)`.

# %%
import tensorflow_probability as tfp  # noqa: E402

kernel = tfp.mcmc.TransformedTransitionKernel(
    tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, step_size=0.4, num_leapfrog_steps=3),
    tfp.bijectors.Invert(flow))


@tf.function(autograph=False)
def run():
    return tfp.mcmc.sample_chain(
        100, tf.constant(chain.x[:50]), kernel=kernel, num_burnin_steps=10, seed=[0, 1],
        trace_fn=lambda _, results: results.inner_results.is_accepted)


states, accepted = run()
right = tf.reduce_mean(tf.cast(states[..., 0] > 0, tf.float32))
exact = np.mean(target.sample(100_000, seed=2)[:, 0] > 0)
print(f"accepted {np.mean(accepted):.2f}; in the right well {right:.3f}, exactly {exact:.3f}")

# %% [markdown]
# *References:* Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows (2024);
# Hoffman et al., NeuTra-lizing Bad Geometry in Hamiltonian Monte Carlo (2019).
