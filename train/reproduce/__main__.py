"""`python -m train.reproduce NAME [--folder=DIR] [--quick]`: a png, a csv and a line of verdict.

Each takes at most 20 minutes on 2 CPU cores. One that was stopped goes on where it was when the
same command is given again. --quick makes the same with next to no training, to see that all works;
its numbers mean nothing.
"""

import argparse
import importlib
import pathlib
import sys

from train import environment
from train.errors import UserError
from train.output import outliving_readers

NAMES = {"fig1": "the biased estimator against the unbiased one, as the Lipschitz constant grows",
         "fig2": "learned orders of the norms, layer by layer",
         "fig3": "fixed, equal and mixed norms",
         "fig4": "convergence by activation", "table2": "estimator and activation",
         "memory": "peak memory against terms and depth", "toy": "the eight densities of the plane",
         "samples": "samples of the image models",
         "hopfield": "an associative memory, by five ways to the gradient of a fixed point",
         "hypergrad": "learning rates and momenta learned through training, memory and time",
         "citation": "a graph network of documents, by the same five ways",
         "moonwalk": "gradients by forward sweeps: memory, time, stability, noise",
         "strategies": "strategies for the gradient by depth: memory, time, exactness",
         "paths": "path gradients beside standard ones: time, noise, effective sizes"}


def main(argv=None):
    """Runs one reproduction; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.reproduce", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:<10} {what}" for name, what in NAMES.items()))
    parser.add_argument("name", choices=NAMES, metavar="NAME")
    parser.add_argument("--folder", type=pathlib.Path,
                        help="default: runs/reproduce/NAME, with --quick NAME-quick")
    parser.add_argument("--quick", action="store_true")
    with outliving_readers():
        return _reproduce(parser.parse_args(argv))


def _reproduce(args):
    folder = args.folder or pathlib.Path("runs/reproduce",
                                         args.name + ("-quick" if args.quick else ""))
    environment.prepare()
    module = importlib.import_module(f"train.reproduce.{args.name}")
    try:
        verdict = module.reproduce(folder, args.quick)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (folder / f"{args.name}.txt").write_text(verdict + "\n")
    print(f"{args.name}: {verdict}")
    print(f"wrote {folder}/{args.name}.png, .csv and .txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
