"""Layers that are functions of one array, and weights that are tied."""
import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import grad, nn, optim, tree
from minigrad.backend import generator
from minigrad.check import check_derivatives
from minigrad.errors import IndexingError

RNG = np.random.default_rng(0)


def float64(model):
    return tree.map(lambda p: p.astype("float64"), model)


IMAGE, LINE, ROWS = RNG.random((2, 5, 4, 4)), RNG.random((2, 7, 4)), np.array([[0, 2], [2, 1]])
LAYERS = {                  # layer of 4 channels, input, the same by functions
    "Conv1d": (nn.Conv1d.init(generator(0), 4, 3, 3, 2, (1, 0)), LINE, lambda m, x: mg.conv1d(x, m.kernel, 2, (1, 0)) + m.bias),
    "ConvTranspose2d": (nn.ConvTranspose2d.init(generator(1), 4, 3, (3, 2), 2, 1, (1, 0)), IMAGE,
                        lambda m, x: mg.conv_transpose2d(x, m.kernel, 2, 1, (1, 0)) + m.bias),
    "Embedding": (nn.Embedding.init(generator(2), 3, 4), ROWS, lambda m, x: m.weight[x]),
    "LayerNorm": (nn.LayerNorm.init(4, eps=0.1), LINE, lambda m, x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)),
    "LayerNorm, two axes": (nn.LayerNorm.init((7, 4), bias=False), LINE, lambda m, x: mg.standardize(x, (1, 2))),
    "GroupNorm": (nn.GroupNorm.init(2, 4), IMAGE, lambda m, x: nn.group_norm(x, 2, None))}
SHAPES = {"Conv1d": (2, 3, 3), "ConvTranspose2d": (2, 10, 6, 3), "Embedding": (2, 2, 4)}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function(name):
    layer, x, f = LAYERS[name]
    assert {leaf.dtype.name for leaf in tree.flatten(layer)[0]} == {"float32"}
    model = float64(layer)
    y = model(x)
    np.testing.assert_allclose(y, f(model, x), rtol=1e-10, atol=1e-12)
    assert y.shape == SHAPES.get(name, x.shape)
    np.testing.assert_array_equal(model.predict(x, batch_size=1).shape, y.shape)
    gradient = grad(lambda m: mg.sum(m(x) ** 2))(model)
    assert tree.flatten(gradient)[1] == tree.flatten(model)[1]
    moved = tree.map(lambda p: p + 0.3 * RNG.random(p.shape), model)          # no bias of 0, no gain of 1
    check_derivatives(lambda m: m(x), moved, order=2)
    if name != "Embedding":
        check_derivatives(lambda m, x: m(x), moved, x, order=2)


@pytest.mark.parametrize("name", LAYERS)
def test_gain_and_bias_are_used(name):
    layer, x, _ = LAYERS[name]
    model = float64(layer)
    if getattr(model, "bias", None) is not None:
        shift = RNG.random(model.bias.shape)
        np.testing.assert_allclose(dataclasses.replace(model, bias=model.bias + shift)(x), model(x) + shift, atol=1e-12)
    if hasattr(model, "gain"):
        np.testing.assert_allclose(dataclasses.replace(model, gain=3.0 * model.gain)(x), 3.0 * model(x), atol=1e-12)


def test_initial_values():
    """A kernel of n inputs has the variance 2 / n, whichever axis they are on; rows of an embedding have length 1."""
    layer = nn.ConvTranspose2d.init(generator(0), 20, 400, (2, 3), bias=False)
    assert layer.kernel.shape == (2, 3, 400, 20) and layer.kernel.flags.c_contiguous and layer.bias is None
    np.testing.assert_allclose(layer.kernel.std(), np.sqrt(2 / 120), rtol=0.02)
    assert nn.ConvTranspose2d.init(generator(0), 2, 3, 4).kernel.shape == (4, 4, 3, 2)
    counted = nn.ConvTranspose2d.init(generator(0), 3, 4, 2, initialize=lambda rng, shape: np.arange(float(np.prod(shape))).reshape(shape))
    np.testing.assert_array_equal(counted.kernel[1, 0, :, 2], 24.0 + 8.0 + np.arange(4))       # drawn as (2, 2, 3, 4)
    np.testing.assert_allclose(nn.Conv1d.init(generator(0), 20, 500, 3).kernel.std(), np.sqrt(2 / 60), rtol=0.02)
    assert nn.Conv1d.init(generator(0), 2, 3, bias=False).bias is None
    np.testing.assert_allclose((nn.Embedding.init(generator(0), 500, 64).weight ** 2).sum(1).mean(), 1.0, rtol=0.05)
    own = nn.Embedding.init(generator(0), 3, 2, lambda rng, shape: np.full(shape, 5.0))
    np.testing.assert_array_equal(own.weight, np.full((3, 2), 5.0))


def test_norms_add_1e_5_to_the_variance_by_default():
    """As in PyTorch; the function, its layer, and a layer that init made."""
    x = np.array([[0.0, 0.01], [0.01, 0.0]])
    one, zero = np.ones(2), np.zeros(2)
    for y in (nn.layer_norm(x, one), nn.LayerNorm(one)(x), nn.LayerNorm.init(2)(x), nn.group_norm(x, 1, one), nn.GroupNorm(one, zero, 1)(x), nn.GroupNorm.init(1, 2)(x), nn.batch_norm(x, one, zero), mg.standardize(x, 0)):
        np.testing.assert_allclose(y, (x - 0.005) / np.sqrt(2.5e-5 + 1e-5), rtol=1e-9)


def test_an_embedding_sums_repeated_rows():
    layer, x = nn.Embedding(RNG.random((4, 3))), [[1, 3], [1, 1]]
    np.testing.assert_array_equal(layer(x), layer.weight[np.array(x)])
    np.testing.assert_array_equal(grad(lambda m: mg.sum(m(x)))(layer).weight, np.outer([0, 3, 0, 1], np.ones(3)))
    for wrong in (np.ones(2), [0.0], [True], np.array(["a"])):
        with pytest.raises(mg.DTypeError, match=r"Embedding\(x\): x has the numbers of rows(.|\n)*x.astype\(int\)"):
            layer(wrong)
    with pytest.raises(mg.DTypeError, match="numbers of rows"):
        grad(lambda x: mg.sum(layer(x)))(1.0)
    with pytest.raises(IndexingError):
        layer([4])


@pytest.mark.parametrize("padding", ["same", "valid", 0, 1, ((1, 0), (0, 1))])
@pytest.mark.parametrize("stride, window", [((1, 1), (3, 3)), ((2, 3), (3, 3)), ((3, 2), (2, 1))])
def test_a_transposed_convolution_is_the_adjoint(stride, window, padding):
    """<conv_transpose2d(y, k), x> = <y, conv2d(x, k)> for images x of any size, told by output_padding."""
    k = RNG.random((*window, 2, 3))
    for size in ((8, 9), (9, 12), (11, 8)):
        x = RNG.random((2, *size, 2))
        y = mg.conv2d(x, k, stride, padding)
        v = RNG.random(y.shape)
        least = mg.conv_transpose2d(v, k, stride, padding)
        more = tuple(n - m for n, m in zip(size, least.shape[1:3]))
        if padding == "same" and more != (0, 0):
            assert least.shape[1:3] == tuple(n * s if w >= s else (n - 1) * s + w for n, s, w in zip(y.shape[1:3], stride, window))
            continue                                        # its border depends on the size
        back = mg.conv_transpose2d(v, k, stride, padding, more)
        np.testing.assert_allclose((back * x).sum(), (v * y).sum(), rtol=1e-12)
        np.testing.assert_allclose(back, mg.vjp(lambda x: mg.conv2d(x, k, stride, padding), x)[1](v)[0], rtol=1e-12)


def test_what_does_not_fit_is_told():
    x, k = np.ones((1, 3, 3, 2)), np.ones((2, 2, 4, 2))
    for call, told in (
            (lambda: mg.conv_transpose2d(x, k, 2, 0, 2), "no image has this convolution(.|\n)*below the stride"),
            (lambda: mg.conv_transpose2d(x, k, 1, 3), "no image has this convolution(.|\n)*narrower"),
            (lambda: mg.conv_transpose2d(x, k.swapaxes(2, 3)), r"channels differ(.|\n)*\(A, B, channels out, 2\)"),
            (lambda: mg.conv_transpose2d(x, k[0]), "has not four axes"), (lambda: mg.conv_transpose2d(x[0], k), "four axes"),
            (lambda: mg.conv_transpose2d(x, k, 0), "conv_transpose2d.*: stride must be"),
            (lambda: mg.conv_transpose2d(x, k, 1, 0, -1), "conv_transpose2d.*: output_padding must be"),
            (lambda: mg.conv1d(x, k[0]), r"three axes(.|\n)*\(n, length, channels\)"), (lambda: mg.conv1d(x[0], k), "three axes"),
            (lambda: mg.conv1d(x[0], k[0]), r"conv1d\(x, k\): channels differ"), (lambda: mg.conv1d(x[0], k[0, :, :2], (1, 2)), "stride must be"),
            (lambda: mg.conv1d(x[0], k[0, :, :2], 1, "full"), "padding is"),
            (lambda: nn.layer_norm(x, np.ones(3)), r"layer_norm\(x, gain, bias\): shapes differ(.|\n)*help: gain and bias have the shape of x"), (lambda: nn.layer_norm(x, None, np.ones(3)), "shapes differ"),
            (lambda: nn.layer_norm(x[0, 0, 0], np.ones((3, 2))), "shapes differ"), (lambda: nn.layer_norm(x, np.ones(())), "shapes differ"),
            (lambda: nn.group_norm(x, 3, None), "no 3 equal groups(.|\n)*groups divides channels"), (lambda: nn.group_norm(x, 0, None), "no 0 equal groups"),
            (lambda: nn.group_norm(x, 1.0, None), "no 1.0 equal groups"), (lambda: nn.group_norm(x, 2, np.ones(3)), "no 2 equal groups"),
            (lambda: nn.group_norm(np.ones(4), 2, None), "no 2 equal groups")):
        with pytest.raises(mg.ShapeError, match=told):
            call()
    for layer in (nn.Conv1d(np.ones((1, 2, 3)), np.ones(2)), nn.ConvTranspose2d(np.ones((1, 1, 3, 2)), np.ones(2))):
        with pytest.raises(mg.ShapeError, match=rf"{type(layer).__name__}\(x\): one bias for each output"):
            layer(np.ones((1, 3, 3, 2)[isinstance(layer, nn.Conv1d):]))


def test_norms_of_half_precision_and_of_nothing():
    """Squares of 300 do not fit into float16, but their mean is taken in float32; of no examples there are no values."""
    x = (300.0 * RNG.standard_normal((2, 3, 4))).astype("float16")
    for f in (lambda x: nn.layer_norm(x, None), lambda x: nn.group_norm(x, 2, None)):
        y = f(x)
        assert y.dtype == np.float16 and f(x.astype("float32")).dtype == np.float32
        np.testing.assert_allclose(y, f(x.astype("float64")), atol=3e-3)
        np.testing.assert_allclose(f(x.astype(int)), f(x.astype(int).astype(float)))
        assert f(x[:0]).shape == (0, 3, 4)
    np.testing.assert_allclose(nn.group_norm(x.astype(float), 4, None), mg.standardize(x.astype(float), 1))       # instance normalization


# ------------------------------------------------------------------------------------------------- tied weights

def test_tied_weights_have_the_sum_of_the_gradients():
    """... where the function puts one into both places; an array that is in two places of a tree has a gradient in each."""
    W, x = RNG.random((3, 3)), RNG.random(3)

    def loss(p):
        return mg.sum(mg.tanh(x @ p["first"]) @ p["second"])
    same = {"first": W, "second": W}
    apart = grad(loss)(same)
    equal = grad(loss)({"first": W, "second": W.copy()})
    tied = grad(lambda W: loss({"first": W, "second": W}))(W)
    for key in same:
        np.testing.assert_array_equal(apart[key], equal[key])
    assert abs(apart["first"] - apart["second"]).max() > 0.1
    np.testing.assert_allclose(tied, apart["first"] + apart["second"], rtol=1e-12)
    moved, _ = optim.sgd().update(apart, {}, same, 0.1)
    assert (moved["first"] != moved["second"]).any()        # an optimizer sees two


def test_a_model_with_tied_weights_stays_tied():
    """As the docstring of nn says: the head is made in the differentiated function, from the one parameter there is."""
    class Model(nn.Module):
        embedding: nn.Embedding
        head: nn.Array = None

        def __call__(self, x):
            return self.head(mg.tanh(self.embedding(x)))

    def tied(model):
        return dataclasses.replace(model, head=nn.Linear(model.embedding.weight.T))

    def loss(model):
        return mg.mean(nn.cross_entropy(tied(model)(x), x))
    x, model, optimizer = np.arange(5), float64(Model(nn.Embedding.init(generator(0), 5, 8))), optim.adam()
    state, before = optimizer.init(model), loss(model)
    assert len(tree.flatten(model)[0]) == 1
    check_derivatives(loss, model, order=2)
    for _ in range(50):
        model, state = optimizer.update(grad(loss)(model), state, model, 0.1)
    assert loss(model) < 0.1 * before and len(tree.flatten(model)[0]) == 1


def test_a_module_used_twice_is_two_in_a_tree_and_one_in_a_function():
    layer, x = nn.Linear(RNG.random((3, 3)), RNG.random(3)), RNG.random((2, 3))
    both = grad(lambda m: mg.sum(m(x)))(nn.Sequential((layer, mg.tanh, layer)))
    once = grad(lambda layer: mg.sum(nn.Sequential((layer, mg.tanh, layer))(x)))(layer)
    np.testing.assert_allclose(once.weight, both.layers[0].weight + both.layers[2].weight, rtol=1e-12)
