# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An unbiased log-determinant
#
# The density needs $\log|\det(I + J)|$, $J = dg/dx$. For $D$ dimensions the matrix is $D \times D$
# and cannot be formed for images. As $\|J\| < 1$, there is a series,
#
# $$\log\det(I + J) = \sum_{k=1}^\infty \frac{(-1)^{k+1}}{k} \operatorname{tr} J^k ,$$
#
# and the trace of a matrix that we can multiply with is estimated by a random vector $v$ with
# independent entries of variance 1, as $E[v^T A v] = \operatorname{tr} A$: a *probe*. Each term
# costs one more product $v^T J$, which back-propagation gives without forming $J$.

# %% tags=["remove-stderr"]
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from bijectors import InvertibleResidual
from tfresflow import layers, logdet

keras.utils.set_random_seed(0)
g = keras.Sequential([layers.InducedNormDense(64, 0.97, dtype="float64"),
                      layers.LipSwish(dtype="float64"),
                      layers.InducedNormDense(3, 0.97, dtype="float64")])
block = InvertibleResidual(g, [3], logdet.Exact())
for layer in block.layers:
    for v in layer.trainable_variables:
        v.assign(4 * v)
block.update_norms()
x = tf.random.stateless_normal([1, 3], [1, 2], dtype=tf.float64)
exact = float(block.forward_and_log_det(x)[1][0])
print(f"exact: {exact:.5f} nats")

# %% [markdown]
# ## Cut, or cut at random
#
# To stop after n terms is *biased*: the same rest is missing in every estimate. Training then finds
# weights for which that rest is large, and reports likelihoods that are not real.
#
# The way out (*Russian roulette*): draw the number of terms n at random and divide term k by the
# probability $P(n \ge k)$ that it is computed. In expectation each term counts once. `Poisson` and
# `Geometric` are such distributions; the first `n_exact` terms are always there.
#
# We take many probes and numbers of terms for one x and look at the mean.

# %%
rules = {f"Truncated({n})": logdet.Truncated(n) for n in (1, 2, 4, 8)}
rules |= {"Geometric(0.5)": logdet.Geometric(0.5), "Poisson(2, n_exact=2)": logdet.Poisson(2.0, 2)}
rows = tf.repeat(x, 200, axis=0)
names, means, errors = [], [], []
for name, rule in rules.items():
    estimator = logdet.LogDet(rule)
    draws = np.concatenate([estimator(g, rows, seed=seed)[1] for seed in range(40)])
    names.append(name)
    means.append(draws.mean())
    # Rows of a batch share the number of terms: the means of batches are what is independent.
    errors.append(draws.reshape(40, 200).mean(axis=1).std() / 40 ** 0.5)
    print(f"{name:<22} {means[-1]:.4f} +- {errors[-1]:.4f}, one estimate +- {draws.std():.3f}")

figure, axis = plt.subplots(figsize=(7, 3))
axis.errorbar(names, means, 2 * np.array(errors), fmt="o", capsize=4)
axis.axhline(exact, color="gray", linestyle=":", label="exact")
axis.tick_params(axis="x", labelrotation=20)
axis.set_ylabel("log det, nats")
axis.legend()
plt.show()

# %% [markdown]
# Truncated estimates miss the line, by more than their error bars of two standard errors; the
# random ones do not.
#
# ## What to choose
#
# | for | take |
# |---|---|
# | training | `LogDet()`: `Poisson(2, n_exact=2)`, one probe |
# | evaluation of images | `LogDet(Poisson(2, n_exact=20))`: the roulette rarely matters, small variance |
# | a few dimensions | `Exact()`: the determinant itself |
# | gradients that must be repeatable | `LogDet(Truncated(n))`, with n for the tolerance that you need: after n terms less than $D L^{n+1} / ((n+1)(1-L))$ is missing |
#
# ## Its gradient
#
# `gradient=Neumann()`, the default, is the gradient of the log-determinant itself,
# $\operatorname{tr}((I+J)^{-1} dJ)$, estimated by its own series: its memory does not grow with the
# number of terms. `Series()` differentiates the terms. Values are the same in both.
#
# References: Chen et al. (2019), section 3 and equations 6 to 8; Kahn (1955) for the roulette;
# Hutchinson (1990) and Skilling (1989) for the trace.
