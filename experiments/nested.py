"""The exact two loops of the paper against the single loop of Algorithm 1, on a convex case.

    python -m experiments.nested [--out FOLDER] [--seed N]

The method is defined by two nested problems (equations 1 and 2 of the paper):

    theta*(w) = argmin over theta of F(theta, w) = mean of w_i l_i(theta) + L2 / 2 |theta|²
    w*        = argmin over w >= 0 of L(theta*(w)), the clean loss

Here l_i is the loss of logistic regression, so F is strictly convex: theta*(w) is one point, found by Newton's method.
The implicit function theorem, applied to grad F(theta*(w), w) = 0, gives the exact derivative, with H the Hessian of F:

    dL/dw_i = - 1/n <grad l_i, H^-1 grad L>   at theta*(w)

Algorithm 1's score <grad l_i, grad L> is minus that, times n, with the identity in place of H: one look-ahead step
instead of the whole inner loop. So the signs agree where H^-1 does not turn grad L too far.

Scale: weights have mean 1. Otherwise their size would be a second knob on L2 (twice the weights are half the L2), and
w* need not exist: on clean data that can be separated, larger is better for ever. w = 1 is plain training, and
Algorithm 1's weights, whose sum is 1, are multiplied by n. What is left of w >= 0 is a simplex; steps are projected
onto it.

theta* knows w only by a sum of gradients: as many equations as parameters, for n weights. So where weights can bring L
to its least over all theta, many can; shown are those reached from w = 1. Where none can, w* rests on a few examples,
about as many as parameters, and clean ones end at 0 too: u tells where the first step goes, not where the last ends.

Newton's method and the exact derivative need H, which costs a gradient for each parameter and one more: 4 parameters
can afford that, a network cannot.
"""
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from minigrad import MinigradError, grad, hessian, jvp, matmul, mean, reweight, softplus, to_host, tree, xp
from minigrad import sum as total
from minigrad.backend import generator

from . import pages
from .nested_page import draw, page

EXAMPLES, CLEAN, TEST, FEATURES = 60, 30, 5000, 3
FLIPPED, L2 = 0.3, 0.03                                     # the share of the noisy labels that are wrong; L2 of F
RATE, STEPS = 0.5, 200                                      # of the online loop
SMALL = 0.1                                                 # rate of the single steps that are compared
SEEDS = range(10)                                           # that means are told over


class Problem(NamedTuple):
    """Examples x (n, 4), with a last column of 1, and labels (n,), 0 or 1. flipped: (n,), where a label is wrong."""
    x: Any
    label: Any
    flipped: Any
    x_clean: Any
    label_clean: Any
    x_test: Any
    label_test: Any


class Cost:
    """Passes over one example, forward and backward. A tangent that is pushed through a pass counts as a pass."""

    def __init__(self):
        self.forward = self.backward = 0

    def add(self, examples, forward, backward=0):
        """That many passes over each of the examples."""
        self.forward += examples * forward
        self.backward += examples * backward

    def gradients(self, problem):
        """As many gradients of the training loss: a forward and a backward pass over every noisy example."""
        return (self.forward + self.backward) / (2 * len(problem.x))


class Route(NamedTuple):
    """Where a way to weights led. path: (cost so far in gradients, clean loss), one pair for each of its steps."""
    theta: Any
    weights: Any                # (n,), mean 1, on the host; of `online`, the mean over its steps
    path: list
    cost: Cost
    seconds: float


class Found(NamedTuple):
    """All that the page tells and the picture shows: numbers, and arrays on the host."""
    seed: int
    flipped: Any                # (n,)
    exact: Any                  # (n,): -n dL/dw_i at w = 1
    scores: Any                 # (n,): u_i there
    routes: dict                # "nested" and "online": a Route
    ends: dict                  # of these, of plain training and of theta*(online w): (clean loss, test accuracy in %)
    least: float                # min over all theta of the clean loss, which no weights can undercut
    steps: dict                 # at theta = 0 and at theta*(1): what `one_step` and `spread` give, in one tuple


def problem(seed):
    """The problem of a seed: two round clouds that overlap, as many of each class; of the noisy labels, 30 % flipped.

    Raises MinigradError for a negative seed.
    """
    if seed < 0:
        raise MinigradError(f"--seed {seed}: a seed is not negative\n  help: take 0 or more")
    rng = generator(seed)

    def cloud(n):
        label = np.arange(n) % 2
        x = (2 * label - 1)[:, None] / np.sqrt(FEATURES) + rng.standard_normal((n, FEATURES))
        return np.column_stack([x, np.ones(n)]), label.astype(float)
    (x, label), flipped = cloud(EXAMPLES), np.zeros(EXAMPLES, bool)
    flipped[rng.permutation(EXAMPLES)[:round(FLIPPED * EXAMPLES)]] = True
    return tree.map(xp.asarray, Problem(x, np.where(flipped, 1 - label, label), flipped, *cloud(CLEAN), *cloud(TEST)))


# ------------------------------------------------------------------------------------------------ the two loops

def losses(theta, x, label):
    """Cross-entropy of the sigmoid of the scores x theta: (n,)."""
    s = matmul(x, theta)
    return softplus(s) - label * s


def clean_loss(theta, problem):
    """L: the mean loss of the clean examples."""
    return mean(losses(theta, problem.x_clean, problem.label_clean))


def objective(problem, weights):
    """The function F(., w)."""
    w = xp.asarray(weights)
    return lambda theta: mean(w * losses(theta, problem.x, problem.label)) + L2 / 2 * total(theta * theta)


def _solved(matrix, vector):
    return xp.asarray(np.linalg.solve(to_host(matrix), to_host(vector)))


def minimise(f, theta, examples, cost, tolerance=1e-10):
    """The theta where |grad f| < tolerance, for a strictly convex f over so many examples: Newton's method.

    A step is halved until it lowers the gradient's norm. Raises MinigradError if it does not get there.
    """
    slope, parameters = grad(f), len(theta)

    def sloped(theta):
        cost.add(examples, 1, 1)
        g = slope(theta)
        return g, float(np.linalg.norm(to_host(g)))
    g, norm = sloped(theta)
    for _ in range(100):
        if norm < tolerance:
            return theta
        cost.add(examples, 1 + parameters, 1 + parameters)  # a gradient, and a walk back through it for each row
        step = _solved(hessian(f)(theta), g)
        while not (found := sloped(theta - step))[1] < norm and abs(step).max() > 1e-16:
            step = step / 2
        theta, (g, norm) = theta - step, found
    raise MinigradError(f"Newton's method stops at a gradient of norm {norm:.1e}\n  help: is f strictly convex, "
                        "and are all values finite?")


def solve_inner(problem, weights, theta=None, cost=None):
    """theta*(w), to a gradient norm of 1e-10. theta: where to begin, 0 if not given.

    Raises MinigradError unless there is a weight >= 0 for each example.
    """
    if np.shape(weights) != (len(problem.x),) or not np.min(weights) >= 0:
        raise MinigradError(f"solve_inner: weights of shape {np.shape(weights)}, least {np.min(weights)}\n"
                            f"  help: one weight >= 0 for each of the {len(problem.x)} examples")
    theta = xp.zeros(problem.x.shape[1]) if theta is None else theta
    return minimise(objective(problem, weights), theta, len(problem.x), cost or Cost())


def hypergradient(problem, weights, theta, cost=None):
    """dL/dw at theta = theta*(w): (n,), on the host. No inner problem is solved for it; see the top of this file."""
    cost, (n, parameters) = cost or Cost(), problem.x.shape
    v = grad(lambda theta: clean_loss(theta, problem))(theta)
    H = hessian(objective(problem, weights))(theta)
    _, t = jvp(lambda theta: losses(theta, problem.x, problem.label), (theta,), (_solved(H, v),))
    cost.add(len(problem.x_clean), 1, 1)
    cost.add(n, 1 + parameters + 2, 1 + parameters)
    return -to_host(t) / n


def projected(w):
    """The point nearest to w, (n,), of the simplex w >= 0 with mean 1. Held, Wolfe & Crowder, 1974."""
    falling = np.sort(w)[::-1]
    shift = (np.cumsum(falling) - len(w)) / np.arange(1, len(w) + 1)
    return np.maximum(w - shift[falling > shift][-1], 0.0)


def nested(problem, tolerance=1e-4, steps=3000, start=None):
    """The two loops: projected gradient descent on w, theta*(w) solved anew for each w that is tried. Gives a Route.

    It ends where no w could, by the first derivatives, have a clean loss lower by `tolerance`. A step has the length of
    Barzilai and Borwein, and is halved until the clean loss falls (Birgin, Martinez & Raydan, 2000). start: weights of
    mean 1; all 1 if not given. Raises MinigradError if it does not get there in so many steps.
    """
    began, cost, path, n = time.perf_counter(), Cost(), [], len(problem.x)
    w = np.ones(n) if start is None else start

    def tried(w, theta=None):
        theta = solve_inner(problem, w, theta, cost)
        cost.add(len(problem.x_clean), 1)
        return theta, float(clean_loss(theta, problem))
    theta, value = tried(w)
    g = hypergradient(problem, w, theta, cost)
    length = 1.0 / np.max(np.abs(g))                        # before it is projected, the first step is 1 at most
    for _ in range(steps):
        path.append((cost.gradients(problem), value))
        if g @ w - n * g.min() < tolerance:
            return Route(theta, w, path, cost, time.perf_counter() - began)
        step = projected(w - length * g) - w
        while (found := tried(w + step, theta))[1] > value + 1e-4 * (g @ step) and np.max(np.abs(step)) > 1e-12:
            step = step / 2
        w, (theta, value) = w + step, found
        last, g = g, hypergradient(problem, w, theta, cost)
        bend = step @ (g - last)
        length = step @ step / bend if bend > 0 else 2 * length
    raise MinigradError(f"the outer loop is not done after {steps} steps\n  help: a larger tolerance, or more steps")


# ---------------------------------------------------------------------------------------------- the single loop

def online(problem, steps=STEPS, rate=RATE):
    """Algorithm 1 on all examples at every step, from theta = 0; L2 is added to the weighted loss. Gives a Route."""
    began, cost, path = time.perf_counter(), Cost(), []
    theta, weights, n = xp.zeros(problem.x.shape[1]), 0.0, len(problem.x)
    for _ in range(steps):
        step = reweight.reweighted_gradient(lambda theta: losses(theta, problem.x, problem.label),
                                            lambda theta: clean_loss(theta, problem), theta)
        cost.add(len(problem.x_clean), 1, 1)
        cost.add(n, 2, 1)                                   # forward, push, pull
        path.append((cost.gradients(problem), float(step.clean_loss)))
        theta, weights = theta - rate * (step.gradient + L2 * theta), weights + step.weights * (n / steps)
    path.append((cost.gradients(problem), float(clean_loss(theta, problem))))       # a last look, which costs nothing
    return Route(theta, to_host(weights), path, cost, time.perf_counter() - began)


def at_uniform(problem):
    """theta*(1), and there -n dL/dw_i, the exact direction, beside u_i, the scores of Algorithm 1: each (n,)."""
    ones = np.ones(len(problem.x))
    theta = solve_inner(problem, ones)
    v = grad(lambda theta: clean_loss(theta, problem))(theta)
    _, scores = jvp(lambda theta: losses(theta, problem.x, problem.label), (theta,), (v,))
    return theta, -len(ones) * hypergradient(problem, ones, theta), to_host(scores)


def one_step(problem, theta, rate=SMALL):
    """The clean loss at theta; after a plain step; and after one of Algorithm 1 with the same rate (Lemma 1).

    To first order in the rate the loss falls by rate * mean(u), or rate * sum(u+²) / sum(u+), which is never less.
    """
    def own(theta):
        return losses(theta, problem.x, problem.label)
    weighted = reweight.reweighted_gradient(own, lambda theta: clean_loss(theta, problem), theta).gradient
    plain = grad(lambda theta: mean(own(theta)))(theta)
    return tuple(float(clean_loss(theta - rate * g, problem)) for g in (xp.zeros_like(theta), plain, weighted))


def spread(problem, theta, rates=(0.1, 1.0)):
    """How far apart the weights of Algorithm 1 are, by backward on backward, for two rates of the look-ahead."""
    one, other = (reweight.example_weights_unrolled(lambda theta: losses(theta, problem.x, problem.label),
                                                    lambda theta: clean_loss(theta, problem), theta, rate)
                  for rate in rates)
    return float(abs(one - other).max())


def accuracy(problem, theta):
    """The share of the test examples that are on the right side, in percent."""
    return 100 * float(((matmul(problem.x_test, theta) > 0) == (problem.label_test > 0)).mean())


def solve(seed=0):
    """Both ways on the problem of a seed, and what they are compared with: a Found."""
    here = problem(seed)
    theta, exact, scores = at_uniform(here)
    routes = {"nested": nested(here), "online": online(here)}
    ends = {"plain (w = 1)": theta, **{name: route.theta for name, route in routes.items()},
            "theta*(online w)": solve_inner(here, routes["online"].weights)}
    best = minimise(lambda theta: clean_loss(theta, here) + 1e-12 * total(theta * theta), theta, CLEAN, Cost())
    return Found(seed, to_host(here.flipped), exact, scores, routes,
                 {name: (float(clean_loss(end, here)), accuracy(here, end)) for name, end in ends.items()},
                 float(clean_loss(best, here)), {name: (*one_step(here, place), spread(here, place)) for name, place in
                                                 (("theta = 0", xp.zeros_like(theta)), ("theta*(1)", theta))})


# ------------------------------------------------------------------------------------------------ the command

def main(arguments=None):
    """Print the page and draw the picture; gives the exit status."""
    def told(found):
        return page(found, [found if seed == found.seed else solve(seed) for seed in SEEDS])
    return pages.main("nested", __doc__, solve, told, draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
