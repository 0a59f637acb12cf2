"""Properties of the engine: nesting, exceptions, threads, cycles, memory, long chains, and the tape itself."""
import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import TraceError, box, grad, jvp, linearize, nn, optim, tree
from minigrad.backend import generator
from minigrad.core import Tape
from minigrad.models import mlp
from minigrad.reweight import example_weights, example_weights_unrolled, reweighted_gradient


def test_perturbations_are_not_confused():
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert grad(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1])(1.0) == 1.0
    assert jvp(lambda x: x * grad(lambda y: x * y * y)(2.0), (3.0,), (1.0,))[1] == 2 * 2 * 2 * 3.0


def failing(where):
    """Return a primitive that fails in its forward function, its rule, its push or its pull."""
    def fail(place, value):
        if place == where:
            raise ZeroDivisionError
        return value
    return mg.Primitive(lambda x: fail("forward", x * x), lambda i, y, x: fail("rule", mg.LinearMap(
        lambda t: fail("push", 2.0 * x * t), lambda g: fail("pull", 2.0 * x * g))), "failing")


TRANSFORMS = {
    "grad": lambda f, x: grad(lambda x: mg.sum(f(x)))(x), "jvp": lambda f, x: jvp(f, (x,), (x,))[1],
    "push": lambda f, x: linearize(f, x)[1].push(x), "pull": lambda f, x: linearize(f, x)[1].pull(x),
    "vjp": lambda f, x: mg.vjp(f, x)[1](x)[0], "hvp": lambda f, x: mg.hvp(lambda x: mg.sum(f(x)), x, x),
    "jacobian": lambda f, x: mg.jacobian(f)(x), "hessian": lambda f, x: mg.hessian(lambda x: mg.sum(f(x)))(x),
    "checkpoint": lambda f, x: grad(lambda x: mg.sum(mg.checkpoint(f)(x)))(x),
    "value_and_grad": lambda f, x: mg.value_and_grad(lambda x: mg.sum(f(x)))(x)[1]}


def reached(inner, outer):
    """Return which functions of a primitive run inside `inner` inside `outer`: only forward mode pushes through reverse mode."""
    if inner in ("jvp", "push"):
        return ["forward", "rule", "push"]
    return ["forward", "rule", "pull"] + ["push"] * (outer in ("jvp", "hvp"))


@pytest.mark.parametrize("inner, outer, where", [(inner, outer, where) for inner in ("grad", "jvp", "push", "vjp")
                                                 for outer in TRANSFORMS for where in reached(inner, outer)])
def test_an_exception_inside_leaves_nothing_behind(inner, outer, where):
    """Raised inside two derivatives and caught inside the outer one or outside both, it changes no later result."""
    x, bad = np.array([0.5, 2.0]), failing(where)

    def right(x):
        return x * TRANSFORMS[inner](lambda y: y * y, x)

    def caught(x):                                          # an inner derivative that fails, and one that does not
        with pytest.raises(ZeroDivisionError):
            TRANSFORMS[inner](bad, x)
        return right(x)
    expected = TRANSFORMS[outer](right, x)
    np.testing.assert_array_equal(TRANSFORMS[outer](caught, x), expected)
    with pytest.raises(ZeroDivisionError):
        TRANSFORMS[outer](lambda x: x * TRANSFORMS[inner](bad, x), x)
    np.testing.assert_array_equal(TRANSFORMS[outer](right, x), expected)


def test_a_value_kept_from_a_derivative_that_failed_is_refused():
    kept = []
    with pytest.raises(ZeroDivisionError):
        grad(lambda x: [kept.append(x * x), 1 / 0])(1.0)
    with pytest.raises(TraceError, match="used after it ended"):
        kept[0] + 1.0


def test_threads_do_not_disturb_one_another():
    results, start = [], threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(200):
            results.append(float(grad(lambda x: x * grad(lambda y: x * y * y)(2.0))(3.0)))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {24.0} and len(results) == 800


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_long_chain_needs_no_recursion(name):
    """10,000 operations, also when the tape is freed."""
    def chain(x):
        for _ in range(5_000):
            x = x + 1e-4 * (x * x)
        return x
    found = TRANSFORMS[name](chain, np.array([0.5]))
    y, slope, curvature = 0.5, 1.0, 0.0
    for _ in range(5_000):                                  # the chain rule by hand
        y, slope, curvature = (y + 1e-4 * y * y, slope * (1.0 + 2e-4 * y),
                               curvature * (1.0 + 2e-4 * y) + 2e-4 * slope * slope)
    expected = {"hvp": 0.5 * curvature, "hessian": curvature, "jvp": 0.5 * slope, "push": 0.5 * slope, "pull": 0.5 * slope,
                "vjp": 0.5 * slope}.get(name, slope)
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-9)


def test_a_shared_value_is_visited_once():
    def doubled(x):
        for _ in range(60):
            x = x + x
        return x
    assert grad(doubled)(1.0) == 2.0 ** 60


def test_a_tape_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = np.ones(3)
        y, J = linearize(lambda x: mg.sum(mg.exp(x) * x), x)
        inside = weakref.ref(J.push.__closure__[[type(c.cell_contents) for c in J.push.__closure__].index(Tape)]
                             .cell_contents)
        assert inside() is not None
        del J, y
        assert inside() is None
    finally:
        gc.enable()


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_transform_makes_a_cycle(no_collector, name):
    """The garbage collector finds nothing, because everything that a derivative made is freed at once."""
    k, x = np.ones((2, 2, 2, 2)), np.linspace(-1.0, 1.0, 18)

    def f(x):
        y = mg.max_pool2d(mg.conv2d(mg.reshape(x, (1, 3, 3, 2)), k), 2) + mg.standardize(mg.reshape(x, (9, 2)), 0)[0]
        y = mg.ravel(mg.tanh(y) * mg.logsumexp(x) + mg.stop_gradient(mg.max(x)))
        return mg.concatenate([y + mg.where(x > 0.1, x, x * x)[:2], x[:16]])
    TRANSFORMS[name](f, x)
    gc.collect()                                            # the first call sets up caches
    TRANSFORMS[name](f, x)
    assert gc.collect() == 0


def problem():
    rng = generator(0)
    x, y = rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)
    return (lambda m: nn.cross_entropy(m(x), y)), (lambda m: mg.mean(nn.cross_entropy(m(x[:3]), y[:3]))), mlp(
        rng, (5, 6, 3), normalize=True)


@pytest.mark.parametrize("weights", [reweighted_gradient, example_weights, example_weights_unrolled])
def test_reweighting_makes_no_cycle(no_collector, weights):
    args = problem()
    weights(*args)
    gc.collect()
    weights(*args)
    assert gc.collect() == 0


def test_a_thousand_steps_hold_what_one_holds(no_collector):
    """Memory stays constant over 1,000 steps of training, with the garbage collector off."""
    x, optimizer = np.ones((4, 3)), optim.sgd(momentum=0.9)
    model = {"w": np.ones((3, 1)), "b": np.zeros(1)}
    state, curve = optimizer.init(model), []

    def losses(m):
        return mg.sum(mg.tanh(x @ m["w"] + m["b"]), axis=1)
    tracemalloc.start()
    try:
        for step in range(1200):
            gradient = reweighted_gradient(losses, lambda m: mg.mean(losses(m)), model).gradient
            model, state = optimizer.update(gradient, state, model, 1e-3)
            if step % 100 == 99:
                curve.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(curve[7:]) - min(curve[7:]) < 8_192, curve   # less than 21 bytes a step, after Python has filled its free list of 2,000 tuples


def test_the_same_program_gives_the_same_bits():
    def bits():
        losses, clean_loss, model = problem()
        return [leaf.tobytes() for leaf in tree.flatten(reweighted_gradient(losses, clean_loss, model).gradient)[0]]
    assert bits() == bits()


def test_push_lets_go_of_tangents_after_their_last_use():
    alive = []

    def watched(x):
        return mg.LinearMap(lambda t: (alive.append(weakref.ref(t2 := t * 1.0)), t2)[1], lambda g: g)
    step = mg.Primitive(lambda x: x + 0.0, lambda i, y, x: watched(x), "watched")
    _, J = linearize(lambda x: step(step(step(step(x)))), np.ones(1000))
    counts = []
    second = mg.Primitive(lambda x: x + 0.0, lambda i, y, x: mg.LinearMap(
        lambda t: (counts.append(sum(r() is not None for r in alive)), t * 1.0)[1], lambda g: g), "count")
    _, J = linearize(lambda x: second(step(step(step(step(x))))), np.ones(1000))
    J.push(np.ones(1000))
    assert counts == [1]


@pytest.mark.parametrize("f, names", [
    (lambda x: x ** 2, ["square"]), (lambda x: x ** 3, ["power"]), (lambda x: mg.pad(x, 1), ["pad"]),
    (lambda x: mg.pad(x, 1, constant_values=1.0), ["pad", "add"]), (lambda x: mg.take(x, [0]), ["reshape", "getitem"]),
    (lambda x: mg.clip(x, 0.0), ["maximum"]), (lambda x: x.astype("float64"), [])])
def test_the_tape_holds_no_more_than_is_needed(monkeypatch, f, names):
    steps, record = [], Tape.record
    monkeypatch.setattr(Tape, "record", lambda tape, step, *args: (steps.append(step), record(tape, step, *args))[1])
    linearize(f, np.ones(3))
    assert [step.name for step in steps[1:]] == names


def test_constants_leave_no_trace(monkeypatch):
    records = []
    record = Tape.record
    monkeypatch.setattr(Tape, "record", lambda *args: (records.append(args[1]), record(*args))[1])
    grad(lambda x: mg.sum(mg.exp(x) + mg.exp(np.ones(3)) * 2.0))(np.ones(3))
    assert records == [None, mg.exp, mg.add, mg.ops.reductions._sum]        # the argument itself, then what depends on it


def test_cotangents_are_added_up_in_place_where_nobody_else_holds_them():
    """A value that is used 30 times takes no more memory than one used 3 times, and no array that was passed in changes."""
    def peak(times):
        def f(x):
            return sum((x * float(k) for k in range(2, times)), start=x * 1.0)
        y, J = mg.linearize(f, np.ones(100_000))
        g = np.ones(100_000)
        with mg.backend.peak_memory() as most:
            pulled = J.pull(g)
        np.testing.assert_array_equal(pulled, 1.0 + sum(range(2, times)))
        np.testing.assert_array_equal(g, 1.0)
        return most()
    assert peak(30) < 1.1 * peak(4)
    shared = np.ones(3)
    same = mg.Primitive(lambda x: x + 0.0, lambda i, y, x: mg.LinearMap(lambda t: t, lambda g: shared), "same")
    assert (mg.grad(lambda x: mg.sum(same(x) + same(x) + same(x) + same(x)))(np.zeros(3)) == 4.0).all()
    assert (shared == 1.0).all()


def test_a_value_that_is_returned_twice_leaves_its_cotangents_alone():
    """They are added up, and not written to."""
    def f(x):
        z = x * 1.0
        return z, z, mg.exp(z)
    gs = [np.ones(3) for _ in range(3)]
    np.testing.assert_array_equal(linearize(f, np.zeros(3))[1].pull(tuple(gs)), 3.0)
    assert all((g == 1.0).all() for g in gs)


def test_cotangents_of_several_types_are_added_up_in_the_widest():
    """Also where those of a narrow one came first: 70,000 is more than float16 has."""
    def f(x):
        return mg.sum(sum(mg.Primitive(lambda x: x * 1, lambda i, y, x, c=c: mg.LinearMap(
            lambda t: t, lambda g: np.full(3, c, "float16" if c == 1.0 else "float32")), "f")(x) for c in (-7e4, 7e4, 1.0, 1.0)))
    np.testing.assert_array_equal(grad(f)(np.zeros(3, "float16")), 2.0)


def test_linear_operations_keep_none_of_their_arguments():
    for f in (mg.sum, mg.cumsum, lambda x: mg.sum(x, 0), lambda x: mg.pad(x, 1), lambda x: mg.avg_pool2d(mg.reshape(x, (1, 4, 4, 1)) + 0.0, 2)):
        kept = []

        def g(x, f=f, kept=kept):
            z = x * 2.0
            kept.append(weakref.ref(box.raw(z)))
            return f(z)
        y, J = linearize(g, np.ones((4, 4)))
        assert kept[0]() is None
        assert (J.pull(y) != 0).all()


@pytest.mark.parametrize("size", [10, 300_000])
def test_cotangents_of_any_number_add_up(size, on_host):
    """Small ones and large ones, which are added up chunk by chunk; in forward mode, too."""
    def f(x):
        return mg.sum(x * 1.0 + x * 2.0 + mg.negative(x) * 4.0 + x * 8.0)
    x = np.ones(size)
    np.testing.assert_array_equal(grad(f)(x), 7.0)
    assert mg.jvp(f, (x,), (x,))[1] == 7.0 * size
    np.testing.assert_array_equal(mg.jvp(grad(lambda x: f(x * x)), (x,), (x,))[1], 14.0)
