"""Communicators: how the ranks of a program exchange plain arrays. distributed.py makes linear maps of that.

    Communicator        what they have in common: counting, and noticing that ranks do not do the same thing
    Alone               one rank
    MPICommunicator     the processes that mpiexec started: mpi4py for arrays on the host, NCCL for those on GPUs
    world()             one of these two

Only `allsum` and `gather` move anything. A communicator of another kind (threads, another library) is a subclass that
writes `_same`, `_sum` and `_gather`.
"""
from __future__ import annotations

import atexit
import functools
import importlib
import logging
import math
import os
import time
import warnings
import zlib
from typing import Any

import numpy

from .backend import flag, is_array, module_of, on_device, to_host
from .errors import DTypeError, RankError, message
from .typing import Array

LAUNCHED = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK"    # which mpiexec or srun sets
TIMEOUT = 300.0         # seconds to wait for the other ranks, if MINIGRAD_RANK_TIMEOUT does not say otherwise
LAST_WORDS = 3.0        # seconds that rank 0 has to say why all ranks end
REPORT_AFTER = 0.5      # seconds after which a waiting rank tells the others where it waits
SPIN = 5e-5             # seconds to look for the answer without a pause
INSTALL = "pip install 'minigrad[mpi]', which brings mpi4py, mpiexec and, on Linux, a whole MPI"


class Communicator:
    """The ranks of a program: processes that run it together, numbered 0 to size - 1.

    All ranks call the same methods in the same order, with arrays of the same shapes and types. Before anything moves
    they compare what they are about to do: if it differs, every rank raises the same RankError, which says who does
    what. `messages` and `bytes` count the sums of this rank and the size of their arrays; `lost` says whether a rank no
    longer answers.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.messages = self.bytes = 0
        self.lost = False

    def allsum(self, x: Array) -> Array:
        """Return the sum over all ranks of a plain array: on every rank the same bits, and from run to run.

        Raises RankError where a rank does something else or does not answer.
        """
        if self.size == 1:
            return x
        x = x if is_array(x) else numpy.asarray(x)
        if x.dtype.kind not in "fiuc":
            raise DTypeError(message("allsum(x)", "only numbers are summed", [("x", x, "")], "x.astype(int) of bools"))
        self._agree(f"allsum of {x.dtype}{list(x.shape)}")
        self.messages += 1
        self.bytes += x.nbytes
        return self._sum(x)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order; any that pickle takes. Raises RankError as `allsum` does."""
        if self.size == 1:
            return [value]
        self._agree("gather")
        return self._gather(value)

    def fail(self, reason: str) -> None:
        """Say that this rank cannot go on. Raises RankError on all ranks, unless they all fail for the same reason."""
        if self.size > 1:
            self._agree(f"an error: {reason}")

    def _agree(self, what: str) -> None:
        """Raise RankError, on all ranks, unless all are about to do the same."""
        if self._same(zlib.crc32(what.encode())):
            return
        lines = [f"  rank {rank}: {each}" for rank, each in enumerate(self._gather(what))]
        raise RankError("\n".join(["the ranks do not do the same thing:", *lines, "  help: all ranks must run the same "
                                   "program on arrays of equal shapes and types; only the lengths of their parts of "
                                   "the batch may differ"]))

    def _same(self, number: int) -> bool:
        """Return whether the number is the same on all ranks; the answer is."""
        raise NotImplementedError

    def _sum(self, x: Array) -> Array:
        """Return the sum over all ranks, which were found to agree."""
        raise NotImplementedError

    def _gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which were found to agree."""
        raise NotImplementedError


class Alone(Communicator):
    """The communicator of a program with one rank: needs nothing, and returns what it is given."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


class MPICommunicator(Communicator):
    """The ranks of a communicator of mpi4py. Its messages never meet those that the program sends itself.

    Arrays of NumPy are summed by MPI. Those of CuPy are summed by NCCL, on the current stream, so that a step can be
    captured, if each rank has a GPU of its own; otherwise by MPI, which gets the arrays themselves if it is said to
    read the memory of GPUs, and copies on the host if not.

    Args:
        comm: a communicator of mpi4py, such as MPI.COMM_WORLD.
        timeout: seconds to wait for the other ranks, before a RankError says which ones did not come.
        cuda_aware: whether this MPI reads the memory of GPUs.
    """

    def __init__(self, comm: Any, timeout: float = TIMEOUT, cuda_aware: bool = False) -> None:
        super().__init__(comm.Get_rank(), comm.Get_size())
        self.comm, self.timeout, self.cuda_aware = comm.Dup(), timeout, cuda_aware
        self._count = 0                                     # of calls here
        self._where: dict[int, int] = {}                    # of calls of other ranks, where they have reported it
        self._pending: list[Any] = []
        atexit.register(self._end)

    def __reduce__(self) -> Any:
        """Pickle as the world of where it is unpickled."""
        return world, ()

    def __deepcopy__(self, memory: Any) -> MPICommunicator:
        return self

    def _end(self) -> None:
        """End all ranks where one did not come: to wait for it would be for ever. Rank 0, which reports, is first."""
        if self.lost:
            time.sleep(LAST_WORDS * (self.rank > 0))
            self.comm.Abort(1)

    def _same(self, number: int) -> bool:
        from mpi4py import MPI
        self._count += 1
        both, largest = numpy.array([number, -number]), numpy.empty(2, int)
        self._wait(self.comm.Iallreduce(both, largest, MPI.MAX))
        return bool(largest[0] == -largest[1])

    def _sum(self, x: Array) -> Array:
        if on_device(x):
            nccl = _nccl(self, module_of(x))
            if nccl is not None:
                return _sum_by_nccl(nccl, x)
            if not self.cuda_aware:
                return module_of(x).asarray(self._sum(to_host(x)))
            module_of(x).cuda.get_current_stream().synchronize()
        x = module_of(x).ascontiguousarray(x).reshape(x.shape)      # the first makes an axis where there is none
        total = module_of(x).empty_like(x)
        self._wait(self.comm.Iallreduce(x, total))
        return total

    def _gather(self, value: Any) -> list[Any]:
        return list(self.comm.allgather(value))

    # ------------------------------------------------------------------------------------------- waiting

    def _wait(self, request: Any) -> None:
        """Wait until all ranks have come. Raises RankError with those that have not within the time-out."""
        start, told = time.monotonic(), False
        while not request.Test():
            waited = time.monotonic() - start
            if waited > self.timeout:
                self.lost = True
                self._pending.append(request)
                self._raise_missing(waited)
            if waited > REPORT_AFTER:
                if not told:
                    self._report()
                    told = True
                self._listen()
                time.sleep(1e-3)
            elif waited > SPIN:                             # where ranks share a core, let the others come
                time.sleep(0.0 if waited < 1e-3 else 2e-5)

    def _report(self) -> None:
        """Tell the other ranks how many calls this one has come to."""
        self._pending = [request for request in self._pending if not request.Test()]
        self._pending += [self.comm.isend(self._count, rank) for rank in range(self.size) if rank != self.rank]

    def _listen(self) -> None:
        from mpi4py import MPI
        status = MPI.Status()
        while self.comm.Iprobe(status=status):
            self._where[status.Get_source()] = self.comm.recv(source=status.Get_source())

    def _raise_missing(self, waited: float) -> None:
        missing = [rank for rank in range(self.size) if rank != self.rank and self._where.get(rank, 0) < self._count]
        names = ", ".join(map(str, missing)) or "no other rank"
        raise RankError(f"rank {self.rank} has waited {waited:.0f} s for rank {names}, in vain\n"
                        "  help: it has ended, or does something else; its own messages say more. A step that takes "
                        f"longer needs a longer MINIGRAD_RANK_TIMEOUT (seconds; {self.timeout:g} now)")


@functools.cache
def world() -> Communicator:
    """Return the communicator of all processes that mpiexec started together with this one; Alone without mpiexec.

    The environment variable MINIGRAD_RANK_TIMEOUT is its time-out in seconds, MINIGRAD_CUDA_AWARE_MPI=1 says that MPI
    reads the memory of GPUs. Raises RankError where mpi4py is not installed, or belongs to another MPI than mpiexec.
    """
    if not any(name in os.environ for name in LAUNCHED):
        return Alone()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:            # RuntimeError: it finds no MPI
        raise RankError(f"mpiexec started this program, but mpi4py cannot be imported ({error})\n"
                        f"  help: {INSTALL}") from error
    wanted = max(int(os.environ.get(name, "1")) for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    if MPI.COMM_WORLD.Get_size() < wanted:
        raise RankError(f"mpiexec started {wanted} ranks, but mpi4py finds {MPI.COMM_WORLD.Get_size()}: they belong to "
                        f"different MPIs\n  help: {INSTALL}; then take the mpiexec beside this python")
    return MPICommunicator(MPI.COMM_WORLD, _timeout(), flag("MINIGRAD_CUDA_AWARE_MPI", False))


def _timeout() -> float:
    given = os.environ.get("MINIGRAD_RANK_TIMEOUT", TIMEOUT)
    try:
        timeout = float(given)
    except ValueError:
        timeout = math.nan
    if not timeout > 0.0:
        raise RankError(f"MINIGRAD_RANK_TIMEOUT={given!r} is not a number of seconds\n  help: 60, 300, 3600 ...")
    return timeout


def find(comm: Any = None) -> Communicator:
    """Return a Communicator: the world for None, and for a communicator of mpi4py the one that it is given here.

    Raises DTypeError for anything else.
    """
    if comm is None:
        return world()
    if isinstance(comm, Communicator):
        return comm
    if not type(comm).__module__.startswith("mpi4py"):
        raise DTypeError(f"comm is a {type(comm).__name__}, not a communicator\n  help: None for all ranks, a "
                         "communicator of mpi4py, or a minigrad.distributed.Communicator")
    from mpi4py import MPI
    if comm == MPI.COMM_WORLD:
        return world()
    if comm.Get_attr(_key()) is None:
        comm.Set_attr(_key(), MPICommunicator(comm, _timeout()))
    return comm.Get_attr(_key())        # type: ignore[no-any-return]


def several(comm: Any) -> Communicator | None:
    """Return find(comm) if it has more than one rank; else, and for None, None."""
    found = None if comm is None else find(comm)
    return found if found is not None and found.size > 1 else None


@functools.cache
def _key() -> Any:
    from mpi4py import MPI
    return MPI.Comm.Create_keyval()


# --------------------------------------------------------------------------------------------------- NCCL

NCCL = {"int8": 0, "uint8": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5, "float16": 6, "float32": 7,
        "float64": 8}           # ncclDataType_t
SUM = 0                         # ncclRedOp_t


@functools.cache
def _nccl(ranks: MPICommunicator, xp: Any) -> Any:
    """Return the communicator of NCCL for these ranks; None, with a warning, where they lack NCCL or share a GPU."""
    own, nccl = None, _module_of_nccl(xp)
    if nccl is not None:
        properties = xp.cuda.runtime.getDeviceProperties(xp.cuda.device.get_device_id())
        own = bytes(properties["uuid"])
    everyone = ranks._gather(own)
    if None in everyone or len({*everyone}) < ranks.size:
        why = "NCCL is not installed on all ranks" if None in everyone else "several ranks share a GPU"
        logging.getLogger(__name__).warning("arrays on GPUs are summed on the host: %s", why)
        return None
    unique = ranks._gather(nccl.get_unique_id() if ranks.rank == 0 else None)[0]
    return nccl.NcclCommunicator(ranks.size, unique, ranks.rank)


def _module_of_nccl(xp: Any) -> Any:
    """Return CuPy's module for NCCL; None where that is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                     # of what is missing
        nccl = importlib.import_module(f"{xp.__name__}.cuda.nccl")
    return nccl if getattr(nccl, "available", False) else None


def _sum_by_nccl(nccl: Any, x: Array) -> Array:
    """Return the sum over all ranks, computed by NCCL on the current stream."""
    xp = module_of(x)
    if x.dtype.kind == "c":
        return _sum_by_nccl(nccl, xp.ascontiguousarray(x).view(x.real.dtype)).view(x.dtype)
    x = xp.ascontiguousarray(x).reshape(x.shape)
    total = xp.empty_like(x)
    nccl.allReduce(x.data.ptr, total.data.ptr, x.size, NCCL[x.dtype.name], SUM, xp.cuda.get_current_stream().ptr)
    return total
