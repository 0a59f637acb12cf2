"""The tour: its examples run, its page is written, and its statements about other libraries are true."""
import re

import numpy as np
import pytest

import minigrad as mg
from experiments.pages import tour
from minigrad import MinigradError
from minigrad.backend import generator

PAGE = tour.TEXT.read_text(encoding="utf-8")
SHAPES = [(5, 3), (16, 10), (3, 2, 4), (8, 4, 5), (3, 2, 4, 4), (2, 3, 4, 5, 2)]
CASES = [
    *[(name, shape, eps) for eps in (1e-5, 1e-2) for shape in SHAPES for name in ("batch_norm", "layer_norm")],
    *[("instance_norm", shape, eps) for eps in (1e-5, 1e-2) for shape in SHAPES[2:]],
    *[("last_axis_norm", shape, 1e-5) for shape in SHAPES[2:5]],
    *[("batch_norm_with_gain", shape, 1e-5) for shape in SHAPES[::4]]]


def test_the_command_writes_the_page_with_its_pictures(tmp_path, capsys):
    assert tour.main(["--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert re.search(r"The outputs of all \d\d+ examples match the page", output)
    assert f"written: {tmp_path / 'tour.html'}" in output
    text = (tmp_path / "tour.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img src="([^"]+)"', text)
    assert pictures == [f"tour-{name}.png" for name in re.findall("<!-- picture: (.*) -->", PAGE)]
    assert {path.name for path in tmp_path.iterdir()} == {"tour.html", *pictures}
    assert len(pictures) == len(tour.PICTURES)
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in pictures)
    assert "```" not in text and "<!--" not in text and text.count("<h2>") == len(re.findall("^## ", PAGE, re.M)) == 8
    assert '<span class="prompt">&gt;&gt;&gt; </span><span class="source">print(slope(program)(1.0))</span>' in text
    assert '<span class="output">2.0</span>' in text


def test_an_output_that_is_not_so_is_refused():
    with pytest.raises(MinigradError, match=r"(?s)Expected:\n    3\nGot:\n    2\n.*\n  help: correct tour.md"):
        tour.run("# A page\n\n>>> 1 + 1\n3\n")


def test_the_files_that_the_page_names_are_there():
    names = re.findall(r"^\| `([\w/.]+)` \|", PAGE, re.M)
    assert len(names) == 10 and all((tour.TEXT.parents[1] / "minigrad" / name).exists() for name in names)


def test_the_page_says_how_many_cases_were_tried():
    assert f"{len(CASES)} of {len(CASES)} cases" in " ".join(PAGE.split())


def normalization(name, shape, eps):
    """Return a normalization in PyTorch and in minigrad; channels are on axis 1, as in PyTorch."""
    import torch.nn.functional as F
    from torch import float64, full, zeros
    rest = tuple(range(2, len(shape)))
    if name == "layer_norm":
        return lambda x: F.layer_norm(x, shape[1:], eps=eps), lambda x: mg.standardize(x, (1, *rest), eps)
    if name == "last_axis_norm":
        return lambda x: F.layer_norm(x, shape[-1:], eps=eps), lambda x: mg.standardize(x, -1, eps)
    if name == "instance_norm":
        return lambda x: F.instance_norm(x, eps=eps), lambda x: mg.standardize(x, rest, eps)
    gain = 1.5 if name == "batch_norm_with_gain" else 1.0
    weight, bias = full(shape[1:2], gain, dtype=float64), zeros(shape[1], dtype=float64)
    return (lambda x: F.batch_norm(x, None, None, weight, bias, training=True, eps=eps),
            lambda x: mg.standardize(x, (0, *rest), eps) * gain)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name, shape, eps", CASES)
def test_third_derivatives_of_normalization(name, shape, eps):
    """Along a line, against central differences of PyTorch's own derivative of one order less."""
    import torch
    rng, h = generator(0), 1e-4
    x, v, w = rng.normal(size=shape), 0.3 * rng.normal(size=shape), rng.normal(size=shape)
    theirs, ours = normalization(name, shape, eps)

    def derivative(order, at=0.0):
        s = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        y = (theirs(torch.tensor(x) + s * torch.tensor(v)) * torch.tensor(w)).sum()
        for _ in range(order):
            y, = torch.autograd.grad(y, s, create_graph=True)
        return y.item()

    def slope(f):
        return lambda s: mg.jvp(f, (s,), (np.ones_like(s),))[1]
    first, second, third = [(derivative(k, h) - derivative(k, -h)) / (2 * h) for k in range(3)]
    assert (derivative(1), derivative(2)) == pytest.approx((first, second), rel=1e-4, abs=1e-4)
    exact = slope(slope(slope(lambda s: mg.sum(ours(x + s * v) * w))))(np.zeros(()))
    assert float(exact) == pytest.approx(third, rel=1e-4, abs=1e-4)
    if torch.__version__.startswith("2.13."):               # as the page says; a later version may be right
        assert derivative(3) != pytest.approx(third, rel=1e-3, abs=1e-3)


def test_the_pictures_are_of_what_their_captions_say():
    """By the operations in them; the derivative's begins with those of the program, and its result is the last add."""
    names = tour.run(PAGE).names
    graphs = {name: make(names) for name, (_, make) in tour.PICTURES.items()}
    operations = {name: [operation.name for operation in graph.operations if operation.parents] for name, graph in graphs.items()}
    assert operations["tape"] == ["exp", "multiply"]
    assert operations["normalization"] == ["sum", "divide", "subtract", "multiply", "sum", "divide", "add", "sqrt", "divide"]
    assert operations["losses"][0] == "conv2d" and operations["losses"][-1] == "cross_entropy" and graphs["losses"].operations[-1].shape == (8,)
    assert operations["gradient"][:3] == ["exp", "multiply", "sum"] and operations["gradient"][-1] == "add"
    assert [graph.operations[graph.results[0]].name for graph in graphs.values()] == [names[-1] for names in operations.values()]
