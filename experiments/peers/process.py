"""A library in a process of its own: what asks there for steps (Peer), and what takes them (serve)."""
import contextlib
import multiprocessing
import time

from ..pool import environment
from . import use
from .clocks import turn

PATIENCE = 120.0            # seconds after which no further route is built on a GPU, where compilers take long


class Peer:
    """One library with one problem, in a process of its own."""

    def __init__(self, library, problem, backend=None, tf32=False):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library, problem, backend, tf32), daemon=True)
        ours = library == "minigrad"                        # the others as without us
        with environment({"MINIGRAD_KEEP_MEMORY": str(int(ours)), "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                          **({} if ours else {"MINIGRAD_BACKEND": "numpy"})}):
            self.process.start()
        theirs.close()
        self.version, self.routes, self.reason, self.failed = "", [], "", {}

    def built(self):
        """Wait until all routes are built; of those that cannot be the reasons are in `failed`."""
        told = self._receive()
        if isinstance(told, str):
            self.reason = told
        else:
            self.version, self.routes, self.failed = told

    def ask(self, what, route):
        """Seconds, bytes, launches or weights of one step; None, from then on, if it fails."""
        if route in self.failed:
            return None
        with contextlib.suppress(OSError):                  # the process is gone
            self.pipe.send((what, route))
        found = self._receive()
        if isinstance(found, str):
            self.failed[route] = found
            return None
        return found

    def _receive(self):
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return "the process ended without a word"

    def close(self):
        """End the process."""
        with contextlib.suppress(OSError):                  # it has ended
            self.pipe.send(None)
        self.pipe.close()
        self.process.join()


def said(error):
    """An error as text."""
    return f"{type(error).__name__}: {error}"


def serve(pipe, library, problem, backend, tf32=False):
    """Take steps on demand, in a process of its own: (what, route) -> a number, arrays or, as text, the reason why not.

    First of all it tells its version, its routes and which of them cannot be built; None ends it.
    """
    begun = time.perf_counter()
    try:
        found = use(library, problem, backend, tf32)
    except Exception as error:                              # not installed, or it cannot run here
        pipe.send(said(error))
        return
    failed = {}
    for route in found.routes:
        spent = time.perf_counter() - begun
        if backend == "cupy" and spent > PATIENCE:
            failed[route] = f"not built: the routes before it took {spent:.0f} s"
        elif isinstance(answer := answered(found, "weights", route, backend), str):
            failed[route] = answer
    pipe.send((found.version, [route for route in found.routes if route not in failed], failed))
    while (wanted := pipe.recv()) is not None:
        pipe.send(answered(found, *wanted, backend))


def answered(found, what, route, backend=None):
    """What a library says of one of its routes; what the step held on a GPU is given back for the next one's turn."""
    step = found.routes[route]
    try:
        if what == "time":
            return turn(step, found.elapsed, backend == "cupy")
        if what == "launches":
            return getattr(step, "launches", None)
        return found.memory(step) if what == "memory" else found.host(step())
    except Exception as error:                              # of a compiler, of a capture, or the memory is full
        return said(error)
    finally:
        found.release()
