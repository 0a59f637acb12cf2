"""Training steps in PyTorch: eager or compiled, and on a GPU also as CUDA graphs."""
import gc
import itertools
import math

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from . import EPS, MOMENTUM, RATE, Library, Steps, clocks, data, weights


def same(size, window, stride):
    """Return (before, after): the padding along an axis that TensorFlow calls "same"."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


class _Ops:
    """The operations of the networks, on images (n, c, h, w). biases: parameters, among them all biases of `norm`."""
    relu = staticmethod(torch.relu)
    dense = staticmethod(lambda x, weight, bias: x @ weight + bias)
    max_pool = staticmethod(lambda x: F.max_pool2d(F.pad(x, same(x.shape[2], 3, 2) * 2, value=-math.inf), 3, 2))
    avg_pool = staticmethod(lambda x: F.avg_pool2d(x, 2))
    average_pixels = staticmethod(lambda x: x.mean((2, 3)))
    widen = staticmethod(lambda x, more: F.pad(x, (0, 0, 0, 0, more, more)))
    flatten = staticmethod(lambda x: x.permute(0, 2, 3, 1).flatten(1))

    def __init__(self, biases):
        self.ones = {len(b): torch.ones_like(b) for b in biases if b.dim() == 1}   # the gains F.batch_norm requires

    @staticmethod
    def conv(x, k, stride=1, bias=None):
        before, after = same(x.shape[2], k.shape[2], stride)
        if before == after:
            return F.conv2d(x, k, bias, stride, before)
        return F.conv2d(F.pad(x, (before, after) * 2), k, bias, stride)         # F.conv2d only pads symmetrically

    def norm(self, x, bias):
        return torch.relu(F.batch_norm(x, None, None, self.ones[len(bias)], bias, True, eps=EPS))


class _ComposedOps(_Ops):
    """... with batch normalization composed: torch.compile has no forward mode for F.batch_norm (PyTorch 2.13)."""

    def norm(self, x, bias):
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        return torch.relu((x - mean) * torch.rsqrt(variance + EPS) + bias[:, None, None])


class _Functional(Steps):
    """The routes for torch.compile, which does not support double backward. layout: of images and kernels."""
    Ops, grad, jvp = _ComposedOps, staticmethod(torch.func.grad), staticmethod(torch.func.jvp)

    def __init__(self, workload, layout, device="cpu"):
        def tensor(a, axes):
            t = torch.from_numpy(a.transpose(axes) if a.ndim == 4 else a).to(device)
            return t.contiguous(memory_format=layout) if a.ndim == 4 else t
        self.workload, self.device = workload, device
        self.x, self.y, *self.clean = (tensor(a, (0, 3, 1, 2)) for a in data(workload))
        self.P = [tensor(p.copy(), (3, 2, 0, 1)) for p in weights(workload)]
        self.M, self.ops = [torch.zeros_like(p) for p in self.P], self.Ops(self.P)

    def loss(self, scores, y):
        if self.workload.network == "lenet":
            return F.binary_cross_entropy_with_logits(scores[:, 0], y.float(), reduction="none")
        return F.cross_entropy(scores, y, reduction="none")

    def normalize(self, u):
        w = u.clamp(min=0)
        return (w / (w.sum() + (w.sum() == 0))).detach()

    def update(self, params, gradient):
        by = torch._foreach_add(torch._foreach_mul(self.M, MOMENTUM), gradient)
        return torch._foreach_sub(params, torch._foreach_mul(by, RATE))

    def compiled(self, **settings):
        return {"plain": Compiled(self.plain, self.P, **settings),
                "forward mode": Compiled(self.forward_mode, self.P, **settings)}


class _Eager(_Functional):
    """The routes that peers/__init__.py describes, without arguments: from the weights P, which require gradients."""
    Ops = _Ops

    def __init__(self, *setting):
        super().__init__(*setting)
        self.P = [p.requires_grad_() for p in self.P]

    def step_down(self, loss):
        gradient = torch.autograd.grad(loss, self.P)
        with torch.no_grad():
            return self.update(self.P, gradient)

    def gradient(self):
        return torch.autograd.grad(self.noisy(self.P).mean(), self.P)

    def plain(self):
        return self.step_down(self.noisy(self.P).mean())

    def double_backward(self):
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * self.noisy(self.P)).sum(), self.P, create_graph=True)
        after = self.clean_loss([p - 0.1 * g for p, g in zip(self.P, inner)])
        return self.step_down((self.normalize(-torch.autograd.grad(after, eps)[0]) * self.noisy(self.P)).sum())

    def one_graph(self):
        v, losses = torch.autograd.grad(self.clean_loss(self.P), self.P), self.noisy(self.P)
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * losses).sum(), self.P, create_graph=True)
        u = torch.autograd.grad(inner, eps, v, retain_graph=True)[0]
        return self.step_down((self.normalize(u) * losses).sum())

    def forward_mode(self):
        v = torch.autograd.grad(self.clean_loss(self.P), self.P)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(p, t) for p, t in zip(self.P, v)]
            losses, u = forward_ad.unpack_dual(self.noisy(duals))
            return self.step_down((self.normalize(u) * losses).sum())


class Compiled:
    """A function of the weights, compiled as a whole: what the compiler cannot include is an error."""

    def __init__(self, step, params, **settings):
        self.step, self.params = torch.compile(step, fullgraph=True, dynamic=False, **settings), params

    def __call__(self):
        """Return the weights after the step."""
        with torch.no_grad():                               # torch.func differentiates regardless
            return self.step(self.params)


class Graph:
    """A step as a CUDA graph. Weights, batches and result stay in the memory where they were recorded."""

    def __init__(self, step):
        self.step, self.graph, self.result = step, None, None

    def __call__(self):
        """Return the weights after the step; the first call records it."""
        if self.graph is None:
            self._warm_up()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = self.step()
            self.graph = graph
        self.graph.replay()
        return self.result

    def _warm_up(self):
        """Take three steps on a side stream, as PyTorch's documentation asks for."""
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        main.wait_stream(side)


def routes_on_gpu(eager, functional, **settings):
    """Return the routes that only a GPU has: CUDA graphs of eager ones, and compiled functions of the weights.

    settings: of torch.compile.
    """
    graphs = {f"{name}, CUDA graph": Graph(eager[name]) for name in ("plain", "one graph", "forward mode")}
    compiled = functional.compiled(**settings or {"mode": "reduce-overhead"})               # uses CUDA graphs, too
    return graphs | {f"{route}, compiled": step for route, step in compiled.items()}


def use(workload, gpu=False, tf32=False, channels_last=False, compiled=False):
    """Return the Library PyTorch with a workload, each route in the fastest form that we found.

    channels_last: images in memory as (n, h, w, c) instead of (n, c, h, w); compiled: on the CPU, all routes compiled,
    some minutes each. Raises RuntimeError if there is no GPU and one is asked for.
    """
    if gpu and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = gpu          # shapes are fixed, so cuDNN may search for the fastest convolution
    setting = workload, torch.channels_last if channels_last else torch.contiguous_format, "cuda" if gpu else "cpu"
    steps = _Eager(*setting)
    if compiled:
        routes = _Functional(*setting).compiled()
    elif workload.clean:
        routes = {"plain": steps.plain, "double backward": steps.double_backward, "one graph": steps.one_graph,
                  "forward mode": steps.forward_mode}
        routes |= routes_on_gpu(routes, _Functional(*setting)) if gpu else {}
    else:
        routes = {"gradient": steps.gradient}
    if not gpu:
        return Library(torch.__version__, routes, host=host, memory=host_memory)
    elapsed = clocks.by_events(lambda: torch.cuda.Event(enable_timing=True), torch.cuda.Event.elapsed_time)
    return Library(torch.__version__, routes, elapsed, host, device_memory, lambda: release(routes.values()))


def host(params):
    """Return the weights as NumPy arrays in minigrad's layout: kernels (A, B, c, o)."""
    arrays = [p.detach().cpu().numpy() for p in params]
    return [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays]


def host_memory(step):
    """Return the peak of the bytes that the CPU's allocator held during a step, beyond those held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), default=None)


def device_memory(step):
    """Return the peak of the bytes allocated during a step beyond those before, or None for a compiled step.

    For a graph that is yet to be recorded, this is the peak while recording, which the graph keeps.
    """
    if isinstance(step, Compiled):
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def release(steps):
    """Drop the graphs and return their memory to the device; the next call of a step records its graph again."""
    for step in steps:
        if isinstance(step, Graph):
            step.graph = step.result = None
    gc.collect()
    torch.cuda.empty_cache()
