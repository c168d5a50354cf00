"""`import` and `export`: checkpoints of the reference to runs, and back."""

import contextlib
import dataclasses
import pathlib

import numpy as np

from bijectors import flows
from bijectors.flows.published import kept_names, parameters
from tfresflow.layers.induced_norm import vectors_given
from train import checkpoints, flags
from train.build import build_model, build_optimizer
from train.errors import UserError, blame_the_input
from train.files import fingerprint_of, locked
from train.reference.arguments import arguments_of
from train.reference.pickles import Record
from train.reference.reading import Checkpoint
from train.reference.writing import write

__all__ = ["export_run", "import_run"]


def import_run(settings):
    """Writes a workdir, as `train` does, of the model in `settings.checkpoint`.

    Raises:
      UserError: the file is none of the reference, or its model is not of these settings.
    """
    workdir = pathlib.Path(settings.workdir)
    if flags.load(workdir) is not None:
        raise UserError(f"--workdir={workdir} holds a run already. Choose another one")
    with blame_the_input(), Checkpoint(settings.checkpoint) as file:
        args = arguments_of(file.content, settings.checkpoint)
        with vectors_given():
            model = build_model(settings)
        model.compile(build_optimizer(settings))
        model.optimizer.build(model.trainable_variables)
        flows.load_reference(model.flow, file.content["state_dict"], args)
        said = _load_average(model, args, file.content) + _load_moments(model, args, file.content)
        _save(model, settings, args, file.content)
    print(f"imported {settings.checkpoint} to {workdir}, at step "
          f"{int(model.optimizer.iterations.numpy())}{said}", flush=True)


def export_run(settings):
    """Writes `settings.checkpoint`, a file of the reference, of an imported run's last weights.

    Raises:
      UserError: the workdir is not of an imported run, or has no checkpoint.
    """
    workdir = pathlib.Path(settings.workdir)
    with blame_the_input(), contextlib.ExitStack() as stack:
        if not (workdir / flags.IMPORTED).exists():
            raise ValueError(f"--workdir={workdir} must hold an imported run: there is no "
                             f"{flags.IMPORTED} in it")
        kept = stack.enter_context(Checkpoint(workdir / flags.IMPORTED)).content
        args = arguments_of(kept, workdir / flags.IMPORTED)
        with vectors_given():
            model = build_model(settings)
        model.compile(build_optimizer(settings))
        *_, path = checkpoints.restore(model, settings, "last")
        if path is None:
            raise ValueError(f"--workdir={workdir} holds no checkpoint")
        content = {"state_dict": flows.to_reference(model.flow, args, kept["state_dict"]),
                   "args": kept["args"]}
        if model.optimizer.use_ema:
            content["ema"] = _average(model, args, content["state_dict"])
        write(content, settings.checkpoint)
    print(f"exported {path} to {settings.checkpoint}", flush=True)


def _save(model, settings, args, content):
    workdir = pathlib.Path(settings.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        _, saved, path = checkpoints.restore(model, settings, "last")
        if path is not None:
            raise UserError(f"--workdir={workdir} holds checkpoints already. Choose another one")
        buffers = {name: np.asarray(content["state_dict"][name])
                   for name in kept_names(model.flow, args)}
        write({"args": content["args"], "state_dict": buffers}, workdir / flags.IMPORTED)
        step = int(model.optimizer.iterations.numpy())
        for manager in saved.values():
            manager.save(step)
        found = fingerprint_of(settings)
        flags.save(dataclasses.replace(settings, command="train", checkpoint="best"), workdir,
                   found)


def _load_average(model, args, content):
    """Gives the optimizer the averaged weights; says so if there are none."""
    if not model.optimizer.use_ema:
        return ""
    ema = content.get("ema")
    shadow = ema.fields.get("shadow_params") if isinstance(ema, Record) else None
    model.optimizer.iterations.assign(1)  # in step 0, an average begins with the weights
    averages = {id(v): a for v, a in zip(model.trainable_variables,
                                         model.optimizer._model_variables_moving_average)}
    if not shadow:
        for variable in model.trainable_variables:
            averages[id(variable)].assign(variable)
        return ", without averaged weights: there are none in it"
    for weight, value in flows.reference_average(model.flow, args, shadow):
        averages[id(weight)].assign(value)
    return ", with averaged weights"


def _load_moments(model, args, content):
    """Gives Adam its moments and its step; says so if there are none."""
    state = content.get("optimizer_state_dict")
    if state is None or args.get("optimizer", "adam") != "adam":
        return "; the optimizer begins anew"
    names, [group] = parameters(model.flow, args), state["param_groups"]
    if len(group["params"]) != len(names):
        raise ValueError(f"`optimizer_state_dict` must have {len(names)} parameters. "
                         f"Received: {len(group['params'])}")
    optimizer, step = model.optimizer, 0
    index = {id(v): i for i, v in enumerate(model.trainable_variables)}
    for (name, entry), key in zip(names.items(), group["params"]):
        own = state["state"].get(key)
        if own is None or entry.weight is None:
            continue
        for slots, moment in ((optimizer._momentums, "exp_avg"),
                              (optimizer._velocities, "exp_avg_sq")):
            value = np.asarray(own[moment])
            if value.shape != entry.shape:
                raise ValueError(f"`optimizer_state_dict` must have {name} of shape {entry.shape}. "
                                 f"Received: {value.shape}")
            slots[index[id(entry.weight)]].assign(entry.moved(value))
        step = max(step, int(np.asarray(own["step"])))
    optimizer.iterations.assign(max(step, 1))
    return ", with the optimizer's moments"


def _average(model, args, state_dict):
    """The reference's object of averaged weights."""
    averages = {id(v): a.numpy() for v, a in zip(model.trainable_variables,
                                                 model.optimizer._model_variables_moving_average)}
    names = parameters(model.flow, args)
    ema = Record()
    ema.kind = "resflows.utils.ExponentialMovingAverage"
    ema.fields = {
        "module": None, "decay": float(model.optimizer.ema_momentum),
        "shadow_params": {name: state_dict[name] if entry.weight is None else entry.theirs(
            averages[id(entry.weight)]).astype(np.float32) for name, entry in names.items()},
        "nparams": sum(int(np.prod(entry.shape)) for entry in names.values())}
    return ema
