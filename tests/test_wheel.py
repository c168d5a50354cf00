"""The wheel holds all that the library and the command line need."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.command import ROOT

SMOKE = """
import pathlib, bijectors, tfresflow, train
folder = pathlib.Path("installed").resolve()
assert all(folder in pathlib.Path(m.__file__).parents for m in (bijectors, tfresflow, train))
from bijectors.flows import toy_flow
from tfresflow import FlowModel
model = FlowModel(toy_flow(nblocks=1, dims=4))
model.compile("sgd")
model.fit([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0]], verbose=0)
assert model.sample(2).shape == (2, 2)
"""


# What is run from another folder, and by another Python.
COMMANDS = (["-c", SMOKE], ["-m", "tfresflow", "train", "--data=moons", "--nblocks=1", "--dims=4",
                            "--niters=2", "--val_every=2", "--n_test=50", "--val_batchsize=50",
                            "--workdir=run"])


def wheel_in(folder):
    source = folder / "source"  # as what an earlier build has left would be packed, too
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(
        ".*", "build", "site", "runs", "docs", "*.egg-info"))
    subprocess.run([*pip(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder, source],
                   check=True)
    [wheel] = folder.glob("tfresflow-*.whl")
    return wheel


def pip(python):
    return [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.mark.slow
def test_what_is_installed_works_from_another_folder(tmp_path):
    target = tmp_path / "installed"
    subprocess.run([*pip(sys.executable), "install", "--no-deps", "--target", target,
                    wheel_in(tmp_path)], check=True)
    env = {**os.environ, "PYTHONPATH": str(target)}
    for command in COMMANDS:
        subprocess.run([sys.executable, *command], check=True, cwd=tmp_path, env=env)
    assert (tmp_path / "run" / "density.png").stat().st_size


def other_pythons():
    """Of the versions that are supported, those that this machine has beside the one at work."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    for minor in {10, 11, 12, 13} - {sys.version_info.minor}:
        for python in [shutil.which(f"python3.{minor}"),
                       *pyenv.glob(f"versions/3.{minor}.*/bin/python3")]:
            if python and not subprocess.run([python, "-c", "import venv, ensurepip"],
                                             capture_output=True).returncode:
                yield minor, str(python)
                break


@pytest.mark.slow
def test_another_version_of_python(tmp_path):
    """The one furthest from that at work, with all that it needs, in an empty environment."""
    found = sorted(other_pythons(), key=lambda one: abs(one[0] - sys.version_info.minor))
    if not found:
        pytest.skip("this machine has one Python of a version that is supported")
    minor, python = found[-1]
    subprocess.run([python, "-m", "venv", tmp_path / "installed"], check=True)
    python = tmp_path / "installed" / "bin" / "python"
    subprocess.run([*pip(python), "install", f"{wheel_in(tmp_path)}[train]"], check=True)
    for command in COMMANDS:
        subprocess.run([python, *command], check=True, cwd=tmp_path)
    assert (tmp_path / "run" / "density.png").stat().st_size
    assert list((tmp_path / "installed" / "lib").glob(f"python3.{minor}"))
