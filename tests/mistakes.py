"""Mistakes that a type checker finds. Nothing here runs: test_types.py gives this file to mypy.

`# error: CODE` at the end of a line says that mypy reports this line, and why. It must report no other.
"""
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import optim, tree
from minigrad.backend import generator
from minigrad.check import check_derivatives
from minigrad.draw import draw
from minigrad.errors import message
from minigrad.initial import he_normal, normal, zeros
from minigrad.reweight import example_weights_unrolled, reweighted_gradient
from minigrad.transforms import grad, hessian, hvp, jvp, linearize, value_and_grad, vjp
from minigrad.typing import Array, Key, Rate, Shape


class Line(NamedTuple):
    slope: Array
    offset: Array


def loss(model: Line, x: NDArray[Any]) -> float:
    return float(x.sum())


def loss_and_size(model: Line, x: NDArray[Any]) -> tuple[float, int]:
    return float(x.sum()), x.size


def losses(model: Line) -> NDArray[Any]:
    return np.ones(3)


def transforms(model: Line, x: NDArray[Any]) -> None:
    grad(3.0)                                                   # error: call-overload
    grad(loss, argnum=1)                                        # error: call-overload
    grad(loss, argnums="model")                                 # error: arg-type
    grad(loss, has_aux=True)                                    # error: call-overload
    grad(loss)(x, model)                                        # error: arg-type
    grad(loss)(model)                                           # error: call-arg
    grad(loss)(model=model, x=x)                                # error: call-arg
    grad(loss)(model, x).weight                                 # error: attr-defined
    gradient, size = grad(loss_and_size, has_aux=True)(model, x).slope              # error: attr-defined
    value, gradient, size = value_and_grad(loss_and_size, has_aux=True)(model, x)   # error: misc
    (value, size), gradient = value_and_grad(loss)(model, x)    # error: misc
    y, J, aux = linearize(losses, model)                        # error: misc
    y, J = linearize(loss_and_size, model, x, has_aux=True)     # error: misc
    y, pull, aux = vjp(losses, model)                           # error: misc
    linearize(losses, model, has_aux=True)                      # error: call-overload
    vjp(losses, model, aux=True)                                # error: call-overload
    jvp(losses, (model,))                                       # error: call-overload
    jvp(np.exp, x, x)                                           # error: call-overload
    hvp(losses, model)                                          # error: call-arg
    hvp(losses, x, x)                                           # error: arg-type
    hessian(loss, has_axis=True)                                # error: call-arg


def trees(model: Line) -> None:
    tree.save(model, "model.safetensors")                       # error: arg-type
    tree.save("model.safetensors", model, {"step": 3})          # error: dict-item
    tree.load("model.safetensors")                              # error: call-arg
    tree.map(model, lambda leaf: leaf)                          # error: arg-type
    structure, leaves = tree.flatten(model)
    tree.unflatten(structure, leaves)                           # error: arg-type


def tools(model: Line, x: NDArray[Any]) -> None:
    check_derivatives(np.exp, x, order="third")                 # error: arg-type
    check_derivatives(np.exp, x, tolerance=1e-3)                # error: call-arg
    draw(np.exp, x).picture()                                   # error: call-arg
    reweighted_gradient(losses, lambda p: 0.0)                  # error: call-arg
    reweighted_gradient(losses, loss, model)                    # error: arg-type
    example_weights_unrolled(losses, lambda p: 0.0, model, rate="fast")     # error: arg-type
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
    params, state, rate = optimizer.update(gradient, state, params, 0.1)    # error: misc
    optim.clip_by_global_norm(gradient, max_norm="1")           # error: arg-type
    optim.cosine(0.1, 1000.0)                                   # error: arg-type


def initial_values() -> None:
    he_normal(0, (3, 2))                                        # error: arg-type
    he_normal(generator(0), 3)                                  # error: arg-type
    normal(generator(0), (3, 2))                                # error: call-arg
    zeros("3")                                                  # error: arg-type


def aliases() -> None:
    rate: Rate = "0.1"                                          # error: assignment
    key: Key = "0"                                              # error: assignment
    shape: Shape = [2, 3]                                       # error: assignment
