"""Algorithm 1: three implementations that agree, and properties of the weights."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import grad, nn, optim, tree
from minigrad.backend import generator
from minigrad.models import lenet, mlp
from minigrad.reweight import example_weights, example_weights_unrolled, normalize, reweighted_gradient

from .test_device import without_host_reads


def float64(model):
    return tree.map(lambda p: p.astype("float64"), model)


def batch_normalized(rng):
    return nn.Sequential((
        nn.Conv2d.init(rng, 1, 4, padding="same", bias=False), nn.BatchNorm.init(4), mg.relu,
        nn.Conv2d.init(rng, 4, 4, stride=2, padding="same", bias=False), nn.BatchNorm.init(4), mg.relu,
        lambda x: mg.mean(x, (1, 2)), nn.Linear.init(rng, 4, 3)))


def problem(name, key=0, order=slice(None)):
    """Return losses, clean_loss and a model in float64, on random images with random labels. order: of the noisy examples."""
    rng = generator(key)
    model, shape, loss, classes = {
        "mlp": (lambda: mlp(rng, (6, 8, 3)), (6,), nn.cross_entropy, 3),
        "lenet": (lambda: lenet(rng), (28, 28, 1), nn.sigmoid_cross_entropy, 2),
        "batch norm": (lambda: batch_normalized(rng), (8, 8, 1), nn.cross_entropy, 3),
    }[name]
    x, y = rng.normal(size=(12, *shape)), rng.integers(0, classes, 12)
    x_clean, y_clean = rng.normal(size=(5, *shape)), rng.integers(0, classes, 5)
    x, y = x[order], y[order]
    return (lambda m: loss(m(x), y)), (lambda m: mg.mean(loss(m(x_clean), y_clean))), float64(model())


@pytest.mark.parametrize("name", ["mlp", "lenet", "batch norm"])
def test_three_ways_agree(name):
    losses, clean_loss, model = problem(name)
    r = reweighted_gradient(losses, clean_loss, model)
    forward = example_weights(losses, clean_loss, model)
    assert 0 < (forward > 0).sum() < 12
    np.testing.assert_allclose(r.weights, forward, atol=1e-12)
    for rate in (0.1, 1.0):                                 # α cancels
        np.testing.assert_allclose(example_weights_unrolled(losses, clean_loss, model, rate), forward, atol=1e-6, rtol=1e-6)
    by_hand = grad(lambda m: mg.sum(r.weights * losses(m)))(model)
    for a, b in zip(tree.flatten(r.gradient)[0], tree.flatten(by_hand)[0]):
        np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(r.losses, losses(model))
    np.testing.assert_allclose(r.clean_loss, clean_loss(model))
    for weights in (example_weights, example_weights_unrolled):     # one function of losses serves all three
        np.testing.assert_array_equal(weights(lambda m: (losses(m), "aux"), clean_loss, model, has_aux=True), weights(losses, clean_loss, model))
        with pytest.raises(mg.ShapeError, match="has_aux: f must return a pair"):
            weights(losses, clean_loss, model, has_aux=True)


@given(st.data())
def test_three_ways_agree_whatever_the_images(data):
    args = drawn(data)
    forward, both = example_weights(*args), reweighted_gradient(*args).weights
    unrolled = example_weights_unrolled(*args, rate=data.draw(st.sampled_from([0.01, 1.0, 10.0])))
    np.testing.assert_allclose(both, forward, atol=1e-12)
    np.testing.assert_allclose(unrolled, forward, atol=1e-8)
    np.testing.assert_allclose(example_weights_unrolled(*args), forward, atol=1e-8)


def test_scores_are_the_finite_difference_of_the_look_ahead():
    losses, clean_loss, model = problem("batch norm")
    scores = reweighted_gradient(losses, clean_loss, model).scores

    def after(eps):
        gradient = grad(lambda m: mg.sum(eps * losses(m)))(model)
        return clean_loss(tree.map(lambda p, g: p - 0.1 * g, model, gradient))
    for i in range(12):
        h = np.zeros(12)
        h[i] = 1e-5
        np.testing.assert_allclose(-(after(h) - after(-h)) / 2e-5 / 0.1, scores[i], atol=1e-6)
    assert after(np.zeros(12)) == clean_loss(model)         # the look-ahead parameters equal θ ...
    assert abs(scores).max() > 1e-3                         # ... but their derivative is not 0


def test_any_differentiable_look_ahead():
    losses, clean_loss, model = problem("mlp")
    plain = example_weights(losses, clean_loss, model)
    optimizer = optim.sgd(momentum=0.9)                # from rest, its first step is plain descent
    state = optimizer.init(model)
    same = example_weights_unrolled(losses, clean_loss, model,
                                    lookahead=lambda p, g: optimizer.update(g, state, p, 0.1)[0])
    np.testing.assert_allclose(same, plain, atol=1e-9)
    moving = tree.map(lambda p: 0.1 * np.sign(p), state | {"momentum": model})
    other = example_weights_unrolled(losses, clean_loss, model,
                                     lookahead=lambda p, g: optimizer.update(g, moving, p, 0.1)[0])
    assert abs(other - plain).max() > 1e-3 and abs(other.sum() - 1) < 1e-9


def drawn(data):
    """Draw a problem: its kind, images and labels."""
    return problem(data.draw(st.sampled_from(["mlp", "batch norm"])), data.draw(st.integers(0, 999)))


@given(st.data())
def test_weights_are_a_distribution_or_nothing(data):
    losses, clean_loss, model = drawn(data)
    sign = data.draw(st.sampled_from([1.0, -1.0]))
    r = reweighted_gradient(losses, lambda m: sign * clean_loss(m), model)
    assert (r.weights >= 0).all() and np.isfinite(r.weights).all()
    assert abs(r.weights.sum() - 1.0) < 1e-12 or (r.weights == 0).all() and (r.scores <= 0).all()
    np.testing.assert_array_equal(r.weights > 0, r.scores > 0)


@given(st.data())
def test_permuting_examples_permutes_weights(data):
    name, key = data.draw(st.sampled_from(["mlp", "batch norm"])), data.draw(st.integers(0, 999))
    order = np.array(data.draw(st.permutations(range(12))))
    for weights in (example_weights, lambda *args: reweighted_gradient(*args).weights):
        np.testing.assert_allclose(weights(*problem(name, key, order)), weights(*problem(name, key))[order], atol=1e-11)


@given(st.integers(0, 999), st.integers(0, 11))
def test_a_duplicate_gets_the_same_weight(key, which):
    """The pair gets the weights of two examples with that score, and the others keep their ratios."""
    w = example_weights(*problem("mlp", key))
    for weights in (example_weights, lambda *args: reweighted_gradient(*args).weights):
        w2 = weights(*problem("mlp", key, np.append(np.arange(12), which)))
        assert abs(w2[-1] - w2[which]) <= 1e-12
        np.testing.assert_allclose(w2[:12] * (1.0 + w[which]), w, atol=1e-9)


@given(st.integers(0, 999), st.integers(1, 6))
def test_what_opposes_the_clean_direction_gets_nothing_whatever_the_rest(key, n):
    """Linear losses, so that the test chooses their gradients and the sign of each with respect to the clean one."""
    rng = generator(key)
    gradients, clean, p = rng.normal(size=(n, 5)), rng.normal(size=5), rng.normal(size=5)
    w = reweighted_gradient(lambda p: mg.matmul(gradients, p), lambda p: mg.sum(clean * p), p).weights
    against = gradients @ clean <= 0
    assert (w[against] == 0).all() and (w[~against] > 0).all()
    helps = np.maximum(gradients @ clean, 0)
    np.testing.assert_allclose(w, helps / helps.sum() if helps.any() else 0.0 * helps, atol=1e-12)


def test_what_opposes_the_clean_direction_gets_nothing():
    p = np.array([1.0, 2.0])
    sides = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    r = reweighted_gradient(lambda p: mg.matmul(sides, p), lambda p: 3.0 * p[0], p)
    np.testing.assert_allclose(r.weights, [0.5, 0, 0, 0.5])
    np.testing.assert_allclose(r.gradient, [1, 0])
    r = reweighted_gradient(lambda p: mg.matmul(-sides[:1], p), lambda p: p[0], p)
    assert r.weights.tolist() == [0] and r.gradient.tolist() == [0, 0]      # nobody helps: no weight, no NaN


@given(st.data())
def test_one_small_step_lowers_the_clean_loss(data):
    losses, clean_loss, model = drawn(data)
    r = reweighted_gradient(losses, clean_loss, model)
    slope = sum((g * v).sum() for g, v in zip(tree.flatten(r.gradient)[0], tree.flatten(grad(clean_loss)(model))[0]))
    np.testing.assert_allclose(slope, (r.weights * r.scores).sum(), rtol=1e-9, atol=1e-12)
    assert slope >= 0.0
    if slope > 1e-3:
        assert clean_loss(tree.map(lambda p, g: p - 1e-5 * g, model, r.gradient)) < r.clean_loss


@given(st.data())
def test_the_look_ahead_stands_still_and_yet_has_a_derivative(data):
    """At epsilon = 0 the look-ahead parameters are theta; their derivative in epsilon_i is -alpha times a gradient."""
    losses, _, model = drawn(data)
    eps, rate = np.zeros(12), 0.3

    def look_ahead(eps):
        return tree.map(lambda p, g: p - rate * g, model, grad(lambda m: mg.sum(eps * losses(m)))(model))
    i = data.draw(st.integers(0, 11))
    theta, moves = mg.jvp(look_ahead, (eps,), (np.eye(12)[i],))
    for a, b in zip(tree.flatten(theta)[0], tree.flatten(model)[0], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(tree.flatten(moves)[0], tree.flatten(grad(lambda m: losses(m)[i])(model))[0], strict=True):
        np.testing.assert_allclose(a, -rate * b, atol=1e-10)
    assert any(abs(a).max() > 1e-6 for a in tree.flatten(moves)[0])


def test_weights_are_constants_and_plain():
    losses, clean_loss, model = problem("mlp")
    r = reweighted_gradient(losses, clean_loss, model)
    for leaf in (r.weights, r.scores, r.losses):
        assert type(leaf) is np.ndarray
    scale = np.arange(1.0, 13.0)                            # it changes the weights, and still no derivative flows

    def weight(s, call):
        return call(lambda m: (1.0 + s * scale) * losses(m), clean_loss, model)[np.argmax(r.weights)]
    assert grad(lambda s: weight(s, lambda *a: reweighted_gradient(*a).weights))(1.0) == 0.0
    assert grad(lambda s: weight(s, example_weights))(1.0) != 0.0


def test_averages_of_batch_norm_come_from_the_noisy_pass_alone():
    """The noisy batch updates them once; neither the clean pass nor the weighting reads or writes them."""
    _, _, model = problem("batch norm")
    x, y = generator(3).normal(size=(6, 8, 8, 1)), np.zeros(6, int)
    clean, state = generator(4).normal(size=(4, 8, 8, 1)), model.init_state()
    before = [leaf.copy() for leaf in tree.flatten(state)[0]]
    seen = []

    def losses(m):
        scores, new = m.apply(x, state)
        return nn.cross_entropy(scores, y), new

    def clean_loss(m):
        scores, moved = m.apply(clean, state)               # returned, and dropped
        seen.append(tree.flatten(moved)[0])
        return mg.mean(nn.cross_entropy(scores, y[:4]))
    r = reweighted_gradient(losses, clean_loss, model, has_aux=True)
    for new, noisy, clean_one, old, copy in zip(tree.flatten(r.aux)[0], tree.flatten(model.apply(x, state)[1])[0], seen[0],
                                                tree.flatten(state)[0], before, strict=True):
        np.testing.assert_array_equal(new, noisy)
        np.testing.assert_array_equal(old, copy)
        assert type(new) is np.ndarray and abs(new - clean_one).max() > 1e-4
    stateless = reweighted_gradient(lambda m: nn.cross_entropy(m(x), y), lambda m: mg.mean(nn.cross_entropy(m(clean), y[:4])), model)
    np.testing.assert_array_equal(r.weights, stateless.weights)


@pytest.mark.parametrize("scores, weights", [([1.0, -2.0, 3.0], [0.25, 0, 0.75]), ([-1.0, -2.0], [0, 0]), ([0.0], [0])])
def test_normalize(scores, weights):
    w = normalize(np.array(scores, np.float32))
    assert w.dtype == np.float32 and w.tolist() == weights


# ------------------------------------------------------------------------- examples that are not finite

def spoiled(name, key, rows, value, dtype="float64"):
    """Return losses of the batch with this value in these rows, losses of the batch without the rows, clean loss and model."""
    rng = generator(key)
    model, s, loss = {
        "mlp": (lambda: mlp(rng, (6, 8, 3)), (6,), nn.cross_entropy),
        "lenet": (lambda: lenet(rng), (28, 28, 1), nn.sigmoid_cross_entropy),
        "checkpointed": (lambda: nn.Sequential((nn.Linear.init(rng, 6, 9), nn.Checkpoint(mlp(rng, (9, 8, 3))))), (6,),
                         nn.cross_entropy),
        "masked": (lambda: mlp(rng, (6, 8, 3)), (6,), lambda z, y: nn.cross_entropy(mg.where(MASK[y], z, -np.inf), y)),
    }[name]
    x, y = rng.normal(size=(9, *s)).astype(dtype), rng.integers(0, 2, 9)
    x_clean, y_clean = rng.normal(size=(5, *s)).astype(dtype), rng.integers(0, 2, 5)
    dirty, rest = x.copy(), np.setdiff1d(np.arange(9), rows)
    for row in rows:
        dirty[row].reshape(-1)[rng.integers(0, dirty[row].size)] = value
    model = tree.map(lambda p: mg.xp.asarray(mg.to_host(p).astype(dtype)), model())
    x_clean, y_clean, dirty, y, x, y_rest = map(mg.xp.asarray, (x_clean, y_clean, dirty, y, x[rest], y[rest]))
    return ((lambda m: loss(m(dirty), y)), (lambda m: loss(m(x), y_rest)),
            (lambda m: mg.mean(loss(m(x_clean), y_clean))), model, rest)


MASK = np.array([[True, True, False], [True, True, False], [False, True, True]])       # no logit for the third class


@given(st.sampled_from(["mlp", "checkpointed", "masked"]), st.integers(0, 999), st.sets(st.integers(0, 8), min_size=1, max_size=4),
       st.sampled_from([np.nan, np.inf, -np.inf]))
def test_an_example_that_is_not_finite_is_as_if_it_were_not_there(name, key, rows, value):
    check_spoiled(name, key, sorted(rows), value)


@pytest.mark.parametrize("value", [np.nan, 1e308])
def test_a_pixel_that_is_not_finite(value):
    check_spoiled("lenet", 0, [2, 5], value)


def check_spoiled(name, key, rows, value):
    with np.errstate(all="ignore"):
        losses, without, clean_loss, model, rest = spoiled(name, key, rows, value)
        r, expected = reweighted_gradient(losses, clean_loss, model), reweighted_gradient(without, clean_loss, model)
        bad = ~np.isfinite(losses(model)) | ~np.isfinite(r.scores)
        assert bad[rows].all() or not np.isnan(value) and name != "lenet"      # ReLU maps -inf to 0
        if not bad[rows].all():
            return
        assert r.not_finite == len(rows) and not expected.not_finite and not r.weights[rows].any()
        np.testing.assert_allclose(r.weights[rest], expected.weights, atol=1e-12)
        for a, b in zip(tree.flatten(r.gradient)[0], tree.flatten(expected.gradient)[0], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        for weights in (example_weights, example_weights_unrolled):
            w = weights(losses, clean_loss, model)
            np.testing.assert_allclose(w[rest], expected.weights, atol=1e-9)
            assert not w[rows].any()


LOST = {"log 0": lambda z, scale: mg.log(z * z * scale), "root of less than 0": lambda z, scale: mg.sqrt(0.01 * (scale - 1.0) + z * z * scale),
        "1 / 0": lambda z, scale: 1.0 / (z * z * scale), "infinite": lambda z, scale: z + np.log(scale),
        "root of 0": lambda z, scale: mg.sqrt(z * z * scale), "transposed": lambda z, scale: mg.sum(mg.log(mg.stack([z * z * scale, z * z])), axis=0)}


@pytest.mark.parametrize("name", LOST)
def test_a_loss_that_is_not_finite(name):
    """The network itself is finite: no derivative of that loss gets through.

    At the root of 0 the loss is finite, and its score is not. One hidden layer has as many units as the batch has examples.
    """
    model = float64(mlp(generator(0), (4, 6, 1), mg.tanh))
    x, scale = generator(1).normal(size=(6, 4)), np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    rest = np.array([0, 1, 3, 4, 5])

    def losses(rows):
        return lambda m: LOST[name](m(x[rows])[:, 0], scale[rows])
    with np.errstate(all="ignore"):
        r = reweighted_gradient(losses(slice(None)), lambda m: mg.mean(m(x) ** 2), model)
    expected = reweighted_gradient(losses(rest), lambda m: mg.mean(m(x) ** 2), model)
    assert r.not_finite == 1 and r.weights[2] == 0 and expected.weights.any()
    np.testing.assert_allclose(r.weights[rest], expected.weights, atol=1e-12)
    for a, b in zip(tree.flatten(r.gradient)[0], tree.flatten(expected.gradient)[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


N = 6
SQUARE = generator(5).normal(size=(N, N)) + 3.0 * np.eye(N)
BESIDE = {                                                  # h, (N, N) or fewer rows; arrays with as many rows as the batch has, which are not of the batch
    "frozen layer": lambda h: h @ SQUARE, "bias": lambda h: h + SQUARE[0], "scale": lambda h: h * SQUARE[1], "identity": lambda h: h @ np.eye(N), "triangle": lambda h: h @ np.tri(N),
    "clipped": lambda h: mg.clip(h, -np.abs(SQUARE[0]), np.abs(SQUARE[1])), "gain": lambda h: nn.layer_norm(h, SQUARE[0], SQUARE[1]), "transposed": lambda h: mg.transpose(SQUARE @ mg.transpose(h)),
    "solved": lambda h: mg.transpose(mg.linalg.solve(SQUARE, mg.transpose(h))), "attention": lambda h: mg.softmax(h @ SQUARE + np.where(np.tri(N) > 0, 0.0, -np.inf)[N // 2]),
    "causal": lambda h: mg.reshape(mg.softmax(h[:, :, None] * SQUARE[0] + np.where(np.tri(N) > 0, 0.0, -np.inf)) @ SQUARE[:, :1], (len(h), N)),
    "prior": lambda h: h + np.log(np.abs(SQUARE[2]))}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", BESIDE)
def test_constants_as_long_as_the_batch_are_not_of_it(name, value):
    """A prior of 100 logits, say, with 100 images: left out is the example, and nothing else."""
    f, w = BESIDE[name], {"w": generator(6).normal(size=(3, N)), "v": generator(7).normal(size=(N, 3))}
    x, clean, y, rest = generator(8).normal(size=(N, 3)), generator(9).normal(size=(5, 3)), np.arange(N) % 3, np.array([0, 2, 3, 4, 5])
    dirty = x.copy()
    dirty[1, 0] = value

    def losses(x, y):
        return lambda m: nn.cross_entropy(f(mg.sin(x @ m["w"])) @ m["v"], y)
    with np.errstate(all="ignore"):
        args = losses(dirty, y), lambda m: mg.mean(losses(clean, y[:5])(m)), w
        r, expected = reweighted_gradient(*args), reweighted_gradient(losses(x[rest], y[rest]), *args[1:])
        assert r.not_finite == 1 and not r.weights[1] and expected.weights.any()
        if (name, value) == ("causal", np.inf):             # an infinity that is meant, at the place of one that is not
            assert zero(r.gradient) and not example_weights_unrolled(*args).any()
            return
        for found in (r.weights, example_weights(*args), example_weights_unrolled(*args)):
            np.testing.assert_allclose(found[rest], expected.weights, atol=1e-9)
    for key in w:
        np.testing.assert_allclose(r.gradient[key], expected.gradient[key], atol=1e-12)


def zero(gradient):
    return all((mg.to_host(leaf) == 0).all() for leaf in tree.flatten(gradient)[0])


def test_what_cannot_be_told_apart_adds_nothing():
    """Cases in which the bad examples cannot be identified.

    Batch normalization spreads a NaN to all examples; a clean loss that is not finite has no direction; a batch may draw
    other random numbers when it runs again.
    """
    x, clean, y = generator(1).normal(size=(6, 8, 8, 1)), generator(2).normal(size=(4, 8, 8, 1)), np.zeros(6, int)
    dirty, calls = x.copy(), []
    dirty[2, 3, 3] = np.nan
    model, rng = float64(batch_normalized(generator(0))), generator(3)

    def loss(x):
        return lambda m: nn.cross_entropy(m(x), y[:len(x)])

    def drawn_anew(m):
        calls.append(None)
        return mg.sum(m["w"] * dirty[:, :, 0, 0] * rng.normal(), axis=1)
    with np.errstate(all="ignore"):
        for losses, clean_loss in ((loss(dirty), lambda m: mg.mean(loss(clean)(m))), (loss(x), lambda m: mg.mean(loss(dirty)(m))),
                                   (loss(x), lambda m: mg.mean(loss(clean)(m)) / 0.0),
                                   (loss(x), lambda m: mg.mean(loss(clean)(m)) + np.inf)):      # whose slope is finite
            r = reweighted_gradient(losses, clean_loss, model)
            assert r.not_finite == 6 and not r.weights.any() and zero(r.gradient)
            for weights in (example_weights, example_weights_unrolled):
                assert not weights(losses, clean_loss, model).any()
        dirty[2, 0] = np.nan
        r = reweighted_gradient(drawn_anew, lambda m: mg.sum(m["w"]), {"w": np.ones(8)})
    assert r.not_finite == 1 and r.weights[2] == 0 and zero(r.gradient) and len(calls) == 4


def test_a_finite_batch_is_run_once():
    losses, clean_loss, model = problem("mlp")
    calls = []
    r = reweighted_gradient(lambda m: (losses(m), calls.append(None))[0], clean_loss, model)
    assert len(calls) == 1 and r.not_finite == 0


def test_examples_that_are_not_finite_on_each_device(device):
    """Weights on each device, and the gradient where it needs no waiting; nothing is read from a device."""
    with np.errstate(all="ignore"):
        losses, without, clean_loss, model, rest = spoiled("mlp", 5, [3, 7], np.nan, "float32")
        with without_host_reads():
            r, w = reweighted_gradient(losses, clean_loss, model), example_weights(losses, clean_loss, model)
            unrolled = example_weights_unrolled(losses, clean_loss, model)
        expected = reweighted_gradient(without, clean_loss, model)
    assert int(r.not_finite) == 2 and not mg.to_host(r.weights)[[3, 7]].any()
    for found in (r.weights, w):
        np.testing.assert_allclose(mg.to_host(found)[rest], mg.to_host(expected.weights), atol=1e-6)
    assert not zero(expected.gradient) and zero(r.gradient) == (device != "numpy")
    assert np.isfinite(mg.to_host(unrolled)).all() and mg.to_host(unrolled).any() == (device == "numpy")


@pytest.mark.parametrize("scores, weights", [([1.0, np.nan, 3.0], [0.25, 0, 0.75]), ([np.inf, 1.0], [0, 1]), ([np.nan], [0]), ([], [])])
def test_normalize_counts_what_is_not_finite_as_nothing(scores, weights):
    assert normalize(np.array(scores)).tolist() == weights


def test_normalize_in_half_precision_does_not_overflow():
    w = normalize(np.full(100, 6e4, np.float16))
    assert w.dtype == np.float16 and abs(w.astype(float).sum() - 1) < 1e-2


def test_the_first_step_of_adam_is_a_look_ahead():
    """From rest it divides by |g| + eps at g = 0: a derivative of 1 / eps for all examples, which cancels."""
    losses, clean_loss, model = problem("mlp")
    adam = optim.adam()
    state = adam.init(model)
    w = example_weights_unrolled(losses, clean_loss, model, lookahead=lambda p, g: adam.update(g, state, p, 1e-3)[0])
    np.testing.assert_allclose(w, example_weights(losses, clean_loss, model), atol=1e-9)


def test_examples_that_are_numbers():
    """(n,) and not (n, features): one that is not finite is as if it were not there."""
    x, y = np.array([0.5, -1.0, np.nan, 2.0, 1.5]), np.array([1.0, 0.0, 1.0, -1.0, 0.5])
    rest, p = np.array([0, 1, 3, 4]), {"a": np.float64(0.3), "b": np.float64(-0.2)}

    def losses(rows):
        return lambda p: mg.square(p["a"] * x[rows] + p["b"] - y[rows])
    r, expected = (reweighted_gradient(losses(rows), lambda p: mg.mean(losses(rest[1:])(p)), p) for rows in (slice(None), rest))
    assert r.not_finite == 1 and expected.gradient["a"] != 0
    np.testing.assert_allclose([r.gradient["a"], r.gradient["b"]], [expected.gradient["a"], expected.gradient["b"]], rtol=1e-12)


HIDDEN = {                                                  # the layer that reads the data: it may hide them
    "checkpoint": mg.checkpoint, "with_derivative": mg.with_derivative, "a rule": lambda f: mg.with_derivative(f, lambda *xs: (lambda y, pull: (y, lambda *ts: mg.jvp(f, xs, ts)[1], pull))(*mg.vjp(f, *xs)))}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_example_is_left_out_of_what_hides_it(name, value):
    """A checkpoint and a rule that close over the data, with a NaN in one example, are what they stand for."""
    x, y, w, rest = generator(0).normal(size=(6, 4)), np.arange(6) % 2, {"w": generator(1).normal(size=(4, 3)), "v": generator(2).normal(size=(3, 2))}, np.array([0, 2, 3, 4, 5])
    x[1, 0] = value

    def losses(hide, rows):
        return lambda m: nn.cross_entropy(mg.sin(hide(lambda w: x[rows] @ w)(m["w"])) @ m["v"], y[rows])
    with np.errstate(all="ignore"):
        args = lambda m: mg.mean(losses(lambda f: f, [2, 3])(m)), w      # noqa: E731
        r, expected = reweighted_gradient(losses(HIDDEN[name], slice(None)), *args), reweighted_gradient(losses(lambda f: f, rest), *args)
        unrolled = example_weights_unrolled(losses(HIDDEN[name], slice(None)), *args)
    assert r.not_finite == 1
    for found in (r.weights, unrolled):
        np.testing.assert_allclose(found, np.insert(expected.weights, 1, 0.0), atol=1e-9)
    for key in w:
        np.testing.assert_allclose(r.gradient[key], expected.gradient[key], atol=1e-12)


def test_weights_of_integers_and_lists():
    assert normalize(np.array([1, -1, 3])).tolist() == normalize([1.0, -1.0, 3.0]).tolist() == [0.25, 0.0, 0.75] and normalize(np.array([2], "uint8")).tolist() == [1.0]
