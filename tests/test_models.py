"""The models are those of the paper."""
import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, reweight, tree
from minigrad.backend import generator
from minigrad.models import lenet, mlp, resnet, standard_resnet, wide_resnet
from minigrad.training import default_network

from .plain import plain


def test_lenet_is_the_authors_network():
    model = lenet(generator(0))
    assert tree.size(model) == 167_113
    assert model(np.zeros((3, 28, 28, 1), np.float32)).shape == (3,)
    assert not model.conv1.bias.any() and 0.08 < model.conv2.kernel.std() < 0.1
    assert abs(model.hidden.weight).max() <= 0.2


def test_lenet_is_reproducible():
    a, b = lenet(generator(3)), lenet(generator(3))
    assert all(np.array_equal(x, y) for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0]))


def test_mlp():
    model = mlp(generator(0), (784, 100, 50, 10), normalize=True)
    assert tree.size(model) == 784 * 100 + 100 + 2 * 100 + 100 * 50 + 50 + 2 * 50 + 50 * 10 + 10
    assert model(np.ones((4, 784), np.float32)).shape == (4, 10)
    assert [type(layer) for layer in mlp(generator(0), (2, 3, 1)).layers].count(nn.Linear) == 2


def test_resnet_32_is_that_of_the_authors():
    model = resnet(generator(0))
    assert tree.size(model) == 462_954
    assert tree.size(resnet(generator(0), classes=100)) == 468_804
    x = generator(1).random((2, 32, 32, 3), "float32")
    assert model(x).shape == (2, 10)
    y, state = model.apply(x, model.init_state())
    assert model.apply(x, state, train=False)[0].shape == (2, 10)
    assert all(leaf.shape[0] in (16, 32, 64) for leaf in tree.flatten(state)[0])


def test_resnet_halves_the_image_and_widens_the_shortcut():
    model = resnet(generator(0), 8, widen=2)
    assert [unit.stride for unit in model.layers if hasattr(unit, "stride") and hasattr(unit, "branch")] == [1, 2, 2]
    assert model(np.zeros((1, 16, 16, 3), "float32")).shape == (1, 10)
    with pytest.raises(ValueError, match="6 k"):
        resnet(generator(0), 10)


def test_wide_resnet_drops_elements_by_the_key():
    model = wide_resnet(generator(0), depth=10, widen=1)
    x, state = generator(1).random((3, 8, 8, 3), "float32"), model.init_state()
    one, two, other = (model.apply(x, state, key=key)[0] for key in ((1,), (1,), (2,)))
    np.testing.assert_array_equal(one, two)
    assert abs(one - other).max() > 0


@pytest.mark.parametrize("make, depth, size", [(resnet, 8, 75_050), (resnet, 20, 269_002), (standard_resnet, 20, 269_722),
                                               (standard_resnet, 32, 464_154), (standard_resnet, 56, 853_018)])
def test_sizes(make, depth, size):
    model = make(generator(0), depth)
    assert tree.size(model) == size and "Dropout" not in repr(model)
    with pytest.raises(ValueError, match="depth 9 is not 6 k"):
        make(generator(0), 9)


def test_wide_resnet_28_10_at_full_size():
    assert tree.size(wide_resnet(generator(0))) == 36_211_178


def test_a_standard_unit_by_hand():
    """relu(shortcut(x) + branch(x)), where the shortcut takes every second pixel and zeros for new channels."""
    model = standard_resnet(generator(0), 8)
    unit = model.layers[4]
    x = generator(1).standard_normal((5, 6, 6, 16)).astype("float32")
    y = x
    for layer in unit.branch.layers:
        y = layer(y)
    shortcut = np.zeros_like(y)
    shortcut[..., 8:24] = x[:, ::2, ::2]
    np.testing.assert_allclose(unit(x), np.maximum(y + shortcut, 0), rtol=1e-5, atol=1e-6)
    assert y.min() < 0 and [layer is mg.relu for layer in unit.branch.layers] == [False, False, True, False, False]
    assert abs(model.layers[0].kernel.std() - np.sqrt(2 / 27)) < 0.03 and model.layers[1].gain.all()
    scores, state = model.apply(generator(1).random((4, 8, 8, 3), "float32"), model.init_state())
    assert model.apply(np.ones((2, 8, 8, 3), "float32"), state, train=False)[0].shape == (2, 10)


def standard_by_hand(params, x, averages=None):
    """Run standard_resnet(depth=8) in plain NumPy, from its parameters and, for evaluation, its averages, both in order."""
    params, averages = iter(params), averages and iter(averages)

    def convolved(x, stride=1):
        y = plain.conv2d(x, next(params), (stride, stride), 1)
        mean, var = (next(averages), next(averages)) if averages else (y.mean((0, 1, 2)), y.var((0, 1, 2)))
        return (y - mean) / np.sqrt(var + 1e-5) * next(params) + next(params)
    x = np.maximum(convolved(x), 0)
    for stride in (1, 2, 2):
        y = convolved(np.maximum(convolved(x, stride), 0))
        new = y.shape[3] - x.shape[3]
        x = np.maximum(y + np.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(new // 2, new // 2)]), 0)
    return x.mean((1, 2)) @ next(params) + next(params)


def test_standard_resnet_by_hand():
    """In training, in evaluation by the averages of two steps, and its gradient by central differences."""
    rng, y = generator(4), np.array([3, 1, 4])
    model = tree.map(lambda p: p + rng.normal(0, 0.05, p.shape), standard_resnet(generator(0), 8))
    x, one, two = rng.standard_normal((3, 3, 6, 5, 3))
    leaves = tree.flatten(model)[0]
    np.testing.assert_allclose(model(x), standard_by_hand(leaves, x), atol=1e-10)

    state = tree.map(lambda s: s.astype("float64"), model.init_state())
    for batch in (one, two):
        _, state = model.apply(batch, state)
    y1 = plain.conv2d(one, leaves[0], (1, 1), 1).reshape(-1, 16)
    y2 = plain.conv2d(two, leaves[0], (1, 1), 1).reshape(-1, 16)
    np.testing.assert_allclose(tree.flatten(state)[0][0], 0.9 * 0.1 * y1.mean(0) + 0.1 * y2.mean(0), atol=1e-10)
    np.testing.assert_allclose(tree.flatten(state)[0][1], 0.81 + 0.9 * 0.1 * y1.var(0) + 0.1 * y2.var(0), atol=1e-10)
    np.testing.assert_allclose(model.apply(x, state, train=False)[0], standard_by_hand(leaves, x, tree.flatten(state)[0]), atol=1e-10)

    def loss(leaves):
        scores = standard_by_hand(leaves, x)
        return np.mean(np.log(np.exp(scores).sum(1)) - scores[range(3), y])
    gradient = tree.flatten(mg.grad(lambda m: mg.mean(nn.cross_entropy(m(x), y)))(model))[0]
    for k in (0, 1, 3, 6, 9, 15, 21):                       # a kernel or a bias of each stage, and the scores' weights
        way = [rng.standard_normal(p.shape) * (i == k) for i, p in enumerate(leaves)]
        up, down = (loss([p + step * t for p, t in zip(leaves, way)]) for step in (1e-6, -1e-6))
        np.testing.assert_allclose(np.sum(gradient[k] * way[k]), (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("make", [resnet, functools.partial(wide_resnet, depth=28, widen=1),
                                  functools.partial(standard_resnet, depth=26)], ids=["resnet", "wide", "standard"])
def test_checkpoints_change_nothing_but_memory(make):
    """Gradient, Algorithm 1, running averages and dropout masks, with and without a checkpoint of each residual unit."""
    settings = {} if make is not resnet else {"depth": 26}
    x, y = generator(1).random((12, 16, 16, 3), "float32"), np.arange(12) % 10
    found, peaks = [], []
    for checkpoint in (False, True):
        model = make(generator(0), checkpoint=checkpoint, **settings)

        def losses(m):
            scores, state = m.apply(x, model.init_state(), key=(3, 1))
            return nn.cross_entropy(scores, y), state
        result = reweight.reweighted_gradient(losses, lambda m: mg.mean(nn.cross_entropy(m(x), y)), model, has_aux=True)
        found.append(tree.flatten((result.gradient, result.weights, result.aux))[0])
        with mg.backend.peak_memory() as peak:
            mg.grad(lambda m: mg.mean(losses(m)[0]))(model)
        peaks.append(peak())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert peaks[1] < (0.75 if mg.backend.FAST else 0.92) * peaks[0]


@pytest.mark.parametrize("size", [(1, 1), (5, 4), (6, 7), (9, 30), (31, 33)])
@pytest.mark.parametrize("make", [resnet, standard_resnet])
def test_images_of_any_size(make, size):
    model, x = make(generator(0), 8), generator(1).random((3, *size, 3), "float32")
    y, state = model.apply(x, model.init_state())
    assert y.shape == model.apply(x, state, train=False)[0].shape == (3, 10) and np.isfinite(y).all()


def test_a_shortcut_takes_the_mean_of_the_pixels_inside_the_image():
    """In each window of two by two, also where it extends beyond the image."""
    unit = resnet(generator(0), 8).layers[4]
    unit = dataclasses.replace(unit, branch=nn.Sequential((lambda x: np.zeros((2, *(-(-n // 2) for n in x.shape[1:3]), 32)),)))
    for h, w in ((4, 6), (5, 6), (5, 3), (1, 1)):
        x = generator(2).random((2, h, w, 16))
        for i, j in np.ndindex(-(-h // 2), -(-w // 2)):
            mean = x[:, 2 * i:2 * i + 2, 2 * j:2 * j + 2].mean((1, 2))
            np.testing.assert_allclose(unit(x)[:, i, j, 8:24], mean)
            assert not unit(x)[..., :8].any() and not unit(x)[..., 24:].any()


def test_networks_that_cannot_be_are_refused():
    for call in (lambda: mlp(0, (3, 2)), lambda: lenet(0), lambda: resnet(0, 8), lambda: standard_resnet(7, 8), lambda: wide_resnet(0, 10)):
        with pytest.raises(mg.DTypeError, match="rng is a int, not a generator of random numbers\n  help: minigrad.backend.generator"):
            call()
    for call, text in ((lambda: mlp(generator(0), (3,)), "mlp: sizes"), (lambda: mlp(generator(0), (3, 0)), r"no parameters of shape \(3, 0\)"),
                       (lambda: mlp(generator(0), (3.0, 2)), "no parameters of shape"), (lambda: mlp(generator(0), ("3", "2")), "no parameters"),
                       (lambda: resnet(generator(0), 8, classes=-1), r"no parameters of shape \(64, -1\)"),
                       (lambda: nn.Linear.init(generator(0), 2, None), "no parameters"), (lambda: resnet(generator(0), "8"), "depth '8' is not 6 k"),
                       (lambda: resnet(generator(0), 8, classes=0), r"no parameters of shape \(64, 0\)"), (lambda: resnet(generator(0), 8, widen=0), "no parameters"),
                       (lambda: resnet(generator(0), 8, rate=-1.0), r"resnet: the dropout rate -1.0 does not lie in \[0, 1\)"), (lambda: resnet(generator(0), 8, rate=1.0), "dropout rate 1.0"),
                       (lambda: wide_resnet(generator(0), 27), "wide_resnet: depth 27 is not 6 k \\+ 4"),
                       (lambda: resnet(generator(0), 8, channels=0), r"no parameters of shape \(3, 3, 0, 16\)"),
                       (lambda: resnet(generator(0), 8, channels=1)(np.zeros((2, 8, 8, 3))), "channels differ"),
                       (lambda: lenet(generator(0), channels=3)(np.zeros((2, 28, 28, 1))), "channels differ"),
                       (lambda: lenet(generator(0), 0), r"no parameters of shape \(100, 0\)"),
                       *((lambda size=size: lenet(generator(0), size=size), r"lenet: size .* is not a number of pixels\n  help: 28, or")
                         for size in (0, -8, 8.0, "8", None, (8,), (8, 0), (8, 8, 1), [8, 8])),
                       (lambda: lenet(generator(0))(np.zeros((2, 28, 28))), "conv2d"),
                       (lambda: lenet(generator(0), size=(8, 16))(np.zeros((2, 16, 24, 1))),
                        r"the network is for images of another size\n  x +\(2, 16, 24, 1\).*2 x 3 x 64 values.*\n  hidden +\(128, 100\).*\n  help: lenet\(rng, size=")):
        with pytest.raises(mg.ShapeError, match=text):
            call()


@pytest.mark.parametrize("network, image", [(lambda rng: lenet(rng), (28, 28, 1)), (lambda rng: resnet(rng, 8), (8, 8, 3)),
                                            (lambda rng: default_network(rng, (4, 4, 1), 3), (4, 4, 1))])
def test_no_images_have_no_scores(network, image):
    network = network(generator(0))
    some = network.predict(np.zeros((2, *image), "float32"), network.init_state())
    assert network.apply(np.zeros((0, *image), "float32"), network.init_state(), False)[0].shape == (0, *some.shape[1:])


ROOT = pathlib.Path(__file__).parents[1]


def run(code, *path):
    done = subprocess.run([sys.executable, "-c", code], cwd=path[0], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["models.py", "models/__init__.py"])
def test_a_user_may_have_models_as_well(form, tmp_path):
    own = tmp_path / form
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine = 1")
    run("""
import sys, minigrad
assert "minigrad.models" not in sys.modules             # import minigrad stays quick
import minigrad.models.resnet, models
from minigrad.models import mlp
assert models.mine and not hasattr(models, "mlp") and "models.mlp" not in sys.modules
assert mlp.__module__ == "minigrad.models.mlp"
""", tmp_path, ROOT)


@pytest.mark.parametrize("first", ["models", "models.resnet", "minigrad.models", "minigrad.models.resnet"])
def test_models_of_a_checkout_are_the_same_objects(first):
    run(f"""
import {first}
import sys, minigrad.models, models, models.lenet, models.mlp, models.resnet
for name in models.__all__:
    assert getattr(models, name) is getattr(minigrad.models, name)
for name in ("lenet", "mlp", "resnet"):
    assert sys.modules["models." + name] is sys.modules["minigrad.models." + name]
""", ROOT)

