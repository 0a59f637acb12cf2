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


def test_what_a_picture_shows(tmp_path, monkeypatch):
    """Arrows go down from parents; inputs stand just above their first use; boxes lie apart and inside; three colors."""
    figures, savefig = [], common.plt.Figure.savefig
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *args, **how: (figures.append(figure), savefig(figure, *args, **how))[1])
    before = common.plt.get_fignums()
    graph = draw(lambda p, x: (h := mg.relu(x @ p["w"]), mg.sum(h * h) + mg.sum(p["b"]) * p["b"], x, p["none"]),
                 {"w": np.ones((3, 2)), "b": np.ones(2), "none": np.ones(1)}, np.ones((4, 3)))
    graph.picture(tmp_path / "a.png")
    assert common.plt.get_fignums() == before               # figures that stay open fill the memory
    (axes,) = figures[0].axes
    arrows = {(text.xyann, text.xy) for text in axes.texts if hasattr(text, "xyann")}
    boxes = [text for text in axes.texts if not hasattr(text, "xyann")]
    at = [box.get_position() for box in boxes]
    assert [box.get_text().split("\n")[0] for box in boxes] == [op.name for op in graph.operations]
    assert arrows == {((at[p][0], at[p][1] - 0.25), (at[op.number][0], at[op.number][1] + 0.25)) for op in graph.operations for p in op.parents}
    assert all(at[p][1] > at[op.number][1] for op in graph.operations for p in op.parents) and len({*at}) == len(at)
    for op in graph.operations:
        uses = [at[other.number][1] for other in graph.operations if op.number in other.parents]
        assert op.parents or not uses or at[op.number][1] == max(uses) + 1
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and bottom < y < top for x, y in at)
    kinds = [(op.number in graph.results, not op.parents and op.number not in graph.results, box.get_bbox_patch().get_facecolor()) for op, box in zip(graph.operations, boxes)]
    assert len({color for *_, color in kinds}) == len({*kinds}) == 3


def test_an_argument_may_be_a_result():
    graph = draw(lambda x, y: (x, mg.exp(y), 2.0, x), np.ones(3), np.ones(2))
    assert graph.results == [0, 2, 0] and [line.endswith("-> result") for line in str(graph).splitlines()] == [True, False, True]
