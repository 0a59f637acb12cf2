"""Training without scikit-learn: losses other than that of classes, and the record of what each example earned."""
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, training, tree
from minigrad.backend import generator
from minigrad.errors import DataError
from minigrad.models import mlp

WRONG = np.arange(300) % 3 == 1
KNOWN = np.flatnonzero(~WRONG)[:30]


def numbers(rng):
    """Return targets of a linear function, a third of them too large by 3, and the right ones."""
    x, w = rng.normal(size=(300, 4)), rng.normal(size=(4, 1))
    return x, x @ w + 3.0 * WRONG[:, None], x @ w


def several_labels(rng):
    """Return three labels for each example, for a third of them all reversed, and the right ones."""
    x, w = rng.normal(size=(300, 4)), rng.normal(size=(4, 3))
    right = x @ w > 0
    return x, np.where(WRONG[:, None], ~right, right), right


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("task, loss", [(numbers, nn.squared_error), (several_labels, nn.sigmoid_cross_entropy)])
def test_wrong_targets_are_found(task, loss, seed):
    """Examples with wrong targets have a weight less often, and the model is closer to the right ones than a plainly trained one."""
    x, y, right = task(generator(seed))
    rows, errors = training.Rows(x, y), {}
    for method in ("reweight", "uniform"):
        plan = training.Plan(method, rate=0.01, batch_size=50, seed=seed, loss=loss)
        now, trust = training.start(mlp(generator(seed), (4, 16, y.shape[1])), plan), np.zeros(300)
        for number in range(15):
            now, record = training.one_pass(plan, now, rows, rows.take(KNOWN), number)
            trust += record.positive / 15
        scores = mg.to_host(now.model.predict(x, now.averages, prepare=training.to_device))
        errors[method] = np.mean((scores > 0) != right) if right.dtype == bool else np.mean((scores - right) ** 2)
        if method == "reweight":
            found = trust
    pairs = found[~WRONG, None] - found[WRONG]
    assert np.mean(pairs > 0) + np.mean(pairs == 0) / 2 > 0.85          # the area under the ROC curve
    assert errors["reweight"] < 0.7 * errors["uniform"]


def test_proportion_balances_classes_and_others_need_none():
    """Its weights are inverse to the frequency of the class: 1 on average."""
    y = np.array([0] * 6 + [2] * 2)
    rows, model = training.Rows(np.eye(8, 3), y), mlp(generator(0), (3, 3))
    plan = training.Plan("proportion", batch_size=4)
    _, record = training.one_pass(plan, training.start(model, plan), rows, rows, 0)
    np.testing.assert_allclose(record.weights, [8 / 6 / 2] * 6 + [8 / 2 / 2] * 2, rtol=1e-6)
    with pytest.raises(mg.DTypeError, match="labels are the integers"):
        training.one_pass(plan._replace(method="uniform"), training.start(model, plan), training.Rows(rows.x, y / 2), rows, 0)


def small(rng):
    """Return a network with batch normalization and dropout, of three features and three classes."""
    return nn.Sequential((nn.Linear.init(rng, 3, 6), nn.BatchNorm.init(6), nn.Dropout(0.5), mg.relu, nn.Linear.init(rng, 6, 3)))


@pytest.mark.parametrize("method", training.METHODS)
def test_two_passes_step_by_step(method):
    """Batches in an order of each pass, a part of the clean set in each step, masks for each use; the record of what was used."""
    rng = generator(9)
    rows, clean = (training.Rows(rng.normal(size=(n, 3)).astype("float32"), rng.integers(0, 3, n)) for n in (20, 9))
    used = np.setdiff1d(np.arange(20), [2, 11, 13])
    plan = training.Plan(method, rate=0.02, weight_decay=0.1, batch_size=7, clean_batch_size=5, seed=3)
    now = training.start(small(generator(0)), plan)
    model, averages, state = small(generator(0)), now.averages, optim.adam(weight_decay=0.1).init(now.model)
    factors = len(used) / np.bincount(rows.y[used]) / 3 if method == "proportion" else np.ones(3)
    for number in (4, 5):
        now, record = training.one_pass(plan, now, rows, clean, number, used)
        weights, means, told = np.zeros(20), [], []
        order = generator((3, 3, number)).permutation(used)
        for k, at in enumerate(np.array_split(order, 3)):   # 6 + 6 + 5 of at most 7
            some = generator((3, 4, number, k, 0)).choice(9, 5, replace=False)

            def losses(model, part=rows, indices=at, mask=(3, 4, number, k, 2), averages=averages):
                scores, moved = model.apply(part.x[indices], averages, True, mask)
                return nn.cross_entropy(scores, part.y[indices]), moved

            def clean_loss(model, losses=losses, some=some, mask=(3, 4, number, k, 1)):
                return mg.mean(losses(model, clean, some, mask)[0])
            each, moved = losses(model)
            if method == "reweight":
                r = mg.reweight.reweighted_gradient(losses, clean_loss, model, has_aux=True)
                gradient, w = r.gradient, r.weights
                told.append(len(at) / 17 * float(r.clean_loss))
            else:
                w = (factors[rows.y[at]] / len(at)).astype("float32")
                gradient = mg.grad(lambda model, w=w, losses=losses: mg.sum(w * losses(model)[0]))(model)
            weights[at] = w * len(at)
            means.append(len(at) / 17 * float(mg.mean(each)))
            model, state = optim.adam(weight_decay=0.1).update(gradient, state, model, 0.02)
            averages = moved
        for found, expected in ((now.model, model), (now.averages, averages)):
            for a, b in zip(tree.flatten(found)[0], tree.flatten(expected)[0], strict=True):
                np.testing.assert_allclose(mg.to_host(a), mg.to_host(b), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(record.weights, weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(record.positive, weights > 0)
        assert record.loss == pytest.approx(math.fsum(means), rel=1e-5) and record.clean_loss == pytest.approx(math.fsum(told), rel=1e-5)
        assert weights[[2, 11, 13]].sum() == 0 and (method != "reweight" or 3 <= np.sum(weights == 0) < 20)
    scores = model.apply(rows.x, averages, False)[0]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(training.probabilities(now, rows.x), p, rtol=1e-3, atol=1e-5)
    by_class = [-np.log(p[rows.y == c, c]).mean() for c in range(3)]
    assert training.balanced_loss(now, rows) == pytest.approx(np.mean(by_class), rel=1e-3) and len({*np.bincount(rows.y)}) > 1


def test_a_loss_in_evaluation_is_finite_and_exact_for_the_least_likely():
    """-log p of scores (0, z) is about z, up to that of the smallest float32."""
    model = nn.Linear(np.eye(2, dtype="float32"), np.zeros(2, "float32"))
    for z, loss in ((20.0, 20.0), (200.0, -math.log(np.finfo("float32").tiny))):
        now = training.Fitted(model, model.init_state(), None)
        assert training.balanced_loss(now, training.Rows(np.array([[0, z]]), np.array([0]))) == pytest.approx(loss, rel=1e-5)


def test_a_clean_loss_that_is_not_finite_ends_the_pass():
    rows, model = training.Rows(np.eye(4, 3), np.array([0, 1, 2, 0])), mlp(generator(0), (3, 3))
    plan = training.Plan()
    with np.errstate(all="ignore"), pytest.raises(DataError, match="the loss of pass 8 is not finite"):
        training.one_pass(plan, training.start(model, plan), rows, training.Rows(rows.x * np.nan, rows.y), 7)
    with pytest.raises(DataError, match="batch_size = 0 is not an integer"):            # settings may be replaced between passes
        training.one_pass(plan._replace(batch_size=0), training.start(model, plan), rows, rows, 0)
    with pytest.raises(DataError, match="share = 1.0 is not a number between 0 and 1"):
        training.check_number("share", 1.0, 1.0)
    training.check_number("share", 0.999, 1.0)


def test_rows_by_a_mask_are_those_by_index_and_none_are_refused():
    rows, model = training.Rows(np.eye(6, 3), np.array([0, 1, 2, 0, 1, 2])), mlp(generator(0), (3, 3))
    plan = training.Plan("uniform", batch_size=2)
    now = training.start(model, plan)
    mask = np.array([True, False, True, True, False, False])
    for a, b in zip(*(tree.flatten(training.one_pass(plan, now, rows, rows, 0, used))[0] for used in (mask, np.flatnonzero(mask)))):
        np.testing.assert_array_equal(a, b)
    for used, clean, says in ((mask & False, rows, "the training set has no row"), ([], rows, "the training set has no row"), (mask, rows.take(np.arange(0)), "the clean set has no row")):
        with pytest.raises(DataError, match=f"one_pass: {says}\n  help: "):
            training.one_pass(plan._replace(method="reweight"), now, rows, clean, 0, used)
    training.one_pass(plan, now, rows, rows.take(np.arange(0)), 0, mask)                    # which no other method reads


def test_what_is_held_out_and_what_is_clean_by_hand():
    """A fifth of each class, rounded, and one at least; then a fifth of the rest, equally many of each class."""
    y = np.array([0] * 13 + [1] * 4 + [2] * 2)
    rows, rng = training.Rows(np.arange(19), y), generator((6, 2))
    out = np.concatenate([rng.permutation(np.arange(first, last))[:count] for first, last, count in ((0, 13, 3), (13, 17, 1), (17, 19, 1))])
    np.testing.assert_array_equal(training.hold_out(y, 0.2, 6), out)
    rest, draw = np.setdiff1d(np.arange(19), out), generator((6, 1))
    share = np.concatenate([draw.choice(rest[y[rest] == c], 1, replace=False) for c in range(3)])         # 0.2 of 14 among three: 1
    clean, validation, left_out = training.divide(rows, None, 0.2, 0.2, 6)
    for found, expected in ((clean.x, share), (validation.x, out), (left_out, out), (clean.y, y[share]), (validation.y, y[out])):
        np.testing.assert_array_equal(found, expected)
    draw, many = generator((6, 1)), np.repeat([0, 1], [40, 20])
    np.testing.assert_array_equal(training.balanced_share(many, np.arange(60), 0.2, 6),
                                  np.concatenate([draw.choice(np.arange(40), 6, replace=False), draw.choice(np.arange(40, 60), 6, replace=False)]))
    for known in (100 + np.arange(19), np.arange(0)):       # rows of the training set, or others
        clean, validation, left_out = training.divide(training.Rows(None, None), training.CleanSet(rows, known), 0.2, 0.5, 6)
        np.testing.assert_array_equal(clean.x, rest)
        np.testing.assert_array_equal(validation.x, out)
        np.testing.assert_array_equal(left_out, 100 + out if len(known) else [])
    clean, validation, left_out = training.divide(rows, training.CleanSet(rows, known), 0, 0.5, 6)
    assert (len(clean.y), len(validation.y), len(left_out)) == (19, 0, 0)


def test_the_default_network_is_an_mlp_of_flat_examples():
    network, flat = training.default_network(generator(0), (2, 3), 4, (5, 7)), mlp(generator(0), (6, 5, 7, 4))
    assert [type(layer) for layer in network.layers[1:]] == [type(layer) for layer in flat.layers]
    for a, b in zip(tree.flatten(network)[0], tree.flatten(flat)[0], strict=True):
        assert np.array_equal(a, b)
    x = generator(1).normal(size=(9, 2, 3)).astype("float32")
    assert np.array_equal(network(x), flat(x.reshape(9, 6)))
    assert [leaf.shape for leaf in tree.flatten(training.default_network(generator(0), (6,), 4))[0]] == [(6, 100), (100,), (100, 4), (4,)]


@pytest.mark.parametrize("method", training.METHODS)
@pytest.mark.parametrize("power", [0, 5, 10, 17, 18, 19, 30, 37])
def test_training_moves_the_parameters_or_says_why_not(method, power):
    """Whatever the size of the features: a column of nanoseconds since 1970 has 1.7e18."""
    x = generator(0).normal(size=(40, 3)) * [1.0, 1.0, 10.0 ** power]
    rows, plan, model = training.Rows(x.astype("float32"), (x[:, 0] > 0).astype(int)), training.Plan(method, weight_decay=0.0), mlp(generator(0), (3, 5, 2))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            now, record = training.one_pass(plan, training.start(model, plan), rows, rows.take(np.arange(10)), 0)
    except DataError as error:
        assert power > 10 and "pass 1 is not finite\n  help: standardize the examples" in str(error)
        return
    assert all(np.isfinite(mg.to_host(leaf)).all() for leaf in tree.flatten(now)[0]) and record.weights.any()
    assert any((mg.to_host(a) != mg.to_host(b)).any() for a, b in zip(tree.flatten(now.model)[0], tree.flatten(model)[0]))


@pytest.mark.parametrize("settings", [{"rate": 1e20}, {"weight_decay": 1e39}, {"rate": 1e38}])
def test_parameters_that_are_not_finite_end_the_pass(settings):
    """The loss of the last step is that before the update."""
    x = generator(0).normal(size=(40, 3))
    rows, plan, model = training.Rows(x, (x[:, 0] > 0).astype(int)), training.Plan(**settings), mlp(generator(0), (3, 5, 5, 2))
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DataError, match="(a parameter, or the optimizer's state, after|the loss of) pass . is not finite"):
        now = training.start(model, plan)
        for number in range(3):
            now, _ = training.one_pass(plan, now, rows, rows, number)


@pytest.mark.parametrize("x, y, used, says", [
    (np.ones((9, 3)), np.zeros(9, int), np.ones(8, bool), "used is neither a mask of 9 rows nor indices"), (np.ones((9, 3)), np.zeros(9, int), np.ones((9, 1), bool), "used is neither a mask of 9 rows nor indices"),
    (np.ones((9, 3)), np.zeros(9, int), [0, 0], "used has the same index twice"), (np.ones((9, 3)), np.zeros(9, int), [9], "a mask of 9 bools, or different indices from 0 to 8"),
    (np.ones((9, 3)), np.zeros(9, int), [-1], "used has indices from -1 to -1, of 9 rows"), (np.ones((9, 3)), np.zeros(9, int), [0.5], "used is neither a mask of 9 rows nor indices"),
    (np.ones((9, 3)), np.zeros(8, int), None, "rows are examples without a label each"), (np.ones((9, 3)), np.zeros(10, int), None, "as many labels as examples"),
    (np.ones((9, 3)).tolist(), np.zeros(9, int), None, r"a list and a ndarray, not two arrays\n  help: Rows"), (np.ones((9, 3)), [0] * 9, None, "a ndarray and a list")])
def test_rows_that_do_not_belong_together_are_refused(x, y, used, says):
    plan, good = training.Plan(), training.Rows(np.ones((9, 3)), np.zeros(9, int))
    now = training.start(mlp(generator(0), (3, 2)), plan)
    with pytest.raises(DataError, match=says):
        training.one_pass(plan, now, training.Rows(x, y), good, 0, used)
    if used is None:
        with pytest.raises(DataError, match=says.replace("rows are", "clean are")):
            training.one_pass(plan, now, good, training.Rows(x, y), 0)
        training.one_pass(plan._replace(method="uniform"), now, good, training.Rows(x, y), 0)         # which does not read it


def test_a_held_out_loss_that_is_not_finite_is_an_error():
    model = mlp(generator(0), (1, 9, 2))
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DataError, match="the loss of held-out examples is not finite\n  help: standardize"):
        training.balanced_loss(training.Fitted(model, None, None), training.Rows(np.full((2, 1), 3e38), np.array([0, 1])))


def test_no_rows_have_no_probabilities():
    network = training.default_network(generator(0), (2, 3), 4)
    now = training.Fitted(network, network.init_state(), None)
    assert training.flatten(np.zeros((0, 2, 3))).shape == (0, 6) and training.flatten(np.zeros(5)).shape == (5, 1)
    assert training.probabilities(now, np.zeros((0, 2, 3))).shape == (0, 4)


def test_an_example_without_a_score_has_no_weight_and_stops_nothing():
    """Its loss is finite and the slope of the root at 0 is not; where no example has a score the pass is an error."""
    class Root(nn.Module):
        layer: nn.Linear

        def __call__(self, x):
            return mg.sqrt(mg.abs(mg.matmul(x, self.layer.weight)))
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    x[7] = 0.0
    rows, plan = training.Rows(x, np.arange(60) % 3), training.Plan(batch_size=20)
    with np.errstate(all="ignore"):
        now, record = training.one_pass(plan, training.start(Root(nn.Linear.init(mg.backend.generator(0), 4, 3)), plan), rows, rows.take(np.arange(30, 60)), 0)
    assert record.weights[7] == 0 and not record.positive[7] and record.positive.sum() > 10 and np.isfinite(training.probabilities(now, x)).all()
    with np.errstate(all="ignore"), pytest.raises(DataError, match="every example's score in pass 1 is not finite"):
        training.one_pass(plan, now, training.Rows(0 * x, np.arange(60) % 3), rows.take(np.arange(30, 60)), 0)


@pytest.mark.parametrize("method", ["reweight", "uniform", "proportion"])
@pytest.mark.parametrize("wrong", [lambda each: each[:, None], mg.mean, lambda each: mg.concatenate([each, each])])
def test_every_method_refuses_a_loss_that_is_not_one_for_each_example(method, wrong):
    """It would be broadcast: a gradient of so many times the size, or one without the weights of the classes."""
    x = generator(0).normal(size=(8, 3)).astype("float32")
    rows, plan = training.Rows(x, (x[:, 0] > 0).astype(int)), training.Plan(method, loss=lambda s, y: wrong(nn.cross_entropy(s, y)))
    with pytest.raises(mg.ShapeError, match="one_pass: plan.loss.scores, y. must return one loss per example"):
        training.one_pass(plan, training.start(mlp(generator(0), (3, 2)), plan), rows, rows, 0)


@pytest.mark.parametrize("y", [np.zeros((6, 1)), np.zeros(6), np.array([0, 1, 0, -1, 0, 1])])
def test_classes_are_balanced_where_there_are_classes(y):
    rows, plan = training.Rows(np.ones((6, 3), "float32"), y), training.Plan("proportion", loss=nn.squared_error)
    with pytest.raises(DataError, match="method 'proportion' weights classes, and y are not classes"):
        training.one_pass(plan, training.start(mlp(generator(0), (3, 1)), plan), rows, rows, 0)


@pytest.mark.parametrize("settings", [{"seed": -1}, {"seed": None}, {"seed": 0.5}, {"loss": 3}, {"loss": "cross_entropy"}, {"method": "boost"}, {"rate": 0.0}, {"rate": math.nan}, {"weight_decay": -1.0}, {"batch_size": 0}, {"clean_batch_size": 1.5}])
def test_settings_out_of_range_are_refused_at_the_start(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        training.start(mlp(generator(0), (3, 2)), training.Plan(**settings))
