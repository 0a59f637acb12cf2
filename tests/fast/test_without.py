"""The engine without the table of faster forms: it obeys the laws, and learns what the engine with them learns.

MINIGRAD_FAST=0 pytest runs any test without them.
"""
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backend, nn, optim, reweight, tree
from minigrad.backend import generator
from minigrad.check import check_derivatives
from minigrad.models import lenet, mlp, resnet

from ..ops.test_laws import hold

LAWS = ["add", "relu", "sigmoid", "max", "matmul", "broadcast_to", "sum_to", "conv2d", "max_pool2d", "fold", "dropout", "with_derivative"]
MODELS = {"mlp": (lambda rng: mlp(rng, [12, 5, 3]), (12,)), "lenet": (lenet, (28, 28, 1)), "resnet": (lambda rng: resnet(rng, 8), (8, 8, 3))}


@pytest.fixture
def without(device):
    """The table switched off."""
    mg.use(backend.name(), fast=False)
    yield
    mg.use(backend.name())


@pytest.mark.parametrize("device", ["numpy", "cupy"], indirect=True)
@pytest.mark.parametrize("name", LAWS)
@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=settings.default.max_examples // 3)
def test_laws_without_faster_forms(without, name, data):
    assert not backend.table
    hold(name, data)


@pytest.mark.parametrize("device", ["numpy", "cupy"], indirect=True)
def test_laws_of_cross_entropy_without_faster_forms(without):
    scores, labels = generator(0).normal(size=(4, 3)), np.array([0, 2, 1, 1])
    check_derivatives(lambda x: nn.cross_entropy(x, mg.xp.asarray(labels)), mg.xp.asarray(scores), order=3)


def learned(make, shape, rng):
    """All arrays of a plain step of SGD and of one of Algorithm 1, in float64, after the same draws."""
    model = tree.map(lambda p: p.astype("float64"), make(rng))
    x, clean = rng.normal(size=(6, *shape)), rng.normal(size=(4, *shape))
    y, y_clean = rng.integers(0, 2, 6), rng.integers(0, 2, 4)
    loss = nn.sigmoid_cross_entropy if make is lenet else nn.cross_entropy
    optimizer = optim.sgd(momentum=0.9, weight_decay=0.01)

    def losses(m):
        scores, state = m.apply(x, model.init_state(), key=(1, 2))
        return loss(scores, y), state
    gradient = mg.grad(lambda m: mg.mean(losses(m)[0]))(model)
    weighted = reweight.reweighted_gradient(losses, lambda m: mg.mean(loss(m(clean), y_clean)), model, has_aux=True)
    steps = [optimizer.update(g, optimizer.init(model), model, 0.1) for g in (gradient, weighted.gradient)]
    return [mg.to_host(leaf) for leaf in tree.flatten((steps, weighted.weights, weighted.losses, weighted.aux))[0]]


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_learn_the_same(name):
    found = []
    for fast in (True, False):
        mg.use("numpy", fast=fast)
        found.append(learned(*MODELS[name], generator(0)))
    mg.use("numpy")
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
