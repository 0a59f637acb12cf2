"""One step of Algorithm 1: its numbers, against plain NumPy and finite differences; its page; its pictures."""
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from experiments.pages import command as pages_command
from experiments.pages import walkthrough, walkthrough_picture
from experiments.pages.walkthrough import flat, page, trace
from minigrad import MinigradError

seeds = st.integers(0, 2**32 - 1)
STEP = 1e-5                                                 # of central differences: good to about 1e-9 here


def losses(theta, batch):
    """Return the loss of each example, from the 9 parameters in the order of `flat`."""
    w11, w12, w21, w22, b1, b2, u1, u2, c = theta
    x1, x2 = batch.x.T
    s = u1 * np.tanh(w11 * x1 + w21 * x2 + b1) + u2 * np.tanh(w12 * x1 + w22 * x2 + b2) + c
    right = np.where(batch.label[:, 0] == 1, s, -s)
    return -np.log(1 / (1 + np.exp(-right)))


def slope(f, x):
    """Return the derivative of f at x by central differences; last axis: the elements of x."""
    return np.stack([(f(x + STEP * unit) - f(x - STEP * unit)) / (2 * STEP) for unit in np.eye(len(x))], -1)


def reference(t):
    """Run Algorithm 1 as the paper states it, with all derivatives by central differences."""
    theta = flat(t.theta)[1]
    each = slope(lambda p: losses(p, t.noisy), theta)                                       # ∇l_i, (n, 9)
    descent = -slope(lambda eps: losses(theta - t.rate * eps @ each, t.clean).mean(), np.zeros(3))
    helpful = np.maximum(descent, 0)
    weights = helpful / helpful.sum() if helpful.any() else helpful
    return {"each": each, "v": slope(lambda p: losses(p, t.clean).mean(), theta), "descent": descent,
            "weights": weights, "after": theta - t.rate * weights @ each}


@given(seeds)
def test_every_number_is_that_of_plain_numpy(seed):
    t = trace(seed)
    theta, expected = flat(t.theta)[1], reference(t)
    np.testing.assert_allclose(t.forward["l"], losses(theta, t.noisy), atol=1e-12)
    np.testing.assert_allclose(t.forward_clean["l"], losses(theta, t.clean), atol=1e-12)
    assert t.clean_loss == pytest.approx(losses(theta, t.clean).mean(), abs=1e-12)
    for i in range(3):
        np.testing.assert_allclose(flat({k: g[..., i] for k, g in t.by_epsilon.items()})[1], expected["each"][i], atol=1e-8)
    np.testing.assert_allclose(flat(t.v)[1], expected["v"], atol=1e-8)
    np.testing.assert_allclose(t.descent, expected["descent"], atol=1e-8)
    for u in (t.scores, t.tangents["l"], t.layers.sum(1)):
        np.testing.assert_allclose(u, expected["descent"] / t.rate, atol=1e-7)
    if expected["descent"].max() > 1e-3:                    # otherwise differences cannot resolve the weights of tiny scores
        np.testing.assert_allclose(t.weights, expected["weights"], atol=1e-4)
        np.testing.assert_allclose(t.weights_unrolled, t.weights, atol=1e-12)
        np.testing.assert_allclose(flat(t.theta_after)[1], expected["after"], atol=1e-4)
    assert t.clean_loss_after == pytest.approx(losses(flat(t.theta_after)[1], t.clean).mean(), abs=1e-12)


@given(seeds)
def test_cotangents_and_tangents_belong_to_their_nodes(seed):
    """The gradient of a bias, and of a weight, follows from the cotangents; a tangent of the score, from the tangents."""
    t = trace(seed)
    np.testing.assert_allclose(t.by_epsilon["b1"], t.back["a"].T, atol=1e-12)
    np.testing.assert_allclose(t.by_epsilon["b2"], t.back["s"].T, atol=1e-12)
    np.testing.assert_allclose(t.v["W1"], t.clean.x.T @ t.back_clean["a"] / 2, atol=1e-12)
    np.testing.assert_allclose(t.v["W2"], t.forward_clean["h"].T @ t.back_clean["s"] / 2, atol=1e-12)
    np.testing.assert_allclose(t.tangents["a"], t.noisy.x @ t.v["W1"] + t.v["b1"], atol=1e-12)
    np.testing.assert_allclose(t.tangents["s"], t.tangents["h"] @ t.theta["W2"] + t.forward["h"] @ t.v["W2"] + t.v["b2"], atol=1e-12)
    np.testing.assert_allclose(flat(t.gradient)[1], sum(w * flat({k: g[..., i] for k, g in t.by_epsilon.items()})[1]
                                                        for i, w in enumerate(t.weights)), atol=1e-12)


@given(seeds)
def test_the_formula_holds_layer_by_layer(seed):
    """The contribution of a layer to u_i is the part of <∇l_i, v> from its own parameters."""
    t = trace(seed)
    for layer in (1, 2):
        own = sum(t.v[key].ravel() @ t.by_epsilon[key].reshape(-1, 3) for key in (f"W{layer}", f"b{layer}"))
        np.testing.assert_allclose(t.layers[:, layer - 1], own, atol=1e-12)


@given(seeds)
def test_nothing_moves_at_epsilon_0_but_the_derivative_is_there(seed):
    t = trace(seed)
    assert t.weighted_loss == 0 and not flat(t.zero_gradient)[1].any()
    assert t.unmoved and all(t.theta_hat[key].tobytes() == t.theta[key].tobytes() for key in t.theta)
    assert np.linalg.norm(flat({k: g[..., 0] for k, g in t.by_epsilon.items()})[1]) > 1e-3
    assert not t._replace(theta_hat=t.theta | {"b2": t.theta["b2"] + 1e-16 + 1e-9}).unmoved
    assert {leaf.dtype for leaf in (t.scores, t.weights, *t.theta.values(), *t.by_epsilon.values())} == {np.dtype("float64")}


def test_the_mislabeled_example_gets_no_weight():
    t = trace()
    assert t.noisy.names[2] == "C" and (t.noisy.label != t.noisy.true).ravel().tolist() == [False, False, True]
    assert t.weights[2] == 0 and (t.weights[:2] > 0.1).all() and t.weights.sum() == pytest.approx(1)
    assert t.verdict == "C is mislabeled and gets the weight 0.0000."
    assert t.clean_loss_after < t.clean_loss - 0.05
    assert "no example helps" in t._replace(weights=np.zeros(3)).verdict
    assert np.mean([trace(seed).weights[2] == 0 for seed in range(20)]) > 0.6


def test_seeds_give_other_numbers_and_the_same_seed_the_same():
    assert page(trace(1)) == page(trace(1)) != page(trace(2))


def test_any_device_gives_the_same_step(device):
    expected, got = walkthrough.problem(3), trace(3)
    assert isinstance(got.scores, np.ndarray)
    np.testing.assert_array_equal(got.noisy.x, expected[0].x)
    np.testing.assert_allclose(got.layers.sum(1), got.scores, atol=1e-12)


# ---------------------------------------------------------------------------------------------- the check inside

@pytest.mark.parametrize("field, change, what", [
    ("layers", lambda u: u * 1.001, "scores by hand"), ("descent", lambda u: u + 1e-5, "backward on backward"),
    ("tangents", lambda t: t | {"l": t["l"][::-1]}, "J.push"), ("weights_unrolled", lambda w: w * np.nan, "unrolled form")])
def test_ways_that_differ_are_refused(field, change, what):
    t = trace()
    assert walkthrough.check(t) is t
    with pytest.raises(MinigradError, match=f"seed 0: the .*{what} differ.*\n  help: "):
        walkthrough.check(t._replace(**{field: change(getattr(t, field))}))


def test_a_wrong_formula_ends_the_script(tmp_path, monkeypatch, capsys):
    right = walkthrough.by_hand
    monkeypatch.setattr(walkthrough, "by_hand", lambda *args: right(*args) + 2e-6)
    assert walkthrough.main(["--out", str(tmp_path / "a")]) == 2
    assert "the scores by hand differ" in capsys.readouterr().err and not list((tmp_path / "a").iterdir())


# ------------------------------------------------------------------------------------------------------ the page

def rows_of(text, step):
    """Return {first word: the numbers of each row} of one step, in the order of the page."""
    part = re.search(rf"^{step}  .*?(?=^{step + 1}  |\Z)", text, re.S | re.M).group()
    return [(line.split()[0], [float(word) for word in line.split()[1:]])
            for line in part.splitlines() if re.fullmatch(r"   \S+( +-?\d+\.\d{4})+", line)]


def test_the_page_holds_the_numbers():
    t = trace()
    text = page(t)
    assert all(re.search(rf"^{k}  [A-Z]", text, re.M) for k in range(1, 8)) and "-0.0000" not in text
    for lines in ("(line 4)", "(line 5)", "(lines 6-7)", "(lines 8-9)", "(line 10,", "(lines 11-14)"):
        assert lines in text
    forward = np.hstack([t.noisy.x, t.noisy.label, t.forward["h"], t.forward["s"], t.forward["l"][:, None]])
    np.testing.assert_allclose([numbers for _, numbers in rows_of(text, 1)], forward, atol=5.1e-5)
    assert "sum epsilon_i l_i = 0.0000" in text and "equals theta exactly: yes" in text
    assert np.shape([numbers for _, numbers in rows_of(text, 3)[3:]]) == (9, 4)
    scores = np.column_stack([t.layers, t.scores, t.scores, t.scores, t.descent])
    assert [name for name, _ in rows_of(text, 6)] == ["A", "B", "C"]
    np.testing.assert_allclose([numbers for _, numbers in rows_of(text, 6)], scores, atol=5.1e-5)
    last = dict(rows_of(text, 7))
    np.testing.assert_allclose([last[name][1:] for name in "ABC"], np.stack([t.weights, t.weights], 1), atol=5.1e-5)
    for name, *numbers in zip(*flat(t.theta), flat(t.gradient)[1], flat(t.theta_after)[1]):
        np.testing.assert_allclose(last[name], numbers, atol=5.1e-5)
    assert t.verdict in text and f"before {t.clean_loss:.4f}, after {t.clean_loss_after:.4f}" in text
    assert "theta exactly: NO" in page(t._replace(theta_hat=t.theta_after))


# -------------------------------------------------------------------------------------------------- the pictures

@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_pictures_hold_the_numbers_and_no_two_overlap(seed, tmp_path, drawn):
    t = trace(seed)
    assert walkthrough.draw(t, tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    (figure,) = drawn
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert [words[0][0] for words in texts] == list("1234567")
    for k, numbers in {0: [*t.forward["h"].ravel(), *t.forward["s"].ravel()], 3: t.forward_clean["h"].ravel(),
                       4: flat(t.v)[1], 5: [*t.descent, *t.tangents["a"].ravel()], 6: t.weights}.items():
        assert {f"{number + 0.0:.3f}" for number in numbers} <= set(texts[k]), k
    assert {f"$l$ = {loss:.3f}" for loss in t.forward["l"]} <= set(texts[1])
    assert texts[2].count("0") == 12 and f"0.00 · {t.back['a'][2, 0]:.3f}" in texts[2]     # 9 gradients, 3 ε
    assert {f"$u$ = {u:.3f}" for u in t.scores} <= set(texts[5])
    assert any(text.startswith(f"{t.theta['b2'][0] + 0.0:.2f} → {t.theta_after['b2'][0] + 0.0:.2f}") for text in texts[6])
    assert t.verdict in texts[6][1]
    figure.canvas.draw()                                    # the file has another resolution
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)
    for axes in figure.axes:                                # and no node covers a number of an edge
        nodes = [patch.get_window_extent() for patch in axes.patches]
        edges = [text.get_window_extent() for text in axes.texts if text.get_text() and text.get_zorder() == 2]
        assert len(nodes) >= 10 and len(edges) in (3, 9, 11, 12)
        assert not [a for a in edges for b in nodes if a.overlaps(b)]


def test_a_moved_theta_hat_would_be_said(tmp_path):
    t = trace()
    assert r"\neq" in walkthrough_picture._noisy_panels(t._replace(theta_hat=t.theta_after))[2].words
    assert r"\neq" not in walkthrough_picture._noisy_panels(t)[2].words


# --------------------------------------------------------------------------------------------------- the command

def test_the_command_runs_without_warnings(tmp_path):
    root = pathlib.Path(walkthrough.__file__).parents[2]
    done = subprocess.run([sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-m", "experiments.walkthrough",
                           "--seed", "1"], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(page(trace(1)))
    assert (tmp_path / "runs" / "walkthrough" / "walkthrough.png").stat().st_size > 50_000


def test_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        walkthrough.main(["--help"])
    assert end.value.code == 0 and "--seed" in capsys.readouterr().out
    assert walkthrough.main(["--seed", "-1", "--out", str(tmp_path / "a")]) == 2
    assert "a seed is not negative\n  help:" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    assert walkthrough.main(["--out", str(tmp_path / "file")]) == 2
    assert "cannot be written there" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [0, 1])
def test_each_number_stands_where_it_belongs(seed, tmp_path, drawn):
    """On the edge of its parameter; in its node below the numbers of the examples before, in the color of its example."""
    t = trace(seed)
    walkthrough.draw(t, tmp_path / "a.png")
    x, y = walkthrough_picture.COLUMNS, walkthrough_picture.ROWS

    def at(axes, column, row):
        """Return the texts of a node, from top to bottom, with their colors."""
        texts = [text for text in axes.texts if text.get_zorder() == 4 and abs(text.get_position()[0] - x[column]) < 0.1 and abs(text.get_position()[1] - row) < 0.45]
        return [(text.get_text(), text.get_color()) for text in sorted(texts, key=lambda text: -text.get_position()[1])]
    for k, tree_of, form in ((0, t.theta, "{:.1f}"), (4, t.v, "{:.3f}"), (5, t.v, "{:.3f}")):
        on_edges = [(text.get_position(), text.get_text()) for text in drawn[0].axes[k].texts if text.get_zorder() == 2]
        for weights, start, end, share in ((np.vstack([tree_of["W1"], tree_of["b1"]]), "x", "h", 0.34), (np.vstack([tree_of["W2"], tree_of["b2"]]), "h", "s", 0.5)):
            for (i, j), value in np.ndenumerate(weights):
                far = y[j] if end == "h" else y[1]
                near = min(on_edges, key=lambda each: abs(each[0][1] - y[i] - share * (far - y[i])) + abs(each[0][0] - x[start] - share * (x[end] - x[start])))
                assert near[1] == form.format(value + 0.0), (k, start, i, j)
    for k, batch, nodes in ((0, t.noisy, t.forward), (3, t.clean, t.forward_clean)):
        colors = [walkthrough_picture.COLORS[name] for name in batch.names]
        for unit in (0, 1):
            assert at(drawn[0].axes[k], "x", y[unit])[1:] == [(f"{value + 0.0:.1f}", color) for value, color in zip(batch.x[:, unit], colors)]
            assert at(drawn[0].axes[k], "h", y[unit])[1:] == [(f"{value + 0.0:.3f}", color) for value, color in zip(nodes["h"][:, unit], colors)]
        boxes = [text for text in at(drawn[0].axes[k], "l", y[1]) + [each for row in (2.26, 0.54) for each in at(drawn[0].axes[k], "l", row)] if text[0].startswith("$l$")]
        assert {*boxes} == {(f"$l$ = {loss:.3f}", color) for loss, color in zip(nodes["l"], colors)}


def test_the_mislabeled_example_is_marked_in_the_pictures(monkeypatch):
    """In each of the five with noisy examples, and no other."""
    drawn = []
    monkeypatch.setattr(walkthrough_picture, "save", lambda figure, path: drawn.append(figure))
    trace = walkthrough.trace(0)
    walkthrough_picture.draw(trace, "a.png")
    heads = [text.get_text() for axes in drawn[0].axes for text in axes.texts if ", label " in text.get_text()]
    walkthrough_picture.plt.close(drawn[0])
    assert sorted(heads) == sorted(["A, label 1", "B, label 0", "C, label 1 (wrong)"] * 5 + ["D, label 1", "E, label 0"] * 2)


def test_titles_have_the_colors_of_their_arrows(monkeypatch):
    """As the caption explains them: forward, backward, and backward on backward."""
    drawn = []
    monkeypatch.setattr(walkthrough_picture, "save", lambda figure, path: drawn.append(figure))
    walkthrough_picture.draw(walkthrough.trace(0), "a.png")
    colors = [to_hex(axes.texts[0].get_color()) for axes in drawn[0].axes]
    walkthrough_picture.plt.close(drawn[0])
    forward, backward, twice = walkthrough_picture.FORWARD, walkthrough_picture.BACKWARD, walkthrough_picture.TWICE
    assert colors == [forward, forward, backward, forward, backward, twice, backward]


def test_arrows_point_to_the_left_in_the_backward_pictures_alone(monkeypatch):
    """Backward on backward goes to the right again."""
    drawn = []
    monkeypatch.setattr(walkthrough_picture, "save", lambda figure, path: drawn.append(figure))
    walkthrough_picture.draw(walkthrough.trace(0), "a.png")
    arrows = [[text for text in axes.texts if getattr(text, "arrow_patch", None)] for axes in drawn[0].axes]
    walkthrough_picture.plt.close(drawn[0])
    assert [{arrow.xy[0] < arrow.xyann[0] for arrow in own} for own in arrows] == [{False}, {False}, {True}, {False}, {True}, {False}, {True}]


def test_the_layers_of_a_score_are_written_as_a_sum():
    """A negative one is taken away: 0.300 - 0.100, and not - -0.100."""
    layers = np.array([[0.3, -0.1], [-0.2, 0.5], [-0.4, -0.25]])
    panel, _ = walkthrough_picture._weighting_panels(walkthrough.trace(0)._replace(layers=layers))
    assert panel.losses == ["layers: 0.300 - 0.100\n$u$ = 0.200", "layers: -0.200 + 0.500\n$u$ = 0.300", "layers: -0.400 - 0.250\n$u$ = -0.650"]


def test_a_page_whose_picture_cannot_be_written_says_so(tmp_path, capsys):
    def full(found, path):
        raise OSError("no space left")
    assert pages_command.main("own", "about", lambda seed: f"seed {seed}", str, full, ["--out", str(tmp_path), "--seed", "7"], ending="pdf") == 2
    assert capsys.readouterr() == ("seed 7\n", f"error: {tmp_path}: own.pdf cannot be written there (no space left)\n  help: --out FOLDER\n")
