"""The command of figures and tables: it checks the options, prepares folders, trains what is missing and reports."""
import contextlib
import os
import shlex
import sys
import time

import minigrad
from minigrad import MinigradError
from minigrad.distributed import Alone, world

from .. import console
from ..training import ranks, train
from ..training.folders import add_to_plan, prepare_folder, read_record
from ..training.pool import add_bases, default_jobs, run_all
from ..training.runs import read_lines, split_finished
from .scripts import check_options, make_parser


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
                  f"  {f'mpiexec -n {size} ' * (size > 1)}python -m experiments {again}", flush=True)
            return 130


def _main(scripts, parsed, executor, comm):
    if parsed[0].backend:
        minigrad.use(parsed[0].backend)
    plans = []
    for script, options in zip(scripts, parsed):
        options = check_options(script, options)
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
