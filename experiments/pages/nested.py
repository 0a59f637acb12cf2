"""The paper's exact two nested loops against the single loop of Algorithm 1, on a convex problem.

    python -m experiments nested [--out FOLDER] [--seed N]

The method is defined by two nested problems (equations 1 and 2 of the paper):

    theta*(w) = argmin over theta of F(theta, w) = mean of w_i l_i(theta) + L2 / 2 |theta|²
    w*        = argmin over w >= 0 of L(theta*(w)), the clean loss

Here l_i is the loss of logistic regression, so F is strictly convex: theta*(w) is a single point, which Newton's method
finds. The implicit function theorem, applied to grad F(theta*(w), w) = 0, yields the exact derivative, where H is the
Hessian of F:

    dL/dw_i = - 1/n <grad l_i, H^-1 grad L>   at theta*(w)

Algorithm 1's score <grad l_i, grad L> is this derivative times -n, with the identity in place of H: one look-ahead step
instead of the whole inner loop. So the signs agree unless H^-1 turns grad L too far.

Scale: weights have mean 1. Otherwise their size would act as a second L2 parameter (doubling the weights halves L2),
and w* need not exist: on separable clean data, larger weights are always better. w = 1 is plain training, and
Algorithm 1's weights, whose sum is 1, are multiplied by n. The weights w >= 0 with mean 1 form a simplex, onto which
steps are projected.

theta* depends on w only through a sum of gradients, which is one equation per parameter for n weights. So if some
weights reach the minimum of L over all theta, many do; the ones shown are reached from w = 1. If none do, only a few
examples, about as many as there are parameters, have w* > 0, and clean ones can end at 0, too: u predicts the direction
of the first step, not the end of the last.

Newton's method and the exact derivative need H, which costs one gradient per parameter and one more. That is affordable
for 4 parameters, but not for a network.
"""
import time
from typing import Any, NamedTuple

import numpy as np

from minigrad import MinigradError, grad, hessian, jvp, matmul, mean, reweight, softplus, to_host, tree, xp
from minigrad import sum as total
from minigrad.backend import generator

from . import command
from .nested_page import draw, page

EXAMPLES, CLEAN, TEST, FEATURES = 60, 30, 5000, 3
FLIPPED, L2 = 0.3, 0.03                                     # share of the noisy labels that are wrong; L2 of F
RATE, STEPS = 0.5, 200                                      # of the online loop
SMALL = 0.1                                                 # rate of the single steps in part 3 of the page
SEEDS = range(10)                                           # over which the page reports means


class Clouds(NamedTuple):
    """Examples x (n, 4), whose last column is 1, and labels (n,), 0 or 1. flipped: (n,), True for a wrong label."""
    x: Any
    label: Any
    flipped: Any
    x_clean: Any
    label_clean: Any
    x_test: Any
    label_test: Any


class Cost:
    """Numbers of forward and backward passes over one example. Pushing a tangent through counts as a forward pass."""

    def __init__(self):
        self.forward = self.backward = 0

    def add(self, examples, forward, backward=0):
        """Add so many passes over each of `examples` examples."""
        self.forward += examples * forward
        self.backward += examples * backward

    def gradients(self, problem):
        """Return the cost in gradients of the training loss.

        One gradient is a forward and a backward pass over every noisy example.
        """
        return (self.forward + self.backward) / (2 * len(problem.x))


class Route(NamedTuple):
    """The result of one way to compute weights. path: (cost so far in gradients, clean loss) at each of its steps."""
    theta: Any
    weights: Any                # (n,), mean 1, on the host; for `online`, the mean over its steps
    path: list
    cost: Cost
    seconds: float


class Comparison(NamedTuple):
    """Everything that the page and the picture show: numbers, and arrays on the host."""
    seed: int
    flipped: Any                # (n,)
    exact: Any                  # (n,): -n dL/dw_i at w = 1
    scores: Any                 # (n,): u_i at w = 1
    routes: dict                # "nested" and "online": a Route
    ends: dict                  # {name: (clean loss, test accuracy in %)}: the routes, plain training, theta*(online w)
    least: float                # minimum of the clean loss over all theta, a lower bound for all weights
    steps: dict                 # {"theta = 0", "theta*(1)": (*one_step, spread)} there


def problem(seed):
    """Return the problem of a seed: two overlapping Gaussian classes of equal size; 30 % of the noisy labels flipped.

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
    return tree.map(xp.asarray, Clouds(x, np.where(flipped, 1 - label, label), flipped, *cloud(CLEAN), *cloud(TEST)))


# ------------------------------------------------------------------------------------------------ the two loops

def losses(theta, x, label):
    """Return the cross-entropy of the sigmoid of the scores x theta: (n,)."""
    s = matmul(x, theta)
    return softplus(s) - label * s


def clean_loss(theta, problem):
    """Return L, the mean loss of the clean examples."""
    return mean(losses(theta, problem.x_clean, problem.label_clean))


def objective(problem, weights):
    """Return the function F(., w)."""
    w = xp.asarray(weights)
    return lambda theta: mean(w * losses(theta, problem.x, problem.label)) + L2 / 2 * total(theta * theta)


def _solve(matrix, vector):
    return xp.asarray(np.linalg.solve(to_host(matrix), to_host(vector)))


def minimize(f, theta, examples, cost, tolerance=1e-10):
    """Minimize a strictly convex f by Newton's method, and return the theta where |grad f| < tolerance.

    A step is halved until it lowers the gradient's norm. Raises MinigradError if the method does not converge.

    Args:
        f: a function of theta.
        theta: where to begin, a vector.
        examples: the number of examples in f, for the cost.
        cost: the Cost to add to.
        tolerance: of the gradient's norm.
    """
    gradient, parameters = grad(f), len(theta)

    def gradient_and_norm(theta):
        cost.add(examples, 1, 1)
        g = gradient(theta)
        return g, float(np.linalg.norm(to_host(g)))
    g, norm = gradient_and_norm(theta)
    for _ in range(100):
        if norm < tolerance:
            return theta
        cost.add(examples, 1 + parameters, 1 + parameters)  # the Hessian: a gradient, and one pull per row
        step = _solve(hessian(f)(theta), g)
        while not (found := gradient_and_norm(theta - step))[1] < norm and abs(step).max() > 1e-16:
            step = step / 2
        theta, (g, norm) = theta - step, found
    raise MinigradError(f"Newton's method stops at a gradient of norm {norm:.1e}\n  help: check that f is strictly "
                        "convex, and that all values are finite")


def solve_inner(problem, weights, theta=None, cost=None):
    """Return theta*(w), to a gradient norm of 1e-10.

    Raises MinigradError unless there is a weight >= 0 for each example.

    Args:
        problem: the Clouds.
        weights: w, (n,).
        theta: where to begin, by default 0.
        cost: a Cost to add to.
    """
    if np.shape(weights) != (len(problem.x),) or not np.min(weights) >= 0:
        raise MinigradError(f"solve_inner: weights of shape {np.shape(weights)}, least {np.min(weights)}\n"
                            f"  help: one weight >= 0 for each of the {len(problem.x)} examples")
    theta = xp.zeros(problem.x.shape[1]) if theta is None else theta
    return minimize(objective(problem, weights), theta, len(problem.x), cost or Cost())


def hypergradient(problem, weights, theta, cost=None):
    """Return dL/dw at theta = theta*(w), (n,), on the host, by the implicit function theorem: see the top of this file.

    Args:
        problem: the Clouds.
        weights: w, (n,).
        theta: theta*(w).
        cost: a Cost to add to.
    """
    cost, (n, parameters) = cost or Cost(), problem.x.shape
    v = grad(lambda theta: clean_loss(theta, problem))(theta)
    H = hessian(objective(problem, weights))(theta)
    _, t = jvp(lambda theta: losses(theta, problem.x, problem.label), (theta,), (_solve(H, v),))
    cost.add(len(problem.x_clean), 1, 1)
    cost.add(n, 1 + parameters + 2, 1 + parameters)
    return -to_host(t) / n


def project(w):
    """Project w, (n,), onto the simplex of weights >= 0 with mean 1. Held, Wolfe & Crowder, 1974."""
    falling = np.sort(w)[::-1]
    shift = (np.cumsum(falling) - len(w)) / np.arange(1, len(w) + 1)
    return np.maximum(w - shift[falling > shift][-1], 0.0)


def nested(problem, tolerance=1e-4, steps=3000, start=None):
    """Run the two loops, projected gradient descent on w with an exact theta*(w) for each w, and return a Route.

    A step has the length of Barzilai and Borwein, and is halved until the clean loss falls (Birgin, Martinez & Raydan,
    2000). Raises MinigradError if the loop has not converged after `steps` steps.

    Args:
        problem: the Clouds.
        tolerance: stop where, to first order, no w has a clean loss lower by more than this.
        steps: the limit of the outer loop.
        start: weights of mean 1, by default all 1.
    """
    began, cost, path, n = time.perf_counter(), Cost(), [], len(problem.x)
    w = np.ones(n) if start is None else start

    def evaluate(w, theta=None):
        theta = solve_inner(problem, w, theta, cost)
        cost.add(len(problem.x_clean), 1)
        return theta, float(clean_loss(theta, problem))
    theta, value = evaluate(w)
    g = hypergradient(problem, w, theta, cost)
    length = 1.0 / np.max(np.abs(g))      # before projection, the first step changes no weight by more than 1
    for _ in range(steps):
        path.append((cost.gradients(problem), value))
        if g @ w - n * g.min() < tolerance:
            return Route(theta, w, path, cost, time.perf_counter() - began)
        step = project(w - length * g) - w
        while (found := evaluate(w + step, theta))[1] > value + 1e-4 * (g @ step) and np.max(np.abs(step)) > 1e-12:
            step = step / 2
        w, (theta, value) = w + step, found
        last, g = g, hypergradient(problem, w, theta, cost)
        bend = step @ (g - last)
        length = step @ step / bend if bend > 0 else 2 * length
    raise MinigradError(f"the outer loop has not converged after {steps} steps\n"
                        "  help: a larger tolerance, or more steps")


# ---------------------------------------------------------------------------------------------- the single loop

def online(problem, steps=STEPS, rate=RATE):
    """Run Algorithm 1 on all examples at every step, from theta = 0 with L2 in the loss, and return a Route."""
    began, cost, path = time.perf_counter(), Cost(), []
    theta, weights, n = xp.zeros(problem.x.shape[1]), 0.0, len(problem.x)
    for _ in range(steps):
        step = reweight.reweighted_gradient(lambda theta: losses(theta, problem.x, problem.label),
                                            lambda theta: clean_loss(theta, problem), theta)
        cost.add(len(problem.x_clean), 1, 1)
        cost.add(n, 2, 1)                                   # forward, push, pull
        path.append((cost.gradients(problem), float(step.clean_loss)))
        theta, weights = theta - rate * (step.gradient + L2 * theta), weights + step.weights * (n / steps)
    path.append((cost.gradients(problem), float(clean_loss(theta, problem))))   # after the last step; not a cost
    return Route(theta, to_host(weights), path, cost, time.perf_counter() - began)


def at_uniform(problem):
    """Return theta*(1), and at it -n dL/dw_i, the exact direction, and u_i, the scores of Algorithm 1: each (n,)."""
    ones = np.ones(len(problem.x))
    theta = solve_inner(problem, ones)
    v = grad(lambda theta: clean_loss(theta, problem))(theta)
    _, scores = jvp(lambda theta: losses(theta, problem.x, problem.label), (theta,), (v,))
    return theta, -len(ones) * hypergradient(problem, ones, theta), to_host(scores)


def one_step(problem, theta, rate=SMALL):
    """Return the clean loss at theta, after a plain step, and after a step of Algorithm 1 with the same rate (Lemma 1).

    To first order in the rate, the plain step lowers it by rate * mean(u), and Algorithm 1's by
    rate * sum(u+²) / sum(u+), which is never less.
    """
    def own(theta):
        return losses(theta, problem.x, problem.label)
    weighted = reweight.reweighted_gradient(own, lambda theta: clean_loss(theta, problem), theta).gradient
    plain = grad(lambda theta: mean(own(theta)))(theta)
    return tuple(float(clean_loss(theta - rate * g, problem)) for g in (xp.zeros_like(theta), plain, weighted))


def spread(problem, theta, rates=(0.1, 1.0)):
    """Return the largest difference of Algorithm 1's weights, by backward on backward, between two look-ahead rates."""
    one, other = (reweight.example_weights_unrolled(lambda theta: losses(theta, problem.x, problem.label),
                                                    lambda theta: clean_loss(theta, problem), theta, rate)
                  for rate in rates)
    return float(abs(one - other).max())


def accuracy(problem, theta):
    """Return the share of the test examples that are classified correctly, in percent."""
    return 100 * float(((matmul(problem.x_test, theta) > 0) == (problem.label_test > 0)).mean())


def solve(seed=0):
    """Solve the problem of a seed in both ways, and return a Comparison."""
    here = problem(seed)
    theta, exact, scores = at_uniform(here)
    routes = {"nested": nested(here), "online": online(here)}
    ends = {"plain (w = 1)": theta, **{name: route.theta for name, route in routes.items()},
            "theta*(online w)": solve_inner(here, routes["online"].weights)}
    best = minimize(lambda theta: clean_loss(theta, here) + 1e-12 * total(theta * theta), theta, CLEAN, Cost())
    return Comparison(seed, to_host(here.flipped), exact, scores, routes,
                 {name: (float(clean_loss(end, here)), accuracy(here, end)) for name, end in ends.items()},
                 float(clean_loss(best, here)), {name: (*one_step(here, at), spread(here, at)) for name, at in
                                                 (("theta = 0", xp.zeros_like(theta)), ("theta*(1)", theta))})


# ------------------------------------------------------------------------------------------------ the command

def main(arguments=None):
    """Print the page and draw the picture; return the exit status."""
    def page_with_means(found):
        return page(found, [found if seed == found.seed else solve(seed) for seed in SEEDS])
    return command.main("nested", __doc__, solve, page_with_means, draw, arguments)
