"""The common part of the scripts of figures and tables: options, checks, folder, sweep, report, exit status."""
import abc
import contextlib
import dataclasses
import os
import pathlib
import shlex
import sys
import time

import minigrad
from minigrad import MinigradError
from minigrad.distributed import Alone, world

from .. import console
from ..methods import METHODS
from ..training import ranks, train
from ..training.folders import add_to_plan, prepare_folder, read_record
from ..training.pool import add_bases, default_jobs, run_all
from ..training.runs import read_lines, split_finished


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that all scripts have, see make_parser; None where none is given, until Script.check."""
    mode: str
    data: str
    methods: list | None
    seeds: list | None
    steps: int | None
    rate: float | None
    batch: int | None
    backend: str | None
    jobs: int | None
    executor: str | None
    out: pathlib.Path | None
    resume: bool
    quiet: bool


class Script(abc.ABC):
    """One figure or table: what it compares, and what it draws of the records."""
    Options = Options           # or a subclass with the fields that add_options adds
    name: str                   # of the command
    about: str                  # the description for --help
    defaults: str               # methods, seeds, steps and rate of each mode, for --help
    grows = False               # whether a finished run continues when it is given more steps
    owns_folder = False         # whether the report is of all runs in the folder, see run_of

    @abc.abstractmethod
    def add_options(self, parser):
        """Add the options of this script alone."""

    @abc.abstractmethod
    def check(self, options):
        """Return the options with all defaults, and methods for names; raise MinigradError if they cannot be run."""

    @abc.abstractmethod
    def plan(self, options):
        """Return the settings to save in the folder, and the runs that the options ask for."""

    @abc.abstractmethod
    def name_task(self, labels):
        """Return a name for the task of a run with these labels."""

    def statements(self, runs):
        """Return {name of a task: how training differs from test in it}, of the first run of each task."""
        first = {}
        for run in runs:
            first.setdefault(self.name_task(run.labels), run)
        return {name: run.task().statement for name, run in first.items()}

    @abc.abstractmethod
    def report(self, options, runs, lines, caption):
        """Print tables and draw pictures of the finished runs, from the lines of their records; yield the paths."""

    @abc.abstractmethod
    def folder(self, options):
        """Return the name of the default folder of results, under runs/."""

    def run_of(self, options, line):
        """Return the run with this line in its record."""
        raise NotImplementedError


def make_parser(script):
    """Return the argument parser of a script."""
    methods = "\n".join(f"  {name:20s} {method.summary}. {method.source}" for name, method in METHODS.items())
    p = console.Parser(prog=f"python -m experiments.{script.name}", description=script.about,
                       epilog=f"defaults:\n{script.defaults}\n\nmethods:\n{methods}")
    what = p.add_argument_group("what to run")
    what.add_argument("--mode", choices=("quick", "night", "paper"), default="quick",
                      help="quick (default), a night on two cores, or the authors' settings")
    script.add_options(what)
    what.add_argument("--methods", nargs="+", metavar="M", help="names of methods, see below")
    what.add_argument("--seeds", type=int, nargs="+", metavar="N", help="one run for each seed")
    what.add_argument("--steps", type=int, help="number of training steps")
    what.add_argument("--rate", type=float, help="initial learning rate")
    what.add_argument("--batch", type=int, metavar="N", help="images in a step, and as many clean ones on CIFAR; some "
                      "methods have a number of their own")
    how = p.add_argument_group("how to run it")
    how.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy if it works")
    how.add_argument("--jobs", type=int, help="concurrent runs, default one a core, on a GPU one; fewer share cores")
    how.add_argument("--executor", metavar="E", help="run on other machines: dask=ADDRESS, those of a Dask scheduler; "
                     "mpi, those that mpiexec starts this command on")
    how.add_argument("--out", type=console.folder, help="folder for results, default runs/...")
    how.add_argument("--resume", action="store_true",
                     help="continue the runs in the folder" + ", also with more --steps than before" * script.grows)
    how.add_argument("--quiet", action="store_true", help="print no progress: only tables, files and errors")
    return p


def choose_values(value, default):
    """Return the value, or the default if it is None, as a list without repetitions."""
    return list(dict.fromkeys(default if value is None else value))


def check_methods(methods, unfit):
    """Return the methods; raise MinigradError, with the list of those that can be used, unless all can.

    unfit: method -> the reason why it cannot be used, or None.
    """
    for method in methods:
        if why := unfit(method):
            choice = ", ".join(name for name, other in METHODS.items() if not unfit(other))
            raise MinigradError(f"{method.name} cannot be used here: {why}\n  help: choose from {choice}")
    return methods


def class_mismatch(method, classes):
    """Return the reason why a method cannot be used with this number of classes, or None."""
    if method.classes not in (None, classes):
        return f"it is for {method.classes} classes, not {classes}"
    return None


def _check_options(script, options):
    for name, least in (("steps", 1), ("jobs", 1), ("batch", 1), ("rate", 1e-12)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise MinigradError(f"--{name} {value}: it must be at least {least}, and finite")
    if min(options.seeds or [0]) < 0:
        raise MinigradError(f"--seeds {min(options.seeds)}: a seed must not be negative")
    if options.executor and options.jobs:
        raise MinigradError("--jobs beside --executor: its workers decide how many runs go on at once\n"
                            "  help: leave out --jobs")
    options = script.check(script.Options(**vars(options)))
    return dataclasses.replace(options, out=options.out or pathlib.Path("runs", script.folder(options)))


def parse_options(script, arguments):
    """Return the options with all defaults; raise MinigradError for options that cannot be run."""
    return _check_options(script, make_parser(script).parse_args(arguments))


def main(scripts, arguments, executor=None):
    """Run one or several scripts from the command line; return the exit status.

    The runs of all scripts are trained in one sweep, each once; then every script reports. Where mpiexec has started
    several ranks, all of them train one run after the other, see training/ranks.py.

    Args:
        scripts: a list of Scripts.
        arguments: the options of the command line.
        executor: see pool.run_all.

    Returns 0, 1 if a run failed, 2 for an error before training, 130 after Ctrl-C.
    """
    comm = Alone()
    with contextlib.ExitStack() as stack:
        try:
            comm = Alone() if executor else world()
            if comm.rank > 0:                               # rank 0 prints what all have to say
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                    stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w"))))
            return _main(scripts, [make_parser(script).parse_args(arguments) for script in scripts], executor, comm)
        except (MinigradError, OSError) as error:
            print(f"error: {ranks.tell(comm, error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            comm.lost = comm.size > 1                       # others may wait for this rank: the end of it ends them
            names, size = [script.name for script in scripts], getattr(executor or comm, "size", 1)
            again = shlex.join([*names, *[a for a in map(str, arguments) if a != "--resume"], "--resume"])
            print("\nstopped; everything up to the last line of the record is kept. Continue with:\n"
                  f"  {f'mpiexec -n {size} ' * (size > 1)}python -m experiments {again}")
            return 130


def _main(scripts, parsed, executor, comm):
    if parsed[0].backend:
        minigrad.use(parsed[0].backend)
    plans = []
    for script, options in zip(scripts, parsed):
        options = _check_options(script, options)
        plans.append((script, options, *script.plan(options)))
    runs = [run for *_, some in plans for run in some]
    ranks.check_methods(runs, comm)
    if comm.size > 1 and parsed[0].jobs:
        raise MinigradError(f"--jobs {parsed[0].jobs}: {comm.size} ranks train one run at a time\n"
                            "  help: leave out --jobs, or mpiexec")
    places = ranks.share_machine(comm)
    if places and not parsed[0].quiet:
        print(places)
    with contextlib.ExitStack() as stack:
        ranks.on_first(comm, lambda: _prepare(plans, parsed, stack))
        if comm.size > 1:
            failed = ranks.train_all(ranks.on_first(comm, lambda: add_bases(runs)), comm, train, parsed[0].quiet)
        else:
            failed = run_all(runs, parsed[0].jobs or default_jobs(), executor, parsed[0].quiet)
        if comm.rank == 0:
            _report_all(plans, failed)
    return 1 if failed else 0


def _prepare(plans, parsed, stack):
    """Check the data and the folders, and write the plan of what will be run; the stack releases the folders."""
    folders = _group_by_folder(plans)
    statements = [script.statements(runs) for script, *_, runs in plans]    # fails on bad data before any file
    for folder, (script, settings, runs) in folders.items():
        stack.enter_context(prepare_folder(folder, settings, parsed[0].resume, 5 + 4 * len(runs), script.grows))
    for folder in folders:
        own = [(plan[0], plan[3], texts, given) for plan, texts, given in zip(plans, statements, parsed)
               if plan[1].out == folder]
        add_to_plan(folder, [_describe_command(script, given) for script, *_, given in own],
                    {name: run for each in own for name, run in _describe_runs(*each[:3]).items()})
    if not parsed[0].quiet:
        print("\n".join(_describe_start(*plan, texts) for plan, texts in zip(plans, statements)), flush=True)


def _report_all(plans, failed):
    """Let each script report; print what failed."""
    for script, options, _, runs in plans:
        try:
            _report(script, options, runs, failed)
        except Exception as error:                          # the other scripts still report
            failed[f"the report of {script.name}"] = console.reason(error)
    for name, why in failed.items():
        print(f"failed: {why if why.startswith(name) else f'{name}: {why}'}", file=sys.stderr)


def _describe_start(script, options, settings, runs, statements):
    """Return a text about the runs that will be trained, and how training differs from test."""
    head = f"{script.name}, {options.mode} mode, {options.data} data, {minigrad.backend.name()}: {len(runs)} runs"
    return "\n".join([head, *(f"  {name}: {statement}" for name, statement in statements.items())])


def _describe_command(script, given):
    """Return what a folder keeps of a start: the date, the command with its options, and the versions."""
    facts = dict(line.split(":", 1) for line in minigrad.info().splitlines())
    options = {action.dest for action in make_parser(script)._actions if action.option_strings}
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "command": script.name,
            "options": {name: value for name, value in vars(given).items()
                        if value is not None and value is not False and name != "out" and name in options},
            "versions": {name: facts[name].strip() for name in ("minigrad", "Python", "NumPy", "CuPy", "backend")}}


def _describe_runs(script, runs, statements):
    """Return {name: labels, steps, statement of the task ...} of the runs and of those they start from.

    several targets: whether each seed has a background class of its own in this figure, so that they are one task.
    """
    found, runs, several = {}, list(runs), len({run.labels.get("target") for run in runs}) > 1
    for run in runs:
        found[run.name] = {"labels": run.labels, "steps": run.settings.steps, "several targets": several,
                           "statement": statements[script.name_task(run.labels)]}
        runs += [run.base] if run.base else []
    return found


def _group_by_folder(plans):
    """Return {folder: (a script, its settings, the runs of all scripts)}; raise MinigradError if settings differ."""
    found = {}
    for script, options, settings, runs in plans:
        first, first_settings, together = found.setdefault(options.out, (script, settings, []))
        if first_settings != settings:
            raise MinigradError(f"{options.out}: {first.name} and {script.name} have different settings, which one "
                                "folder cannot hold\n  help: run each with its own --out, or without --out")
        together.extend(runs)
    return found


def _report(script, options, runs, failed):
    """Let the script report on the finished runs; print which runs are missing."""
    if script.owns_folder:
        runs = [*runs, *_find_other_runs(script, options, {run.record for run in runs})]
    complete, missing = split_finished(runs, failed)
    lines = [line for run in complete for line in read_lines(run)]
    note = f"; without {len(missing)} of {len(runs)} runs" if missing else ""
    if lines:
        for path in script.report(options, complete, lines, f"{options.mode} mode, {options.data} data{note}"):
            print("written:", path)
    for text in missing:
        print(f"missing: {text}")
    print(f"records: {options.out}/*.jsonl" if lines else f"{script.name}: no run is finished, nothing is drawn")


def _find_other_runs(script, options, known):
    """Yield the runs of all records in the folder but the known ones; print which files are left out, and why."""
    for path in sorted({*options.out.glob("*.jsonl")} - known):
        try:
            run = script.run_of(options, read_record(path)[0])
            if run.record != path:
                raise MinigradError(f"the file name for its content is {run.record.name}")
            yield run
        except (MinigradError, KeyError, IndexError, TypeError, ValueError) as error:
            why = {IndexError: "it is empty", KeyError: f"it has no {error}"}.get(type(error), str(error))
            first = why.removeprefix(f"{path}: ").partition("\n")[0]
            print(f"left out: {path}, which is not a record of {script.name}: {first}")
