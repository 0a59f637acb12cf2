"""Independent runs, side by side: each in a process of its own with one thread, under one progress bar.

One thread for each run is the fastest way to use the cores (matrix products this small gain little from more), and it
makes the results independent of how many runs go on at once.
"""
import concurrent.futures
import multiprocessing
import os
import signal
import threading

from tqdm import tqdm

from minigrad import MinigradError, backend

from .training import train

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
REPORT = 10                             # steps between two messages to the bar


class Stopped(Exception):
    """Raised in a worker when the run as a whole is stopped."""


def default_jobs():
    """As many runs at once as there are cores; one on a GPU."""
    return 1 if backend.name() == "cupy" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def run_all(runs, problem, jobs):
    """Train every run; gives all lines of their records, in the order of the runs.

    Raises the first error of a run, and KeyboardInterrupt at Ctrl-C, in both cases after all workers have stopped; what
    their checkpoints hold is kept.
    """
    context = multiprocessing.get_context("spawn")
    messages, stop = context.Queue(), context.Event()
    kept = {name: os.environ.get(name) for name in (*THREADS, "MINIGRAD_BACKEND")}
    os.environ.update({name: "1" for name in THREADS}, MINIGRAD_BACKEND=backend.name())
    total = sum(run.settings.steps for run in runs)
    with tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True, mininterval=0.5) as bar:
        reader = threading.Thread(target=_show, args=(messages, bar, len(runs)), daemon=True)
        reader.start()
        try:
            workers = min(jobs, len(runs))
            with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (messages, stop)) as pool:
                futures = [pool.submit(_train, run, problem) for run in runs]
                try:
                    for future in concurrent.futures.as_completed(futures):
                        future.result()
                except BaseException:
                    stop.set()
                    pool.shutdown(cancel_futures=True)
                    raise
        except concurrent.futures.process.BrokenProcessPool:
            raise MinigradError("a worker process died (was it killed, or the memory full?)\n  help: --resume goes on "
                                "from the checkpoints; --jobs 1 needs the least memory") from None
        finally:
            messages.put(None)
            reader.join()
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    return [line for future in futures for line in future.result()]


def _show(messages, bar, count):
    done = 0
    while (message := messages.get()) is not None:
        steps, name, line, finished = message
        done += finished
        bar.update(steps)
        if line:
            bar.set_description(f"{done}/{count} done, {name}", refresh=False)
            bar.set_postfix(loss=f"{line['train_loss']:.3f}", clean=f"{line['clean_loss']:.3f}",
                            error=f"{line['test_error']:.1f}%")


# ------------------------------------------------------------------------------------- inside a worker process

_worker = {}


def _begin(messages, stop):
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C reaches the parent, which says when to stop
    _worker.update(messages=messages, stop=stop)


def _train(run, problem):
    waiting = 0

    def progress(steps, line):
        nonlocal waiting
        waiting += steps
        if _worker["stop"].is_set():
            raise Stopped(run.name)
        if line or waiting >= REPORT:
            _worker["messages"].put((waiting, run.name, line, False))
            waiting = 0
    lines = train(run, problem, progress)
    _worker["messages"].put((waiting, run.name, None, True))
    return lines
