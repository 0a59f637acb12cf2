"""Training steps in PyTorch, eager."""
import functools
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import EPS, MOMENTUM, NETWORKS, RATE, Library, data, same, weights

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class TorchOps:
    """The operations in PyTorch's words, on images (n, c, h, w)."""

    relu = staticmethod(torch.relu)
    ones = staticmethod(functools.cache(lambda n: torch.ones(n, device=DEVICE)))

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
        """Batch normalisation without gain, and ReLU."""
        return self.relu(F.batch_norm(x, None, None, self.ones(len(bias)), bias, True, eps=EPS))

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


def normalised(u):
    """Line 11 of Algorithm 1."""
    w = u.clamp(min=0)
    return (w / (w.sum() + (w.sum() == 0))).detach()


class Steps:
    """The routes, from weights P and momentum M; images in one of PyTorch's memory layouts."""

    def __init__(self, problem, layout):
        self.problem, self.net, self.layout = problem, functools.partial(NETWORKS[problem.network], TorchOps()), layout
        self.x, self.y, *self.clean = (self.put(np.moveaxis(a, -1, 1) if a.ndim == 4 else a) for a in data(problem))
        self.P = [self.put(p.transpose(3, 2, 0, 1) if p.ndim == 4 else p).requires_grad_() for p in weights(problem)]
        self.M = [torch.zeros_like(p) for p in self.P]

    def put(self, a):
        """A tensor on the device."""
        t = torch.from_numpy(np.array(a)).to(DEVICE)
        return t.contiguous(memory_format=self.layout) if t.dim() == 4 else t

    def losses(self, params, x, y):
        """(n,)"""
        scores = self.net(params, x, self.problem.size)
        if self.problem.network == "lenet":
            return F.binary_cross_entropy_with_logits(scores[:, 0], y.float(), reduction="none")
        return F.cross_entropy(scores, y, reduction="none")

    def noisy(self, params=None):
        """The losses of the noisy batch."""
        return self.losses(params or self.P, self.x, self.y)

    def then(self, loss):
        """The weights after a step of SGD with momentum down a loss."""
        gradient = torch.autograd.grad(loss, self.P)
        with torch.no_grad():
            moved = torch._foreach_add(torch._foreach_mul(self.M, MOMENTUM), gradient)
            return torch._foreach_sub(self.P, torch._foreach_mul(moved, RATE))

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
        eps = torch.zeros(len(self.x), device=DEVICE, requires_grad=True)
        inner = torch.autograd.grad((eps * self.noisy()).sum(), self.P, create_graph=True)
        after = self.losses([p - 0.1 * g for p, g in zip(self.P, inner)], *self.clean).mean()
        return self.then((normalised(-torch.autograd.grad(after, eps)[0]) * self.noisy()).sum())

    def one_graph(self):
        """The noisy batch run once, its graph used for the weights and for the step."""
        v, losses = self.clean_gradient(), self.noisy()
        eps = torch.zeros(len(self.x), device=DEVICE, requires_grad=True)
        inner = torch.autograd.grad((eps * losses).sum(), self.P, create_graph=True)
        u = torch.autograd.grad(inner, eps, v, retain_graph=True)[0]
        return self.then((normalised(u) * losses).sum())

    def forward_mode(self):
        """Dual numbers; the noisy batch run once."""
        v = self.clean_gradient()
        with torch.autograd.forward_ad.dual_level():
            duals = [torch.autograd.forward_ad.make_dual(p, t) for p, t in zip(self.P, v)]
            losses, u = torch.autograd.forward_ad.unpack_dual(self.noisy(duals))
            return self.then((normalised(u) * losses).sum())


def use(problem, channels_last=False):
    """PyTorch, every route in its fastest form that was found."""
    steps = Steps(problem, torch.channels_last if channels_last else torch.contiguous_format)
    routes = {"gradient": steps.gradient} if not problem.clean else {
        "plain": steps.plain, "double backward": steps.double_backward, "one graph": steps.one_graph,
        "forward mode": steps.forward_mode}
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    return Library(torch.__version__, routes, wait, host, memory)


def host(params):
    """NumPy arrays, kernels (A, B, c, o)."""
    arrays = [p.detach().cpu().numpy() for p in params]
    return [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays]


def memory(step):
    """The most bytes that the allocator had given out, beyond those before the step."""
    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), default=None)
