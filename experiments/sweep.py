"""Several figures and tables at once; runs that they share are trained once.

    python -m experiments.sweep FIGURE [FIGURE ...] [--jobs N] [options of the figures]

With one figure this is the same as python -m experiments.FIGURE. See python -m experiments for their names.
"""
import importlib
import itertools
import sys

from . import SCRIPTS, console, script


def main(arguments=None, executor=None):
    """Run the figures named by the first arguments, with the options after them; return the exit status.

    executor: see pool.run_all.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    known = [entry.name for entry in SCRIPTS if entry.runs]
    if not names or not set(names) <= set(known):
        help_wanted = arguments[:1] in (["-h"], ["--help"])
        console.prepare()
        print(f"{__doc__}\nFIGURE is one of {', '.join(known)}", file=sys.stdout if help_wanted else sys.stderr)
        return 0 if help_wanted else 2
    scripts = [importlib.import_module(f"{__package__}.{name}").SCRIPT for name in dict.fromkeys(names)]
    return script.main(scripts, arguments[len(names):], executor, "sweep " + " ".join(names))


if __name__ == "__main__":
    sys.exit(main())
