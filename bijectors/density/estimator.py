"""A residual flow as an estimator of scikit-learn: a density of tables, and their outliers."""

import dataclasses

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from bijectors.density import columns
from bijectors.density.cells import is_frame
from bijectors.density.contexts import context_places, parted
from bijectors.density.fitted import Fitted
from bijectors.density.fitting import Training, distinct, trained
from bijectors.density.parameters import check_parameters
from tfresflow.checks.rules import check, check_whole

__all__ = ["FlowDensity"]


class FlowDensity(OutlierMixin, DensityMixin, BaseEstimator):
    """The density of a table's rows by a residual flow, and which rows are outliers.

    An estimator of scikit-learn: it works in pipelines and searches, can be cloned and pickled, and
    takes arrays of numbers and DataFrames. Columns are scaled inside. Training stops when held-out
    rows become no likelier, and keeps the best weights.

    `score_samples` gives `log p(row)` in nats, in the units of the table:

    - Columns of measured numbers have a density, in one over their unit.
    - Columns of whole numbers k have a probability. A flow is fitted to `k + u`, with u uniform
      in [0, 1), and `P(k) = E[p(k + u)]`, the mean over `draws` values of u. Its logarithm is on
      average too small, by less the more draws there are. u is a function of the row, of the cell's
      column and of the seed of `fit`: a row has the same score in any batch, at any time.
    - Columns of categories (bool, string, object, category) have a probability, too. Category c,
      whose share of the rows is P(c), becomes `probit(F + P(c) u)`, F the share of all before it:
      a standard normal number, whatever the shares. A flow that leaves it as it is says P(c)
      exactly; what it learns is how the categories depend on the other columns.

    So the score of a row with columns of both kinds is a density in the measured ones and a
    probability in the others. Log-determinants are exact; each row takes D vector-Jacobian products
    and `O(D^3)` operations a block, D the number of columns.

    Rows that are equal count once, with the sum of their weights, unless a column has noise u. Then
    the fit does not depend on the order of rows, and a weight of 2 is the row twice.

    With `context` the density is conditional, `log p(other columns | these)`: of rows that are
    improbable given their context `predict` says -1. Numbers of a context are scaled; whole ones
    are one-hot, too, if there are at most 20 of them, and categories are. A context has no density,
    and so may be constant.

    Args:
      nblocks, dims, coeff, act: residual blocks, widths of their hidden layers, bound of the norm
        of each layer in (0, 1), and activation; see `flows.toy_flow`.
      noise: standard deviation of normal noise that is added to the training rows, in standard
        deviations of each column. The density is that of such rows: smoother than that of the
        table. With 0 the score is nearest to log p; the default finds anomalies best.
      learning_rate, weight_decay: of Adam.
      batch_size: rows a training step; fewer, where there are fewer and no column has noise u.
      max_steps: of training.
      validate_every: steps from one look at the held-out rows to the next.
      patience: after how many looks without a likelier result training stops.
      validation_fraction: of the rows that are held out.
      integers: "values": a column of numbers is counted if all in `fit` are whole, whatever their
        type, and if that is one of floats, a number between counts as the nearest whole one later;
        "dtype": if its type is one of integers.
      draws: of u in a score, if there is a column with noise u.
      missing: "error": missing cells are refused; "median": they become the median of their column
        in `fit`; of categories, the median in their order.
      contamination: share of the rows in `fit` that `predict` calls outliers, in (0, 0.5].
      random_state: None, a seed, or a RandomState.
      context: columns that are the context of the others: names of a DataFrame's, indices of an
        array's, one or a list; None: there is none.

    Attributes:
      offset_: `decision_function` is `score_samples` minus this.
      density_: what scores the cells of a table.
      n_steps_: training steps of the weights that are kept.
      n_features_in_: number of columns.
      feature_names_in_: their names, if all are strings.

    Raises:
      ValueError: a parameter, or a cell of the table, is not what it should be; in `fit` and later.

    Example:
      >>> import numpy as np
      >>> from bijectors.density import FlowDensity
      >>> X = np.random.RandomState(0).normal([0, 10], [1, 100], [200, 2])
      >>> density = FlowDensity(nblocks=1, max_steps=40, random_state=0).fit(X)
      >>> density.predict([[0, 10], [8, -900]]).tolist()
      [1, -1]
      >>> density.sample(3, random_state=0).shape
      (3, 2)

      The density of the second column given the first one:

      >>> X[:, 1] += 300 * X[:, 0]
      >>> given = FlowDensity(nblocks=1, max_steps=40, random_state=0, context=[0]).fit(X)
      >>> given.predict([[1, 310], [1, -590]]).tolist()
      [1, -1]
      >>> given.sample(2, random_state=0, context=[[1.0], [-1.0]])[:, 0].tolist()
      [1.0, 1.0, -1.0, -1.0]

    References: Chen et al., Residual Flows (2019); Theis et al., A Note on the Evaluation of
    Generative Models (2016), for `k + u`.
    """

    def __init__(self, *, nblocks=4, dims=(64,), coeff=0.9, act="LipSwish", noise=0.4,
                 learning_rate=1e-2, weight_decay=1e-4, batch_size=128, max_steps=400,
                 validate_every=20, patience=5, validation_fraction=0.15, integers="values",
                 draws=8, missing="error", contamination=0.1, random_state=None, context=None):
        self.nblocks = nblocks
        self.dims = dims
        self.coeff = coeff
        self.act = act
        self.noise = noise
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.validate_every = validate_every
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.integers = integers
        self.draws = draws
        self.missing = missing
        self.contamination = contamination
        self.random_state = random_state
        self.context = context

    def fit(self, X, y=None, sample_weight=None):
        """Fits the density to the rows of `X [n, D]`; returns self.

        Args:
          X: a DataFrame, or an array of numbers.
          y: ignored.
          sample_weight: `[n]`, not negative; rows of weight 0 are left out.
        """
        check_parameters(self)
        X = self._read(X, reset=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64,
                                       ensure_non_negative=True)
        there = np.flatnonzero(weights)
        X, weights = X.iloc[there] if is_frame(X) else X[there], weights[there]
        found, of_context, cells, places = self._columns(X, weights)
        if not found.are_noisy:
            cells, weights = distinct(cells, weights)
        width = len(found.kinds)
        cells, others = cells[:, :width], cells[:, width:]
        contexts = [of_context.encoded(others)] if places else []
        seed = _seed(self.random_state)
        architecture = {name: getattr(self, name) for name in ("nblocks", "dims", "coeff", "act")}
        training = Training(**{field.name: getattr(self, field.name)
                               for field in dataclasses.fields(Training)})
        best, self.n_steps_ = trained(found, architecture, seed, cells, weights, training,
                                      *contexts)
        self.density_ = Fitted(found, architecture, seed, best, self.draws, of_context, places)
        scores = self.density_.log_prob(cells, *contexts)
        self.offset_ = _quantile(scores, weights, self.contamination)
        return self

    def score_samples(self, X):
        """`log p(row)` of each row of `X [n, D]`, nats: `[n]`; X has the columns of `context`."""
        check_is_fitted(self)
        return self.density_.log_prob(*self.density_.read(self._read(X, reset=False)))

    def score(self, X, y=None):
        """Mean of `score_samples` over the rows of `X [n, D]`, nats."""
        return float(np.mean(self.score_samples(X)))

    def decision_function(self, X):
        """`score_samples(X) - offset_`, `[n]`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """-1 for outliers among the rows of `X [n, D]`, 1 for the others: `[n]`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def sample(self, n_samples=1, random_state=None, context=None):
        """Draws rows of the density.

        Args:
          n_samples: how many; of a density given a context, for each row of that.
          random_state: None, a seed, or a RandomState.
          context: a table `[m, C]` of the columns of the parameter `context`, in its order; a
            DataFrame, if one was fitted.

        Returns:
          A DataFrame with the columns and types of the one in `fit`; else float64 `[n_samples, D]`.
          Of a density given a context `m n_samples` rows, those of its first row first.
        """
        check_is_fitted(self)
        check_whole("n_samples", n_samples, 1)
        known = self.density_.context
        if known is None:
            check(context is None, "context", "not be given: in fit, there was none", context)
        else:
            rule = f"be a table of the columns {known.names}"
            check(context is not None, "context", rule, context)
            check(is_frame(context) or known.dtypes is None, "context",
                  f"{rule}, a DataFrame as in fit", type(context).__name__)
            context = context if is_frame(context) else np.asarray(context, np.float64)
            check(context.ndim == 2 and context.shape[1] == len(known.names) and len(context),
                  "context", rule, f"shape {context.shape}")
        return self.density_.sample(n_samples, _seed(random_state), context)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "median"
        return tags

    def _columns(self, X, weights):
        """`Columns` of the density and of the context, the cells of both, places of the context."""
        places = context_places(X, self.context)
        if not places:
            found, cells = columns.fitted(X, weights, self.integers, self.missing)
            return found, None, cells, places
        # Of an array, the numbers that the columns have there.
        names = [2 * [None]] if is_frame(X) else zip(*parted(np.arange(X.shape[1])[None], places))
        [(of_density, of_context)], (density, context) = names, parted(X, places)
        found, cells = columns.fitted(density, weights, self.integers, self.missing, of_density)
        known, others = columns.fitted_context(context, weights, self.missing, of_context)
        return found, known, np.concatenate([cells, others], axis=1), places

    def _read(self, X, reset):
        """X, its names and number of columns looked at, as a DataFrame or an array."""
        least = 2 if reset else 1
        if not is_frame(X):
            return validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=False,
                                 ensure_min_samples=least)
        check(len(X) >= least, "X", f"have at least {least} rows", len(X))
        return validate_data(self, X, reset=reset, skip_check_array=True)


def _seed(random_state):
    return int(check_random_state(random_state).randint(2 ** 31 - 1))


def _quantile(values, weights, share):
    """A number with `share` of the weight below it, midway between two values."""
    order = np.argsort(values)
    ends = np.cumsum(weights[order])
    # Weights are sums that are rounded.
    below = np.searchsorted(ends, share * ends[-1] * (1 + 1e-12), side="right")
    return float(np.mean(values[order][max(0, below - 1):below + 1]))
