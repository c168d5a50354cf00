"""`sample`, where a density is known up to a constant: weighted samples and their pictures."""

import numpy as np

from tfresflow.batches import seeds
from tfresflow.functions.torus import principal
from train import plots
from train.files import write_json
from train.sampling import lattices, pictures
from train.sampling.targets import build_target
from train.sampling.weighing import weighted

__all__ = ["show"]

_STREAM = 9_000_000  # seeds of the target's samples


def show(model, settings, workdir):
    """Writes samples.npz and pictures; returns their names.

    samples.npz has `x`, `log_weights` and `log_q`. Vectors: samples.png, two coordinates of what
    the flow draws, of that drawn again by its weights, and of exact samples, and columns.png.
    Fields: fields.png, and observables.png and .json, with errors.

    Args:
      model: as `checkpoints.loaded` gives it.
      settings: the flags.
      workdir: a folder.
    """
    seed = settings.seed if settings.sample_seed == -1 else settings.sample_seed
    samples, target = weighted(model, settings, seed), build_target(settings)
    np.savez(workdir / "samples.npz", x=samples.x, log_weights=samples.log_weights,
             log_q=samples.log_q)
    draw = {"phi4": _phi4, "u1": _u1}.get(settings.target, _vectors)
    return ["samples.npz", *draw(target, samples, settings, workdir, seed)]


def _vectors(target, samples, settings, workdir, seed):
    count = len(samples.x)
    exact = target.sample(count, seeds.fold_in(seeds.as_seed(seed), _STREAM)).numpy()
    again = samples.resample(count, seed)
    # Of many wells the even coordinates are normal.
    pair = [0, 2] if settings.target == "many_well" and settings.dimensions > 2 else [0, 1]
    names = [f"$x_{{{i + 1}}}$" for i in range(samples.x.shape[1])]
    pictures.pairs({"flow": samples.x[:, pair], "by weight": again[:, pair],
                    "exact samples": exact[:, pair]}, workdir / "samples.png",
                   [names[i] for i in pair])
    plots.columns(exact, again, [f"x{i + 1}" for i in range(len(names))], workdir / "columns.png")
    return ["samples.png", "columns.png"]


def _phi4(target, samples, settings, workdir, seed):
    found = lattices.of_phi4(target, samples, seed)
    shown = samples.resample(settings.n_sample_images, seed)[..., 0]
    pictures.fields(shown, workdir / "fields.png", np.percentile(np.abs(shown), 99), "RdBu_r")
    return _observables(*found, workdir)


def _u1(target, samples, settings, workdir, seed):
    found = lattices.of_u1(target, samples)
    shown = principal(target.plaquettes(samples.resample(settings.n_sample_images, seed)))
    pictures.fields(shown.numpy(), workdir / "fields.png", np.pi, "twilight")
    return _observables(*found, workdir)


def _observables(panels, observables, workdir):
    pictures.histograms(panels, workdir / "observables.png")
    write_json({name: {of: np.asarray(value).tolist() for of, value in values.items()}
                for name, values in observables.items()}, workdir / "observables.json")
    return ["fields.png", "observables.png", "observables.json"]
