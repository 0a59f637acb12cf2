"""Training steps in JAX, each compiled as a whole (jit)."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from . import EPS, MOMENTUM, NETWORKS, RATE, Library, data, weights
from .clocks import on_host


class JaxOps:
    """The operations of the networks in JAX, on images (n, h, w, c)."""

    def relu(self, x):
        """Return max(x, 0)."""
        return jnp.maximum(x, 0)

    def dense(self, x, weight, bias):
        """Return x W + b."""
        return x @ weight + bias

    def conv(self, x, k, stride=1, bias=0.0):
        """Convolve with "same" padding, and add the bias."""
        y = jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias

    def max_pool(self, x):
        """Return the maxima of 3x3 windows, with stride 2 and "same" padding."""
        return jax.lax.reduce_window(x, -math.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    def norm(self, x, bias):
        """Return relu(batch normalization of x, without gain, + bias)."""
        mean = x.mean((0, 1, 2))
        c = x - mean
        return self.relu(c * jax.lax.rsqrt((c * c).mean((0, 1, 2)) + EPS) + bias)

    def avg_pool(self, x):
        """Return the mean of each 2x2 block."""
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def widen(self, x, more):
        """Append `more` channels of zeros on either side."""
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more, more)))

    def average_pixels(self, x):
        """Return the mean over all pixels: (n, c)."""
        return x.mean((1, 2))

    def flatten(self, x):
        """Flatten each image, in the order height, width, channel."""
        return x.reshape(len(x), -1)


def normalize(u):
    """Return the example weights for the scores u: line 11 of Algorithm 1."""
    w = jnp.maximum(u, 0)
    return jax.lax.stop_gradient(w / (w.sum() + (w.sum() == 0)))


class Steps:
    """The routes, as functions of the weights."""

    def __init__(self, problem):
        self.problem, self.net = problem, functools.partial(NETWORKS[problem.network], JaxOps())
        self.x, self.y, *self.clean = map(jnp.asarray, data(problem))

    def losses(self, params, x, y):
        """Return the loss of each example: (n,)."""
        scores = self.net(params, x, self.problem.size)
        if self.problem.network == "lenet":
            return jax.nn.softplus(scores[:, 0]) - scores[:, 0] * y
        return jax.nn.logsumexp(scores, axis=1) - scores[jnp.arange(len(y)), y]

    def noisy(self, params):
        """Return the losses of the noisy batch: (n,)."""
        return self.losses(params, self.x, self.y)

    def clean_loss(self, params):
        """Return L, the mean loss of the clean batch."""
        return self.losses(params, *self.clean).mean()

    def update(self, params, gradient):
        """Return the weights after a step of SGD, with a momentum that is 0 so far."""
        return [p - RATE * (MOMENTUM * jnp.zeros_like(p) + g) for p, g in zip(params, gradient)]

    def gradient(self, params):
        """Return the gradient of the mean loss, without an update."""
        return jax.grad(lambda p: self.noisy(p).mean())(params)

    def plain(self, params):
        """Return the weights after a step on the mean loss."""
        return self.update(params, self.gradient(params))

    def double_backward(self, params):
        """Return the weights after a step of Algorithm 1 in its usual form, backward through the backward pass."""
        def after(eps):
            inner = jax.grad(lambda p: (eps * self.noisy(p)).sum())(params)
            return self.clean_loss([p - 0.1 * g for p, g in zip(params, inner)])
        w = normalize(-jax.grad(after)(jnp.zeros(len(self.x))))
        return self.update(params, jax.grad(lambda p: (w * self.noisy(p)).sum())(params))

    def forward_mode(self, params):
        """Return the weights after a step of Algorithm 1, with example weights by a Jacobian-vector product.

        XLA finds that one pass over the noisy batch serves both of its uses.
        """
        u = jax.jvp(self.noisy, (params,), (jax.grad(self.clean_loss)(params),))[1]
        return self.update(params, jax.grad(lambda p: (normalize(u) * self.noisy(p)).sum())(params))


class Compiled:
    """A step that is compiled by its first call."""

    def __init__(self, step, params):
        self.step, self.params, self.program = jax.jit(step), params, None

    def __call__(self):
        """Return the new weights, which JAX may still be computing."""
        if self.program is None:
            self.program = self.step.lower(self.params).compile()
        return self.program(self.params)


def use(problem, gpu=False, tf32=False):
    """Return the Library JAX with a problem; compiling a step takes up to a minute.

    Raises RuntimeError if there is no GPU and one is asked for.
    """
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
