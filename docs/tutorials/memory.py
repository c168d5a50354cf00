# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Choosing a memory strategy
#
# Back-propagation needs what the forward pass computed. For a deep flow that is most of the memory.
# A flow is invertible, though, and so there are many ways to need less: `FlowModel(..., autodiff=...)`
# takes one of the strategies in `tfresflow.autodiff`. All but the last one in this table give the same
# gradient. With $n$ blocks, a strategy
#
# | | keeps between the passes | evaluates a block, over all blocks | |
# |---|---|---|---|
# | `Recomputed()`, the default | the input of each block | $2n$ times | |
# | `Stored()` | all activations | $n$ | the most memory |
# | `Released()` | the activations of the branches, and the log-determinants' gradients | $n$ | the way of the paper |
# | `Checkpointed()` | the input of every $k$-th block, $k = \sqrt{n}$ | about $3n$ | memory as $\sqrt{n}$ |
# | `Reversible()` | the output of the flow | $2n$, and a solve for each inverse | memory does not grow with $n$ |
# | `Moonwalk()` | the input of the flow and the derivative by it | the first phase, then $2n$ and a linear solve for each block | see below |
# | `MemoryPoor()` | the input of the flow | $n + n(n + 1)/2$ | for comparison |
# | `ForwardMode()` | the input of the flow | once for each weight | for small flows, and for comparison |
# | `ProjectedForward()` | the input of the flow | once for each random direction | unbiased, but noisy |
#
# `Auto(memory_limit=...)` picks the fastest of the first that fits. In short:
#
# - Begin with the default. On a CPU it is often the fastest as well, as it takes a block through in
#   pieces that fit the cache.
# - If there is memory to spare on a GPU, try `Stored()`.
# - If the model is so deep that the inputs of its blocks fill the memory, take `Checkpointed()`.
# - If even their square root is too much, take `Reversible()`, or
#   `Moonwalk(autodiff.Reversible())`, which also measures how exact its gradient is.
# - If one block alone is too large for a whole batch, take `micro_batches`, at the end of this page.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
import tfresflow
from bijectors.flows import tabular_flow
from tfresflow import FlowModel, autodiff, logdet

tfresflow.threads.prepare()
keras.utils.set_random_seed(0)
# We build many graphs and run each a few times: to optimise them would take longer than to run them.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def flow(columns, depth, dims, **kwargs):
    return tabular_flow([columns], nblocks=depth, dims=dims, actnorm=False, seed=0,
                        log_det=logdet.LogDet(logdet.Truncated(4)), **kwargs)


def loss(z, log_det):
    return tf.reduce_mean(0.5 * tf.reduce_sum(z ** 2, axis=1) - log_det)


# %% [markdown]
# ## The same gradient
#
# `autodiff.gradients` is what `FlowModel` uses, for loops of your own. It takes any loss of $z$ and
# of the log-determinant. We compare each strategy with TensorFlow's own tape, on a flow of three
# columns in float64. `ForwardMode` and its kind take one pass for each number, so the flow is small.

# %%
small = flow(3, 2, (4,), dtype="float64")
variables = [v.value for layer in small.layers for v in layer.trainable_variables]
x = tf.random.stateless_normal([8, 3], [0, 1], dtype=tf.float64)
with tf.GradientTape() as tape:
    value = loss(*small.forward_and_log_det(x, seed=0))
want = tape.gradient(value, variables, unconnected_gradients="zero")

ways = {"Recomputed": autodiff.Recomputed(), "Stored": autodiff.Stored(),
        "Released": autodiff.Released(), "Checkpointed": autodiff.Checkpointed(),
        "Reversible": autodiff.Reversible(), "Moonwalk": autodiff.Moonwalk()}
only_small = {"MemoryPoor": autodiff.MemoryPoor(),
              "Moonwalk, pure": autodiff.Moonwalk(autodiff.ForwardMode()),
              "ForwardMode": autodiff.ForwardMode(),
              "ProjectedForward": autodiff.ProjectedForward(directions=20)}
for name, way in {**ways, **only_small}.items():
    _, got, _ = autodiff.gradients(small, loss, x, seed=0, autodiff=way)
    error = tf.linalg.global_norm([a - b for a, b in zip(got, want)]) / tf.linalg.global_norm(want)
    print(f"{name:<17} {float(error):.0e}")

# %% [markdown]
# `ProjectedForward` is right on average. Of $d$ weights and $k$ directions its error is about
# $\sqrt{d / k}$ of the gradient.
#
# ## What is kept, tensor by tensor
#
# `autodiff.saved` traces a step, without running it, and lists what is kept between the passes. Its
# `peak` is an estimate of the memory that the step takes, weights not counted. Here for a batch of
# 2048 rows of 32 columns:

# %%
print(autodiff.saved(flow(32, 4, (64,)), autodiff.Recomputed(), 2048))

# %% [markdown]
# This is also how `Auto(memory_limit=bytes)` chooses: it tries `Recomputed`, `Stored`,
# `Checkpointed` and `Reversible`, in this order, until an expected peak is within the limit. If none
# is, it says so in one line before anything is trained.

# %%
deep = flow(32, 8, (64,))
for name in ("Recomputed", "Stored", "Checkpointed", "Reversible"):
    kept = autodiff.saved(deep, ways[name], 2048)
    print(f"{name:<13} keeps {kept.num_bytes / 2 ** 20:5.1f} MB, "
          f"at its peak {kept.peak / 2 ** 20:5.1f} MB")
model = FlowModel(deep, autodiff=autodiff.Auto(memory_limit=5 * 2 ** 20))

# %% [markdown]
# ## What each takes
#
# TensorFlow counts the memory of an accelerator, and the larger tensors of a CPU where oneDNN is on.
# We measure the peak and the time of a gradient for three depths.

# %%
device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
rows = tf.random.stateless_normal([2048, 32], [0, 0])


def memory(what):
    """In MB; not a number where the allocator does not count."""
    try:
        return tf.config.experimental.get_memory_info(device)[what] / 2 ** 20
    except ValueError:
        return np.nan


def measure(way, depth):
    """Peak memory in MB above what is there before, and seconds."""
    step = tf.function(
        lambda x: autodiff.gradients(built[depth], loss, x, seed=0, autodiff=way)[1],
        autograph=False)
    found = [step(rows)]
    peaks, seconds = [], []
    for _ in range(2):
        found.clear()
        if not np.isnan(memory("peak")):
            tf.config.experimental.reset_memory_stats(device)
        before, start = memory("current"), time.monotonic()
        found.append(step(rows))
        seconds.append(time.monotonic() - start)
        peaks.append(memory("peak") - before)
    return min(peaks), min(seconds)


depths = [2, 5, 10]
built = {depth: flow(32, depth, (64,)) for depth in depths}
measured = {name: np.array([measure(way, depth) for depth in depths])
            for name, way in ways.items()}

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for marker, (name, values) in zip("osv^Dx", measured.items()):
    axes[0].plot(depths, values[:, 0], marker + "-", label=name)
    axes[1].plot(depths, 1e3 * values[:, 1], marker + "-")
    mb, seconds = np.diff(values[[0, -1]], axis=0)[0] / (depths[-1] - depths[0])
    print(f"{name:<13} {mb:6.2f} MB and {1e3 * seconds:4.0f} ms for each further block")
for axis, label, ticks in zip(axes, ["peak memory of a gradient, MB", "time, ms"],
                              [[2, 5, 10, 20, 50], [10, 20, 50, 100, 200, 500]]):
    axis.set_xlabel("blocks")
    axis.set_ylabel(label)
    axis.set_yscale("log")
    axis.set_yticks(ticks, ticks)
    axis.minorticks_off()
    axis.set_xticks(depths)
figure.legend(loc="outside right upper")
plt.show()

# %% [markdown]
# `Stored` and `Released` grow by the activations of a block, `Recomputed` by its input, `Checkpointed`
# by the square root of the depth. `Reversible` and `Moonwalk` stay where they are: what is left is
# what one block needs while it is worked on. Of a few blocks that is more than the default keeps, so
# they are for deep flows. They pay with the time of their solves.
#
# ## How Moonwalk works
#
# Write $x_i = f_i(x_{i-1})$ for the blocks and $h_i$ for the derivative of the loss by $x_i$, a column.
# Back-propagation goes from the last to the first, by *vector-Jacobian products*:
# $h_{i-1} = J_i^T h_i$, with $J_i$ the Jacobian of $f_i$. It needs $x_{i-1}$ at each step, after the
# forward pass has gone by, and so has to keep it or to find it again.
#
# As $J_i$ is invertible, the same equation can be used the other way round, which is called a
# *vector-inverse-Jacobian product*: $h_i = J_i^{-T} h_{i-1}$. So once $h_0$ is known, the derivative by
# the input alone, all others follow in one sweep forward, in which $x_i$ and $h_i$ are computed side
# by side. From $h_i$ follows the derivative by the weights of block $i$, and then nothing of the
# block is needed any more. With linear blocks, $f_i(x) = x + W_i x$, this is all of it:

# %%
rng = np.random.RandomState(0)
matrices = [0.5 * np.linalg.qr(rng.randn(3, 3))[0] for _ in range(4)]
x0 = rng.randn(3)

# The first phase: h_0, for the loss |x_4|^2 / 2. No derivative by weights is taken.
product = np.linalg.multi_dot([np.eye(3) + W for W in reversed(matrices)])
h = product.T @ (product @ x0)

# The second: a sweep forward.
point, of_weights = x0, []
for W in matrices:
    h = np.linalg.solve((np.eye(3) + W).T, h)
    of_weights.append(np.outer(h, point))
    point = point + W @ point

print("h at the end is the derivative of the loss by x_4:", np.allclose(h, point))

# The derivative by one number of W_2, by differences.
matrices[1][0, 2] += 1e-6
moved = np.linalg.multi_dot([np.eye(3) + W for W in reversed(matrices)]) @ x0
print(f"{of_weights[1][0, 2]:.4f} {(moved @ moved - point @ point) / 2e-6:.4f}")

# %% [markdown]
# Two things are different in a residual flow. The system $(I + J_g)^T h_i = h_{i-1}$ is solved
# iteratively, by products with $J_g$ alone, to the tolerance of the block's `adjoint` solver. And each
# block adds its log-determinant to the loss, whose derivative $c_i$ by the block's input has to be
# taken off first: $h_i = (I + J_g)^{-T} (h_{i-1} - c_i)$. The same random vectors are used as in the
# first phase, so the result is the gradient that back-propagation finds.
#
# The strategy that finds $h_0$ is an argument:
#
# | | memory | |
# |---|---|---|
# | `Moonwalk()`, that is `Moonwalk(autodiff.Checkpointed())` | as the square root of the depth | *mixed*; the gradients of weights need no memory of the first phase |
# | `Moonwalk(autodiff.Reversible())` | does not grow with the depth | mixed; an inverse and a linear solve for each block |
# | `Moonwalk(autodiff.ForwardMode())` | does not grow with the depth | *pure*: no backward pass at all, but one forward pass for each number in an example |
#
# In a loop of your own, `autodiff.walk` gives the gradient block by block, from the input of the flow
# to its output: apply each and forget it before you ask for the next. So no more than the gradient of
# one block is in memory.
#
# ## Its own check
#
# At the end of the sweep, $h_n$ must be the derivative of the loss by $z$, which is known. How far it
# is off, relative to its norm, is the error of the sweep, and costs nothing to find. `FlowModel`
# reports its mean as `gradient_error`. Where it is more than `tolerance` for any row, the gradient of
# that batch is taken again by `fallback`, which is `Checkpointed()`; `gradient_fallbacks` counts such
# rows, and a warning is given once.
#
# For residual blocks this is hardly ever needed, as their slopes are at least $1 - L > 0$. A layer that
# saturates is another matter: where its slope is nearly 0, to divide by it magnifies rounding errors.
# Below is a flow of two residual blocks, and the same with six layers $\tanh(2x)$ between them.

# %%


def with_layers(count):
    first, *_, last = flow(2, 2, (16,)).bijectors
    between = [layer for _ in range(count)
               for layer in (tfp.bijectors.Tanh(), tfp.bijectors.Scale(2.0))]
    return bijectors.Chain([first, *between, last])


points = tf.random.stateless_normal([64, 2], [0, 2])
for count in (0, 6):
    own = with_layers(count)
    _, right, _ = autodiff.gradients(own, loss, points, seed=0)
    for name, way in {"unchecked": autodiff.Moonwalk(fallback=None),
                      "with its check": autodiff.Moonwalk()}.items():
        _, got, _ = autodiff.gradients(own, loss, points, seed=0, autodiff=way)
        error = tf.linalg.global_norm([a - b for a, b in zip(got, right)]) / tf.linalg.global_norm(right)
        print(f"{count} layers, {name:<14} error {float(error):.0e}")

# %% [markdown]
# And this is what a training step of the second flow reports:

# %%
model = FlowModel(own, autodiff=autodiff.Moonwalk())
model.compile(keras.optimizers.SGD(1e-3))
logs = model.train_on_batch(points, return_dict=True)
print({name: round(float(value), 3) for name, value in logs.items()})

# %% [markdown]
# ## If it is still too much
#
# `FlowModel(..., micro_batches=k)` takes a batch in k parts, one after the other: the same update
# from a k-th of the activations. `--update_freq=k` does it from the command line, each part one
# `--batchsize`.
#
# ## With a tape of your own
#
# A `tf.GradientTape` around `forward_and_log_det`, `log_prob` or a `FlowLayer` works as with any
# layer. What each block then keeps is the choice of its estimator, `LogDet(memory=...)`: `Auto()`,
# the default, keeps all where that is little, and else recomputes.

# %%
frugal = small.with_log_det(logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute()))
with tf.GradientTape() as tape:
    value = loss(*frugal.forward_and_log_det(x, seed=0))
got = tape.gradient(value, variables, unconnected_gradients="zero")
print(f"{max(float(tf.norm(a - b)) for a, b in zip(got, want)):.0e}")

# %% [markdown]
# References: Krylov, Karamzade and Fox, *Moonwalk: Inverse-Forward Differentiation* (2024); Gomez et
# al., *The Reversible Residual Network* (2017); Chen et al., *Training Deep Nets with Sublinear Memory
# Cost* (2016); Baydin et al., *Gradients without Backpropagation* (2022).
