"""The code of README.md and of the site's pages, run from top to bottom as a reader would.

What is a program, `docs/**/*.py`, is run when the site is built; CONTRIBUTING.md has its own test.
"""

import configparser
import math
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf

from tests.command import ROOT
from train.main import main
from train.reproduce.__main__ import NAMES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def ids(page):
    return str(page.relative_to(ROOT))


def run(page):
    """What all blocks of a page define, one after the other."""
    namespace = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)
    return namespace


@pytest.mark.slow
def test_twenty_lines_learn_the_density():
    names = run(ROOT / "README.md")
    entropy = 1 + math.log(2 * math.pi) + math.log(0.3)  # of the Gaussian that x is drawn from
    mean = {name: float(tf.reduce_mean(names["dist"].log_prob(tf.identity(names[name]))))
            for name in ("x", "samples")}
    np.testing.assert_allclose(-mean["x"], entropy, atol=0.1)
    np.testing.assert_allclose(-mean["samples"], entropy, atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES[1:] if blocks(p, "python")], ids=ids)
def test_python_of_a_page(page):
    assert run(page)


def test_every_block_says_what_it_is():
    """One without a language, or with another, would be run by no test."""
    for page in PAGES:
        opened = re.findall(r"^```(\S*).*\n(?:.*\n)*?^```$", page.read_text(), re.MULTILINE)
        assert set(opened) <= {"python", "sh", "{toctree}", "{image}", "{include}",
                               "{literalinclude}"}, page


COMMANDS = [(page, block) for page in PAGES for block in blocks(page, "sh")]


@pytest.mark.parametrize("page, block", COMMANDS, ids=[ids(page) for page, _ in COMMANDS])
def test_commands_are_there(page, block):
    """Targets of make, extras of pip, names of figures: what takes too long to run."""
    makefile, setup = (ROOT / "Makefile").read_text(), configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for command in map(lambda line: shlex.split(line, comments=True), block.splitlines()):
        match command:
            case ["make", target]:
                assert f"\n{target}:" in makefile
            case ["pip", "install", what]:
                assert what in {".", *(f".[{extra}]" for extra in setup["options.extras_require"])}
            case ["python", "-m", "train.reproduce", name]:
                assert name in NAMES
            case ["python", "-m", "tfresflow", *_] | ["export", _]:
                pass
            case _:
                raise AssertionError(command)


@pytest.mark.slow
@pytest.mark.parametrize("page, block", [(p, b) for p, b in COMMANDS if "-m tfresflow" in b],
                         ids=[ids(page) for page, b in COMMANDS if "-m tfresflow" in b])
def test_command_lines_of_a_page(page, block, tmp_path, monkeypatch):
    """With less training than they say."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    np.savetxt("table.csv", np.random.RandomState(0).randn(300, 3), delimiter=",")
    for line in block.splitlines():
        _, _, *command = shlex.split(line, comments=True)
        short = ["--nblocks=1", "--niters=2", "--val_every=2"] if "train" in command else []
        assert main([*command, *short]) == 0
