"""Training steps in PyTorch: eager, and on a GPU also as CUDA graphs and compiled (torch_graphs.py)."""
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import EPS, MOMENTUM, NETWORKS, RATE, Library, data, same, torch_graphs, weights
from .clocks import by_events, on_host


class TorchOps:
    """The operations in PyTorch's words, on images (n, c, h, w)."""

    relu = staticmethod(torch.relu)

    def __init__(self, biases=()):
        self.ones = {len(b): torch.ones_like(b) for b in biases}        # the gain that F.batch_norm wants

    def dense(self, x, weight, bias):
        """x W + b."""
        return x @ weight + bias

    def conv(self, x, k, stride=1, bias=None):
        """A convolution with "same" padding; F.conv2d pads symmetrically by itself."""
        before, after = same(x.shape[2], k.shape[2], stride)
        if before == after:
            return F.conv2d(x, k, bias, stride, before)
        return F.conv2d(F.pad(x, (before, after) * 2), k, bias, stride)

    def max_pool(self, x):
        """3x3 with stride 2, "same"."""
        return F.max_pool2d(F.pad(x, same(x.shape[2], 3, 2) * 2, value=-math.inf), 3, 2)

    def norm(self, x, bias):
        """Batch normalization without gain, and ReLU."""
        return self.relu(F.batch_norm(x, None, None, self.ones[len(bias)], bias, True, eps=EPS))

    def average(self, x):
        """The mean of each 2x2."""
        return F.avg_pool2d(x, 2)

    def widen(self, x, more):
        """Channels of zeros on both sides."""
        return F.pad(x, (0, 0, 0, 0, more, more))

    def pooled(self, x):
        """The mean over all pixels."""
        return x.mean((2, 3))

    def flat(self, x):
        """Rows in the order height, width, channel."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Written(TorchOps):
    """The same with batch normalization written out: the compiler takes no tangent of F.batch_norm (PyTorch 2.13)."""

    def norm(self, x, bias):
        """Batch normalization without gain, and ReLU."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        return self.relu((x - mean) * torch.rsqrt(variance + EPS) + bias[:, None, None])


def normalized(u):
    """Line 11 of Algorithm 1."""
    w = u.clamp(min=0)
    return (w / (w.sum() + (w.sum() == 0))).detach()


class Steps:
    """The routes, from weights P and momentum M; images in one of PyTorch's memory layouts."""

    Ops = TorchOps

    def __init__(self, problem, layout, device="cpu"):
        self.problem, self.layout, self.device = problem, layout, device
        self.x, self.y, *self.clean = (self.put(np.moveaxis(a, -1, 1) if a.ndim == 4 else a) for a in data(problem))
        arrays = [self.put(p.transpose(3, 2, 0, 1) if p.ndim == 4 else p) for p in weights(problem)]
        self.M = [torch.zeros_like(p) for p in arrays]
        self.ops = self.Ops(p for p in arrays if p.dim() == 1)
        self.P = [p.requires_grad_() for p in arrays]

    def put(self, a):
        """A tensor on the device."""
        t = torch.from_numpy(np.array(a)).to(self.device)
        return t.contiguous(memory_format=self.layout) if t.dim() == 4 else t

    def losses(self, params, x, y):
        """(n,)"""
        scores = NETWORKS[self.problem.network](self.ops, params, x, self.problem.size)
        if self.problem.network == "lenet":
            return F.binary_cross_entropy_with_logits(scores[:, 0], y.float(), reduction="none")
        return F.cross_entropy(scores, y, reduction="none")

    def noisy(self, params=None):
        """The losses of the noisy batch."""
        return self.losses(params or self.P, self.x, self.y)

    def then(self, loss):
        """The weights after a step down a loss."""
        gradient = torch.autograd.grad(loss, self.P)
        with torch.no_grad():
            return self.moved(self.P, gradient)

    def moved(self, params, gradient):
        """The weights after a step of SGD with momentum."""
        by = torch._foreach_add(torch._foreach_mul(self.M, MOMENTUM), gradient)
        return torch._foreach_sub(params, torch._foreach_mul(by, RATE))

    def clean_gradient(self):
        """v."""
        return torch.autograd.grad(self.losses(self.P, *self.clean).mean(), self.P)

    def gradient(self):
        """No update."""
        return torch.autograd.grad(self.noisy().mean(), self.P)

    def plain(self):
        """The mean loss."""
        return self.then(self.noisy().mean())

    def double_backward(self):
        """As it is usually written."""
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * self.noisy()).sum(), self.P, create_graph=True)
        after = self.losses([p - 0.1 * g for p, g in zip(self.P, inner)], *self.clean).mean()
        return self.then((normalized(-torch.autograd.grad(after, eps)[0]) * self.noisy()).sum())

    def one_graph(self):
        """The noisy batch run once, its graph used for the weights and for the step."""
        v, losses = self.clean_gradient(), self.noisy()
        eps = torch.zeros(len(self.x), device=self.device, requires_grad=True)
        inner = torch.autograd.grad((eps * losses).sum(), self.P, create_graph=True)
        u = torch.autograd.grad(inner, eps, v, retain_graph=True)[0]
        return self.then((normalized(u) * losses).sum())

    def forward_mode(self):
        """Dual numbers; the noisy batch run once."""
        v = self.clean_gradient()
        with torch.autograd.forward_ad.dual_level():
            duals = [torch.autograd.forward_ad.make_dual(p, t) for p, t in zip(self.P, v)]
            losses, u = torch.autograd.forward_ad.unpack_dual(self.noisy(duals))
            return self.then((normalized(u) * losses).sum())


class Functional(Steps):
    """The routes as functions of the weights, by torch.func: torch.compile takes no double backward."""

    Ops = Written

    def plain(self, params):
        """The mean loss."""
        return self.moved(params, torch.func.grad(lambda p: self.noisy(p).mean())(params))

    def forward_mode(self, params):
        """Dual numbers; the noisy batch run once."""
        v = torch.func.grad(lambda p: self.losses(p, *self.clean).mean())(params)

        def weighted(p):
            losses, u = torch.func.jvp(self.noisy, (p,), (v,))
            return (normalized(u) * losses).sum()
        return self.moved(params, torch.func.grad(weighted)(params))


def use(problem, channels_last=False, gpu=False, tf32=False):
    """PyTorch, every route in its fastest form that was found. Raises RuntimeError where a GPU is asked for in vain."""
    if gpu and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = gpu                    # shapes do not change: the fastest convolution is chosen
    layout = torch.channels_last if channels_last else torch.contiguous_format
    steps = Steps(problem, layout, "cuda" if gpu else "cpu")
    if not problem.clean:
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
    """The routes of a GPU alone: CUDA graphs of eager ones, and functions of the weights, compiled."""
    params = [p.detach() for p in functional.P]
    graphs = {f"{name}, CUDA graph": torch_graphs.Graph(eager[name]) for name in ("plain", "one graph", "forward mode")}
    settings = settings or {"mode": "reduce-overhead"}      # which makes CUDA graphs as well
    return graphs | {"plain, compiled": torch_graphs.Compiled(functional.plain, params, **settings),
                     "forward mode, compiled": torch_graphs.Compiled(functional.forward_mode, params, **settings)}


def host(params):
    """NumPy arrays, kernels (A, B, c, o)."""
    arrays = [p.detach().cpu().numpy() for p in params]
    return [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays]


def host_memory(step):
    """The most bytes that the allocator of the CPU had given out, beyond those before the step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), default=None)
