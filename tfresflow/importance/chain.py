"""A Markov chain of independent proposals, which corrects a flow to the density that it is for."""

import dataclasses

import numpy as np

__all__ = ["Chain", "metropolis"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """States of a Markov chain.

    Args:
      x: `[N, ...]`, the states one after the other.
      acceptance: the part of the proposals that was accepted, in [0, 1].
      longest_wait: how many proposals in a row were rejected at most. A chain that waits for a
        good part of its length has not arrived.
      places: `[N]`, which of the proposals each state is.

    Example:
      >>> import numpy as np
      >>> from tfresflow import importance
      >>> chain = importance.metropolis([0., 0., -1000.], np.array([[1.], [2.], [3.]]))
      >>> chain.places.tolist(), chain.longest_wait
      ([0, 1, 1], 1)
    """

    x: np.ndarray
    acceptance: float
    longest_wait: int
    places: np.ndarray


def metropolis(log_weights, x, seed=0):
    """An independence Metropolis chain: proposals of q, each accepted with `min(1, w' / w)`.

    Its states are samples of p, not independent ones. The acceptance rate is that of a chain that
    begins with the first sample.

    Args:
      log_weights: `[N]`, `log p(x) / q(x)` of samples of q in the order in which they were drawn.
      x: `[N, ...]`, these samples.
      seed: integer.

    Returns:
      A `Chain`.

    Example:
      >>> import numpy as np
      >>> from tfresflow import importance
      >>> chain = importance.metropolis([0., -1000., 0.], np.array([[1.], [2.], [3.]]))
      >>> chain.x.ravel().tolist(), chain.acceptance, chain.longest_wait
      ([1.0, 1.0, 3.0], 0.5, 1)

    References: Tierney, Markov chains for exploring posterior distributions (1994); Albergo et
    al., Flow-based generative models for MCMC in lattice field theory (2019).
    """
    log_weights = np.asarray(log_weights, np.float64)
    log_u = np.log(np.random.default_rng(seed).uniform(size=len(log_weights)))
    places = np.zeros(len(log_weights), np.int64)
    for i in range(1, len(places)):
        current = log_weights[places[i - 1]]
        # A current state where p is 0 is left at once.
        accepted = current == -np.inf or log_u[i] < log_weights[i] - current
        places[i] = i if accepted else places[i - 1]
    moved = places[1:] != places[:-1]
    acceptance = float(moved.mean()) if len(moved) else 1.0
    return Chain(np.asarray(x)[places], acceptance, _longest_run(~moved), places)


def _longest_run(waits):
    """The length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], waits, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
