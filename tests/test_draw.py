"""Pictures of programs."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError
from minigrad.draw import draw


def test_lists_what_ran():
    graph = draw(lambda p, x: mg.sum(mg.relu(x @ p["w"])) * 2.0, {"w": np.ones((3, 2))}, np.ones((4, 3)))
    assert str(graph).splitlines() == [
        "v0 = argument 0.w    float64[3, 2]", "v1 = argument 1      float64[4, 3]",
        "v2 = matmul(v1, v0)  float64[4, 2]", "v3 = relu(v2)        float64[4, 2]",
        "v4 = sum(v3)         float64[]", "v5 = multiply(v4)    float64[]   -> result"]


def test_draws_a_picture(tmp_path):
    path = draw(lambda x: (mg.exp(x) * x, mg.sum(x)), np.ones(3)).picture(tmp_path / "graph.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_integers_are_refused():
    with pytest.raises(DTypeError):
        draw(mg.exp, np.ones(3, int))
