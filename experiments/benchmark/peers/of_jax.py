"""Training steps in JAX, each compiled as a whole (jit)."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from . import EPS, MOMENTUM, RATE, Library, Steps, data, weights
from .clocks import on_host


class _Ops:
    """The operations of the networks, on images (n, h, w, c)."""
    relu = staticmethod(lambda x: jnp.maximum(x, 0))
    dense = staticmethod(lambda x, weight, bias: x @ weight + bias)
    average_pixels = staticmethod(lambda x: x.mean((1, 2)))
    widen = staticmethod(lambda x, more: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more, more))))
    flatten = staticmethod(lambda x: x.reshape(len(x), -1))

    @staticmethod
    def conv(x, k, stride=1, bias=0.0):
        y = jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias

    @staticmethod
    def max_pool(x):
        return jax.lax.reduce_window(x, -math.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    @staticmethod
    def avg_pool(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    @staticmethod
    def norm(x, bias):
        c = x - x.mean((0, 1, 2))
        return jnp.maximum(c * jax.lax.rsqrt((c * c).mean((0, 1, 2)) + EPS) + bias, 0)


class _JaxSteps(Steps):
    """The routes in JAX."""
    ops, grad, jvp = _Ops, staticmethod(jax.grad), staticmethod(jax.jvp)

    def __init__(self, workload):
        self.workload = workload
        self.x, self.y, *self.clean = map(jnp.asarray, data(workload))

    def loss(self, scores, y):
        if self.workload.network == "lenet":
            return jax.nn.softplus(scores[:, 0]) - scores[:, 0] * y
        return jax.nn.logsumexp(scores, axis=1) - scores[jnp.arange(len(y)), y]

    def normalize(self, u):
        w = jnp.maximum(u, 0)
        return jax.lax.stop_gradient(w / (w.sum() + (w.sum() == 0)))

    def update(self, params, gradient):
        return [p - RATE * (MOMENTUM * jnp.zeros_like(p) + g) for p, g in zip(params, gradient)]

    def double_backward(self, params):
        def after(eps):
            inner = jax.grad(lambda p: (eps * self.noisy(p)).sum())(params)
            return self.clean_loss([p - 0.1 * g for p, g in zip(params, inner)])
        w = self.normalize(-jax.grad(after)(jnp.zeros(len(self.x))))
        return self.update(params, jax.grad(lambda p: (w * self.noisy(p)).sum())(params))


class Compiled:
    """A step that is compiled by its first call, which takes up to a minute."""

    def __init__(self, step, params):
        self.step, self.params, self.program = jax.jit(step), params, None

    def __call__(self):
        """Return the new weights, which JAX may still be computing."""
        if self.program is None:
            self.program = self.step.lower(self.params).compile()
        return self.program(self.params)


def memory(step):
    """Return the bytes of XLA's plan for a step: intermediates and results."""
    step()
    plan = step.program.memory_analysis()
    return plan and plan.temp_size_in_bytes + plan.output_size_in_bytes


def use(workload, gpu=False, tf32=False):
    """Return the Library JAX with a workload. Raises RuntimeError if there is no GPU and one is asked for."""
    jax.config.update("jax_default_device", jax.devices("gpu" if gpu else "cpu")[0])
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    steps, params = _JaxSteps(workload), [jnp.asarray(p) for p in weights(workload)]
    names = ["plain", "double_backward", "forward_mode"] if workload.clean else ["gradient"]
    routes = {name.replace("_", " "): Compiled(getattr(steps, name), params) for name in names}
    return Library(jax.__version__, routes, functools.partial(on_host, wait=jax.block_until_ready),
                   lambda params: [np.asarray(p) for p in params], memory)
