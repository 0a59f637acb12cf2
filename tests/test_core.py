"""Nesting, leaks and the tape itself."""
import gc
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import grad, jvp, linearize
from minigrad.core import Tape


def test_perturbations_are_not_confused():
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert grad(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1])(1.0) == 1.0
    assert jvp(lambda x: x * grad(lambda y: x * y * y)(2.0), (3.0,), (1.0,))[1] == 2 * 2 * 2 * 3.0


def test_an_exception_inside_leaves_nothing_behind():
    def broken(x):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        grad(lambda x: x * grad(broken)(x))(1.0)
    assert grad(grad(lambda x: x ** 3))(2.0) == 12.0


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


def test_a_long_chain_needs_no_recursion():
    def chain(x):
        for _ in range(10_000):
            x = x * 1.0001
        return x
    assert abs(grad(chain)(1.0) - 1.0001 ** 10_000) < 1e-9
    assert abs(jvp(chain, (1.0,), (1.0,))[1] - 1.0001 ** 10_000) < 1e-9


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


def test_constants_leave_no_trace(monkeypatch):
    records = []
    record = Tape.record
    monkeypatch.setattr(Tape, "record", lambda *args: (records.append(args[1]), record(*args))[1])
    grad(lambda x: mg.sum(mg.exp(x) + mg.exp(np.ones(3)) * 2.0))(np.ones(3))
    assert records == [None, mg.exp, mg.add, mg.ops.reductions._sum]        # the argument itself, then what depends on it
