"""Independent runs, side by side: each in a process of its own with one thread, under one progress bar.

One thread for each run is the fastest way to use the cores (matrix products this small gain little from more), and it
makes the results independent of how many runs go on at once.
"""
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

from tqdm import tqdm

from minigrad import MinigradError, backend

from .runs import fully_recorded
from .training import train

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "MINIGRAD_THREADS")
REPORT = 10                             # steps between two messages to the bar
DEATHS = 3                              # of worker processes, without a run that ended, before giving up


class Stopped(Exception):
    """Raised in a worker when the run as a whole is stopped."""


def default_jobs():
    """As many runs at once as there are cores; one on a GPU."""
    return 1 if backend.name() == "cupy" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def run_all(runs, jobs, executor=None):
    """Train every run, each into its own record; a run that begins from another one waits for it.

    executor: any concurrent.futures.Executor whose workers see the same files (mpi4py's MPIPoolExecutor, say); a pool
    of processes on this machine if not given. Raises the first error of a run, and KeyboardInterrupt at Ctrl-C or
    SIGTERM, in both cases after all workers have stopped; what their checkpoints hold is kept. Where a worker process
    dies (out of memory, killed), its run goes on from its checkpoint in another one; raises MinigradError if three die
    without a run having come to its end.
    """
    runs = _with_bases(runs)
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        bar = stack.enter_context(tqdm(total=sum(run.settings.steps for run in runs), unit="step", smoothing=0.05,
                                       dynamic_ncols=True, mininterval=0.5))
        done, deaths = set(), 0
        if executor is not None:
            with executor:
                _go_through(executor, train, runs, done, lambda run: bar.update(run.settings.steps))
            return
        context = multiprocessing.get_context("spawn")
        messages, sender = context.Pipe(duplex=False)
        stop = context.RawValue("b", False)                 # no locks: a worker that is killed would keep them for ever
        stack.enter_context(environment({**dict.fromkeys(THREADS, "1"), "MINIGRAD_BACKEND": backend.name()}))
        reader = threading.Thread(target=_show, args=(messages, bar, len(runs)), daemon=True)
        reader.start()
        stack.callback(reader.join, 5.0)
        stack.callback(sender.send, None)
        while len(done) < len(runs):
            before = len(done)
            try:
                _in_processes(runs, done, min(jobs, len(runs)), context, sender, stop)
            except concurrent.futures.process.BrokenProcessPool:
                deaths = deaths + 1 if len(done) == before else 1
                if deaths == DEATHS:
                    raise MinigradError(f"{deaths} worker processes died one after the other (were they killed, or the "
                                        "memory full?)\n  help: --resume goes on from the checkpoints; --jobs 1 needs "
                                        "the least memory") from None
                tqdm.write("a worker process died; its run goes on from the checkpoint", file=sys.stderr)
                bar.reset(sum(run.settings.steps for run in runs if run.name not in done))


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
        trains = not fully_recorded(run) or run.name in needed and not run.checkpoint.exists()
        if run.base and trains:
            needed.add(run.base.name)
    return [run._replace(is_base=run.name in needed) for run in found.values()]


def _in_processes(runs, done, workers, context, sender, stop):
    """Go through the runs in a pool of processes. Raises BrokenProcessPool where one of them dies."""
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (sender, stop)) as pool:
        try:
            _go_through(pool, _train, runs, done, lambda run: None)
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)                    # once is enough
            stop.value = True
            pool.shutdown(cancel_futures=True)
            stop.value = False
            raise


def _go_through(pool, work, runs, done, progress):
    """work(run) in the pool for each run that is not done, when the one that it begins from is; done: their names."""
    waiting, going = [run for run in runs if run.name not in done], {}
    while waiting or going:
        ready = [run for run in waiting if run.base is None or run.base.name in done]
        waiting = [run for run in waiting if not (run.base is None or run.base.name in done)]
        asked = signal.signal(signal.SIGINT, signal.SIG_IGN)                # workers start deaf to Ctrl-C
        going.update({pool.submit(work, run): run for run in ready})
        signal.signal(signal.SIGINT, asked)
        finished, _ = concurrent.futures.wait(going, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in finished:
            future.result()
            run = going.pop(future)
            done.add(run.name)
            progress(run)


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


def _show(messages, bar, count):
    done = 0
    while (message := messages.recv()) is not None:
        steps, name, line, finished = message
        done += finished
        if steps < 0:                                       # taken before: not part of this bar
            bar.total += steps
        bar.update(max(steps, 0))
        bar.set_description(f"{done}/{count} done, {name}", refresh=finished)
        if line:
            bar.set_postfix(train=f"{line['train_error']:.1f}%", test=f"{line['test_error']:.1f}%")


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


def _train(run):
    waiting = 0

    def progress(steps, line):
        nonlocal waiting
        waiting += steps
        if _worker["stop"].value:
            raise Stopped(run.name)
        if line or steps < 0 or waiting >= REPORT:
            _worker["sender"].send((waiting, run.name, line, False))    # short enough to be written in one piece
            waiting = 0
    train(run, progress)
    _worker["sender"].send((waiting, run.name, None, True))
