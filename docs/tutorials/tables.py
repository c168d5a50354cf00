# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tables: a density of rows, and which rows are strange
#
# The breast cancer data of scikit-learn has 569 rows: 30 measurements of cells, from benign and
# malignant tissue. We fit the density of benign rows alone. A row that this density finds unlikely
# is an *anomaly*; here we know the truth, and can count how many of the malignant rows are found.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from bijectors.flows import tabular_flow
from tfresflow import FlowModel, logdet

keras.utils.set_random_seed(0)

table = load_breast_cancer(as_frame=True)
columns = ["mean radius", "mean texture", "mean smoothness", "mean compactness", "mean concavity",
           "mean symmetry"]
frame, benign = table.data[columns], table.target == 1
train, test = train_test_split(frame[benign], test_size=0.3, random_state=0)
strange = frame[~benign]
frame.describe().loc[["mean", "std", "min", "max"]].round(3)

# %% [markdown]
# ## Fit
#
# Columns have units of their own. `tabular_flow` begins with an ActNorm, which `fit` sets from the
# data so that each column has mean 0 and variance 1: you need not standardise. A DataFrame is taken
# as it is.
#
# With few rows a flow overfits. We validate after each epoch, stop when it gets no better, and keep
# the best weights; Keras's own callbacks do that.

# %%
flow = tabular_flow(len(columns), nblocks=4, dims=(32, 32), coeff=0.9, seed=0)
model = FlowModel(flow, eval_log_det=logdet.Exact())
model.compile(keras.optimizers.AdamW(3e-3, weight_decay=1e-2, global_clipnorm=1.0))
history = model.fit(train, batch_size=50, epochs=50, validation_split=0.2, verbose=0, callbacks=[
    keras.callbacks.EarlyStopping("val_nll", patience=8, restore_best_weights=True)])
nll = model.evaluate(test, verbose=0, return_dict=True)["nll"]

# %% [markdown]
# Is the score good? A Gaussian with the mean and covariance of the training rows is the simplest
# density that knows about correlations.

# %%
mean, covariance = train.mean(), train.cov()
d = (test - mean).to_numpy()
gaussian = 0.5 * (np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
                  + np.linalg.slogdet(2 * np.pi * covariance)[1]).mean()
print(f"-log p(row) of benign test rows: Gaussian {gaussian:.2f}, flow {nll:.2f} nats")

# %% [markdown]
# Nats of two models can be compared if both are of the same columns in the same units. They may be
# negative: a density is not a probability.
#
# ## Score rows
#
# `predict` gives $\log p(x)$ of each row. With six columns the exact determinant is cheap, so we
# have asked for it outside of training (`eval_log_det`). With the default, an estimate, a score
# would have some noise: fine for a mean over rows, not for a single one.

# %%
score = {"benign, not seen in training": model.predict(test, verbose=0),
         "malignant": model.predict(strange, verbose=0)}
figure, axis = plt.subplots(figsize=(7, 3))
for label, values in score.items():
    axis.hist(values.clip(-30), bins=np.linspace(-30, 20, 60), alpha=0.6, label=label)
axis.set_xlabel("log p(row), nats (smaller ones at -30)")
axis.set_ylabel("rows")
axis.legend()
plt.show()

truth = np.repeat([0, 1], [len(test), len(strange)])
found = roc_auc_score(truth, -np.concatenate(list(score.values())))
limit = np.quantile(model.predict(train, verbose=0), 0.05)
print(f"area under the ROC curve: {found:.3f}")
print(f"below what 5% of the training rows have: {np.mean(score['malignant'] < limit):.0%} of "
      f"malignant rows, {np.mean(score['benign, not seen in training'] < limit):.0%} of benign ones")

# %% [markdown]
# ## Columns that cannot be negative
#
# The flow above gives some density to negative concavities. `supports` says what a column can be:
# the density is then 0 outside, and samples lie inside.

# %%
supports = {column: "positive" for column in range(6) if column != 4}   # concavity is 0 in some rows
bounded = FlowModel(tabular_flow(6, nblocks=4, dims=(32, 32), coeff=0.9, supports=supports, seed=0),
                    eval_log_det=logdet.Exact())
bounded.compile(keras.optimizers.AdamW(3e-3, weight_decay=1e-2, global_clipnorm=1.0))
bounded.fit(train, batch_size=50, epochs=50, validation_split=0.2, verbose=0, callbacks=[
    keras.callbacks.EarlyStopping("val_nll", patience=8, restore_best_weights=True)])
samples = bounded.sample(2000, seed=0).numpy()
print("smallest sampled value of each column:", samples.min(axis=0).round(3))
print("log density of a negative radius:", bounded.log_prob(-test[:1]).numpy())

# %% [markdown]
# ## Some columns given others
#
# `FlowDensity(context=)` names columns that are a context: the density is that of the other columns
# given these, for each row at its own. A row can then be an outlier given its context where each of
# its numbers is an ordinary one. Numbers of a context are scaled, categories become one-hot.

# %%
import pandas as pd

from bijectors.density import FlowDensity

some = train[["mean radius", "mean smoothness", "mean compactness"]]
given = FlowDensity(nblocks=2, dims=(32,), noise=0.1, random_state=0, context="mean radius").fit(some)
row = some[:1]
print(row.iloc[0].to_dict(), "log p of the others given the radius:", given.score_samples(row).round(2))
print("given a radius of 18:", given.score_samples(row.assign(**{"mean radius": 18.0})).round(2))
print(given.sample(2, random_state=0, context=pd.DataFrame({"mean radius": [9.0, 14.0]})).round(3))

# %% [markdown]
# ## From the command line
#
# The command line reads csv and npz files, standardises with the training rows, and writes samples
# in the units of the file.

# %%
import pathlib
import subprocess
import sys
import tempfile

from train import checkpoints, flags
from train.data.trained import load_trained

folder = pathlib.Path(tempfile.mkdtemp())
train.to_csv(folder / "benign.csv", index=False)


def tfresflow(*arguments):
    command = [sys.executable, "-m", "tfresflow", *arguments, f"--workdir={folder / 'run'}"]
    print(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)


tfresflow("train", "--data=csv", f"--dataroot={folder / 'benign.csv'}", "--nblocks=2", "--dims=16",
          "--niters=100", "--val_every=50", "--batchsize=50", "--lr=3e-3", "--warmup_iters=20")
print((folder / "run" / "samples.csv").read_text()[:300])

# %% [markdown]
# The trained model can be loaded into Python, here to score each row of another table. The model is
# of standardised rows; the scaler says of which.

# %%
settings = flags.parse(["", "eval", f"--workdir={folder / 'run'}", "--exact"])
scaler = load_trained(settings).scaler
with checkpoints.loaded(settings) as run:
    scores = run.predict(scaler.standardised(strange.to_numpy()), verbose=0)
print("the strangest rows:", strange.index[np.argsort(scores)[:5]].tolist())
