"""Mistakes that a type checker finds. Nothing here runs: test_types.py gives this file to mypy.

`# error: CODE` at the end of a line says that mypy reports this line, and why. It must report no other.
"""
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn, optim, tree
from minigrad.backend import generator
from minigrad.errors import message
from minigrad.reweight import example_weights_unrolled
from minigrad.typing import Array, Key, Rate, Shape


class Line(NamedTuple):
    slope: Array
    offset: Array


class Scale(nn.Module):
    factor: Any
    power: int = nn.static(default=1)

    def __call__(self, x: Any) -> Any:
        return self.factor * x ** self.power


def loss(model: Line, x: NDArray[Any]) -> float:
    return float(x.sum())


def loss_and_size(model: Line, x: NDArray[Any]) -> tuple[float, int]:
    return float(x.sum()), x.size


def losses(model: Line) -> NDArray[Any]:
    return np.ones(3)


def transforms(model: Line, x: NDArray[Any]) -> None:
    mg.grad(3.0)                                                # error: call-overload
    mg.grad(loss, argnum=1)                                     # error: call-overload
    mg.grad(loss, argnums="model")                              # error: arg-type
    mg.grad(loss, has_aux=True)                                 # error: call-overload
    mg.grad(loss)(x, model)                                     # error: arg-type
    mg.grad(loss)(model)                                        # error: call-arg
    mg.grad(loss)(model=model, x=x)                             # error: call-arg
    mg.grad(loss)(model, x).weight                              # error: attr-defined
    gradient, size = mg.grad(loss_and_size, has_aux=True)(model, x).slope           # error: attr-defined
    value, gradient, size = mg.value_and_grad(loss_and_size, has_aux=True)(model, x)  # error: misc
    (value, size), gradient = mg.value_and_grad(loss)(model, x)                     # error: misc
    y, J, aux = mg.linearize(losses, model)                     # error: misc
    y, J = mg.linearize(loss_and_size, model, x, has_aux=True)  # error: misc
    y, pull, aux = mg.vjp(losses, model)                        # error: misc
    mg.linearize(losses, model, has_aux=True)                   # error: call-overload
    mg.vjp(losses, model, aux=True)                             # error: call-overload
    mg.jvp(losses, (model,))                                    # error: call-overload
    mg.jvp(np.exp, x, x)                                        # error: call-overload
    mg.hvp(losses, model)                                       # error: call-arg
    mg.hvp(losses, x, x)                                        # error: arg-type
    mg.hessian(loss, has_axis=True)                             # error: call-arg


def trees(model: Line) -> None:
    tree.save(model, "model.safetensors")                       # error: arg-type
    tree.save("model.safetensors", model, {"step": 3})          # error: dict-item
    tree.load("model.safetensors")                              # error: call-arg
    tree.map(model, lambda leaf: leaf)                          # error: arg-type
    structure, leaves = tree.flatten(model)
    tree.unflatten(structure, leaves)                           # error: arg-type


def tools(model: Line, x: NDArray[Any]) -> None:
    mg.check_derivatives(np.exp, x, order="third")              # error: arg-type
    mg.check_derivatives(np.exp, x, tolerance=1e-3)             # error: call-arg
    mg.draw(np.exp, x).picture()                                # error: call-arg
    mg.reweighted_gradient(losses, lambda p: 0.0)               # error: call-arg
    mg.reweighted_gradient(losses, loss, model)                 # error: arg-type
    example_weights_unrolled(losses, lambda p: 0.0, model, rate="fast")             # error: arg-type
    message("f(x)", "shapes differ", [("x", x)])                # error: list-item


def optimizers(params: Line, gradient: Line) -> None:
    optim.sgd(momentum="fast")                                  # error: arg-type
    optim.sgd(rate=0.1)                                         # error: call-arg
    optim.adam(beta=0.9)                                        # error: call-arg
    optimizer = optim.adam(beta1=0.9)
    state = optimizer.init(params)
    optimizer.update(gradient, state, params)                   # error: call-arg
    optimizer.update(gradient, state, params, rate="fast")      # error: arg-type
    optimizer.step(gradient, state, params, 0.1)                # error: attr-defined
    params, state, rate = optimizer.update(gradient, state, params, 0.1)            # error: misc
    optim.clip_by_global_norm(gradient, max_norm="1")           # error: arg-type
    optim.cosine(0.1, 1000.0)                                   # error: arg-type


def initial_values() -> None:
    nn.he_normal(0, (3, 2))                                     # error: arg-type
    nn.he_normal(generator(0), 3)                               # error: arg-type
    nn.normal(generator(0), (3, 2))                             # error: call-arg
    nn.zeros("3")                                               # error: arg-type


def operations(x: NDArray[Any]) -> None:
    mg.sum(x, axes=0)                                           # error: call-arg
    mg.exp(x, 4, axis=2)                                        # error: call-arg
    mg.conv2d(x, x, stride="2")                                 # error: arg-type
    mg.max_pool2d(x, kernel_size="2")                           # error: arg-type
    mg.reshape(x, "3")                                          # error: arg-type
    mg.concatenate(x, axis="rows")                              # error: arg-type
    mg.where(x > 0, x)                                          # error: call-overload
    mg.dropout(x, 0.5, key="seed")                              # error: arg-type
    mg.elementwise("exp", partials=[np.exp])                    # error: call-arg
    mg.linear(lambda x: x)                                      # error: call-arg


def layers(x: NDArray[Any]) -> None:
    rng = generator(0)
    nn.Linear.init(rng, "3", 2)                                 # error: arg-type
    nn.Linear.init(0, 3, 2)                                     # error: arg-type
    nn.Linear.init(rng, 3, 2, biases=False)                     # error: call-arg
    nn.BatchNorm.init("16")                                     # error: arg-type
    nn.Conv2d.init(rng, 3, 16, stride="2")                      # error: arg-type
    nn.Sequential(nn.Linear.init(rng, 3, 2))                    # error: arg-type
    model = Scale(2.0, 3)
    model.factor = 1.0                                          # error: misc
    model.weight                                                # error: attr-defined
    Scale(2.0, "3")                                             # error: arg-type
    Scale()                                                     # error: call-arg
    y, state, key = model.apply(x)                              # error: misc
    model.apply(x, training=False)                              # error: call-arg
    nn.cross_entropy(x, y, reduction="mean")                    # error: call-arg


def backends(x: NDArray[Any]) -> None:
    mg.use(1)                                                   # error: arg-type
    generator("seed")                                           # error: arg-type


def aliases() -> None:
    rate: Rate = "0.1"                                          # error: assignment
    key: Key = "0"                                              # error: assignment
    shape: Shape = [2, 3]                                       # error: assignment
