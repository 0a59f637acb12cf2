"""The benchmark compares steps that compute the same, counts what it says it counts, and writes what it measured."""
import json
import os
import runpy

import numpy as np
import pytest

import minigrad as mg
from experiments import benchmark, limits, peers
from experiments.peers import Problem

SMALL = {"mlp": Problem("mlp", 6, 4, (5, 7, 10)), "lenet": Problem("lenet", 5, 3), "resnet": Problem("resnet", 6, 4, (8, 1))}
INSTALLED = {"PyTorch": "torch", "PyTorch channels_last": "torch", "JAX": "jax", "autograd": "autograd", "MyGrad": "mygrad", "NumPy": "numpy"}


@pytest.mark.parametrize("name", SMALL)
def test_routes_of_algorithm_1_take_the_same_step(name):
    found = peers.use("minigrad", SMALL[name])
    steps = {route: found.host(step()) for route, step in found.routes.items()}
    expected = peers.weights(SMALL[name])
    assert len(steps) == {"resnet": 5, "lenet": 3, "mlp": 4}[name]
    steps.pop("evaluation", None)
    for route, step in steps.items():
        first = steps["plain" if route.startswith("plain") else "Algorithm 1"]
        for a, b in zip(first, step, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert any(abs(a - b).max() > 1e-6 for a, b in zip(expected, step)), "no step was taken"
    assert any(abs(a - b).max() > 1e-6 for a, b in zip(steps["plain"], steps["Algorithm 1"]))


@pytest.mark.parametrize("library", INSTALLED)
@pytest.mark.parametrize("name", [*SMALL, "tiny"])
@pytest.mark.filterwarnings("ignore")                       # of the other libraries
def test_other_libraries_take_the_same_step(library, name):
    pytest.importorskip(INSTALLED[library], reason=f"{library} is not installed")
    problem = SMALL.get(name) or Problem("mlp", 6, 0, (5, 7, 10))
    if not peers.offered(library, problem):
        pytest.skip(f"{library} has no such network")
    ours, theirs = (peers.use(each, problem) for each in ("minigrad", library))
    expected = {route: ours.host(step()) for route, step in ours.routes.items()}
    assert theirs.routes
    for route, step in theirs.routes.items():
        for a, b in zip(theirs.host(step()), expected.get(route) or expected["Algorithm 1"], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)
        assert theirs.memory(step) != 0


def test_what_is_counted():
    mlp = limits.work(SMALL["mlp"], [(5, 7), (7,), (7, 10), (10,)], "plain")
    assert mlp["flops"] == 3 * 6 * 2 * (5 * 7 + 7 * 10)
    assert mlp["bytes"] == 3 * 6 * 4 * ((5 + 7) + (7 + 7) + (7 + 10))
    once = limits.work(SMALL["mlp"], [(5, 7), (7,), (7, 10), (10,)], "evaluation")
    assert once == {"flops": mlp["flops"] / 3, "bytes": mlp["bytes"] / 3}
    weights = [p.shape for p in peers.weights(SMALL["lenet"])]
    forward = 2 * (28 * 28 * 25 * 16 + 14 * 14 * 25 * 16 * 32 + 7 * 7 * 25 * 32 * 64 + 1024 * 100 + 100)
    assert limits.work(SMALL["lenet"], weights, "plain")["flops"] == 3 * 5 * forward
    for route in ("Algorithm 1", "double backward", "one graph"):       # the least that any way needs
        assert limits.work(SMALL["lenet"], weights, route)["flops"] == (5 * 5 + 3 * 3) * forward
    resnet = [p.shape for p in peers.weights(SMALL["resnet"])]
    pixels = [(1024, 3, 16)] + [(1024, 16, 16)] * 2 + [(256, 16, 32), (256, 32, 32), (64, 32, 64), (64, 64, 64)]
    forward = 2 * sum(n * 9 * c * o for n, c, o in pixels) + 2 * 64 * 10
    assert limits.work(SMALL["resnet"], resnet, "plain")["flops"] == 3 * 6 * forward


def row(*times, memory=100):
    return {"times": list(times), "ms": 1e3 * float(np.median(times)), "memory": memory}


def test_ratios_are_medians_over_the_rounds():
    rows = {("minigrad", "plain"): row(2.0, 4.0, 6.0, memory=150), ("PyTorch", "plain"): row(1.0, 4.0, 3.0),
            ("PyTorch channels_last", "plain"): row(1.0, 1.0, 3.0), ("minigrad", "Algorithm 1"): row(5.0, 9.0, 12.0, memory=160)}
    found = {what: value for what, value, *_ in benchmark.comparisons("net", rows)}
    assert found == {"net: plain step / PyTorch": 2.0, "net: plain step / PyTorch, images (n, c, h, w)": 2.0,
                     "net: Algorithm 1 / own plain step": 2.25, "net: peak memory, Algorithm 1 / own plain step": 160 / 150,
                     "net: peak memory, plain step / PyTorch": 1.5}


def test_a_library_that_computes_something_else_is_refused():
    class Wrong:
        def __init__(self, weights):
            self.weights = weights

        def ask(self, what, route):
            return [np.array(self.weights)]
    some = {"a": Wrong([1.0, 2.0]), "b": Wrong([1.0, 2.1]), "c": Wrong([np.nan, 2.0])}
    assert benchmark._check_agreement(some, [("a", "plain"), ("a", "Algorithm 1")]) == {("a", "plain"): 0.0, ("a", "Algorithm 1"): 0.0}
    for other in "bc":
        with pytest.raises(mg.MinigradError, match=f"{other}, plain: its weights differ"):
            benchmark._check_agreement(some, [("a", "plain"), (other, "plain")])


def test_a_small_run_is_written(tmp_path, monkeypatch, capsys):
    before = dict(os.environ)
    monkeypatch.setitem(peers.PROBLEMS, "mlp", SMALL["mlp"])
    grown = [{"depth": depth, "batch": batch, "library": "minigrad", "route": "plain", "ms": 1.0, "memory": 1}
             for depth, batch in ((32, 12), (32, 50), (8, 50))]
    monkeypatch.setattr(benchmark, "growth", lambda *args: grown)
    assert benchmark.main(["--rounds", "2", "--problems", "mlp-tiny", "mlp", "--libraries", "minigrad", "--threads", "1", "--growth",
                            "--out", str(tmp_path / "new")]) == 0
    assert dict(os.environ) == before
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert len(files) == 3 and sum(name.endswith(".png") for name in files) == 2
    result = json.loads(next(path for name, path in files.items() if name.endswith(".json")).read_text())
    rows = {each["route"]: each for each in result["problems"]["mlp"]["rows"]}
    assert set(rows) == {"evaluation", "plain", "Algorithm 1", "double backward"}
    assert all(each["ms"] > 0 and each["memory"] > 0 and each["difference"] < 1e-6 for each in rows.values())
    assert {"date", "backend", "threads", "numpy"} <= set(result) and "minigrad" in result["problems"]["mlp"]["versions"]
    printed = capsys.readouterr().out
    assert "minigrad, Algorithm 1" in printed and "Algorithm 1 / own plain step" in printed


def test_a_library_that_is_missing_is_named():
    result = benchmark.measure(SMALL["mlp"], ["minigrad", "nothing"], 2)
    assert {library for library, _ in result["rows"]} == {"minigrad"}
    assert "nothing: left out (KeyError: 'nothing')" in benchmark.table("mlp", result)


@pytest.mark.parametrize("arguments", [["--rounds", "1"], ["--threads", "0"], ["--problems", "none"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert "error" in capsys.readouterr().err


def test_the_scripts_are_listed(capsys):
    runpy.run_module("experiments", run_name="__main__")
    assert "python -m experiments.imbalance" in capsys.readouterr().out
