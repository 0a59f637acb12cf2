"""Workers on other machines, for pool.run_all: those of a Dask scheduler, and the other processes of MPI.

    --executor dask=ADDRESS     whatever workers the scheduler has; one that is lost is replaced by another
    --executor mpi              mpiexec -n 5 python -m experiments ...: rank 0 reads the options, writes all files and
                                reports; the other four train, and print nothing

Workers need not see the files of this machine, see workers.py. They need this package, in the same version.
"""
import argparse
import concurrent.futures
import contextlib
import logging
import pkgutil
import signal
import sys
import threading
import time
import traceback

import minigrad
from minigrad import MinigradError

ANSWER = 10.0                           # seconds for a scheduler to answer
PATIENCE = 300.0                        # seconds without any worker, at the start or later, until a sweep gives up


def asked_for(arguments):
    """Return the text after --executor in the arguments of a command; None if there is none, or only help is wanted."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--executor", nargs="?")
    parser.add_argument("-h", "--help", action="store_true")
    found = parser.parse_known_args(arguments)[0]
    return None if found.help else found.executor


def open_executor(text):
    """Return a context in which the executor of this name is open; its value is the executor, None for no name.

    Raises MinigradError for an unknown name, a missing package, and where no worker can be had. With "mpi", ranks other
    than 0 train what rank 0 submits in its context, and then exit.
    """
    name, _, address = (text or "").partition("=")
    if not text:
        return contextlib.nullcontext()
    if name == "dask" and address:
        return _dask(address)
    if text == "mpi":
        return _mpi()
    raise MinigradError(f"--executor {text}: there is no such executor\n"
                        "  help: dask=ADDRESS (such as dask=tcp://10.0.0.1:8786), or mpi")


def _missing_error(name, extra, error):
    return MinigradError(f"--executor {name}: it needs a package that cannot be imported ({error})\n"
                         f"  help: pip install -e '.[{extra}]'")


# ------------------------------------------------------------------------------------------------------ Dask

class _DaskExecutor:
    """The workers of a scheduler. One that dies in a task is replaced by another, up to three times."""

    def __init__(self, client, address):
        self.client, self.address, self.seen = client, address, time.monotonic()
        self.submit = client.get_executor(pure=False).submit

    def room(self):
        """Return the number of threads of all workers; raise BrokenExecutor if there were none for PATIENCE seconds."""
        try:
            count = sum(self.client.nthreads().values())
        except OSError as error:
            raise concurrent.futures.BrokenExecutor(f"the scheduler at {self.address} is gone") from error
        if count:
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > PATIENCE:
            raise concurrent.futures.BrokenExecutor(f"{self.address} has had no worker for {PATIENCE:.0f} s")
        return max(count, 1)


@contextlib.contextmanager
def _dask(address):
    try:
        import dask
        import distributed
    except ImportError as error:
        raise _missing_error(f"dask={address}", "cluster", error) from None
    for logger in "distributed", "distributed.client":      # what matters is raised here
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):   # a graph holds checkpoints
        client = _connect(distributed, address)
        try:
            _wait_for_workers(client, address)
            _check_workers(client, address)
            yield _DaskExecutor(client, address)
        finally:
            client.close(timeout=ANSWER)


def _connect(distributed, address):
    try:
        return _call_within(ANSWER + 1.0, lambda: distributed.Client(address, timeout=ANSWER, set_as_default=False))
    except (OSError, ValueError) as error:                  # ValueError: no address at all
        raise MinigradError(f"--executor dask={address}: no scheduler answers there ({error})\n"
                            "  help: start one with `dask scheduler`, which prints its address") from error


def _wait_for_workers(client, address):
    try:
        if not client.nthreads():
            print(f"waiting for a worker of {address}, {PATIENCE:.0f} s at most", file=sys.stderr, flush=True)
        client.wait_for_workers(1, timeout=PATIENCE)
    except OSError:                                         # TimeoutError, or the scheduler is gone
        raise MinigradError(f"--executor dask={address}: the scheduler has had no worker for {PATIENCE:.0f} s\n"
                            f"  help: dask worker {address} --nthreads 1") from None


def _check_workers(client, address):
    """Raise MinigradError unless all workers can import this package in this version."""
    try:
        found = _call_within(6 * ANSWER, lambda: client.run(
            pkgutil.resolve_name, "experiments:minigrad.__version__", on_error="return"))
    except OSError as error:
        raise MinigradError(f"--executor dask={address}: its workers do not answer ({error})\n"
                            "  help: see their logs") from error
    for worker, version in found.items():
        if isinstance(version, Exception):
            raise MinigradError(f"--executor dask={address}: its worker {worker} cannot import the experiments "
                                f"({version})\n  help: `pip install -e '.[experiments,cluster]'` where it is started")
        if version != minigrad.__version__:
            raise MinigradError(f"--executor dask={address}: its worker {worker} has minigrad {version}, and this "
                                f"program {minigrad.__version__}\n  help: install one version everywhere")


def _call_within(seconds, call):
    """Return call(), which a thread does; raise TimeoutError if it does not return in time."""
    result = concurrent.futures.Future()

    def work():
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
    threading.Thread(target=work, daemon=True).start()
    try:
        return result.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {seconds:.0f} s") from error


# ------------------------------------------------------------------------------------------------------ MPI

class _MPIExecutor:
    """The ranks of MPI but the first."""

    def __init__(self, pool):
        self.pool, self.going = pool, []
        self.size = pool.num_workers + 1                    # of the ranks that mpiexec has started

    def submit(self, *work):
        """Submit a call to whatever rank is free first; return its future."""
        future = self.pool.submit(*work)
        self.going = [each for each in self.going if not each.done()] + [future]
        return future

    def room(self):
        """Return the number of ranks that train."""
        return self.pool.num_workers


@contextlib.contextmanager
def _mpi():
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except (ImportError, RuntimeError) as error:            # RuntimeError: there is no library of MPI
        raise _missing_error("mpi", "mpi", error) from None
    world = MPI.COMM_WORLD
    if world.size == 1:
        raise MinigradError("--executor mpi: there is one process, and one alone cannot train\n"
                            "  help: mpiexec -n 5 python -m experiments ..., with the mpiexec of mpi4py's MPI")
    if world.rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)        # mpiexec sends Ctrl-C to all; rank 0 ends them
    with MPICommExecutor(world, root=0) as pool:            # the other ranks stay here, and get None
        if pool is not None:
            executor = _MPIExecutor(pool)
            try:
                yield executor
            except Exception:
                traceback.print_exc()
                raise
            finally:
                if not all(each.done() for each in executor.going):         # stopped: who trains cannot hear it
                    sys.stdout.flush()
                    time.sleep(0.5)                         # mpiexec has passed on what was printed by then
                    world.Abort(130)
    if world.rank:
        sys.exit()
