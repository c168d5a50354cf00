# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How sure is a score?
#
# A test score has three sources of error, and `metrics.json` of the command line reports them apart.
#
# - **The data**: another test set of the same size would have another mean. Standard error: the
#   standard deviation of the rows' $\log p$ over the square root of their number.
# - **The probes**: the log-determinant of each row is an estimate. Another seed gives another one.
# - **Truncation**: what the estimate of one probe may be off by. With `logdet.Bracket` (`--tolerance`)
#   it is proven; of an unbiased series it is zero on average, which says less than it seems:
#   [](log_determinant.py).
#
# A score without them says little. We look at the first two; rows of up to 64 numbers have exact
# log-determinants in evaluation, so here we ask for estimates.

# %%
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import make_swiss_roll

from bijectors.flows import tabular_flow
from tfresflow import FlowModel, logdet

keras.utils.set_random_seed(0)
rows = make_swiss_roll(3000, noise=0.5, random_state=0)[0].astype("float32")
train, test = rows[:2000], rows[2000:]

model = FlowModel(tabular_flow(3, nblocks=6, dims=(32, 32), coeff=0.95, act="sin", seed=0),
                  eval_log_det=logdet.LogDet())
model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=1.0))
model.fit(train, batch_size=100, epochs=15, verbose=0)

estimates = np.stack([model.log_prob(test, seed=seed) for seed in range(20)])     # [seeds, rows]
of_data = estimates[0].std() / len(test) ** 0.5
of_probes = estimates.mean(axis=1).std()
exact = model.flow.with_log_det(logdet.Exact())
z, log_det = exact.forward_and_log_det(test)
truth = float(tf.reduce_mean(model.base.log_prob(z) + log_det))
print(f"-log p, one estimate for each row: {-estimates[0].mean():.3f} +- {of_data:.3f} (data) "
      f"+- {of_probes:.3f} (probes)")
print(f"-log p, exact:                     {-truth:.3f}")
print(f"mean of 20 estimates:              {-estimates.mean():.3f} +- {of_probes / 20 ** 0.5:.3f}")

# %% [markdown]
# The error of the probes is larger than independent estimates of a thousand rows would have: the
# rows of a batch share the random number of terms. It can be made small, at a price: more probes
# (`num_probes`), a smaller `threshold` of `Adaptive`, or the exact determinant where the dimension
# allows. That of the data cannot.
#
# ## Comparing two models
#
# Two scores on the *same* test rows are better compared row by row: the standard error of the mean
# *difference* is often much smaller than that of each score, as rows that are hard for one are hard
# for both.

# %%
other = FlowModel(tabular_flow(3, nblocks=6, dims=(32, 32), coeff=0.95, seed=0))     # LipSwish
other.compile(keras.optimizers.Adam(3e-3, global_clipnorm=1.0))
other.fit(train, batch_size=100, epochs=15, verbose=0)
difference = model.log_prob(test, seed=0) - other.log_prob(test, seed=0)
print(f"sin is better by {np.mean(difference):.3f} +- {np.std(difference) / len(test) ** 0.5:.3f} nats")

# %% [markdown]
# ## Outliers of the estimate
#
# With `Poisson` the roulette has infinite variance: a rare long series has a large weight. `n_exact`
# makes that rarer; where blocks contract steeply it only hides it. `Geometric(p)` has finite variance
# where $L^2 < 1 - p$, `Adaptive` for every contraction.
