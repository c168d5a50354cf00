"""What a run was trained on: the shape of an example, and the scaler of a table.

It is kept in the workdir, in data.json, as `eval` and `sample` may be given other data than
the run was trained on, which the model sees in its own units.
"""

import dataclasses
import json
import pathlib

from train import flags
from train.data.scaler import Scaler
from train.files import fingerprint, write_json

__all__ = ["Trained", "load_trained", "save_trained"]

_FILE = "data.json"


@dataclasses.dataclass(frozen=True)
class Trained:
    """Of the data of a run: `event_shape`, the `Scaler`s of a table, the classes, else None."""

    event_shape: tuple
    scaler: Scaler | None = None
    context_scaler: Scaler | None = None
    classes: tuple | None = None


def save_trained(source, workdir):
    """Writes down what a run is trained on; a run that goes on keeps what is there."""
    path = pathlib.Path(workdir) / _FILE
    if path.exists():
        _read(path)  # a damaged one is told now, before hours of training
    else:
        scalers = {name: own and dataclasses.asdict(own) for name, own in
                   (("scaler", source.scaler), ("context_scaler", source.context_scaler))}
        write_json({"event_shape": list(source.event_shape), **scalers,
                    "classes": source.classes and list(source.classes)}, path)


def load_trained(settings):
    """What the workdir's model was trained on; None of a run that did not write it down.

    Raises:
      ValueError: data.json is damaged; or it is missing, and a table is not that of the run, whose
        scaler nobody knows then.
    """
    path = pathlib.Path(settings.workdir) / _FILE
    if path.exists():
        return _read(path)
    known = flags.load(settings.workdir) or {}
    if settings.data == "csv" and pathlib.Path(settings.dataroot).is_file() and (
            fingerprint(settings.dataroot) != known.get(flags.FINGERPRINT)):
        raise ValueError(
            f"{path} is missing: the units that the model was trained in. Give the training "
            "command again with its own table, which writes it, or evaluate that table")
    return None


def _read(path):
    try:
        saved = json.loads(path.read_text())
        scalers = [own and Scaler(*(tuple(own[field.name])
                                    for field in dataclasses.fields(Scaler)))
                   for own in (saved["scaler"], saved.get("context_scaler"))]
        classes = saved.get("classes")
        return Trained(tuple(map(int, saved["event_shape"])), *scalers,
                       classes and tuple(map(str, classes)))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Remove it; the training command writes "
                         "it anew, from the same data") from None
