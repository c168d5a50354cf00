# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why I + g inverts
#
# A residual block computes $z = x + g(x)$. If g changes distances by less than 1 times, $x$ can be
# found again: it is the fixed point of
#
# $$x \leftarrow z - g(x),$$
#
# and by Banach's theorem a map that shrinks all distances by a factor $L < 1$ has exactly one fixed
# point, to which every start converges, with an error that falls at least like $L^k$. The smallest
# such $L$ is the *Lipschitz constant* of g, $\operatorname{Lip}(g)$.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from bijectors import InvertibleResidual
from tfresflow import layers, solvers

keras.utils.set_random_seed(0)
x = tf.random.stateless_normal([200, 2], [0, 0], dtype=tf.float64)

figure, axis = plt.subplots(figsize=(6, 3))
for coeff in [0.5, 0.8, 0.95]:
    g = keras.Sequential([
        layers.InducedNormDense(32, coeff, dtype="float64"), layers.Sin(dtype="float64"),
        layers.InducedNormDense(2, coeff, dtype="float64")])
    block = InvertibleResidual(g, [2])
    for layer in block.layers:                 # random weights are small: stretch them to the bound
        for v in layer.trainable_variables:
            v.assign(6 * v)
    block.update_norms()
    z, guess = block.forward(x), block.forward(x)
    errors = []
    for _ in range(40):
        guess = z - g(guess)
        errors.append(float(tf.reduce_max(tf.norm(guess - x, axis=1))))
    line, = axis.semilogy(errors, label=f"coeff {coeff}: Lip(g) <= {coeff ** 2:.2f}")
    axis.semilogy(errors[0] * coeff ** (2 * np.arange(40)), ":", color=line.get_color())
axis.set_xlabel("step k")
axis.set_ylabel("largest error of x")
axis.set_ylim(bottom=1e-13)
axis.legend()
plt.show()

# %% [markdown]
# Dotted: what the theorem promises. The iteration is faster, as g is rarely stretched to its limit.
#
# ## From layers to the block
#
# The Lipschitz constant of a composition is at most the product of those of its parts. A dense
# layer $W h + b$ has the operator norm of $W$; activations here have slope at most 1. So three
# layers of norm `coeff` make $\operatorname{Lip}(g) \le$ `coeff`$^3 < 1$. [](norms.py) says how the
# norm of a layer is held.
#
# The context of a conditional flow, $x + g(x; c)$, changes nothing of that: it moves and shrinks
# hidden layers, which makes $g$ no steeper in $x$; see [](../tutorials/conditional.py).
#
# ## Who solves
#
# Plain iteration (`Picard`) needs many evaluations if $L$ is near 1. `Anderson`, the default, and
# `Broyden` extrapolate from the steps before. Every example stops by itself, at a tolerance for its
# residual $\|z - g(x) - x\|$; the error of x is at most $1 / (1 - L)$ times that. One that does not
# come to rest raises an error.

# %%
for solver in [solvers.Picard(), solvers.Anderson(), solvers.Broyden()]:
    solution = solver(lambda y: z - g(y), z)
    print(f"{type(solver).__name__:<9} evaluations {int(tf.reduce_max(solution.num_steps)):>3}, "
          f"largest error {float(tf.reduce_max(tf.norm(solution.value - x, axis=1))):.0e}, "
          f"bound {float(tf.reduce_max(solution.error_bound(0.95 ** 2))):.0e}")

# %% [markdown]
# The gradient of the inverse is not that of the steps. The equation $x + g(x) = z$ is
# differentiated, which leaves one linear solve with $I + J^T$: see [](../tutorials/implicit.py).
#
# References: Behrmann et al., *Invertible Residual Networks* (2019); Chen et al., *Residual Flows
# for Invertible Generative Modeling* (2019).
