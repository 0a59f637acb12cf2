"""The seven pictures of one step of Algorithm 1, from the numbers of `walkthrough`."""
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

from ..figures.common import save

COLORS = {"A": "#1f77b4", "B": "#2ca02c", "C": "#d62728", "D": "#0e7c86", "E": "#8c564b"}     # of the examples
FORWARD, BACKWARD, TWICE, FAINT = "#333333", "#d9730d", "#7b1fa2", "#b5b5b5"
VALUES = (r"$h_%d$", "score $s$")
WIDTH, HEIGHT = 11.0, 3.8                       # of a panel, in inches; so are all coordinates
COLUMNS = {"x": 0.6, "h": 3.5, "s": 6.2, "l": 8.35, "total": 10.5}      # x of the nodes
ROWS = (2.4, 1.4, 0.5)                    # y of the nodes
CAPTION = ("Numbers have the colors of their examples, A to E. Arrows: black forward, orange backward, "
           "violet backward on backward, gray inactive.\n"
           "Units are h = tanh a; node 1 is the input of the biases; losses are cross-entropies of the sigmoid of s.")


class Panel(NamedTuple):
    """The content of one picture. Numbers are formatted; `hidden`, `score` and `losses` have one per example."""
    title: str
    words: str
    batch: Any
    heads: tuple                # titles of the hidden units (with %d) and of the score
    hidden: list                # a list for each hidden unit
    score: list
    losses: list
    factors: list | None        # on the edges from the losses to their sum; None if there is no sum yet
    sum: str                    # name of the sum
    total: str                  # value of the sum
    edges: dict | None          # on the edges of the network: a tree like theta; None if they are inactive
    color: str                  # of the active edges
    backwards: bool = False


def _texts(values, form="{:.3f}"):
    if isinstance(values, dict):
        return {key: _texts(value, form) for key, value in values.items()}
    return [_texts(value, form) for value in values] if np.ndim(values) else form.format(values + 0.0)


def _slopes(factor):
    return rf"${factor}\,\partial l/\partial a_%d$", rf"${factor}\,\partial l/\partial s$"


def _forward(nodes):
    return _texts(nodes["h"].T), _texts(nodes["s"][:, 0]), _texts(nodes["l"], "$l$ = {:.3f}")


def _backward(factors, back):
    """Return "factor · cotangent", for each hidden unit and for the score."""
    texts = [[f"{w:.2f} · {g + 0.0:.3f}" for w, g in zip(factors, column)]
             for column in (*back["a"].T, back["s"][:, 0])]
    return texts[:2], texts[2]


def _noisy_panels(t):
    """Return the panels of steps 1 to 3: the weighted loss and its gradient are 0."""
    squares = sum((g ** 2).reshape(-1, 3).sum(0) for g in t.by_epsilon.values())
    lengths = ", ".join(f"{length:.3f} ({name})" for name, length in zip(t.noisy.names, np.sqrt(squares)))
    unmoved = r"so $\hat\theta=\theta$ exactly: no update" if t.unmoved else r"but $\hat\theta\neq\theta$"
    values, total = _forward(t.forward), f"{t.weighted_loss:.3f}"
    return [
        Panel("1  Forward, noisy examples   (line 4)", "Each example has its loss $l_i$. On the edges: the parameters.",
              t.noisy, VALUES, *values, None, "", "", _texts(t.theta, "{:.1f}"), FORWARD),
        Panel("2  The weighted loss   (line 5)",
              r"$\varepsilon\leftarrow0$: the weighted loss $\Sigma_i\,\varepsilon_i l_i$ is 0, whatever the losses.",
              t.noisy, VALUES, *values, ["0"] * 3, r"$\Sigma\,\varepsilon_i l_i$", total, None, FORWARD),
        Panel("3  Backward   (lines 6-7)",
              r"On the edges: the gradient $\nabla_\theta\,\Sigma_i\,\varepsilon_i l_i$. It is 0, " f"{unmoved}.\n"
              rf"Its derivative in $\varepsilon_i$ is $\nabla l_i$, which is not 0: its length is {lengths}.",
              t.noisy, _slopes(r"\varepsilon_i"), *_backward(np.zeros(3), t.back), values[2], ["0"] * 3,
              r"$\Sigma\,\varepsilon_i l_i$", total, _texts(t.zero_gradient, "{:.0f}"), BACKWARD, True)]


def _clean_panels(t):
    """Return the panels of steps 4 and 5: the gradient of the clean loss."""
    values, total = _forward(t.forward_clean), f"{t.clean_loss:.3f}"
    return [
        Panel("4  Forward, clean examples   (lines 8-9)", r"At $\hat\theta=\theta$. $L$ is the mean of their losses.",
              t.clean, VALUES, *values, ["1/2"] * 2, "$L$", total, _texts(t.theta_hat, "{:.1f}"), FORWARD),
        Panel("5  Backward, clean examples   (line 10, from L to θ)",
              r"On the edges: $v=\nabla L(\hat\theta)$, the direction in which the clean loss grows fastest.",
              t.clean, _slopes(r"\frac{1}{2}"), *_backward((0.5, 0.5), t.back_clean), values[2], ["1/2"] * 2, "$L$",
              total, _texts(t.v), BACKWARD, True)]


def _weighting_panels(t):
    """Return the panels of steps 6 and 7: scores, weights and update."""
    scores = [f"layers: {a:.3f} {'-' if b < 0 else '+'} {abs(b):.3f}\n$u$ = {a + b:.3f}" for a, b in t.layers]
    changes = {key: np.vectorize("{:.2f} → {:.2f}".format)(t.theta[key] + 0.0, t.theta_after[key] + 0.0).tolist()
               for key in t.theta}
    return [
        Panel("6  Backward on backward   (line 10, from θ on to ε)",
              "Back along step 3, so to the right. On the edges of the network: $v$. In its nodes: how values change "
              "along $v$.\n" r"$u_i=\langle\nabla l_i,v\rangle=$ layer 1 + layer 2, each the mean over clean $j$ of "
              r"$(z_i\cdot z_j)(g_i\cdot g_j)$. On the last edges: $-\partial L/\partial\varepsilon_i=\alpha u_i$.",
              t.noisy, (r"$\dot a_%d$", r"$\dot s$"), _texts(t.tangents["a"].T), _texts(t.tangents["s"][:, 0]), scores,
              _texts(t.descent), r"$-\nabla_{\!\varepsilon} L$", "", _texts(t.v), TWICE),
        Panel("7  New weights and the update   (lines 11-14)",
              r"$w_i=\max(u_i,0)\,/\,\Sigma_k\max(u_k,0)$.  On the edges of the network: "
              r"$\theta\rightarrow\theta-\alpha\nabla_\theta\,\Sigma_i\,w_i l_i$." f"\n{t.verdict}",
              t.noisy, _slopes("w_i"), *_backward(t.weights, t.back), _forward(t.forward)[2], _texts(t.weights),
              r"$\Sigma\,w_i l_i$", f"{t.weights @ t.forward['l']:.3f}", changes, BACKWARD, True)]


def _box(axes, center, rows, width, color):
    """Draw a node; rows: (text, color)."""
    (x, y), height = center, 0.2 * len(rows) + 0.04
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.03",
                                  facecolor="white", edgecolor=color, linewidth=1.1, zorder=3))
    for k, (text, shade) in enumerate(rows):
        axes.text(x, y + height / 2 - 0.12 - 0.2 * k, text, color=shade, ha="center", va="center", fontsize=9, zorder=4)


def _edge(axes, start, end, text, color, backwards, at):
    """Draw an arrow from start to end, or back if `backwards`, with a text at the fraction `at` of the way."""
    a, b = (end, start) if backwards else (start, end)
    axes.annotate("", b, a, zorder=1, arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0})
    x, y = (s + at * (e - s) for s, e in zip(start, end))
    if text:
        axes.text(x, y, text, color=color, ha="center", va="center", fontsize=9, zorder=2,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2})


def _network(axes, panel):
    """Draw inputs, units, score and the edges between them; inactive edges have no numbers."""
    color, texts = (FAINT, None) if panel.edges is None else (panel.color, panel.edges)

    def node(column, row, head, numbers, width, shade):
        rows = [(text, COLORS[name]) for name, text in zip(panel.batch.names, numbers)]
        _box(axes, (COLUMNS[column], ROWS[row]), [(head, FORWARD), *rows], width, shade)
    for k in range(3):
        key, row = ("W", k) if k < 2 else ("b", 0)
        for j in range(2):
            _edge(axes, (COLUMNS["x"] + (0.37 if k < 2 else 0.2), ROWS[k]), (COLUMNS["h"] - 0.62, ROWS[j]),
                  texts and np.atleast_2d(texts[key + "1"])[row, j], color, panel.backwards, 0.34)
        _edge(axes, (COLUMNS["h"] + (0.62 if k < 2 else 0.2), ROWS[k]), (COLUMNS["s"] - 0.62, ROWS[1]),
              texts and np.atleast_2d(texts[key + "2"])[row, 0], color, panel.backwards, 0.5)
    for k in range(2):
        node("x", k, f"$x_{k + 1}$", _texts(panel.batch.x[:, k], "{:.1f}"), 0.64, FAINT)
        node("h", k, panel.heads[0] % (k + 1), panel.hidden[k], 1.14, color)
    node("s", 1, panel.heads[1], panel.score, 1.14, color)
    for column in ("x", "h"):
        node(column, 2, "1", [], 0.3, FAINT)


def _losses(axes, panel):
    """Draw the loss of each example, and the edges to their weighted sum, if there is one yet."""
    n, middle = len(panel.batch.names), ROWS[1]
    for k, name in enumerate(panel.batch.names):
        y, label = middle + 0.86 * ((n - 1) / 2 - k), panel.batch.label[k, 0]
        head = f"{name}, label {label:.0f}" + ("" if label == panel.batch.true[k, 0] else " (wrong)")
        _edge(axes, (COLUMNS["s"] + 0.62, middle), (COLUMNS["l"] - 0.83, y), "", panel.color, panel.backwards, 0)
        if panel.factors:
            _edge(axes, (COLUMNS["l"] + 0.83, y), (COLUMNS["total"] - 0.36, middle), panel.factors[k], panel.color,
                  panel.backwards, 0.36)
        rows = [(text, COLORS[name]) for text in (head, *panel.losses[k].splitlines())]
        _box(axes, (COLUMNS["l"], y), rows, 1.56, panel.color)
    if panel.factors:
        _box(axes, (COLUMNS["total"], middle), [(text, FORWARD) for text in (panel.sum, panel.total) if text], 0.6,
             panel.color)


def draw(trace, path):
    """Draw the seven pictures, one below the other, in one file; return the path."""
    every = [*_noisy_panels(trace), *_clean_panels(trace), *_weighting_panels(trace)]
    height = HEIGHT * len(every) + 1
    figure = plt.figure(figsize=(WIDTH, height))
    figure.suptitle(f"One step of Algorithm 1 with all its numbers (seed {trace.seed}, α = {trace.rate})", fontsize=15,
                    y=1 - 0.15 / height, va="top")
    figure.text(0.5, 1 - 0.5 / height, CAPTION, ha="center", va="top", fontsize=10)
    for k, panel in enumerate(every):
        axes = figure.add_axes((0, HEIGHT * (len(every) - 1 - k) / height, 1, HEIGHT / height), xlim=(0, WIDTH),
                               ylim=(0, HEIGHT))
        axes.axis("off")
        axes.text(0.25, HEIGHT - 0.1, panel.title, fontsize=13, weight="bold", color=panel.color, va="top")
        axes.text(0.25, HEIGHT - 0.38, panel.words, fontsize=10, va="top", linespacing=1.35)
        _network(axes, panel)
        _losses(axes, panel)
    return save(figure, path)
