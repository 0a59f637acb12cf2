"""Labels in any container: arrays, lists and columns of tables are checked in the same way."""
import numpy as np
import pytest

import minigrad as mg
from experiments.data import Images
from experiments.data.tasks import Part, long_tail
from experiments.methods.resampling import over_sample, smote, under_sample
from minigrad import DTypeError, MinigradError, ShapeError, nn
from minigrad.backend import generator

from .experiments.flipped import background_flip, flip_matrix, imbalance, noisy, uniform_flip


class Column:
    """A column of a table as in pandas: it has its own index, here in reverse order."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape, self.dtype, self.ndim = self.values.shape, self.values.dtype, self.values.ndim

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Column(self.values[::-1][index])

    def __eq__(self, other):
        return self.values == other

    def min(self):
        return self.values.min()

    def max(self):
        return self.values.max()


def both(y):
    """Return two columns of labels for each example, in the form of y."""
    if isinstance(y, (list, tuple)):
        return type(y)([label, label] for label in y)
    return Column(both(y.values)) if isinstance(y, Column) else np.stack([y, y], 1)


FORMS = {"array": np.array, "list": list, "tuple": tuple, "column": Column, "bytes": lambda y: np.array(y, np.uint8),
         "turned": lambda y: np.array([y, y]).T[:, 0]}
WRONG = {"strings": ["cat", "dog", "cat", "cat"], "digits": ["0", "1", "1", "0"], "objects": np.array(["cat", "dog", None, 1], object),
         "a missing one": [0, None, 1, 1], "dates": np.array(["2020-01-01"] * 4, "datetime64[D]"), "floats": [0.0, 1.0, 1.0, 0.0],
         "NaN": [0.0, np.nan, 1.0, 1.0], "complex": [0j, 1j, 0j, 1j], "ragged": [[0, 1], [1], [0], [1]],
         "huge": [2 ** 70, 0, 1, 1]}
LOSSES = {"cross_entropy": (lambda y: nn.cross_entropy(np.eye(4, 2), y), [0, 1, 1, 0]),
          "sigmoid_cross_entropy": (lambda y: nn.sigmoid_cross_entropy(np.arange(4.0), y), [0, 1, 1, 0]),
          "several labels": (lambda y: nn.sigmoid_cross_entropy(np.arange(8.0).reshape(4, 2), both(y)), [0, 1, 1, 0])}
OTHERS = {
    "uniform_flip": lambda y: uniform_flip(y, 0.5, 2, generator(0)), "background_flip": lambda y: background_flip(y, 0.5, 2, generator(0)),
    "long_tail": lambda y: long_tail(y, 1.0, generator(0), 2), "under_sample": lambda y: under_sample(X[:len(y)], y, generator(0))[1:],
    "over_sample": lambda y: over_sample(X[:len(y)], y, generator(0))[1:], "smote": lambda y: smote(X[:len(y)], y, generator(0)),
    "flip_matrix": lambda y: flip_matrix(Part(None, np.zeros(len(y), int), None, y), 2),
    "noisy": lambda y: noisy(Images(X[:len(y)], y), Images(X[:len(y)], y), 0, classes=2, clean=2, validation=0, flip="uniform").train,
    "imbalance": lambda y: imbalance(Images(X[:len(y)], y), 0.6, generator(0), total=4, clean=1, tests=1, minority=0, majority=1).train}
X = np.arange(48.0).reshape(24, 2)
LONG = [0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1]


def same(a, b):
    for x, y in zip(*(mg.tree.flatten(tuple(r) if isinstance(r, tuple) else r)[0] for r in (a, b)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("form", FORMS)
def test_labels_mean_the_same_in_every_form(form):
    for call, labels in LOSSES.values():
        same(call(FORMS[form](labels)), call(np.array(labels)))
    for call in OTHERS.values():
        if form != "bytes":                                 # a flip keeps the type
            same(call(FORMS[form](LONG)), call(np.array(LONG)))
    assert nn.cross_entropy(np.zeros((0, 2)), []).shape == (0,)


@pytest.mark.parametrize("form", FORMS)
def test_labels_outside_the_classes_are_refused(form):
    for call, _ in LOSSES.values():
        for labels in ([0, 1, 2, 0],) + (([-1, 0, 1, 1],) if form != "bytes" else ()):
            with pytest.raises(ShapeError, match=r"labels lie outside 0 ... 1"):
                call(FORMS[form](labels))
        for labels in ([0, 1, 1], [0, 1, 1, 0, 1], []):
            with pytest.raises(ShapeError, match="do not fit") if form != "turned" or labels else pytest.raises(MinigradError):
                call(FORMS[form](labels) if labels else labels)
    for name in ("uniform_flip", "background_flip", "long_tail", "flip_matrix", "noisy"):
        with pytest.raises(MinigradError, match="there are labels other than 0 to 1"):
            OTHERS[name](FORMS[form]([2, 0, 1, 1]))


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", [*LOSSES, *OTHERS])
def test_labels_that_are_no_integers_are_refused(name, wrong):
    """The error names the labels and the remedy; a sigmoid's labels may be probabilities."""
    call = LOSSES[name][0] if name in LOSSES else OTHERS[name]
    if name in ("sigmoid_cross_entropy", "several labels") and wrong == "floats":
        assert np.isfinite(call(WRONG[wrong])).all()
        return
    with pytest.raises((DTypeError, ShapeError) if wrong == "NaN" else DTypeError, match="labels(.|\n)*"):
        call(WRONG[wrong])


def test_labels_on_each_device(device):
    """A list is moved to the device of the scores; an array is not, and the error for two devices is tested elsewhere."""
    found = nn.cross_entropy(mg.xp.asarray(np.eye(4, 2)), [0, 1, 1, 0])
    np.testing.assert_allclose(mg.to_host(found), nn.cross_entropy(np.eye(4, 2), np.array([0, 1, 1, 0])))
    found = nn.sigmoid_cross_entropy(mg.xp.arange(4.0), [0, 1, 1, 0])
    np.testing.assert_allclose(mg.to_host(found), nn.sigmoid_cross_entropy(np.arange(4.0), np.array([0, 1, 1, 0])))


def test_several_labels_add_their_losses():
    """As if each column were a task of its own; numbers between 0 and 1 are probabilities."""
    rng = generator(0)
    z, y = rng.normal(0, 3, (5, 3)), np.round(rng.random((5, 3)), 1)
    expected = np.sum([nn.sigmoid_cross_entropy(z[:, k], y[:, k]) for k in range(3)], 0)
    np.testing.assert_allclose(nn.sigmoid_cross_entropy(z, y), expected)
    np.testing.assert_allclose(nn.sigmoid_cross_entropy(np.array([[900.0, -900.0]], "float32"), [[1, 0]]), [0.0])
    np.testing.assert_allclose(nn.sigmoid_cross_entropy([2, -1], [0.25, 0.5]), nn.sigmoid_cross_entropy([2.0, -1.0], [0.25, 0.5]))
    for wrong in (y[:, :2], y[:, 0], y[:4], y[..., None]):
        with pytest.raises(ShapeError, match="scores and labels do not fit"):
            nn.sigmoid_cross_entropy(z, wrong)
    for wrong in (y + 0.5, y - 0.5):
        with pytest.raises(ShapeError, match="labels lie outside 0 ... 1"):
            nn.sigmoid_cross_entropy(z, wrong)


def test_squared_error_by_hand():
    assert nn.squared_error([1.0, 3.0], [0.5, 5]).tolist() == [0.25, 4.0]
    assert nn.squared_error([1, 3], [0.5, 5]).tolist() == [0.25, 4.0]
    assert nn.squared_error(np.array([[1.0, 2.0], [0.0, -1.0]]), Column([[1, 4], [3, 1]])).tolist() == [4.0, 13.0]
    loss = nn.squared_error(np.ones(2, "float32"), np.array([-2.5, 1e3]))
    assert loss.dtype == "float32" and loss.tolist() == [12.25, 998001.0]
    assert mg.grad(lambda z: mg.sum(nn.squared_error(z, [0.5, 5])))(np.array([1.0, 3.0])).tolist() == [1.0, -4.0]
    for scores, targets in ((np.ones((3, 1)), np.ones(3)), (np.ones(3), np.ones((3, 1))), (np.ones(3), 1.0), (1.0, 1.0), (np.ones((2, 2, 2)), np.ones((2, 2, 2)))):
        with pytest.raises(ShapeError, match="squared_error\\(scores, targets\\): scores and targets do not fit"):
            nn.squared_error(scores, targets)
    for wrong in (["a", "b"], [None, 1], [1j, 2], np.array(["2020-01-01"] * 2, "datetime64[D]")):
        with pytest.raises(DTypeError, match="targets(.|\n)*numpy.asarray\\(targets, float\\)"):
            nn.squared_error(np.ones(2), wrong)


def test_losses_of_several_outputs_on_each_device(device):
    z, y = np.array([[1.0, -2.0], [0.5, 3.0]], "float32"), [[0, 1], [1, 0]]
    for loss in (nn.squared_error, nn.sigmoid_cross_entropy):
        found = loss(mg.xp.asarray(z), y)
        assert found.dtype == "float32" and mg.backend.module_of(found) is mg.backend.module_of(mg.xp.asarray(z))
        np.testing.assert_allclose(mg.to_host(found), loss(z, np.array(y)), rtol=1e-6)


def test_infinite_scores_of_two_classes():
    """Where the label agrees the loss is 0, else infinite; nothing is NaN, and the slope is 0 or 1."""
    z = np.array([np.inf, -np.inf, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        for labels in (np.array([1, 0, 0, 1]), np.array([1.0, 0.0, 0.0, 1.0])):
            y, J = mg.linearize(lambda z: nn.sigmoid_cross_entropy(z, labels), z)
            np.testing.assert_array_equal(y, [0.0, 0.0, np.inf, np.inf])
            np.testing.assert_array_equal(J.pull(np.ones(4)), [0.0, 0.0, 1.0, -1.0])


def test_second_derivatives_of_a_loss_that_is_small_keep_their_digits():
    """... of the label, too: p - 1 would cancel."""
    z = np.array([[40.0, 0.0, -1.0]])
    others = np.exp([-40.0, -41.0])
    H = mg.hessian(lambda z: mg.sum(nn.cross_entropy(z, [0])))(z)[0, :, 0]
    np.testing.assert_allclose(H[0], [others.sum(), *-others], rtol=1e-12)
    gradient, third = mg.jvp(lambda z: mg.grad(lambda z: mg.sum(nn.cross_entropy(z, [0])))(z), (z,), (np.array([[1.0, 0.0, 0.0]]),))
    np.testing.assert_allclose(gradient, [[-others.sum(), *others]], rtol=1e-12)
    np.testing.assert_allclose(third, [[others.sum(), *-others]], rtol=1e-12)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int64", "bool"])
@pytest.mark.parametrize("f", [nn.squared_error, lambda s, t: nn.sigmoid_cross_entropy(s, t > 0), lambda s, t: mg.sigmoid(s), lambda s, t: mg.silu(s), lambda s, t: mg.softplus(s)])
def test_whole_numbers_have_the_losses_of_floats(f, kind):
    """No negative wraps around, and no square overflows, in a small type."""
    x = np.array([0, 1, 1, 0]) if kind == "bool" else np.array([0, 1, 100, 127])
    for targets in (np.zeros(4, int), np.array([1, 0, 1, 0])):
        np.testing.assert_allclose(np.asarray(f(x.astype(kind), targets), float), f(x.astype(float), targets), rtol=2e-3, atol=1e-6)
