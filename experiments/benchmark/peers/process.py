"""Client (Peer) and server (serve) of a library that runs in its own process."""
import contextlib
import multiprocessing
import time

from ...training.pool import environment
from . import WITHOUT_C, clocks, kind, use

PATIENCE = 120.0            # seconds after which no further route is built on a GPU: compiling is slow there


class Peer:
    """A client of one library with one workload, which runs in its own process; arguments as of `serve`.

    version, routes and failed {route: reason} are set by `wait`; reason: why the whole library cannot run, or "".
    """

    def __init__(self, library, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library, *arguments), daemon=True)
        ours = library in ("minigrad", WITHOUT_C)           # minigrad's settings must not affect the others
        with environment({"MINIGRAD_KEEP_MEMORY": str(int(ours)), "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                          **({} if ours else {"MINIGRAD_BACKEND": "numpy"}),
                          **({"MINIGRAD_NATIVE": "0"} if library == WITHOUT_C else {})}):
            self.process.start()
        theirs.close()
        self.version, self.routes, self.reason, self.failed = "", [], "", {}

    def wait(self):
        """Wait until the server has built all routes."""
        reply = self._receive()
        if isinstance(reply, str):
            self.reason = reply
        else:
            self.version, self.routes, self.failed = reply

    def ask(self, what, route):
        """Return the "time" (seconds), "memory" (bytes), "launches" or "weights" of one step.

        If that fails, return None, now and in all later calls, and put the reason into `failed`.
        """
        if route in self.failed:
            return None
        with contextlib.suppress(OSError):                  # the process has ended; _receive says so
            self.pipe.send((what, route))
        reply = self._receive()
        if isinstance(reply, str):
            self.failed[route], reply = reply, None
        return reply

    def _receive(self):
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return "the process ended without a reply"

    def close(self):
        """End the process and wait for it."""
        with contextlib.suppress(OSError):                  # it has already ended
            self.pipe.send(None)
        self.pipe.close()
        self.process.join()


def serve(pipe, library, workload, gpu=False, tf32=False, kinds=None):
    """Answer requests (what, route) over a pipe, with a number, arrays or, as a string, the reason for a failure.

    The first message, without a request, is (version, [route], {route: reason why it cannot be built}), or a string if
    the library cannot run. The request None ends the loop. kinds: of step, whose routes are built; None: all. Other
    arguments: as of `peers.use`.
    """
    begun = time.perf_counter()
    try:
        found = use(library, workload, gpu, tf32)
    except Exception as error:                              # not installed, or it cannot run here
        pipe.send(_reason(error))
        return
    failed, wanted = {}, [route for route in found.routes if kinds is None or kind(route) in kinds]
    for route in wanted:
        spent = time.perf_counter() - begun
        if gpu and spent > PATIENCE:
            failed[route] = f"not built: the routes before it took {spent:.0f} s"
        elif isinstance(reply := _answer(found, gpu, "weights", route), str):
            failed[route] = reply
    pipe.send((found.version, [route for route in wanted if route not in failed], failed))
    while (request := pipe.recv()) is not None:
        pipe.send(_answer(found, gpu, *request))


def _answer(found, gpu, what, route):
    """Return the reply of a Library to one request, and free the step's memory on a GPU for the next library."""
    step = found.routes[route]
    try:
        if what == "time":
            return clocks.turn(step, found.elapsed, gpu)
        if what == "launches":
            return getattr(step, "launches", None)
        return found.memory(step) if what == "memory" else found.host(step())
    except Exception as error:                              # from a compiler or a capture, or out of memory
        return _reason(error)
    finally:
        found.release()


def _reason(error):
    return f"{type(error).__name__}: {error}"
