"""What many ranks cost: messages and bytes are counted, the model is its formula, and the command writes both."""
import json
import math
import pathlib

import numpy as np
import pytest

from experiments import command_line
from experiments.benchmark import ranks as costs
from minigrad.distributed import Alone

from .. import ranks


@pytest.mark.parametrize("name, layers", [("lenet", 0), ("resnet32", 27)])
def test_messages_and_bytes_of_a_step(name, layers):
    """Two sums of the gradient's size, four numbers, and for each normalization seven sums of ten numbers per channel, and of a count."""
    first, second = ranks.run(2, lambda comm: costs.measure(name, comm, 1))
    assert {k: v for k, v in first.items() if k != "ms"} == {k: v for k, v in second.items() if k != "ms"}
    assert first["messages"] == 6 + 7 * layers and first["ranks"] == 2 and first["workload"] == name
    net = costs.network(name, 1.0) if layers else None
    parameters = 167_113 if name == "lenet" else net.parameters
    numbers = 4 * 10 * layers * net.channels if layers else 0
    assert first["parameters"] == parameters and 0 <= first["bytes"] - 8 * parameters - numbers <= 4 * 8 + 8 * layers
    assert costs.measure(name, Alone(), 1)["messages"] == 0


def test_the_model_is_its_formula():
    cluster = costs.Cluster(gpus=4, inside=100.0, between=10.0, latency=0.5, hop=0.25)
    assert cluster.sum(60.0, 1) == 0.0
    assert cluster.sum(60.0, 4) == pytest.approx(0.5 + 2 * 60 * 0.75 / 100)
    assert cluster.sum(60.0, 16) == pytest.approx(0.5 + 0.25 * 2 + 2 * 60 * 15 / 16 / 10)
    net = costs.Network(parameters=100, layers=3, channels=16.0, compute=2.0)
    own, of_all = costs.predict(net, 16, cluster)
    assert own == pytest.approx(2.0 + 2 * cluster.sum(400, 16) + 4 * cluster.sum(4, 16)) and of_all - own == pytest.approx(21 * cluster.sum(128.0, 16))
    assert costs.predict(net, 1) == (2.0, 2.0)


def test_the_networks_of_the_model():
    net = costs.network("resnet32", 1.0)
    assert net.layers == 27 and net.compute == 1.0 and 16 < net.channels < 64
    wide = costs.network("wrn-28-10")
    assert 36e6 < wide.parameters < 37e6 and 0.1 < wide.compute < 1.0
    rows = costs.model()
    for name in costs.NETWORKS:
        times = [row["all"] for row in rows if row["network"] == name]
        assert times == sorted(times) and all(row["efficiency"][1] <= row["efficiency"][0] <= 1.0 for row in rows)
    assert costs.model_table(rows).count("resnet32") == 6


def test_a_command_without_mpiexec_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(costs.shutil, "which", lambda *args, **params: None)
    assert command_line.main(["ranks", "--out", str(tmp_path)]) == 2
    assert "error: mpiexec was not found\n  help: pip install 'minigrad[mpi]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command_line.main(["ranks", "--ranks", "0"])


@pytest.mark.needs("mpi")
def test_the_command_measures_and_writes(tmp_path, capsys):
    assert command_line.main(["ranks", "--ranks", "1", "2", "--steps", "1", "--out", str(tmp_path)]) == 0
    printed, found = capsys.readouterr().out, json.loads(next(tmp_path.glob("ranks-*.json")).read_text())
    assert [(row["workload"], row["ranks"], row["messages"]) for row in found["measured"]] == [
        ("lenet", 1, 0), ("resnet32", 1, 0), ("lenet", 2, 6), ("resnet32", 2, 195)]
    assert all(math.isfinite(row["ms"]) and row["ms"] > 0 for row in found["measured"]) and [*tmp_path.iterdir()] == [next(tmp_path.glob("ranks-*.json"))]
    assert "lenet" in printed and "1024" in printed and np.isfinite(found["model"][0]["own"])


def test_the_model_on_the_page_is_that_of_the_code():
    """Its assumptions and its rows are those in the record beside the page."""
    found = json.loads((pathlib.Path(costs.__file__).parents[1] / "results" / "ranks-2026-11-27.json").read_text())
    assert costs.CLUSTER._asdict() == found["cluster"]
    for ours, told in zip(costs.model(), found["model"], strict=True):
        assert ours.keys() == told.keys() and all(ours[key] == pytest.approx(told[key]) for key in ours)
