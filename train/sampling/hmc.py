"""Hamiltonian Monte Carlo: what samples of a flow on a lattice are compared with."""

import contextlib
import typing

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfresflow.batches import seeds

__all__ = ["Chains", "hmc"]

mcmc = tfp.mcmc


class Chains(typing.NamedTuple):
    """States of several chains.

    Args:
      x: `[n, chains, ...]`.
      acceptance: the part of the proposals that was accepted.
    """

    x: np.ndarray
    acceptance: float

    def mean(self, values):
        """`(mean, standard error)` of numbers or arrays `[n, chains, ...]`, one for each state.

        As many states count as are independent, by the autocorrelations within chains and the
        variance between them.
        """
        values = np.asarray(values, np.float64)
        with _quiet():
            independent = mcmc.effective_sample_size(
                values, filter_beyond_positive_pairs=True, cross_chain_dims=1).numpy()
        spread = values.std(axis=(0, 1))
        # Of what is the same in all states there is no autocorrelation.
        error = np.where(spread > 0, spread / np.sqrt(np.where(spread > 0, independent, 1)), 0)
        return values.mean(axis=(0, 1)), error


def hmc(target, n=500, chains=100, burn_in=300, leapfrogs=8, thinning=2, spread=0.1, seed=0):
    """Samples of a target by Hamiltonian Monte Carlo, all chains side by side.

    The step of each chain is adapted in the first four fifths of the burn-in to an acceptance of
    0.8.

    Args:
      target: has `log_prob` and `event_shape`.
      n: states of each chain that are kept.
      chains: how many.
      burn_in: states of each chain that are not.
      leapfrogs: steps of a trajectory.
      thinning: trajectories from a state that is kept to the next one.
      spread: standard deviation of the normal numbers at which chains begin. Where forces are
        large, in a quartic potential far out, a chain may stay for good.
      seed: integer.

    Returns:
      `Chains`, float64.
    """
    start, run = seeds.split(seeds.as_seed(seed), 2)
    steps = tf.fill([chains, *[1] * len(target.event_shape)], tf.constant(0.1, tf.float64))
    kernel = mcmc.DualAveragingStepSizeAdaptation(
        mcmc.HamiltonianMonteCarlo(target.log_prob, steps, leapfrogs),
        num_adaptation_steps=int(0.8 * burn_in), target_accept_prob=tf.constant(0.8, tf.float64))

    @tf.function(autograph=False)
    def sampled():
        x = tf.random.stateless_normal([chains, *target.event_shape], start, dtype=tf.float64)
        x *= spread
        return mcmc.sample_chain(
            n, x, kernel=kernel, num_burnin_steps=burn_in, num_steps_between_results=thinning - 1,
            trace_fn=lambda _, results: results.inner_results.is_accepted, seed=run)

    x, accepted = sampled()
    return Chains(x.numpy(), float(accepted.numpy().mean()))


@contextlib.contextmanager
def _quiet():
    """Within, TensorFlow does not warn of the Fourier transforms of autocorrelations."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
