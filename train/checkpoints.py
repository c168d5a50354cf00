"""What a run keeps, and how it is found again."""

import contextlib
import pathlib
import shutil
import sys

import numpy as np
import tensorflow as tf

from train import flags
from train.build import build_loss, build_model, build_optimizer
from train.errors import UserError, blame_the_input
from train.means import Means

__all__ = ["loaded", "remove_partial", "restore"]


def restore(model, settings, name):
    """Loads a checkpoint into a compiled model.

    Returns:
      `(checkpoint, managers, path)`, path None where there is none yet.

    Raises:
      UserError: if there are checkpoints and none is whole, or their list is damaged.
    """
    checkpoint = _checkpoint(model)
    saved = _managers(checkpoint, settings.workdir, settings.keep_checkpoints)
    for path in reversed(saved[name].checkpoints):
        try:
            _parts_in(path, checkpoint, model).restore(path).assert_consumed()
            return checkpoint, saved, path
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            print(f"warning: {path} is not readable and is skipped "
                  f"({str(error).splitlines()[0][:120]})", file=sys.stderr)
    if saved[name].checkpoints:
        raise UserError(f"no checkpoint in {saved[name].directory} is readable. Move that folder "
                        "away to begin anew")
    return checkpoint, saved, None


@contextlib.contextmanager
def loaded(settings):
    """A context manager that gives the trained model: averaged weights in place, norms refreshed.

    Args:
      settings: of which --checkpoint says which weights.

    Raises:
      UserError: if the workdir holds no checkpoint, or that of another model.
    """
    with blame_the_input():
        flags.conflicts(settings, settings.workdir)
        model = build_model(settings)
        model.compile(build_optimizer(settings), loss=build_loss(settings))
        *_, path = restore(model, settings, settings.checkpoint)
        if path is None:
            last = (pathlib.Path(settings.workdir) / "checkpoints" / "last" / "checkpoint").exists()
            raise ValueError(f"--workdir={settings.workdir} holds no checkpoint "
                             f"'{settings.checkpoint}': " + (
                                 "there was no validation yet; --checkpoint=last is there"
                                 if last and settings.checkpoint != "last" else "train first"))
    model.adopt_averages()
    model.refresh_norms()  # thoroughly, with or without an average
    yield model


def remove_partial(workdir):
    """Removes what runs left that were killed while they wrote a checkpoint."""
    for folder in (pathlib.Path(workdir) / "checkpoints").glob("*/*_temp"):
        shutil.rmtree(folder)


def _checkpoint(model):
    """All that a run is: weights, optimizer, the best score so far, seconds trained.

    And what `means.Means` knows of an interval that is not yet at its end.
    """
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    means = 1 + len(Means.names_of(model))
    marks, variables = [], []
    for variable in [*model.weights, *model.optimizer.variables]:
        (marks if variable.name == "mark" else variables).append(variable.value)
    return tf.train.Checkpoint(variables=variables, marks=marks,
                               best=tf.Variable(np.inf, dtype=tf.float64),
                               seconds=tf.Variable(0.0, dtype=tf.float64),
                               means=tf.Variable(np.zeros(means)))


def _parts_in(path, checkpoint, model):
    """The checkpoint as `path` has it.

    Version 0.1 had neither marks of norms nor means, and after the optimizer's step a rate that was
    constant: here it finds a place, and is not looked at.
    """
    saved = [name.split("/")[0] for name, _ in tf.train.list_variables(path)]
    parts = {name: getattr(checkpoint, name)
             for name in ("variables", "marks", "best", "seconds", "means")}
    if saved.count("variables") == len(parts["variables"]) + 1:
        step, variables = model.optimizer.iterations.value, list(parts["variables"])
        after = 1 + next(i for i, variable in enumerate(variables) if variable is step)
        parts["variables"] = [*variables[:after], tf.Variable(0.0), *variables[after:]]
    return tf.train.Checkpoint(**{name: part for name, part in parts.items() if name in saved})


def _managers(checkpoint, workdir, keep_last):
    """The two `tf.train.CheckpointManager`s of a run; of `best` one is kept."""
    folder, saved = pathlib.Path(workdir) / "checkpoints", {}
    for name, keep in (("last", keep_last), ("best", 1)):
        path = folder / name / "checkpoint"  # TensorFlow's list; it ignores one that it cannot read
        with contextlib.suppress(ValueError):
            saved[name] = tf.train.CheckpointManager(checkpoint, folder / name, keep)
        if name not in saved or (path.exists() and not saved[name].checkpoints):
            raise UserError(f"{path} is damaged: the list of the checkpoints beside it. Restore it "
                            "from a copy, or move that folder away to begin anew")
    return saved
