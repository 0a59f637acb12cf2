"""Concurrent training of independent runs, each in its own process, with one progress bar.

The processes are on this machine, or those of an executor: see executors.py.

A run for each core is the fastest use of the cores, since two threads do not halve the time of a step. Where there are
fewer runs, they share the cores that are left. Results do not depend on it, bit for bit: matrix products of BLAS have
one thread in any case, and minigrad adds in the same order with any number (minigrad/fast/threads.py).
"""
import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

from tqdm import tqdm

from minigrad import FileError, MinigradError, backend, tree

from ..console import Progress, reason
from . import loop
from .folders import make_folder
from .runs import has_full_record
from .workers import Stopped, Stretch, attempt, continue_run, environment, read_files

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "MINIGRAD_THREADS")
POLL = 2.0                              # seconds between two looks at how many workers there are
REPORT = 10                             # steps between two messages to the progress bar
DEATHS = 3                              # deaths of its worker after which a run is tried alone, once


def default_jobs():
    """Return the default number of concurrent runs: one for each core, or one on a GPU."""
    return 1 if backend.name() == "cupy" else _cores()


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(workers):
    """Return the environment of that many processes: threads for each, and the backend.

    BLAS has one thread, minigrad an equal share of the cores, unless MINIGRAD_THREADS says how many.
    """
    own = os.environ.get("MINIGRAD_THREADS") or str(max(_cores() // workers, 1))
    return {**dict.fromkeys(THREADS, "1"), "MINIGRAD_THREADS": own, "MINIGRAD_BACKEND": backend.name()}


def run_all(runs, jobs, executor=None, quiet=False):
    """Train all runs, each with its own record; return {name: reason} of those that failed.

    A run that starts from another waits until that one has ended. A run that fails affects no others, except those that
    start from it. If a worker process dies (out of memory, killed), its run continues from its checkpoint in another
    process; after three deaths it is tried alone, and fails if that worker dies too.

    executor: any concurrent.futures.Executor, whose workers need not see the same files; None: `jobs` processes on this
    machine. It stays open. If it has a method room(), that returns how many runs to submit at a time. quiet: whether to
    show no progress.
    Raises KeyboardInterrupt at Ctrl-C or SIGTERM, after all workers have stopped; checkpoints are kept.
    """
    runs = add_bases(runs)
    ended = {}                                              # {name: reason of failure, or None}
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        progress = stack.enter_context(Progress(sum(run.settings.steps for run in runs), len(runs), quiet))
        if executor is None:
            _run_in_processes(runs, jobs, ended, progress, stack)
        else:
            _run_in_executor(executor, runs, ended, progress)
    return {run.name: ended[run.name] for run in runs if ended[run.name]}


def add_bases(runs):
    """Return the runs in an order in which each follows its base, bases included, and each name occurs once.

    Runs whose checkpoint is needed by an unfinished run get is_base=True.
    """
    found, needed = {}, set()
    for run in runs:
        chain = [run]
        while chain[0].base:
            chain.insert(0, chain[0].base)
        for each in chain:
            found.setdefault(each.name, each)
    for run in reversed(found.values()):
        if run.base and (not _has_readable_record(run) or run.name in needed and not run.checkpoint.exists()):
            needed.add(run.base.name)
    return [dataclasses.replace(run, is_base=run.name in needed) for run in found.values()]


def _has_readable_record(run):
    try:
        return has_full_record(run)
    except FileError:                                       # raised again, and reported, when the run is trained
        return False


def _run_in_executor(executor, runs, ended, progress):
    """Train the runs in a given executor, a stretch at a time: what comes back is written here, and goes on from there.

    The files of a run never go back: there is one stretch of it at a time, and the next one begins with these files.
    """
    begun, going = set(), {}

    def submit(run):
        try:
            make_folder(run.folder)
            return executor.submit(continue_run, run, read_files(run), backend.name(), loop.SAVE_INTERVAL)
        except concurrent.futures.BrokenExecutor:
            raise
        except Exception as error:                          # the run fails, and no other
            return _failed_future(error)

    def take(run, future):
        stretch = _get_outcome(future, lambda error: Stretch(_describe_loss(error)))
        why = stretch.why
        try:
            for name, data in stretch.files.items():        # the record first, as in the loop
                tree.write_whole(run.folder / name, data)
        except OSError as error:
            why = why or reason(error)
        if run.name not in begun:
            begun.add(run.name)
            progress.advance(-stretch.skipped, run.name)
        progress.advance(stretch.taken, run.name, stretch.line)
        if why or stretch.ended:
            ended[run.name] = why
            progress.end(run.name, bool(why), run.settings.steps)
    try:
        _run_in_order(submit, runs, ended, going, take, getattr(executor, "room", lambda: None))
    except concurrent.futures.BrokenExecutor as error:
        raise MinigradError(f"the executor broke down: {error}\n"
                            "  help: --resume continues from the checkpoints") from error
    finally:
        for future in going:                                # after Ctrl-C: what has not begun never will
            future.cancel()


def _failed_future(error):
    future = concurrent.futures.Future()
    future.set_exception(error)
    return future


def _describe_loss(error):
    """Return the reason why a run fails whose stretch did not return."""
    text, remedy = reason(error), "\n  help: --resume continues from the last checkpoint that came back"
    return text if "\n  help: " in text else text + remedy


def _run_in_processes(runs, jobs, ended, progress, stack):
    """Train the runs in a pool of processes, and in a new one whenever a worker dies.

    Args:
        runs: all runs, bases first.
        jobs: number of processes.
        ended: {name: reason of failure, or None}, filled here.
        progress: the progress bar.
        stack: an ExitStack, which restores the environment and ends the reader.
    """
    context, deaths = multiprocessing.get_context("spawn"), collections.Counter()
    messages, sender = context.Pipe(duplex=False)
    stop = context.RawValue("b", False)                     # no lock: a worker that is killed would hold it for ever
    stack.enter_context(environment(_environment(max(min(jobs, len(runs)), 1))))
    reader = threading.Thread(target=_show_messages, args=(messages, progress), daemon=True)
    reader.start()
    stack.callback(reader.join, 5.0)
    stack.callback(sender.send, None)
    handler = signal.getsignal(signal.SIGINT)
    while left := [run for run in runs if run.name not in ended]:
        together = [run for run in left if deaths[run.name] < DEATHS]
        alone = not any(_is_ready(run, ended) for run in together)
        some, going = [next(run for run in left if _is_ready(run, ended))] if alone else together, {}
        try:
            _run_in_pool(some, min(jobs, len(some)), (context, sender, stop), ended, going, progress)
        except concurrent.futures.process.BrokenProcessPool:
            signal.signal(signal.SIGINT, handler)                           # enable Ctrl-C again
            deaths.update(run.name for run in going.values())
            if alone:
                ended[some[0].name] = ("its worker process dies repeatedly (is it killed, or out of memory?)\n"
                                       "  help: --resume continues from the checkpoint; --jobs 1 needs less memory")
                progress.end(some[0].name, True, some[0].settings.steps)
            else:
                tqdm.write("a worker process died; its run continues from the checkpoint", file=sys.stderr)
            progress.restart(sum(run.settings.steps for run in runs if run.name not in ended))


def _run_in_pool(runs, workers, shared, ended, going, progress):
    """Train the runs in one pool of processes; raise BrokenProcessPool if a worker dies.

    Args:
        runs: the runs to train.
        workers: number of processes.
        shared: the context, the sender of messages, and the shared flag that stops the workers.
        ended: see _run_in_order.
        going: see _run_in_order.
        progress: the progress bar.
    """
    def take(run, future):
        ended[run.name] = why = _get_outcome(future, reason)
        progress.end(run.name, bool(why), run.settings.steps)
    context, sender, stop = shared
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (sender, stop)) as pool:
        try:
            _run_in_order(lambda run: pool.submit(_attempt_in_worker, run), runs, ended, going, take, lambda: workers)
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)                    # ignore a second Ctrl-C
            stop.value = True
            pool.shutdown(cancel_futures=True)
            stop.value = False
            raise


def _is_ready(run, ended):
    return run.base is None or run.base.name in ended


def _run_in_order(submit, runs, ended, going, take, room):
    """Submit each run that has not ended, once its base has, and again until it has ended too.

    Args:
        submit: run -> a future.
        runs: the runs; the first of those that can go on does.
        ended: {name: reason of failure, or None}.
        going: {future: run} of the submitted runs, changed here.
        take: called with a run and its future that is done; it fills `ended` if the run has ended.
        room: () -> the number of runs to submit at a time, or None for no limit; it may raise BrokenExecutor.
    """
    while True:
        busy, most = {run.name for run in going.values()}, room()
        ready = [run for run in runs if run.name not in ended and run.name not in busy and _is_ready(run, ended)]
        ready = ready[:None if most is None else max(most - len(going), 0)]
        if ready:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)          # inherited by workers started here
            for run in ready:
                going[submit(run)] = run
            signal.signal(signal.SIGINT, handler)
        if not going:
            return
        done, _ = concurrent.futures.wait(going, POLL, concurrent.futures.FIRST_COMPLETED)
        for future in done:
            take(going[future], future)                     # if it raises, the run is still among those that go on
            del going[future]


def _get_outcome(future, failed):
    """Return the result of a future, or failed(error); raise BrokenExecutor, Stopped and KeyboardInterrupt."""
    try:
        return future.result()
    except concurrent.futures.CancelledError:               # nobody else cancels: a scheduler is gone
        raise concurrent.futures.BrokenExecutor("it gave up a run") from None
    except (concurrent.futures.BrokenExecutor, Stopped):
        raise
    except Exception as error:                              # an error of the executor, such as a lost task
        return failed(error)


def _show_messages(messages, progress):
    while (message := messages.recv()) is not None:
        progress.advance(*message)


# ------------------------------------------------------------------------------------- inside a worker process

_worker = {}


def _start_worker(sender, stop):
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C reaches the parent, which sets `stop`
    _worker.update(sender=sender, stop=stop)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent():
    """End this worker when its parent is gone: a parent that is killed cannot set `stop`."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _attempt_in_worker(run):
    waiting = 0

    def progress(steps, line):
        nonlocal waiting
        waiting += steps
        if _worker["stop"].value:
            raise Stopped(run.name)
        if line or steps < 0 or waiting >= REPORT:
            shown = line and {key: line[key] for key in ("step", "train_error", "test_error")}  # short: an atomic write
            _worker["sender"].send((waiting, run.name, shown))
            waiting = 0
    why = attempt(run, progress)
    _worker["sender"].send((waiting, run.name))
    return why
