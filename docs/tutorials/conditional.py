# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Conditional densities: inference from simulations, images of a class
#
# A conditional flow is a density $p(x \mid c)$ for each context $c$: a flow of $x$ that is another
# one for each $c$. Contexts are numbers, labels, images, or whatever else a Keras network makes
# vectors of.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.stats import binom
from sklearn.datasets import load_digits

import tfresflow
from bijectors import distribution, norm_report
from bijectors.flows import image_flow, tabular_flow
from tfresflow import FlowModel, logdet, optimizers

tfresflow.threads.prepare()
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Parameters from an observation
#
# A simulator draws an observation $y$ for parameters $\theta$, but nobody can write down
# $p(y \mid \theta)$. We want the posterior $p(\theta \mid y)$, and can have as many pairs
# $(\theta, y)$ as we like: $\theta$ from the prior, $y$ from the simulator. A flow of $\theta$ with
# the context $y$, fitted to such pairs by maximum likelihood, becomes the posterior, for all
# observations at once.
#
# The *two moons* are a common test: given $y$, the parameters lie on one of two thin crescents.


# %%
def moon(count, random):
    """Points `[N, 2]` on a crescent."""
    angle, radius = random.uniform(-np.pi / 2, np.pi / 2, count), random.normal(0.1, 0.01, count)
    return np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], axis=1)


def simulate(count, seed):
    """`(theta, y)`, `[N, 2]` both; theta is uniform on a square."""
    random = np.random.default_rng(seed)
    theta = random.uniform(-1, 1, [count, 2])
    first, second = theta.T
    place = np.stack([-abs(first + second), second - first], axis=1) / 2 ** 0.5
    return theta, moon(count, random) + place


# %% [markdown]
# What a `FlowModel` takes for data is now a pair, `(x, context)`; a dictionary with the keys `x`
# and `context`, two DataFrames or a `tf.data` pipeline of such batches would do as well. The
# `context_network` is trained with the flow.

# %%
network = keras.Sequential([keras.layers.Dense(32, "silu"), keras.layers.Dense(32, "silu"),
                            keras.layers.Dense(16)])
flow = tabular_flow(2, nblocks=8, dims=(32, 32), act="sin", coeff=0.98, context_shape=2,
                    context_network=network, context_gates=True, seed=0)
model = FlowModel(flow)
theta, y = simulate(50_000, seed=0)
epochs, batch_size = 15, 500
rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * len(theta) // batch_size)
model.compile(optimizers.Adam(rate, global_clipnorm=1.0))
model.fit((theta, y), batch_size=batch_size, epochs=epochs, verbose=0)
print("-log p(theta | y), nats:", model.evaluate(simulate(2000, 1), verbose=0, return_dict=True))

# %% [markdown]
# `sample` and `log_prob` of the model take `context=`. `distribution` gives the same posterior as
# TensorFlow Probability knows it; for several contexts it is a batch of distributions. To draw from
# the true posterior, we solve the simulator's equations for $\theta$.

# %%
observed = np.array([0.0, 0.0])
draws = model.sample(2000, seed=0, context=observed)

random = np.random.default_rng(1)
along, across = (moon(6000, random) - observed).T * [[1], [-1]]
along = along * random.choice([-1, 1], 6000)
truth = np.stack([along - across, along + across], axis=1) / 2 ** 0.5

posterior = distribution(flow.with_log_det(logdet.Exact()), observed)
side = np.linspace(-0.5, 0.5, 200, dtype="float32")
points = np.stack(np.meshgrid(side, side), axis=-1)
density = np.exp(posterior.log_prob(points))

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharex=True, sharey=True)
axes[0].plot(*truth[:2000].T, ".", markersize=1)
axes[0].set_title("draws of the true posterior")
axes[1].plot(*draws.numpy().T, ".", markersize=1)
axes[1].set_title("draws of the flow")
axes[2].imshow(density, extent=2 * (-0.5, 0.5), origin="lower", vmax=np.quantile(density, 0.995))
axes[2].set_title("density of the flow")
for axis in axes:
    axis.set_aspect("equal")
plt.show()

# %% [markdown]
# The bridge between the crescents is no accident: a flow is continuous and cannot tear the plane,
# so some of its mass stays there. More training makes it thinner.
#
# ## Is it calibrated?
#
# With an unknown posterior there is nothing to compare with, but there is a test: *simulation-based
# calibration*. Draw $\theta$ and $y$ from the simulator, then some parameters from the flow given
# $y$. If the flow is the posterior, the true $\theta$ is one of them like any other, and its rank
# among them is uniform. A hump in the middle says that the posterior is too wide, two at the ends
# that it is too narrow, a slope that it is biased. `sample` draws for all contexts at once.

# %%
theta, y = simulate(1000, seed=2)
draws = model.sample(39, seed=0, context=y)                    # [39, 1000, 2]
ranks = np.sum(draws < theta.astype("float32"), axis=0)        # 0 to 39
low, high = binom.interval(0.99, len(ranks), 1 / 20)

figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for axis, rank, name in zip(axes, ranks.T, ["first", "second"]):
    axis.hist(rank, bins=np.arange(0, 41, 2) - 0.5)
    axis.axhspan(low, high, color="gray", alpha=0.3, label="99% of uniform ranks")
    axis.set_title(f"{name} parameter")
    axis.set_xlabel("rank of the truth among 39 draws")
axes[0].set_ylabel("simulations")
axes[0].legend(loc="lower center")
plt.show()
for share in (0.5, 0.9):
    inside = np.abs(ranks - 19.5) < 20 * share
    print(f"central {share:.0%} of the posterior: the truth is inside in {inside.mean():.1%} "
          f"+- {(share * (1 - share) / inside.size) ** 0.5:.1%}")

# %% [markdown]
# The bridge costs a little: it takes mass from the crescents, and the central half of the draws
# holds the truth somewhat less often than it says.
#
# ## Where the context enters
#
# A block is $z = x + g(x; c)$. It inverts for every $c$ if $\operatorname{Lip}(g) < 1$ in $x$, for
# every $c$; how steep $g$ is in $c$ does not matter. So the context may do to a hidden layer what
# does not stretch $x$: move it, by as much as it likes, and shrink it. That is what a `FiLM` layer
# does before each activation,
#
# $$h \;\to\; \tanh(V c + v)\, h + U c,$$
#
# with free $U$, $V$ and $v$ (the factor only with `context_gates=True`, as above). Its Lipschitz
# constant is at most 1 whatever $c$ is, and the product over the layers of $g$ is what it was
# without a context. The shift and the log of the scale of an ActNorm have a linear function of $c$
# added: it is invertible for any scale. The report is of all contexts at once.

# %%
print(norm_report(flow).verdict())

# %% [markdown]
# ## Images of a class
#
# A label is a context of shape `[]`, and a Keras `Embedding` makes a vector of it. Else all is as
# with [images without labels](images.py).

# %%
images, labels = load_digits(return_X_y=True)
images, labels = np.minimum(images, 15).reshape(-1, 8, 8, 1).astype("float32"), labels.astype(int)
train, test = slice(0, 1500), slice(1500, None)


def noisy(image, label):
    return (image + tf.random.uniform(tf.shape(image))) / 16, label


data = tf.data.Dataset.from_tensor_slices((images[train], labels[train]))
data = data.shuffle(1500, seed=0).map(noisy).batch(60)

flow = image_flow([8, 8, 1], nblocks=(2, 2), idim=24, fc_idim=32, n_fc_blocks=2, coeff=0.95,
                  context_shape=[], context_network=keras.layers.Embedding(10, 16), seed=0)
digits = FlowModel(flow, nbits=4)
epochs = 14
rate = keras.optimizers.schedules.CosineDecay(
    0.0, epochs * len(data), warmup_target=4e-3, warmup_steps=50)
digits.compile(optimizers.Adam(rate, global_clipnorm=1.0))
digits.fit(data, epochs=epochs, shuffle=False, verbose=0)
unseen, classes = noisy(images[test], labels[test])
print(digits.evaluate((unseen, classes), batch_size=99, return_dict=True, verbose=0))

# %% [markdown]
# Samples for all ten labels: `[12, 10, 8, 8, 1]`.

# %%
samples = digits.sample(12, seed=0, context=np.arange(10)).numpy()
figure, axes = plt.subplots(10, 12, figsize=(6, 5))
for axis, image in zip(axes.flat, samples.swapaxes(0, 1).reshape(-1, 8, 8).clip(0, 1)):
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()
figure.suptitle("samples, a row for each class")
plt.show()

# %% [markdown]
# By Bayes' rule, densities of an image given each class are a classifier, though nobody asked for
# one: $p(c \mid x) \propto p(x \mid c)$ for classes that are equally frequent.

# %%
few = unseen[:100]
scores = np.stack([digits.log_prob(few, context=c) for c in range(10)])
print(f"right labels: {np.mean(scores.argmax(axis=0) == classes[:100]):.0%}")

# %% [markdown]
# From the command line: `--conditional` with the labels of `digits`, `mnist5k`, `mnist`, `cifar10`, of
# a folder of images, an array or a table, and `--context_columns=NAMES` for columns of a table. For
# tables in Python, [`FlowDensity(context=)`](tables.py) encodes numbers and categories by itself.
#
# References: Perez et al., *FiLM: visual reasoning with a general conditioning layer* (2018);
# Talts et al., *Validating Bayesian inference algorithms with simulation-based calibration* (2018);
# Greenberg et al., *Automatic posterior transformation for likelihood-free inference* (2019), for
# the two moons.
