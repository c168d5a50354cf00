"""Which of Keras's backends there must be."""

import os
import subprocess
import sys

import pytest

from tests.command import ROOT


@pytest.mark.parametrize("package", ["tfresflow", "bijectors"])
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_is_refused_in_one_line(backend, package):
    done = subprocess.run([sys.executable, "-c", f"import {package}"], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "KERAS_BACKEND": backend})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tfresflow needs Keras with TensorFlow")
    assert last.endswith(f"KERAS_BACKEND={backend}")
