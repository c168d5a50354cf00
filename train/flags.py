"""The command line: flags to the one frozen `Settings`, and its file in a workdir.

Nothing else in the project reads FLAGS.
"""

import dataclasses
import difflib
import json
import os
import pathlib
import sys
import textwrap

from absl import flags

from train.files import write_json
from train.idle import idle
from train.reference.arguments import settings_of
from train.reference.command_line import translated
from train.settings import (COMMANDS, FIXED, GROUPS, SamplingFlags, Settings, TrainingFlags, check,
                            read, written)

__all__ = ["FINGERPRINT", "IMPORTED", "changes", "conflicts", "define", "load", "parse", "save",
           "usage"]

FINGERPRINT = "dataroot_fingerprint"
IMPORTED = "reference.pth"  # in a workdir: what an imported run was

_FIELDS = {f.name: f for group in GROUPS for f in dataclasses.fields(group)}
_DEFAULTS = {name: value for name, value in written(Settings()).items() if name in _FIELDS}


def define(flag_values=flags.FLAGS):
    """Defines every flag, grouped for --help."""
    kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float,
             str: flags.DEFINE_string}
    for group in GROUPS:
        for field in dataclasses.fields(group):
            name, default, text = field.name, _DEFAULTS[field.name], field.metadata["text"]
            kwargs = {"flag_values": flag_values, "module_name": group.__doc__[:-1]}
            if field.metadata["allowed"]:
                flags.DEFINE_enum(name, default, [*field.metadata["allowed"]], text, **kwargs)
            else:
                kinds[type(default)](name, default, text, **kwargs)


def parse(argv):
    """Command line to `Settings`.

    `eval`, `sample` and `ood` begin from the settings that the workdir was trained with, so does
    `train` in an imported run, and `import` from those of the checkpoint; flags that are given
    override them. Flags may be written as the PyTorch reference's, see `translated`.

    Args:
      argv: as `sys.argv`: program, then flags and at most one command.

    Raises:
      ValueError: unknown flag or command, bad value, missing flagfile; one line.
    """
    argv, warnings = translated(argv)
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow the command
    define(values)
    try:
        rest = values(argv)[1:]
    except flags.Error as error:
        raise ValueError(_said(error)) from None
    command = rest[0] if rest else "train"
    if command not in COMMANDS or len(rest) > 1:
        raise ValueError(f"the command must be one of {', '.join(COMMANDS)}. Received: "
                         f"{_not_commands(rest, argv)}")
    given = {name: values[name].value for name in _FIELDS if values[name].present}
    given.update({name: os.path.expanduser(given[name])  # a shell leaves --workdir=~/x alone
                  for name in ("workdir", "dataroot", "data_out", "checkpoint", "labels")
                  if name in given})
    settings = dict(_DEFAULTS)
    workdir = pathlib.Path(given.get("workdir") or _workdir({**settings, **given}))
    if command == "import":
        settings.update(_of_reference(given))
    elif command != "train" or (workdir / IMPORTED).exists():
        settings.update(_saved(workdir))
    settings.update(given)
    settings["workdir"] = settings["workdir"] or _workdir(settings)
    settings = Settings(command=command, **{n: _read(n, v) for n, v in settings.items()})
    check(settings)
    for line in [*warnings, *idle(settings, argv)]:
        print(f"warning: {line}", file=sys.stderr)
    return settings


def _workdir(settings):
    """The default folder of a run."""
    return f"runs/{settings['target' if settings['task'] == 'sampling' else 'data']}"


def _said(error):
    """What is wrong with the flags, in one line."""
    text = " ".join(str(error).split())
    if "open flagfile" not in text:
        return text
    return (f"--flagfile must be a file that can be read: {text.split('flagfile: ')[-1]}. Paths, "
            "those in flagfiles too, are seen from the folder in which the command runs, here "
            f"{os.getcwd()}")


def _not_commands(rest, argv):
    """What was given as commands, and what was meant perhaps."""
    received = textwrap.shorten(" ".join(rest), 100, placeholder=" ...")
    if received.startswith("\ufeff"):
        return (f"{received[1:]}, in a flagfile that begins with a byte order mark. Save it in "
                "UTF-8 without one")
    if not set(rest) <= set(argv):
        return f"{received}, in a flagfile, each line of which must be --name=value"
    near = difflib.get_close_matches(rest[0], COMMANDS, 1)
    return received + (f". Did you mean {near[0]}?" if near else "")


def usage():
    """The text of --help: the commands and all flags, as they are typed, with their defaults."""
    lines = ["tfresflow [train|eval|sample|ood] --flagfile=configs/X.cfg --workdir=DIR",
             "tfresflow [import|export] --checkpoint=FILE.pth --workdir=DIR",
             "(or python -m tfresflow, or python -m train.main)", ""]
    for group in GROUPS:
        lines.append(f"{group.__doc__[:-1]}:")
        for field in dataclasses.fields(group):
            name, default, allowed = field.name, _DEFAULTS[field.name], field.metadata["allowed"]
            choices = f" One of: {', '.join(filter(None, allowed))}." if allowed else ""
            text = field.metadata["text"] + choices
            if isinstance(default, bool):
                lines.append(f"  --[no]{name}\n      {text} Default: {'yes' if default else 'no'}.")
            else:
                lines.append(f"  --{name}={default}\n      {text}")
    return "\n".join(lines)


def save(settings, workdir, fingerprint):
    """Writes settings.json beside the run; `fingerprint`: of the files in --dataroot."""
    write_json({**written(settings), FINGERPRINT: fingerprint},
               pathlib.Path(workdir) / "settings.json")


def load(workdir):
    """The settings that a workdir was trained with, or None.

    Raises:
      ValueError: the file is damaged.
    """
    path = pathlib.Path(workdir) / "settings.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        if not isinstance(saved, dict):
            raise ValueError("it is not a table of settings")
        for name, value in saved.items():
            if name in _FIELDS:
                _read(name, value)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it and give the training command "
                         "again, which writes it anew") from None
    return saved


def conflicts(settings, workdir, fingerprint=None):
    """Raises if the workdir belongs to a run with other data or another model.

    Other flags may change when a run goes on; which ones, `changes` says.

    Args:
      settings: those of now.
      workdir: a folder, or none yet.
      fingerprint: of the files in --dataroot, to be the same as well.

    Raises:
      ValueError: one line that names each flag that differs and both values.
    """
    old, new = load(workdir), written(settings)
    if old is None:
        return
    # A file of labels is looked at by what it holds.
    free = {"labels"} if settings.data == "array" else set()
    differing = [f"{name} (there {old[name]!r}, here {new[name]!r})" for name in FIXED
                 if name in old and name not in free and old[name] != new[name]]
    if fingerprint is not None and old.get(FINGERPRINT, fingerprint) != fingerprint:
        there, here = old.get("dataroot"), settings.dataroot
        differing.append("content of dataroot (" + (
            f"{here} has changed)" if there == here else f"there {there}, here {here})"))
    if differing:
        raise ValueError(f"--workdir={workdir} holds a run with other settings: "
                         f"{', '.join(differing)}. Choose another --workdir or these settings")


def changes(settings, workdir):
    """Lines about flags of training that are others than those with which a run went before."""
    old, new = load(workdir) or {}, written(settings)
    told = {f.name for group in (TrainingFlags, SamplingFlags)
            for f in dataclasses.fields(group)} - {*FIXED, "workdir", "n_importance"}
    return [f"--{name} is {new[name]} from now on (until now {old[name]})"
            for name in sorted(told) if name in old and old[name] != new[name]]


def _read(name, value):
    """`read` of a flag, of which an error says the name."""
    try:
        return read(_FIELDS[name], value)
    except ValueError as error:
        raise ValueError(f"--{name} must be {error}. Received: --{name}={value}") from None


def _of_reference(given):
    """The settings of the checkpoint to be imported."""
    path = given.get("checkpoint", "")
    if not os.path.isfile(path):
        raise ValueError(f"--checkpoint must name a .pth file for import. Received: {path!r}")
    return settings_of(path, given)


def _saved(workdir):
    saved = load(workdir)
    if saved is None:
        raise ValueError(f"--workdir={workdir} holds no run (no settings.json there): train first")
    return {name: value for name, value in saved.items() if name in _FIELDS} | {
        "workdir": str(workdir)}
