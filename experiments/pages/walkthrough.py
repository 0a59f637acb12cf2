"""One step of Algorithm 1 with all its numbers, as a page of text and as seven pictures.

    python -m experiments walkthrough [--out FOLDER] [--seed N]

The network has 2 inputs, 2 tanh units and 1 score (9 parameters). There are 3 noisy examples, one of them mislabeled,
and 2 clean ones. The engine's numbers are compared with the paper's layer-wise formula (Eq. 12 and
appendix A) in NumPy:

    u_i = mean over clean j, sum over layers, of (z_i . z_j) (g_i . g_j)

z is the input of a layer, with a constant 1 for its biases; g is the gradient of the example's own loss with respect to
the output of the layer, before the tanh. Line numbers are those of Algorithm 1, as in `minigrad/reweight.py`.
"""
from typing import Any, NamedTuple

import numpy as np

from minigrad import (
    MinigradError,
    grad,
    jacobian,
    linearize,
    matmul,
    mean,
    reweight,
    softplus,
    sum,
    tanh,
    to_host,
    tree,
    vjp,
    xp,
)
from minigrad.backend import generator

from . import command
from .walkthrough_picture import draw

RATE = 0.5
TOLERANCE = 1e-6


class Batch(NamedTuple):
    """Examples: names, x (n, 2), their labels and their true labels (n, 1), 0 or 1."""
    names: tuple
    x: Any
    label: Any
    true: Any


class Trace(NamedTuple):
    """All numbers of one step, as float64 NumPy arrays.

    Parameters are dicts of W1 (2, 2), b1 (2,), W2 (2, 1) and b2 (1,). Nodes are dicts of a (n, 2), before the tanh; h
    (n, 2), after it; s (n, 1), the score; l (n,), the losses.
    """
    seed: int
    rate: float                 # α of line 7, which cancels in line 11, and of line 14
    noisy: Batch
    clean: Batch
    theta: dict
    forward: dict               # line 4: nodes of the noisy batch
    back: dict                  # ∂l_i/∂a_i and ∂l_i/∂s_i of the noisy batch, which line 6 multiplies by ε_i
    weighted_loss: Any          # line 5: Σ ε_i l_i at ε = 0
    zero_gradient: dict         # line 6: its gradient
    by_epsilon: dict            # ... and the derivative of that gradient in ε, the ∇l_i: example axis last
    theta_hat: dict             # line 7
    forward_clean: dict         # lines 8-9: nodes of the clean batch at θ̂
    clean_loss: Any
    back_clean: dict            # line 10, to θ̂: ∂l_j/∂a_j and ∂l_j/∂s_j of the clean batch
    v: dict                     # ∇L(θ̂)
    descent: Any                # line 10, on to ε: -∂L/∂ε, by backward on backward
    tangents: dict              # nodes: J.push(v), the intermediate values of backward on backward
    scores: Any                 # u of `reweight.reweighted_gradient`
    layers: Any                 # u by hand: the contribution of each layer, (n, 2)
    weights: Any                # line 11
    weights_unrolled: Any       # ... of `reweight.example_weights_unrolled`
    gradient: dict              # lines 12-13
    theta_after: dict           # line 14
    clean_loss_after: Any

    @property
    def unmoved(self):
        """Return whether θ̂ = θ, exactly."""
        return all(np.array_equal(self.theta_hat[key], self.theta[key]) for key in self.theta)

    @property
    def verdict(self):
        """Return a sentence that names the mislabeled example and its weight."""
        (k,) = np.flatnonzero(self.noisy.label != self.noisy.true)
        rest = "" if self.weights.any() else "; no example helps, so the step leaves theta unchanged"
        return f"{self.noisy.names[k]} is mislabeled and gets the weight {self.weights[k]:.4f}{rest}."


# ------------------------------------------------------------------------------------------------ the step

def problem(seed):
    """Return the noisy batch, the clean batch and the parameters of a seed.

    Class 1 is centered at (1, 1), class 0 at (-1, -1).
    """
    rng = generator(seed)
    sizes = {"W1": (2, 2), "b1": 2, "W2": (2, 1), "b2": 1}
    theta = {name: np.round(rng.normal(0, 0.6, size), 1) for name, size in sizes.items()}

    def batch(names, label, true):
        label, true = np.array(label, float)[:, None], np.array(true, float)[:, None]
        return Batch(names, np.round((2 * true - 1) + rng.normal(0, 0.4, (len(names), 2)), 1), label, true)
    return batch(("A", "B", "C"), (1, 0, 1), (1, 0, 0)), batch(("D", "E"), (1, 0), (1, 0)), theta


def nodes(theta, batch, nudge=None):
    """Run the network and return all its values. nudge: {"a", "s"}, added at these nodes, for derivatives there."""
    nudge = nudge or {"a": 0.0, "s": 0.0}
    a = matmul(batch.x, theta["W1"]) + theta["b1"] + nudge["a"]
    h = tanh(a)
    s = matmul(h, theta["W2"]) + theta["b2"] + nudge["s"]
    return {"a": a, "h": h, "s": s, "l": sum(softplus(s) - batch.label * s, 1)}     # cross-entropy of a sigmoid


def cotangents(theta, batch, forward):
    """Return ∂l_i/∂a_i and ∂l_i/∂s_i, for each example the derivatives of its own loss."""
    losses, pull = vjp(lambda nudge: nodes(theta, batch, nudge)["l"],
                       {name: xp.zeros(forward[name].shape) for name in ("a", "s")})
    return pull(xp.ones(losses.shape))[0]


def descend(theta, gradient):
    """Return θ - α gradient."""
    return tree.map(lambda p, g: p - RATE * g, theta, gradient)


def trace(seed=0):
    """Return the Trace of one step of Algorithm 1, by the engine and by the layer-wise formula.

    Raises MinigradError for a negative seed, and if two ways to compute a number differ by more than 1e-6.
    """
    if seed < 0:
        raise MinigradError(f"--seed {seed}: a seed is not negative\n  help: take 0 or more")
    noisy, clean, theta = tree.map(xp.asarray, problem(seed))

    def losses(theta):
        return nodes(theta, noisy)["l"]

    def clean_loss(theta):
        return mean(nodes(theta, clean)["l"])

    def weighted(theta, eps):
        return sum(eps * losses(theta))
    gradient_at, eps = grad(weighted), xp.zeros(len(noisy.names))
    forward, J = linearize(lambda theta: nodes(theta, noisy), theta)                # line 4
    theta_hat = descend(theta, gradient_at(theta, eps))                             # lines 5-7
    forward_clean = nodes(theta_hat, clean)                                         # lines 8-9
    v = grad(clean_loss)(theta_hat)                                                 # line 10, to θ̂ ...
    descent = -grad(lambda eps: clean_loss(descend(theta, gradient_at(theta, eps))))(eps)      # ... and on to ε
    short = reweight.reweighted_gradient(losses, clean_loss, theta)                 # lines 4-13, the short way
    after = descend(theta, short.gradient)                                          # line 14
    found = Trace(
        seed, RATE, noisy, clean, theta, forward, cotangents(theta, noisy, forward), weighted(theta, eps),
        gradient_at(theta, eps), jacobian(lambda eps: gradient_at(theta, eps))(eps), theta_hat, forward_clean,
        clean_loss(theta_hat), cotangents(theta_hat, clean, forward_clean), v, descent, J.push(v), short.scores,
        by_hand(*tree.map(to_host, (theta, noisy, clean))), short.weights,
        reweight.example_weights_unrolled(losses, clean_loss, theta, RATE), short.gradient, after, clean_loss(after))
    return check(tree.map(lambda x: x if isinstance(x, (int, float)) else to_host(x), found))


def by_hand(theta, noisy, clean):
    """Return the contribution of each layer to u, (n, 2), by the layer-wise formula in plain NumPy."""
    def layers(batch):
        one = np.ones((len(batch.x), 1))
        h = np.tanh(batch.x @ theta["W1"] + theta["b1"])
        g_score = 1 / (1 + np.exp(-(h @ theta["W2"] + theta["b2"]))) - batch.label
        g_hidden = (g_score @ theta["W2"].T) * (1 - h ** 2)
        return [(np.hstack([batch.x, one]), g_hidden), (np.hstack([h, one]), g_score)]
    return np.stack([((z_i @ z_j.T) * (g_i @ g_j.T)).mean(1)
                     for (z_i, g_i), (z_j, g_j) in zip(layers(noisy), layers(clean))], 1)


def check(trace):
    """Return the trace, after comparing all ways to compute its scores and weights.

    Raises MinigradError if two differ by more than 1e-6.
    """
    u = trace.scores
    for what, one, other in (("scores by hand", trace.layers.sum(1), u), ("scores by J.push", trace.tangents["l"], u),
                             ("scores by backward on backward", trace.descent / RATE, u),
                             ("weights by the unrolled form", trace.weights_unrolled, trace.weights)):
        worst = np.max(np.abs(one - other))
        if not worst <= TOLERANCE:
            raise MinigradError(f"seed {trace.seed}: the {what} differ from reweighted_gradient's by {worst:.1e}\n"
                                "  help: run pytest tests/test_reweight.py to find out whether the engine is wrong")
    return trace


# ------------------------------------------------------------------------------------------------ the page

def table(names, columns):
    """Return lines of text: a row for each name, a column of numbers for each (head, values)."""
    width = max(map(len, names)) + 5
    lines = [" " * width + "".join(f"{head:>12}" for head, _ in columns)]
    return lines + [f"   {name:{width - 3}}" + "".join(f"{values[i] + 0.0:12.4f}" for _, values in columns)
                    for i, name in enumerate(names)]        # + 0.0: no minus sign before a zero


def flat(theta):
    """Return the names and the values of all parameters; W1[2,1] connects input 2 to hidden unit 1."""
    keys = ("W1", "b1", "W2", "b2")
    names = [f"{key}[{','.join(str(k + 1) for k in index)}]" for key in keys for index in np.ndindex(theta[key].shape)]
    return names, np.concatenate([theta[key].ravel() for key in keys])


def _examples(batch, nodes):
    columns = [("x1", batch.x[:, 0]), ("x2", batch.x[:, 1]), ("label", batch.label[:, 0]), ("h1", nodes["h"][:, 0]),
               ("h2", nodes["h"][:, 1]), ("score s", nodes["s"][:, 0]), ("loss l", nodes["l"])]
    return table(batch.names, columns)


def _cotangents(batch, back):
    return table(batch.names, [("dl/da1", back["a"][:, 0]), ("dl/da2", back["a"][:, 1]), ("dl/ds", back["s"][:, 0])])


def page(trace):
    """Format the step as text: the numbers of the seven pictures, with four decimals, by the lines of Algorithm 1."""
    names, theta = flat(trace.theta)
    by_epsilon = [flat({key: value[..., i] for key, value in trace.by_epsilon.items()})[1] for i in range(3)]
    first, second = trace.layers.T
    return "\n".join([
        f"One step of Algorithm 1: 2 inputs, 2 tanh units, 1 score; rate {trace.rate}; seed {trace.seed}",
        "W1[2,1] connects input 2 to unit 1. Noisy: A, B, C. Clean: D, E.", "",
        "1  FORWARD, NOISY (line 4)", *_examples(trace.noisy, trace.forward), "",
        f"2  WEIGHTED LOSS (line 5): epsilon = 0, so sum epsilon_i l_i = {trace.weighted_loss:.4f}", "",
        "3  BACKWARD (lines 6-7): derivatives at the units, for each example of its own loss",
        *_cotangents(trace.noisy, trace.back),
        "   The gradient is 0, because every term has the factor epsilon_i = 0. Its derivative in epsilon is not 0:",
        *table(names, [("gradient", flat(trace.zero_gradient)[1]),
                       *((f"d/d eps_{name}", column) for name, column in zip(trace.noisy.names, by_epsilon))]),
        f"   theta_hat = theta - {trace.rate} gradient equals theta exactly: {'yes' if trace.unmoved else 'NO'}", "",
        "4  FORWARD, CLEAN, at theta_hat (lines 8-9)", *_examples(trace.clean, trace.forward_clean),
        f"   clean loss L, their mean: {trace.clean_loss:.4f}", "",
        "5  BACKWARD, CLEAN (line 10, from L to theta_hat): for each example of its own loss",
        *_cotangents(trace.clean, trace.back_clean), "   v, the gradient of L:",
        *table(names, [("v", flat(trace.v)[1])]), "",
        "6  BACKWARD ON BACKWARD (line 10, from theta_hat to epsilon): -dL/d eps_i = rate * u_i",
        "   By hand, the contribution of each layer to u: the mean over clean j of (z_i . z_j) (g_i . g_j)",
        *table(trace.noisy.names, [("layer 1", first), ("layer 2", second), ("u by hand", first + second),
                                   ("u, engine", trace.scores), ("J.push(v)", trace.tangents["l"]),
                                   ("-dL/d eps", trace.descent)]),
        f"   u by hand and the engine's differ by {np.max(np.abs(first + second - trace.scores)):.0e}", "",
        "7  NEW WEIGHTS AND UPDATE (lines 11-14): w = max(u, 0) / sum; theta - rate * gradient of sum w_i l_i",
        *table(trace.noisy.names, [("max(u, 0)", np.maximum(trace.scores, 0)), ("w", trace.weights),
                                   ("w, unrolled", trace.weights_unrolled)]), "   " + trace.verdict,
        *table(names, [("theta", theta), ("gradient", flat(trace.gradient)[1]),
                       ("theta after", flat(trace.theta_after)[1])]),
        f"   clean loss before {trace.clean_loss:.4f}, after {trace.clean_loss_after:.4f}"])


# ------------------------------------------------------------------------------------------------ the command

def main(arguments=None):
    """Print the page and draw the pictures; return the exit status."""
    return command.main("walkthrough", __doc__, trace, page, draw, arguments)
