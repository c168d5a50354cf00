"""Tests of memory, by the statistics of TensorFlow's allocator."""

import os
import subprocess
import sys

import pytest

from tests.command import ROOT
from train.reproduce.peak import has_statistics, peak

__all__ = ["in_a_process_that_counts", "peaks"]


def peaks(step, count=5):
    """Bytes that each of `count` calls takes at its peak above what is there before, past a first.

    Operations that wait for nothing run in any order: they differ by some tensors.
    """
    step()
    return [peak(step) for _ in range(count)]


def in_a_process_that_counts(item):
    """Runs a test marked `allocator` elsewhere if the allocator of this process does not count.

    Without oneDNN it does not, and what holds memory is the same with it.

    Returns:
      Whether the test was run.
    """
    if item.get_closest_marker("allocator") is None or has_statistics():
        return False
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses=0", "-m", "", item.nodeid], text=True,
        cwd=ROOT, env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        pytest.fail(done.stdout[-5000:], pytrace=False)
    return True
