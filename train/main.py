"""The command line: `python -m train.main [train|eval|sample|ood] --flagfile=configs/X.cfg`,
`python -m train.main [import|export] --checkpoint=FILE.pth --workdir=DIR`.

Exit codes: 0 done; 2 a flag, a file or the data is not right; 3 an inverse did not converge; 4 a
loss or gradient is not finite; 5 the workdir is not writable; 6 a worker is lost; 130, 143 signals.
"""

import sys

from train import environment, flags
from train.loading import hearing_interrupts, loading
from train.output import outliving_readers
from train.status import saying

__all__ = ["main", "run"]


def main(argv):
    """Runs the command of `argv`, which is as `sys.argv`; returns the exit code."""
    with outliving_readers():
        return _main(argv)


def run():
    """The console script."""
    sys.exit(main(sys.argv))


def _main(argv):
    if {"--help", "-h", "-help", "--helpfull"} & set(argv[1:]):
        print(flags.usage())
        return 0
    try:
        settings = flags.parse(argv)
    except (ValueError, OSError) as error:
        return _fail(error, 2)
    environment.prepare()
    try:
        with hearing_interrupts():
            # TensorFlow takes seconds to import: flags were checked first.
            with saying(f"{settings.command} {settings.subject} in {settings.workdir}"), loading():
                from train import commands
                commands.tf.config.list_physical_devices()
            return commands.run(settings, _fail)
    except ModuleNotFoundError as error:
        return _fail(f"{error}: the command line needs pip install 'tfresflow[train]'", 2)
    except KeyboardInterrupt:
        return _fail("SIGINT: stopped. Training goes on from its last checkpoint, if any", 130)


def _fail(error, code):
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    run()
