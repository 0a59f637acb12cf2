"""All leaves in one kernel, sums in one kernel, and what a captured step makes of its arguments: on CuPy."""
import logging

import numpy as np
import pytest

import minigrad as mg
from minigrad import BackendError, backend, capture, nn, optim, tree
from minigrad.backend import generator, to_host
from minigrad.fast import capture as capture_module
from minigrad.fast import cuda, cuda_leaves
from minigrad.ops import normalize

from .test_table import without_table

pytestmark = pytest.mark.parametrize("device", ["cupy"], indirect=True)


def drawn(s, dtype="float32", key=0):
    return generator((key, *s)).standard_normal(s).astype(dtype)


def on_device(x):
    return tree.map(mg.xp.asarray, x)


def equal(found, expected, rtol=0.0):
    """Hold two trees to be equal: shapes, types and values."""
    for a, b in zip(*(tree.flatten(x)[0] for x in (found, expected)), strict=True):
        a, b = to_host(a), to_host(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def tolerance(dtype):
    return 1e-6 if dtype == "float32" else 1e-14


# -------------------------------------------------------------------------------------------------- all leaves

def leaves(count, dtype="float32", key=0):
    """Leaves of many sizes: none, one, an odd number, more than a block has threads, more than a block walks over."""
    sizes = [(3, 5), (), (1,), (0, 3), (257,), (7, 300)]
    return [np.asarray(drawn(sizes[k % len(sizes)], dtype, key + k)) for k in range(count)]


OPTIMIZERS = {"plain": optim.sgd(weight_decay=0.1), "momentum": optim.sgd(momentum=0.9),
              "nesterov": optim.sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
              "adam": optim.adam(), "adamw": optim.adam(weight_decay=0.1)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_more_leaves_than_a_launch_takes(device, name, dtype, monkeypatch):
    """Three steps of 150 leaves are those on NumPy: the rate a number, and an array of the device of either type."""
    names, launch = [], cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda xp, file, name, *args: names.append(name) or launch(xp, file, name, *args))
    optimizer, params = OPTIMIZERS[name], leaves(150, dtype)

    def trained(place, params, rates):
        params = place(params)
        state = optimizer.init(params)
        for step, rate in enumerate(rates):
            params, state = optimizer.update(place(leaves(150, dtype, 1000 * step)), state, params, rate)
        return params, state
    expected = without_table(trained, lambda x: x, params, [0.25] * 3)
    found = trained(on_device, params, [0.25, mg.xp.asarray(0.25), mg.xp.asarray(0.25, "float32")])
    equal(found, expected, 10 * tolerance(dtype))
    most = cuda_leaves.TABLE // (8 * (9 if name.startswith("adam") else 7))
    kind = f"{'adam' if name.startswith('adam') else 'sgd'}<{'float' if dtype == 'float32' else 'double'}>"
    assert names == [kind] * 3 * -(-125 // most)            # 25 leaves are empty


def test_leaves_that_there_is_no_kernel_for(device):
    """They are updated by the definition: other types, other layouts, and hyper-parameters of the device."""
    params = {"half": drawn((4, 3), "float16"), "single": drawn((4, 3)), "double": drawn((4, 3), "float64"),
              "turned": drawn((4, 3)).T, "gaps": drawn((8, 6))[::2, ::3], "empty": drawn((0, 2))}
    gradient = {name: 2 * p for name, p in params.items()}
    for momentum in (0.0, 0.9, np.asarray(0.9)):
        for name, make in (("sgd", lambda: optim.sgd(momentum=mg.xp.asarray(momentum) if type(momentum) is not float else momentum)),
                           ("adam", optim.adam)):
            def step(params, gradient):
                optimizer = make()
                return optimizer.update(gradient, optimizer.init(params), params, 0.1)
            found = step(on_device(params), {k: mg.xp.asarray(g.T.copy()).T for k, g in gradient.items()})
            equal(found, without_table(lambda: step(params, gradient)), 2e-3)
            assert found[0]["half"].dtype == "float16", name


def test_leaves_of_two_modules_are_refused(device):
    with pytest.raises(BackendError):
        optim.sgd(momentum=0.9).update({"a": np.ones(3)}, {"momentum": {"a": mg.xp.ones(3)}}, {"a": mg.xp.ones(3)}, 0.1)
    assert optim.sgd(momentum=0.9).update({}, {"momentum": {}}, {}, mg.xp.asarray(0.1)) == ({}, {"momentum": {}})


def test_an_infinite_parameter_that_does_not_decay(device):
    """It meets no 0 * infinity: the step is that of the definition."""
    p, g = np.array([[np.inf, 1.0]], "float32"), np.ones((1, 2), "float32")
    for optimizer in (optim.sgd(), optim.sgd(momentum=0.9), optim.adam(), optim.sgd(weight_decay=0.1, decays=lambda p: False)):
        found, _ = optimizer.update(on_device(g), optimizer.init(on_device(p)), on_device(p), 0.5)
        assert np.isposinf(to_host(found)[0, 0]) and np.isfinite(to_host(found)[0, 1])


def test_copies(device, monkeypatch):
    """Whatever the type, the size and the layout; in two launches for what lies in whole words."""
    launched, launch = [], cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda *args: launched.append(args[2]) or launch(*args))
    sources = [*leaves(200), *(drawn((5,)).astype(kind) for kind in ("float16", "bool", "uint8", "int64", "complex64")),
               np.arange(4, dtype="uint8"), np.asfortranarray(drawn((3, 4)))]
    held = [mg.xp.zeros(x.shape, x.dtype) for x in sources]
    cuda_leaves.copy(zip(held, [mg.xp.asarray(x, order="K") for x in sources]))
    equal(held, sources)
    assert launched == ["copy_words"] * 2
    bytes_ = mg.xp.zeros(9, "uint8")
    cuda_leaves.copy([(bytes_[1:], mg.xp.arange(8, dtype="uint8"))])         # not where a word begins
    cuda_leaves.copy([])
    assert to_host(bytes_).tolist() == [0, *range(8)] and len(launched) == 2


def test_a_state_of_many_leaves_is_captured(device):
    state = [*leaves(300), np.arange(3, dtype="int8"), np.asarray(True), drawn((5,), "float16")]

    def step(state, x):
        return [s + x.astype(s.dtype) if s.dtype.kind == "f" else s for s in state], (state[0], x)
    captured = capture(step)
    found, expected = on_device(state), state
    for t in range(4):
        found, out = captured(found, np.float32(t))
        expected, wanted = step(expected, np.float32(t))
        equal(out, wanted)
    equal(found, expected)
    assert captured.launches < 2 * 301


@pytest.mark.parametrize("name", ["nesterov", "adamw"])
def test_captured_steps_are_those_of_numpy(device, name):
    optimizer, params = OPTIMIZERS[name], leaves(12)

    def step(state, gradient, rate):
        return optimizer.update(gradient, state[1], state[0], rate), ()
    captured = capture(step)
    found, expected = (lambda p: (p, optimizer.init(p)))(on_device(params)), (params, optimizer.init(params))
    for t in range(5):
        arguments = leaves(12, key=100 * t), np.float32(0.1 / (t + 1))
        found, _ = captured(found, *arguments)
        expected, _ = step(expected, *arguments)
    assert captured.launches
    equal(found, expected, 1e-5)


def test_running_averages_keep_their_types(device):
    layer = nn.BatchNorm.init(3)
    x, state = drawn((6, 3)), {"mean": drawn((3,), "float64"), "var": drawn((3,), "float64", 1) ** 2}
    for state in (state, layer.init_state()):
        _, found = layer.apply(mg.xp.asarray(x), on_device(state))
        expected = without_table(lambda: tree.map(np.asarray, nn.BatchNorm.apply(
            tree.map(to_host, layer), x, tree.map(to_host, state))[1]))
        equal(found, expected, 1e-6)


# -------------------------------------------------------------------------------------------------------- sums

def added_in_order(x, lanes, blocks):
    """The sums over the rows of x (count, C) in the order of sums.cu: of lanes, in pairs; then of blocks the same way."""
    def of_lanes(rows, lanes):
        sums = np.zeros((lanes, x.shape[1]))
        for k, row in enumerate(rows):
            sums[k % lanes] += row
        while len(sums) > 1:
            sums = sums[:len(sums) // 2] + sums[len(sums) // 2:]
        return sums[0]
    rows = np.arange(len(x)) // lanes % blocks
    return of_lanes([of_lanes(x[rows == block].astype(float), lanes) for block in range(blocks)], lanes)


@pytest.mark.parametrize("s", [(4000, 16), (90, 300), (5, 3), (3000, 1), (70_000, 2)])
def test_sums_are_added_in_one_order(device, s):
    """To the bit, whichever block ends last."""
    x = drawn(s, "float64")
    width = min(1 << (s[1] - 1).bit_length(), cuda.WIDTH)
    blocks = min(-(-s[0] * width // 1024), cuda.SUM_BLOCKS // -(-s[1] // width))
    expected = added_in_order(x, 256 // width, blocks)
    for _ in range(2):
        np.testing.assert_array_equal(to_host(cuda.column_sums(mg.xp.asarray(x))), expected)


def test_sums_of_a_graph_have_counters_of_their_own(device, monkeypatch):
    """They are 0 again after every launch; where they do not suffice, the graph makes zeros."""
    x = drawn((4000, 300))
    for count, nodes in ((cuda.COUNTERS, 6), (40, 7)):      # 19 for each sum: of 40, the third sum has too few left
        monkeypatch.setattr(cuda, "COUNTERS", count)
        captured = capture(lambda s, x: (s, tuple(cuda.column_sums(k * x) for k in range(1, 4))))
        state = mg.xp.zeros(1)
        for t in range(4):
            state, out = captured(state, mg.xp.asarray(x))
            for k, found in enumerate(out, 1):
                np.testing.assert_allclose(to_host(found), (k * x).sum(0, dtype=float), rtol=1e-4, atol=1e-3)
        graph = captured._plans[0].graph
        assert not to_host(graph.counters).any() and len(graph.counters) == count
        assert captured.launches == nodes


def test_moments_of_what_is_not_finite(device):
    """NaN and infinity come out as in the definition: a variance of NaN is not 0."""
    x = drawn((2000, 7))
    for k, (row, value) in enumerate([(0, np.nan), (0, np.inf), (9, np.nan), (9, np.inf), (1999, -np.inf)]):
        x[row, k] = value
    with np.errstate(all="ignore"):
        expected = without_table(normalize.moments, x)
    for found, wanted in zip(cuda.moments(mg.xp.asarray(x)), expected, strict=True):
        np.testing.assert_allclose(to_host(found), wanted, rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------------------------------------- labels that are none

@pytest.mark.parametrize("kind, labels", [("int64", [-1, 5, 1 << 40, -(1 << 40)]), ("uint8", [5, 255, 9, 7]), ("int32", [-5, 5, 6, 1 << 30])])
def test_a_label_that_is_no_class_makes_nan_and_reads_nothing(device, kind, labels):
    x, t, g = (drawn((8, 5), "float64", k) for k in range(3))
    right = np.array([1, 0, 4, 2], kind)
    y = np.stack([right, np.array(labels, kind)], 1).reshape(-1)
    losses, push, pull = cuda.cross_entropy(mg.xp.asarray(x), mg.xp.asarray(y))
    found = [to_host(each) for each in (losses, push(mg.xp.asarray(t)), pull(mg.xp.asarray(g[:, 0]))[0])]
    expected, J = without_table(mg.linearize, lambda x: nn.cross_entropy(x, right), x[::2])
    for each, wanted in zip(found, (expected, without_table(J.push, t[::2]), without_table(J.pull, g[::2, 0])), strict=True):
        np.testing.assert_allclose(each[::2], wanted, rtol=1e-12)
        assert np.isnan(each[1::2]).all()


# ------------------------------------------------------------------------------------------------------ arguments

def test_inputs_in_the_byte_order_of_other_machines(device):
    captured, x = capture(lambda s, x: (s + x, None)), np.arange(3, dtype=">f4")
    state = mg.xp.zeros(3, "float32")
    for _ in range(4):
        state, _ = captured(state, x)
    assert to_host(state).tolist() == [0, 4, 8] and captured.launches


def test_inputs_may_be_changed_after_the_call(device):
    captured, state, x = capture(lambda s, x: (s + x, x)), mg.xp.zeros(3), np.ones(3)
    outputs = []
    for t in range(4):
        x[:] = t
        state, out = captured(state, x)
        outputs.append(out)
    x[:] = 100
    assert to_host(state).tolist() == [6] * 3 and [float(to_host(out)[0]) for out in outputs] == [0, 1, 2, 3]


def test_a_step_works_on_the_current_stream(device):
    """What was queued there comes first, and what is queued after it waits for it."""
    captured, state = capture(lambda s, x: (s + x, s * 2)), mg.xp.zeros(1000)
    backend.synchronize()
    for t in range(4):
        with mg.xp.cuda.Stream(non_blocking=True) as stream:
            x = mg.xp.ones(1000) * (t + 1)
            state, out = captured(state, x)
            doubled = 2 * state
            stream.synchronize()
        assert float(doubled[7].get()) == (t + 1) * (t + 2) and float(out[7].get()) == t * (t + 1)
    assert captured.launches


def test_a_graph_keeps_what_its_products_work_in(device):
    captured, a = capture(lambda s, x: (s + mg.matmul(x, x), None)), mg.xp.ones((4, 4), "float32")
    state = a
    for _ in range(3):
        state, _ = captured(state, a)
    graph = captured._plans[0].graph
    assert graph.workspace.nbytes and to_host(state).tolist() == [[13.0] * 4] * 4


def test_another_device_has_another_graph(device, monkeypatch):
    calls = []
    captured = capture(lambda s, x: (calls.append(1) or s + x, None))
    one = mg.xp.ones(3)
    for _ in range(3):
        captured(one, one)
    assert len(calls) == 2
    monkeypatch.setattr(mg.xp.cuda.device, "get_device_id", lambda: 1)
    captured(one, one)
    assert len(calls) == 3 and len(captured._plans) == 2


def test_an_interrupted_capture_is_tried_again(device, caplog):
    """It is no reason to run the step as it is from then on."""
    calls = []

    def step(s, x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return s + x, None
    captured, one = capture(step), mg.xp.ones(3)
    captured(one, one)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        captured(one, one)
    state = one
    for _ in range(3):
        state, _ = captured(state, one)
    assert len(calls) == 3 and captured.launches and to_host(state).tolist() == [4.0] * 3 and not caplog.records
    assert isinstance(captured._plans[0].graph, capture_module._Graph)
