"""Ranks to test with: threads of this process, or processes that mpiexec starts.

    run(3, program)                     [program(comm) of rank 0, 1, 2], each in a thread
    mpi("tests.rank_programs", "name", size=3)      the same of a function in a module, by mpiexec
"""
import copy
import functools
import operator
import os
import pickle
import subprocess
import sys
import threading

from minigrad.communicators import Communicator
from minigrad.errors import RankError

from . import requirements

TIMEOUT = 180.0         # seconds, of a busy machine


class Thread(Communicator):
    """A rank that is a thread: arrays lie in a list that all see, between two barriers."""

    def __init__(self, rank, slots, barrier):
        super().__init__(rank, len(slots))
        self.slots, self.barrier = slots, barrier

    def _gather(self, value):
        self.slots[self.rank] = value
        try:
            self.barrier.wait()
            values = copy.deepcopy(self.slots)              # as if they had been sent
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise RankError(f"rank {self.rank} has waited in vain") from None
        return values

    def __deepcopy__(self, memory):
        return self

    def _same(self, number):
        return len({*self._gather(number)}) == 1

    def _sum(self, x):
        return functools.reduce(operator.add, self._gather(x))


def run(size, program, timeout=TIMEOUT):
    """Return what the program returns on each rank; raise the first error of one, and end the others."""
    slots, barrier, results, errors = [None] * size, threading.Barrier(size, timeout=timeout), [None] * size, {}

    def work(rank):
        try:
            results[rank] = program(Thread(rank, slots, barrier))
        except BaseException as error:
            errors[rank] = error
            barrier.abort()
    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * timeout)
    if errors:
        raise next((error for error in errors.values() if "waited in vain" not in str(error)), [*errors.values()][0])
    assert not any(thread.is_alive() for thread in threads)
    return results


def start(size, *command, timeout=TIMEOUT, **environment):
    """Run python with this command on several ranks by mpiexec; return the completed process."""
    root = str(requirements.ROOT)
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), "MINIGRAD_THREADS": "1",
           "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
    return subprocess.run([requirements.mpiexec(), "-n", str(size), sys.executable, *map(str, command)], env=own, capture_output=True,
                          text=True, timeout=timeout, cwd=environment.get("PWD"))


def mpi(module, name, *args, size=2, folder, **environment):
    """Return what module.name(comm, *args) returns on each rank of the world, started by mpiexec."""
    path = folder / "call.pickle"
    path.write_bytes(pickle.dumps((module, name, args)))
    done = start(size, "-m", "mpi4py", "-m", "tests.ranks", path, **environment)
    assert done.returncode == 0, done.stderr
    return pickle.loads(path.with_suffix(".results").read_bytes())


def _main(path):
    """Run the program that a file holds, on the world, and write the results of all ranks beside it."""
    import importlib

    from minigrad.distributed import world
    with open(path, "rb") as file:
        module, name, args = pickle.load(file)
    results = world().gather(getattr(importlib.import_module(module), name)(world(), *args))
    if world().rank == 0:
        with open(path.replace(".pickle", ".results"), "wb") as file:
            pickle.dump(results, file)


if __name__ == "__main__":
    _main(sys.argv[1])
