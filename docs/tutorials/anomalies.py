# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Anomalies, as scikit-learn has them
#
# `FlowDensity` is a residual flow as an estimator of scikit-learn: a density, and an outlier detector.
# It takes tables as they are, arrays or DataFrames: it scales columns, adds noise to whole numbers
# and categories, holds rows out, and stops in time.
#
# Our table has 178 wines of three growers, 13 measurements each. We fit the density of the wines of two
# growers; those of the third are what should look strange.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from bijectors.density import FlowDensity

table = load_wine(as_frame=True)
wines, grower = table.data, table.target
train, test = train_test_split(wines[grower > 0], test_size=0.4, random_state=0)
strange = wines[grower == 0]
density = FlowDensity(contamination=0.05, random_state=0).fit(train)
print(f"stopped after {density.n_steps_} steps")

# %% [markdown]
# ## Scores
#
# `score_samples` gives $\log p(\text{row})$ in nats, in the units of the table; `score` is their mean.
# Two columns of this table, magnesium and proline, are whole numbers. Of these the score is a
# probability: the mean of the density over noise that fills each step.

# %%
scores = {"two growers, not seen in fit": density.score_samples(test),
          "the third": density.score_samples(strange)}
figure, axis = plt.subplots(figsize=(7, 3))
for label, values in scores.items():
    axis.hist(values, bins=np.linspace(-70, 0, 50), alpha=0.6, label=label)
axis.set_xlabel("log p(row), nats")
axis.set_ylabel("wines")
axis.legend()
plt.show()

truth = np.repeat([0, 1], [len(test), len(strange)])
print(f"area under the ROC curve: {roc_auc_score(truth, -np.concatenate([*scores.values()])):.3f}")

# %% [markdown]
# ## Outliers
#
# `predict` says -1 of rows that are less likely than a share of the training rows, `contamination`;
# `decision_function` says by how many nats.

# %%
for label, rows in (("training", train), ("two growers, not seen in fit", test), ("the third", strange)):
    print(f"{label}: {np.mean(density.predict(rows) == -1):.0%} outliers")

# %% [markdown]
# ## Samples
#
# `sample` draws a table with the columns and types of the one in `fit`. Whole numbers stay whole.

# %%
density.sample(5, random_state=0).round(2)

# %% [markdown]
# ## Categories
#
# A column of words, or of the type `category`, is one of categories; its part of the score is a
# probability. So a density of measurements *and* grower is a classifier: $p(\text{grower} \mid x)$ is
# proportional to $p(x, \text{grower})$.

# %%
names = np.array(["Ada", "Bea", "Cid"])
whole = wines[["alcohol", "flavanoids", "color_intensity", "hue"]].assign(grower=names[grower])
known, new = train_test_split(whole, test_size=0.4, random_state=0, stratify=whole["grower"])
joint = FlowDensity(draws=32, random_state=0).fit(known)
log_p = np.stack([joint.score_samples(new.assign(grower=name)) for name in names], axis=1)
found = names[log_p.argmax(axis=1)]
print(f"right: {np.mean(found == new['grower']):.0%} of {len(new)} wines")
posterior = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
pd.DataFrame(posterior, columns=names, index=new.index).assign(truth=new["grower"]).head().round(3)

# %% [markdown]
# A table with other columns, or a category that `fit` has not seen, is refused by name.

# %%
try:
    joint.score_samples(new.assign(grower="Dan"))
except ValueError as error:
    print(error)

# %% [markdown]
# ## In a search
#
# The estimator can be cloned and pickled, and has parameters that a search may set. `noise` is the one
# to look at first: the standard deviation of the noise on the training rows, in those of the columns.
# What is most likely on held-out rows need not find anomalies best: the default is what found most in
# a [comparison](../guides/anomalies.md) over 14 tables.

# %%
from sklearn.model_selection import GridSearchCV

search = GridSearchCV(FlowDensity(nblocks=2, max_steps=100, random_state=0),
                      {"noise": [0.1, 1.0]}, cv=2).fit(train)
pd.DataFrame(search.cv_results_)[["param_noise", "mean_test_score"]]
