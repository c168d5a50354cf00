# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Choosing what a training step keeps
#
# Back-propagation needs what the forward pass computed. For a deep flow that is most of the memory.
# `FlowModel(..., autodiff=...)` chooses what is kept between the passes; numbers and gradients are
# the same whatever you choose.
#
# | | keeps | costs |
# |---|---|---|
# | `Recomputed()`, the default | the input of each block | one more evaluation of each branch |
# | `Stored()` | all activations | the least arithmetic, the most memory |
# | `Released()` | activations of the branch; the log-determinant's gradient is found in the forward pass | the way of the paper |

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfresflow
from bijectors.flows import image_flow
from tfresflow import FlowModel, autodiff, logdet

tfresflow.threads.prepare()
keras.utils.set_random_seed(0)
images = tf.random.stateless_uniform([64, 28, 28, 1], [0, 0])


def flow(depth):
    return image_flow([28, 28, 1], nblocks=(depth,), idim=32, fc_end=False, squeeze_first=True,
                      log_det=logdet.LogDet(logdet.Truncated(6)), seed=0)


# %% [markdown]
# ## The same gradient
#
# `autodiff.gradients` is what `FlowModel` uses, for loops of your own. It takes any loss of $z$ and
# of the log-determinant. Three strategies and TensorFlow's own tape agree:


# %%
def loss(z, log_det):
    return tf.reduce_mean(0.5 * tf.reduce_sum(z ** 2, axis=1) - log_det)


small = flow(2)
with tf.GradientTape() as tape:
    tape.watch(images)
    value = loss(*small.forward_and_log_det(images, seed=0))
want = tape.gradient(value, images)
for way in [autodiff.Recomputed(), autodiff.Stored(), autodiff.Released()]:
    _, _, got = autodiff.gradients(small, loss, images, seed=0, autodiff=way)
    print(type(way).__name__, f"{float(tf.norm(got - want) / tf.norm(want)):.0e}")

# %% [markdown]
# ## What each takes
#
# TensorFlow counts the memory of an accelerator, and the larger tensors of a CPU where oneDNN is
# on. We measure the peak of one step at two depths.


# %%
def measure(way, depth):
    """Peak memory in MB above what is there before, and seconds a step."""
    model = FlowModel(flow(depth), autodiff=way)
    model.compile(keras.optimizers.SGD(1e-4))
    model.initialize(images)
    model.train_on_batch(images)
    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    seconds = []
    for _ in range(3):
        tf.config.experimental.reset_memory_stats(device)
        before = tf.config.experimental.get_memory_info(device)["current"]
        start = time.monotonic()
        model.train_on_batch(images)
        seconds.append(time.monotonic() - start)
    peak = tf.config.experimental.get_memory_info(device)["peak"] - before
    return peak / 2 ** 20, min(seconds)


ways = [autodiff.Recomputed(), autodiff.Stored(), autodiff.Released()]
depths = [2, 6]
found = {type(way).__name__: np.array([measure(way, depth) for depth in depths]) for way in ways}

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
for name, values in found.items():
    axes[0].plot(depths, values[:, 0], "o-", label=name)
    axes[1].plot(depths, values[:, 1], "o-", label=name)
    print(f"{name:<11} {np.diff(values[:, 0])[0] / 4:5.2f} MB and "
          f"{1e3 * np.diff(values[:, 1])[0] / 4:4.0f} ms for each further block")
for axis, label in zip(axes, ["peak memory of a step, MB", "seconds a step"]):
    axis.set_xlabel("blocks")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
axes[0].legend()
plt.show()

# %% [markdown]
# On a CPU the default is often faster as well, as it takes a block through in chunks that fit the
# cache.
#
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
frugal = small.with_log_det(logdet.LogDet(logdet.Truncated(6), memory=logdet.Recompute()))
with tf.GradientTape() as tape:
    tape.watch(images)
    value = loss(*frugal.forward_and_log_det(images, seed=0))
print(f"{float(tf.norm(tape.gradient(value, images) - want) / tf.norm(want)):.0e}")
