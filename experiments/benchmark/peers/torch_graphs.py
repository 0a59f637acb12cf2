"""PyTorch's steps as whole programs: recorded as CUDA graphs, or compiled (torch.compile)."""
import gc

import torch


class Graph:
    """A step as a CUDA graph. Weights, batches and result stay in the memory where they were recorded."""

    def __init__(self, step):
        self.step, self.graph, self.result, self.warm = step, None, None, False

    def __call__(self):
        """Return the weights after the step; the first call records it."""
        if self.graph is None:
            if not self.warm:
                self._warm_up()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = self.step()
            self.graph = graph
        self.graph.replay()
        return self.result

    def _warm_up(self):
        """Take three steps on a side stream, as PyTorch's documentation asks for."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.warm = True


class Compiled:
    """A step written with torch.func, compiled as a whole: what the compiler cannot include is an error."""

    def __init__(self, step, params, **settings):
        self.step = torch.compile(step, fullgraph=True, dynamic=False, **settings)
        self.params = params

    def __call__(self):
        """Return the weights after the step."""
        with torch.no_grad():                               # torch.func differentiates regardless
            return self.step(self.params)


def release(steps):
    """Drop the graphs and return their memory to the device; the next call of a step records its graph again."""
    for step in steps:
        if isinstance(step, Graph):
            step.graph = step.result = None
    gc.collect()
    torch.cuda.empty_cache()


def memory(step):
    """Return the peak of the bytes allocated during a step beyond those before, or None for a compiled step.

    For a graph that is yet to be recorded, this is the peak while recording, which the graph keeps.
    """
    if isinstance(step, Compiled):
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before
