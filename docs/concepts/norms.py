# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Norms from p to q, and what certified means
#
# The *induced norm* of a matrix, from the p-norm to the q-norm, is the largest stretch:
#
# $$\|W\|_{p \to q} = \max_{x \ne 0} \frac{\|W x\|_q}{\|x\|_p} .$$
#
# $\|W\|_{2 \to 2}$ is the largest singular value. Each layer of bounded norm keeps $\|W\|_{p \to q}
# \le$ `coeff` by dividing its kernel by the norm, where that is larger. The Lipschitz constant of a
# branch whose layers go $2 \to p_1 \to p_2 \to 2$ is then at most the product: the orders in
# between may be anything, as long as each layer begins where the one before ended. They may be
# learned.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from bijectors import norm_report
from bijectors.flows import toy_flow
from tfresflow import FlowModel, layers

keras.utils.set_random_seed(0)
W = np.array([[1.0, 0.4], [-0.3, 0.8]])
angles = np.linspace(0, 2 * np.pi, 400)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, p in zip(axes, [1.0, 2.0, np.inf]):
    circle = np.stack([np.cos(angles), np.sin(angles)])
    ball = circle / np.linalg.norm(circle, p, axis=0)
    image = W @ ball
    longest = image[:, np.linalg.norm(image, p, axis=0).argmax()]
    axis.plot(*ball, color="gray", label=f"||x|| = 1, p = {p:g}")
    axis.plot(*image, label=f"W x; largest norm {np.linalg.norm(longest, p):.2f}")
    axis.plot(*longest, "o")
    axis.set_aspect("equal")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()

# %% [markdown]
# ## How they are found
#
# | orders | how |
# |---|---|
# | p = 1, or q = infinity | in closed form: the largest norm of a column, or of a row |
# | p = q = 2, convolutions with `padding="circular"` | exactly: on a torus the convolution is a matrix of channels at each frequency, and the norm is the largest of theirs |
# | all others | power iteration, from the vectors that the last step left, after each training step |
#
# For a convolution it is the norm of the convolution as an operator on images, not that of its
# kernel as a matrix.
#
# Power iteration comes from below: stopped early, it gives less than the norm. So a layer that is
# divided by it might be a little too steep. Two things answer that.
#
# ## Measured and certified
#
# `norm_report` lists two numbers for each layer: *measured*, by power iteration from fresh starts,
# and *bound*, which is proven: singular values for $2 \to 2$ (of the matrix, or by Gram iteration
# for convolutions), closed forms, and for the orders in between the Riesz-Thorin theorem or a
# scaling of rows and columns. With `certified=True`, the default, training keeps a bound of this
# kind below 0.99 as well (a quick one, so that the table may show a little more). A flow all of
# whose branches have a bound below 1 is *certified invertible*: that is a proof, up to rounding.

# %%
flow = toy_flow(nblocks=2, dims=(16, 16), act=layers.CLipSwish, seed=0,
                orders=[2, layers.LearnedOrder(1.5, 2.5), layers.LearnedOrder(1.5, 2.5)])
model = FlowModel(flow)
model.compile(keras.optimizers.Adam(1e-2))
x = tf.random.stateless_normal([2000, 2], [0, 0]) ** 3
model.fit(x, batch_size=200, epochs=10, verbose=0)
print(norm_report(flow))

# %% [markdown]
# The columns p and q show where the learned orders have gone. `coeff` bounds each *measured* norm,
# to the tolerance of power iteration; the verdict is about bounds.
#
# ## Activations
#
# An activation acts on each entry (or sorts a few), with slope at most 1: no p-norm of a difference
# grows. `CLipSwish` concatenates LipSwish of $h$ and of $-h$, and divides by the largest slope of
# the pair, so that less of the bound is wasted; `CPila` does so with an activation that is the
# identity above 0 and has its bend below. A good activation has a second derivative where its
# slope is near 1, as the gradient of the log-determinant goes through it: ReLU has none.
#
# It should bend where its inputs are. A layer of norm 1 with 64 outputs gives each of them an
# eighth of $x$ or so, and there a sine is nearly a straight line. $f(w h) / w$ has the same slopes
# with its bend elsewhere: `Sin(frequency=5)`, `Tanh` and `LipSwish` begin with w = 5 and learn it.
# Four blocks of a field on 4 x 4 sites have an effective sample size of 0.12 after a minute of
# training by plain sines, of 0.98 by these.
#
# References: Chen et al. (2019), section 2.4 and appendix; Perugachi-Diaz et al., *Invertible
# DenseNets* (2021); Gouk et al. (2018).
