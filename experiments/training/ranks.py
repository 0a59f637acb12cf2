"""Training of runs on many ranks, which mpiexec started: each takes its part of every batch.

    mpiexec -n 4 python -m experiments table2 ...

Ranks draw the same batches from the same keys, so that a run does not depend on their number but for rounding, and can
be resumed with another one. Rank 0 alone reads and writes files and prints; all of them evaluate the network.
"""
import contextlib
import os
import platform
import signal
import threading

import numpy as np
import threadpoolctl

from minigrad import MinigradError, RankError, backend, to_host, tree, xp

from ..console import Progress, reason
from ..methods import METHODS


def on_first(comm, work):
    """Call work() on rank 0 alone; return its result, or raise its error, on all ranks."""
    if comm.size == 1:
        return work()
    outcome = None
    if comm.rank == 0:
        try:
            outcome = work(), None
        except Exception as error:
            outcome = None, reason(error)
    result, why = comm.gather(outcome)[0]
    if why:
        raise MinigradError(why)
    return result


def learned_on_first(comm, trainer, find):
    """Return find(), a tree like trainer.template(), as rank 0 finds it, on all ranks."""
    if comm.size == 1:
        return find()
    leaves = on_first(comm, lambda: [to_host(leaf) for leaf in tree.flatten(find())[0]])
    return tree.unflatten(tree.flatten(trainer.template())[1], [xp.asarray(leaf) for leaf in leaves])


def as_first(comm, decision):
    """Return the decision, a bool, of rank 0."""
    return bool(comm.allsum(np.asarray(int(decision and comm.rank == 0))))


def tell(comm, error):
    """Return the reason of an error that was raised here, once all ranks know of it; raise it if a rank is lost.

    What all ranks raise alike is one error. If they do not, the reason says who raised what.
    """
    if comm.lost:
        raise error
    why = reason(error)
    if not isinstance(error, RankError):                    # of which all know
        try:
            comm.fail(why)
        except RankError as different:
            return tell(comm, different)
    return why


def check_methods(runs, comm):
    """Raise MinigradError for a run that cannot be divided among ranks."""
    for run in runs:
        if comm.size > 1 and not run.method.divides:
            choice = ", ".join(name for name, method in METHODS.items() if method.divides)
            raise MinigradError(f"{run.method.name} cannot be trained on {comm.size} ranks: it looks at a batch as a "
                                f"whole\n  help: train it without mpiexec, or choose from {choice}")


def share_machine(comm):
    """Divide the cores and the GPUs of each machine among its ranks, unless mpiexec has done so; return who is where.

    mpiexec names a rank that was killed by its process.
    """
    if comm.size == 1:
        return ""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    everyone = comm.gather((platform.node(), cores))
    ours = everyone.count((platform.node(), cores))         # ranks that may use the same cores
    os.environ.setdefault("MINIGRAD_THREADS", str(max(len(cores) // ours, 1)))
    threadpoolctl.threadpool_limits(int(os.environ["MINIGRAD_THREADS"]))
    if backend.name() == "cupy":
        before = [node for node, _ in everyone[:comm.rank]].count(platform.node())
        xp.cuda.Device(before % xp.cuda.runtime.getDeviceCount()).use()
    places = comm.gather(f"process {os.getpid()} on {platform.node()}")
    return "\n".join(f"rank {rank}: {place}" for rank, place in enumerate(places))


def train_all(runs, comm, train, quiet=False):
    """Train runs one after the other, each on all ranks; return {name: reason} of those that failed.

    Args:
        runs: those that others start from come before these.
        comm: the communicator of the ranks.
        train: loop.train.
        quiet: whether to show no progress.

    Raises KeyboardInterrupt at Ctrl-C or SIGTERM, and RankError where a rank is lost; checkpoints are kept.
    """
    failed = {}
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        steps = sum(run.settings.steps for run in runs)
        progress = stack.enter_context(Progress(steps, len(runs), quiet or comm.rank > 0))
        for run in runs:
            try:
                train(run, lambda steps, line, name=run.name: progress.advance(steps, name, line), comm)
            except Exception as error:
                failed[run.name] = tell(comm, error)
            progress.end(run.name, run.name in failed, run.settings.steps)
    return failed
