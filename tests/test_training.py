"""Training without scikit-learn: losses other than that of classes, and the record of what each example earned."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, training, tree
from minigrad.backend import generator
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


def test_the_default_network_is_an_mlp_of_flat_examples():
    network, flat = training.default_network(generator(0), (2, 3), 4, (5, 7)), mlp(generator(0), (6, 5, 7, 4))
    assert [type(layer) for layer in network.layers[1:]] == [type(layer) for layer in flat.layers]
    for a, b in zip(tree.flatten(network)[0], tree.flatten(flat)[0], strict=True):
        assert np.array_equal(a, b)
    x = generator(1).normal(size=(9, 2, 3)).astype("float32")
    assert np.array_equal(network(x), flat(x.reshape(9, 6)))
    assert [leaf.shape for leaf in tree.flatten(training.default_network(generator(0), (6,), 4))[0]] == [(6, 100), (100,), (100, 4), (4,)]
