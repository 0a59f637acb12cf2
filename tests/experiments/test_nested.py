"""The two loops against the single one: exact derivatives, w*, Algorithm 1, costs, page and picture."""
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from scipy.optimize import minimize

from experiments.pages import nested, nested_page
from experiments.pages.nested_page import draw, measures, page
from minigrad import MinigradError, reweight, to_host, tree
from minigrad.backend import generator

seeds = st.integers(0, 2**32 - 1)


def random_weights(n, seed):
    """Return weights of mean 1, some of them 0."""
    rng = generator(seed)
    w = rng.exponential(size=n) * (rng.random(n) < 0.7) + 0.1 * (np.arange(n) == 0)
    return w * (n / w.sum())


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def each_gradient(theta, x, label):
    """Return ∇l_i, by hand: (n, parameters)."""
    return (sigmoid(x @ theta) - label)[:, None] * x


def plain_clean_loss(theta, p):
    return np.mean(-np.log(sigmoid(np.where(p.label_clean == 1, 1, -1) * (p.x_clean @ theta))))


@pytest.fixture(scope="module")
def every():
    """Solve the problems of several seeds in both ways."""
    return [nested.solve(seed) for seed in nested.SEEDS]


# ------------------------------------------------------------------------------------------------ the inner problem

def test_the_problem_is_what_it_says():
    p = nested.problem(5)
    assert p.x.shape == (60, 4) and p.flipped.sum() == 18 and (p.x[:, 3] == 1).all()
    true = np.where(p.flipped, 1 - p.label, p.label)
    assert true.sum() == 30 == p.label_clean.sum() * 2 and set(p.label) == {0, 1}
    assert not {tuple(row) for row in p.x} & {tuple(row) for row in np.concatenate([p.x_clean, p.x_test])}
    direction = p.x_test[p.label_test == 1].mean(0) - p.x_test[p.label_test == 0].mean(0)
    np.testing.assert_allclose(direction[:3], 2 / np.sqrt(3), atol=0.12)
    assert (nested.problem(5).x == p.x).all() and (nested.problem(6).x != p.x).any()
    with pytest.raises(MinigradError, match="a seed is not negative\n  help: "):
        nested.problem(-1)


@given(seeds)
def test_the_inner_problem_is_solved(seed):
    """Its gradient, by hand, is 0 to 1e-10, and SciPy finds the same point."""
    p, w = nested.problem(seed), random_weights(60, seed)
    theta = nested.solve_inner(p, w)
    assert np.linalg.norm(w @ each_gradient(theta, p.x, p.label) / 60 + nested.L2 * theta) < 1.01e-10
    other = minimize(lambda t: np.mean(w * np.logaddexp(0, np.where(p.label == 1, -1, 1) * (p.x @ t))) + nested.L2 / 2 * t @ t,
                     np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(theta, other.x, atol=1e-4)
    np.testing.assert_allclose(nested.solve_inner(p, w, theta + 3.0), theta, atol=1e-8)        # wherever it begins


def test_without_weights_only_the_l2_term_is_left():
    assert not nested.solve_inner(nested.problem(0), np.zeros(60)).any()


@pytest.mark.parametrize("weights", [-np.ones(60), np.ones(59), np.full(60, np.nan), 1.0], ids=["< 0", "59", "nan", "one"])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(MinigradError, match="solve_inner: weights of shape .*\n  help: one weight >= 0 for each of the 60"):
        nested.solve_inner(nested.problem(0), weights)


def test_a_minimum_that_is_not_reached_is_no_answer():
    """Rounding leaves the gradient above 1e-30."""
    p = nested.problem(0)
    with pytest.raises(MinigradError, match=r"stops at a gradient of norm \d\.\de-1\d\n  help: check that f is strictly convex"):
        nested.minimize(nested.objective(p, np.ones(60)), np.zeros(4), 60, nested.Cost(), tolerance=1e-30)


def test_newton_is_cut_short_where_it_would_overshoot():
    """On softplus(t) + softplus(-t), full steps from 3 diverge."""
    theta = nested.minimize(lambda t: nested.total(nested.softplus(t) + nested.softplus(-t)), np.full(1, 3.0), 1, nested.Cost())
    assert abs(theta[0]) < 1e-9


# ------------------------------------------------------------------------------------------------ the outer problem

@given(seeds)
def test_the_hypergradient_is_the_slope_of_the_solved_problem(seed):
    """Central differences of L(theta*(w)), the inner problem solved anew at each point."""
    p, w = nested.problem(seed), random_weights(60, seed) + 0.1

    def value(w):
        return plain_clean_loss(nested.solve_inner(p, w), p)
    g = nested.hypergradient(p, w, nested.solve_inner(p, w))
    chosen = generator(seed).choice(60, 5, replace=False)
    slopes = [(value(w + 1e-4 * np.eye(60)[i]) - value(w - 1e-4 * np.eye(60)[i])) / 2e-4 for i in chosen]
    np.testing.assert_allclose(g[chosen], slopes, rtol=1e-5, atol=1e-8)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), seeds)
def test_projection_gives_the_nearest_point_of_the_simplex(w, seed):
    w = np.array(w)
    p, n = nested.project(w), len(w)
    assert p.sum() == pytest.approx(n) and p.min() >= 0
    for other in (random_weights(n, seed), *n * np.eye(n)):                      # the angle at p, from w to any point of it, is 90° or more
        assert (w - p) @ (other - p) <= 1e-9


def test_w_star_is_a_minimum(every):
    for found in every:
        p, (best, one) = nested.problem(found.seed), found.routes.values()
        w = best.weights
        assert w.min() >= 0 and w.mean() == pytest.approx(1)
        np.testing.assert_allclose(nested.solve_inner(p, w), best.theta, atol=1e-8)
        value = plain_clean_loss(best.theta, p)
        assert value == pytest.approx(best.path[-1][1]) and (np.diff(best.path, axis=0) * [1, -1] >= 0).all()
        assert value < one.path[-1][1] and value < found.ends["theta*(online w)"][0] < found.ends["plain (w = 1)"][0]
        g = nested.hypergradient(p, w, best.theta)
        assert found.least <= value + 1e-9 and max(g @ w - 60 * g) < 1e-4
        values = [plain_clean_loss(nested.solve_inner(p, w + 0.05 * (random_weights(60, k) - w)), p) for k in range(20)]
        assert min(values) > value - 1e-4                   # and there is no better one nearby
    reached = [found.ends["nested"][0] < found.least + 1e-3 for found in every]
    assert sum(reached) >= 5                                # this minimum is global, not only local


def test_the_least_clean_loss_is_that_of_the_clean_set_alone(every):
    for found in every[:3]:
        p = nested.problem(found.seed)
        other = minimize(lambda t: np.mean(np.logaddexp(0, np.where(p.label_clean == 1, -1, 1) * (p.x_clean @ t))), np.zeros(4),
                         method="BFGS")
        assert found.least == pytest.approx(other.fun, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 3])
def test_other_starts_find_the_same_clean_loss(seed, every):
    start = random_weights(60, seed)
    other = nested.nested(nested.problem(seed), start=start)
    assert other.path[-1][1] == pytest.approx(every[seed].ends["nested"][0], abs=2e-3)
    assert other.path[0][1] == pytest.approx(plain_clean_loss(nested.solve_inner(nested.problem(seed), start), nested.problem(seed)))


def test_two_loops_that_are_not_done_say_so():
    with pytest.raises(MinigradError, match="not converged after 3 steps\n  help: a larger tolerance"):
        nested.nested(nested.problem(0), steps=3)


# ------------------------------------------------------------------------------------------------ the single loop

@given(seeds)
def test_online_is_algorithm_1_by_hand(seed):
    p = nested.problem(seed)
    route, theta, sums = nested.online(p, 4, 0.3), np.zeros(4), np.zeros(60)
    for _ in range(4):
        own = each_gradient(theta, p.x, p.label)
        u = np.maximum(own @ each_gradient(theta, p.x_clean, p.label_clean).mean(0), 0)
        w = u / u.sum()
        theta, sums = theta - 0.3 * (w @ own + nested.L2 * theta), sums + 60 * w
    np.testing.assert_allclose(route.theta, theta, atol=1e-12)
    np.testing.assert_allclose(route.weights, sums / 4, atol=1e-10)
    assert len(route.path) == 5 and route.path[-1][1] == pytest.approx(plain_clean_loss(theta, p))
    assert route.path[0][1] == pytest.approx(np.log(2))


@given(seeds)
def test_scores_and_exact_direction_by_hand(seed):
    p = nested.problem(seed)
    theta, exact, scores = nested.at_uniform(p)
    own, v = each_gradient(theta, p.x, p.label), each_gradient(theta, p.x_clean, p.label_clean).mean(0)
    q = sigmoid(p.x @ theta)
    H = (p.x.T * (q * (1 - q))) @ p.x / 60 + nested.L2 * np.eye(4)
    np.testing.assert_allclose(scores, own @ v, atol=1e-10)
    np.testing.assert_allclose(exact, own @ np.linalg.inv(H) @ v, atol=1e-7)


def test_online_weights_agree_with_the_exact_ones(every):
    """For seeds 0 to 9: signs agree at w = 1, for the clear half and for nine in ten; final weights agree for flipped labels."""
    columns = {name: [measures(found)[name] for found in every] for name in measures(every[0])}
    assert min(columns["u_i and -dL/dw_i agree in sign at w = 1, the clear half, %"]) >= 95
    assert min(columns["u_i and -dL/dw_i agree in sign at w = 1, all, %"]) >= 75
    assert np.mean(columns["u_i and -dL/dw_i agree in sign at w = 1, all, %"]) >= 85
    assert min(columns["correlation of u_i and -dL/dw_i at w = 1"]) > 0.85
    assert np.mean(columns["online weight > 1 agrees with w*_i > 1, flipped, %"]) > 75
    assert min(columns["correlation of online weight and w*_i"]) > 0
    for found in every:
        assert all(route.weights[found.flipped].mean() < 1 < route.weights[~found.flipped].mean() for route in found.routes.values())
    assert np.mean(columns["test accuracy, online, %"]) > np.mean(columns["test accuracy, plain (w = 1), %"]) + 2
    assert abs(np.mean(columns["test accuracy, online, %"]) - np.mean(columns["test accuracy, nested, %"])) < 2


@given(seeds)
def test_one_small_weighted_step_lowers_the_clean_loss_more_than_a_plain_one(seed):
    """Lemma 1, and the first-order decrease of both."""
    p, theta, rate = nested.problem(seed), generator(seed).standard_normal(4), 1e-4
    before, plain, weighted = nested.one_step(p, theta, rate)
    u = each_gradient(theta, p.x, p.label) @ each_gradient(theta, p.x_clean, p.label_clean).mean(0)
    assert before == pytest.approx(plain_clean_loss(theta, p)) and u.max() > 0
    assert before - plain == pytest.approx(rate * u.mean(), rel=0.02, abs=rate * 0.002)
    assert before - weighted == pytest.approx(rate * (np.maximum(u, 0) ** 2).sum() / np.maximum(u, 0).sum(), rel=0.02, abs=rate * 0.002)
    assert weighted < before and weighted < plain


@given(seeds)
def test_the_rate_of_the_look_ahead_cancels(seed):
    p, theta = nested.problem(seed), generator(seed).standard_normal(4)
    assert nested.spread(p, theta) < 1e-12


def test_a_spread_would_be_seen(monkeypatch):
    """Without line 11, weights grow with the rate."""
    monkeypatch.setattr(reweight, "normalize", lambda scores: scores)
    assert nested.spread(nested.problem(0), np.zeros(4)) > 0.01


# ------------------------------------------------------------------------------------------------ the cost

def test_passes_are_counted(monkeypatch):
    """Evaluations of the losses are the forward passes, except for tangents and for the rows of a Hessian."""
    p, rows, right = nested.problem(0), [], nested.losses
    monkeypatch.setattr(nested, "losses", lambda theta, x, label: rows.append(len(x)) or right(theta, x, label))
    cost = nested.Cost()
    nested.hypergradient(p, np.ones(60), np.zeros(4), cost)
    assert sum(rows) == 30 + 2 * 60                         # clean gradient, Hessian, push
    assert (cost.forward, cost.backward) == (30 + 60 * (5 + 2), 30 + 60 * 5)
    assert cost.gradients(p) == (2 * 30 + 60 * 12) / 120
    rows.clear()
    route = nested.online(p, 7)
    assert sum(rows) == 7 * (60 + 30) + 30 and (route.cost.forward, route.cost.backward) == (7 * 150, 7 * 90)
    assert [cost for cost, _ in route.path[:7]] == [2.0 * k for k in range(1, 8)] and route.path[7][0] == 14
    rows.clear()
    cost = nested.Cost()
    nested.minimize(lambda t: nested.total(t * t) + nested.total(nested.losses(t, p.x, p.label)) * 0.0, np.ones(4), 60, cost)
    assert sum(rows) == 3 * 60 and (cost.forward, cost.backward) == (7 * 60, 7 * 60)       # two gradients, one Hessian


def test_two_loops_cost_more_than_one(every):
    """Until they converge, and until they reach the final loss of the single loop."""
    for found in every:
        own = measures(found)
        two, one = (own[f"cost until within 1 % of online's last clean loss, {name}"] for name in ("nested", "online"))
        assert two > one
    assert np.mean([measures(found)["cost, nested"] / measures(found)["cost, online"] for found in every]) > 5


# ------------------------------------------------------------------------------------------------ page and picture

def test_the_page_holds_the_numbers(every):
    found, text = every[0], page(every[0], every)
    assert re.findall(r"^(\d)  [A-Z]", text, re.M) == list("1234") and max(map(len, text.splitlines())) <= 120
    best, one = (route.weights[found.flipped] for route in found.routes.values())
    row = re.search(r"^   flipped +(.*)", text, re.M).group(1).split()
    assert list(map(float, row)) == pytest.approx([18, (found.scores[found.flipped] > 0).sum(), best.mean(), (best > 1).sum(),
                                                   (best == 0).sum(), one.mean(), (one > 1).sum()], abs=5.1e-4)
    for name, (loss, accuracy) in found.ends.items():
        assert re.search(rf"^   {re.escape(name)} +{loss:.5f} +{accuracy:.1f}\b", text, re.M), name
    cost = found.routes["nested"].cost
    assert re.search(rf"^   nested .* {cost.forward} +{cost.backward} +{found.routes['nested'].path[-1][0]:.0f} ", text, re.M)
    for before, plain, weighted, apart in found.steps.values():
        assert f"loss {before:.5f}, after a plain step {plain:.5f}, after a weighted one {weighted:.5f}" in text
        assert weighted < min(before, plain) and apart < 1e-12
    for name, value in measures(found).items():
        line = next(line for line in text.splitlines() if line.strip().startswith(name))
        column = [measures(other)[name] for other in every]
        assert list(map(float, line.split()[-4:])) == pytest.approx([value, np.mean(column), min(column), max(column)], abs=0.051)


def test_the_measures_by_hand(every):
    """Counted example by example from the scores, the exact derivatives and both kinds of weights."""
    found = every[0]
    best, one = found.routes["nested"].weights, found.routes["online"].weights
    large = np.median(np.abs(found.exact))

    def share(says, of=lambda i: True):
        return 100 * np.mean([bool(says(i)) for i in range(60) if of(i)])

    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        return a @ b / np.sqrt(a @ a * (b @ b))
    groups = {"all": lambda i: True, "flipped": lambda i: found.flipped[i], "clean": lambda i: not found.flipped[i]}
    end = found.routes["online"].path[-1][1]
    expected = {
        "u_i and -dL/dw_i agree in sign at w = 1, all, %": share(lambda i: (found.scores[i] > 0) == (found.exact[i] > 0)),
        "u_i and -dL/dw_i agree in sign at w = 1, the clear half, %": share(
            lambda i: (found.scores[i] > 0) == (found.exact[i] > 0), lambda i: abs(found.exact[i]) >= large),
        "correlation of u_i and -dL/dw_i at w = 1": correlation(found.scores, found.exact),
        **{f"u_i > 0 agrees with w*_i > 1, {name}, %": share(lambda i: (found.scores[i] > 0) == (best[i] > 1), of) for name, of in groups.items()},
        **{f"online weight > 1 agrees with w*_i > 1, {name}, %": share(lambda i: (one[i] > 1) == (best[i] > 1), of) for name, of in groups.items()},
        "correlation of online weight and w*_i": correlation(one, best),
        **{f"test accuracy, {name}, %": found.ends[name][1] for name in found.ends},
        **{f"clean loss, {name}": found.ends[name][0] for name in found.ends},
        "clean loss, minimum over theta": found.least,
        **{f"cost, {name}": found.routes[name].path[-1][0] for name in ("nested", "online")},
        **{f"cost until within 1 % of online's last clean loss, {name}":
           min(cost for cost, value in found.routes[name].path if value <= 1.01 * end) for name in ("nested", "online")}}
    assert measures(found) == pytest.approx(expected) and list(measures(found)) == list(expected)
    assert list(found.ends) == ["plain (w = 1)", "nested", "online", "theta*(online w)"] and found.seed == 0


def test_the_picture(every, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr("experiments.pages.nested_page.save", lambda figure, path: kept.append(figure) or path)
    assert draw(every[1], tmp_path / "a.png") == tmp_path / "a.png"
    left, middle, right = kept[0].axes
    for axes, x, y in ((left, every[1].exact, every[1].scores), (middle, *(r.weights for r in every[1].routes.values()))):
        points = np.concatenate([own.get_offsets() for own in axes.collections])
        order = np.argsort(every[1].flipped, kind="stable")
        np.testing.assert_allclose(points, np.column_stack([x, y])[order])
    lines = {line.get_label(): line.get_xydata() for line in right.lines}
    np.testing.assert_allclose(lines["nested: two loops"], every[1].routes["nested"].path)
    np.testing.assert_allclose(lines["online: Algorithm 1"], every[1].routes["online"].path)
    assert lines["minimum over θ"][0, 1] == every[1].least
    assert f"{measures(every[1])['u_i and -dL/dw_i agree in sign at w = 1, all, %']:.0f} % of the signs" in left.get_title()


def test_any_device_gives_the_same_numbers(device):
    p = nested.problem(1)
    expected = tree.map(to_host, p)
    theta, exact, scores = nested.at_uniform(p)
    v = each_gradient(to_host(theta), expected.x_clean, expected.label_clean).mean(0)
    np.testing.assert_allclose(scores, each_gradient(to_host(theta), expected.x, expected.label) @ v, atol=1e-10)
    route = nested.nested(p, tolerance=0.1)
    assert isinstance(route.weights, np.ndarray) and isinstance(exact, np.ndarray)
    assert route.path[-1][1] == pytest.approx(plain_clean_loss(to_host(route.theta), expected))
    assert isinstance(nested.online(p, 2).weights, np.ndarray) and 50 < nested.accuracy(p, theta) < 100
    assert nested.one_step(p, theta)[2] < nested.one_step(p, theta)[0]


# ------------------------------------------------------------------------------------------------ the command

def run(*words, cwd):
    root = pathlib.Path(nested.__file__).parents[2]
    return subprocess.run([sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", *words], cwd=cwd, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"})


def test_the_command_runs_without_warnings(tmp_path):
    """With means over two seeds in place of ten, to save time."""
    done = run("-c", "import sys; from experiments.pages import nested; nested.SEEDS = range(1, 3); sys.exit(nested.main(['--seed', '2']))",
               cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Two loops against one") and "seed 2\n" in done.stdout and "of seeds 1-2" in done.stdout
    assert (tmp_path / "runs" / "nested" / "nested.png").stat().st_size > 30_000
    assert run("-m", "experiments.nested", "--seed", "-1", cwd=tmp_path).returncode == 2


def test_the_command_line(tmp_path, capsys, monkeypatch, every):
    with pytest.raises(SystemExit) as end:
        nested.main(["--help"])
    assert end.value.code == 0 and "--seed" in capsys.readouterr().out
    assert nested.main(["--seed", "-1", "--out", str(tmp_path / "a")]) == 2
    assert "a seed is not negative\n  help:" in capsys.readouterr().err and not list((tmp_path / "a").glob("*"))
    monkeypatch.setattr(nested, "solve", lambda seed: every[seed])
    (tmp_path / "file").write_text("in the way")
    assert nested.main(["--out", str(tmp_path / "file")]) == 2
    assert "cannot be written there" in capsys.readouterr().err
    assert nested.main(["--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "nested.png").read_bytes()[:4] == b"\x89PNG"


def test_the_picture_says_which_is_which(every, tmp_path, monkeypatch):
    """Clean labels are blue dots and flipped ones orange crosses, in both panels; lines stand at the losses that they name."""
    kept, found = [], every[1]
    monkeypatch.setattr("experiments.pages.nested_page.save", lambda figure, path: kept.append(figure) or path)
    draw(found, tmp_path / "a.png")
    left, middle, right = kept[0].axes
    for name, own, shade in (("clean label", ~found.flipped, "#1f77b4"), ("flipped label", found.flipped, "#d9730d")):
        (dots,) = [dots for dots in left.collections if dots.get_label() == name]
        (others,) = [others for others in middle.collections if to_hex(others.get_facecolor()[0]) == shade]
        np.testing.assert_allclose(dots.get_offsets(), np.column_stack([found.exact, found.scores])[own])
        np.testing.assert_allclose(others.get_offsets(), np.column_stack([route.weights for route in found.routes.values()])[own])
        assert to_hex(dots.get_facecolor()[0]) == shade
    heights = {line.get_label(): line.get_ydata()[-1] for line in right.lines if not line.get_label().startswith("_")}
    assert heights == {"nested: two loops": found.routes["nested"].path[-1][1], "online: Algorithm 1": found.routes["online"].path[-1][1],
                       "plain training": found.ends["plain (w = 1)"][0], "minimum over θ": found.least}


def test_the_page_of_two_loops_says_which_seeds_it_means(monkeypatch):
    monkeypatch.setattr(nested_page, "measures", lambda found: {"correlation": found.seed / 8, "cost": found.seed, "clean loss": found.seed / 8})
    head, first, second, third = nested_page._numbers(types.SimpleNamespace(seed=2), [types.SimpleNamespace(seed=seed) for seed in (4, 5, 6)])
    assert head.endswith("of seeds 4-6") and " seed 2 " in head
    assert first.split() == ["correlation", "0.250", "0.625", "0.500", "0.750"] and second.split() == ["cost", "2.0", "5.0", "4.0", "6.0"]
    assert third.split() == ["clean", "loss", "0.250", "0.625", "0.500", "0.750"]


def test_signs_and_weights_are_divided_where_they_change(monkeypatch):
    """Signs at 0, weights of mean 1 at 1: in both directions."""
    drawn = []
    monkeypatch.setattr(nested_page, "save", lambda figure, path: drawn.append(figure))
    routes = {name: nested.Route(np.zeros(4), np.array(weights), [(1.0, 3.0), (9.0, 2.0)], nested.Cost(), 1.0)
              for name, weights in (("nested", [0.5, 1.5, 0.2, 1.8]), ("online", [0.7, 1.4, 0.1, 1.8]))}
    ends = dict.fromkeys(("plain (w = 1)", "nested", "online", "theta*(online w)"), (2.0, 90.0))
    nested_page.draw(nested.Comparison(0, np.array([False, True] * 2), np.array([-1.0, 2.0, -3.0, 4.0]), np.array([-2.0, 2.0, 3.0, 4.0]), routes, ends, 1.0, {}), "a.png")
    for axes, at in zip(drawn[0].axes, (0, 1)):
        level, upright = axes.get_lines()
        assert list(level.get_ydata()) == list(upright.get_xdata()) == [at, at] and list(level.get_xdata()) == list(upright.get_ydata()) == [0, 1]
    nested_page.plt.close(drawn[0])
