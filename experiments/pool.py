"""Independent runs, side by side: each in a process of its own with one thread, under one progress bar.

One thread for each run is the fastest way to use the cores (matrix products this small gain little from more), and it
makes the results independent of how many runs go on at once.
"""
import collections
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

from tqdm import tqdm

from minigrad import FileError, MinigradError, backend

from .console import Progress, reason
from .runs import fully_recorded
from .training import train

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "MINIGRAD_THREADS")
REPORT = 10                             # steps between two messages to the bar
DEATHS = 3                              # of its worker process, after which a run is tried alone, once


class Stopped(Exception):
    """Raised in a worker when the run as a whole is stopped."""


def default_jobs():
    """As many runs at once as there are cores; one on a GPU."""
    return 1 if backend.name() == "cupy" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def run_all(runs, jobs, executor=None):
    """Train every run, each into its own record; give {name: the reason} of those that failed.

    A run that fails stops no other: only those that begin from it fail as well, if they need it. One that begins from
    another waits until that has ended. executor: any concurrent.futures.Executor whose workers see the same files
    (mpi4py's MPIPoolExecutor, say); a pool of processes on this machine if not given. Raises KeyboardInterrupt at
    Ctrl-C or SIGTERM after all workers have stopped; what their checkpoints hold is kept. Where a worker process dies
    (out of memory, killed), its run goes on from its checkpoint in another one; a run whose workers died three times
    is tried alone, and fails where that dies too.
    """
    runs = _with_bases(runs)
    ended = {}                                              # {name: why it failed, or None}
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        progress = stack.enter_context(Progress(sum(run.settings.steps for run in runs), len(runs)))
        if executor is None:
            _in_processes(runs, jobs, ended, progress, stack)
        else:
            _in_executor(executor, runs, ended, progress)
    return {run.name: ended[run.name] for run in runs if ended[run.name]}


def _with_bases(runs):
    """The runs, and before each the one that it begins from, and the one before that; every name once.

    Those whose checkpoint is needed by a run that has not ended are marked as its base.
    """
    found, needed = {}, set()
    for run in runs:
        chain = [run]
        while chain[0].base:
            chain.insert(0, chain[0].base)
        for each in chain:
            found.setdefault(each.name, each)
    for run in reversed(found.values()):
        if run.base and (not _is_recorded(run) or run.name in needed and not run.checkpoint.exists()):
            needed.add(run.base.name)
    return [run._replace(is_base=run.name in needed) for run in found.values()]


def _is_recorded(run):
    try:
        return fully_recorded(run)
    except FileError:                                       # found again, and told, when the run is taken up
        return False


def attempt(run, progress=lambda steps, line: None):
    """Train a run; give the reason, which can go to any other process, where that fails, else None."""
    try:
        train(run, progress)
    except Stopped:
        raise
    except Exception as error:
        return reason(error)


def _in_executor(executor, runs, ended, progress):
    """Go through the runs in another executor, which does not tell of their steps."""
    def end(run, why):
        progress.end(run.name, bool(why))
        progress.advance(run.settings.steps, run.name)
    try:
        with executor:
            _go_through(executor, attempt, runs, ended, {}, end)
    except concurrent.futures.BrokenExecutor as error:
        raise MinigradError(f"the executor broke down: {error}\n"
                            "  help: --resume goes on from the checkpoints") from error


def _in_processes(runs, jobs, ended, progress, stack):
    """Go through the runs in pools of processes, a new one wherever a worker dies. stack: closes what is opened."""
    context, deaths = multiprocessing.get_context("spawn"), collections.Counter()
    messages, sender = context.Pipe(duplex=False)
    stop = context.RawValue("b", False)                     # no locks: a worker that is killed would keep them for ever
    stack.enter_context(environment({**dict.fromkeys(THREADS, "1"), "MINIGRAD_BACKEND": backend.name()}))
    reader = threading.Thread(target=_show, args=(messages, progress), daemon=True)
    reader.start()
    stack.callback(reader.join, 5.0)
    stack.callback(sender.send, None)
    asked = signal.getsignal(signal.SIGINT)
    while left := [run for run in runs if run.name not in ended]:
        together = [run for run in left if deaths[run.name] < DEATHS]
        alone = not any(_is_ready(run, ended) for run in together)
        some, going = [next(run for run in left if _is_ready(run, ended))] if alone else together, {}
        try:
            _in_pool(some, min(jobs, len(some)), (context, sender, stop), ended, going, progress)
        except concurrent.futures.process.BrokenProcessPool:
            signal.signal(signal.SIGINT, asked)                             # Ctrl-C is heard again
            deaths.update(run.name for run in going.values())
            if alone:
                ended[some[0].name] = ("its worker process dies again and again (is it killed, or the memory full?)\n"
                                       "  help: --resume goes on from the checkpoint; --jobs 1 needs the least memory")
                progress.end(some[0].name, True)
            else:
                tqdm.write("a worker process died; its run goes on from the checkpoint", file=sys.stderr)
            progress.restart(sum(run.settings.steps for run in runs if run.name not in ended))


def _in_pool(runs, workers, shared, ended, going, progress):
    """Go through the runs in a pool of processes. Raises BrokenProcessPool where one of them dies."""
    context, sender, stop = shared
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (sender, stop)) as pool:
        try:
            _go_through(pool, _attempt, runs, ended, going, lambda run, why: progress.end(run.name, bool(why)), workers)
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)                    # once is enough
            stop.value = True
            pool.shutdown(cancel_futures=True)
            stop.value = False
            raise


def _is_ready(run, ended):
    return run.base is None or run.base.name in ended


def _go_through(pool, work, runs, ended, going, end, most=None):
    """work(run) in the pool for each run that has not ended, when the one that it begins from has, then end(run, why).

    ended: {name: why it failed, or None}; going: {future: run}, of what is in the pool, `most` at a time.
    """
    waiting = [run for run in runs if run.name not in ended]
    while True:
        ready = [run for run in waiting if _is_ready(run, ended)][:None if most is None else most - len(going)]
        waiting = [run for run in waiting if run not in ready]
        asked = signal.signal(signal.SIGINT, signal.SIG_IGN)                # workers start deaf to Ctrl-C
        going.update({pool.submit(work, run): run for run in ready})
        signal.signal(signal.SIGINT, asked)
        if not going:
            return
        finished, _ = concurrent.futures.wait(going, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in finished:
            why = _outcome(future)
            run = going.pop(future)
            ended[run.name] = why
            end(run, why)


def _outcome(future):
    """What the work gave, or in words what it raised. Raises BrokenExecutor, and what is no error of the run."""
    try:
        return future.result()
    except (concurrent.futures.BrokenExecutor, Stopped):
        raise
    except Exception as error:                              # of an executor that loses its work
        return reason(error)


@contextlib.contextmanager
def environment(changes):
    """Environment variables for the processes that are started inside."""
    kept = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _show(messages, progress):
    while (message := messages.recv()) is not None:
        progress.advance(*message)


# ------------------------------------------------------------------------------------- inside a worker process

_worker = {}


def _begin(sender, stop):
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C reaches the parent, which says when to stop
    _worker.update(sender=sender, stop=stop)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent():
    """A parent that is killed cannot say stop; nobody would know of this worker."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _attempt(run):
    waiting = 0

    def progress(steps, line):
        nonlocal waiting
        waiting += steps
        if _worker["stop"].value:
            raise Stopped(run.name)
        if line or steps < 0 or waiting >= REPORT:
            shown = line and {key: line[key] for key in ("step", "train_error", "test_error")}     # short: one write
            _worker["sender"].send((waiting, run.name, shown))
            waiting = 0
    why = attempt(run, progress)
    _worker["sender"].send((waiting, run.name))
    return why
