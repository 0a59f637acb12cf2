"""The benchmark compares routes that compute the same, and writes what it measured."""
import json
import runpy

import numpy as np
import pytest

from experiments import benchmark
from minigrad import tree


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_routes_of_algorithm_1_take_the_same_step(name):
    steps = benchmark.routes(*benchmark.problem(name, 12, 4))
    assert list(steps) == ["plain", "reweighted_gradient", "example_weights", "example_weights_unrolled"]
    plain, *others = ([*tree.flatten(step())[0]] for step in steps.values())
    for other in others:
        for a, b in zip(others[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(abs(a - b).max() > 1e-6 for a, b in zip(plain, others[0]))


def test_a_small_run_is_written(tmp_path, monkeypatch, capsys):
    problem = benchmark.problem
    monkeypatch.setattr(benchmark, "problem", lambda name, noisy, clean: problem("mlp", 8, 2))
    out = tmp_path / "results" / "b.json"
    assert benchmark.main(["--rounds", "3", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    rows = result["lenet, 100 noisy + 10 clean"]
    assert rows["plain"]["ratio"] == 1.0 and rows["plain"]["memory_ratio"] == 1.0
    assert all(row["ms"] > 0 and row["memory"] > 0 for row in rows.values())
    assert {"date", "backend", "threads", "numpy"} <= set(result)
    assert "reweighted_gradient" in capsys.readouterr().out


def test_the_scripts_are_listed(capsys):
    runpy.run_module("experiments", run_name="__main__")
    assert "python -m experiments.imbalance" in capsys.readouterr().out
