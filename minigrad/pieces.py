"""Large arrays in pieces that stay in cache, worked on by several threads. On a GPU there is one piece, the whole.

NumPy walks through memory once for every operation and on one core. Here a batch is cut along its first axis into
pieces that fit in a core's cache; threads take one piece after the other and do all that is to be done with it. NumPy
gives the interpreter lock up while it computes, so that Python's own threads do.

    MINIGRAD_THREADS=4      how many threads; one for each core that this process may use if it is not set

The cutting depends on the shapes alone and partial sums are added up in the order of the pieces, so that **results do
not depend on the number of threads**, bit for bit. While pieces are worked on, the matrix products of NumPy's BLAS run
on one thread each (threads within threads would only wait for one another, and BLAS's own threads change bits); the
setting is put back afterwards.
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

from . import kernels
from .backend import module_of, on_device
from .errors import BackendError

PIECE = 1 << 20         # bytes: a piece of each array at hand; a few of them stay in the cache of a core
DEVICE_PIECE = 1 << 32  # on a GPU, whose kernels count elements in 32 bits
GROUPS = 16             # partial results of a sum that are too large to keep one for each piece


@functools.cache
def threads():
    """The number of threads: MINIGRAD_THREADS, or one for each core that this process may use. Read once."""
    wanted = os.environ.get("MINIGRAD_THREADS", "").strip()
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise BackendError(f"MINIGRAD_THREADS={wanted!r} is not a number of threads\n  help: 1, 2, 3 ...")
    return int(wanted)


def cut(n, bytes_each, x=None, piece=None):
    """Slices of range(n), in order, of at most a piece but for single elements. x: an array to be cut like this.

    Where there are several there are about 4, 8, 12 ...: equal shares for 2 or 4 threads. On a GPU a piece is 4 GB.
    """
    piece = DEVICE_PIECE if on_device(x) else piece or PIECE
    if n * bytes_each <= piece:
        return [slice(0, n)] if n else []
    count = -(-n * bytes_each // piece)
    step = -(-n // (-(-count // 4) * 4))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def cut_rows(x):
    """Slices of an array along its first axis, each at most a piece; one where there is nothing to cut."""
    return cut(len(x), x.nbytes // max(len(x), 1), x) or [slice(0, 0)]


def share(work, pieces, x=None):
    """Let every thread call work(its pieces), where each takes the next piece that nobody has taken. No result.

    x: one of the arrays that are worked on. A GPU needs no threads. The thread that calls this works too, and needs no
    help: where no other thread is free (inside of a piece, say) or none can be started, it does everything.
    """
    if on_device(x):
        return work(pieces)
    left = iter(pieces)                                     # to take the next element of a list is one atomic step
    with one_blas_thread:
        helpers = _ask_for_help(work, left, min(threads(), len(pieces)) - 1)
        try:
            work(left)
        finally:                                            # what nobody has begun by now has nothing left to do
            errors = [helper.exception() for helper in helpers if not helper.cancel()]      # which waits for them
    for error in errors:
        if error:
            raise error


def each(f, pieces, x=None):
    """[f(piece) for piece in pieces], on threads. x: as for share."""
    results = [None] * len(pieces)

    def work(left):
        for i, piece in left:
            results[i] = f(piece)
    share(work, list(enumerate(pieces)), x)
    return results


def scratch(role, shape, x):
    """An array in the type of x for one purpose inside a piece, with anything in it.

    It lies in the same memory every time, one for each thread.
    """
    if on_device(x):
        return module_of(x).empty(shape, x.dtype)           # its pool does the same
    count = math.prod(shape) * x.itemsize
    memory = getattr(_own, role, None)
    if memory is None or len(memory) < count:
        memory = numpy.empty(count, "uint8")
        setattr(_own, role, memory)
    return memory[:count].view(x.dtype).reshape(shape)


def mapped(fun, doc=None):
    """A function of each element that cuts large arrays: the ufunc of this name, or f(*arrays, out=None)."""
    ufunc = isinstance(fun, str)
    of_numpy = getattr(numpy, fun) if ufunc else fun
    cuts = not ufunc or isinstance(of_numpy, numpy.ufunc)
    count = getattr(of_numpy, "nin", None) if ufunc else None

    def on_pieces(*args, out=None):
        if count is not None and len(args) != count:        # NumPy would write into the one too many
            raise TypeError(f"{fun} takes {count} arrays, not {len(args)}")
        for a in args:
            if type(a) is numpy.ndarray and a.nbytes > PIECE and cuts:
                return _map(of_numpy, args, out)
        f = of_numpy if type(args[0]) is numpy.ndarray or not ufunc else getattr(module_of(*args), fun)
        return f(*args) if out is None else f(*args, out=out)
    on_pieces.__name__, on_pieces.__doc__ = fun if ufunc else fun.__name__, doc
    return on_pieces


def _map(f, args, y):
    s = numpy.broadcast_shapes(*[numpy.shape(a) for a in args])
    full = [numpy.ndim(a) == len(s) and a.shape[0] == s[0] for a in args]
    if y is None:
        y = numpy.empty(s, f(*[a[:0] if cuts else a for a, cuts in zip(args, full)]).dtype)

    def work(left):
        for piece in left:
            f(*[a[piece] if cuts else a for a, cuts in zip(args, full)], out=y[piece])
    share(work, cut_rows(y), y)
    return y


added = mapped("add", "a + b for arrays; written to `out` where that is given.")


def column_sums(x, y=None):
    """The sums over all axes but the last, of x or of x y: forms that are many times faster than a sum."""
    if y is None and kernels.fit(x):
        return kernels.column_sums(x)
    if y is None:
        return module_of(x).ones(x.size // x.shape[-1], x.dtype) @ x.reshape(-1, x.shape[-1])
    if not isinstance(x, numpy.ndarray):
        return column_sums(x * y)                           # CuPy's einsum does the same
    rows = (-1, math.prod(x.shape[-2:]) if x.ndim > 2 else x.shape[-1])
    return numpy.einsum("ij,ij->j", x.reshape(rows), y.reshape(rows)).reshape(-1, x.shape[-1]).sum(0)


def summed(f, pieces, x=None):
    """The sum of f(piece) over all pieces, in their order. x: as for share."""
    return functools.reduce(operator.add, each(f, pieces, x))


# -------------------------------------------------------------------------------------------------- threads

class _Own(threading.local):
    """What each thread has for itself: scratch arrays, how deep it is in `one_blas_thread`, and what to put back."""
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
                    self._put_back()

    def enter_thread(self):
        """The part of it that each thread has to do for itself: a helper does it once and for all."""
        _own.before = [(get(), set_to) for get, set_to in _blas()[1]]
        for _, set_to in _own.before:
            set_to(1)

    def _put_back(self):
        for count, set_to in self.before:
            set_to(count)
        self.before = []                                    # not empty wherever BLAS may be at one thread

    def after_fork(self):
        """In a forked child, where the thread that forked is the only one."""
        self.lock, self.inside = threading.Lock(), int(_own.depth > 0)
        if not self.inside:
            self._put_back()


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
