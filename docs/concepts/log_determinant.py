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

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from tfresflow import logdet

# A linear branch, whose log-determinant is known, with a norm of 0.9.
W = np.array([[0.8, 0.5, 0.1], [-0.4, 0.7, 0.3], [0.2, -0.2, 0.9]])
W = 0.9 * W / np.linalg.norm(W, 2)
exact = np.linalg.slogdet(np.eye(3) + W)[1]
print(f"exact: {exact:.4f} nats")


def g(x):
    return x @ W


# %% [markdown]
# ## Cut, or cut at random
#
# To stop after n terms is *biased*: the same rest is missing in every estimate. Training then finds
# weights for which that rest is large, and reports likelihoods that are not real.
#
# The way out (*Russian roulette*): draw the number of terms n at random and divide term k by the
# probability $P(n \ge k)$ that it is computed. In expectation each term counts once. `Poisson` and
# `Geometric` are such distributions; the first `n_exact` terms are always there. `Adaptive`, the
# default, looks at the terms: they are certain until they are small.
#
# We take many probes and numbers of terms, and look at the mean.

# %%
rows, draws = tf.zeros([1000, 3], tf.float64), 300
rules = {f"Truncated({n})": logdet.Truncated(n) for n in (1, 2, 4, 8)}
rules |= {"Geometric(0.1)": logdet.Geometric(0.1),
          "Poisson(2, n_exact=8)": logdet.Poisson(2.0, 8), "Adaptive()": logdet.Adaptive()}
names, means, errors = [], [], []
for name, rule in rules.items():
    estimator = logdet.LogDet(rule)
    estimate = tf.function(lambda seed: estimator(g, rows, seed=seed)[1], autograph=False)
    # The rows of a batch share the number of terms: what is independent are the batches.
    found = np.stack([estimate(tf.constant([seed, 0])) for seed in range(draws)])
    names.append(name)
    means.append(found.mean())
    errors.append(found.mean(axis=1).std() / draws ** 0.5)
    print(f"{name:<22} {means[-1]:.4f} +- {errors[-1]:.4f}, one estimate +- {found.std():.2f}")

figure, axis = plt.subplots(figsize=(7, 3))
axis.errorbar(names, means, 2 * np.array(errors), fmt="o", capsize=4)
axis.axhline(exact, color="gray", linestyle=":", label="exact")
axis.tick_params(axis="x", labelrotation=20)
axis.set_ylabel("log det, nats")
axis.legend()
plt.show()

# %% [markdown]
# Estimates that are cut miss the line by more than their error bars of two standard errors (that of
# 4 terms comes near by chance, as the sum swings around its limit); the random ones do not. A single
# estimate is noisy, but training is content with that: of the variance of a step's gradient, probes
# and number of terms make 0.1 to 2 % for images and tables and up to 8 % in the plane
# (`python -m benchmarks.variance`); the rest comes from which rows are in a batch. All rows of a
# batch share the number of terms, so an average over one batch still has the noise of the roulette;
# over batches it falls.
#
# ## What "unbiased" promises, and what it does not
#
# The mean over all draws is right. That says nothing of how many draws it takes to come near it. A
# term of `Poisson` weighs the inverse of a probability that falls as a factorial does, while the
# terms themselves fall as $L^k$ only: the variance is infinite for every $L$. Where a block contracts
# steeply, the mean of thousands of draws is nats too high, and the rare draw that would mend it weighs
# millions. Their standard error knows little of it.


# %%
def steep(x):
    return -0.96 * x


truth = 8 * np.log(0.04)
few = tf.zeros([1, 8], tf.float64)
for name, rule in {"Poisson(2, n_exact=2)": logdet.Poisson(), "Geometric(0.5)": logdet.Geometric(),
                   "Adaptive()": logdet.Adaptive()}.items():
    estimator = logdet.LogDet(rule, probe=logdet.rademacher)
    estimate = tf.function(lambda seed: estimator(steep, few, seed=seed)[1][0], autograph=False)
    found = np.array([estimate(tf.constant([seed, 1])) for seed in range(1000)])
    print(f"{name:<22} off by {found.mean() - truth:+.2f} +- {found.std() / 1000 ** 0.5:.2f} nats")

# %% [markdown]
# `Adaptive` goes on with a probability in proportion to the length of $v^T J^k$, so that no term that
# is drawn weighs more than `threshold` of what the probe alone would: its variance is finite for
# every contraction, and there are as few terms as J lets there be.
#
# ## Bounds instead of trust
#
# For a probe, $v^T \log((I + J)^T (I + J))\, v / 2$ can be bounded from both sides (`Bracket`): Gauss
# quadrature after a few steps of Golub and Kahan's bidiagonalisation is above it, that of Gauss and
# Radau below. What is left is the noise of the probes, which a standard error does describe. `eval`
# of the command line reports both, and the error of the data.

# %%
for steps in (1, 2, 3):
    estimator = logdet.LogDet(logdet.Bracket(max_steps=steps, floor=0.05))
    _, lower, upper = estimator.bounds(g, rows, seed=0)
    print(f"after {steps} steps: {np.mean(lower):.4f} to {np.mean(upper):.4f} "
          f"(exact: {exact:.4f} +- {np.std(upper) / 1000 ** 0.5:.4f} of 1,000 probes)")

# %% [markdown]
# ## What to choose
#
# | for | take |
# |---|---|
# | training | `LogDet()`: `Adaptive()`, one probe of signs, `orthogonal` among small examples |
# | the numbers of the paper | `LogDet(Poisson(2, n_exact=2), probe=normal)` |
# | evaluation of images | `LogDet(Bracket())`: the value lies between proven bounds |
# | a few dimensions | `Exact()`: the determinant itself; `FlowModel` takes it for rows of up to 64 numbers |
# | gradients that must be repeatable | `LogDet(Truncated(n))`, with n for the tolerance that you need: after n terms less than $D L^{n+1} / ((n+1)(1-L))$ is missing |
#
# ## Its gradient
#
# `gradient=Neumann()`, the default, is the gradient of the log-determinant itself,
# $\operatorname{tr}((I+J)^{-1} dJ)$, estimated by its own series: its memory does not grow with the
# number of terms. `Series()` differentiates the terms. Values are the same in both.
#
# References: Chen et al. (2019), section 3 and equations 6 to 8; Kahn (1955) for the roulette;
# Hutchinson (1990) and Skilling (1989) for the trace; Golub and Meurant (2010) for the bounds.
