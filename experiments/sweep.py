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
import threading

from tqdm import tqdm

from minigrad import MinigradError, backend

from .training import train

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "MINIGRAD_THREADS")
REPORT = 10                             # steps between two messages to the bar


class Stopped(Exception):
    """Raised in a worker when the run as a whole is stopped."""


def default_jobs():
    """As many runs at once as there are cores; one on a GPU."""
    return 1 if backend.name() == "cupy" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def run_all(runs, problem, jobs):
    """Train every run, each into its own record.

    Raises the first error of a run, and KeyboardInterrupt at Ctrl-C or SIGTERM, in both cases after all workers have
    stopped; what their checkpoints hold is kept.
    """
    context = multiprocessing.get_context("spawn")
    messages, stop = context.Queue(), context.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment({**dict.fromkeys(THREADS, "1"), "MINIGRAD_BACKEND": backend.name()}))
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        bar = stack.enter_context(tqdm(total=sum(run.settings.steps for run in runs), unit="step", smoothing=0.05,
                                       dynamic_ncols=True, mininterval=0.5))
        reader = threading.Thread(target=_show, args=(messages, bar, len(runs)), daemon=True)
        reader.start()
        stack.callback(reader.join, 5.0)
        stack.callback(messages.put, None)
        workers = min(jobs, len(runs))
        try:
            with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (messages, stop)) as pool:
                asked = signal.signal(signal.SIGINT, signal.SIG_IGN)        # the workers start deaf to Ctrl-C
                futures = [pool.submit(_train, run, problem) for run in runs]
                signal.signal(signal.SIGINT, asked)
                try:
                    for future in concurrent.futures.as_completed(futures):
                        future.result()
                except BaseException:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)            # once is enough
                    stop.set()
                    pool.shutdown(cancel_futures=True)
                    raise
        except concurrent.futures.process.BrokenProcessPool:
            raise MinigradError("a worker process died (was it killed, or the memory full?)\n  help: --resume goes on "
                                "from the checkpoints; --jobs 1 needs the least memory") from None


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
    while (message := messages.get()) is not None:
        steps, name, line, finished = message
        done += finished
        if steps < 0:                                       # taken before: not part of this bar
            bar.total += steps
        bar.update(max(steps, 0))
        bar.set_description(f"{done}/{count} done, {name}", refresh=finished)
        if line:
            bar.set_postfix(loss=f"{line['train_loss']:.3f}", clean=f"{line['clean_loss']:.3f}",
                            error=f"{line['test_error']:.1f}%")


# ------------------------------------------------------------------------------------- inside a worker process

_worker = {}


def _begin(messages, stop):
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C reaches the parent, which says when to stop
    _worker.update(messages=messages, stop=stop)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent():
    """A parent that is killed cannot say stop; nobody would know of this worker."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _train(run, problem):
    waiting = 0

    def progress(steps, line):
        nonlocal waiting
        waiting += steps
        if _worker["stop"].is_set():
            raise Stopped(run.name)
        if line or steps < 0 or waiting >= REPORT:
            _worker["messages"].put((waiting, run.name, line, False))
            waiting = 0
    train(run, problem, progress)
    _worker["messages"].put((waiting, run.name, None, True))
