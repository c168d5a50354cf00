# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A block with every choice made
#
# `toy_flow`, `tabular_flow` and `image_flow` make whole flows. This page makes one residual block
# by hand, and lists what can be chosen.

# %%
import keras
import tensorflow as tf

import bijectors
from bijectors import InvertibleResidual, norm_report
from bijectors.flows import DenseNet, tabular_flow, toy_flow
from tfresflow import layers, logdet, solvers

keras.utils.set_random_seed(0)
g = keras.Sequential([layers.InducedNormConv2D(16, 3, coeff=0.9), layers.LipSwish(),
                      layers.InducedNormConv2D(3, 3, coeff=0.9)])
block = InvertibleResidual(
    g, event_shape=[16, 16, 3],
    log_det=logdet.LogDet(logdet.Poisson(rate=2.0, n_exact=2),     # or Geometric, Truncated
                          gradient=logdet.Neumann(),               # or Series
                          probe=logdet.rademacher, num_probes=1),
    solver=solvers.Anderson(rtol=1e-6),                            # or Picard, Broyden
    adjoint=solvers.BiCGSTAB())                                    # or Neumann, CG, ...
images = tf.random.stateless_uniform([8, 16, 16, 3], [0, 0])
z, log_det = block.forward_and_log_det(images, seed=0)
print(z.shape, log_det.shape)

# %% [markdown]
# | argument | what it decides | read |
# |---|---|---|
# | `coeff` of a layer | its norm; the product of a branch must be below 1 | [](../concepts/norms.py) |
# | `log_det` | bias, variance and cost of the log-determinant | [](../concepts/log_determinant.py) |
# | `solver`, `adjoint` | how the inverse and its gradient are solved | [](implicit.py) |
#
# ## Norms, activations, branches
#
# The architectures take them as arguments.

# %%
learned = toy_flow(nblocks=1, dims=(16, 16), act=layers.CLipSwish,
                   orders=[2, layers.LearnedOrder(1.5, 2.5), 1])              # 2 -> p -> 1 -> 2
print(norm_report(learned))

# %%
dense_net = toy_flow(nblocks=1, dense_net=DenseNet(depth=3, growth=16), act=layers.CLipSwish)
named = toy_flow(4, nblocks=2, dims=64, act="elu")                 # names of Keras, too
bounded = tabular_flow(3, nblocks=2, dims=16,
                       supports={0: "positive", 2: ("interval", 0, 1)})      # density 0 elsewhere
print(dense_net.forward([[0.0, 0.0]]).shape, named.event_shape, bounded.event_shape)

# %% [markdown]
# ## Other blocks of the same branches
#
# The slopes of $x + g(x)$ are between $1 - L$ and $1 + L$, those of a monotone block between
# $(1 - L) / (1 + L)$ and its inverse. `Inverted` takes any flow the other way round: residual
# blocks and inverted ones in turns are an implicit flow. Both solve a fixed point in the forward
# pass, and one linear system in the backward pass.

# %%
monotone = toy_flow(nblocks=2, dims=16, act=layers.CPila, block=bijectors.Monotone, seed=0)
implicit = toy_flow(nblocks=2, dims=16, seed=0, block=[
    InvertibleResidual, bijectors.Inverted.of(InvertibleResidual)])
for flow in (monotone, implicit):
    flow.initialize(tf.random.stateless_normal([100, 2], [0, 0]))
    print([type(b).__name__ for b in reversed(flow.bijectors)], norm_report(flow).verdict())

# %% [markdown]
# ## Sequences and volumes
#
# A branch of `InducedNormConv1D` makes a block of sequences `[N, T, C]`, one of `InducedNormConv3D`
# of volumes `[N, D, H, W, C]`.

# %%
sequence = InvertibleResidual(keras.Sequential([
    layers.InducedNormConv1D(8, 3, coeff=0.9), layers.LipSwish(),
    layers.InducedNormConv1D(2, 3, coeff=0.9)]), event_shape=[20, 2])
x = tf.random.stateless_normal([4, 20, 2], [0, 1])
print(sequence.forward(x).shape)

# %% [markdown]
# ## Composition
#
# `Chain` composes from right to left, as `tfb.Chain` does, and takes TFP's bijectors beside ours.
# `FactorOut` lets half of the channels go to the latent early: the multiscale architecture.

# %%
chain = bijectors.Chain([bijectors.Flatten([20, 2]), sequence, bijectors.ActNorm([20, 2])])
z, log_det = chain.forward_and_log_det(x)
print(z.shape, log_det.shape, list(chain.named_layers()))
