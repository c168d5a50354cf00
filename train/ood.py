"""`ood`: whether other data is told from the run's own by what the model thinks of it."""

import dataclasses
import io
import math
import pathlib

import numpy as np
import pandas as pd
import PIL.Image

from train import data, plots
from train.auroc import auroc
from train.errors import UserError, blame_the_input
from train.files import write_json
from train.scoring import scorer

__all__ = ["compare", "png_bits"]

_MOST = 10_000  # examples of the other data, and of the training part for its mean

# What each score is called in the table; the higher, the less an example is like the run's data.
_LABELS = {"nll": "-log p, nats", "typicality": "|-log p - mean in training|, nats",
           "complexity": "-log p - PNG, bits"}


def compare(model, settings):
    """Scores the test part and --data_out, prints a table, and writes ood.json, .csv and .png.

    The scores of an example x are `nll`, `-log p(x)`; `typicality`, the distance of that from its
    mean over the training part; and, of images, `complexity`: `-log2 P(x)` less the bits that x
    takes as a PNG file. Each has an area under the ROC curve, with the standard error of DeLong.

    Args:
      model: as `checkpoints.loaded` gives it.
      settings: the flags.

    Returns:
      What ood.json holds, a dictionary.

    References: Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models
    Using Typicality (2019); Serra et al., Input Complexity and Out-of-distribution Detection with
    Likelihood-based Generative Models (2020).
    """
    _check(model, settings)
    settings = dataclasses.replace(settings, task="density")  # labels do not count
    with blame_the_input():
        source = data.describe(settings)
        outside = data.load_outside(settings, _MOST)
        inside = data.load(settings, "test")
    score = scorer(model, settings, source)
    mean = _mean_of_training(score, settings, source)
    scores = {part: _scores(model, score, batches, mean)
              for part, batches in (("inside", inside), ("outside", outside))}
    areas = {name: auroc(values, scores["outside"][name])
             for name, values in scores["inside"].items() if name in _LABELS}
    found = {"data": settings.data, "dataroot": settings.dataroot, "data_out": settings.data_out,
             "checkpoint": settings.checkpoint, "step": int(model.optimizer.iterations.numpy()),
             "num_inside": len(scores["inside"]), "num_outside": len(scores["outside"]),
             "mean_nll_train": mean,
             **{f"auroc_{name}": area for name, (area, _) in areas.items()},
             **{f"auroc_{name}_stderr": error if math.isfinite(error) else None
                for name, (_, error) in areas.items()}}
    workdir = pathlib.Path(settings.workdir)
    write_json(found, workdir / "ood.json")
    pd.concat(scores, names=["part", "example"]).to_csv(workdir / "ood.csv")
    plots.scores(scores["inside"], scores["outside"],
                 {name: _LABELS[name] for name in areas}, workdir / "ood.png",
                 (settings.data, settings.data_out))
    _print(found, scores, areas, workdir)
    return found


def _check(model, settings):
    if model.is_conditional:
        raise UserError("ood needs a density of x alone: other data has no context. The run has "
                        f"--{'context_columns' if settings.context_columns else 'conditional'}")
    if not model.trains_density:
        raise UserError(f"ood needs a density, and --task={settings.task} learns none")


def png_bits(images, nbits):
    """Bits of the PNG file of each image, `[n]`.

    Args:
      images: `[n, H, W, C]`, floats in [0, 1) whose first `nbits` bits are the levels.
      nbits: of a level.
    """
    levels = np.floor(np.float64(images) * 2 ** nbits).astype(np.uint8) * 2 ** (8 - nbits)
    return np.array([_png_bits(image[..., 0] if image.shape[-1] == 1 else image)
                     for image in levels])


def _png_bits(levels):
    file = io.BytesIO()
    PIL.Image.fromarray(levels).save(file, "PNG", optimize=True)
    return 8 * len(file.getvalue())


def _mean_of_training(score, settings, source):
    """Mean nll of the training part, or of as many of its examples as are looked at."""
    count = min(_MOST, source.counts["train"] or settings.n_test)
    size = settings.batchsize * settings.update_freq
    batches = -(-count // size)
    return float(score(data.load(settings, "train").take(batches), batches)[0].mean())


def _scores(model, score, batches, mean):
    """A data frame of the scores of each example."""
    nll = score(batches, int(batches.cardinality()))[0].mean(axis=0)
    found = {"nll": nll, "typicality": np.abs(nll - mean)}
    if model.scale_bits is not None:
        nbits = model.nbits or model.flow.nbits
        unit = 1 if model.nbits else 2 ** nbits  # of levels, that of their pixels
        found["png_bits"] = np.concatenate([png_bits(x / unit, nbits)
                                            for x in batches.as_numpy_iterator()])
        size = math.prod(model.flow.event_shape)
        found["complexity"] = nll / math.log(2) + size * model.scale_bits - found["png_bits"]
    return pd.DataFrame(found)


def _print(found, scores, areas, workdir):
    rows = [("area under the ROC curve", "")]
    rows += [(f"  {_LABELS[name]}", f"{area:.4f} +- {error:.4f}")
             for name, (area, error) in areas.items()]
    rows += [(f"mean -log p, {part}", f"{scores[part]['nll'].mean():.2f} nats, "
                                      f"{len(scores[part])} examples") for part in scores]
    rows.append(("mean -log p, training", f"{found['mean_nll_train']:.2f} nats"))
    width = max(len(label) for label, _ in rows)
    print("\n".join(f"{label:<{width}}  {value}".rstrip() for label, value in rows))
    print("wrote " + ", ".join(str(workdir / f"ood.{end}") for end in ("json", "csv", "png")),
          flush=True)
