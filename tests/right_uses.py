"""Right uses, which a type checker must accept, and the types that it must find. See test_types.py; nothing here runs."""
from typing import Any, NamedTuple, assert_type

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn, optim, tree
from minigrad.draw import Graph
from minigrad.reweight import example_weights_unrolled
from minigrad.transforms import Pull
from minigrad.typing import Array, Key, Rate


class Line(NamedTuple):
    slope: Array
    offset: Array


class Scale(nn.Module):
    factor: Array
    power: int = nn.static(default=1)

    def __call__(self, x: Array) -> Array:
        return self.factor * x ** self.power


def loss(model: Line, x: NDArray[Any], scale: float = 1.0) -> float:
    return float(x.sum()) * scale


def loss_and_size(model: Line, x: NDArray[Any]) -> tuple[float, int]:
    return float(x.sum()), x.size


def losses(model: Line) -> NDArray[np.float32]:
    return np.ones(3, np.float32)


def gradients(model: Line, x: NDArray[Any]) -> None:
    assert_type(mg.grad(loss)(model, x), Line)
    assert_type(mg.grad(loss)(model, x, scale=2.0), Line)
    assert_type(mg.grad(mg.grad(loss))(model, x, 1.0), Any)
    assert_type(mg.grad(loss_and_size, has_aux=True)(model, x), tuple[Line, int])
    assert_type(mg.value_and_grad(loss)(model, x), tuple[float, Line])
    assert_type(mg.value_and_grad(loss_and_size, has_aux=True)(model, x), tuple[tuple[float, int], Line])
    assert_type(mg.value_and_grad(losses, 0)(model), tuple[Any, Any])
    mg.grad(loss, argnums=1)(model, x).sum()
    by_model, by_x = mg.grad(loss, argnums=(0, 1))(model, x)
    assert_type(mg.grad(lambda x: x ** 3)(2.0), Any)
    assert_type(mg.grad(lambda x, k=2: (x ** k, k), has_aux=True)(2.0), tuple[Any, Any])
    assert_type(mg.hvp(lambda model: loss(model, x), model, model), Line)
    mg.jacobian(losses)(model)[0].slope
    H, size = mg.hessian(loss_and_size, has_aux=True)(model, x)
    mg.jacfwd(mg.jacrev(losses), argnums=0)(model).sum()


def linear_maps(model: Line, x: NDArray[Any]) -> None:
    assert_type(mg.linearize(losses, model), tuple[NDArray[np.float32], mg.LinearMap])
    assert_type(mg.linearize(loss_and_size, model, x, has_aux=True), tuple[float, mg.LinearMap, int])
    assert_type(mg.vjp(losses, model), tuple[NDArray[np.float32], Pull])
    assert_type(mg.vjp(loss_and_size, model, x, has_aux=True), tuple[float, Pull, int])
    assert_type(mg.jvp(losses, (model,), [model]), tuple[NDArray[np.float32], NDArray[np.float32]])
    assert_type(mg.jvp(loss_and_size, (model, x), (model, x), has_aux=True), tuple[float, float, int])


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
    mg.check_derivatives(np.exp, x, order=2, analytic=True, seed=3)
    mg.check_buffers(losses, model)
    assert_type(mg.draw(losses, model), Graph)
    assert_type(mg.draw(losses, model).picture("graph.png"), str)
    result = mg.reweighted_gradient(losses, lambda model: loss(model, x), model)
    result.weights.sum()
    mg.reweighted_gradient(lambda model: (losses(model), "state"), lambda model: loss(model, x), model, has_aux=True)
    mg.example_weights(losses, lambda model: loss(model, x), model)
    example_weights_unrolled(losses, lambda model: loss(model, x), model, np.float32(0.1), lambda p, g: p)


def operations(x: NDArray[Any]) -> None:
    y = mg.relu(mg.add(mg.exp(x), 1.0)) + mg.sum(x, axis=(0, 1), keepdims=True)
    y = mg.max_pool2d(mg.conv2d(x, x, stride=(1, 2), padding="same"), 2, padding=(0, (1, 0)))
    y = mg.where(x > 0, x, 0.0) + mg.clip(x, -1.0) + mg.std(x, -1, ddof=1)
    y = mg.concatenate([x, mg.reshape(x, (-1,))]) + mg.stack((x, x), axis=1) + mg.pad(x, [(1, 1), (0, 2)])
    y = mg.getitem(x, (slice(1, None), None, [0, 1])) + mg.dropout(x, 0.5, key=(0, 7))
    y = mg.gelu(mg.silu(x), approximate=True) + mg.leaky_relu(mg.elu(x, alpha=0.5), negative_slope=0.1) + mg.selu(x)
    y = mg.conv1d(x, x, stride=2, padding=(1, 0)) + mg.conv_transpose2d(x, x, (1, 2), padding="same", output_padding=1)
    y = mg.einsum("ij,jk->ik", x, x, optimize=True) + mg.cross(x, x, axis=0) + mg.convolve(x, x, mode="same") + mg.dot(x, 2.0)
    y = mg.linalg.eigh(x, UPLO="U").eigenvectors + mg.linalg.norm(x, ord="nuc", axis=(0, 1), keepdims=True) + mg.linalg.solve(x, [1.0, 2.0])
    cube = mg.elementwise(lambda x: x ** 3, lambda y, x: 3 * x ** 2, name="cube")
    assert_type(cube, mg.Primitive)
    y = cube(x) + mg.linear(np.cumsum, lambda g, s: g)(x) + mg.checkpoint(lambda x: x * x)(x)
    assert_type(mg.use("numpy"), None)


def layers(x: NDArray[Any]) -> None:
    rng = mg.backend.generator((0, 1))
    model = nn.Sequential((nn.Conv2d.init(rng, 3, 16, kernel_size=(5, 3), padding="same"), nn.BatchNorm.init(16), mg.relu,
                           nn.Dropout(0.2), nn.Checkpoint(nn.Linear.init(rng, 3, 2, initialize=nn.uniform_unit_scaling))))
    assert_type(nn.Linear.init(rng, 3, 2), nn.Linear)
    nn.Sequential((nn.Embedding.init(rng, 10, 4), nn.LayerNorm.init(4), nn.Conv1d.init(rng, 4, 2, padding="same")))
    nn.Sequential((nn.ConvTranspose2d.init(rng, 3, 4, 2, stride=2), nn.GroupNorm.init(2, channels=4)))
    nn.layer_norm(x, None, eps=1e-6) + nn.group_norm(x, 2, x, x)
    assert_type(model.predict(x, state=model.init_state(), batch_size=10, prepare=np.sqrt), Any)
    y, state = model.apply(x, model.init_state(), train=False, key=nn.fold_in(0, 3))
    assert_type(mg.grad(lambda model: nn.cross_entropy(model(x), [0, 1]).sum())(model), Any)
    assert_type(Scale(2.0).power, int)
    nn.sigmoid_cross_entropy(Scale(np.ones(3), power=2)(x), x)


def optimizers(params: Line, gradient: Line) -> None:
    optimizer, rate = optim.sgd(momentum=0.9, nesterov=True), optim.piecewise(0.1, [40, 80])
    assert_type(optimizer, optim.Optimizer)
    params, state = optimizer.update(optim.clip_by_global_norm(gradient, 1.0), optimizer.init(params), params, rate(3))
    optimizer.update(gradient, state, params, np.float32(0.1))
    assert_type(optim.rmsprop(decay=0.9, momentum=0.9), optim.Optimizer)
    optim.adam(eps_root=1e-8).update(gradient, state, params, optim.piecewise(0.1, [40], warmup=5)(3))
    optim.ema(params, params, 0.999, step=3)


def aliases() -> None:
    rates: list[Rate] = [0.1, 1, np.float32(0.1), np.zeros(())]
    keys: list[Key] = [0, (0, 7), [1, 2], np.int64(3), (0, np.zeros((), int))]
