"""Large NumPy arrays in chunks that stay in cache, processed by several threads.

NumPy walks through memory once for every operation, on one core. Here an array is split along its first axis into
chunks that fit in a core's cache; each thread takes one chunk after the other and does the whole computation on it.
NumPy releases the interpreter lock while it computes, so Python's own threads run in parallel.

    MINIGRAD_THREADS=4      the number of threads; if it is not set, one for each core that this process may use

The chunks depend on the shapes alone, and partial sums are added in the order of the chunks, so that **results do not
depend on the number of threads**, bit for bit. While chunks are processed, each matrix product of NumPy's BLAS uses
one thread (threads within threads would only wait for one another, and BLAS's own threads change bits); the setting is
restored afterwards.
"""
import concurrent.futures
import contextlib
import contextvars
import functools
import itertools
import math
import operator
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy
import threadpoolctl
from numpy import ndarray

from .. import deprecated
from ..errors import BackendError
from ..typing import Array, Shape

CHUNK = 1 << 20         # bytes of one array in a chunk; those of a few arrays stay in the cache of a core
GROUPS = 16             # at most so many partial sums at once, where each is large (gradients of kernels)

T = TypeVar("T")
R = TypeVar("R")
GetAndSet = tuple[Callable[[], int], Callable[[int], object]]


@functools.cache
def threads() -> int:
    """Return the number of threads: MINIGRAD_THREADS, or one for each core that this process may use. Read once.

    Raises BackendError unless it is a positive integer.
    """
    wanted = os.environ.get("MINIGRAD_THREADS", "").strip()
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise BackendError(f"MINIGRAD_THREADS={wanted!r} is not a number of threads\n  help: 1, 2, 3 ...")
    return int(wanted)


def split(n: int, bytes_each: int, chunk: int | None = None) -> list[slice]:
    """Split range(n) into slices of at most `chunk` bytes, CHUNK if it is not given, but of one element at least.

    The number of slices is about a multiple of 4, so that 2 or 4 threads get equal shares.
    """
    chunk = chunk or CHUNK
    if n * bytes_each <= chunk:
        return [slice(0, n)] if n else []
    count = -(-n * bytes_each // chunk)
    step = -(-n // (-(-count // 4) * 4))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def split_rows(x: Array) -> list[slice]:
    """Split an array along its first axis into slices of at most CHUNK bytes; one empty slice if it has no rows."""
    return split(len(x), x.nbytes // max(len(x), 1)) or [slice(0, 0)]


def run(work: Callable[[Iterator[T]], object], chunks: Sequence[T]) -> None:
    """Run work(chunks) on every thread; all threads draw from one shared iterator.

    The calling thread works too and never waits for a free one: where none is free (inside of a chunk, say) or none
    can be started, it does everything itself.
    """
    left = iter(chunks)                                     # to take the next element of a list is one atomic step
    with one_blas_thread:
        helpers = _ask_for_help(work, left, min(threads(), len(chunks)) - 1)
        try:
            work(left)
        finally:                                            # a job that has not begun by now has nothing left to do
            errors = [helper.exception() for helper in helpers if not helper.cancel()]      # this waits for the others
    for error in errors:
        if error:
            raise error


def map_chunks(f: Callable[[T], R], chunks: Sequence[T]) -> list[R]:
    """Return [f(chunk) for chunk in chunks], computed on threads."""
    results: list[Any] = [None] * len(chunks)

    def work(left: Iterator[tuple[int, T]]) -> None:
        for i, chunk in left:
            results[i] = f(chunk)
    run(work, list(enumerate(chunks)))
    return results


def sum_chunks(f: Callable[[T], Array], chunks: Sequence[T]) -> Array:
    """Return the sum of f(chunk) over all chunks, added up in their order."""
    return functools.reduce(operator.add, map_chunks(f, chunks))


def scratch(role: str, shape: Shape, x: Array) -> Array:
    """Return an uninitialized array in the type of x. Each thread has one for each role and reuses its memory."""
    count = math.prod(shape) * x.itemsize
    memory = getattr(_own, role, None)
    if memory is None or len(memory) < count:
        memory = numpy.empty(count, "uint8")
        setattr(_own, role, memory)
    return memory[:count].view(x.dtype).reshape(shape)


def chunked(f: Any, arguments: int | None = None) -> Callable[..., Any]:
    """Return f, which acts on each element of one array or two, with large arrays in chunks on threads.

    f: a ufunc, or a function f(*arrays, out=None) with this number of arguments.
    """
    def unary(a: Array, more: Any = None, /, out: Any = None) -> Array:     # *more would cost a tuple at every call
        if more is not None or out is not None:             # NumPy would write the result to a second array
            return NotImplemented
        return map_elements(f, (a,)) if type(a) is ndarray and a.nbytes > CHUNK else f(a)

    def binary(a: Array, b: Array, more: Any = None, /, out: Any = None) -> Array:
        if more is not None or out is not None:
            return NotImplemented
        large = type(a) is ndarray and a.nbytes > CHUNK or type(b) is ndarray and b.nbytes > CHUNK
        return map_elements(f, (a, b)) if large else f(a, b)
    form = unary if (arguments or f.nin) == 1 else binary
    form.__qualname__ = getattr(f, "__name__", "f")         # the name in the error where Python refuses an argument
    return form


def map_elements(f: Any, args: Sequence[Array], y: Array = None) -> Array:
    """Return f(*args), written to y if that is given, chunk by chunk."""
    s = numpy.broadcast_shapes(*[numpy.shape(a) for a in args])
    is_split = [numpy.ndim(a) == len(s) and a.shape[0] == s[0] for a in args]
    if y is None:
        y = numpy.empty(s, f(*[a[:0] if splits else a for a, splits in zip(args, is_split)]).dtype)

    def work(left: Iterator[slice]) -> None:
        for chunk in left:
            f(*[a[chunk] if splits else a for a, splits in zip(args, is_split)], out=y[chunk])
    run(work, split_rows(y))
    return y


# -------------------------------------------------------------------------------------------------- threads

class _Own(threading.local):
    """The data of one thread: scratch memory by role, how deep it is in `one_blas_thread`, and what to restore."""
    depth, counted = 0, False                               # counted: among those inside of it
    before: Sequence[tuple[int, Callable[[int], object]]] = ()


_own = _Own()


class _Helpers:
    """Threads that wait for jobs, started when they are first needed.

    They are daemons, so that the interpreter may end while they wait.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without threads."""
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()     # of pairs (future, function)
        self.started, self.lock = 0, threading.Lock()

    def start(self, count: int) -> None:
        """Start threads until there are `count`, or no more can be started, as while the interpreter ends."""
        with self.lock, contextlib.suppress(RuntimeError):
            while self.started < count:
                threading.Thread(target=self.serve, name="minigrad", daemon=True).start()
                self.started += 1

    def serve(self) -> None:
        """Do one job after the other, for ever."""
        one_blas_thread.enter_thread()
        while True:
            job, run = self.jobs.get()
            if job.set_running_or_notify_cancel():
                try:
                    job.set_result(run())
                except BaseException as error:
                    job.set_exception(error)
            del job, run                                    # they hold arrays, and the next job may be long in coming


_helpers = _Helpers()


def _ask_for_help(work: Callable[[Iterator[T]], object], left: Iterator[T],
                  count: int) -> list[concurrent.futures.Future[object]]:
    """Return `count` futures of work(left), or as many as there are threads: whichever is free takes the next one."""
    if count > _helpers.started:
        _helpers.start(count)
    jobs: list[concurrent.futures.Future[object]] = [
        concurrent.futures.Future() for _ in range(min(count, _helpers.started))]
    for job in jobs:                                        # the context carries numpy.errstate
        _helpers.jobs.put((job, functools.partial(contextvars.copy_context().run, work, left)))
    return jobs


class _OneBlasThread:
    """A context in which BLAS uses one thread. Entered by several threads at once, it ends when the last one leaves."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.before: list[tuple[int, Callable[[int], object]]] = []

    def __reduce__(self) -> str:
        return "one_blas_thread"                            # there is one in each process

    def __enter__(self) -> None:
        if _own.depth:
            _own.depth += 1
            return
        of_process, of_thread = _blas()
        try:                                                # Ctrl-C may come at any line
            with self.lock:
                if not self.inside:
                    self.before = [(get(), set_to) for get, set_to in of_process]
                    for _, set_to in of_process:
                        set_to(1)
                self.inside, _own.counted = self.inside + 1, True
            if of_thread:
                self.enter_thread()
            _own.depth = 1
        except BaseException:
            _own.depth = 0
            self._leave()
            raise

    def __exit__(self, *error: Any) -> None:
        _own.depth -= 1
        if not _own.depth:
            self._leave()

    def _leave(self) -> None:
        for count, set_to in _own.before:
            set_to(count)
        with self.lock:
            self.inside, _own.counted = self.inside - _own.counted, False
            if not self.inside:
                self._restore()

    def enter_thread(self) -> None:
        """Set the BLAS whose threads are counted for each thread. A helper does it once, when it starts."""
        _own.before = [(get(), set_to) for get, set_to in _blas()[1]]
        for _, set_to in _own.before:
            set_to(1)

    def _restore(self) -> None:
        for count, set_to in self.before:
            set_to(count)
        self.before = []                                    # it is empty unless BLAS may be set to one thread

    def after_fork(self) -> None:
        """Start afresh in a forked child, where the thread that forked is the only one."""
        self.lock, self.inside = threading.Lock(), int(_own.depth > 0)
        if not self.inside:
            self._restore()


@functools.cache
def _blas() -> tuple[list[GetAndSet], list[GetAndSet]]:
    """Return (get, set) of the number of threads of each BLAS: those that count for the process, and for each thread.

    OpenBLAS's own functions are called: threadpoolctl 3.8 silently ignores what any thread but the first sets.
    """
    of_process: list[GetAndSet] = []
    of_thread: list[GetAndSet] = []
    for library in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers:
        known = library.internal_api == "openblas"
        if known and getattr(library, "threading_layer", None) == "openmp":
            of_thread.append((library.get_num_threads, library.set_num_threads))
            continue
        get, set_to = library.get_num_threads, library.set_num_threads
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64")) if known else ():
            name = f"{prefix}openblas_%s_num_threads{suffix}"
            if hasattr(library.dynlib, name % "set"):
                get, set_to = (getattr(library.dynlib, name % what) for what in ("get", "set"))
        of_process.append((get, set_to))
    return of_process, of_thread


one_blas_thread = _OneBlasThread()


def _after_fork() -> None:
    _helpers.reset()
    one_blas_thread.after_fork()


if hasattr(os, "register_at_fork"):                         # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_after_fork)

deprecated.names(__name__, cut="split", share="run", each="map_chunks")
