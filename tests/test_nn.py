"""Layers, their state, and the losses."""
import collections
import copy
import dataclasses

import numpy as np
import pytest
from scipy import sparse

import minigrad as mg
from minigrad import DTypeError, grad, nn, tree
from minigrad.backend import generator
from minigrad.check import check_derivatives
from minigrad.models import mlp

from .strategies import Point

RNG = np.random.default_rng(0)


def float64(model):
    return tree.map(lambda p: p.astype("float64"), model)


def small_network(rng):
    """Return a network with convolution, batch norm, dropout, pooling and a linear layer."""
    return nn.Sequential((nn.Conv2d.init(rng, 2, 3, padding="same"), nn.BatchNorm.init(3), mg.relu, nn.Dropout(0.5),
                          lambda x: mg.mean(x, (1, 2)), nn.Linear.init(rng, 3, 4)))


def test_linear_and_conv_compute_their_formula():
    x, layer = RNG.random((5, 3)), nn.Linear(RNG.random((3, 2)), RNG.random(2))
    np.testing.assert_allclose(layer(x), x @ layer.weight + layer.bias)
    np.testing.assert_allclose(nn.Linear(layer.weight)(x[None]), (x @ layer.weight)[None])
    image, conv = RNG.random((2, 5, 5, 3)), nn.Conv2d(RNG.random((3, 3, 3, 2)), RNG.random(2), 2, "same")
    np.testing.assert_allclose(conv(image), mg.conv2d(image, conv.kernel, 2, "same") + conv.bias)


def test_a_gradient_has_the_form_of_the_model():
    model = small_network(generator(0))
    gradient = grad(lambda m: mg.sum(m(RNG.random((2, 6, 6, 2)).astype("float32")) ** 2))(model)
    assert tree.flatten(gradient)[1] == tree.flatten(model)[1]
    assert {leaf.dtype.name for leaf in tree.flatten(gradient)[0]} == {"float32"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.layers = ()
    assert "Conv2d(kernel=float32[3, 3, 2, 3]" in repr(model)


def test_batch_norm_standardises_and_scales():
    norm = nn.BatchNorm(np.array([2.0, 3.0]), np.array([1.0, -1.0]))
    y = norm(RNG.normal(5.0, 3.0, (50, 4, 2)))
    np.testing.assert_allclose(y.mean((0, 1)), [1, -1], atol=1e-12)
    np.testing.assert_allclose(y.std((0, 1)), [2, 3], rtol=1e-4)
    assert nn.BatchNorm.init(3, gain=False).gain is None


def test_running_averages_are_handed_in_and_out():
    norm, x = float64(nn.BatchNorm.init(2, momentum=0.75)), RNG.normal(5.0, 3.0, (50, 2))
    start = norm.init_state()
    y, state = norm.apply(x, start)
    np.testing.assert_allclose(state["mean"], 0.25 * x.mean(0))
    np.testing.assert_allclose(state["var"], 0.75 + 0.25 * x.var(0))
    assert not start["mean"].any()
    z, same = norm.apply(x, state, train=False)
    np.testing.assert_allclose(z, (x - state["mean"]) / np.sqrt(state["var"] + 1e-5))
    assert same is state
    with pytest.raises(DTypeError, match="needs the running averages"):
        norm.apply(x, train=False)


def test_state_comes_out_of_a_derivative_as_plain_values():
    model, x = small_network(generator(0)), RNG.random((4, 6, 6, 2)).astype("float32")

    def loss(model):
        y, state = model.apply(x, model.init_state(), key=3)
        return mg.mean(y * y), state
    gradient, state = grad(loss, has_aux=True)(model)
    assert type(state[1]["mean"]) is type(x) and state[1]["mean"].any() and state[0] is None
    plain = model.apply(x, model.init_state(), key=3)[1]
    np.testing.assert_array_equal(state[1]["var"], plain[1]["var"])
    model.apply(x, state, train=False)


def test_dropout_needs_training_and_a_key():
    layer, x = nn.Dropout(0.5), np.ones((4, 4))
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.apply(x, train=False, key=1)[0], x)
    assert (layer.apply(x, key=1)[0] != x).any()
    both = nn.Sequential((layer, layer))
    assert len(np.unique(both.apply(np.ones(100), key=1)[0])) == 2      # 0 and 4: the layers draw different masks
    assert 15 < (both.apply(np.ones(100), key=1)[0] > 0).sum() < 40
    assert nn.fold_in(None, 1) is None and nn.fold_in((1, 2), 3) == (1, 2, 3)


CONTAINERS = {"itself": lambda layer: layer, "dict": lambda layer: {"a": layer}, "list": lambda layer: [layer],
              "nested": lambda layer: {"a": [1.0, {"b": (None, layer)}]}, "ordered": lambda layer: collections.OrderedDict(a=layer),
              "default": lambda layer: collections.defaultdict(list, a=layer), "named": lambda layer: Point(None, layer),
              "module": lambda layer: Holder([layer]), "sequential": lambda layer: nn.Sequential((mg.relu, layer)),
              "checkpoint": lambda layer: nn.Checkpoint(layer), "setting": lambda layer: Holder(None, {"a": layer})}


class Holder(nn.Module):
    """A module that implements __call__, and so drops the other arguments of apply."""
    inside: nn.Array
    setting: nn.Array = nn.static(default=None)

    def __call__(self, x):
        return x


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("layer", [nn.BatchNorm.init(2), nn.Dropout(0.9)], ids=["batch norm", "dropout"])
def test_layers_are_found_wherever_a_module_holds_them(name, layer):
    x = np.ones((4, 2), "float32")
    with pytest.raises(DTypeError, match="a layer inside keeps averages or drops elements"):
        Holder(CONTAINERS[name](layer)).apply(x, None, True, 1)
    harmless = Holder(CONTAINERS[name](nn.Linear(np.ones((2, 2)))))         # which needs neither state nor key
    assert harmless.apply(x, "state", True, 1)[1] == "state"


def test_layers_come_one_after_the_other():
    linear = nn.Linear(np.ones((2, 2)))
    for layers, told in (({"a": linear}, "the layers are a dict"), (linear, "the layers are a Linear"),
                         ((linear, [linear]), "layer 1 is a list"), ((nn.Dropout,), "layer 0 is a type")):
        with pytest.raises(DTypeError, match=rf"Sequential\(layers\): {told}"):
            nn.Sequential(layers)
    for layer in (mg.relu, [linear]):
        with pytest.raises(DTypeError, match=r"Checkpoint\(layer\): the layer is a "):
            nn.Checkpoint(layer)


def test_whole_network_obeys_the_laws():
    model, x = float64(small_network(generator(1))), RNG.normal(size=(3, 4, 4, 2))
    smooth = dataclasses.replace(model, layers=tuple(mg.tanh if layer is mg.relu else layer for layer in model.layers))
    check_derivatives(lambda m: m.apply(x, key=7)[0], smooth, order=2)


def test_initializers():
    x = nn.truncated_normal(generator(0), (100, 100), 0.1)
    assert x.dtype == np.float32 and abs(x).max() <= 0.2 and abs(x.std() - 0.088) < 0.002
    assert abs(nn.he_normal(generator(0), (3, 3, 8, 100)).std() - np.sqrt(2 / 72)) < 0.005
    assert not nn.zeros(3).any()


def test_cross_entropy_by_hand():
    logits, labels = np.log(np.array([[0.2, 0.8], [0.5, 0.5]])) + 7.0, np.array([1, 0])
    np.testing.assert_allclose(nn.cross_entropy(logits, labels), -np.log([0.8, 0.5]))
    np.testing.assert_allclose(grad(lambda z: mg.sum(nn.cross_entropy(z, labels)))(logits),
                               [[0.2, -0.2], [-0.5, 0.5]])
    check_derivatives(lambda z: nn.cross_entropy(z, labels), logits, order=3)


def test_sigmoid_cross_entropy_by_hand():
    z, y = np.array([2.0, -1.0, 800.0]), np.array([1, 0, 0])
    np.testing.assert_allclose(nn.sigmoid_cross_entropy(z, y), [np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), 800])
    np.testing.assert_allclose(grad(lambda z: mg.sum(nn.sigmoid_cross_entropy(z, y)))(z), [-0.11920292, 0.26894142, 1])


@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("with_gain", [False, True])
def test_batch_norm_by_passes_is_batch_norm_by_primitives(with_gain, followed):
    """Value, push and pull with some gates of the ReLU open and some closed, for each argument alone and all together."""
    rng = np.random.default_rng(0)
    x, gain, bias = rng.normal(2.0, 3.0, (5, 4, 3, 6)), rng.normal(size=6) if with_gain else None, rng.normal(size=6)

    def slow(x, gain, bias):
        y = mg.standardize(x, (0, 1, 2), 1e-3)
        y = (y if gain is None else y * gain) + bias
        return mg.relu(y) if followed else y

    def fast(x, gain, bias):
        layer = nn.BatchNorm(gain, bias, eps=1e-3)
        return nn.Sequential((layer, mg.relu))(x) if followed else layer(x)
    args = dict(x=x, bias=bias, **({"gain": gain} if with_gain else {}))
    for watched in [(name,) for name in args] + [tuple(args)]:
        maps = []
        for f in (slow, fast):
            y, J = mg.linearize(lambda some: f(**{"gain": None, **args, **some}), {name: args[name] for name in watched})
            maps.append((y, J))
        (y, slow_J), (z, fast_J) = maps
        np.testing.assert_allclose(y, z, atol=1e-12)
        t, g = {name: rng.normal(size=args[name].shape) for name in watched}, rng.normal(size=y.shape)
        np.testing.assert_allclose(slow_J.push(t), fast_J.push(t), atol=1e-12)
        a, b = slow_J.pull(g), fast_J.pull(g)
        for name in watched:
            np.testing.assert_allclose(a[name], b[name], atol=1e-12)


def test_batch_norm_keeps_precision_far_from_zero():
    x = np.random.default_rng(0).normal(1000.0, 1.0, (200, 3, 2)).astype("float32")
    y = nn.batch_norm(x, None, np.zeros(2, "float32"), 0.0)
    exact = (x - x.astype(float).mean((0, 1))) / x.astype(float).std((0, 1))
    np.testing.assert_allclose(y, exact, atol=1e-3)
    mean, var = mg.ops.normalize.moments(x)
    np.testing.assert_allclose(var, x.astype(float).var((0, 1)), rtol=1e-4)
    assert mean.dtype == var.dtype == np.float32


def test_batch_norm_of_nothing():
    layer, x = nn.Sequential((nn.BatchNorm.init(3), mg.relu)), np.zeros((0, 3), "float32")
    y, J = mg.linearize(lambda layer, x: layer(x), layer, x)
    gradient, gx = J.pull(y)
    assert y.shape == J.push(layer, x).shape == gx.shape == (0, 3) and not any(g.any() for g in tree.flatten(gradient)[0])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("given", ["float16", "float32", "float64"])
def test_running_averages_keep_their_type(dtype, given, tmp_path):
    """For any type of x, so that saved ones load; they are at least float32, and evaluation returns the type of x."""
    layer = tree.map(lambda p: p.astype(dtype), nn.BatchNorm.init(3, momentum=0.5))
    state, wide = layer.init_state(), np.result_type(dtype, np.float32)
    x = generator(0).normal(2.0, 3.0, (50, 3)).astype(given)
    for _ in range(3):
        y, state = layer.apply(x, state)
    assert {leaf.dtype for leaf in tree.flatten(state)[0]} == {wide}
    np.testing.assert_allclose(state["mean"], 0.875 * x.mean(0, dtype=float), rtol=1e-2)
    np.testing.assert_allclose(state["var"], 0.125 + 0.875 * x.var(0, dtype=float), rtol=1e-2)
    tree.save(tmp_path / "state", state)
    tree.load(tmp_path / "state", layer.init_state())
    assert layer.apply(x, state, train=False)[0].dtype == y.dtype == np.result_type(dtype, given)


def test_small_changes_of_averages_are_not_lost_in_half_precision():
    layer = tree.map(lambda p: p.astype("float16"), nn.BatchNorm.init(1, momentum=0.9999))
    x, state = np.array([[1.0], [3.0]], np.float16), layer.init_state()
    for _ in range(10):
        _, state = layer.apply(x, state)
    np.testing.assert_allclose(state["mean"], 2.0 * (1 - 0.9999 ** 10), rtol=1e-3)


def test_predict_tells_each_example_by_itself():
    """In evaluation, whatever the size of the batches; model(x) of a single image uses the statistics of that image."""
    rng, x = generator(0), generator(1).normal(size=(7, 6, 5, 2)).astype("float32")
    model = nn.Sequential((nn.Conv2d.init(rng, 2, 3), nn.BatchNorm.init(3), mg.relu, nn.Dropout(0.5), lambda x: mg.mean(x, (1, 2))))
    _, state = model.apply(x, model.init_state(), key=1)
    expected = model.apply(x, state, train=False)[0]
    assert expected.shape == (7, 3) and abs(np.concatenate([model(row[None]) for row in x]) - expected).max() > 0.1
    for found in (model.predict(x, state), np.concatenate([model.predict(row[None], state) for row in x]), model.predict(x.tolist(), state, 3)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert model.predict(x[:0], state).shape == (0, 3)
    gradient = mg.grad(lambda x: mg.sum(model.predict(x, state, batch_size=2)))(x)
    np.testing.assert_allclose(gradient, mg.grad(lambda x: mg.sum(model.apply(x, state, False)[0]))(x), rtol=1e-5, atol=1e-7)
    with pytest.raises(mg.DTypeError, match="evaluation needs the running averages"):
        model.predict(x)
    with pytest.raises(mg.ShapeError, match="predict: batch_size = 0 is not an integer, 1 or more"):
        model.predict(x, state, 0)


def test_predict_takes_examples_in_batches(device):
    seen, table = [], np.arange(12.0).reshape(6, 2)
    layer = nn.Linear(mg.xp.ones((2, 1)))

    def prepare(rows):
        seen.append(rows)
        return mg.xp.asarray(rows.toarray())
    found = layer.predict(sparse.csr_array(table), batch_size=4, prepare=prepare)
    np.testing.assert_array_equal(mg.to_host(found), table.sum(1, keepdims=True))
    assert [rows.shape for rows in seen] == [(4, 2), (2, 2)] and mg.backend.module_of(found) is mg.backend.module_of(layer.weight)
    seen.clear()
    layer.predict(np.ones((1001, 2)), prepare=lambda rows: seen.append(len(rows)) or mg.xp.asarray(rows))
    assert seen == [500, 500, 1]


def test_batch_norm_needs_two_values_of_each_channel():
    """With one value, all examples would have the same scores; evaluation with running averages has no such limit."""
    model = mlp(generator(0), (4, 5, 2), normalize=True)
    x = generator(1).normal(size=(3, 4)).astype("float32")
    for one in (x[:1], x[1:2]):
        with pytest.raises(mg.ShapeError, match="BatchNorm(.|\n)*own mean(.|\n)*model.predict\\(x, state\\)"):
            model(one)
        with pytest.raises(ValueError, match="own mean"):
            mg.grad(lambda m: mg.sum(m.apply(one, m.init_state())[0]))(model)
    alone = [model.apply(row, model.init_state(), train=False)[0] for row in (x[:1], x[1:2])]
    assert abs(alone[0] - alone[1]).max() > 1e-3
    layer = nn.BatchNorm.init(3)
    assert layer(np.ones((1, 2, 1, 3), "float32")).shape == (1, 2, 1, 3)            # two pixels are two values
    for x in (np.ones((1, 1, 1, 3), "float32"), np.ones(3, "float32")):
        with pytest.raises(mg.ShapeError, match="own mean"):
            layer(x)
    old = layer.init_state()
    assert all((a == b).all() for a, b in zip(layer.apply(np.ones((0, 3), "float32"), old)[1].values(), old.values()))


class Frame:
    """An object that only looks like an array, such as a table or a sparse matrix."""
    shape, dtype = (4, 3), np.dtype("float32")

    def __array__(self, dtype=None, copy=None):
        return np.ones(self.shape, dtype)


@pytest.mark.parametrize("layer", [nn.Linear(np.ones((3, 2))), nn.BatchNorm.init(3), nn.Conv2d(np.ones((1, 1, 3, 2)))])
def test_what_only_looks_like_an_array_is_refused(layer):
    for call in (lambda: layer(Frame()), lambda: mg.grad(lambda m: mg.sum(m(Frame())))(layer)):
        with pytest.raises(mg.DTypeError, match=r"x is a Frame of tests, not an array(.|\n)*x.to_numpy\(\) of a table"):
            call()


@pytest.mark.parametrize("number", [np.float64, np.float32, np.float16], ids=lambda number: number.__name__)
@pytest.mark.parametrize("layer", [lambda f: nn.BatchNorm.init(3, momentum=f(0.9), eps=f(1e-3)), lambda f: nn.Dropout(f(0.5)),
                                   lambda f: nn.Sequential((nn.BatchNorm.init(3, gain=False, momentum=f(0.9), eps=f(1e-3)), mg.relu))])
def test_types_stay_whatever_the_settings_are(layer, number):
    layer, x = layer(number), generator(0).normal(size=(6, 3)).astype("float32")
    state = layer.init_state()

    def loss(layer, x):
        return mg.sum(layer.apply(x, state, key=3)[0] ** 3)
    y, moved = layer.apply(x, state, key=3)
    gradients = grad(loss, argnums=(0, 1))(layer, x), mg.hvp(lambda x: loss(layer, x), x, x)
    for leaf in tree.flatten((y, moved, layer.apply(x, state, train=False)[0], gradients))[0]:
        assert leaf.dtype == np.float32


def test_lists_are_taken_by_layers_and_losses():
    rows, x = [[1.0, 2.0], [3.0, 5.0]], np.array([[1.0, 2.0], [3.0, 5.0]])
    norm = float64(nn.BatchNorm.init(2))
    for f in (nn.Linear(np.ones((2, 3))), norm, lambda x: norm.apply(x, norm.init_state(), train=False)[0], nn.Dropout(0.5),
              lambda x: nn.Dropout(0.5).apply(x, key=1)[0], lambda x: nn.batch_norm(x, [1.0, 2.0], np.zeros(2)),
              lambda x: nn.cross_entropy(x, [0, 1])):
        np.testing.assert_array_equal(f(rows), f(x))
    np.testing.assert_array_equal(nn.sigmoid_cross_entropy([1.0, 2.0], [0, 1]), nn.sigmoid_cross_entropy(x[0], np.array([0, 1])))
    with pytest.raises(DTypeError, match="only floating-point arrays are normalized"):
        nn.batch_norm(np.ones((3, 2), int), None, np.zeros(2))
    with pytest.raises(mg.ShapeError, match=r"x has shape \(..., channels\), gain and bias \(channels,\)"):
        nn.batch_norm(x, np.ones(3), np.zeros(2))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layer", [nn.Linear.init(generator(0), 4, 2), nn.BatchNorm.init(4), nn.Dropout(0.5), nn.LayerNorm.init(4), nn.GroupNorm.init(2, 4), nn.Conv2d.init(generator(0), 4, 3),
                                   nn.Sequential((nn.BatchNorm.init(4), mg.relu))], ids=lambda layer: type(layer).__name__)
def test_integers_are_taken_as_numbers_or_refused(layer, train):
    """Never as something between: an average of -1.8 is not -1, and of bytes not 255."""
    x, averages = np.random.default_rng(0).integers(1, 200, (5, 4, 3, 4)), layer.init_state()
    averages = tree.map(lambda a: a + 55.5, averages)
    for dtype in ("int64", "uint8", "int32"):
        def value(x):
            return layer.apply(x, averages, train, key=3)[0]
        try:
            found = value(x.astype(dtype))
        except mg.DTypeError as error:
            assert "help: x.astype(float)" in str(error)
        else:
            np.testing.assert_allclose(found, value(x.astype(float)), rtol=1e-5)


def test_numbers_of_numpy_and_lists_are_settings():
    x = generator(0).normal(size=(2, 5, 5, 4)).astype("float32")
    np.testing.assert_array_equal(nn.group_norm(x, np.int64(2), None), nn.group_norm(x, 2, None))
    for layer in (nn.Conv2d, nn.ConvTranspose2d):
        np.testing.assert_array_equal(layer.init(generator(0), 4, 3, np.int64(3))(x), layer.init(generator(0), 4, 3, (3, 3))(x))
    nested = nn.Sequential((nn.Sequential((nn.Dropout(0.5),)), nn.Dropout(0.5)))
    np.testing.assert_array_equal(nested.apply(x, key=[1, 2])[0], nested.apply(x, key=(1, 2))[0])
    assert nn.Embedding(np.eye(3))([]).shape == (0, 3) and mg.take(np.eye(3), [], 0).shape == (0, 3) and mg.take(np.eye(3), []).shape == (0,)
    assert mg.logsumexp([]) == -np.inf
    with pytest.raises(DTypeError, match="clip.*min and max are other names of these bounds"):
        mg.clip(x, 0, 1, min=0)


@pytest.mark.parametrize("s", [(40, 50), (3, 3, 8, 40)])
def test_initial_values_have_the_variance_they_say(s):
    inputs = np.prod(s[:-1])
    for draw, std, most in ((nn.he_normal, np.sqrt(2 / inputs), np.inf), (nn.uniform_unit_scaling, 1 / np.sqrt(inputs), np.sqrt(3 / inputs)),
                            (lambda *a, **t: nn.normal(*a, 0.3, **t), 0.3, np.inf),
                            (lambda *a, **t: nn.truncated_normal(*a, 0.3, **t), 0.88 * 0.3, 0.6)):
        for dtype in ("float16", "float32", "float64"):
            x = draw(generator(0), s, dtype=dtype)
            assert x.dtype == dtype and x.shape == s and abs(x).max() <= most * 1.001
            assert abs(x.astype(float).std() / std - 1) < 0.05 and abs(x.astype(float).mean()) < 0.1 * std
        assert draw(generator(0), s).dtype == np.float32
        assert most == np.inf or abs(x).max() > 0.95 * most
    assert nn.zeros(3, "float64").dtype == np.float64 and nn.zeros(3).dtype == np.float32


#import: import copy


def test_a_layer_of_ones_own_is_called_by_its_own_apply():
    """Also one made of BatchNorm, which Sequential joins with the ReLU after it."""
    class Doubled(nn.BatchNorm):
        def apply(self, x, state=None, train=True, key=None):
            y, state = super().apply(x, state, train, key)
            return 2.0 * y, state
    x, layer = np.random.default_rng(0).normal(size=(6, 3)).astype("float32"), Doubled.init(3)
    model = nn.Sequential((layer, mg.relu, nn.Dropout(0.5)))
    y, (state, *_) = model.apply(x, model.init_state())
    expected, moved = layer.apply(x, layer.init_state())
    np.testing.assert_array_equal(y, np.maximum(expected, 0.0))
    assert tree.same(state, moved) and abs(y).max() > 0


def test_nothing_that_is_passed_to_a_layer_is_changed():
    """Neither the state, in whatever container it comes, nor the examples."""
    model = nn.Sequential((nn.Linear.init(np.random.default_rng(0), 3, 4), nn.BatchNorm.init(4), mg.relu, nn.Checkpoint(nn.Sequential((nn.BatchNorm.init(4), mg.tanh)))))
    x, moved = np.random.default_rng(1).normal(size=(6, 3)).astype("float32"), model.apply(np.ones((6, 3), "float32"), model.init_state())[1]
    for state in (model.init_state(), list(moved)):
        before = copy.deepcopy((state, x, model))
        for train in (True, False):
            model.apply(x, state, train, 1)
        model.predict(x, state)
        assert tree.same((state, x, model), before)


@pytest.mark.parametrize("model", [nn.Sequential(()), nn.Sequential((nn.Sequential(()), nn.BatchNorm.init(3), mg.relu)), nn.Checkpoint(nn.Sequential((nn.Sequential(()),))), nn.Dropout(0.5), nn.Linear.init(np.random.default_rng(0), 3, 3)], ids=repr)
def test_a_state_keeps_its_structure(model):
    """So that what was saved at first can be loaded in place of it later, also of layers without any."""
    x, state = np.ones((4, 3), "float32"), model.init_state()
    for train in (True, False):
        for given in (state, model.apply(x, state, True, 1)[1]):
            assert tree.flatten(model.apply(x, given, train, 1)[1])[1] == tree.flatten(state)[1]


def test_running_averages_of_a_checkpoint_are_plain_inside_a_derivative():
    model, told = nn.Checkpoint(nn.Sequential((nn.BatchNorm.init(2), mg.tanh))), []

    def f(model):
        y, state = model.apply(np.arange(6.0, dtype="float32").reshape(3, 2), model.init_state())
        told.extend(mg.tree.flatten(state)[0])
        return mg.sum(y)
    mg.grad(f)(model)
    assert len(told) == 2 and {type(leaf) for leaf in told} == {np.ndarray}


@pytest.mark.parametrize("state", [(), (None,), (None, None, None), (None, {}), (None, {"mean": np.zeros(2)}), (None, [np.zeros(2), np.ones(2)]), (None, {"mean": np.zeros(1), "var": np.ones(1)}), (None, {"mean": np.zeros(3), "var": np.ones(3)})])
def test_the_state_of_another_model_is_refused(state):
    model, x = nn.Sequential((nn.Linear(np.ones((2, 2))), nn.BatchNorm.init(2))), np.ones((3, 2))
    for train in (True, False):
        with pytest.raises(mg.ShapeError, match=r"help: begin with model.init_state\(\), and pass what apply returned"):
            model.apply(x, state, train)


class AsInTorch(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(np.ones((2, 2)))


class Power(nn.Module):
    degree: int = nn.static()
    scale: nn.Array = None

    @classmethod
    def init(cls):
        return cls(3, np.ones(1))


class Sized(nn.Module):
    w: nn.Array

    def __init__(self, size):
        object.__setattr__(self, "w", np.ones(size))

    @classmethod
    def init(cls):
        return cls(3)


def test_a_module_of_ones_own_may_take_sizes():
    """As settings, or in an __init__ that is not that of a dataclass."""
    assert nn.Conv2d(stride=2, kernel=np.ones((1, 1, 1, 1))).stride == 2 and nn.Dropout(0).rate == 0
    assert Power.init().degree == 3 and Sized.init().w.shape == (3,) and mg.tree.size(mg.tree.map(np.negative, Sized(2))) == 2


@pytest.mark.parametrize("call, help", [(lambda: nn.Sequential(mg.tanh, mg.relu), "the arguments are Sequential(layers"), (lambda: nn.Linear(), "the arguments are Linear(weight"),
                                        (lambda: nn.Linear(2, 3), "Linear.init(rng, inputs, outputs, bias, initialize) makes them"), (lambda: nn.Embedding(10, 4), "Embedding.init("),
                                        (lambda: nn.Conv2d(1, 8, 3), "Conv2d.init("), (AsInTorch, "write its fields in the class"), (lambda: nn.Linear(np.ones((2, 2)), offset=1), "the arguments are Linear")])
def test_a_constructor_says_what_it_takes(call, help):
    with pytest.raises(mg.DTypeError) as caught:
        call()
    assert help in str(caught.value).partition("help: ")[2]
