"""Every network of models/ in plain NumPy: initial weights to the bit, training with its masks, evaluation."""
import inspect
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn, tree
from minigrad.backend import generator
from minigrad.models import lenet, mlp, resnet, standard_resnet, wide_resnet

from .plain import plain


def leaves_of(model):
    return [np.asarray(leaf) for leaf in tree.flatten(model)[0]]


def anything(model, key=9):
    """Return the model in float64 with all parameters perturbed, so that no bias is 0 and no gain 1."""
    rng = generator(key)
    return tree.map(lambda p: p.astype("float64") + rng.normal(0, 0.1, p.shape), model)


# ---------------------------------------------------------------------------------------------- initial weights

def truncated(rng, shape, scale):
    """Draw a normal, and values beyond two standard deviations again, as TensorFlow does."""
    x = rng.standard_normal(shape)
    while (abs(x) > 2).any():
        x[abs(x) > 2] = rng.standard_normal(int((abs(x) > 2).sum()))
    return scale * x


def he(rng, shape):
    return rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[:-1]))


def unit_scaling(rng, shape):
    limit = math.sqrt(3 / math.prod(shape[:-1]))
    return rng.uniform(-limit, limit, shape)


def lenet_weights(channels, hidden, classes):
    """Draw LeNet's weights: truncated normal of standard deviation 0.1, and biases of 0, as in the authors' code."""
    def weights(rng):
        for shape in ((5, 5, channels, 16), (5, 5, 16, 32), (5, 5, 32, 64), (hidden, 100), (100, classes)):
            yield truncated(rng, shape, 0.1)
            yield np.zeros(shape[-1])
    return weights


def mlp_weights(sizes, normalize):
    def weights(rng):
        for i, shape in enumerate(zip(sizes, sizes[1:])):
            yield he(rng, shape)
            yield np.zeros(shape[1])
            if normalize and i < len(sizes) - 2:
                yield from (np.ones(shape[1]), np.zeros(shape[1]))
    return weights


def units(depth, widen):
    """Yield (stage, inputs, outputs, stride) for each unit."""
    inputs = 16
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for k in range((depth - 2) // 6):
            yield stage, inputs, outputs, 2 if stage > 0 and k == 0 else 1
            inputs = outputs


def resnet_weights(depth, widen, classes, channels=3):
    """Draw a ResNet's weights: kernels truncated, variance 2 / (9 outputs); no gains; scores uniform, variance 1 / inputs."""
    def kernel(rng, inputs, outputs):
        return truncated(rng, (3, 3, inputs, outputs), math.sqrt(2 / (9 * outputs)))

    def weights(rng):
        yield kernel(rng, channels, 16)
        yield np.zeros(16)
        for stage, inputs, outputs, _ in units(depth, widen):
            yield from [np.zeros(inputs)] * (stage > 0)
            yield kernel(rng, inputs, outputs)
            yield np.zeros(outputs)
            yield kernel(rng, outputs, outputs)
        yield np.zeros(64 * widen)
        yield unit_scaling(rng, (64 * widen, classes))
        yield np.zeros(classes)
    return weights


def standard_weights(depth, widen, classes, channels=3):
    """Draw a standard ResNet's weights: kernels and scores with variance 2 / inputs; gain 1 and bias 0 after each convolution."""
    def weights(rng):
        yield from (he(rng, (3, 3, channels, 16)), np.ones(16), np.zeros(16))
        for _, inputs, outputs, _ in units(depth, widen):
            yield from (he(rng, (3, 3, inputs, outputs)), np.ones(outputs), np.zeros(outputs))
            yield from (he(rng, (3, 3, outputs, outputs)), np.ones(outputs), np.zeros(outputs))
        yield from (he(rng, (64 * widen, classes)), np.zeros(classes))
    return weights


MODELS = {
    "lenet": (lenet, lenet_weights(1, 1024, 1), 167_113),
    "lenet, of other images": (lambda rng: lenet(rng, 3, (17, 8), 2), lenet_weights(2, 3 * 64, 3), None),
    "mlp": (lambda rng: mlp(rng, (7, 5, 4, 3)), mlp_weights((7, 5, 4, 3), False), 79),
    "mlp, normalized": (lambda rng: mlp(rng, (7, 5, 3), normalize=True), mlp_weights((7, 5, 3), True), 68),
    "resnet": (resnet, resnet_weights(32, 1, 10), 462_954),
    "resnet, wide and shallow": (lambda rng: resnet(rng, 8, 2, 7, stride=2), resnet_weights(8, 2, 7), None),
    "resnet, gray": (lambda rng: resnet(rng, 8, channels=1), resnet_weights(8, 1, 10, 1), None),
    "standard_resnet, gray": (lambda rng: standard_resnet(rng, 8, channels=1), standard_weights(8, 1, 10, 1), None),
    "wide_resnet, five channels": (lambda rng: wide_resnet(rng, 10, 1, channels=5), resnet_weights(8, 1, 10, 5), None),
    "standard_resnet": (standard_resnet, standard_weights(32, 1, 10), 464_154),
    "wide_resnet": (lambda rng: wide_resnet(rng, 16, 3, 100), resnet_weights(14, 3, 100), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_first_weights_to_the_bit(name):
    make, weights, size = MODELS[name]
    found, expected = leaves_of(make(generator(3))), list(weights(generator(3)))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype("float32"))
    assert size is None or sum(a.size for a in found) == size
    assert any((a != b).any() for a, b in zip(found, leaves_of(make(generator(4)))))


def test_what_the_initializers_draw():
    """Variances against theory; a normal truncated at two standard deviations keeps 0.7737 of its variance."""
    rng = generator(0)
    assert nn.truncated_normal(rng, (300, 300), 0.5).std() == pytest.approx(0.5 * 0.87963, rel=0.01)
    assert nn.he_normal(rng, (9, 4, 3000)).std() == pytest.approx(math.sqrt(2 / 36), rel=0.01)
    x = nn.uniform_unit_scaling(rng, (50, 3000))
    assert x.std() == pytest.approx(math.sqrt(1 / 50), rel=0.01) and abs(x).max() <= math.sqrt(3 / 50)
    assert abs(x.mean()) < 0.001


def test_what_is_built_if_nothing_is_said():
    def defaults(f):
        return {key: p.default for key, p in inspect.signature(f).parameters.items() if p.default is not p.empty}
    assert defaults(resnet) == {"depth": 32, "widen": 1, "classes": 10, "rate": 0.0, "checkpoint": False, "momentum": 0.9,
                                "stride": 1, "channels": 3}
    assert defaults(standard_resnet) == {"depth": 32, "widen": 1, "classes": 10, "checkpoint": False, "momentum": 0.9, "channels": 3}
    assert defaults(wide_resnet) == {"depth": 28, "widen": 10, "classes": 10, "rate": 0.3, "checkpoint": False, "momentum": 0.9, "channels": 3}
    assert defaults(lenet) == {"classes": 1, "size": 28, "channels": 1}
    assert defaults(mlp) == {"activation": mg.relu, "normalize": False}
    assert {name for name in vars(models) if callable(getattr(models, name))} == {
        "LeNet", "lenet", "mlp", "resnet", "standard_resnet", "wide_resnet"}


# ----------------------------------------------------------------------------------------------------- forwards

class Norm:
    """Batch normalization by hand: with the batch's statistics, which move the averages; or with given averages."""

    def __init__(self, eps, momentum, averages):
        self.eps, self.momentum, self.averages, self.moved = eps, momentum, averages and iter(averages), []

    def __call__(self, y, bias, gain=1.0):
        axes = tuple(range(y.ndim - 1))
        if self.averages:
            mean, var = next(self.averages), next(self.averages)
        else:
            mean, var = y.mean(axes), y.var(axes)
            self.moved += [(1 - self.momentum) * mean, self.momentum + (1 - self.momentum) * var]     # from 0 and from 1
        return (y - mean) / np.sqrt(var + self.eps) * gain + bias


def lenet_by_hand(leaves, x):
    """Run LeNet, 28 -> 14 -> 7 -> 4 pixels: 5x5 convolution, then the maximum of 3x3 with stride 2, then ReLU. Return all scores."""
    h, w = x.shape[1:3]
    for k in range(3):
        x = plain.conv2d(x, leaves[2 * k], (1, 1), "same") + leaves[2 * k + 1]
        x = np.maximum(plain.max_pool2d(x, (3, 3), (2, 2), "same"), 0)
        h, w = (h + 1) // 2, (w + 1) // 2
    assert x.shape[1:] == (h, w, 64)
    h = np.maximum(x.reshape(len(x), -1) @ leaves[6] + leaves[7], 0)
    return h @ leaves[8] + leaves[9]


def resnet_by_hand(leaves, x, norm, depth, widen=1, stride=1, rate=0.0, key=None):
    """Run a ResNet: units begin with normalization and ReLU except in stage 1, then dropout; the shortcut averages windows."""
    leaves = iter(leaves)

    def conv(x, stride=1):
        return plain.conv2d(x, next(leaves), (stride, stride), "same")

    def rectified(x):
        return np.maximum(norm(x, next(leaves)), 0)
    x = rectified(conv(x, stride))
    for k, (stage, _, outputs, s) in enumerate(units(depth, widen)):
        y = rectified(x) if stage else x
        if stage and rate and key is not None:              # layer k + 4 of the network, layer 3 of its branch
            y = plain.dropout(y, rate, (*key, k + 4, 3))
        y = conv(rectified(conv(y, s)))
        if s == 2:
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        more = outputs - x.shape[3]
        x = y + np.concatenate([np.zeros((*x.shape[:3], more // 2)), x, np.zeros((*x.shape[:3], more - more // 2))], 3)
    return rectified(x).mean((1, 2)) @ next(leaves) + next(leaves)


RESNETS = {                                                 # name: (model, settings of the one by hand, momentum, side)
    "resnet": (resnet, dict(depth=32), 0.9, 8),
    "wider": (lambda rng: resnet(rng, 8, 2, 5, momentum=0.8), dict(depth=8, widen=2), 0.8, 8),
    "strided": (lambda rng: resnet(rng, 8, stride=2), dict(depth=8, stride=2), 0.9, 16),
    "with dropout": (lambda rng: resnet(rng, 14, rate=0.4), dict(depth=14, rate=0.4), 0.9, 8),
    "checkpointed": (lambda rng: resnet(rng, 8, rate=0.4, checkpoint=True), dict(depth=8, rate=0.4), 0.9, 8),
    "wide_resnet": (lambda rng: wide_resnet(rng, 10, 2, 4), dict(depth=8, widen=2, rate=0.3), 0.9, 8),
    "wide_resnet, checkpointed": (lambda rng: wide_resnet(rng, 16, 1, 4, 0.25, checkpoint=True, momentum=0.7), dict(depth=14, rate=0.25), 0.7, 8),
    "wide_resnet of depth 28": (lambda rng: wide_resnet(rng, widen=1), dict(depth=26, rate=0.3), 0.9, 8),
}


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_by_hand(name):
    """In training with masks, in training without a key, and in evaluation; and the moved averages."""
    make, settings, momentum, side = RESNETS[name]
    model = anything(make(generator(0)))
    leaves, key = leaves_of(model), (2**32 - 5, 3)
    x = generator(1).standard_normal((3, side, side, 3))
    start = tree.map(lambda s: s.astype("float64"), model.init_state())
    scores, state = model.apply(x, start, key=key)
    norm = Norm(1e-3, momentum, None)
    np.testing.assert_allclose(scores, resnet_by_hand(leaves, x, norm, **settings, key=key), atol=1e-9)
    for a, b in zip(tree.flatten(state)[0], norm.moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model(x), resnet_by_hand(leaves, x, Norm(1e-3, momentum, None), **settings), atol=1e-9)
    averages = [a + b for a, b in zip(tree.flatten(state)[0], [0.1, 0.2] * len(norm.moved))]
    scores, same = model.apply(x, tree.unflatten(tree.flatten(state)[1], averages), train=False, key=key)
    np.testing.assert_allclose(scores, resnet_by_hand(leaves, x, Norm(1e-3, momentum, averages), **settings), atol=1e-9)
    np.testing.assert_array_equal(tree.flatten(same)[0][0], averages[0])
    forgets = [isinstance(layer, nn.Checkpoint) for layer in model.layers]
    assert any(forgets) == name.endswith("checkpointed") and sum(forgets) in (0, len(list(units(settings["depth"], 1))))


def test_lenet_by_hand():
    model = anything(lenet(generator(0)))
    x = generator(1).random((2, 28, 28, 1))
    np.testing.assert_allclose(model(x), lenet_by_hand(leaves_of(model), x)[:, 0], atol=1e-9)


@pytest.mark.parametrize("classes, size, channels", [(10, 8, 1), (2, (12, 31), 3), (1, (1, 9), 2), (5, (28, 28), 4)])
def test_lenet_of_other_images_by_hand(classes, size, channels):
    model = anything(lenet(generator(0), classes, size, channels))
    x = generator(1).random((3, *(size if isinstance(size, tuple) else (size, size)), channels))
    scores = lenet_by_hand(leaves_of(model), x)
    np.testing.assert_allclose(model(x), scores if classes > 1 else scores[:, 0], atol=1e-9)
    assert model(x).shape == ((3, classes) if classes > 1 else (3,))


def test_mlp_by_hand():
    x = generator(1).standard_normal((6, 7))
    for activation, by_hand in ((mg.relu, lambda a: np.maximum(a, 0)), (mg.tanh, np.tanh)):
        model = anything(mlp(generator(0), (7, 5, 4, 3), activation))
        W1, b1, W2, b2, W3, b3 = leaves_of(model)
        np.testing.assert_allclose(model(x), by_hand(by_hand(x @ W1 + b1) @ W2 + b2) @ W3 + b3, atol=1e-12)
    model = anything(mlp(generator(0), (7, 5, 4, 3), normalize=True))
    W1, b1, g1, o1, W2, b2, g2, o2, W3, b3 = leaves_of(model)
    norm = Norm(1e-5, 0.9, None)
    h = np.maximum(norm(x @ W1 + b1, o1, g1), 0)
    h = np.maximum(norm(h @ W2 + b2, o2, g2), 0)
    scores, state = model.apply(x, tree.map(lambda s: s.astype("float64"), model.init_state()))
    np.testing.assert_allclose(scores, h @ W3 + b3, atol=1e-12)
    for a, b in zip(tree.flatten(state)[0], norm.moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------------- masks

@pytest.mark.parametrize("key", [0, 1, 2**31, 2**32 - 1, (7, 1), (1, 7), (0,), (0, 0), (2**31 + 3, 5, 2**30, 1)])
def test_masks_of_any_key_by_hand(key):
    x = generator(0).standard_normal((7, 9))
    for rate in (0.03, 0.3, 0.5, 0.9):
        np.testing.assert_allclose(mg.dropout(x, rate, key), plain.dropout(x, rate, key), rtol=1e-12)
    np.testing.assert_array_equal(mg.dropout(x, 0.5, key), mg.dropout(x, 0.5, np.array(key, "uint32")))


def test_every_bit_of_a_key_counts():
    """Each of 32 bits of each of three integers changes the mask, with integers and with an array."""
    key = np.array([5, 0, 2**32 - 1], "uint32")
    keys = [key] + [key ^ (np.uint32(1 << bit) * (np.arange(3) == i)).astype("uint32") for i in range(3) for bit in range(32)]
    for form in (lambda k: k, lambda k: tuple(map(int, k))):
        masks = {np.packbits(np.asarray(mg.dropout(np.ones(128), 0.5, form(k))) > 0).tobytes() for k in keys}
        assert len(masks) == 97
