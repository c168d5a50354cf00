# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A field on a lattice
#
# Scalar $\phi^4$ theory on a periodic lattice is the density $e^{-S(\phi)} / Z$ of the action
#
# $$S = \sum_x m^2 \phi_x^2 + \lambda \phi_x^4
#       + \sum_\mu (2 \phi_x^2 - \phi_x \phi_{x+\mu} - \phi_x \phi_{x-\mu}).$$
#
# Markov chains sample it in small steps, and slow down where the field is correlated. A flow draws
# independent fields, and says $Z$ besides, which no chain does.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import Inverted, flows
from tfresflow import FlowModel, logdet, losses, targets

keras.utils.set_random_seed(0)
target = targets.Phi4(4, m2=-4, lam=6.975)

# %% [markdown]
# ## A flow with the symmetries of the action
#
# $S$ does not change when $\phi$ becomes $-\phi$, nor when it is shifted around the torus.
# `phi4_flow` commutes with both, whatever its weights are: its convolutions are circular, its
# activations odd, and it has no biases. `Inverted` makes it a sampler: fields are found by
# evaluating the blocks, not by solving.

# %%
flow = Inverted(flows.phi4_flow(4, nblocks=3, idim=16, kernels=(3, 3), seed=0))
z = tf.random.stateless_normal([1, 4, 4, 1], [0, 0])
x = flow.inverse(z)
print("sign: ", float(tf.reduce_max(abs(flow.inverse(-z) + x))))
print("shift:", float(tf.reduce_max(abs(flow.inverse(tf.roll(z, 1, 1)) - tf.roll(x, 1, 1)))))

# %% [markdown]
# ## Training
#
# No data is needed, but the action and its force. Training takes an unbiased estimate of the
# log-determinant, the weights of the samples the exact one, as the noise of an estimate would be
# theirs.

# %%
model = FlowModel(flow, eval_log_det=logdet.Exact())
rate = keras.optimizers.schedules.CosineDecay(5e-3, 600)
model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss=losses.ReverseKL(target))
history = model.fit(batch_size=128, steps_per_epoch=100, epochs=6, verbose=0)
print("loss by epoch, never below -log Z:", np.round(history.history["loss"], 3))

# %% [markdown]
# The effective size is the part of the samples that counts.

# %%
samples = model.sample_importance(4000, seed=1)
value, error = samples.log_z()
print(f"log Z {value:.4f} +- {error:.4f}, effective sample size {samples.effective_size:.3f}")

# %% [markdown]
# ## Hand over to Markov chains
#
# An independence Metropolis chain proposes samples of the flow, and accepts nearly all of them. Or
# its states are where Hamiltonian Monte Carlo begins: with fields that are distributed as they
# should be already, nothing has to be burned in.

# %%
chain = samples.metropolis(seed=0)
print(f"acceptance {chain.acceptance:.2f}, longest wait {chain.longest_wait} of {len(chain.x)}")

kernel = tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, step_size=0.12, num_leapfrog_steps=8)


@tf.function(autograph=False)
def run(start):
    return tfp.mcmc.sample_chain(
        40, start, kernel=kernel, seed=[0, 1], trace_fn=lambda _, results: results.is_accepted)


states, accepted = run(tf.constant(chain.x[::20]))
print(f"{states.shape[1]} chains of {states.shape[0]} trajectories, accepted "
      f"{np.mean(accepted):.2f}")

# %% [markdown]
# Both say the same of the field: its two-point function, $\langle \phi_y \phi_{y+r} \rangle$, and
# its magnetisation.


# %%
def along_an_axis(fields):
    """The two-point function of each field at r = 0, 1 and 2 along the first axis."""
    return target.two_point(fields).numpy()[..., :3, 0]


mean, error = samples.mean(along_an_axis(samples.x))
of_chains = along_an_axis(states).mean(axis=0)  # a number a chain: chains are independent
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
axes[0].errorbar(range(3), mean, error, fmt="o", label="flow, weighted")
axes[0].errorbar(np.arange(3) + 0.05, of_chains.mean(axis=0),
                 of_chains.std(axis=0) / len(of_chains) ** 0.5, fmt="s", label="HMC from the flow")
axes[0].set(xlabel="distance r", xticks=range(3), ylabel=r"$\langle\phi_y\phi_{y+r}\rangle$")
axes[0].legend()
edges = np.linspace(-0.7, 0.7, 40)
axes[1].hist(target.magnetisation(samples.x).numpy(), edges, density=True, histtype="step",
             weights=samples.normalised, label="flow, weighted")
axes[1].hist(target.magnetisation(states).numpy().ravel(), edges, density=True, histtype="step",
             label="HMC from the flow")
axes[1].set(xlabel="magnetisation", ylabel="density")
plt.show()

# %% [markdown]
# `python -m train.main --flagfile=configs/phi4.cfg` does this on a lattice of 8 x 8, and
# `configs/u1.cfg` for angles of a gauge field, see [](../guides/command_line.md).
#
# *References:* Albergo, Kanwar and Shanahan, Flow-based generative models for Markov chain Monte
# Carlo in lattice field theory (2019); Vaitl et al., Fast and Unified Path Gradient Estimators for
# Normalizing Flows (2024).
