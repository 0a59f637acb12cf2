"""What the scripts of figures and tables have in common: options, checks, folder, sweep, report, exit status."""
import argparse
import contextlib
import pathlib
import shlex
import sys
from typing import Callable, NamedTuple

import minigrad
from minigrad import MinigradError

from .folders import prepare_folder
from .methods import METHODS
from .pool import default_jobs, run_all


class Script(NamedTuple):
    """One figure or table.

    options(parser) adds its own options; checked(options) fills in their defaults and raises MinigradError for what
    cannot be run; plan(options) -> (settings as the folder keeps them, runs); statements(options, runs) -> lines that
    say how training differs from test; report(options, runs) prints tables and draws. folder: of the results, under
    runs/, if --out is not given.
    """
    name: str
    about: str
    defaults: str               # what methods, seeds, steps and rate are in each mode, for --help
    options: Callable
    checked: Callable
    plan: Callable
    statements: Callable
    report: Callable
    folder: Callable            # options -> name


def parser(script):
    """The command line of a script."""
    methods = "\n".join(f"  {name:20s} {method.summary}. {method.source}" for name, method in METHODS.items())
    p = argparse.ArgumentParser(prog=f"python -m experiments.{script.name}", description=script.about,
                                epilog=f"defaults:\n{script.defaults}\n\nmethods:\n{methods}",
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mode", choices=("quick", "paper"), default="quick",
                   help="quick (default), or the authors' settings")
    script.options(p)
    p.add_argument("--methods", nargs="+", metavar="M", help="see below")
    p.add_argument("--seeds", type=int, nargs="+", metavar="N")
    p.add_argument("--steps", type=int, help="of training")
    p.add_argument("--rate", type=float, help="the learning rate in the beginning")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--jobs", type=int, help="runs at the same time, default one for each core (one on a GPU)")
    p.add_argument("--out", type=pathlib.Path, help="folder for results, default runs/...")
    p.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    return p


def given(value, default):
    """A list without repetitions: what was given, else the default."""
    return list(dict.fromkeys(default if value is None else value))


def check_known(methods, known):
    """Raise MinigradError, which names all there are, unless all methods are known."""
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise MinigradError(f"there is no method {', '.join(unknown)}\n  help: choose from {', '.join(known)}")


def _checked(script, options):
    for name, least in (("steps", 1), ("jobs", 1), ("rate", 1e-12)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise MinigradError(f"--{name} {value}: it must be at least {least}, and finite")
    if min(options.seeds or [0]) < 0:
        raise MinigradError(f"--seeds {min(options.seeds)}: a seed is not negative")
    options = script.checked(options)
    options.out = options.out or pathlib.Path("runs", script.folder(options))
    return options


def options_of(script, arguments):
    """The options with all defaults filled in. Raises MinigradError for what cannot be run."""
    return _checked(script, parser(script).parse_args(arguments))


def main(scripts, arguments=None, executor=None, command=None):
    """Run a script, or several, from the command line; gives the exit status.

    The runs of all go through one sweep, each once, and every script then reports. executor: see pool.run_all.
    """
    scripts = scripts if isinstance(scripts, list) else [scripts]
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = [parser(script).parse_args(arguments) for script in scripts]
    try:
        if parsed[0].backend:
            minigrad.use(parsed[0].backend)
        plans = []
        for script, options in zip(scripts, parsed):
            options = _checked(script, options)
            plans.append((script, options, *script.plan(options)))
        statements = [_begins(*plan) for plan in plans]     # bad data and impossible shares are found before ...
        with contextlib.ExitStack() as stack:
            for folder, (kept, runs) in _folders(plans).items():                                # ... anything is kept
                stack.enter_context(prepare_folder(folder, kept, parsed[0].resume, megabytes=5 + 4 * len(runs)))
            print("\n".join(statements))
            run_all([run for *_, runs in plans for run in runs], parsed[0].jobs or default_jobs(), executor)
            for script, options, _, runs in plans:
                script.report(options, runs)
        return 0
    except (MinigradError, OSError) as error:
        help = "" if isinstance(error, MinigradError) else "\n  help: the last checkpoint is kept; --resume goes on"
        print(f"error: {error}{help}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = shlex.join([a for a in map(str, arguments) if a != "--resume"] + ["--resume"])
        print("\nstopped; nothing up to the last line of the record is lost. Go on with:\n"
              f"  python -m experiments.{command or scripts[0].name} {again}")
        return 130


def _begins(script, options, kept, runs):
    """What is about to be run, and how training differs from test."""
    head = f"{script.name}, {options.mode} mode, {options.data} data, {minigrad.backend.name()}: {len(runs)} runs"
    return "\n".join([head, *script.statements(options, runs)])


def _folders(plans):
    """{folder: (its settings, the runs in it)}."""
    found = {}
    for _, options, kept, runs in plans:
        found.setdefault(options.out, (kept, []))[1].extend(runs)
    return found
