"""Runs a command and turns what can go wrong for a user into one line and an exit code."""

import signal

import tensorflow as tf

from tfresflow.training.distributed import NonFinite
from train import data, evaluate, fit, ood, sample
from train.checkpoints import loaded
from train.errors import (Interrupted, NotConverged, Unwritable, UserError, WorkerLost,
                          blame_the_disk)
from train.reference.moving import export_run, import_run

__all__ = ["run"]


def run(settings, fail):
    """Runs `settings.command`; `fail(message, code)` tells the user and returns the code."""
    try:
        with blame_the_disk(settings.workdir), data.kept():
            _COMMANDS[settings.command](settings)
    except UserError as error:
        return fail(error, 2)
    except NotConverged as error:
        return fail(error, 3)
    except tf.errors.InvalidArgumentError:
        unreadable = data.find_unreadable(settings)
        if unreadable is None:
            raise
        return fail(unreadable, 2)
    except NonFinite as error:
        return fail(error, 4)
    except Unwritable as error:
        return fail(error, 5)
    except WorkerLost as error:
        return fail(error, 6)
    except Interrupted as error:
        return fail(f"{signal.Signals(error.signal).name}: saved. To go on, give the same command "
                    f"again (--workdir={settings.workdir})", 128 + error.signal)
    return 0


def _with_model(function):
    def command(settings):
        with loaded(settings) as model:
            function(model, settings)

    return command


_COMMANDS = {"train": fit.train, "eval": _with_model(evaluate.evaluate),
             "sample": _with_model(sample.sample), "ood": _with_model(ood.compare),
             "import": import_run, "export": export_run}
