"""PyTorch's steps as one program: recorded as CUDA graphs, or compiled (torch.compile)."""
import gc

import torch


class Graph:
    """A step as a CUDA graph. The weights, the batches and the result are where they were when it was recorded."""

    def __init__(self, step):
        self.step, self.graph, self.result, self.warm = step, None, None, False

    def __call__(self):
        """The weights after the step; the first call records it."""
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
        """Three steps on a stream of their own, as PyTorch's documentation wants it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.warm = True


class Compiled:
    """A step, written with torch.func, compiled as a whole; what cannot be in it is an error."""

    def __init__(self, step, params, **settings):
        self.step = torch.compile(step, fullgraph=True, dynamic=False, **settings)
        self.params = params

    def __call__(self):
        """The weights after the step."""
        with torch.no_grad():                               # of which torch.func takes no notice
            return self.step(self.params)


def release(steps):
    """Forget the graphs, which are recorded anew when they are wanted, and give their memory to other processes."""
    for step in steps:
        if isinstance(step, Graph):
            step.graph = step.result = None
    gc.collect()
    torch.cuda.empty_cache()


def memory(step):
    """The most bytes that the allocator had given out, beyond those before; not told of what is compiled.

    Of a graph that is not there yet: those while it was recorded, which it holds as long as it lives.
    """
    if isinstance(step, Compiled):
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before
