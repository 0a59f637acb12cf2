"""Right uses, which a type checker must accept, and the types that it must find. See test_types.py; nothing here runs."""
from typing import Any, NamedTuple, assert_type

import numpy as np
from numpy.typing import NDArray

from minigrad import optim, tree
from minigrad.check import check_buffers, check_derivatives
from minigrad.core import LinearMap
from minigrad.draw import Graph, draw
from minigrad.reweight import example_weights, example_weights_unrolled, reweighted_gradient
from minigrad.transforms import Pull, grad, hessian, hvp, jacobian, jvp, linearize, value_and_grad, vjp
from minigrad.typing import Array, Key, Rate


class Line(NamedTuple):
    slope: Array
    offset: Array


def loss(model: Line, x: NDArray[Any], scale: float = 1.0) -> float:
    return float(x.sum()) * scale


def loss_and_size(model: Line, x: NDArray[Any]) -> tuple[float, int]:
    return float(x.sum()), x.size


def losses(model: Line) -> NDArray[np.float32]:
    return np.ones(3, np.float32)


def gradients(model: Line, x: NDArray[Any]) -> None:
    assert_type(grad(loss)(model, x), Line)
    assert_type(grad(loss)(model, x, scale=2.0), Line)
    assert_type(grad(grad(loss))(model, x, 1.0), Any)
    assert_type(grad(loss_and_size, has_aux=True)(model, x), tuple[Line, int])
    assert_type(value_and_grad(loss)(model, x), tuple[float, Line])
    assert_type(value_and_grad(loss_and_size, has_aux=True)(model, x), tuple[tuple[float, int], Line])
    assert_type(value_and_grad(losses, 0)(model), tuple[Any, Any])
    grad(loss, argnums=1)(model, x).sum()
    by_model, by_x = grad(loss, argnums=(0, 1))(model, x)
    assert_type(grad(lambda x: x ** 3)(2.0), Any)
    assert_type(grad(lambda x, k=2: (x ** k, k), has_aux=True)(2.0), tuple[Any, Any])
    assert_type(hvp(lambda model: loss(model, x), model, model), Line)
    jacobian(losses)(model)[0].slope
    H, size = hessian(loss_and_size, has_aux=True)(model, x)


def linear_maps(model: Line, x: NDArray[Any]) -> None:
    assert_type(linearize(losses, model), tuple[NDArray[np.float32], LinearMap])
    assert_type(linearize(loss_and_size, model, x, has_aux=True), tuple[float, LinearMap, int])
    assert_type(vjp(losses, model), tuple[NDArray[np.float32], Pull])
    assert_type(vjp(loss_and_size, model, x, has_aux=True), tuple[float, Pull, int])
    assert_type(jvp(losses, (model,), [model]), tuple[NDArray[np.float32], NDArray[np.float32]])
    assert_type(jvp(loss_and_size, (model, x), (model, x), has_aux=True), tuple[float, float, int])


def trees(model: Line) -> None:
    leaves, structure = tree.flatten(model)
    assert_type(leaves, list[Any])
    assert_type(tree.paths(tree.unflatten(structure, (leaf for leaf in leaves))), list[str])
    assert_type(tree.size(tree.map(lambda a, b: a + b, model, model)), int)
    tree.save("model.safetensors", model, {"step": "3"})
    tree.load("model.safetensors", like=model)
    tree.register(Pair, lambda pair: (("a", "b"), (pair.a, pair.b), None), lambda names, children, _: Pair(*children))


class Pair:
    def __init__(self, a: Array, b: Array) -> None:
        self.a, self.b = a, b


def tools(model: Line, x: NDArray[Any]) -> None:
    check_derivatives(np.exp, x, order=2, analytic=True, seed=3)
    check_buffers(losses, model)
    assert_type(draw(losses, model), Graph)
    assert_type(draw(losses, model).picture("graph.png"), str)
    result = reweighted_gradient(losses, lambda model: loss(model, x), model)
    result.weights.sum()
    reweighted_gradient(lambda model: (losses(model), "state"), lambda model: loss(model, x), model, has_aux=True)
    example_weights(losses, lambda model: loss(model, x), model)
    example_weights_unrolled(losses, lambda model: loss(model, x), model, np.float32(0.1), lambda p, g: p)


def optimizers(params: Line, gradient: Line) -> None:
    optimizer, rate = optim.sgd(momentum=0.9, nesterov=True), optim.piecewise(0.1, [40, 80])
    assert_type(optimizer, optim.Optimizer)
    params, state = optimizer.update(optim.clip_by_global_norm(gradient, 1.0), optimizer.init(params), params, rate(3))
    optimizer.update(gradient, state, params, np.float32(0.1))


def aliases() -> None:
    rates: list[Rate] = [0.1, 1, np.float32(0.1), np.zeros(())]
    keys: list[Key] = [0, (0, 7), [1, 2], np.int64(3), (0, np.zeros((), int))]
