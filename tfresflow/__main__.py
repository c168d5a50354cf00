"""`python -m tfresflow`: the command line, whatever the working folder holds."""

import pathlib
import runpy
import sys

HOME = pathlib.Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    # Python puts the working folder first, and a `train.py` there would hide the package.
    if sys.path and pathlib.Path(sys.path[0]).resolve() == pathlib.Path.cwd() != HOME:
        del sys.path[0]
    # What the package has left out so far is imported once the flags have been checked.
    del sys.modules["tfresflow"]
    runpy.run_module("train.main", run_name="__main__", alter_sys=True)
