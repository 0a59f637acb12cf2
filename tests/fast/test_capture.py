"""A captured step is the step: the same numbers, whatever is passed, and what cannot be captured is run as it is."""
import gc
import logging

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, capture, grad, nn, optim, tree
from minigrad.backend import generator, to_host
from minigrad.fast import capture as module
from minigrad.reweight import reweighted_gradient
from models import mlp, resnet

N = 6


def algorithm1(model):
    """Return a step of Algorithm 1, and the state that it begins with."""
    optimizer = optim.sgd(momentum=0.9, weight_decay=1e-3)
    begin = {"model": model, "averages": model.init_state(), "momentum": optimizer.init(model)}

    def step(state, images, labels, clean_images, clean_labels, rate):
        def losses(model):
            y, averages = model.apply(images, state["averages"])
            return nn.cross_entropy(y, labels), averages
        r = reweighted_gradient(losses, lambda m: mg.mean(nn.cross_entropy(m(clean_images), clean_labels)),
                                state["model"], has_aux=True)
        model, momentum = optimizer.update(r.gradient, state["momentum"], state["model"], rate)
        return {"model": model, "averages": r.aux, "momentum": momentum}, (r.losses, r.weights, r.clean_loss)
    return step, begin


def small():
    """Return a small network for these images, with everything that a step needs."""
    return nn.Sequential((lambda x: x.reshape(len(x), -1), mlp(generator(0), (192, 10, 3), normalize=True)))


def equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def batch(t):
    rng = generator((1, t))
    return [rng.standard_normal((N, 8, 8, 3)).astype("float32"), rng.integers(0, 3, N),
            rng.standard_normal((N, 8, 8, 3)).astype("float32"), rng.integers(0, 3, N), np.float32(0.1 / (t + 1))]


def trained(step, state, on, steps=6):
    """Return the state and all outputs of some steps, on the host."""
    outputs = []
    for t in range(steps):
        state, out = step(state, *map(on, batch(t)))
        outputs.append(tree.map(to_host, out))
    return tree.flatten((tree.map(to_host, state), outputs))[0]


def test_a_hundred_steps_captured_are_a_hundred_steps(cupy):
    step, begin = algorithm1(small())
    captured = capture(step)
    equal(trained(captured, begin, np.asarray, 100), trained(step, begin, mg.xp.asarray, 100))
    assert captured.launches > 50


def test_algorithm_1_captured_is_algorithm_1(cupy):
    """Every loss and weight and at the end every parameter, to the bit: inputs of the device, and of the host."""
    step, begin = algorithm1(resnet(generator(0), depth=8, classes=3))
    expected = trained(step, begin, mg.xp.asarray)
    for on in (mg.xp.asarray, np.asarray):
        captured = capture(step)
        equal(trained(captured, begin, on), expected)
        assert 100 < captured.launches < 1000


def test_numpy_has_nothing_to_capture():
    """Every call runs the step, with what is passed now, and counts no launches."""
    calls = []
    captured = capture(lambda s, x: (s + x, calls.append(float(x[0]))))
    for t in range(4):
        state, _ = captured(np.full(2, 10.0), np.full(2, float(t)))
        assert state.tolist() == [10.0 + t] * 2
    assert calls == [0, 1, 2, 3] and getattr(captured, "launches", None) is None


def test_what_comes_out_is_kept(cupy):
    """Outputs are copies, and what is passed in is not written to."""
    captured = capture(lambda s, x: (s + x, (s, 2 * x, x)))
    start, one, two = mg.xp.zeros(3), mg.xp.ones(3), mg.xp.full(3, 2.0)
    state, _ = captured(start, one)
    state, first = captured(state, one)
    state, second = captured(state, two)
    np.testing.assert_array_equal(to_host(state), [4, 4, 4])
    for found, wanted in zip((*first, *second, start, one, two), (1, 2, 1, 2, 4, 2, 0, 1, 2)):
        np.testing.assert_array_equal(to_host(found), [wanted] * 3)


def test_a_state_whose_parts_are_exchanged(cupy):
    """The state is overwritten part by part, so a part that is passed on is copied first."""
    captured = capture(lambda s, x: ((s[1], s[0], s[2] + x, s[2]), s[0]))
    state = tuple(mg.xp.asarray([value]) for value in (1.0, 2.0, 3.0, 4.0))
    for wanted in [(2, 1, 4, 3), (1, 2, 5, 4), (2, 1, 6, 5), (1, 2, 7, 6)]:
        state, first = captured(state, mg.xp.ones(1))
        assert tuple(float(to_host(part)[0]) for part in state) == wanted and float(to_host(first)[0]) == wanted[1]
    assert captured.launches


def test_parts_of_the_state_may_be_passed_in_elsewhere(cupy):
    """They lie in memory that is overwritten: no part overwrites another before that was read."""
    captured = capture(lambda s, x: ((s[0] + x, s[1] - x), s[0] * 2))
    state, one = (mg.xp.asarray([1.0]), mg.xp.asarray([10.0])), mg.xp.ones(1)
    for _ in range(2):
        state, _ = captured(state, one)
    state, doubled = captured((state[1], state[0]), state[1])      # (8, 3), and 8 as the input
    assert [float(to_host(part)[0]) for part in (*state, doubled)] == [16, -5, 16]


def test_inputs_may_be_views_and_numbers_of_numpy(device):
    by = mg.xp.asarray([[1.0], [10.0]])
    captured, state = capture(lambda s, x, r: (s + r * mg.sum(x * by), None)), mg.xp.zeros(())
    turned = np.arange(6.0).reshape(3, 2).T                  # rows 0 2 4 and 1 3 5
    for rate, x in zip(np.full(4, 0.5), (mg.xp.asarray(turned), turned, np.asfortranarray(turned), mg.xp.asarray(turned))):
        state, _ = captured(state, x, rate)
    assert float(to_host(state)) == 4 * 0.5 * 96 and (captured.launches is None) == (device == "numpy")


@pytest.mark.parametrize("step", [lambda s, x: (s, x[[0, 2]]), lambda s, x: (s, mg.getitem(x, [0, 2])), lambda s, x: (s, mg.take(x, [0, 2])), lambda s, x: (s, grad(lambda x: mg.sum(x[[0, 2]] ** 2))(x)),
                                  lambda s, x: (s, x * mg.xp.asarray([1.0, 2.0, 3.0]))], ids=["of an array", "getitem", "take", "derivative", "asarray"])
def test_lists_of_the_host_are_not_captured(device, step, caplog):
    """They would be copied to the device, which waits: such a step is run as it is. An array made before is captured."""
    captured, x = capture(step), mg.xp.asarray([1.0, 2.0, 3.0])
    expected = to_host(step(x, x)[1])
    for _ in range(3):
        np.testing.assert_array_equal(to_host(captured(x, x)[1]), expected)
    assert captured.launches is None and ("cannot be captured" in caplog.text) == (device != "numpy")
    index = mg.xp.asarray([0, 2])
    captured = capture(lambda s, x: (s, x[index]))
    for _ in range(3):
        np.testing.assert_array_equal(to_host(captured(x, x)[1]), [1.0, 3.0])
    assert (captured.launches is None) == (device == "numpy")


def test_a_graph_frees_its_memory(cupy, monkeypatch, caplog):
    """CuPy's pools do not, by themselves: neither that of a graph, nor that of a capture that failed."""
    pools, make = [], cupy.cuda.MemoryPool

    def pool(allocator):
        pools.append(make(allocator))
        return pools[-1]
    monkeypatch.setattr(cupy.cuda, "MemoryPool", pool)
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", "1024")     # of CuPy's own pool
    captured = capture(lambda s, x: (s + x, None))
    for _ in range(3):
        captured(mg.xp.zeros(2), mg.xp.ones(2))
    assert len(pools) == 1 and pools[0].get_limit() == 0 and pools[0].total_bytes() > 0
    del captured
    gc.collect()
    assert pools[0].total_bytes() == 0
    failing = capture(lambda s, x: (s + float(x[0]), None))
    with caplog.at_level(logging.CRITICAL, "minigrad"):     # a record would keep the error, and with it the step's arrays
        for _ in range(3):
            failing(mg.xp.zeros(2), mg.xp.ones(2))
    assert len(pools) == 2 and pools[1].total_bytes() == 0


def test_memory_that_runs_out_ends_the_capture_and_frees_nothing(cupy, monkeypatch, caplog):
    """A pool of CuPy's answers a CUDARuntimeError with freeing what the graph needs: it must not see one."""
    with pytest.raises(MemoryError, match="out of memory"):
        module._memory(cupy, 1 << 60)
    make, freed = cupy.cuda.Memory, []

    def full(size):
        if cupy.cuda.get_current_stream().is_capturing():
            raise cupy.cuda.runtime.CUDARuntimeError(2)     # cudaErrorMemoryAllocation
        return make(size)

    class Pool(cupy.cuda.MemoryPool):
        def free_all_blocks(self, *args):
            freed.append(cupy.cuda.get_current_stream().is_capturing())
            super().free_all_blocks(*args)
    monkeypatch.setattr(cupy.cuda, "Memory", full)
    monkeypatch.setattr(cupy.cuda, "MemoryPool", Pool)
    captured, state = capture(lambda s, x: (s + mg.sum(x), None)), mg.xp.zeros(())
    for _ in range(3):
        state, _ = captured(state, mg.xp.ones(3))
    assert float(to_host(state)) == 9 and captured.launches is None and freed == [False]
    assert "run as it is" in caplog.text and "cudaErrorMemoryAllocation" in caplog.text


def test_another_state_may_be_passed_in(cupy):
    captured = capture(lambda s, x: (s + x, s * x))
    for _ in range(3):
        captured(mg.xp.zeros(2), mg.xp.ones(2))
    state, out = captured(mg.xp.full(2, 5.0), mg.xp.full(2, 3.0))
    assert to_host(state).tolist() == [8, 8] and to_host(out).tolist() == [15, 15]


def test_other_shapes_have_another_graph(cupy):
    calls = []

    def step(s, x):
        calls.append(x.shape)
        return s + mg.sum(x), mg.sum(x)
    captured = capture(step)
    state = mg.xp.zeros(())
    for n in (3, 3, 3, 5, 5, 3, 5):                         # twice each: as it is, and in the capture
        state, out = captured(state, mg.xp.ones(n))
        assert float(to_host(out)) == n
    assert float(to_host(state)) == 27 and calls == [(3,), (3,), (5,), (5,)]
    assert all(plan.graph for plan in captured._plans)


def test_a_step_that_reads_on_the_host_is_run_as_it_is(cupy, caplog):
    def step(s, x):
        return s + float(mg.sum(x)), None
    captured, state = capture(step), mg.xp.zeros(())
    with caplog.at_level(logging.WARNING):
        for t in range(4):
            state, _ = captured(state, np.full(2, t + 1.0))
    assert float(to_host(state)) == 20 and captured.launches is None
    (record,) = caplog.records
    assert "capture(step): the step cannot be captured and is run as it is (RuntimeError: the current stream is capturing" in record.getMessage()


def test_a_step_without_the_forms_of_the_table_is_run_as_it_is(cupy, caplog):
    """CuPy's own matrix product cannot be captured."""
    mg.use("cupy", fast=False)
    captured, a = capture(lambda s, x: (s + mg.matmul(x, x), None)), mg.xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    state = mg.xp.zeros((2, 2))
    for _ in range(3):
        state, _ = captured(state, a)
    assert to_host(state).tolist() == [[21, 30], [45, 66]] and captured.launches is None
    assert "calling cuBLAS API during stream capture" in caplog.text


def test_a_step_whose_state_changes_its_kind_is_run_as_it_is(cupy, caplog):
    captured, state = capture(lambda s, x: (mg.xp.concatenate([s, x]), None)), mg.xp.zeros(1)
    assert capture(lambda s, x: ({**s, "b": x}, None))({"a": state}, state)[0].keys() == {"a", "b"}
    for _ in range(2):
        captured(mg.xp.zeros(1), mg.xp.ones(1))
    assert "the state changes its shapes or types" in caplog.text
    grown = capture(lambda s, x: ({**s, "b": x}, None))
    for _ in range(2):
        grown({"a": state}, state)
    assert "the state passed in, and the one returned" in caplog.text


def test_an_error_of_the_step_is_raised(device):
    def step(s, x):
        return s + mg.matmul(x, x), None
    for _ in range(2):
        with pytest.raises(mg.ShapeError):
            capture(step)(mg.xp.zeros(()), mg.xp.ones((2, 3)))


def test_numbers_are_refused(cupy):
    with pytest.raises(DTypeError, match=r"capture\(step\)\(state, \*inputs\): a number would be frozen into the graph"):
        def step(s, rate):
            return s, None
        capture(step)(mg.xp.zeros(2), 0.1)


def test_derivatives_of_any_order_inside(device):
    """Nothing of a derivative is left behind in the graph but its kernels."""
    def step(s, x):
        return s, grad(lambda y: mg.sum(grad(lambda z: mg.sum(z ** 4))(y) * x))(x)
    captured = capture(step)
    for t in range(3):
        x = mg.xp.asarray(generator(t).standard_normal(4))
        np.testing.assert_allclose(to_host(captured(x, x)[1]), 12 * to_host(x) ** 3, rtol=1e-12)
    assert (captured.launches is None) == (device == "numpy")
