"""The wheel holds all that the library and the command line need."""

import os
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


@pytest.mark.slow
def test_what_is_installed_works_from_another_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = tmp_path / "source"  # as what an earlier build has left would be packed, too
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(
        ".*", "build", "site", "runs", "docs", "*.egg-info"))
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True)
    [wheel] = tmp_path.glob("tfresflow-*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    env = {**os.environ, "PYTHONPATH": str(target)}
    for command in (["-c", SMOKE], ["-m", "tfresflow", "train", "--data=moons", "--nblocks=1",
                                    "--dims=4", "--niters=2", "--val_every=2", "--n_test=50",
                                    "--val_batchsize=50", "--workdir=run"]):
        subprocess.run([sys.executable, *command], check=True, cwd=tmp_path, env=env)
    assert (tmp_path / "run" / "density.png").stat().st_size
