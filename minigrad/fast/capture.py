"""A whole training step as one CUDA graph: `capture`.

On a GPU a step is a thousand small kernels, and Python needs longer to launch them than the device to run them. Which
kernels they are does not depend on the values in the arrays, as nothing in a step looks at them. So they can be written
down once, as a graph of CUDA, and from then on be launched together.
"""
import contextlib
import functools
import gc
import logging
import re

import numpy

from .. import tree
from ..backend import module_of, on_device
from ..errors import DTypeError, message, shape
from . import cublas


def capture(step):
    """The function step(state, *inputs) -> (state, outputs), replayed as one CUDA graph from its second call on.

    step: a function of trees of arrays, and of nothing else that changes: a number that it takes from outside is frozen
    into the graph, so hand it in, as an array (the learning rate: xp.asarray(0.1, "float32")). Inputs may lie on the
    host; they are copied. For each combination of shapes and types there is a graph of its own.

        train = capture(step)
        for t in range(steps):
            state, losses = train(state, images[chosen[t]], labels[chosen[t]], rates[t])

    The first call runs the step as it is; the second one runs it once more while CUDA writes down what it does, and
    then launches that; all others launch it. The state that comes back lies in memory that the next call overwrites:
    hand it on, and copy what is to stay. The outputs are copies. Where a step cannot be captured, because something in
    it waits for the device, it goes on being run as it is, and a warning is logged that says why.

    Where all arrays are NumPy's the step is run as it is. `launches` of what is given: how many nodes (kernels and
    copies) the newest graph has, or None without one. Raises DTypeError for a leaf that is no array.
    """
    return _Captured(step)


class _Captured:
    def __init__(self, step):
        self.step, self._plans = step, []                   # pairs: the kind of the arguments, what to do with such
        self.__name__ = f"capture({getattr(step, '__name__', 'step')})"

    @property
    def launches(self):
        graphs = [plan for _, plan in self._plans if isinstance(plan, _Graph)]
        return graphs[-1].launches() if graphs else None

    def __call__(self, state, *inputs):
        leaves, structure = tree.flatten((state, inputs))
        xp = module_of(*leaves)
        if xp is numpy:
            return self.step(state, *inputs)
        kind = structure, [_kind(self.__name__, leaf) for leaf in leaves]
        at = next((i for i, (known, _) in enumerate(self._plans) if known == kind), None)
        if at is None:                                      # this first call compiles the kernels
            self._plans.append((kind, None))
            return self.step(*tree.map(xp.asarray, (state, *inputs)))
        if self._plans[at][1] is None:
            self._plans[at] = kind, self._graph(xp, state, inputs)
        plan = self._plans[at][1]
        return plan.launch(leaves) if isinstance(plan, _Graph) else self.step(*tree.map(xp.asarray, (state, *inputs)))

    def _graph(self, xp, state, inputs):
        xp.get_default_memory_pool().free_all_blocks()      # which a capture cannot do when memory is short
        pool = xp.cuda.MemoryPool(functools.partial(_memory, xp))
        pool.set_limit(size=0)                              # none but the device's
        try:
            return _Graph(xp, self.__name__, self.step, pool, state, inputs)
        except Exception as error:
            logging.getLogger(__name__).warning("%s: the step cannot be captured and is run as it is (%s: %s)",
                                                self.__name__, type(error).__name__, error)
        gc.collect()                                        # what the step had made is gone with the error
        pool.free_all_blocks()
        return "as it is"


def _memory(xp, size):
    """Memory of the device for a pool. That there is none is an error of another type than CuPy's pools expect.

    They would free what they have and try again; but what is free in a capture is memory of the graph.
    """
    try:
        return xp.cuda.MemoryPointer(xp.cuda.Memory(size), 0)
    except xp.cuda.runtime.CUDARuntimeError as error:
        raise MemoryError(str(error)) from error


def _kind(call, leaf):
    if not hasattr(leaf, "dtype"):
        raise DTypeError(message(f"{call}(state, *inputs)", "a number would be frozen into the graph", [("", leaf, "")],
                                 "hand it over as an array: xp.asarray(0.1, 'float32')"))
    return shape(leaf), leaf.dtype


class _Graph:
    """A captured step, with the memory that it works in: no other array is ever put there."""

    def __init__(self, xp, name, step, pool, state, inputs):
        self.pool, self.stream = pool, xp.cuda.Stream(non_blocking=True)
        self.handle = cublas.handle(xp)                        # its workspace is the graph's too
        xp.cuda.Device().synchronize()
        leaves, structure = tree.flatten((state, inputs))
        with self.stream, xp.cuda.using_allocator(self.pool.malloc), _no_collection():
            self.held = [xp.array(leaf, order="C") for leaf in leaves]
            self.places = [(held.data.ptr, held.data.ptr + held.nbytes) for held in self.held]
            self.state, inputs = tree.unflatten(structure, self.held)
            self.stream.synchronize()
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

    def __del__(self):
        """A pool of CuPy's does not give back its memory by itself."""
        self.graph = self.state = self.outputs = self.held = None
        self.pool.free_all_blocks()

    def _apart(self, leaf):
        """The leaf, or a copy of it where it lies in memory that the graph overwrites."""
        _kind("outputs", leaf)
        return leaf.copy() if any(start <= leaf.data.ptr < end for start, end in self.places) else leaf

    def _overwrite(self, name, new):
        old, structure = tree.flatten(self.state)
        leaves = tree.leaves_like(structure, new, f"{name}: the state handed in, and the one handed out")
        for held, leaf in zip(old, [leaf if leaf is held else self._apart(leaf) for held, leaf in zip(old, leaves)]):
            if leaf is not held:
                if _kind(name, held) != _kind(name, leaf):
                    raise DTypeError(message(name, "the state changes its shapes or types",
                                             [("in", held, ""), ("out", leaf, "")]))
                held[...] = leaf

    def launch(self, leaves):
        """What step(state, *inputs) gives, for arguments with these leaves."""
        leaves = [leaf if leaf is held or not on_device(leaf) else self._apart(leaf)
                  for held, leaf in zip(self.held, leaves)]
        for held, leaf in zip(self.held, leaves):
            if leaf is not held:
                if on_device(leaf):
                    held[...] = leaf
                else:
                    held.set(numpy.ascontiguousarray(leaf).reshape(held.shape))     # also of a NumPy scalar
        self.graph.launch()
        return self.state, tree.map(lambda leaf: leaf.copy(), self.outputs)

    def launches(self):
        """How many nodes the graph has."""
        return len(set(re.findall(r'"graph_\d+_node_\d+"', self.graph.debug_dot_str())))


@contextlib.contextmanager
def _no_collection():
    """No garbage collection inside: what it destroys (an event, a handle) may not be destroyed in a capture."""
    gc.collect()
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
