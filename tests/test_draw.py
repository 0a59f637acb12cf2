"""Pictures of programs."""
import numpy as np
import pytest

import minigrad as mg
from experiments.figures import common
from minigrad import DTypeError, FileError
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


@pytest.mark.parametrize("name, head", [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")])
def test_the_suffix_is_the_format_and_the_name_stays(tmp_path, name, head):
    assert draw(mg.exp, np.ones(3)).picture(str(tmp_path / name)) == str(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(head) and len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("write", [lambda path: draw(mg.exp, np.ones(3)).picture(path), lambda path: common.save(common.plt.figure(), path)])
def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch, write):
    def fail(figure, file, **how):
        file.write(b"half of ")
        raise OSError("no space left")
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr("matplotlib.figure.Figure.savefig", fail)
        write(path)
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]
    assert write(path) == path and path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FileError, match="the file cannot be written"):
        write(tmp_path / "none" / "a.png")


def test_integers_are_refused():
    with pytest.raises(DTypeError):
        draw(mg.exp, np.ones(3, int))
