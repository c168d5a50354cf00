"""Observables of fields on a lattice: of a flow's weighted samples, beside what they should be."""

import numpy as np

from tfresflow.functions.torus import principal
from train.sampling.hmc import hmc
from train.sampling.pictures import Panel
from train.sampling.plaquettes import charge_probabilities, plaquette_density
from train.status import saying

__all__ = ["of_phi4", "of_u1"]

_BINS = 24


def of_phi4(target, samples, seed):
    """Action, magnetisation and two-point function of a scalar field, beside those of an HMC run.

    Args:
      target: a `targets.Phi4`.
      samples: `importance.Weighted`.
      seed: integer.

    Returns:
      `(panels, observables)`: of `pictures.histograms`; `{name: {"flow": [mean, error], "hmc":
      [mean, error]}}`, where an error is one standard error.
    """
    with saying("Hamiltonian Monte Carlo, to compare with"):
        chains = hmc(target, seed=seed)
    by_symmetry = np.random.default_rng(seed).choice([-1, 1], size=chains.x.shape[:2])
    panels, observables = [], {}
    for name, label, function in (("action", "action S", target.action),
                                  ("magnetisation", "magnetisation", target.magnetisation)):
        flow, other = (np.asarray(function(x), np.float64) for x in (samples.x, chains.x))
        if name == "magnetisation":  # S is even: chains that stay on one side are no less right
            other = other * by_symmetry
        panels.append(_histogram(label, flow, other, samples, chains))
        both = [flow, other] if name == "action" else [np.abs(flow), np.abs(other)]
        observables[name if name == "action" else "absolute_magnetisation"] = _means(
            *both, samples, chains)
    correlators = [_along_axes(target.two_point(x).numpy()) for x in (samples.x, chains.x)]
    observables["two_point"] = _means(*correlators, samples, chains)
    distances = np.arange(correlators[0].shape[-1])
    panels.append(Panel("distance r", distances, *observables["two_point"].values(), "HMC",
                        r"$\langle\phi(y)\,\phi(y + r)\rangle$"))
    return panels, observables


def of_u1(target, samples):
    """Angles of plaquettes and topological charge of a gauge field, beside what is exactly known.

    Args:
      target: a `targets.U1`.
      samples: `importance.Weighted`.

    Returns:
      `(panels, observables)`, see `of_phi4`; the exact values have no errors.
    """
    edges = np.linspace(-np.pi, np.pi, _BINS + 1)
    middles, fine = (edges[1:] + edges[:-1]) / 2, np.linspace(-np.pi, np.pi, 201)
    angles = principal(target.plaquettes(samples.x)).numpy().astype(np.float64)
    angles = angles.reshape(len(angles), -1)
    shares = np.stack([np.histogram(row, edges)[0] for row in angles]) / (
        angles.shape[1] * (edges[1] - edges[0]))
    charges = np.round(target.topological_charge(samples.x).numpy())
    most = max(2, int(np.abs(charges).max()))
    values = np.arange(-most, most + 1)
    probabilities = charge_probabilities(target.size, target.beta, most=max(most, 10))
    exact = probabilities[len(probabilities) // 2 - most:][:2 * most + 1]
    density = plaquette_density(fine, target.size, target.beta)
    cosine = (density[1:] * np.cos(fine[1:])).mean() * 2 * np.pi
    found = samples.mean(charges[:, None] == values)
    panels = [
        Panel("angle of a plaquette", middles, samples.mean(shares), (fine, density), "exact"),
        Panel("topological charge", values, found, (values, exact), "exact", "probability")]
    whole = np.arange(len(probabilities)) - len(probabilities) // 2
    observables = {
        "cosine_of_plaquette": {"flow": samples.mean(np.cos(angles).mean(axis=1)),
                                "exact": cosine},
        "squared_charge": {"flow": samples.mean(charges ** 2),
                           "exact": (probabilities * whole ** 2).sum()}}
    return panels, observables


def _histogram(label, flow, other, samples, chains):
    """The densities of two samples of numbers, with errors."""
    edges = np.linspace(*np.percentile(other, [0.05, 99.95]), _BINS + 1)
    width = edges[1] - edges[0]
    inside = [(x[..., None] >= edges[:-1]) & (x[..., None] < edges[1:]) for x in (flow, other)]
    found, of_chains = (of.mean(x / width) for of, x in zip((samples, chains), inside))
    return Panel(label, (edges[1:] + edges[:-1]) / 2, found, of_chains, "HMC")


def _means(flow, other, samples, chains):
    return {"flow": samples.mean(flow), "hmc": chains.mean(other)}


def _along_axes(two_point):
    """`[..., L, L]` at each distance to `[..., L // 2 + 1]`: along the axes, up to half of L."""
    half = two_point.shape[-1] // 2 + 1
    return (two_point[..., 0, :half] + two_point[..., :half, 0]) / 2
