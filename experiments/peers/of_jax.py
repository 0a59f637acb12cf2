"""Training steps in JAX, each of them compiled as a whole (jit)."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from . import EPS, MOMENTUM, NETWORKS, RATE, Library, data, weights
from .clocks import on_host


class JaxOps:
    """The operations in JAX's words, on images (n, h, w, c)."""

    def relu(self, x):
        """max(x, 0)."""
        return jnp.maximum(x, 0)

    def dense(self, x, weight, bias):
        """x W + b."""
        return x @ weight + bias

    def conv(self, x, k, stride=1, bias=0.0):
        """A convolution with "same" padding."""
        y = jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias

    def max_pool(self, x):
        """3x3 with stride 2, "same"."""
        return jax.lax.reduce_window(x, -math.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    def norm(self, x, bias):
        """Batch normalization without gain, and ReLU."""
        mean = x.mean((0, 1, 2))
        c = x - mean
        return self.relu(c * jax.lax.rsqrt((c * c).mean((0, 1, 2)) + EPS) + bias)

    def average(self, x):
        """The mean of each 2x2."""
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def widen(self, x, more):
        """Channels of zeros on both sides."""
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more, more)))

    def pooled(self, x):
        """The mean over all pixels."""
        return x.mean((1, 2))

    def flat(self, x):
        """Rows in the order height, width, channel."""
        return x.reshape(len(x), -1)


def normalized(u):
    """Line 11 of Algorithm 1."""
    w = jnp.maximum(u, 0)
    return jax.lax.stop_gradient(w / (w.sum() + (w.sum() == 0)))


class Steps:
    """The routes, as functions of the weights."""

    def __init__(self, problem):
        self.problem, self.net = problem, functools.partial(NETWORKS[problem.network], JaxOps())
        self.x, self.y, *self.clean = map(jnp.asarray, data(problem))

    def losses(self, params, x, y):
        """(n,)"""
        scores = self.net(params, x, self.problem.size)
        if self.problem.network == "lenet":
            return jax.nn.softplus(scores[:, 0]) - scores[:, 0] * y
        return jax.nn.logsumexp(scores, axis=1) - scores[jnp.arange(len(y)), y]

    def noisy(self, params):
        """The losses of the noisy batch."""
        return self.losses(params, self.x, self.y)

    def clean_loss(self, params):
        """L."""
        return self.losses(params, *self.clean).mean()

    def then(self, params, gradient):
        """SGD with momentum, which is 0 so far."""
        return [p - RATE * (MOMENTUM * jnp.zeros_like(p) + g) for p, g in zip(params, gradient)]

    def gradient(self, params):
        """No update."""
        return jax.grad(lambda p: self.noisy(p).mean())(params)

    def plain(self, params):
        """The mean loss."""
        return self.then(params, self.gradient(params))

    def double_backward(self, params):
        """As it is usually written."""
        def after(eps):
            inner = jax.grad(lambda p: (eps * self.noisy(p)).sum())(params)
            return self.clean_loss([p - 0.1 * g for p, g in zip(params, inner)])
        w = normalized(-jax.grad(after)(jnp.zeros(len(self.x))))
        return self.then(params, jax.grad(lambda p: (w * self.noisy(p)).sum())(params))

    def forward_mode(self, params):
        """A Jacobian-vector product; XLA finds that the noisy batch is run once."""
        u = jax.jvp(self.noisy, (params,), (jax.grad(self.clean_loss)(params),))[1]
        return self.then(params, jax.grad(lambda p: (normalized(u) * self.noisy(p)).sum())(params))


class Compiled:
    """A step, compiled when it is first called."""

    def __init__(self, step, params):
        self.step, self.params, self.program = jax.jit(step), params, None

    def __call__(self):
        """The new weights; they may still be being computed."""
        if self.program is None:
            self.program = self.step.lower(self.params).compile()
        return self.program(self.params)


def use(problem, gpu=False, tf32=False):
    """JAX; compiling a step takes up to a minute. Raises RuntimeError without the GPU that is asked for."""
    jax.config.update("jax_default_device", jax.devices("gpu" if gpu else "cpu")[0])
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    steps, params = Steps(problem), [jnp.asarray(p) for p in weights(problem)]
    names = ["gradient"] if not problem.clean else ["plain", "double_backward", "forward_mode"]
    routes = {name.replace("_", " "): Compiled(getattr(steps, name), params) for name in names}

    def memory(step):
        step()
        found = step.program.memory_analysis()
        return found and found.temp_size_in_bytes + found.output_size_in_bytes
    return Library(jax.__version__, routes, functools.partial(on_host, wait=jax.block_until_ready),
                   lambda params: [np.asarray(p) for p in params], memory)
