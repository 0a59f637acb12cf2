"""Old names work, and warn once at the line that uses them; the table lists all of them."""
import ast
import pathlib
import re
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend, deprecated, models, nn, optim, reweight, tree
from minigrad.backend import generator

X = np.arange(32.0).reshape(1, 4, 4, 2)


class Shift(nn.Module):
    offset: nn.Array

    def init_state(self):
        return {"seen": np.zeros(())}

    def apply(self, x, state=None, train=True, key=None):
        return x + self.offset, state


SHIFT = Shift(np.ones(()))
# old name: (the old form, the new one, what the warning says)
TABLE = {
    "seed": (lambda: backend.seed, lambda: backend.generator, "minigrad.backend.seed is now minigrad.backend.generator"),
    "put": (lambda: mg.put, lambda: mg.scatter_add, "minigrad.put is now minigrad.scatter_add"),
    "fused": (lambda: mg.fused, lambda: mg.with_derivative, "minigrad.fused is now minigrad.with_derivative"),
    "pieces": (lambda: mg.pieces, lambda: mg.fast.threads, "minigrad.pieces is now minigrad.fast.threads"),
    "cut": (lambda: mg.fast.threads.cut, lambda: mg.fast.threads.split, "minigrad.fast.threads.cut is now minigrad.fast.threads.split"),
    "share": (lambda: mg.fast.threads.share, lambda: mg.fast.threads.run, "minigrad.fast.threads.share is now minigrad.fast.threads.run"),
    "each": (lambda: mg.fast.threads.each, lambda: mg.fast.threads.map_chunks,
             "minigrad.fast.threads.each is now minigrad.fast.threads.map_chunks"),
    "subkey": (lambda: nn.subkey, lambda: nn.fold_in, "minigrad.nn.subkey is now minigrad.nn.fold_in"),
    "Optimiser": (lambda: optim.Optimiser, lambda: optim.Optimizer, "minigrad.optim.Optimiser is now minigrad.optim.Optimizer"),
    "matrices": (lambda: optim.matrices, lambda: optim.has_matrix_shape,
                 "minigrad.optim.matrices is now minigrad.optim.has_matrix_shape"),
    "normalise": (lambda: reweight.normalise, lambda: reweight.normalize,
                  "minigrad.reweight.normalise is now minigrad.reweight.normalize"),
    "normalise of mlp": (lambda: models.mlp(generator(0), (2, 3, 1), normalise=True),
                         lambda: models.mlp(generator(0), (2, 3, 1), normalize=True), "mlp: normalise= is now normalize="),
    "state": (lambda: SHIFT.state(), lambda: SHIFT.init_state(), r"Shift.state\(\) is now init_state\(\)"),
    "initialise": (lambda: nn.Linear.init(generator(0), 2, 3, initialise=nn.uniform_unit_scaling),
                   lambda: nn.Linear.init(generator(0), 2, 3, initialize=nn.uniform_unit_scaling),
                   "Linear.init: initialise= is now initialize="),
    "initialise of Conv2d": (lambda: nn.Conv2d.init(generator(0), 2, 3, initialise=nn.uniform_unit_scaling),
                             lambda: nn.Conv2d.init(generator(0), 2, 3, initialize=nn.uniform_unit_scaling),
                             "Conv2d.init: initialise= is now initialize="),
    "window": (lambda: nn.Conv2d.init(generator(0), 2, 3, window=5), lambda: nn.Conv2d.init(generator(0), 2, 3, kernel_size=5),
               "Conv2d.init: window= is now kernel_size="),
    "window of unfold": (lambda: mg.unfold(X, window=2), lambda: mg.unfold(X, kernel_size=2), "unfold: window= is now kernel_size="),
    "window of max_pool2d": (lambda: mg.max_pool2d(X, window=3, stride=1), lambda: mg.max_pool2d(X, kernel_size=3, stride=1),
                             "max_pool2d: window= is now kernel_size="),
    "window of avg_pool2d": (lambda: mg.avg_pool2d(X, window=2), lambda: mg.avg_pool2d(X, kernel_size=2),
                             "avg_pool2d: window= is now kernel_size="),
    "rectify": (lambda: nn.BatchNorm.init(2, rectify=True)(X), lambda: mg.relu(nn.BatchNorm.init(2)(X)),
                r"BatchNorm.init: rectify= is now Sequential\(\(layer, relu\)\)"),
    "rectify of batch_norm": (lambda: nn.batch_norm(X, None, np.zeros(2), rectify=True), lambda: mg.relu(nn.batch_norm(X, None, np.zeros(2))),
                              r"batch_norm: rectify= is now relu\(batch_norm\(x, gain, bias\)\)"),
    "axes": (lambda: mg.standardize(X, axes=0), lambda: mg.standardize(X, axis=0), "standardize: axes= is now axis="),
    "remember": (lambda: models.resnet(generator(0), 8, remember=False), lambda: models.resnet(generator(0), 8, checkpoint=True),
                 "resnet: remember=False is now checkpoint=True"),
    "remember of standard_resnet": (lambda: models.standard_resnet(generator(0), 8, remember=True),
                                    lambda: models.standard_resnet(generator(0), 8, checkpoint=False),
                                    "standard_resnet: remember=True is now checkpoint=False"),
    "remember of wide_resnet": (lambda: models.wide_resnet(generator(0), 10, 1, remember=False),
                                lambda: models.wide_resnet(generator(0), 10, 1, checkpoint=True),
                                "wide_resnet: remember=False is now checkpoint=True"),
}


def steps(optimizer, *more):
    """Return the parameters after three steps, in the form of minigrad 0.1."""
    params, state = X, optimizer.init(X)
    for _ in range(3):
        params, state = optimizer.update(params + 1.0, state, params, *more)
    return params


@pytest.mark.parametrize("old, new, rates", [
    (lambda: optim.sgd(0.1, 0.9, True, 0.01), lambda: optim.sgd(momentum=0.9, nesterov=True, weight_decay=0.01), [0.1, 0.1, 0.1]),
    (lambda: optim.sgd(rate=0.1, momentum=0.9), lambda: optim.sgd(momentum=0.9), [0.1, 0.1, 0.1]),
    (lambda: optim.sgd(lambda t: 0.1 / (1 + t)), lambda: optim.sgd(), [0.1, 0.05, 0.1 / 3]),
    (lambda: optim.adam(0.1, 0.8), lambda: optim.adam(beta1=0.8), [0.1, 0.1, 0.1]),
    (lambda: optim.adam(lambda t: 0.1 / (1 + t)), lambda: optim.adam(), [0.1, 0.05, 0.1 / 3])])
def test_an_optimizer_with_a_rate_of_its_own(old, new, rates):
    """The constructor warns, and three steps are those of today's optimizer; step= and rate= replace its own."""
    with pytest.warns(DeprecationWarning, match=r"^(sgd|adam)\(rate, ...\): the rate is now an argument of update") as caught:
        optimizer = old()
    assert [warning.filename for warning in caught] == [__file__]
    params, state = X, new().init(X)
    for rate in rates:
        params, state = new().update(params + 1.0, state, params, rate)
    np.testing.assert_array_equal(steps(optimizer), params)
    params, state = X, new().init(X)
    for _ in rates:
        params, state = new().update(params + 1.0, {**state, **({"count": np.array(4)} if "count" in state else {})}, params, 0.3)
    np.testing.assert_array_equal(steps(optimizer, 4, 0.3), params)


def same(a, b):
    """Return whether both are the same object, or equal trees."""
    (xs, structure), (ys, other) = tree.flatten(a), tree.flatten(b)
    return a is b or structure == other and all(map(np.array_equal, xs, ys))


@pytest.mark.parametrize("name", TABLE)
def test_the_old_name_is_the_new_one_and_warns(name):
    old, new, text = TABLE[name]
    with pytest.warns(DeprecationWarning, match=f"^{text}; the old form goes in minigrad 0.3$") as caught:
        found = old()
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(found, new())


def test_the_table_holds_every_old_name():
    root, found = pathlib.Path(mg.__file__).parent.parent, set()
    for path in (*(root / "minigrad").rglob("*.py"), *(root / "models").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "deprecated":
                found |= {keyword.arg for keyword in node.keywords}
    assert found == {name.partition(" ")[0] for name in TABLE}
    changes = (root / "CHANGELOG.md").read_text().partition("### Deprecated\n")[2].partition("\nThe modules")[0]
    assert found <= set(re.findall(r"\w+", " ".join(re.findall(r"^\| (.*?) \|", changes, re.M))))


def test_an_import_of_an_old_name_warns_at_the_import():
    with pytest.warns(DeprecationWarning, match="minigrad.put is now") as caught:
        from minigrad import put
    assert put is mg.scatter_add and {warning.filename for warning in caught} == {__file__}
    with pytest.raises(ImportError, match="nothing_like_it"):
        from minigrad.nn import nothing_like_it  # noqa: F401
    with pytest.raises(AttributeError, match="module 'minigrad.optim' has no attribute 'nothing_like_it'"):
        optim.nothing_like_it


def test_a_layer_that_defines_state_keeps_working():
    """One warning when its class is made, also inside other layers; a field may have the old name."""
    with pytest.warns(DeprecationWarning, match=r"Old.state: define init_state instead") as caught:
        class Old(nn.Module):
            offset: nn.Array

            def state(self):
                return {"seen": np.zeros(())}

            def apply(self, x, state=None, train=True, key=None):
                return x + self.offset, {"seen": state["seen"] + len(x)}
    assert [warning.filename for warning in caught] == [__file__]
    model = nn.Sequential((Old(np.ones(())), mg.relu))
    assert model.init_state() == ({"seen": 0.0}, None)
    assert model.apply(np.ones(3), model.init_state())[1] == ({"seen": 3.0}, None)

    class Country(nn.Module):
        state: nn.Array

        def __call__(self, x):
            return x * self.state
    assert Country(2.0).state == 2.0 and Country(2.0)(3.0) == 6.0 and Country(2.0).init_state() is None
    with pytest.raises(TypeError, match="state"):
        Country()


def test_a_flag_that_went_becomes_a_step_after():
    @deprecated.flags(rectify=(mg.relu, "relu(shifted(x))"))
    def shifted(x, by=1.0):
        return x + by
    with pytest.warns(DeprecationWarning, match=r"shifted: rectify= is now relu\(shifted\(x\)\)") as caught:
        assert shifted(-3.0, rectify=True) == 0.0 and shifted(-3.0, by=2.0, rectify=False) == -1.0
    assert [warning.filename for warning in caught] == [__file__] * 2
    assert shifted(-3.0) == -2.0


def test_an_argument_under_both_names_is_refused():
    with pytest.warns(DeprecationWarning), pytest.raises(mg.DTypeError, match="kernel_size"):
        mg.avg_pool2d(X, window=2, kernel_size=2)


def test_a_line_warns_once_by_default():
    """As Python's warnings do, so that a loop does not fill the screen; another line warns again."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            _ = optim.Optimiser
        _ = optim.Optimiser
    assert len(seen) == 2 and len({warning.lineno for warning in seen}) == 2


def test_a_class_with_both_names_of_a_method_has_the_new_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Both(nn.Module):
            def state(self):
                return "old"

            def init_state(self):
                return "new"
    assert Both().init_state() == "new" and Both().state() == "old"


@pytest.mark.parametrize("step", [0, 3, np.int64(3), np.asarray(3, "int32")])
def test_a_step_that_is_given_becomes_the_count_of_the_state(step):
    for make in (optim.sgd, optim.adam):
        with pytest.warns(DeprecationWarning):
            old = make(lambda step: 0.1)
        p = np.ones(2)
        state = old.update(p, old.init(p), p, step)[1]
        assert state["count"].dtype == "int64" and state["count"].shape == () and state["count"] == step + 1


def test_a_rate_of_0_is_a_rate():
    """Beside a rate of the optimizer's own it counts, as any other."""
    p = np.ones(2)
    for own in (0.1, lambda step: 0.1):
        for make in (optim.sgd, optim.adam):
            with pytest.warns(DeprecationWarning):
                old = make(own)
            np.testing.assert_array_equal(old.update(p, old.init(p), p, rate=0.0)[0], p)
            assert (old.update(p, old.init(p), p)[0] != p).all()
