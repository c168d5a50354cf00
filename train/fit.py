"""`train`: fit, continue where an earlier run of the workdir stopped, evaluate, sample."""

import contextlib
import os
import pathlib
import sys

import keras
import numpy as np

from tfresflow.training.distributed import NonFinite
from train import callbacks, checkpoints, cluster, data, evaluate, feeds, flags, log, sample
from train.build import build_loss, build_model, build_optimizer, law, steps_per_epoch, total_steps
from train.errors import Interrupted, UserError, blame_the_disk, blame_the_input
from train.files import fingerprint_of, locked
from train.means import Means
from train.solving import solving
from train.status import saying
from train.tails import Tails

__all__ = ["report", "train"]

_SHOWN = 160  # samples in a grid of all classes


def train(settings):
    """Runs the whole job, with the other workers if there are any.

    Raises:
      UserError: unsuitable flags or data.
      NonFinite: the loss or a gradient is not finite.
      Interrupted: by a signal, after a checkpoint.
      Unwritable: the workdir.
      WorkerLost: another worker ended.
    """
    workdir = pathlib.Path(settings.workdir)
    with blame_the_input():
        flags.conflicts(settings, workdir)
        group = cluster.form(settings)
    with cluster.watching(group):
        with blame_the_input(), group.strategy.scope():
            feeds.check(settings, group.strategy)  # unsuitable data is told first
            with saying("building the model"):
                model = build_model(settings)
                model.compile(build_optimizer(settings), loss=build_loss(settings))
        with _workdir(settings, workdir, group) as found:
            with solving() if settings.task == "sampling" else contextlib.nullcontext():
                _fit(model, settings, workdir, group, found)
            if group.chief:
                report(settings)
        group.total([0])  # a worker that ended earlier would look lost


def report(settings):
    """What a run ends with: evaluation and samples of its checkpoint."""
    with checkpoints.loaded(settings) as model:
        evaluate.evaluate(model, settings)
        sample.sample(model, settings)


@contextlib.contextmanager
def _workdir(settings, workdir, group):
    """The chief has the workdir to itself; gives the fingerprint of what it trains on."""
    if not group.chief:
        yield None
        return
    with blame_the_disk(workdir):
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"--workdir={workdir} must be a folder, or one that can be made. "
                            f"Received: a path of which the system says: {error.strerror}"
                            ) from None
    with locked(workdir):
        checkpoints.remove_partial(workdir)
        with blame_the_input(), blame_the_disk(workdir):
            found = fingerprint_of(settings)
            flags.conflicts(settings, workdir, found)
            if settings.task != "sampling":
                data.save_trained(data.describe(settings), workdir)
        yield found


def _fit(model, settings, workdir, group, found):
    group.total([0])  # the chief has the workdir
    checkpoint, saved, path = checkpoints.restore(model, settings, "last")
    step, steps = int(model.optimizer.iterations.numpy()), total_steps(settings)
    _check_shared(group, step, workdir)
    feed = feeds.feed(model, settings, group.strategy)
    interval = min(settings.val_every or steps_per_epoch(settings), steps)
    means = Means(checkpoint, step % interval, Means.names_of(model))
    keeper = callbacks.Checkpoints(checkpoint, saved, means, f"val_{feed.monitor}",
                                   settings.save_every, writes=group.chief)
    limits = callbacks.Limits(keeper, steps, interval, settings.max_minutes, group)
    logged = log.cut(workdir / "log.csv", step) if group.chief else step
    limit = _limit(settings, step, steps, group.total([limits.late()])[0])
    if group.chief:
        _go_on(settings, workdir, found, step, path, limit)
    due = logged < step and (step % interval == 0 or step >= steps)
    if path is not None and group.total([due])[0]:  # it was ended in the validation of this step
        scores = model.evaluate(**feed.validation, verbose=0, return_dict=True)
        if group.chief:
            _log(workdir, (step - 1) // interval, step, means.kept(), scores)
        keeper.set_model(model)
        keeper.judge(scores[feed.monitor])
    if limit:
        return
    progress = callbacks.Progress(keeper, feed.monitor, feed.unit, steps, settings.max_minutes)
    bar = group.chief and sys.stdout.isatty() and "CI" not in os.environ
    writers = [progress, *_writers(model, settings, workdir, feed)] if group.chief else []
    fed = feed.training(step, [limits, progress] if group.chief else [limits])
    first = fed.pop("callbacks", [])
    silent = contextlib.nullcontext()
    with limits.catching_signals(), _saved_when_it_ends(model, keeper), (
            progress.until_validated() if group.chief and not bar else silent):
        model.fit(**fed, initial_epoch=step // interval, epochs=-(-steps // interval),
                  steps_per_epoch=interval, verbose=int(bar),
                  callbacks=[means, *first, limits, _Step(), *writers, keeper])


@contextlib.contextmanager
def _saved_when_it_ends(model, keeper):
    """What is left of training that ends early, and what is said."""
    step = int(model.optimizer.iterations.numpy())
    try:
        yield
    except Interrupted:
        keeper.save()  # here, where the weights are those of training again
        raise
    except NonFinite as error:
        keeper.stop(error)
    except ValueError as error:
        if int(model.optimizer.iterations.numpy()) > step:
            raise
        raise UserError(" ".join(str(error).split())) from error  # no step with this data


def _check_shared(group, step, workdir):
    if group.total([step])[0] != group.workers * step:
        raise UserError(f"worker {group.index} finds step {step} in --workdir={workdir}, others "
                        "another one: it must be a folder that all workers share")


def _limit(settings, step, steps, late):
    """The flag for which no step is left, or None."""
    if step < steps:
        return f"--max_minutes={settings.max_minutes:g}" if late else None
    return (f"--niters={steps}" if settings.niters else
            f"--nepochs={settings.nepochs}, which is {steps} steps")


def _go_on(settings, workdir, found, step, path, limit):
    """Says where a run begins, and writes its settings: those of steps, if there are any to make.

    Args:
      found: fingerprint of the data.
      step, path: of the checkpoint, if any.
      limit: of `_limit`.
    """
    if limit:
        print(f"at step {step} already ({path}): nothing is left to train with {limit}", flush=True)
    elif path is not None:
        print(f"continuing from step {step} ({path})", flush=True)
    if limit and flags.load(workdir) is not None:
        return
    for line in flags.changes(settings, workdir):
        print(line, flush=True)
    flags.save(settings, workdir, found)


def _log(workdir, epoch, step, trained, scores):
    """Adds the row of a validation that an earlier run did not come to the end of."""
    log.add(workdir / "log.csv", {"epoch": epoch, "step": step,
                                  **{n: v for n, v in trained.items() if n in scores},
                                  **{f"val_{name}": value for name, value in scores.items()}})


def _writers(model, settings, workdir, feed):
    board, others = workdir / "tensorboard", []
    if model.scale_bits is not None:
        shown = {}
        if model.is_conditional:
            classes = len(data.describe(settings).classes)
            shown = {"context": np.eye(classes)[:_SHOWN], "count": max(1, _SHOWN // classes)}
        others = [callbacks.SampleGrid(board / "samples", settings.seed, **shown)]
    rule = law(settings, settings.n_exact_terms)
    if rule.weights() is not None:
        x, *context = feed.rows()
        context = context if model.is_conditional else []  # else labels
        others.append(Tails(x[:8], rule, *(c[:8] for c in context)))
    return [*others, keras.callbacks.TensorBoard(board, write_graph=False),
            log.Log(workdir / "log.csv")]


class _Step(keras.callbacks.Callback):
    """Adds the step to the logs that TensorBoard and the CSV get."""

    def on_epoch_end(self, epoch, logs=None):
        logs["step"] = int(self.model.optimizer.iterations.numpy())
