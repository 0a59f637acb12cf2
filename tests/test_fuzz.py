"""Every public call with wrong arguments ends in a result or in an error of this library, never in a raw exception.

Public functions and classes are called with arguments of many kinds, drawn from a fixed seed: a valid call of each with
one or two arguments replaced, and calls with only strange arguments.
"""
import contextlib
import inspect
import io
import random
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import MinigradError, backend, check, nn, nodes, optim, reweight, tree

from .table import rows_numpy


class Strange:
    """An object without any useful method."""


X, K, V = np.linspace(0.1, 1.0, 6).reshape(2, 3), np.ones((2, 2, 1, 1)), np.ones(3)
IMAGES, LABELS = np.ones((2, 4, 4, 1)), np.array([0, 1])
RNG = np.random.default_rng(0)
MODEL = nn.Linear(np.ones((3, 2)), np.zeros(2))

STRANGE = [None, True, 0, 1, -1, 7, 2 ** 70, -2 ** 70, 10 ** 18, 0.5, -1.5, float("nan"), float("inf"), 1j, "", "text", "float32", b"\x01\x02", [], [1], [1.0, "a"], [[1.0], [1.0, 2.0]],
           (), (0, 0), (1, -1), (1.5, 2), {}, {"a": 1.0}, {1: "x", "b": None}, set(), object(), Strange, Strange(), len, lambda *args: "text", slice(1, None), Ellipsis, range(3), np.float32(2.0),
           np.zeros(0), np.zeros((0, 3)), np.zeros((2, 0, 2)), np.ones(3), np.ones((1, 1, 1, 1, 1)), np.ones(2, int), np.array([True, False]), np.array(["a", "b"]), np.array([None, 1]),
           np.ones(2, complex), np.ones(2, "float16"), np.zeros(2, "datetime64[s]"), np.array(3), np.array([5, -9]), np.int8(3), [None], [np.ones(2), np.ones(3)], {"a": [np.ones(2)]}, iter([1])]


def scalar(x):
    return mg.sum(mg.sin(x) * x)


def calls():
    """Return valid calls of all public functions: {name: (function, arguments)}."""
    found = {name: (getattr(mg, name), (X,)) for name in """abs argmax argmin cos exp expm1 flip log log1p log_softmax logsumexp max mean min negative ravel relu selu sigmoid silu sin softmax softplus sqrt square
        squeeze std stop_gradient sum tanh transpose var to_host""".split()}
    found |= {name: (getattr(mg, name), (X, V)) for name in "add divide maximum minimum multiply power subtract dot inner outer kron".split()}
    found |= {f"{name} over axes": (getattr(mg, name), (X, 0)) for name in "argmax argmin flip log_softmax logsumexp max mean min softmax sum standardize".split()}
    found |= {"var over axes": (mg.var, (X, 0, 1, True)), "std over axes": (mg.std, (X, (0, 1), 1, True)), "sum, kept": (mg.sum, (X, -1, True)), "astype": (mg.astype, (X, "float32")),
              "avg_pool2d": (mg.avg_pool2d, (IMAGES, 2, 2, 0)), "max_pool2d": (mg.max_pool2d, (IMAGES, 2, 2, 0)), "unfold": (mg.unfold, (IMAGES, 2, 1, 0)), "conv2d": (mg.conv2d, (IMAGES, K, 1, "same")),
              "gelu": (mg.gelu, (X,)), "elu": (mg.elu, (X, 0.5)), "leaky_relu": (mg.leaky_relu, (X, 0.5)), "conv1d": (mg.conv1d, (IMAGES[0], K[0], 1, "same")), "conv_transpose2d": (mg.conv_transpose2d, (IMAGES, K, 2, "same", 1)),
              "layer_norm": (nn.layer_norm, (X, V, V)), "group_norm": (nn.group_norm, (X, 3, V, V)), "Embedding": (lambda w, x: nn.Embedding(w)(x), (X, LABELS)), "LayerNorm": (lambda g, b, x: nn.LayerNorm(g, b)(x), (V, V, X)),
              "GroupNorm": (lambda g, b, n, x: nn.GroupNorm(g, b, n)(x), (V, V, 3, X)), "Conv1d": (lambda k, b, x: nn.Conv1d(k, b)(x), (K[0], np.zeros(1), IMAGES[0])), "ConvTranspose2d": (lambda k, b, x: nn.ConvTranspose2d(k, b)(x), (K, np.zeros(1), IMAGES)),
              "Embedding.init": (nn.Embedding.init, (RNG, 3, 2)), "LayerNorm.init": (nn.LayerNorm.init, (3,)), "GroupNorm.init": (nn.GroupNorm.init, (3, 6)), "Conv1d.init": (nn.Conv1d.init, (RNG, 1, 2, 2, 1, 0)),
              "ConvTranspose2d.init": (nn.ConvTranspose2d.init, (RNG, 1, 2, 2, 1, 0)), "jacfwd": (mg.jacfwd, (mg.sin, 0)), "jacrev": (mg.jacrev, (mg.sin, 0)), "jacfwd, called": (lambda *args: mg.jacfwd(mg.sin)(*args), (V,)),
              "rmsprop": (lambda d, e, m, r: optim.rmsprop(decay=d, eps=e, momentum=m, eps_root=r), (0.9, 0.1, 0.9, 0.1)), "rmsprop.update": (optim.rmsprop().update, ({"w": V}, optim.rmsprop().init({"w": V}), {"w": V}, 0.1)),
              "ema": (optim.ema, ({"w": V}, {"w": V}, 0.9, 2)),
              "fold": (mg.fold, (np.ones((2, 3, 3, 2, 2, 1)), (4, 4), (1, 1), ((0, 0), (0, 0)))), "clip": (mg.clip, (X, 0.2, 0.8)), "concatenate": (mg.concatenate, ([X, X], 0)), "stack": (mg.stack, ([X, X], 0)),
              "crop": (mg.crop, (X, 1)), "pad": (mg.pad, (X, 1, 0.5)), "dropout": (mg.dropout, (X, 0.5, 7)), "expand_dims": (mg.expand_dims, (X, 0)), "getitem": (mg.getitem, (X, (0, 1))), "matmul": (mg.matmul, (X, V)),
              "vdot": (mg.vdot, (X, X)), "cross": (mg.cross, (X, V)), "cross, axes": (mg.cross, (X, V, -1, 0, -1)), "convolve": (mg.convolve, (V, V, "same")), "einsum": (mg.einsum, ("ij,j", X, V)),
              "moveaxis": (mg.moveaxis, (X, 0, 1)), "scatter_add": (mg.scatter_add, (V, (5,), np.array([0, 1, 1]))), "reshape": (mg.reshape, (X, (3, 2))), "swapaxes": (mg.swapaxes, (X, 0, 1)), "take": (mg.take, (X, LABELS, 1)),
              "tensordot": (mg.tensordot, (X, X.T, 1)), "where": (mg.where, (X > 0.5, X, 0.0)), "broadcast_to": (mg.broadcast_to, (V, (2, 3))), "sum_to": (mg.sum_to, (X, (3,))), "transpose, axes": (mg.transpose, (X, (1, 0))),
              "squeeze, axis": (mg.squeeze, (X[None], 0)), "use": (mg.use, ("numpy",)), "elementwise": (mg.elementwise, ("exp", lambda y, x: y)), "signed": (mg.signed, ("add", 1, 1)),
              "linear": (mg.linear, (lambda x: x, lambda g, s: g)), "bilinear": (mg.bilinear, (np.multiply, lambda g, b, s: g * b, lambda g, a, s: g * a)), "Primitive": (mg.Primitive, ("exp",)),
              "LinearMap": (mg.LinearMap, (abs, abs)), "checkpoint": (mg.checkpoint, (scalar,)), "with_derivative": (mg.with_derivative, (scalar, scalar)), "capture": (mg.capture, (lambda s, x: (s, x),)), "info": (mg.info, ()),
              "grad": (mg.grad, (scalar, 0, False)), "value_and_grad": (mg.value_and_grad, (scalar, 0, False)), "hessian": (mg.hessian, (scalar, 0)), "jacobian": (mg.jacobian, (mg.sin, 0)),
              "hvp": (mg.hvp, (scalar, V, V)), "jvp": (mg.jvp, (scalar, (V,), (V,))), "linearize": (mg.linearize, (scalar, V)), "vjp": (mg.vjp, (scalar, V)),
              "grad, argnums": (lambda argnums, x: mg.grad(scalar, argnums)(x), (0, V)), "jacobian, argnums": (lambda argnums, x: mg.jacobian(mg.sin, argnums)(x), ((0,), V)),
              "grad, called": (lambda *args: mg.grad(scalar)(*args), (V,)), "jacobian, called": (lambda *args: mg.jacobian(mg.sin)(*args), (V,)), "checkpoint, called": (mg.checkpoint(scalar), (V,)),
              "hessian, called": (mg.hessian(scalar), (V,)), "pull": (mg.vjp(scalar, V)[1], (1.0,)), "push": (mg.linearize(scalar, V)[1].push, (V,)), "J.pull": (mg.linearize(scalar, V)[1].pull, (1.0,)),
              "capture, called": (mg.capture(lambda s, x: (s, x)), (V, V)), "cross_entropy": (nn.cross_entropy, (X, LABELS)), "sigmoid_cross_entropy": (nn.sigmoid_cross_entropy, (np.ones(2), LABELS)), "squared_error": (nn.squared_error, (V, V)),
              "batch_norm": (nn.batch_norm, (X, V, V)), "he_normal": (nn.he_normal, (RNG, (3, 2))), "normal": (nn.normal, (RNG, (3, 2), 0.1)), "truncated_normal": (nn.truncated_normal, (RNG, (3, 2), 0.1)),
              "uniform_unit_scaling": (nn.uniform_unit_scaling, (RNG, (3, 2))), "zeros": (nn.zeros, ((2, 3),)), "Linear.init": (nn.Linear.init, (RNG, 3, 2)), "Conv2d.init": (nn.Conv2d.init, (RNG, 1, 2, 2, 1, 0)),
              "BatchNorm.init": (nn.BatchNorm.init, (3,)), "Linear": (lambda w, b, x: nn.Linear(w, b)(x), (np.ones((3, 2)), np.zeros(2), X)), "Conv2d": (lambda k, b, x: nn.Conv2d(k, b)(x), (K, np.zeros(1), IMAGES)),
              "BatchNorm": (lambda gain, bias, x: nn.BatchNorm(gain, bias)(x), (V, V, X)), "Dropout": (lambda rate, x, key: nn.Dropout(rate).apply(x, None, True, key), (0.5, X, 1)),
              "Sequential": (lambda layers, x: nn.Sequential(layers)(x), ((MODEL, mg.relu), X)), "Checkpoint": (lambda layer, x: nn.Checkpoint(layer)(x), (MODEL, X)),
              "BatchNorm.apply": (nn.BatchNorm(V, V).apply, (X, {"mean": V, "var": V}, False)), "predict": (MODEL.predict, (X, None, 2)), "Sequential.apply": (nn.Sequential((MODEL, nn.Dropout(0.5))).apply, (X, None, True, 1)), "fold_in": (nn.fold_in, (7, 1)),
              "sgd": (lambda momentum, decay: optim.sgd(momentum=momentum, weight_decay=decay), (0.9, 0.1)), "adam": (lambda beta1, beta2: optim.adam(beta1=beta1, beta2=beta2), (0.9, 0.99)), "piecewise": (lambda *args: optim.piecewise(*args)(3), (0.1, (2, 4), 0.1, 2)), "cosine": (lambda *args: optim.cosine(*args)(3), (0.1, 10, 2)),
              "sgd.init": (optim.sgd(momentum=0.9).init, ({"w": V},)), "sgd.update": (optim.sgd().update, ({"w": V}, optim.sgd().init({"w": V}), {"w": V}, 0.1)),
              "adam.update": (optim.adam().update, ({"w": V}, optim.adam().init({"w": V}), {"w": V}, 0.1)), "normalize": (reweight.normalize, (V,)),
              "reweighted_gradient": (reweight.reweighted_gradient, (mg.sin, scalar, V)), "example_weights": (reweight.example_weights, (mg.sin, scalar, V)),
              "example_weights_unrolled": (reweight.example_weights_unrolled, (mg.sin, scalar, V, 1.0)), "tree.map": (tree.map, (lambda x: x, {"a": V})), "tree.flatten": (tree.flatten, ({"a": V},)),
              "tree.unflatten": (tree.unflatten, (tree.flatten({"a": V})[1], [V])), "tree.paths": (tree.paths, ({"a": V},)), "tree.size": (tree.size, ({"a": V},)), "tree.register": (tree.register, (Strange, len, len)),
              "tree.load": (tree.load, ("/none", {"a": V})), "tree.save": (tree.save, ("/none/none", {"a": V}, {"a": "b"})), "generator": (backend.generator, (7,)), "matmul_precision": (backend.matmul_precision, ("float32",)),
              "as_array": (backend.as_array, (V,)), "from_dlpack": (mg.from_dlpack, (V,)), "check_derivatives": (check.check_derivatives, (scalar, V)), "draw": (mg.draw, (scalar, V)),
              "text of draw": (lambda *args: str(mg.draw(*args)), (scalar, V)), "check_buffers": (mg.check_buffers, (scalar, V))}
    square = X @ X.T
    found |= {f"linalg.{name}": (getattr(mg.linalg, name), args) for name, args in {
        "cholesky": (square, False), "det": (square,), "eigh": (square, "U"), "eigvalsh": (square, "L"), "inv": (square,), "lstsq": (X, V[:2], 1e-9), "matrix_power": (square, 3), "matrix_rank": (square, 1e-9),
        "multi_dot": ([X, X.T],), "norm": (X, 1, (0, 1), True), "pinv": (X, 1e-9), "qr": (X, "r"), "slogdet": (square,), "solve": (square, V[:2]), "solve_triangular": (square, V[:2], 1, True, True),
        "svd": (X, False, True), "trace": (X, 1)}.items()}
    found |= {f"{name}, traced": ((lambda f: lambda x, *args: mg.jvp(lambda x: tree.flatten(f(x, *args))[0][-1], (x,), (x,)))(f), args) for name, (f, args) in list(found.items()) if name.startswith("linalg.") and "rank" not in name and "multi" not in name}
    return found | {name: (getattr(mg, name), args) for name, args in rows_numpy.ARGUMENTS.items()}


CALLS = calls()


def outcome(f, args):
    """Return None for a call that ends as it should, else what it raised."""
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            f(*args)
        except MinigradError:
            return None
        except Exception as error:
            return error


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_end_in_an_error_that_explains_itself(name, monkeypatch, tmp_path):
    f, args = CALLS[name]
    monkeypatch.chdir(tmp_path)                             # "text" is a path, too
    known = dict(nodes._nodes)
    for module in (nodes, tree):
        monkeypatch.setattr(module, "_nodes", known)
    monkeypatch.setattr(Strange, "_minigrad_node", None, raising=False)
    rng, bad = random.Random(name), {}
    assert name in ("tree.load", "tree.save") or f(*args) is not NotImplemented, "the call is a sound one"
    tried = [(*args[:i], strange, *args[i + 1:]) for i in range(len(args)) for strange in STRANGE]
    tried += [tuple(rng.choices(STRANGE, k=len(args))) for _ in range(40)]
    for wrong in tried:
        error = outcome(f, wrong)
        if error is not None:
            bad.setdefault(f"{type(error).__name__}: {str(error)[:90]}", wrong)
    assert not bad, f"{len(bad)} kinds of raw errors: {bad}"


def test_every_public_function_is_tried():
    """A new function needs a valid call in the table above."""
    tried = {f for f, _ in CALLS.values()} | {mg.fold}
    assert {f"linalg.{name}" for name in mg.linalg.__all__} - {"linalg.LinAlgError"} <= set(CALLS)
    missing = [name for name, value in vars(mg).items() if callable(value) and not name.startswith("_") and not inspect.ismodule(value)
               and not (inspect.isclass(value) and issubclass(value, Exception)) and value not in tried]
    assert missing == []


def test_errors_of_the_callers_functions_stay_as_they_are():
    def broken(x):
        return {}["missing"]
    for call in (lambda: mg.grad(broken)(1.0), lambda: mg.checkpoint(broken)(1.0), lambda: mg.jvp(broken, (1.0,), (1.0,)), lambda: tree.map(broken, {"a": 1.0})):
        with pytest.raises(KeyError) as caught:
            call()
        assert not isinstance(caught.value, MinigradError)
