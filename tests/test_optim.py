"""Optimizers against their formulas, and as differentiable functions."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim, tree
from minigrad.backend import generator
from minigrad.check import check_derivatives

from .test_device import without_host_reads

P = {"w": np.array([[1.0, -2.0]]), "b": np.array([3.0])}
G = {"w": np.array([[0.5, 0.25]]), "b": np.array([-1.0])}


def steps(optimizer, count):
    p, state = P, optimizer.init(P)
    for _ in range(count):
        p, state = optimizer.update(G, state, p, 0.1)
    return p


def test_sgd_by_hand():
    np.testing.assert_allclose(steps(optim.sgd(), 2)["w"], P["w"] - 0.2 * G["w"])
    np.testing.assert_allclose(steps(optim.sgd(momentum=0.9), 2)["b"], P["b"] - 0.1 * (1 + 1.9) * G["b"])
    np.testing.assert_allclose(steps(optim.sgd(momentum=0.9, nesterov=True), 1)["b"], P["b"] - 0.19 * G["b"])
    decayed = steps(optim.sgd(weight_decay=0.01), 1)
    np.testing.assert_allclose(decayed["w"], P["w"] - 0.1 * (G["w"] + 0.01 * P["w"]))
    np.testing.assert_allclose(decayed["b"], P["b"] - 0.1 * G["b"])     # a bias does not decay


def test_adam_by_hand():
    first = steps(optim.adam(), 1)
    np.testing.assert_allclose(first["w"], P["w"] - 0.1 * np.sign(G["w"]), rtol=1e-6)
    np.testing.assert_allclose(steps(optim.adam(), 3)["b"], P["b"] + 0.3, rtol=1e-6)     # a constant gradient
    decayed = steps(optim.adam(weight_decay=0.5), 1)
    np.testing.assert_allclose(decayed["w"], first["w"] - 0.05 * P["w"])


@pytest.mark.parametrize("optimizer", [optim.sgd(momentum=0.9, weight_decay=0.1), optim.adam(weight_decay=0.1)])
def test_an_update_is_differentiable_and_changes_nothing_in_place(optimizer):
    state = mg.tree.map(lambda p: p + 0.7, optimizer.init(P))      # away from 0, where adam bends sharply
    check_derivatives(lambda g, s, p: optimizer.update(g, s, p, 0.1), G, state, P, order=2)


DECREASING = optim.piecewise(0.1, (2, 4), factor=0.5)
OPTIMIZERS = {
    "sgd": optim.sgd(),
    "momentum": optim.sgd(momentum=0.9, weight_decay=0.1),
    "nesterov": optim.sgd(momentum=0.9, nesterov=True),
    "adam": optim.adam(weight_decay=0.1)}


def trained(optimizer, gradients, p, rate=DECREASING, state=None, first=0):
    """Return the parameters after each step, and the last state. rate: a schedule; first: the number of the first step."""
    state, found = optimizer.init(p) if state is None else state, []
    for t, g in enumerate(gradients, start=first):
        p, state = optimizer.update(g, state, p, rate(t))
        found.append(p)
    return found, state


def drawn(key, count, dtype="float64"):
    rng = generator(key)
    return [{"w": rng.normal(size=(3, 2)).astype(dtype), "b": rng.normal(size=2).astype(dtype)} for _ in range(count)]


def equal(a, b):
    for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True):
        np.testing.assert_array_equal(x, y)


def by_hand(name, gradients, p):
    """Return the optimizers in plain NumPy, one leaf at a time, with the rate written out."""
    found = []
    rates, decay = [0.1, 0.1, 0.05, 0.05, 0.025, 0.025], 0.1 if name in ("momentum", "adam") else 0.0
    p, m, v = {k: x.copy() for k, x in p.items()}, {k: 0.0 for k in p}, {k: 0.0 for k in p}
    for t, (rate, g) in enumerate(zip(rates, gradients), start=1):
        for k in p:
            pulled = decay * p[k] if k == "w" else 0.0
            if name == "adam":
                m[k], v[k] = 0.9 * m[k] + 0.1 * g[k], 0.999 * v[k] + 0.001 * g[k] ** 2
                p[k] = p[k] - rate * (m[k] / (1 - 0.9 ** t) / (np.sqrt(v[k] / (1 - 0.999 ** t)) + 1e-8) + pulled)
            else:
                m[k] = (0.9 if name != "sgd" else 0.0) * m[k] + g[k] + pulled
                p[k] = p[k] - rate * (m[k] if name != "nesterov" else g[k] + 0.9 * m[k])
        found.append(dict(p))
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_six_steps_under_a_schedule(name):
    """Every step uses its own rate; Adam, whose formula needs the number of steps, counts them in its state; sgd does not."""
    p, *gradients = drawn(0, 7)
    found, state = trained(OPTIMIZERS[name], gradients, p)
    for ours, theirs in zip(found, by_hand(name, gradients, p), strict=True):
        for k in p:
            np.testing.assert_allclose(ours[k], theirs[k], rtol=1e-12)
    assert sorted(state) == {"sgd": [], "adam": ["count", "mean", "square"]}.get(name, ["momentum"])
    assert name != "adam" or state["count"] == 6


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on(name, tmp_path):
    p, *gradients = drawn(1, 7, "float32")
    whole, end = trained(OPTIMIZERS[name], gradients, p)
    first, state = trained(OPTIMIZERS[name], gradients[:3], p)
    tree.save(tmp_path / "state", state)
    state = tree.load(tmp_path / "state", OPTIMIZERS[name].init(p))
    rest, state = trained(OPTIMIZERS[name], gradients[3:], first[-1], state=state, first=3)
    equal((whole, end), (first + rest, state))


def test_averages_and_schedules_read_nothing_from_a_device(device):
    p, q = [tree.map(mg.xp.asarray, x) for x in drawn(8, 2, "float32")]
    schedule, step = optim.piecewise(0.1, (3, 5), warmup=4), mg.xp.asarray(4)
    with without_host_reads():
        found, rate = optim.ema(p, q, 0.9, step=step), schedule(step)
    for a, b in zip(tree.flatten(found)[0], tree.flatten(optim.ema(p, q, 0.9, step=4))[0], strict=True):
        np.testing.assert_allclose(mg.to_host(a), mg.to_host(b), rtol=1e-6)
        assert a.dtype == np.float32
    np.testing.assert_allclose(float(rate), schedule(4))


def test_a_captured_step_counts(device):
    """The same numbers as eager steps, with a rate that is an array on the device, like all inputs of a captured step."""
    rate = optim.cosine(0.1, 5, warmup=2)
    for optimizer in (OPTIMIZERS["adam"], OPTIMIZERS["momentum"], optim.adam(eps_root=1e-3), optim.rmsprop(momentum=0.9)):
        p, *gradients = [tree.map(mg.xp.asarray, g) for g in drawn(2, 7, "float32")]

        def step(state, g, rate, optimizer=optimizer):
            p, moved = optimizer.update(g, state[1], state[0], rate)
            return (p, moved), ()
        captured, plain = mg.capture(step), step
        one = two = (p, optimizer.init(p))
        for t, g in enumerate(gradients):
            r = mg.xp.asarray(np.float32(rate(t)))
            one, two = captured(one, g, r)[0], plain(two, g, r)[0]
            for a, b in zip(tree.flatten(one)[0], tree.flatten(two)[0], strict=True):
                assert a.dtype == b.dtype and mg.backend.on_device(a) == (device != "numpy")
                np.testing.assert_array_equal(mg.to_host(a), mg.to_host(b))
        assert device == "numpy" or captured.launches


NUMBERS = {"int": int, "float": float, "np.float64": np.float64, "np.float32": np.float32, "0-d": np.array}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_types_stay_whatever_the_hyper_parameters_are(kind, dtype):
    """Parameters keep their type, and the optimizer's state is at least float32, in every step."""
    number = NUMBERS[kind]
    p, *gradients = drawn(3, 4, dtype)
    wide = np.result_type(dtype, np.float32)
    for optimizer in (optim.sgd(), optim.sgd(momentum=number(1), nesterov=True, weight_decay=number(1)),
                      optim.adam(beta1=number(0), beta2=number(0), eps=number(1), weight_decay=number(1)),
                      optim.adam(eps_root=number(1)), optim.rmsprop(decay=number(0), eps=number(1), momentum=number(1), eps_root=number(1))):
        for some in (gradients, [tree.map(lambda x: x.astype("float64"), g) for g in gradients]):
            found, state = trained(optimizer, some, p, lambda t: number(1))
            assert {leaf.dtype.name for leaf in tree.flatten(found)[0]} == {dtype}
            count = state.pop("count", None)
            assert {leaf.dtype for leaf in tree.flatten(state)[0]} <= {wide}
            assert count is None or count.dtype == "int64" and count == 3
        average = optim.ema(p, gradients[0], number(0.5 if kind not in ("int",) else 0), step=2)
        assert {leaf.dtype.name for leaf in tree.flatten(average)[0]} == {dtype}
        average = optim.ema(p, tree.map(lambda x: x.astype("float64"), p), 0.5)
        assert {leaf.dtype.name for leaf in tree.flatten(average)[0]} == {dtype}


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-4, 1.0, 300.0, 6e4])
def test_half_precision_moves_as_single_precision_does(size):
    """Except for the rounding of the parameters: no square, average or eps vanishes or overflows."""
    p = {"w": np.ones((2, 2), np.float16)}
    gradients = [{"w": np.array([[1, -1], [0.5, 0]], np.float16) * np.float16(size)}] * 5
    for name, optimizer in OPTIMIZERS.items():
        rate = 1e-2 if name == "adam" else 1e-2 / max(size, 1.0)
        half, state = trained(optimizer, gradients, p, lambda t: rate)
        single, expected = trained(optimizer, gradients, tree.map(lambda x: x.astype("float32"), p), lambda t: rate)
        assert np.isfinite(half[-1]["w"]).all()
        np.testing.assert_allclose(half[-1]["w"], single[-1]["w"], atol=5e-3)
        for a, b in zip(tree.flatten(state)[0], tree.flatten(expected)[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-2)


def test_derivatives_by_the_hyper_parameters():
    """Derivatives flow through every hyper-parameter, also at rest, where Adam's square root has a kink."""
    p, g, rest = *drawn(4, 2), tree.map(np.zeros_like, drawn(4, 1)[0])

    def two(make):
        def after(rate, *numbers):
            optimizer = make(*numbers)
            q, state = optimizer.update(g, optimizer.init(p), p, rate)
            return optimizer.update(g, state, q, 0.5 * rate)[0]
        return after
    check_derivatives(two(lambda m, d: optim.sgd(momentum=m, nesterov=True, weight_decay=d)), 0.1, 0.9, 0.1, order=1)
    check_derivatives(two(lambda b, c, e, d: optim.adam(beta1=b, beta2=c, eps=e, weight_decay=d)), 0.1, 0.9, 0.99, 0.1, 0.1, order=1)
    check_derivatives(two(optim.adam), 0.1, order=2)
    check_derivatives(two(lambda b, e, m, r: optim.rmsprop(decay=b, eps=e, momentum=m, eps_root=r)), 0.1, 0.9, 0.1, 0.5, 0.1, order=1)
    check_derivatives(two(lambda e, r: optim.adam(eps=e, eps_root=r)), 0.1, 0.1, 0.2, order=2)
    for optimizer in (optim.adam(eps_root=0.1), optim.rmsprop(eps_root=0.1)):              # smooth at rest, where others have a kink
        check_derivatives(lambda g, optimizer=optimizer: optimizer.update(g, optimizer.init(p), p, 1.0)[0], rest, order=3)
    check_derivatives(lambda a, d: optim.ema(a, g, d, step=3), p, 0.9, order=1)
    adam = optim.adam(eps=0.5)
    J = mg.linearize(lambda g: adam.update(g, adam.init(p), p, 1.0)[0], rest)[1]
    for leaf, there in zip(tree.flatten(J.push(g))[0], tree.flatten(g)[0], strict=True):
        np.testing.assert_allclose(leaf, -there / 0.5)      # of g / (|g| + eps) at 0: 1 / eps


def test_what_does_not_belong_together_is_refused():
    sgd, adam, p = optim.sgd(momentum=0.9), optim.adam(), drawn(5, 1)[0]
    for optimizer in (sgd, adam):
        state = optimizer.init(p)
        for g, wrong in (({"w": p["w"]}, state), (p | {"b": p["b"][:1]}, state), (p | {"b": p["w"]}, state), (p, {}), (p, None),
                         (p, dict(list(state.items())[1:])), (p, optimizer.init({"w": p["w"]}))):
            with pytest.raises(mg.ShapeError, match="update|structure"):
                optimizer.update(g, wrong, p, 0.1)
    for call in (lambda: sgd.update(p, adam.init(p), p, 0.1), lambda: adam.update(p, sgd.init(p), p, 0.1)):
        with pytest.raises(mg.ShapeError, match="the state is not one of this optimizer(.|\n)*optimizer.init"):
            call()
    with pytest.raises(mg.DTypeError, match="nesterov without momentum"):
        optim.sgd(nesterov=True)
    for bad in ("fast", None, [0.1], np.ones(2), True, 1j):
        for call in (lambda: optim.rmsprop(eps_root=bad), lambda: optim.adam(eps_root=bad), lambda: optim.ema(p, p, bad),
                     lambda: optim.sgd(momentum=bad), lambda: optim.adam(eps=bad), lambda: optim.clip_by_global_norm(p, bad),
                     lambda: adam.update(p, adam.init(p), p, bad), lambda: sgd.update(p, sgd.init(p), p, bad)):
            with pytest.raises(mg.DTypeError, match="number"):
                call()
    with pytest.raises(mg.MinigradError, match="beta2 = 1.0 lies outside"):
        optim.adam(beta2=1.0)
    with pytest.raises(mg.DTypeError, match="only floating-point"):
        adam.update({"w": np.ones(2, int)}, {"mean": {"w": np.ones(2)}, "square": {"w": np.ones(2)}, "count": np.zeros(())},
                    {"w": np.ones(2, int)}, 0.1)


def test_a_constructor_takes_no_rate():
    """One that is no rate is refused; with others it warns (test_deprecated.py). Updates take no schedule."""
    for make in (optim.sgd, optim.adam):
        for call in (lambda: make("fast"), lambda: make(None), lambda: make(rate=[0.1])):
            with pytest.raises(mg.DTypeError, match=f"{make.__name__}: the rate is an argument of update"):
                call()
        with pytest.raises(TypeError, match="rate"):
            make().update(P, make().init(P), P)
        with pytest.raises(mg.DTypeError, match=r"rate is no real number(.|\n)*rate=schedule\(step\)"):
            make().update(P, make().init(P), P, DECREASING)


# ------------------------------------------------------------------------------------------- the global norm

@given(st.integers(0, 999), st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e25]), st.sampled_from([1e-3, 1.0, 1e20]))
def test_clipping_by_the_global_norm(key, size, most):
    g = tree.map(lambda x: (x * size).astype("float32"), drawn(key, 1)[0])
    norm = np.sqrt(sum((leaf.astype("float64") ** 2).sum() for leaf in tree.flatten(g)[0]))
    clipped = optim.clip_by_global_norm(g, most)
    assert {leaf.dtype.name for leaf in tree.flatten(clipped)[0]} == {"float32"}
    for a, b in zip(tree.flatten(clipped)[0], tree.flatten(g)[0], strict=True):
        if norm <= most:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b * (most / norm), rtol=1e-5)


def test_clipping_is_differentiable_and_goes_with_any_optimizer():
    g = drawn(6, 1)[0]
    for most in (0.5, 100.0):
        check_derivatives(lambda g: optim.clip_by_global_norm(g, most), g, order=2)
    check_derivatives(lambda most: optim.clip_by_global_norm(g, most), 0.5, order=1)
    zero = tree.map(np.zeros_like, g)
    equal(mg.jvp(lambda g: optim.clip_by_global_norm(g, 1.0), (zero,), (g,))[1], g)         # no NaN of a root of 0
    half = optim.clip_by_global_norm({"a": np.full(9, 6e4, "float16")}, 3.0)["a"]
    assert half.dtype == np.float16 and (half == 1.0).all()
    assert np.isnan(optim.clip_by_global_norm({"a": np.array([np.nan, 1.0])}, 1.0)["a"]).any()     # seen, not hidden
    assert optim.clip_by_global_norm({}, 1.0) == {}
    for most in (0.0, -1.0, np.nan):
        with pytest.raises(mg.MinigradError, match="is not above 0"):
            optim.clip_by_global_norm(g, most)
    for name, optimizer in OPTIMIZERS.items():
        q, _ = optimizer.update(optim.clip_by_global_norm(tree.map(lambda x: 1e30 * x, g), 1e-3), optimizer.init(g), g, 0.1)
        assert np.isfinite(q["w"]).all(), name


def test_clipping_reads_nothing_from_a_device(device):
    g = drawn(7, 1, "float32")[0]
    there = tree.map(mg.xp.asarray, g)
    for most in (0.5, 100.0):
        with without_host_reads():
            found = optim.clip_by_global_norm(there, most)
        for a, b in zip(tree.flatten(found)[0], tree.flatten(optim.clip_by_global_norm(g, most))[0], strict=True):
            np.testing.assert_allclose(mg.to_host(a), b, rtol=1e-6)


def test_both_minimize():
    for optimizer, rate in ((optim.sgd(momentum=0.9), lambda t: 0.1), (optim.adam(), optim.cosine(0.3, 200, warmup=10))):
        x = np.array([3.0, -2.0])
        state = optimizer.init(x)
        for t in range(200):
            x, state = optimizer.update(mg.grad(lambda x: mg.sum((x - 1.0) ** 2))(x), state, x, rate(t))
        np.testing.assert_allclose(x, [1, 1], atol=1e-2)


def test_schedules():
    rate = optim.piecewise(1.0, (10, 20))
    np.testing.assert_allclose([rate(0), rate(9), rate(10), rate(20)], [1, 1, 0.1, 0.01])
    rate = optim.cosine(2.0, 110, warmup=10)
    np.testing.assert_allclose([rate(0), rate(9), rate(10), rate(60), rate(110), rate(500)], [0.2, 2, 2, 1, 0, 0], atol=1e-12)
    rate = optim.cosine(2.0, 3, warmup=1)
    np.testing.assert_allclose([rate(0), rate(1), rate(2)], [2, 2, 1])


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-20, 1.0, 1e20, 1e200, 1e300])
@pytest.mark.parametrize("most", [1e-3, 1.0, 1e100])
def test_clipping_keeps_the_direction_of_gradients_of_any_size(size, most):
    g = {"a": np.array([3.0, 0.0]) * size, "b": np.array([[-4.0]]) * size, "none": np.zeros((0, 2))}
    clipped = optim.clip_by_global_norm(g, most)
    factor = min(1.0, most / max(size, 1e-200) / 5.0)
    for name in g:
        np.testing.assert_allclose(clipped[name], g[name] * factor, rtol=1e-12)


@pytest.mark.parametrize("wrong", [np.array([3, 4]), np.array([3j, 4.0]), [np.ones(2), np.array([True])]])
def test_clipping_is_for_real_floats(wrong):
    with pytest.raises(mg.DTypeError, match="clip_by_global_norm: only floating-point arrays"):
        optim.clip_by_global_norm(wrong, 1.0)


def test_the_average_of_all_steps():
    """With decay = 1 all have the same weight, as the limit of smaller decays has it."""
    average, seen = np.zeros(2), generator(0).normal(size=(5, 2))
    for step, p in enumerate(seen):
        average = optim.ema(average, p, 1.0, step)
    np.testing.assert_allclose(average, seen.mean(0), rtol=1e-12)


@pytest.mark.parametrize("nothing", [[], {}, {"a": np.zeros((0, 2))}, np.zeros(3)])
def test_clipping_of_nothing(nothing):
    clipped = optim.clip_by_global_norm(nothing, 1.0)
    assert tree.flatten(clipped)[1] == tree.flatten(nothing)[1] and all((a == b).all() for a, b in zip(tree.flatten(clipped)[0], tree.flatten(nothing)[0]))


@pytest.mark.parametrize("make", [optim.sgd, lambda **how: optim.sgd(momentum=0.9, **how), optim.adam], ids=["sgd", "momentum", "adam"])
def test_what_decays_is_chosen_by_the_parameters(make):
    """... themselves, not by their gradients or averages; once for each leaf."""
    seen = []
    optimizer = make(weight_decay=0.1, decays=lambda leaf: (seen.append(leaf), leaf is P["b"])[1])
    found = optimizer.update(G, optimizer.init(P), P, 0.1)[0]
    plain = make().update(G, make().init(P), P, 0.1)[0]
    assert len(seen) == 2 and seen[0] is P["w"] and seen[1] is P["b"]
    np.testing.assert_array_equal(found["w"], plain["w"])
    np.testing.assert_allclose(found["b"], plain["b"] - 0.01 * P["b"])


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 5))
def test_a_schedule_counts_all_its_boundaries(boundaries, warmup):
    """In any order, and one named twice counts twice."""
    rate = optim.piecewise(2.0, boundaries, 0.5, warmup)
    for step in range(32):
        expected = 2.0 * 0.5 ** len([b for b in boundaries if b <= step]) * (min((step + 1) / warmup, 1.0) if warmup else 1.0)
        np.testing.assert_allclose(rate(step), expected)
        np.testing.assert_allclose(rate(np.array(step)), expected)


@pytest.mark.parametrize("make", [lambda rate: optim.cosine(rate, 10, warmup=2), lambda rate: optim.piecewise(rate, (3, 5), warmup=2), lambda rate: optim.piecewise(0.5, (3, 5), rate)])
def test_schedules_are_differentiated_by_their_numbers(make):
    """As every rate is: the numbers of a schedule may be what is learned."""
    for step in (0, 1, 4, 7, 20):
        check_derivatives(lambda rate, step=step: make(rate)(step), 0.3, order=2)


ANY_SIZE = {"sgd": optim.sgd(weight_decay=0.1, decays=lambda p: True), "nesterov": optim.sgd(momentum=0.9, nesterov=True, weight_decay=0.1, decays=lambda p: True),
            "adam": optim.adam(weight_decay=0.1, decays=lambda p: True), "adam, eps_root": optim.adam(eps_root=0.1), "rmsprop": optim.rmsprop(momentum=0.9)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ANY_SIZE)
def test_a_large_leaf_moves_as_its_parts_do(name, dtype):
    """... whichever of the arguments are traced: a faster form is for plain ones alone, and has the same digits."""
    rng, optimizer = np.random.default_rng(0), ANY_SIZE[name]
    p, g = rng.normal(size=(2, 5000)).astype(dtype)
    state = mg.tree.map(lambda leaf: leaf + leaf.dtype.type(1), optimizer.init(p))
    one = mg.tree.map(lambda leaf: leaf[:9] if leaf.ndim else leaf, state)
    for f in (lambda x, p, g, state: optimizer.update(g, state, p, 0.1), lambda x, p, g, state: optimizer.update(g, state, p, x),
              lambda x, p, g, state: optimizer.update(x * g, state, p, 0.1), lambda x, p, g, state: optimizer.update(g, state, x * p, 0.1)):
        whole, part = (mg.tree.flatten(mg.jvp(lambda x: {k: v for k, v in zip("ps", f(x, p[s], g[s], st))}["p"], (np.asarray(0.1, dtype),), (np.asarray(1.0, dtype),)))[0]
                       for s, st in ((slice(None), state), (slice(9), one)))
        for a, b in zip(whole, part, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a[:9], b, rtol=1e-5, atol=1e-7)
    (whole, moved), (part, moved_part) = optimizer.update(g, state, p, 0.1), optimizer.update(g[:9], one, p[:9], 0.1)
    for a, b in zip(mg.tree.flatten((whole, moved))[0], mg.tree.flatten((part, moved_part))[0], strict=True):
        np.testing.assert_allclose(a[:9] if a.ndim else a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [9, 5000])
def test_the_average_of_squares_begins_with_its_digits(size):
    """1 - beta2 is not computed in float32, where it has four of them."""
    g = np.linspace(0.5, 2.0, size).astype("float32")
    state = optim.adam().update(g, optim.adam().init(g), g, 0.1)[1]
    np.testing.assert_allclose(state["square"], 0.001 * g.astype(float) ** 2, rtol=1e-6)


def test_a_hyper_parameter_that_is_differentiated_changes_no_type():
    p = np.ones(3, "float32")
    for make in (lambda h: optim.sgd(momentum=h), lambda h: optim.sgd(momentum=0.9, weight_decay=h, decays=lambda p: True), lambda h: optim.adam(beta1=h),
                 lambda h: optim.adam(beta2=h), lambda h: optim.adam(eps=h), lambda h: optim.rmsprop(decay=h)):
        def after(h, make=make):
            q, state = make(h).update(p, make(h).init(p), p, h)
            return make(h).update(p, state, q, 0.1)
        q, state = mg.jvp(lambda h: (lambda q, state: (q, {k: x for k, x in state.items() if k != "count"}))(*after(h)), (0.5,), (1.0,))[0]
        assert {leaf.dtype.name for leaf in mg.tree.flatten((q, state))[0]} == {"float32"}


def test_a_gradient_that_is_one_number_is_refused():
    for g in (0.5, np.float64(0.5), np.ones(())):
        for optimizer in (optim.sgd(), optim.adam(), optim.rmsprop()):
            with pytest.raises(mg.ShapeError, match="shapes differ at 0.w"):
                optimizer.update({"w": g}, optimizer.init({"w": np.ones(2)}), {"w": np.ones(2)}, 0.1)


@pytest.mark.parametrize("optimizer", [optim.sgd(), optim.sgd(momentum=0.9), optim.adam(), optim.adam(weight_decay=0.1, decays=lambda p: True), optim.rmsprop()])
def test_numbers_of_python_are_parameters(optimizer):
    """As for grad: each step is that of arrays without axes."""
    numbers, arrays = {"a": 1.5, "b": np.ones(2)}, {"a": np.array(1.5), "b": np.ones(2)}
    states = [optimizer.init(p) for p in (numbers, arrays)]
    for _ in range(3):
        steps = [optimizer.update(mg.grad(lambda p: mg.sum(p["b"] ** 2) * p["a"])(p), s, p, 0.1) for p, s in zip((numbers, arrays), states)]
        (numbers, arrays), states = zip(*steps)
        assert all(np.array_equal(a, b) for a, b in zip(*map(lambda t: mg.tree.flatten(t)[0], steps), strict=True))
    assert optim.ema({"a": 1.0}, {"a": 2.0}, 0.5) == {"a": 1.5} and optim.ema([0, 0], [0.5, 1], 0.5) == [0.25, 0.5]


def test_averages_and_steps_refuse_what_does_not_fit():
    with pytest.raises(mg.ShapeError, match=r"ema.average, params.: shapes differ"):
        optim.ema(np.zeros(2), np.ones((3, 2)), 0.9)
    for optimizer in (optim.sgd(), optim.adam(), optim.rmsprop()):
        with pytest.raises(mg.DTypeError, match="complex numbers at"):
            optimizer.update(np.ones(2) * 1j, optimizer.init(np.ones(2)), np.ones(2), 0.1)
        with pytest.raises(mg.DTypeError, match=r"update\(gradient, state, params\): update\(\) missing(.|\n)*help: the arguments are update\(gradient, state, params, rate\)"):
            optimizer.update(np.ones(2), {}, np.ones(2))
