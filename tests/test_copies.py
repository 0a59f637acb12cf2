"""Copies and pickles equal their originals: every public name, and an object of every public class."""
import collections
import copy
import gc
import importlib
import inspect
import multiprocessing
import os
import pathlib
import pickle
import pkgutil
import subprocess
import sys
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend, nn, optim, training, tree
from minigrad.backend import generator
from minigrad.estimators import CleanSet
from minigrad.models import lenet, mlp, resnet

from .strategies import Layer, Point

MODULES = [mg] + [importlib.import_module(found.name) for found in pkgutil.walk_packages(mg.__path__, "minigrad.")]


def public():
    """Yield (name, value) for everything public in any module of the package, once each."""
    met = set()
    for module in MODULES:
        for name, value in vars(module).items():
            ours = str(getattr(value, "__module__", "")).partition(".")[0] == "minigrad"
            if not name.startswith("_") and not type(value).__name__.startswith("_") and ours and getattr(value, "__name__", name) == name and id(value) not in met:
                met.add(id(value))
                yield f"{module.__name__}.{name}", value


def ways(x):
    """Yield a copy of the object by each way of copying."""
    return [copy.copy(x), copy.deepcopy(x), *[pickle.loads(pickle.dumps(x, protocol)) for protocol in range(2, 6)]]


@pytest.mark.parametrize("name, value", [pytest.param(*pair, id=pair[0]) for pair in public()])
def test_a_public_name_is_itself(name, value):
    assert copy.deepcopy(value) is value is pickle.loads(pickle.dumps(value))


def test_every_primitive_of_the_package_is_itself():
    """Also those without a public name, which occur in models, as settings and inside functions."""
    found = {id(value): value for module in MODULES for value in vars(module).values() if isinstance(value, mg.Primitive)}
    assert len(found) > 40
    for primitive in found.values():
        assert copy.deepcopy(primitive) is primitive is pickle.loads(pickle.dumps(primitive)), primitive


model = nn.Sequential((nn.Conv2d.init(generator(0), 1, 2), nn.BatchNorm.init(2), mg.relu, nn.Checkpoint(nn.Sequential((mg.tanh,))),
                       nn.Dropout(0.3), mg.ravel, nn.Linear.init(generator(0), 2, 2)))
OBJECTS = {
    "Sequential": model, "Linear": model.layers[-1], "Conv2d": model.layers[0], "BatchNorm": model.layers[1],
    **{layer.__name__: layer.init(generator(0), 2, 3) for layer in (nn.Conv1d, nn.ConvTranspose2d, nn.Embedding)},
    "LayerNorm": nn.LayerNorm.init(3), "GroupNorm": nn.GroupNorm.init(2, 4), "Checkpoint": model.layers[3], "Dropout": model.layers[4], "mlp": mlp(generator(0), (3, 4, 2), normalize=True),
    "LeNet": lenet(generator(0)), "resnet": resnet(generator(0), 8), "Module": Layer({"a": np.ones(2)}, np.zeros(2)),
    "Structure": tree.flatten({"a": (1.0, None, "b"), 2: [model, Point(1.0, mg.sin)]})[1], "End": tree.LEAF,
    "state": optim.adam().init(model),
    "Primitive": mg.elementwise(np.exp, mg.exp, name="own"),
    "Reweighted": mg.reweight.reweighted_gradient(lambda p: p * p, mg.sum, np.ones(2)),
    "Plan": training.Plan(), "Fitted": training.start(model, training.Plan()), "Rows": training.Rows(np.eye(2), np.arange(2)),
    "Pass": training.Pass(np.ones(2), np.ones(2, bool), 1.0, 2.0), "CleanSet": CleanSet(training.Rows(np.eye(2), np.arange(2)), np.arange(2)),
    "EighResult": mg.linalg.eigh(np.eye(2)), "SVDResult": mg.linalg.svd(np.eye(2)), "QRResult": mg.linalg.qr(np.eye(2)), "SlogdetResult": mg.linalg.slogdet(np.eye(2)),
    "Graph": mg.draw(mg.exp, np.ones(2)), "Operation": mg.draw(mg.exp, np.ones(2)).operations[0]}
A_PROGRAM = {"LinearMap", "Box", "Bundle", "Forward", "Tape", "Drawing", "Passes", "BatchNormPasses", "Handle", "Kernel", "Captured", "Sums", "Flat", "with_derivative",        # of one run
             "Optimizer",               # made of closures
             "Method",                  # of a class
             "Communicator", "Alone", "MPICommunicator",        # of a process
             "ReweightedClassifier"}    # scikit-learn's checks copy and pickle it


def test_there_is_an_object_of_every_public_class():
    """Of all but stats.dirichlet and stats.multivariate_normal, which only hold functions."""
    classes = {value.__name__ for _, value in public() if inspect.isclass(value) and not issubclass(value, Exception) and value.__module__ != "minigrad.stats"}
    assert classes - A_PROGRAM == set(OBJECTS) & classes


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_copied_as_an_equal_tree(name):
    x = OBJECTS[name]
    leaves, structure = tree.flatten(x)
    for again in ways(x) if name != "Primitive" else [copy.copy(x), copy.deepcopy(x)]:     # its rule has no name
        assert type(again) is type(x) and tree.flatten(again)[1] == structure and tree.same(x, again)
        for a, b in zip(leaves, tree.flatten(again)[0], strict=True):
            assert np.array_equal(backend.to_host(a), backend.to_host(b))


@pytest.mark.parametrize("error", [value for _, value in public() if inspect.isclass(value) and issubclass(value, Exception)])
def test_an_error_comes_back_from_another_process(error):
    for again in ways(error("sum(x): no\\n  help: yes")):
        assert type(again) is error and str(again) == "sum(x): no\\n  help: yes"


def test_a_copy_goes_on_as_the_original():
    x, y = mg.xp.asarray(generator(1).normal(size=(5, 3)).astype("float32")), mg.xp.asarray([0, 1, 1, 0, 1])

    optimizer, rate = optim.sgd(momentum=0.9), optim.cosine(0.1, 10)

    def train(model, state):
        for step in range(3):
            gradient = mg.grad(lambda m: mg.mean(nn.cross_entropy(m(x), y)))(model)
            model, state = optimizer.update(gradient, state, model, rate(step))
        return [leaf.tobytes() for leaf in tree.flatten(model)[0]]
    model = mlp(generator(0), (3, 4, 2))
    whole = model, optimizer.init(model)
    assert train(*whole) == train(*copy.deepcopy(whole)) == train(*pickle.loads(pickle.dumps(whole)))


MAIN = """
import collections, sys, cloudpickle, numpy as np, minigrad as mg
class Line(mg.nn.Module):
    w: mg.nn.Array
    power: int = mg.nn.static(default=2)
    def __call__(self, x): return (x @ self.w) ** self.power
class Scale:
    def __init__(self, s): self.s = s
mg.tree.register(Scale, lambda t: (["s"], [t.s], None), lambda names, children, static: Scale(*children))
Pair = collections.namedtuple("Pair", "a b")
power = mg.elementwise(lambda x: np.exp(3 * x), lambda y, x: 3 * power(x), name="power")
square = mg.with_derivative(lambda x: x * x, lambda x: (x * x, lambda t: 2 * x * t, lambda g: (2 * x * g,)))
model = Pair(Line(np.arange(1.0, 3.0)), {"s": Scale(np.full(2, 0.5))})
def loss(m): return mg.sum(mg.checkpoint(lambda m: square(power(m.b["s"].s)) * m.a(np.eye(2)))(m))
def found(model, loss):
    H = mg.hessian(lambda s: loss(Pair(model.a, {"s": Scale(s)})))(model.b["s"].s)
    return mg.tree.size(model), mg.tree.paths(model), [each.tolist() for each in mg.tree.flatten(mg.grad(loss)(model))[0]], H.tolist()
if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file: cloudpickle.dump((model, loss, found), file)
    print(found(model, loss))
"""
READ = """
import pickle, sys
with open(sys.argv[1], "rb") as file: model, loss, found = pickle.load(file)
print(found(model, loss))
"""


def test_what_a_script_defines_is_sent_to_workers_that_lack_it(tmp_path):
    """By cloudpickle, as Joblib and Dask do: classes of modules, nodes, named tuples, primitives and rules, also one that names itself."""
    (tmp_path / "script.py").write_text(MAIN)
    here = {**os.environ, "MINIGRAD_BACKEND": "numpy", "PYTHONPATH": os.pathsep.join([str(pathlib.Path(mg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
    sent, read = (subprocess.run([sys.executable, *command, str(tmp_path / "sent")], text=True, capture_output=True, env=here, cwd=tmp_path)
                  for command in (["script.py"], ["-c", READ]))
    assert sent.stdout and sent.stdout == read.stdout, sent.stderr + read.stderr


def test_what_a_function_defines_ends_with_it():
    """Classes of modules, nodes, named tuples and leaves, primitives and rules, with all that their functions hold."""
    def program():
        data = np.ones(3)

        class Net(nn.Module):
            w: nn.Array

            def __call__(self, x):
                return x @ self.w + data[0]

        class Node:
            s = data
        mg.tree.register(Node, lambda t: (["s"], [t.s], None), lambda names, children, static: Node())
        Pair, Leaf = collections.namedtuple("Pair", "a b"), type("Leaf", (float,), {"data": data})
        double, half = mg.elementwise(lambda x: data[0] * x, lambda y, x: 2 * data[0]), mg.with_derivative(lambda x: x, lambda x: (x, lambda t: t * data[0], lambda g: (g * data[0],)))
        m = Pair(Net(np.ones(2)), Node())
        mg.hessian(lambda w: mg.sum(half(double(Net(w)(np.eye(2))))))(m.a.w)
        mg.grad(lambda m: mg.sum(m.a.w * m.b.s[0]))(m)
        tree.flatten([Leaf(1.0)])
        return [weakref.ref(each) for each in (Net, Node, Pair, Leaf, double, half)]
    ended = program()
    gc.collect()
    assert [each() for each in ended] == [None] * 6


def test_a_structure_is_read_by_a_process_that_has_met_none(tmp_path):
    """Named tuples are registered when they are first seen: here, while unpickling."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        leaves, structure = tree.flatten(Point(1.0, {"a": model}))
        again = pool.apply(tree.unflatten, (structure, leaves))
    assert type(again) is Point and tree.flatten(again)[1] == structure and backend.name() == "numpy"
