"""What the scripts of figures and tables have in common: options, checks, folder, sweep, report, exit status."""
import argparse
import contextlib
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import NamedTuple

import minigrad
from minigrad import MinigradError

from . import console
from .folders import prepare_folder, read_record
from .methods import METHODS
from .pool import default_jobs, run_all
from .runs import recorded, results


class Script(NamedTuple):
    """One figure or table.

    options(parser) adds its own options; checked(options) fills in their defaults and raises MinigradError for what
    cannot be run; plan(options) -> (settings as the folder keeps them, runs); statements(options, runs) -> lines that
    say how training differs from test; report(options, runs, lines, caption) prints tables and draws, from the runs
    that came to their end and the lines of their records. folder: of the results, under runs/, if --out is not given.

    run_of: (options, line) -> the run that has this line in its record, where the report is of all runs in the folder.
    grows: whether a run that is given more steps goes on where it ended.
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
    run_of: Callable | None = None
    grows: bool = False


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
    p.add_argument("--out", type=console.folder, help="folder for results, default runs/...")
    p.add_argument("--resume", action="store_true",
                   help="go on with what the folder holds" + ", also with more --steps than there were" * script.grows)
    return p


def given(value, default):
    """A list without repetitions: what was given, else the default."""
    return list(dict.fromkeys(default if value is None else value))


def check_methods(methods, unfit):
    """Raise MinigradError, which names all that can be used, unless all methods are in the table and fit.

    unfit(a row of the table) -> why it cannot be used, or None.
    """
    choice = f"\n  help: choose from {', '.join(name for name, method in METHODS.items() if not unfit(method))}"
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise MinigradError(f"there is no method {', '.join(unknown)}{choice}")
    for name in methods:
        if why := unfit(METHODS[name]):
            raise MinigradError(f"{name} cannot be used here: {why}{choice}")


def wrong_classes(method, classes):
    """Why a method cannot be used on so many classes, or None."""
    if method.classes not in (None, classes):
        return f"it is for {method.classes} classes, and here are {classes}"
    return None


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
    """Run a script, or several, from the command line; gives the exit status: 1 where a run failed.

    The runs of all go through one sweep, each once, and every script then reports. executor: see pool.run_all.
    """
    console.prepare()
    scripts = scripts if isinstance(scripts, list) else [scripts]
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = [parser(script).parse_args(arguments) for script in scripts]
    try:
        return _main(scripts, parsed, executor)
    except (MinigradError, OSError) as error:
        print(f"error: {console.reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = shlex.join([a for a in map(str, arguments) if a != "--resume"] + ["--resume"])
        print("\nstopped; nothing up to the last line of the record is lost. Go on with:\n"
              f"  python -m experiments.{command or scripts[0].name} {again}")
        return 130


def _main(scripts, parsed, executor):
    if parsed[0].backend:
        minigrad.use(parsed[0].backend)
    plans = []
    for script, options in zip(scripts, parsed):
        options = _checked(script, options)
        plans.append((script, options, *script.plan(options)))
    folders = _folders(plans)
    statements = [_begins(*plan) for plan in plans]         # bad data and impossible shares are found before ...
    with contextlib.ExitStack() as stack:
        for folder, (script, kept, runs) in folders.items():                                    # ... anything is kept
            stack.enter_context(prepare_folder(folder, kept, parsed[0].resume, 5 + 4 * len(runs), script.grows))
        print("\n".join(statements), flush=True)
        failed = run_all([run for *_, runs in plans for run in runs], parsed[0].jobs or default_jobs(), executor)
        for script, options, _, runs in plans:
            try:
                _report(script, options, runs, failed)
            except Exception as error:                      # the other reports are still wanted, and the list
                failed[f"the report of {script.name}"] = console.reason(error)
    for name, why in failed.items():
        print(f"failed: {why if why.startswith(name) else f'{name}: {why}'}", file=sys.stderr)
    return 1 if failed else 0


def _begins(script, options, kept, runs):
    """What is about to be run, and how training differs from test."""
    head = f"{script.name}, {options.mode} mode, {options.data} data, {minigrad.backend.name()}: {len(runs)} runs"
    return "\n".join([head, *script.statements(options, runs)])


def _folders(plans):
    """{folder: (a script that writes there, its settings, the runs in it)}. Raises MinigradError for two settings."""
    found = {}
    for script, options, kept, runs in plans:
        first, settings, together = found.setdefault(options.out, (script, kept, []))
        if settings != kept:
            raise MinigradError(f"{options.out}: {first.name} and {script.name} have different settings, and a folder "
                                "holds one\n  help: run each by itself with an --out of its own, or leave --out away")
        together.extend(runs)
    return found


def _report(script, options, runs, failed):
    """What the runs that came to their end show, and which did not."""
    if script.run_of:
        runs = [*runs, *_in_folder(script, options, {run.record for run in runs})]
    whole, missing = results(runs, failed)
    lines = [line for run in whole for line in recorded(run)]
    note = f"; without {len(missing)} of {len(runs)} runs" if missing else ""
    if lines:
        script.report(options, whole, lines, f"{options.mode} mode, {options.data} data{note}")
    for text in missing:
        print(f"missing: {text}")
    print(f"records: {options.out}/*.jsonl" if lines else f"{script.name}: no run came to its end, nothing is drawn")


def _in_folder(script, options, known):
    """The runs of all other records than the known ones in the folder; prints which files are left out, and why."""
    for path in sorted({*options.out.glob("*.jsonl")} - known):
        try:
            run = script.run_of(options, read_record(path)[0])
            if run.record != path:
                raise MinigradError(f"by what it holds its name should be {run.record.name}")
            yield run
        except (MinigradError, KeyError, IndexError, TypeError, ValueError) as error:
            why = {IndexError: "it holds no line", KeyError: f"it has no {error}"}.get(type(error), str(error))
            first = why.removeprefix(f"{path}: ").partition("\n")[0]
            print(f"left out: {path}, which is no record of {script.name}: {first}")
