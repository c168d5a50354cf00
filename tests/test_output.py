"""Whoever reads the output of a command may leave: the command goes on, and says so."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import pandas as pd
import pytest

from tests.command import ROOT
from tests.test_faults import TINY
from train.main import main
from train.output import outliving_readers
from train.reproduce.__main__ import main as reproduce
from train.settings import COMMANDS

SAID = "warning: standard output takes no more (Broken pipe): the command goes on without\n"


@contextlib.contextmanager
def unread():
    """Within, standard output is a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, contextlib.redirect_stdout(stream):
        yield stream
        assert sys.stdout is stream


def test_what_nobody_reads_is_left_out_and_said_once(capsys):
    def speak():
        for _ in range(20):
            print("x" * 100, flush=True)

    with unread(), outliving_readers():
        threads = [threading.Thread(target=speak) for _ in range(4)]
        for thread in threads:
            thread.start()
        speak()
        for thread in threads:
            thread.join()
        assert not sys.stdout.isatty()
    assert capsys.readouterr().err == SAID


def test_what_was_not_flushed_before_the_end(capsys):
    with unread(), outliving_readers():
        print("x")
    assert capsys.readouterr().err == SAID


def test_both_streams_without_a_reader():
    with unread() as output, os.fdopen(os.dup(output.fileno()), "w") as error:
        with contextlib.redirect_stderr(error), outliving_readers():
            print("x", flush=True)
            print("y", file=sys.stderr, flush=True)


def test_what_is_found_while_tensorflow_is_loaded_is_said_after():
    code = ("import os\nfrom train.loading import loading\n"
            "from train.output import outliving_readers\n"
            "with outliving_readers(), loading():\n"
            "    print('x', flush=True)\n    os.write(2, b'chatter')\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=writing,
                          stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, SAID)


def test_streams_that_are_closed_from_the_start(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["x", "--help"]) == 0
    assert main(["x", "nonsense"]) == 2
    assert sys.stdout is sys.stderr is None


@pytest.mark.usefixtures("only_train")
def test_training_goes_on_without_a_reader(tmp_path, capsys):
    args = ["x", *TINY, "--niters=2", "--val_every=1", f"--workdir={tmp_path / 'run'}"]
    with unread():
        assert main(args) == 0
    assert capsys.readouterr().err == SAID
    assert list(pd.read_csv(tmp_path / "run" / "log.csv").step) == [1, 2]


def test_reproductions_go_on_without_a_reader(tmp_path, capsys, monkeypatch):
    from train.reproduce import fig4
    monkeypatch.setattr(fig4, "reproduce", lambda folder, quick: print(1, flush=True) or "well")
    with unread():
        assert reproduce(["fig4", f"--folder={tmp_path}"]) == 0
    assert capsys.readouterr().err == SAID
    assert (tmp_path / "fig4.txt").read_text() == "well\n"


@pytest.mark.slow
@pytest.mark.parametrize("reader, said", [
    ("| head -1", SAID), pytest.param("2>&1 | true", "", marks=pytest.mark.exhaustive),
    pytest.param(">&-", "", marks=pytest.mark.exhaustive)])
def test_every_command_ends_as_it_would_with_a_reader(tmp_path, reader, said):
    run = tmp_path / "run"
    flags = {"train": [*TINY, "--niters=40"], "eval": [], "sample": [],
             "ood": ["--data_out=rings"]}
    assert {*flags, "import", "export"} == {*COMMANDS}
    for command in flags if reader == "| head -1" else ["train"]:
        words = [sys.executable, "-m", "train.main", command, f"--workdir={run}", *flags[command]]
        done = subprocess.run(
            ["bash", "-c", f"{' '.join(words)} {reader}; exit ${{PIPESTATUS[0]}}"], cwd=ROOT,
            text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, said)
    assert json.loads((run / "metrics.json").read_text())["num_probe_draws"] == 1
    assert (run / "density.png").exists()
