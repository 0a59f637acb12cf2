"""Training steps in PyTorch: eager or compiled, and on a GPU also as CUDA graphs (torch_graphs.py)."""
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import EPS, MOMENTUM, NETWORKS, RATE, Library, data, same, torch_graphs, weights
from .clocks import by_events, on_host


class TorchOps:
    """The operations of the networks in PyTorch, on images (n, c, h, w)."""

    relu = staticmethod(torch.relu)

    def __init__(self, biases=()):
        self.ones = {len(b): torch.ones_like(b) for b in biases}        # the gains that F.batch_norm requires

    def dense(self, x, weight, bias):
        """Return x W + b."""
        return x @ weight + bias

    def conv(self, x, k, stride=1, bias=None):
        """Convolve with "same" padding, and add the bias; F.conv2d itself only pads symmetrically."""
        before, after = same(x.shape[2], k.shape[2], stride)
        if before == after:
            return F.conv2d(x, k, bias, stride, before)
        return F.conv2d(F.pad(x, (before, after) * 2), k, bias, stride)

    def max_pool(self, x):
        """Return the maxima of 3x3 windows, with stride 2 and "same" padding."""
        return F.max_pool2d(F.pad(x, same(x.shape[2], 3, 2) * 2, value=-math.inf), 3, 2)

    def norm(self, x, bias):
        """Return relu(batch normalization of x, without gain, + bias)."""
        return self.relu(F.batch_norm(x, None, None, self.ones[len(bias)], bias, True, eps=EPS))

    def avg_pool(self, x):
        """Return the mean of each 2x2 block."""
        return F.avg_pool2d(x, 2)

    def widen(self, x, more):
        """Append `more` channels of zeros on either side."""
        return F.pad(x, (0, 0, 0, 0, more, more))

    def average_pixels(self, x):
        """Return the mean over all pixels: (n, c)."""
        return x.mean((2, 3))

    def flatten(self, x):
        """Flatten each image, in the order height, width, channel."""
        return x.permute(0, 2, 3, 1).flatten(1)


class ComposedOps(TorchOps):
    """TorchOps with batch normalization composed of primitives.

    torch.compile has no forward mode for F.batch_norm (PyTorch 2.13).
    """

    def norm(self, x, bias):
        """Return relu(batch normalization of x, without gain, + bias)."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        return self.relu((x - mean) * torch.rsqrt(variance + EPS) + bias[:, None, None])


def normalize(u):
    """Return the example weights for the scores u: line 11 of Algorithm 1."""
    w = u.clamp(min=0)
    return (w / (w.sum() + (w.sum() == 0))).detach()


class Steps:
    """The routes, as methods that start from weights P and momentum M.

    layout: PyTorch's memory format of images and kernels.
    """

    Ops = TorchOps

    def __init__(self, problem, layout, device="cpu"):
        self.problem, self.layout, self.device = problem, layout, device
        self.x, self.y, *self.clean = (self.tensor(np.moveaxis(a, -1, 1) if a.ndim == 4 else a) for a in data(problem))
        arrays = [self.tensor(p.transpose(3, 2, 0, 1) if p.ndim == 4 else p) for p in weights(problem)]
        self.M = [torch.zeros_like(p) for p in arrays]
        self.ops = self.Ops(p for p in arrays if p.dim() == 1)
        self.P = [p.requires_grad_() for p in arrays]

    def tensor(self, a):
        """Return an array as a tensor on the device."""
        t = torch.from_numpy(np.array(a)).to(self.device)
        return t.contiguous(memory_format=self.layout) if t.dim() == 4 else t

    def losses(self, params, x, y):
        """Return the loss of each example: (n,)."""
        scores = NETWORKS[self.problem.network](self.ops, params, x, self.problem.size)
        if self.problem.network == "lenet":
            return F.binary_cross_entropy_with_logits(scores[:, 0], y.float(), reduction="none")
        return F.cross_entropy(scores, y, reduction="none")

    def noisy(self, params=None):
        """Return the losses of the noisy batch: (n,)."""
        return self.losses(params or self.P, self.x, self.y)

    def step_down(self, loss):
        """Return the weights after a step on a loss."""
        gradient = torch.autograd.grad(loss, self.P)
        with torch.no_grad():
            return self.update(self.P, gradient)

    def update(self, params, gradient):
        """Return the weights after a step of SGD with momentum."""
        by = torch._foreach_add(torch._foreach_mul(self.M, MOMENTUM), gradient)
        return torch._foreach_sub(params, torch._foreach_mul(by, RATE))

    def clean_gradient(self):
        """Return v, the gradient of the mean loss of the clean batch."""
        return torch.autograd.grad(self.losses(self.P, *self.clean).mean(), self.P)

    def gradient(self):
        """Return the gradient of the mean loss, without an update."""
        return torch.autograd.grad(self.noisy().mean(), self.P)

    def plain(self):
        """Return the weights after a step on the mean loss."""
        return self.step_down(self.noisy().mean())

    def double_backward(self):
        """Return the weights after a step of Algorithm 1 in its usual form, backward through the backward pass."""
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * self.noisy()).sum(), self.P, create_graph=True)
        after = self.losses([p - 0.1 * g for p, g in zip(self.P, inner)], *self.clean).mean()
        return self.step_down((normalize(-torch.autograd.grad(after, eps)[0]) * self.noisy()).sum())

    def one_graph(self):
        """Return the weights after a step of Algorithm 1: one pass over the noisy batch, its graph walked twice."""
        v, losses = self.clean_gradient(), self.noisy()
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * losses).sum(), self.P, create_graph=True)
        u = torch.autograd.grad(inner, eps, v, retain_graph=True)[0]
        return self.step_down((normalize(u) * losses).sum())

    def forward_mode(self):
        """Return the weights after a step of Algorithm 1: one pass over the noisy batch, on dual numbers."""
        v = self.clean_gradient()
        with torch.autograd.forward_ad.dual_level():
            duals = [torch.autograd.forward_ad.make_dual(p, t) for p, t in zip(self.P, v)]
            losses, u = torch.autograd.forward_ad.unpack_dual(self.noisy(duals))
            return self.step_down((normalize(u) * losses).sum())


class Functional(Steps):
    """The routes as functions of the weights, by torch.func: torch.compile does not support double backward."""

    Ops = ComposedOps

    def plain(self, params):
        """Return the weights after a step on the mean loss."""
        return self.update(params, torch.func.grad(lambda p: self.noisy(p).mean())(params))

    def forward_mode(self, params):
        """Return the weights after a step of Algorithm 1: one pass over the noisy batch, on dual numbers."""
        v = torch.func.grad(lambda p: self.losses(p, *self.clean).mean())(params)

        def weighted(p):
            losses, u = torch.func.jvp(self.noisy, (p,), (v,))
            return (normalize(u) * losses).sum()
        return self.update(params, torch.func.grad(weighted)(params))


def use(problem, channels_last=False, compiled=False, gpu=False, tf32=False):
    """Return the Library PyTorch with a problem, each route in the fastest form that we found.

    Raises RuntimeError if there is no GPU and one is asked for.

    Args:
        problem: the Problem.
        channels_last: the memory format of images: (n, h, w, c) instead of (n, c, h, w).
        compiled: whether all routes are compiled, on the CPU; some minutes each.
        gpu: whether to compute on a GPU.
        tf32: whether matrix products and convolutions are in TF32.
    """
    if gpu and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = gpu          # shapes are fixed, so cuDNN may search for the fastest convolution
    layout = torch.channels_last if channels_last else torch.contiguous_format
    steps = Steps(problem, layout, "cuda" if gpu else "cpu")
    if compiled:
        routes = compile_routes(Functional(problem, layout))
    elif not problem.clean:
        routes = {"gradient": steps.gradient}
    else:
        routes = {"plain": steps.plain, "double backward": steps.double_backward, "one graph": steps.one_graph,
                  "forward mode": steps.forward_mode}
        routes |= on_gpu(routes, Functional(problem, layout, "cuda")) if gpu else {}
    if not gpu:
        return Library(torch.__version__, routes, on_host, host, host_memory)
    elapsed = by_events(lambda: torch.cuda.Event(enable_timing=True), torch.cuda.Event.elapsed_time)
    return Library(torch.__version__, routes, elapsed, host, torch_graphs.memory,
                   lambda: torch_graphs.release(routes.values()))


def on_gpu(eager, functional, **settings):
    """Return the routes that only a GPU has: CUDA graphs of eager ones, and compiled functions of the weights.

    settings: of torch.compile.
    """
    graphs = {f"{name}, CUDA graph": torch_graphs.Graph(eager[name]) for name in ("plain", "one graph", "forward mode")}
    compiled = compile_routes(functional, **settings or {"mode": "reduce-overhead"})        # uses CUDA graphs, too
    return graphs | {f"{route}, compiled": step for route, step in compiled.items()}


def compile_routes(functional, **settings):
    """Return the routes as functions of the weights, compiled; settings: of torch.compile."""
    params = [p.detach() for p in functional.P]
    return {"plain": torch_graphs.Compiled(functional.plain, params, **settings),
            "forward mode": torch_graphs.Compiled(functional.forward_mode, params, **settings)}


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
