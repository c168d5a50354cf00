"""Area under the ROC curve of a score that is to tell two samples apart, and its standard error."""

import numpy as np
import scipy.stats
import sklearn.metrics

__all__ = ["auroc"]


def auroc(inside, outside):
    """How often a score is higher outside than inside, ties counted half.

    The standard error is that of DeLong. With midranks it takes `O(n log n)`.

    Args:
      inside: scores `[m]`.
      outside: scores `[n]`, which are to be higher.

    Returns:
      `(area, standard_error)`; the error is nan where one sample is a single score.

    References: DeLong, DeLong, Clarke-Pearson (1988); Sun, Xu, Fast Implementation of DeLong's
    Algorithm (2014), equation 5.
    """
    m, n = len(inside), len(outside)
    scores = np.concatenate([inside, outside])
    area = sklearn.metrics.roc_auc_score(np.repeat([0, 1], [m, n]), scores)
    ranks = scipy.stats.rankdata(scores)
    # Of each score the share of the other sample that it is rightly apart from.
    right_inside = 1 - (ranks[:m] - scipy.stats.rankdata(inside)) / n
    right_outside = (ranks[m:] - scipy.stats.rankdata(outside)) / m
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = sum(np.sum((part - area) ** 2) / np.float64(len(part) - 1) / len(part)
                       for part in (right_inside, right_outside))
    return float(area), float(np.sqrt(variance))
