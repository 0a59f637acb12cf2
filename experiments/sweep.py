"""Figures and tables by name, several at once: what they share is run once.

    python -m experiments.sweep FIGURE [FIGURE ...] [--jobs N] [options of the figures]

For one figure it is the same as python -m experiments.FIGURE. Their names: python -m experiments.
"""
import importlib
import itertools
import sys

from . import SCRIPTS, console, script


def main(arguments=None, executor=None):
    """Run the figures that the first arguments name with the options that follow; gives the exit status.

    executor: any concurrent.futures.Executor whose workers see the same files, as that of mpi4py.futures.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    known = [entry.name for entry in SCRIPTS if entry.runs]
    if not names or not set(names) <= set(known):
        helped = arguments[:1] in (["-h"], ["--help"])
        console.prepare()
        print(f"{__doc__}\nFIGURE is one of {', '.join(known)}", file=sys.stdout if helped else sys.stderr)
        return 0 if helped else 2
    scripts = [importlib.import_module(f"{__package__}.{name}").SCRIPT for name in dict.fromkeys(names)]
    return script.main(scripts, arguments[len(names):], executor, "sweep " + " ".join(names))


if __name__ == "__main__":
    sys.exit(main())
