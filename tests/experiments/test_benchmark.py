"""The benchmark: it compares steps that compute the same, its counts are right, and it writes what it measured."""
import contextlib
import functools
import json
import math
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from experiments import COMMANDS, command_line, console
from experiments.benchmark import benchmark, comparisons, limits, peers, precision
from experiments.benchmark.peers import Workload, clocks, of_minigrad, process
from experiments.training import pool
from minigrad import backend
from minigrad.fast import native, threads

from .. import requirements

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"mlp": Workload("mlp", 6, 4, (5, 7, 10)), "lenet": Workload("lenet", 5, 3), "resnet": Workload("resnet", 6, 4, (8, 1))}
WORKLOADS = {**SMALL, "tiny": Workload("mlp", 6, 0, (5, 7, 10))}
NEEDS = {"PyTorch": ["torch"], "PyTorch channels_last": ["torch"], "JAX": ["jax"], "autograd": ["autograd"]}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Measure without pauses: no test looks at the times."""
    monkeypatch.setattr(benchmark, "PAUSE", 0.0)


def assert_close(some, others, atol):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def moved(some, others):
    return any(abs(a - b).max() > 1e-6 for a, b in zip(some, others))


@pytest.mark.parametrize("name", SMALL)
def test_routes_of_algorithm_1_take_the_same_step(name):
    found = peers.use("minigrad", SMALL[name])
    steps = {route: found.host(step()) for route, step in found.routes.items()}
    assert len(steps) == {"resnet": 5, "lenet": 3, "mlp": 3}[name]
    for route, step in steps.items():
        assert_close(step, steps[peers.kind(route)], 1e-6)
        assert moved(step, peers.weights(SMALL[name]))
    assert moved(steps["plain"], steps["Algorithm 1"])


@pytest.mark.parametrize("library, name", [(library, name) for library in NEEDS for name in WORKLOADS
                                           if peers.runs(library, WORKLOADS[name])])
@pytest.mark.filterwarnings("ignore")                       # of the other libraries
def test_other_libraries_take_the_same_step(library, name):
    requirements.need(*NEEDS[library])
    ours, theirs = (peers.use(each, WORKLOADS[name]) for each in ("minigrad", library))
    assert theirs.routes
    for route, step in theirs.routes.items():
        assert_close(theirs.host(step()), ours.host(ours.routes[peers.kind(route)]()), 2e-6)
        assert theirs.memory(step) > 0


def test_what_each_layer_costs():
    """By hand: input and output shape, and the weights, in the order in which the layers run."""
    model, lenet, resnet = (peers.minigrad_model(SMALL[name]) for name in ("mlp", "lenet", "resnet"))
    assert limits.layers(model, (5,)) == [((5,), (7,), (5, 7)), ((7,), (7,), None), ((7,), (10,), (7, 10))]
    found = limits.layers(lenet, (28, 28, 1))
    assert found[:3] == [((28, 28, 1), (28, 28, 16), (5, 5, 1, 16)), ((28, 28, 16), (14, 14, 16), None), ((14, 14, 16), (14, 14, 16), None)]
    assert found[7:10] == [((7, 7, 64), (4, 4, 64), None), ((4, 4, 64), (4, 4, 64), None), ((4, 4, 64), (100,), (1024, 100))]
    found = limits.layers(resnet, (32, 32, 3))
    full, half, wide = (32, 32, 16), (16, 16, 16), (16, 16, 32)
    assert found[:7] == [((32, 32, 3), full, (3, 3, 3, 16)), (full, full, None), (full, full, None),            # normalization, ReLU
                         (full, full, (3, 3, 16, 16)), (full, full, None), (full, full, None), (full, full, (3, 3, 16, 16))]
    assert found[7:11] == [(full, full, None)] * 3 + [(full, wide, (3, 3, 16, 32))]                         # sum, normalization, ReLU
    assert found[13:17] == [(wide, wide, (3, 3, 32, 32)), (full, half, None), (half, wide, None), (wide, wide, None)]     # shortcut, sum
    assert found[-2:] == [((8, 8, 64), (64,), None), ((64,), (10,), (64, 10))]


def test_what_a_step_costs():
    assert limits.forward_pass(SMALL["mlp"]) == {"flops": 2 * (5 * 7 + 7 * 10), "bytes": 4 * ((5 + 7) + (7 + 7) + (7 + 10))}
    conv, pool, relu, dense = 4 * (784 + 784 * 16), 4 * (784 * 16 + 196 * 16), 4 * 2 * 196 * 16, 4 * (1024 + 100)
    conv, pool, relu = conv + 4 * 196 * (16 + 32), pool + 4 * (196 + 49) * 32, relu + 4 * 2 * 49 * 32
    conv, pool, relu = conv + 4 * 49 * (32 + 64), pool + 4 * (49 + 16) * 64, relu + 4 * 2 * (16 * 64 + 100)
    assert limits.forward_pass(SMALL["lenet"]) == {
        "flops": 2 * (28 * 28 * 25 * 16 + 14 * 14 * 25 * 16 * 32 + 7 * 7 * 25 * 32 * 64 + 1024 * 100 + 100),
        "bytes": conv + pool + relu + dense + 4 * (100 + 1)}
    pixels = [(1024, 3, 16)] + [(1024, 16, 16)] * 2 + [(256, 16, 32), (256, 32, 32), (64, 32, 64), (64, 64, 64)]
    assert limits.forward_pass(SMALL["resnet"])["flops"] == 2 * sum(n * 9 * c * o for n, c, o in pixels) + 2 * 64 * 10
    for route, count in {"plain": 3 * 5, "gradient": 3 * 5, "plain, captured": 3 * 5, "Algorithm 1": 5 * 5 + 3 * 3,
                         "double backward": 5 * 5 + 3 * 3, "one graph, CUDA graph": 5 * 5 + 3 * 3}.items():     # the least for any implementation
        assert limits.passes(SMALL["lenet"], route) == count


def row(*times, memory=100):
    milliseconds = 1e3 * float(np.median(times))
    return {"times": list(times), "ms": milliseconds, "quartiles": [milliseconds] * 2, "memory": memory}


def test_ratios_are_medians_over_the_rounds():
    rows = {("minigrad", "plain"): row(2.0, 4.0, 6.0, memory=150), ("PyTorch", "plain"): row(1.0, 4.0, 3.0, memory=75),
            ("PyTorch channels_last", "plain"): row(1.0, 1.0, 3.0), ("minigrad", "Algorithm 1"): row(5.0, 9.0, 12.0, memory=160)}
    found = {what: value for what, value, *_ in comparisons.comparisons("net", rows)}
    assert found == {"net: plain step / best of PyTorch: PyTorch channels_last, plain": 2.0,
                     "net: Algorithm 1 / own plain step": 2.25, "net: peak memory, Algorithm 1 / own plain step": 160 / 150,
                     "net: peak memory, plain step / best of PyTorch: PyTorch, plain": 2.0}


def test_the_best_route_of_a_peer_is_named():
    rows = {("minigrad", "plain"): row(2.0), ("minigrad without C", "plain"): row(8.0), ("JAX", "plain"): row(4.0),
            ("minigrad", "Algorithm 1"): row(3.0, 6.0, 9.0), ("minigrad without C", "Algorithm 1"): row(12.0, 12.0, 12.0),
            ("PyTorch", "double backward"): row(6.0, 6.0, 6.0), ("PyTorch channels_last", "one graph"): row(5.0, 5.0, 5.0),
            ("PyTorch", "forward mode"): row(1.0, 4.0, 9.0), ("JAX", "double backward"): row(2.0), ("JAX", "forward mode"): row(1.0)}
    found = {what: values for what, *values in comparisons.comparisons("net", rows)}
    assert found.pop("net: Algorithm 1 / best of PyTorch: PyTorch, forward mode") == [1.5, 1.25, 2.25]
    assert {what: value for what, (value, *_) in found.items() if "memory" not in what} == {
        "net: plain step / best of JAX: JAX, plain": 0.5, "net: without C, plain step / best of JAX: JAX, plain": 2.0,
        "net: without C, Algorithm 1 / best of PyTorch: PyTorch, forward mode": 3.0,
        "net: Algorithm 1 / best of JAX: JAX, forward mode": 3.0, "net: without C, Algorithm 1 / best of JAX: JAX, forward mode": 12.0,
        "net: Algorithm 1 / PyTorch double backward": 1.0, "net: Algorithm 1 / PyTorch one graph": 1.2,
        "net: Algorithm 1 / PyTorch forward mode": 1.5,
        "net: plain step / without C": 0.25, "net: Algorithm 1 / without C": 0.5, "net: Algorithm 1 / own plain step": 1.5}


def test_captured_steps_are_compared():
    rows = {("minigrad", "plain"): row(4.0), ("minigrad", "plain, captured"): row(1.0), ("PyTorch", "plain"): row(2.0),
            ("minigrad", "Algorithm 1"): row(12.0), ("minigrad", "Algorithm 1, captured"): row(3.0),
            ("PyTorch", "double backward"): row(24.0), ("PyTorch channels_last", "double backward"): row(12.0),
            ("PyTorch", "plain, compiled"): row(0.5), ("JAX", "plain"): row(2.0), ("JAX", "double backward"): row(1.5),
            ("JAX", "forward mode"): row(6.0), ("PyTorch", "forward mode, compiled"): row(2.0),
            ("PyTorch", "one graph, CUDA graph"): row(1.0), ("PyTorch", "forward mode, CUDA graph"): row(0.75)}
    found = {what.removeprefix("net: "): value for what, value, *_ in comparisons.comparisons("net", rows)}
    expected = {"Algorithm 1 captured / PyTorch eager double backward": 0.25, "plain captured / PyTorch eager": 0.5,
                "Algorithm 1 captured / best of torch.compile and JAX: JAX, double backward": 2.0, "Algorithm 1 captured / eager": 0.25,
                "plain captured / best of torch.compile and JAX: PyTorch, plain, compiled": 2.0, "plain captured / eager": 0.25,
                "Algorithm 1 captured / PyTorch CUDA graph": 4.0, "Algorithm 1 captured / own plain step captured": 3.0}
    assert {what: value for what, value in found.items() if "captured" in what} == expected
    assert found["Algorithm 1 / PyTorch double backward"] == 1.0      # compiled routes do not count as eager ones
    rows["PyTorch channels_last", "forward mode, compiled"] = row(1.0)
    found = {what: value for what, value, *_ in comparisons.comparisons("net", rows)}
    assert found["net: Algorithm 1 captured / best of torch.compile and JAX: PyTorch channels_last, forward mode, compiled"] == 3.0


class Answers:
    """A stand-in for a library in its own process."""

    def __init__(self, **told):
        self.told, self.failed, self.routes, self.version, self.reason = told, {}, ["plain", "Algorithm 1"], "1.0", ""

    def wait(self):
        pass

    def close(self):
        self.closed = True

    def ask(self, what, route):
        found = self.told.get(f"{what} {route}", self.told.get(what))
        if isinstance(found, str):
            self.failed[route] = found
            return None
        return found


def test_a_library_that_computes_something_else_is_left_out():
    some = {name: Answers(weights=[np.array(w)]) for name, w in (("a", [1.0, 2.0]), ("b", [1.0, 2.1]), ("c", [np.nan, 2.0]))}
    rows = {("a", "plain"): {}, ("b", "Algorithm 1"): {}, ("b", "plain, captured"): {}, ("c", "plain"): {}}
    benchmark._check_agreement(some, rows, 1e-5)
    assert rows["a", "plain"] == rows["b", "Algorithm 1"] == {"difference": 0.0}, "of another kind of step"
    assert not some["a"].failed and some["b"].failed == {"plain, captured": "its weights differ from the others' by 0.1"}
    assert some["c"].failed == {"plain": "its weights differ from the others' by nan"}
    b = Answers(weights=[np.array([1.0, 2.1])])
    benchmark._check_agreement({**some, "b": b}, {("a", "plain"): {}, ("b", "plain"): {}}, 0.2)
    assert not b.failed


def test_minigrad_is_measured_with_and_without_its_kernels_in_c(monkeypatch):
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    result = benchmark.measure(SMALL["lenet"], ["minigrad", "minigrad without C"], 2, kinds=["plain"])
    assert set(result["rows"]) == {("minigrad", "plain"), ("minigrad without C", "plain")} and not result["failed"]
    with_c, without = result["versions"].values()
    assert without.endswith(", without kernels in C")
    assert with_c.endswith(", with kernels in C" if native.library("f") else ", without kernels in C")
    assert os.environ["MINIGRAD_NATIVE"] == "1"


def test_what_each_library_runs():
    for gpu in (False, True):
        assert {library: [name for name, workload in WORKLOADS.items() if peers.runs(library, workload, gpu)] for library in peers.LIBRARIES} == {
            "minigrad": list(WORKLOADS), "PyTorch": list(WORKLOADS), "JAX": list(WORKLOADS), "PyTorch channels_last": ["lenet", "resnet"],
            "minigrad without C": [] if gpu else list(WORKLOADS), "PyTorch compiled": [] if gpu else list(SMALL), "autograd": [] if gpu else ["tiny"]}


def test_routes_that_fail_are_left_out_with_the_reason(monkeypatch):
    good = {"weights": [np.ones(2)], "time": 0.5, "memory": 7, "launches": None}
    made = {"a": Answers(**good), "b": Answers(**good | {"weights plain": "CompileError: no\nand much more"}),
            "c": Answers(**good | {"time Algorithm 1": "OutOfMemoryError: full", "launches plain": 12})}
    monkeypatch.setattr(benchmark, "Peer", lambda name, *rest: made[name])
    monkeypatch.setattr(benchmark, "runs", lambda name, *rest: name != "d")
    monkeypatch.setattr(benchmark, "machine", lambda: {"flops": 1e6, "bytes": 1e3})
    result = benchmark.measure(SMALL["mlp"], "abcd", 3)
    assert set(result["rows"]) == {("a", "plain"), ("a", "Algorithm 1"), ("b", "Algorithm 1"), ("c", "plain")}
    assert result["failed"] == {("b", "plain"): "CompileError: no\nand much more", ("c", "Algorithm 1"): "OutOfMemoryError: full"}
    assert result["rows"]["c", "plain"]["launches"] == 12 and result["rows"]["a", "plain"]["launches"] is None
    cost = limits.forward_pass(SMALL["mlp"])
    assert result["rows"]["a", "plain"]["arithmetic"] == 3 * 6 * cost["flops"] / 1e6 / 0.5
    assert result["rows"]["a", "Algorithm 1"]["copying"] == (5 * 6 + 3 * 4) * cost["bytes"] / 1e3 / 0.5
    assert result["rows"]["a", "plain"]["ms"] == 500.0 and result["rows"]["a", "plain"]["quartiles"] == [500.0, 500.0] and result["rounds"] == 3
    printed = benchmark.table("net", result)
    assert "b, plain: left out (CompileError: no)" in printed and "12 launches" in printed and "much more" not in printed
    assert all(peer.closed for peer in made.values())


def test_rounds_end_when_their_time_is_over(monkeypatch):
    monkeypatch.setattr(benchmark, "machine", lambda: {"flops": 1.0})
    for seconds, count in ((math.inf, 5), (0.0, 2), (60.0, 5)):
        told, rows = [], {("a", "plain"): {"times": []}}
        rates = benchmark._take_rounds({"a": Answers(time=1.0)}, rows, 5, seconds, 0.0, lambda n=1: told.append(n))
        assert len(rows["a", "plain"]["times"]) == len(rates) == count and sum(told) == 5


def test_a_pause_precedes_every_turn(monkeypatch):
    log = []
    monkeypatch.setattr(benchmark.time, "sleep", log.append)
    monkeypatch.setattr(benchmark, "machine", lambda: log.append("machine") or {"flops": 1.0, "bytes": 1.0})
    monkeypatch.setattr(Answers, "ask", lambda self, what, route: log.append(route) or 1.0)
    benchmark._take_rounds({"a": Answers()}, {("a", route): {"times": []} for route in ("plain", "Algorithm 1")}, 2, math.inf, 0.5, lambda n=1: None)
    assert log == [0.5, "machine", 0.5, "plain", 0.5, "Algorithm 1"] * 2
    monkeypatch.setattr(benchmark, "PAUSE", 0.25)
    monkeypatch.setattr(Answers, "ask", lambda self, what, route: {"weights": [np.ones(2)], "time": 0.5, "memory": 7}.get(what))
    monkeypatch.setattr(benchmark, "Peer", lambda *args: Answers())
    for gpu, pauses in ((False, {0.25}), (True, {0.0})):
        log.clear()
        benchmark.measure(SMALL["mlp"], ["minigrad"], 2, gpu)
        assert {each for each in log if each != "machine"} == pauses


def served(monkeypatch, library, wanted, gpu=False, kinds=None):
    """Return the replies of a server of a made-up library."""
    monkeypatch.setattr(process, "use", lambda *args: library)
    ours, theirs = multiprocessing.Pipe()
    for each in (*wanted, None):
        ours.send(each)
    process.serve(theirs, "made up", None, gpu, kinds=kinds)
    return [ours.recv() for _ in range(1 + len(wanted))]


def test_what_a_process_tells(monkeypatch):
    calls, released = [], []

    def late():
        calls.append("late")
        if len(calls) > 1:
            raise MemoryError("full")
        return [3.0]
    graph = of_minigrad.Captured(None, None, ())
    graph.launches = 5
    library = peers.Library("1.2", {"good": lambda: [1.0], "broken": lambda: 1 / 0, "late": late, "graph": graph},
                            lambda step, times: 0.25 * times, lambda weights: weights, lambda step: 9, lambda: released.append(1))
    graph._capture = lambda: lambda state: (([2.0], None), ())
    wanted = [("time", "good"), ("memory", "good"), ("weights", "good"), ("weights", "late"), ("launches", "graph"), ("launches", "good")]
    found = served(monkeypatch, library, wanted)
    assert found == [("1.2", ["good", "late", "graph"], {"broken": "ZeroDivisionError: division by zero"}),
                     0.25, 9, [1.0], "MemoryError: full", 5, None]
    assert len(released) == 4 + len(wanted), "after each answer"
    monkeypatch.setattr(process, "PATIENCE", -1.0)
    assert served(monkeypatch, library, [], gpu=True)[0][:2] == ("1.2", []), "no time left to build anything"
    assert served(monkeypatch, library, [])[0][1] == ["good", "graph"]
    library.routes.update(plain=lambda: [1.0], **{"plain, captured": lambda: [1.0]})
    assert served(monkeypatch, library, [], kinds=["plain", "gradient"])[0] == ("1.2", ["plain", "plain, captured"], {})


def test_a_process_that_dies_is_no_end(monkeypatch):
    peer = process.Peer("minigrad", SMALL["mlp"])
    peer.wait()
    assert peer.ask("memory", "plain") > 0 and not peer.failed
    peer.process.kill()
    peer.process.join()
    assert peer.ask("time", "plain") is None and peer.failed == {"plain": "the process ended without a reply"}
    peer.close()


def test_turns_on_a_device_time_several_steps_at_once():
    def clock(step, times):
        counts.append(times)
        return cost * times
    for cost, gpu, expected in ((0.01, True, [1, 1, 10]), (0.06, True, [1, 1]), (9.0, True, [1, 1]), (9.0, False, [1, 1]),
                                (0.06, False, [1, 1, 1, 1, 1])):
        counts = []
        assert clocks.turn(None, clock, gpu) == pytest.approx(cost) and counts == expected


def test_events_stand_around_the_steps():
    log = []

    class Event:
        def __init__(self):
            self.at = None

        def record(self):
            self.at = len(log)
            log.append("event")

        def synchronize(self):
            log.append("wait")
    elapsed = clocks.by_events(Event, lambda a, b: 1e3 * (b.at - a.at))
    assert elapsed(lambda: log.append("step"), 3) == 4.0
    assert log == ["event", "step", "step", "step", "event", "wait"]


def test_a_captured_step_goes_on_from_where_it_was():
    step = of_minigrad.Captured(lambda state, x: ((state[0] + x, state[1] * 2), ()), (np.zeros(2), np.ones(2)), [np.ones(2)])
    assert step()[0] == 1.0 and step()[0] == 2.0 and step.launches is None
    step.run = None
    assert step()[0] == 1.0, "what is built anew begins anew"


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_captured_routes_take_the_same_steps(name, cupy):
    found = peers.use("minigrad", SMALL[name], gpu=True)
    batches = [mg.xp.asarray(a) for a in peers.data(SMALL[name])]
    optimizer, model = mg.optim.sgd(momentum=peers.MOMENTUM), peers.minigrad_model(SMALL[name])
    for route in ("plain", "Algorithm 1"):
        captured = found.routes[f"{route}, captured"]
        first = found.host(found.routes[route]())
        assert found.memory(captured) is None
        found.release()
        assert_close(found.host(captured()), first, 1e-7)
        state = optimizer.init(model), model
        for _ in range(2):
            gradient = of_minigrad.gradients(SMALL[name])[route](state[1], *batches)
            state = optimizer.update(gradient, state[0], state[1], peers.RATE)[::-1]
        assert_close(found.host(captured()), found.host(state[1]), 1e-7)             # momentum continues
        assert captured.launches > 10
        found.release()
        assert_close(found.host(captured()), first, 1e-7)


def test_a_step_that_cannot_be_captured_says_why(cupy):
    step = of_minigrad.Captured(lambda state: (state * float(state), ()), mg.xp.asarray(np.float32(2.0)), ())
    with pytest.raises(mg.MinigradError, match="cannot be captured.*capturing"):
        step()


@pytest.mark.parametrize("name", ["lenet", "resnet"])
@pytest.mark.filterwarnings("ignore")                       # of PyTorch
def test_functions_of_the_weights_take_the_same_step(name):
    torch = requirements.module("torch")
    from experiments.benchmark.peers import of_torch
    steps, functional = (kind(SMALL[name], torch.contiguous_format) for kind in (of_torch._Eager, of_torch._Functional))
    routes = of_torch.routes_on_gpu({"plain": steps.plain, "one graph": steps.one_graph, "forward mode": steps.forward_mode},
                                    functional, backend="aot_eager")
    assert list(routes) == ["plain, CUDA graph", "one graph, CUDA graph", "forward mode, CUDA graph", "plain, compiled",
                            "forward mode, compiled"]
    for route, eager in (("plain", steps.plain), ("forward_mode", steps.double_backward)):
        expected = of_torch.host(eager())
        assert_close(of_torch.host(getattr(functional, route)(functional.P)), expected, 1e-6)
        assert_close(of_torch.host(routes[f"{route.replace('_', ' ')}, compiled"]()), expected, 1e-6)
    assert moved(of_torch.host(steps.plain()), expected)


@pytest.mark.filterwarnings("ignore")                       # of PyTorch
def test_compiled_routes_on_the_cpu_take_the_same_step(monkeypatch):
    requirements.need("torch")
    from experiments.benchmark.peers import of_torch
    monkeypatch.setattr(of_torch, "Compiled", functools.partial(of_torch.Compiled, backend="aot_eager"))
    ours, theirs = (peers.use(library, SMALL["lenet"]) for library in ("minigrad", "PyTorch compiled"))
    assert list(theirs.routes) == ["plain", "forward mode"]
    for route, step in theirs.routes.items():
        assert_close(theirs.host(step()), ours.host(ours.routes[peers.kind(route)]()), 2e-6)
        assert theirs.memory(step) > 0
    assert "PyTorch compiled" not in benchmark._options([]).libraries


def test_a_cuda_graph_is_recorded_once_and_replayed(monkeypatch):
    torch = requirements.module("torch")
    from experiments.benchmark.peers import of_torch
    log = []

    class Recording:
        def __init__(self, graph):
            assert isinstance(graph, Graph)

        def __enter__(self):
            log.append("record")

        def __exit__(self, *error):
            log.append("end")

    class Graph:
        def replay(self):
            log.append("replay")

    class Stream:
        def wait_stream(self, other):
            log.append("wait")
    for name, value in {"CUDAGraph": Graph, "graph": Recording, "Stream": Stream, "current_stream": Stream,
                        "stream": lambda stream: contextlib.nullcontext(), "empty_cache": lambda: log.append("emptied")}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    step = of_torch.Graph(lambda: log.append("step") or "weights")
    assert (step(), step()) == ("weights", "weights")
    recorded = ["wait", "step", "step", "step", "wait", "record", "step", "end", "replay"]
    assert log == [*recorded, "replay"]
    log.clear()
    of_torch.release([step, print])
    assert step() == "weights" and log == ["emptied", *recorded]


@pytest.mark.parametrize("library", ["PyTorch", "JAX"])
def test_a_library_without_the_gpu_says_so(library):
    requirements.need(*NEEDS[library])
    code = f"from experiments.benchmark import peers; peers.use({library!r}, peers.WORKLOADS['lenet'], gpu=True)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "MINIGRAD_BACKEND": "numpy"})
    assert told.returncode and re.search("RuntimeError: .*(cuda|gpu)", told.stderr, re.I), told.stderr


def test_float32_is_held_against_float64():
    rows = precision.rows(SMALL)
    assert [(row["problem"], row["precision"], row["backend"]) for row in rows] == [(name, "float32", "numpy") for name in SMALL]
    assert all(1e-8 < row["gradient"] < 1e-5 and row["weights"] < 1e-5 for row in rows) and rows[0]["weights"] > 1e-8
    assert precision.algorithm_1(SMALL["lenet"], "float64")["gradient"].dtype == "float64"
    assert precision.relative(np.array([3.0, 4.5], "float32"), np.array([3.0, 4.0])) == 0.1
    assert "lenet, float32, numpy" in precision.table(rows)


def test_both_precisions_of_a_device_are_held_against_float64(cupy, monkeypatch):
    ran, algorithm_1 = [], precision.algorithm_1

    def watched(workload, kind):
        ran.append((backend.name(), kind, backend.matmul_precision()))
        return algorithm_1(workload, kind)
    monkeypatch.setattr(precision, "algorithm_1", watched)
    rows = precision.rows({"mlp": SMALL["mlp"]})
    assert ran == [("numpy", "float64", "float32"), ("cupy", "float32", "float32"), ("cupy", "float32", "tf32")]
    assert [row["precision"] for row in rows] == ["float32", "tf32"]
    assert rows[0]["gradient"] < 1e-5 < 1e-4 < rows[1]["gradient"] < 1e-2            # 23 and 10 bits of mantissa
    assert (backend.name(), backend.matmul_precision()) == ("cupy", "float32")


def test_the_limits_of_a_device(cupy, monkeypatch):
    def elapsed(f, times):
        f()
        return (2.0 if backend.matmul_precision() == "float32" else 0.5) * times
    monkeypatch.setattr(limits.clocks, "of_cupy", lambda: elapsed)
    monkeypatch.setattr(limits, "SIDE", 8)
    monkeypatch.setattr(limits, "COPIED", 64)
    assert limits.machine() == {"flops": 2 * 8 ** 3 / 2.0, "bytes": 2 * 64 / 2.0}
    assert cupy.get_default_memory_pool().free_bytes() == 0
    backend.matmul_precision("tf32")
    try:
        assert limits.machine() == {"flops": 2 * 8 ** 3 / 0.5, "bytes": 2 * 64 / 0.5, "flops in float32": 2 * 8 ** 3 / 2.0}
        assert backend.matmul_precision() == "tf32"
    finally:
        backend.matmul_precision("float32")


def test_the_gpu_is_asked_for_in_vain(monkeypatch, capsys):
    monkeypatch.setattr(backend, "cupy_or_reason", lambda: (None, "no device is in this machine"))
    assert benchmark.main(["--gpu"]) == 2 and "no device is in this machine" in capsys.readouterr().err
    assert backend.name() == "numpy"


def test_what_is_measured():
    options = benchmark._options(["--gpu", "--tf32"])
    assert options.workloads == ["lenet", "resnet32", "wrn-28-10"] and options.tf32
    assert benchmark._options(["--gpu", "--workloads", "mlp", "--libraries", "JAX"]).workloads == ["mlp"]
    assert benchmark._options(["--no-gpu"]).workloads == ["mlp-tiny", "mlp", "lenet", "resnet32"]
    assert benchmark._options([]).gpu == (backend.name() == "cupy")


def made_up():
    """Return a made-up result of `measure`."""
    each = {"library": "minigrad", "route": "plain, captured", "ms": 2.0, "quartiles": [1.0, 3.0], "memory": None, "times": [0.002, 0.002], "difference": 0.0, "arithmetic": 0.5,
            "copying": 0.5, "launches": 3}
    return {"rows": {("minigrad", "plain, captured"): each}, "machine": {}, "rounds": 2, "versions": {"minigrad": "1"}, "missing": {},
            "failed": {("PyTorch", "plain, compiled"): "Error: no"}}


def test_each_problem_is_written_when_it_is_done(tmp_path, monkeypatch, cupy, drawn):
    def measure(workload, libraries, rounds, gpu, tf32, kinds, progress):
        assert (gpu, tf32, backend.name(), backend.matmul_precision()) == (True, True, "cupy", "tf32")
        if workload == peers.WORKLOADS["resnet32"]:
            raise KeyboardInterrupt
        return made_up()
    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark.precision, "rows", lambda: [{"problem": "net", "precision": "tf32", "backend": "cupy", "gradient": 1e-3, "weights": 2e-3}])
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(["--gpu", "--tf32", "--threads", "1", "--out", str(tmp_path)])
    assert backend.matmul_precision() == "float32"
    (path,) = tmp_path.glob("benchmark-cupy-tf32-*.json")
    result = json.loads(path.read_text())
    assert path.with_suffix(".png").stat().st_size > 0 and list(result["problems"]) == ["lenet"]
    assert result["device"] and result["products"] == "tf32" and result["precision"][0]["weights"] == 2e-3
    assert result["problems"]["lenet"]["rows"][0]["launches"] == 3
    assert result["problems"]["lenet"]["failed"] == [{"library": "PyTorch", "route": "plain, compiled", "reason": "Error: no"}]
    assert f"{result['device']}, products in TF32, medians of 2 rounds" in drawn[0].get_supxlabel().replace("\n", " ")


def test_each_number_of_threads_is_measured(tmp_path, monkeypatch, drawn, capsys):
    seen, before = [], dict(os.environ)

    def measure(workload, libraries, rounds, gpu, tf32, kinds, progress):
        settings = {os.environ[name] for name in pool.THREADS}
        seen.append((workload, threads.threads(), settings, os.environ["XLA_FLAGS"].rpartition("=")[2], kinds))
        rows = {(library, "plain"): {**row(0.25, 0.5), "library": library, "route": "plain", "arithmetic": 0.5, "copying": 0.5}
                for library in ("minigrad", "PyTorch")}
        return {**made_up(), "rows": rows, "failed": {}}
    monkeypatch.setattr(benchmark, "measure", measure)
    assert benchmark.main(["--workloads", "lenet", "wrn-28-10", "--threads", "1", "2", "--steps", "plain",
                           "--rounds", "2", "--out", str(tmp_path)]) == 0
    assert dict(os.environ) == before and threads.threads() == int(before.get("MINIGRAD_THREADS") or len(os.sched_getaffinity(0)))
    wide = Workload("resnet", 16, 16, (26, 10))
    assert seen == [(workload, count, {str(count)}, eigen, ["plain"]) for workload in (peers.WORKLOADS["lenet"], wide)
                    for count, eigen in ((1, "false"), (2, "true"))]
    result = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert result["threads"] == [1, 2]
    assert {title: (each["threads"], each["batches"]) for title, each in result["problems"].items()} == {
        "lenet, 1 thread": (1, [100, 10]), "lenet, 2 threads": (2, [100, 10]),
        "wrn-28-10, 1 thread": (1, [16, 16]), "wrn-28-10, 2 threads": (2, [16, 16])}
    assert "wrn-28-10, 2 threads: plain step / best of PyTorch: PyTorch, plain" in [what for what, *_ in result["comparisons"]]
    assert "lenet, 1 thread, 100 + 10 examples" in capsys.readouterr().out
    assert "numpy, 1 and 2 threads, medians" in drawn[-1].get_supxlabel().replace("\n", " ")


def test_a_small_run_is_written(tmp_path, monkeypatch, capsys):
    before = dict(os.environ)
    monkeypatch.setitem(peers.WORKLOADS, "mlp", SMALL["mlp"])
    grown = [{"depth": depth, "batch": batch, "library": "minigrad", "route": "plain", "ms": 1.0, "memory": 1}
             for depth, batch in ((32, 12), (32, 50), (8, 50))]
    monkeypatch.setattr(benchmark, "growth", lambda *args: grown)
    assert benchmark.main(["--rounds", "2", "--workloads", "mlp-tiny", "mlp", "--libraries", "minigrad", "--threads", "1", "--growth",
                            "--out", str(tmp_path / "new")]) == 0
    assert dict(os.environ) == before
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert len(files) == 3 and sum(name.endswith(".png") for name in files) == 2
    result = json.loads(next(path for name, path in files.items() if name.endswith(".json")).read_text())
    rows = {each["route"]: each for each in result["problems"]["mlp"]["rows"]}
    assert set(rows) == {"plain", "Algorithm 1", "double backward"}
    assert all(each["ms"] > 0 and each["memory"] > 0 and each["difference"] < 1e-6 for each in rows.values())
    assert {"date", "backend", "threads", "numpy"} <= set(result) and "minigrad" in result["problems"]["mlp"]["versions"]
    printed = capsys.readouterr().out
    assert "minigrad, Algorithm 1" in printed and "Algorithm 1 / own plain step" in printed


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(peers.LIBRARIES, "nothing", peers.Entry("of_nothing"))         # here, not in the process of its own
    result = benchmark.measure(SMALL["mlp"], ["minigrad", "nothing"], 2)
    assert {library for library, _ in result["rows"]} == {"minigrad"}
    assert "nothing: left out (KeyError: 'nothing')" in benchmark.table("mlp", result)


def test_an_empty_selection_is_an_error(tmp_path, capsys, monkeypatch):
    """Not a workload without such a step beside one that has it."""
    monkeypatch.setitem(peers.WORKLOADS, "mlp", SMALL["mlp"])
    for workloads, status in ((["mlp"], 2), (["mlp-tiny", "mlp"], 0)):
        assert benchmark.main(["--no-gpu", "--rounds", "2", "--workloads", *workloads, "--libraries", "minigrad", "--threads", "1", "--steps", "gradient", "--out", str(tmp_path)]) == status
    assert "error: no library here has a step of kind gradient on mlp\n  help: other --steps" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--rounds", "1"], ["--threads", "0"], ["--threads", "2", "0"], ["--workloads", "none"],
                                       ["--steps", "double backward"], ["--growth", "--threads", "1", "2"], ["--tf32"], ["--growth", "--libraries", "JAX", "autograd"], ["--growth", "--steps", "gradient"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert "error" in capsys.readouterr().err


def test_the_scripts_are_listed(capsys):
    assert command_line.main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)


def test_growth_measures_each_depth_and_batch(monkeypatch):
    """With as many clean images; in minigrad and PyTorch alone, if they are wanted."""
    seen = []

    def measure(workload, libraries, *others):
        seen.append((workload, libraries, others))
        return {"rows": {0: {"library": "minigrad", "route": "plain", "ms": workload.noisy, "memory": workload.size[0], "times": [1]}}, "rounds": 3}
    monkeypatch.setattr(benchmark, "measure", measure)
    found = benchmark.growth(4, ["JAX", "PyTorch", "minigrad"], True, False, ["plain"], max)
    assert seen == [(Workload("resnet", batch, batch, (depth, 1)), ["minigrad", "PyTorch"], (4, True, False, ["plain"], max)) for depth, batch in benchmark.GROWTH]
    assert found == [{"depth": depth, "batch": batch, "library": "minigrad", "route": "plain", "ms": batch, "memory": depth, "rounds": 3} for depth, batch in benchmark.GROWTH]
    benchmark.growth(4, ["minigrad"])
    assert seen[-1][1] == ["minigrad"]


def test_the_rates_of_the_host_count_all_that_is_done(monkeypatch):
    """Two operations for each of 1024³ products, and 32 MB read and written, on each thread: here in 0.5 seconds."""
    monkeypatch.setattr(limits.clocks, "on_host", lambda step, times: 0.5)
    monkeypatch.setattr(limits.threads, "map_chunks", lambda f, lanes: None)
    count = threads.threads()
    assert limits.host() == {"flops": count * 2 * 1024 ** 3 / 0.5, "bytes": count * 2 * 4 * 2 ** 23 / 0.5}


def test_the_hosts_clock_waits_for_the_last_result(monkeypatch):
    """Of libraries that return before they have computed."""
    now, waited = [0.0], []

    def step():
        now[0] += 1.0
        return now[0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
    assert clocks.on_host(step, 3, lambda result: waited.append(result) or now.__setitem__(0, now[0] + 10.0)) == 13.0 and waited == [3.0]


def test_precision_is_measured_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    rows = [{"problem": "net", "precision": "float32", "backend": "numpy", "gradient": 1e-7, "weights": 2e-7}]
    monkeypatch.setattr(benchmark.precision, "rows", lambda: rows)
    monkeypatch.setattr(benchmark, "measure", lambda *args: made_up())
    for more in ([], ["--precision"]):
        assert benchmark.main(["--no-gpu", "--rounds", "2", "--workloads", "mlp", *more, "--out", str(tmp_path)]) == 0
        result = json.loads(next(tmp_path.glob("*.json")).read_text())
        assert (result.get("precision"), "net, float32, numpy" in capsys.readouterr().out) == ((rows, True) if more else (None, False))


def test_what_the_help_says_of_defaults(monkeypatch):
    """Of every command that trains no runs: its parser is looked at when it is about to read the arguments."""
    class Looked(Exception):
        pass

    def look(parser, args=None, namespace=None):
        raise Looked(parser)
    monkeypatch.setattr(console.Parser, "parse_args", look)
    said = 0
    for name, entry in COMMANDS.items():
        if entry.script is None:
            with pytest.raises(Looked) as caught:
                entry.module.main([])
            for action in caught.value.args[0]._actions:
                numbers = re.search(r"default:? ([\d.]+(?: [\d.]+)*)(?=\W|$)", action.help or "")
                if numbers:
                    default = action.default if isinstance(action.default, list) else [action.default]
                    assert [float(each) for each in numbers[1].rstrip(".").split()] == default, (name, action.dest)
                    said += 1
    assert said > 10


@pytest.mark.parametrize("rounds, few", [("10", 3), ("4", 2)])
def test_growth_takes_a_third_of_the_rounds(tmp_path, monkeypatch, capsys, rounds, few):
    """But two at least."""
    told = []
    monkeypatch.setattr(benchmark, "measure", lambda *args: made_up())
    monkeypatch.setattr(benchmark, "growth", lambda *args: told.append(args[:5]) or [])
    monkeypatch.setattr(benchmark.figures, "growth", lambda *args: None)
    assert benchmark.main(["--no-gpu", "--rounds", rounds, "--workloads", "mlp", "--libraries", "minigrad", "--threads", "1", "--growth", "--steps", "plain", "--out", str(tmp_path)]) == 0
    assert told == [(few, ["minigrad"], False, False, ["plain"])]
