"""The page and the picture of `nested`, which computes the numbers."""
import matplotlib.pyplot as plt
import numpy as np

from ..figures.common import OTHER, color, legend, save

ZERO = 1e-9                                                 # smaller weights are 0 up to rounding


def measures(found):
    """Return {name: number}: the agreement of online with exact weights, and the losses and costs of both.

    found: a nested.Comparison. Names that end in % are percentages; a cost is in gradients of the training loss.
    """
    best, one, up = found.routes["nested"].weights, found.routes["online"].weights, found.scores > 0
    clear, end = np.abs(found.exact) >= np.median(np.abs(found.exact)), found.routes["online"].path[-1][1]
    same, groups = up == (found.exact > 0), {"all": slice(None), "flipped": found.flipped, "clean": ~found.flipped}
    return {
        "u_i and -dL/dw_i agree in sign at w = 1, all, %": 100 * same.mean(),
        "u_i and -dL/dw_i agree in sign at w = 1, the clear half, %": 100 * same[clear].mean(),
        "correlation of u_i and -dL/dw_i at w = 1": np.corrcoef(found.scores, found.exact)[0, 1],
        **{f"u_i > 0 agrees with w*_i > 1, {name}, %": 100 * (up == (best > 1))[own].mean()
           for name, own in groups.items()},
        **{f"online weight > 1 agrees with w*_i > 1, {name}, %": 100 * ((one > 1) == (best > 1))[own].mean()
           for name, own in groups.items()},
        "correlation of online weight and w*_i": np.corrcoef(one, best)[0, 1],
        **{f"test accuracy, {name}, %": accuracy for name, (_, accuracy) in found.ends.items()},
        **{f"clean loss, {name}": loss for name, (loss, _) in found.ends.items()},
        "clean loss, minimum over theta": found.least,
        **{f"cost, {name}": route.path[-1][0] for name, route in found.routes.items()},
        **{f"cost until within 1 % of online's last clean loss, {name}": next(
            cost for cost, value in route.path if value <= 1.01 * end) for name, route in found.routes.items()},
    }


def page(found, every):
    """Format a nested.Comparison as text; every: the Comparison of each seed over which means are reported."""
    n, parameters = len(found.flipped), len(found.routes["nested"].theta)
    lines = [
        f"Two loops against one: logistic regression with {parameters} parameters, {n} noisy examples, "
        f"{found.flipped.sum()} of them flipped; seed {found.seed}", "",
        "1  WEIGHTS of mean 1: w* exact; u the scores of Algorithm 1 at w = 1; online the mean over its "
        f"{len(found.routes['online'].path) - 1} steps", *_groups(found), "",
        "2  RESULTS. A pass is over one example; a gradient is a forward and a backward pass over every noisy one",
        *_routes(found), "",
        "3  ONE SMALL STEP (Lemma 1), and the effect of the look-ahead's rate on the weights"]
    for name, (before, plain, weighted, apart) in found.steps.items():
        lines += [f"   {name}: clean loss {before:.5f}, after a plain step {plain:.5f}, after a weighted one "
                  f"{weighted:.5f};", f"   {'':11}weights with rates 0.1 and 1 differ by {apart:.0e}"]
    return "\n".join([*lines, "", *_numbers(found, every), "   The clear half: the examples with the larger |dL/dw_i|. "
                      "w* need not be unique, and may be mostly 0: see --help."])


def _groups(found):
    """Format the rows of part 1: counts and means of the weights of clean and of flipped examples."""
    best, one, up = found.routes["nested"].weights, found.routes["online"].weights, found.scores > 0
    heads = ("examples", "u > 0", "mean w*", "w* > 1", "w* = 0", "mean online", "online > 1")
    lines = [" " * 12 + "".join(f"{head:>13}" for head in heads)]
    for name, own in (("clean", ~found.flipped), ("flipped", found.flipped)):
        lines.append(f"   {name:9}{own.sum():13}{up[own].sum():13}{best[own].mean():13.3f}{(best[own] > 1).sum():13}"
                     f"{(best[own] < ZERO).sum():13}{one[own].mean():13.3f}{(one[own] > 1).sum():13}")
    return lines


def _routes(found):
    """Format the rows of part 2: the result and the cost of each way."""
    heads = ("clean loss", "test acc. %", "forward", "backward", "gradients", "seconds")
    lines = [" " * 22 + "".join(f"{head:>12}" for head in heads)]
    for name, (loss, accuracy) in found.ends.items():
        lines.append(f"   {name:19}{loss:12.5f}{accuracy:12.1f}")
        if route := found.routes.get(name):
            cost = route.cost
            lines[-1] += f"{cost.forward:12}{cost.backward:12}{route.path[-1][0]:12.0f}{route.seconds:12.2f}"
    two, one = found.routes.values()
    return [*lines, f"   {'minimum over theta':19}{found.least:12.5f}   a lower bound for all weights",
            f"   The two loops cost {two.path[-1][0] / one.path[-1][0]:.1f} times the gradients of the single one, "
            f"{two.seconds / one.seconds:.1f} times the seconds."]


def _numbers(found, every):
    """Format the rows of part 4: all measures of one seed, with their mean and extremes over all seeds."""
    own, others = measures(found), [measures(other) for other in every]
    lines = [f"4  IN NUMBERS{'seed ' + str(found.seed):>61}{'mean':>10}{'lowest':>10}{'highest':>10}   "
             f"of seeds {every[0].seed}-{every[-1].seed}"]
    for name, value in own.items():
        column, digits = [other[name] for other in others], 3 if name.startswith(("correlation", "clean")) else 1
        lines.append(f"   {name:61}" + "".join(
            f"{number:10.{digits}f}" for number in (value, np.mean(column), min(column), max(column))))
    return lines


def draw(found, path):
    """Draw the signs at w = 1, the weights, and the clean loss against the cost of both ways; return the path."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.9), layout="constrained")
    best, one = found.routes["nested"].weights, found.routes["online"].weights
    for own, name, shade, mark in ((~found.flipped, "clean", "#1f77b4", "o"),
                                   (found.flipped, "flipped", "#d9730d", "X")):
        style = {"color": shade, "marker": mark, "s": 45, "alpha": 0.75, "linewidths": 0, "zorder": 3}
        left.scatter(found.exact[own], found.scores[own], label=f"{name} label", **style)
        middle.scatter(best[own], one[own], **style)
    for axes, at in ((left, 0), (middle, 1)):
        axes.axhline(at, color="#b5b5b5", linewidth=1)
        axes.axvline(at, color="#b5b5b5", linewidth=1)
    numbers = measures(found)
    agree, clear = (numbers[f"u_i and -dL/dw_i agree in sign at w = 1, {name}, %"]
                    for name in ("all", "the clear half"))
    left.set(title=f"At w = 1: {agree:.0f} % of the signs agree ({clear:.0f} % of the clear half)",
             xlabel=r"exact direction: $-n\,\partial L / \partial w_i$", ylabel="Algorithm 1: $u_i$")
    middle.set(title=f"Weights of mean 1: correlation {np.corrcoef(best, one)[0, 1]:.2f}", xlabel="exact: $w^*_i$",
               ylabel="online: mean over its steps")
    _losses_over_cost(right, found)
    figure.suptitle(f"Two loops against one: logistic regression, {len(best)} noisy examples, {found.flipped.sum()} "
                    f"of them flipped; seed {found.seed}")
    legend(figure, [left, right], 7)
    return save(figure, path)


def _losses_over_cost(axes, found):
    for name, shade, text in (("nested", OTHER, "two loops"), ("online", color("reweight"), "Algorithm 1")):
        cost, value = zip(*found.routes[name].path)
        axes.plot(cost, value, color=shade, linewidth=2, label=f"{name}: {text}")
        axes.plot(cost[-1], value[-1], color=shade, marker="o")
    axes.axhline(found.ends["plain (w = 1)"][0], color=color("uniform"), label="plain training")
    axes.axhline(found.least, color="black", linestyle=":", label="minimum over θ")
    axes.set(title="Clean loss against cost", xscale="log", xlabel="cost, in gradients of the training loss",
             ylabel="clean loss")
