"""How heavy the tail of weights is, by a generalised Pareto distribution."""

import numpy as np

__all__ = ["pareto_k"]


def pareto_k(log_weights):
    """The shape k of a generalised Pareto distribution fitted to the largest weights.

    Weights have `1/k` finite moments. Below 0.5 the mean of the weights has a finite variance; past
    0.7 neither it nor its standard error can be relied upon.

    The tail are the `min(N / 5, 3 sqrt(N))` largest weights, at least five. k is drawn towards 0.5
    as by ten observations of it, as in Vehtari et al.

    Args:
      log_weights: `[N]`, nats.

    Returns:
      k; NaN of fewer than 25 weights, -inf where the largest are all the same.

    Example:
      >>> import numpy as np
      >>> from tfresflow import importance
      >>> u = (np.arange(100_000) + 0.5) / 100_000         # quantiles of a uniform number
      >>> round(importance.pareto_k(-0.8 * np.log(u)), 1)  # weights u^-0.8
      0.8

    References: Zhang and Stephens, A new and efficient estimation method for the generalized
    Pareto distribution (2009); Vehtari et al., Pareto smoothed importance sampling (2024).
    """
    log_weights = np.sort(np.asarray(log_weights, np.float64))
    count = int(np.ceil(min(0.2 * len(log_weights), 3 * np.sqrt(len(log_weights)))))
    if count < 5:
        return float("nan")
    tail = np.exp(log_weights[-count:] - log_weights[-1])
    excess = tail - np.exp(log_weights[-count - 1] - log_weights[-1])
    if excess[-1] <= 0:
        return float("-inf")
    k = _shape(excess)
    return float((count * k + 5) / (count + 10))


def _shape(x):
    """k of a generalised Pareto distribution of location 0, of ascending x: a posterior mean."""
    n, m = len(x), 30 + int(np.sqrt(len(x)))
    quartile = x[max(0, int(n / 4 + 0.5) - 1)]
    # Candidates of theta = -k / sigma, spread by a prior that the data scale.
    spread = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    theta = 1 / x[-1] + spread / (3 * max(quartile, np.finfo(np.float64).tiny))
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    log_likelihood = n * (np.log(-theta / k) - k - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    theta = (weights * theta).sum() / weights.sum()
    return np.log1p(-theta * x).mean()
