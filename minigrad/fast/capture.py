"""A whole training step as one CUDA graph: `capture`.

On a GPU a step is a thousand small kernels, and Python needs longer to launch them than the device to run them. Which
kernels they are does not depend on the values in the arrays, as nothing in a step looks at them. So they can be
recorded once, as a graph of CUDA, and from then on be launched together.
"""
import contextlib
import functools
import gc
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from .. import tree
from ..backend import module_of, on_device
from ..errors import DTypeError, message, shape
from ..typing import Array, Tree
from . import cublas, cuda, cuda_leaves

Step = Callable[..., tuple[Tree, Tree]]


def capture(step: Step) -> "Captured":
    """Return the function step(state, *inputs) -> (state, outputs), replayed as one CUDA graph from its second call on.

    step: a function of trees of arrays, and of nothing else that changes: a number that it takes from outside is frozen
    into the graph, so pass it as an array (the learning rate: xp.asarray(0.1, "float32")). Inputs may lie on the host;
    they are copied, and may be changed afterwards (from pinned memory the device copies later: wait for it first). For
    each combination of shapes, types and device there is a graph of its own. It works on the current stream.

        train = capture(step)
        for t in range(steps):
            state, losses = train(state, images[chosen[t]], labels[chosen[t]], rates[t])

    The first call runs the step as it is. The second one runs it once more while CUDA records what it does, and then
    launches the graph; all others launch it. The state that comes back lies in memory that the next call overwrites:
    pass it on, and copy what is to stay. The outputs are copies. Where a step cannot be captured, because something in
    it waits for the device, it is run as it is from then on, and a warning is logged that says why.

    Where all arrays are NumPy's the step is run as it is. Raises DTypeError for a leaf that is no array.
    """
    return Captured(step)


class Captured:
    """A step with its graphs, one for each structure, shapes and types of the arguments."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.__name__ = f"capture({getattr(step, '__name__', 'step')})"
        self._plans: list[_Plan] = []

    @property
    def launches(self) -> int | None:
        """How many nodes (kernels and copies) the newest graph has; None without one."""
        graphs = [plan.graph for plan in self._plans if plan.graph is not None]
        return graphs[-1].launches() if graphs else None

    def __call__(self, state: Tree, *inputs: Tree) -> tuple[Tree, Tree]:
        """Return step(state, *inputs)."""
        leaves, structure = tree.flatten((state, inputs))
        xp, kinds = module_of(*leaves), [_kind(self.__name__, leaf) for leaf in leaves]
        if xp is numpy:
            return self.step(state, *inputs)
        kind = xp.cuda.device.get_device_id(), structure, kinds
        plan = next((plan for plan in self._plans if plan.kind == kind), None)
        if plan is None:                                    # this first call compiles the kernels
            self._plans.append(_Plan(kind))
        elif not plan.tried:
            plan.tried, plan.graph = True, self._graph(xp, state, inputs)
        if plan is None or plan.graph is None:
            return self.step(*tree.map(xp.asarray, (state, *inputs)))
        return plan.graph.launch(leaves)

    def _graph(self, xp: Any, state: Tree, inputs: Tree) -> "_Graph | None":
        """Return the captured step; None, with a warning, where that fails."""
        xp.get_default_memory_pool().free_all_blocks()      # which a capture cannot do when memory is short
        pool = xp.cuda.MemoryPool(functools.partial(_memory, xp))
        pool.set_limit(size=0)                              # none but the device's
        try:
            return _Graph(xp, self.__name__, self.step, pool, state, inputs)
        except Exception as error:
            logging.getLogger(__name__).warning("%s: the step cannot be captured and is run as it is (%s: %s)",
                                                self.__name__, type(error).__name__, str(error))   # not its frames
        gc.collect()                                        # what the step had made is gone with the error
        pool.free_all_blocks()
        return None


class _Plan:
    """What to do with arguments of one kind: launch the graph, or run the step as it is where there is none."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.tried = False                                  # whether a capture was tried, by the second call
        self.graph: _Graph | None = None


def _memory(xp: Any, size: int) -> Any:
    """Return memory of the device for a pool.

    Raises MemoryError where there is none, and not the error that CuPy's pools expect: they would free what they have
    and try again, but what is free in a capture is memory of the graph.
    """
    try:
        return xp.cuda.MemoryPointer(xp.cuda.Memory(size), 0)
    except xp.cuda.runtime.CUDARuntimeError as error:
        raise MemoryError(str(error)) from error


def _kind(call: str, leaf: Any) -> tuple[Any, Any]:
    """Return shape and type of a leaf. Raises DTypeError where it is no array."""
    if not hasattr(leaf, "dtype"):
        raise DTypeError(message(f"{call}(state, *inputs)", "a number would be frozen into the graph", [("", leaf, "")],
                                 "pass it as an array: xp.asarray(0.1, 'float32')"))
    return shape(leaf), leaf.dtype


class _Graph:
    """A captured step, with the memory that it works in: no other array is ever put there."""

    def __init__(self, xp: Any, name: str, step: Step, pool: Any, state: Tree, inputs: Tree) -> None:
        self.pool, self.stream = pool, xp.cuda.Stream(non_blocking=True)
        handle = cublas.handle(xp)                          # which cannot be made in a capture
        leaves, structure = tree.flatten((state, inputs))
        with (self.stream, xp.cuda.using_allocator(self.pool.malloc), _no_collection(),
              cuda.counters_of_graph(xp) as self.counters):
            self.held: Any = [xp.empty(shape(leaf), leaf.dtype.newbyteorder("=")) for leaf in leaves]
            self.ranges = [(held.data.ptr, held.data.ptr + held.nbytes) for held in self.held]
            self.state, inputs = tree.unflatten(structure, self.held)
            self.stream.synchronize()                       # the counters are 0 before any stream launches the graph
            self.stream.begin_capture()
            try:
                new, outputs = step(self.state, *inputs)
                self.outputs = tree.map(self._apart, outputs)       # before the state is overwritten
                self._overwrite(name, new)
            except BaseException:
                with contextlib.suppress(Exception):        # the capture is broken; the first error says why
                    self.stream.end_capture()
                raise
            self.graph = self.stream.end_capture()
            self.workspace = handle and handle.workspace    # of the products in the graph

    def __del__(self) -> None:
        """Free the memory: a pool of CuPy's does not do so by itself."""
        self.graph = self.state = self.outputs = self.held = self.counters = self.workspace = None
        self.pool.free_all_blocks()

    def _apart(self, leaf: Array) -> Array:
        """Return the leaf, or a copy of it where it lies in memory that the graph overwrites."""
        _kind("outputs", leaf)
        return leaf.copy() if any(start <= leaf.data.ptr < end for start, end in self.ranges) else leaf

    def _overwrite(self, name: str, new: Tree) -> None:
        """Write the new state to where the old one lies. Raises DTypeError where shapes or types differ."""
        old, structure = tree.flatten(self.state)
        leaves = tree.leaves_like(structure, new, f"{name}: the state passed in, and the one returned")
        pairs = [(held, self._apart(leaf)) for held, leaf in zip(old, leaves) if leaf is not held]
        for held, leaf in pairs:
            if _kind(name, held) != _kind(name, leaf):
                raise DTypeError(message(name, "the state changes its shapes or types",
                                         [("in", held, ""), ("out", leaf, "")]))
        cuda_leaves.copy(pairs)

    def launch(self, leaves: list[Array]) -> tuple[Tree, Tree]:
        """Return step(state, *inputs) for arguments with these leaves."""
        new = [(held, leaf) for held, leaf in zip(self.held, leaves) if leaf is not held]
        cuda_leaves.copy([(held, self._apart(leaf)) for held, leaf in new if on_device(leaf)])
        for held, leaf in new:
            if not on_device(leaf):
                held.set(numpy.ascontiguousarray(leaf, held.dtype).reshape(held.shape))     # also of a NumPy scalar
        self.graph.launch()
        return self.state, tree.map(lambda leaf: leaf.copy(), self.outputs)

    def launches(self) -> int:
        """Return how many nodes the graph has."""
        return len(set(re.findall(r'"graph_\d+_node_\d+"', self.graph.debug_dot_str())))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection inside: what it destroys (an event, a handle) may not be destroyed in a capture."""
    gc.collect()
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
