"""Scalar phi^4 theory on a periodic lattice in two dimensions."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks.rules import check, check_number
from tfresflow.checks.sizes import as_size
from tfresflow.functions.torus import rolled
from tfresflow.targets.target import Target, drawn

__all__ = ["Phi4"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Phi4(Target):
    """`p(phi) = exp(-S(phi)) / Z` for fields phi on an L x L torus, `[..., L, L, 1]`.

        S = sum_x m2 phi^2 + lam phi^4
            + hopping / 2 sum_mu (2 phi^2 - phi phi_(x+mu) - phi phi_(x-mu))

    With the default `hopping` of 2 that is the convention of most papers on flows:
    `sum_x m2 phi^2 + lam phi^4 + sum_mu (2 phi^2 - phi phi_(x+mu) - phi phi_(x-mu))`. The other
    one, with `kappa` and `lambda / 24`, is that of `Phi4.of_kappa`.

    S does not change with the sign of phi, nor when phi is shifted around the torus. Without
    interaction, `lam=0`, the field is Gaussian: `log_z` is exact, and there are exact samples.
    With K the lattice's Laplacian, of eigenvalues `khat^2 = sum_mu 4 sin^2(pi k_mu / L)`,

        S = 1/2 phi^T (2 m2 + hopping K) phi
        log Z = 1/2 sum_k log(2 pi / (2 m2 + hopping khat^2))

    Args:
      size: L, at least 2.
      m2: squared mass, any sign if `lam` is positive.
      lam: coupling, not negative.
      hopping: strength of the coupling of neighbours.

    Raises:
      ValueError: if an argument is not what it should be, or `lam` is 0 and the quadratic form
        is not positive definite, so that Z is infinite.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import targets
      >>> target = targets.Phi4(8, m2=-4, lam=6)
      >>> target.log_prob(tf.ones([1, 8, 8, 1])).numpy().tolist()             # -64 (m2 + lam)
      [-128.0]
      >>> target.log_z is None, hasattr(target, "sample")
      (True, False)
      >>> free = targets.Phi4.of_kappa(8, m2=1.0, lam=0.0)
      >>> round(free.log_z, 3), free.sample(5, seed=0).shape
      (10.558, TensorShape([5, 8, 8, 1]))

    References: Albergo, Kanwar and Shanahan, Flow-based generative models for Markov chain Monte
    Carlo in lattice field theory (2019); Nicoli et al., Estimation of thermodynamic observables in
    lattice field theories with deep generative models (2021).
    """

    size: int
    m2: float
    lam: float
    hopping: float = 2.0

    def __post_init__(self):
        object.__setattr__(self, "size", as_size("size", self.size, 2))
        check_number("m2", self.m2, "be a finite number")
        check_number("hopping", self.hopping, "be a finite number")
        check_number("lam", self.lam, "not be negative", lambda value: 0 <= value < math.inf)
        if self.lam == 0:
            check(self._eigenvalues().min() > 0, "m2", "be large enough for a positive definite "
                  "quadratic form where `lam` is 0", self.m2)

    @classmethod
    def of_kappa(cls, size, m2, lam, kappa=1.0):
        """The field in the convention of Nicoli et al. (2021):

            S = sum_x (m2/2 + 2 kappa) phi^2 + lam/24 phi^4 - kappa sum_mu phi phi_(x+mu)

        Each pair of neighbours is there twice in the sum of the other convention, so this is
        `Phi4(size, m2 / 2, lam / 24, hopping=kappa)`.

        Args:
          size: L.
          m2: squared mass.
          lam: coupling.
          kappa: strength of the coupling of neighbours.
        """
        for name, value in {"m2": m2, "lam": lam, "kappa": kappa}.items():
            check_number(name, value, "be a finite number")
        return cls(size, m2 / 2, lam / 24, kappa)

    @property
    def event_shape(self):
        """`(L, L, 1)`."""
        return self.size, self.size, 1

    @property
    def log_z(self):
        """`log Z`, nats, of a free field (`lam=0`); None with interaction."""
        if self.lam:
            return None
        return float(np.log(2 * math.pi / self._eigenvalues()).sum() / 2)

    def log_density(self, x):
        """`-S(x)`, see `log_prob`."""
        squares = x ** 2
        neighbours = tf.add_n([x * rolled(x, -1, axis) for axis in (-3, -2)])
        density = (self.m2 + 2 * self.hopping + self.lam * squares) * squares
        return -tf.reduce_sum(density - self.hopping * neighbours, axis=[-3, -2, -1])

    @property
    def sample(self):
        """`sample(n, seed=None, dtype=None)`, `[n, L, L, 1]`, of a free field; else there is none.

        `seed` is as for `seeds.as_seed`.
        """
        if self.lam:
            raise AttributeError("exact samples of a Phi4 are there for lam=0 only. "
                                 f"Received: lam={self.lam}")
        return self._sample_free

    def _sample_free(self, n, seed=None, dtype=None):
        """White noise divided by the square roots of the eigenvalues, frequency by frequency."""
        [own], dtype = drawn(seed, 1, dtype)
        noise = tf.random.stateless_normal([n, self.size, self.size], own, dtype=dtype)
        scale = tf.constant(self._eigenvalues() ** -0.5, dtype)
        waves = tf.signal.fft2d(_complex(noise)) * _complex(scale)
        return tf.math.real(tf.signal.ifft2d(waves))[..., tf.newaxis]

    # Observables ----------------------------------------------------------------------------

    def action(self, x):
        """S, `[...]`."""
        return -self.log_prob(x)

    def magnetisation(self, x):
        """The mean of each field over the torus, `[...]`."""
        return tf.reduce_mean(self.take(x), axis=[-3, -2, -1])

    def two_point(self, x):
        """`mean_y phi(y) phi(y + r)` of each field at each distance r, `[..., L, L]`.

        Its mean over samples is the correlator; that of the fields' means is not subtracted.
        """
        waves = tf.signal.fft2d(_complex(self.take(x)[..., 0]))
        power = waves * tf.math.conj(waves)
        return tf.math.real(tf.signal.ifft2d(power)) / self.size ** 2

    def _eigenvalues(self):
        """Of the quadratic form of a free field, `[L, L]`."""
        line = 4 * np.sin(np.pi * np.arange(self.size) / self.size) ** 2
        return 2 * self.m2 + self.hopping * (line[:, None] + line)


def _complex(x):
    return tf.cast(x, tf.complex128 if x.dtype == tf.float64 else tf.complex64)
