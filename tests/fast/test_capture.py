"""A captured step is the step: the same numbers, whatever is passed, and what cannot be captured is run as it is."""
import gc
import logging
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, capture, grad, nn, optim, tree
from minigrad.backend import generator, to_host
from minigrad.fast import capture as module
from minigrad.models import mlp, resnet
from minigrad.reweight import reweighted_gradient

from ..fakecuda import device as standin
from ..test_device import without_host_reads

ROOT = pathlib.Path(__file__).parent.parent.parent
N = 6


def algorithm1(model, loss=nn.cross_entropy):
    """Return a step of Algorithm 1, and the state that it begins with."""
    optimizer = optim.sgd(momentum=0.9, weight_decay=1e-3)
    begin = {"model": model, "averages": model.init_state(), "momentum": optimizer.init(model)}

    def step(state, images, labels, clean_images, clean_labels, rate):
        def losses(model):
            y, averages = model.apply(images, state["averages"])
            return loss(y, labels), averages
        r = reweighted_gradient(losses, lambda m: mg.mean(loss(m(clean_images), clean_labels)),
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
    for _ in range(3):
        failing(mg.xp.zeros(2), mg.xp.ones(2))
    assert len(caplog.records) == 1                         # which keeps neither the error nor, with it, the step's arrays
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
    assert float(to_host(state)) == 9 and captured.launches is None and freed and not any(freed)
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


def test_numbers_are_refused(device):
    """Also on NumPy, where they would do: a program is often written there."""
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


# ------------------------------------------------------------------------- what a device does beside and later

def test_a_replay_runs_nothing_but_its_kernels(cupy):
    """From the third call on no line of the step runs: all its kernels are launched as one graph."""
    calls = []

    def step(s, x):
        calls.append(x)
        return s + 2 * x, (mg.sum(x), s)
    captured, state, x = capture(step), mg.xp.zeros(3), mg.xp.ones(3)
    for _ in range(2):
        state, _ = captured(state, x)
    if standin.running():
        standin.reset()
    with without_host_reads():
        state, outputs = captured(state, np.full(3, 2.0))
        state, outputs = captured(state, x)
    if standin.running():
        assert standin.counter("graphs") == 2 and standin.counter("nodes of graphs launched") == 2 * captured.launches
        assert standin.counter("operations") == 2 * (1 + 1 + 2)             # a graph, an input, two outputs
    assert len(calls) == 2 and to_host(state).tolist() == [10] * 3 and to_host(outputs[1]).tolist() == [8] * 3


def test_no_other_array_lies_in_the_memory_of_a_graph(cupy):
    """Its intermediate results are written at every launch, also when nothing refers to them any more."""
    captured, state, x = capture(lambda s, x: (s + mg.sum(mg.exp(x) * 2 - 1), mg.exp(x) + 1)), mg.xp.zeros(()), mg.xp.zeros(1000)
    for _ in range(2):
        state, _ = captured(state, x)
    others = [mg.xp.full(1000, float(k)) for k in range(30)]
    state, y = captured(state, x)
    assert float(to_host(state)) == 3000 and (to_host(y) == 2).all()
    for k, other in enumerate(others):
        assert (to_host(other) == k).all()


def test_two_captured_steps_take_turns(cupy):
    step, begin = algorithm1(small())
    expected = trained(step, begin, mg.xp.asarray)
    one, two = capture(step), capture(step)
    states, outputs = [begin, begin], ([], [])
    for t in range(6):
        for k, captured in enumerate((one, two)):
            states[k], out = captured(states[k], *map(np.asarray, batch(t)))
            outputs[k].append(out)                          # they are copied to the host at the end
    for state, out in zip(states, outputs):
        equal([to_host(leaf) for leaf in tree.flatten((state, out))[0]], expected)
    assert one.launches == two.launches > 50


def test_what_a_step_returned_outlives_it(cupy):
    """Also the state, which lies in memory of the graph."""
    captured, state, x = capture(lambda s, x: (s + x, (s, 2 * x))), mg.xp.zeros(1000), mg.xp.ones(1000)
    for _ in range(3):
        state, outputs = captured(state, x)
    assert captured.launches
    del captured
    gc.collect()
    others = [mg.xp.full(1000, 7.0) for _ in range(30)]
    for found, wanted in zip((state, *outputs, *others), (3, 2, 2, *[7] * 30)):
        assert (to_host(found) == wanted).all()


@pytest.mark.parametrize("settings", [{}, {"non_blocking": True}], ids=["blocking", "non-blocking"])
@pytest.mark.parametrize("on", ["host", "device"])
def test_in_a_stream_of_the_caller(cupy, settings, on):
    """All work of a captured step is in order with that of the stream that is current when it is called."""
    step, begin = algorithm1(small())
    expected, captured = trained(step, begin, mg.xp.asarray), capture(step)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(**settings):
        equal(trained(captured, begin, np.asarray if on == "host" else mg.xp.asarray), expected)
        assert captured.launches > 50
        cupy.cuda.Device().synchronize()
    equal(trained(captured, begin, np.asarray), expected)   # captured in one stream, launched in another


def test_a_capture_leaves_nothing_to_be_done_later(cupy):
    """What it copies, in its own stream, is there before the first launch writes to the same memory."""
    captured, state, x = capture(lambda s, x: (s + x, None)), mg.xp.zeros(1000), mg.xp.ones(1000)
    for k in range(4):
        state, _ = captured(state, x)
        for _ in range(2):
            assert (to_host(state) == k + 1).all()
            cupy.cuda.Device().synchronize()                # ... of the work in all streams
    assert captured.launches


class Waits:
    """What waits for the device when it is destroyed: a handle of a library, for instance."""

    def __init__(self, cupy, log):
        self.cupy, self.log, self.itself = cupy, log, self

    def __del__(self):
        self.log.append(self.cupy.cuda.get_current_stream().is_capturing())
        self.cupy.cuda.Device().synchronize()


def test_no_garbage_is_collected_in_a_capture(cupy):
    """Neither what was there before, nor what the step leaves behind: to destroy it may break the capture."""
    log = []

    def step(s, x):
        Waits(cupy, log)
        for _ in range(50):
            s = s + [x][0]                                  # enough new objects for a collection
        return s, None
    captured, state, x = capture(step), mg.xp.zeros(2), mg.xp.ones(2)
    before = gc.get_threshold()
    gc.set_threshold(10, 1, 1)
    try:
        for _ in range(3):
            state, _ = captured(state, x)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert to_host(state).tolist() == [150] * 2 and captured.launches and log == [False] * 2 and gc.isenabled()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_a_capture_leaves_cupy_as_it_was(cupy, error, caplog):
    """The stream, the allocator, the collector; and the next step can be captured."""
    calls = []

    def step(s, x):
        calls.append(mg.exp(x))
        if len(calls) == 2:
            raise error("in the capture")
        return s + x, None
    captured, state, x = capture(step), mg.xp.zeros(1000), mg.xp.ones(1000)
    state, _ = captured(state, x)
    if error is ValueError:
        state, _ = captured(state, x)
        assert "run as it is (ValueError: in the capture)" in caplog.text and captured.launches is None
    else:
        with pytest.raises(KeyboardInterrupt):
            captured(state, x)
        state, _ = captured(state, x)                       # which captures the step
    assert to_host(state).tolist() == [2] * 1000
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null and gc.isenabled()
    used = cupy.get_default_memory_pool().used_bytes()
    y = mg.xp.ones(1000) + 1
    assert cupy.get_default_memory_pool().used_bytes() >= used + y.nbytes and to_host(y).tolist() == [2] * 1000
    again = capture(lambda s, x: (s + x, None))
    for _ in range(3):
        state, _ = again(state, x)
    assert to_host(state).tolist() == [5] * 1000 and again.launches


def test_a_step_may_free_memory(cupy):
    """What is free in CuPy's own pool, that is; and the graph does not hold any of it."""
    def step(s, x):
        y = mg.exp(x) * 2
        cupy.get_default_memory_pool().free_all_blocks()
        return s + mg.sum(y), None
    captured, state = capture(step), mg.xp.zeros(())
    for _ in range(3):
        unused = mg.xp.ones(5000)
        del unused
        state, _ = captured(state, mg.xp.zeros(10))
    assert float(to_host(state)) == 60


FULL = """
import minigrad as mg
mg.use("cupy")
x, state = mg.xp.zeros(1 << 20), mg.xp.zeros(())
captured = mg.capture(lambda s, x: (s + mg.sum(mg.exp(x)), None))
state, _ = captured(state, x)
unused = mg.xp.zeros(3 << 20)
del unused
for _ in range(2):
    state, _ = captured(state, x)
print(captured.launches, float(state))
"""


@pytest.mark.needs("fakecuda")
def test_memory_that_cupys_pool_keeps_unused_is_free_for_a_capture():
    """On a device of 76 MiB: 32 are the workspace of cuBLAS, 8 are x, 32 are in the pool, and a capture takes 16."""
    done = subprocess.run([sys.executable, "-c", FULL], env={**os.environ, "FAKECUDA_MEMORY": str(76 << 20)},
                          capture_output=True, text=True, cwd=ROOT)
    launches, state = done.stdout.split()
    assert int(launches) > 0 and float(state) == 3 << 20


LATE = [test_a_hundred_steps_captured_are_a_hundred_steps, test_what_comes_out_is_kept, test_a_state_whose_parts_are_exchanged,
        test_parts_of_the_state_may_be_passed_in_elsewhere, test_inputs_may_be_views_and_numbers_of_numpy,
        test_lists_of_the_host_are_not_captured, test_no_other_array_lies_in_the_memory_of_a_graph,
        test_two_captured_steps_take_turns, test_what_a_step_returned_outlives_it, test_in_a_stream_of_the_caller,
        test_a_capture_leaves_nothing_to_be_done_later]


@pytest.mark.needs("fakecuda")
def test_on_a_device_that_works_as_late_as_it_may():
    """What is missing between two streams then shows in the numbers."""
    if os.environ.get("FAKECUDA_LAZY"):
        return
    tests = [f"{__file__}::{test.__name__}" for test in LATE]
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "cupy", *tests],
                          env={**os.environ, "FAKECUDA_LAZY": "1"}, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5000:]


def test_outputs_that_are_a_part_of_the_state_are_copies(cupy):
    """Of the state before the step: the graph overwrites it."""
    def step(state, x):
        return state * 2.0 + x, (state[1:], state[::2], state)
    captured, state, held = mg.capture(step), np.arange(4.0, dtype="float32"), cupy.arange(4.0, dtype="float32")
    for k in range(4):
        x = np.full(4, k, "float32")
        expected, outputs = step(state, x)
        held, found = captured(held, cupy.asarray(x))
        for a, b in zip((held, *found), (expected, *outputs), strict=True):
            np.testing.assert_array_equal(mg.to_host(a), b)
        state = expected
    assert captured.launches


def test_arguments_of_another_type_have_a_graph_of_their_own(cupy):
    """... of the same shapes: one after the other, and in turns."""
    captured = mg.capture(lambda state, x: (state + x, x / 3))
    for _ in range(3):
        for dtype in ("float32", "float64", "complex64"):
            new, y = captured(cupy.ones(5, dtype), cupy.full(5, 0.1, dtype))
            assert new.dtype == y.dtype == dtype
            np.testing.assert_allclose(mg.to_host(y), np.full(5, 0.1, dtype) / 3, rtol=1e-6)
