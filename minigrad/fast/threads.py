"""Large arrays of NumPy in chunks that stay in cache, worked on by several threads.

NumPy walks through memory once for every operation and on one core. Here a batch is split along its first axis into
chunks that fit in a core's cache; threads take one chunk after the other and do all that is to be done with it. NumPy
releases the interpreter lock while it computes, so Python's own threads do.

    MINIGRAD_THREADS=4      the number of threads; if it is not set, one for each core that this process may use

The chunks depend on the shapes alone and partial sums are added up in the order of the chunks, so that **results do
not depend on the number of threads**, bit for bit. While chunks are worked on, the matrix products of NumPy's BLAS run
on one thread each (threads within threads would only wait for one another, and BLAS's own threads change bits); the
setting is restored afterwards.
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

import numpy
import threadpoolctl
from numpy import ndarray

from ..errors import BackendError

CHUNK = 1 << 20         # bytes of each array at hand; a few of them stay in the cache of a core
GROUPS = 16             # at most this many partial sums are kept at once, where each is large (gradients of kernels)


@functools.cache
def threads():
    """Return the number of threads: MINIGRAD_THREADS, or one for each core that this process may use. Read once."""
    wanted = os.environ.get("MINIGRAD_THREADS", "").strip()
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise BackendError(f"MINIGRAD_THREADS={wanted!r} is not a number of threads\n  help: 1, 2, 3 ...")
    return int(wanted)


def split(n, bytes_each, chunk=None):
    """Split range(n) into slices of at most `chunk` bytes (at least one element each), CHUNK if it is not given.

    The number of slices is about a multiple of 4, so that 2 or 4 threads get equal shares.
    """
    chunk = chunk or CHUNK
    if n * bytes_each <= chunk:
        return [slice(0, n)] if n else []
    count = -(-n * bytes_each // chunk)
    step = -(-n // (-(-count // 4) * 4))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def split_rows(x):
    """Split an array along its first axis: slices of at most a chunk; one slice of an array without rows."""
    return split(len(x), x.nbytes // max(len(x), 1)) or [slice(0, 0)]


def run(work, chunks):
    """Run work(chunks) on every thread; all threads draw from one shared iterator. Return nothing.

    The calling thread works too and waits for no other: where no thread is free (inside of a chunk, say) or none can
    be started, it does everything.
    """
    left = iter(chunks)                                     # to take the next element of a list is one atomic step
    with one_blas_thread:
        helpers = _ask_for_help(work, left, min(threads(), len(chunks)) - 1)
        try:
            work(left)
        finally:                                            # what nobody has begun by now has nothing left to do
            errors = [helper.exception() for helper in helpers if not helper.cancel()]      # which waits for them
    for error in errors:
        if error:
            raise error


def map_chunks(f, chunks):
    """Return [f(chunk) for chunk in chunks], computed on threads."""
    results = [None] * len(chunks)

    def work(left):
        for i, chunk in left:
            results[i] = f(chunk)
    run(work, list(enumerate(chunks)))
    return results


def sum_chunks(f, chunks):
    """Return the sum of f(chunk) over all chunks, added up in their order."""
    return functools.reduce(operator.add, map_chunks(f, chunks))


def scratch(role, shape, x):
    """Return an uninitialized buffer in the type of x, reused for every call with this role; one per thread."""
    count = math.prod(shape) * x.itemsize
    memory = getattr(_own, role, None)
    if memory is None or len(memory) < count:
        memory = numpy.empty(count, "uint8")
        setattr(_own, role, memory)
    return memory[:count].view(x.dtype).reshape(shape)


def chunked(f, arguments=None):
    """Return f, which acts on each element of one array or two, with large arrays in chunks on threads.

    f: a ufunc, or a function f(*arrays, out=None) of so many arguments.
    """
    def unary(a, /, *more, **settings):
        if more or settings:
            return NotImplemented                           # NumPy would write into the one too many
        return map_elements(f, (a,)) if type(a) is ndarray and a.nbytes > CHUNK else f(a)

    def binary(a, b, /, *more, **settings):
        if more or settings:
            return NotImplemented
        large = type(a) is ndarray and a.nbytes > CHUNK or type(b) is ndarray and b.nbytes > CHUNK
        return map_elements(f, (a, b)) if large else f(a, b)
    return unary if (arguments or f.nin) == 1 else binary


def map_elements(f, args, y=None):
    """Return f(*args), written to y if that is given, chunk by chunk."""
    s = numpy.broadcast_shapes(*[numpy.shape(a) for a in args])
    is_split = [numpy.ndim(a) == len(s) and a.shape[0] == s[0] for a in args]
    if y is None:
        y = numpy.empty(s, f(*[a[:0] if splits else a for a, splits in zip(args, is_split)]).dtype)

    def work(left):
        for chunk in left:
            f(*[a[chunk] if splits else a for a, splits in zip(args, is_split)], out=y[chunk])
    run(work, split_rows(y))
    return y


# -------------------------------------------------------------------------------------------------- threads

class _Own(threading.local):
    """What each thread has for itself: scratch arrays, how deep it is in `one_blas_thread`, and what to restore."""
    depth, before = 0, ()


_own = _Own()


class _Helpers:
    """Threads that wait for work. They are daemons, so that the interpreter may end while they wait, and start late."""

    def __init__(self):
        self.jobs, self.started, self.lock = queue.SimpleQueue(), 0, threading.Lock()

    def start(self, count):
        """Have at least so many threads, or as many as there can be: none are started while the interpreter ends."""
        with self.lock, contextlib.suppress(RuntimeError):
            while self.started < count:
                threading.Thread(target=self.serve, name="minigrad", daemon=True).start()
                self.started += 1

    def serve(self):
        one_blas_thread.enter_thread()
        while True:
            job, run = self.jobs.get()
            if job.set_running_or_notify_cancel():
                try:
                    job.set_result(run())
                except BaseException as error:
                    job.set_exception(error)
            del job, run                                    # with the arrays in them


_helpers = _Helpers()


def _ask_for_help(work, left, count):
    """Futures of work(left), `count` of them, each done by the next thread that is free, if there is one."""
    if count > _helpers.started:
        _helpers.start(count)
    jobs = [concurrent.futures.Future() for _ in range(min(count, _helpers.started))]
    for job in jobs:                                        # the context carries numpy.errstate
        _helpers.jobs.put((job, functools.partial(contextvars.copy_context().run, work, left)))
    return jobs


class _OneBlasThread:
    """A context in which BLAS uses one thread. Entered by several threads at once, it ends when the last one leaves."""

    def __init__(self):
        self.lock, self.inside, self.before = threading.Lock(), 0, []

    def __reduce__(self):
        return "one_blas_thread"                            # there is one in each process

    def __enter__(self):
        _own.depth += 1
        if _own.depth == 1:
            of_process, of_thread = _blas()
            with self.lock:
                if not self.inside:
                    self.before = [(get(), set_to) for get, set_to in of_process]
                    for _, set_to in of_process:
                        set_to(1)
                self.inside += 1
            if of_thread:
                self.enter_thread()

    def __exit__(self, *error):
        _own.depth -= 1
        if _own.depth == 0:
            for count, set_to in _own.before:
                set_to(count)
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self._restore()

    def enter_thread(self):
        """The part of it that each thread has to do for itself: a helper does it once and for all."""
        _own.before = [(get(), set_to) for get, set_to in _blas()[1]]
        for _, set_to in _own.before:
            set_to(1)

    def _restore(self):
        for count, set_to in self.before:
            set_to(count)
        self.before = []                                    # not empty wherever BLAS may be at one thread

    def after_fork(self):
        """In a forked child, where the thread that forked is the only one."""
        self.lock, self.inside = threading.Lock(), int(_own.depth > 0)
        if not self.inside:
            self._restore()


@functools.cache
def _blas():
    """The functions (get, set) of the number of threads of each BLAS: where it is that of the process, of each thread.

    OpenBLAS is asked itself: threadpoolctl 3.8 ignores, without a word, what any thread but the first sets.
    """
    of_process, of_thread = [], []
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


def _after_fork():
    _helpers.__init__()
    one_blas_thread.after_fork()


if hasattr(os, "register_at_fork"):                         # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_after_fork)
