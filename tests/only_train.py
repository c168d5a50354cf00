"""The command in a process of its own, without the evaluation and samples that follow training."""

from train import environment

environment.prepare()

from train import fit  # noqa: E402
from train.main import run  # noqa: E402

if __name__ == "__main__":
    fit.report = lambda settings: None
    run()
