"""The contradiction of weighting by the training loss: what helps against one bias hurts with the other.

    python -m experiments contradiction              90 seconds on two cores, nothing to download

Three tasks, fours against nines, ten clean images, an unbiased test set:

    imbalance   97 % nines, all labels correct        a high loss means: rare, so learn it
    noise       55 % nines, 30 % of them labeled 4    a high loss means: wrong label, so leave it out
    both        90 % nines, 40 % of the fours labeled 9

`hard_mining` puts weight on high losses, `low_loss` and `mentor` on low ones; a loss alone does not show which bias
made it high. `reweight` uses the clean images. Labels are flipped in one direction only, because hard mining selects
as many examples of each class as the rarest has: with balanced labels it would select nearly all of them.

The network is small (14 x 14 pixels, 32 hidden units), and shares and schedule were chosen so that the effects are well
above the spread. The verdicts are computed from the runs; with few seeds, some claims fail.
"""
import dataclasses
import functools
import math
from typing import NamedTuple

import matplotlib.pyplot as plt

from minigrad import xp
from minigrad.backend import generator
from minigrad.models import mlp

from .. import data
from ..data import imbalance
from ..figures.common import color, label, legend, save, spread, spread_text, wrap
from ..methods import METHODS, TrainsOn, Weighting, find_method
from ..paper import scripts
from ..training.runs import DATA, Problem, Run, Settings

TASKS = {"imbalance": {"share": 0.97},
         "noise": {"share": 0.55, "flip": data.Flip("background", 0.3, target=0)},
         "both": {"share": 0.9, "flip": data.Flip("background", 0.4, target=1)}}
QUICK = Settings(steps=600, rate=0.03, momentum=0.9, batch=30, every=100, drops=(450,))
ABOUT = __doc__                                             # of the module: a class has its own
DEFAULT_METHODS = ("uniform", "hard_mining", "low_loss", "reweight")
DEFAULT_SEEDS = range(10)
DEFAULTS = (f"  quick  methods {' '.join(DEFAULT_METHODS)}, seeds {' '.join(map(str, DEFAULT_SEEDS))},\n"
            f"         steps {QUICK.steps}, rate {QUICK.rate}, a tenth of it in the last quarter; batch {QUICK.batch}")
HIGH, LOW = ("hard_mining",), ("low_loss", "mentor")        # methods that put weight on high losses, on low ones
MARGIN = 1.0                                                # percentage points: two of 200 test images


# ---------------------------------------------------------------------------------------------------- runs

def _init(rng, classes):
    return mlp(rng, (14 * 14, 32, classes))


def _prepare(images, rng):
    """Return the mean of each block of 2 x 2 pixels: (n, 28, 28, 1) -> (n, 196)."""
    images = xp.asarray(images)
    return images.reshape(len(images), 14, 2, 14, 2).mean((2, 4)).reshape(len(images), -1)


SMALL = Problem(_init, _prepare)
_source = functools.lru_cache(maxsize=1)(data.sample)


def task(name, seed):
    """Return the task of one run, from the sample of MNIST: up to 395 training images a class, 5 clean, 100 to test."""
    return imbalance(_source(), rng=generator((seed, DATA)), **TASKS[name])


def _reason_against(method):
    if not isinstance(method, Weighting) or method.base:
        return "this experiment compares weightings within a single training of the network"
    return scripts.class_mismatch(method, 2)


def _describe(share, flip=None):
    """Return the fields of a task, as settings.json has them."""
    return {"share": share} | ({"flip": flip.kind, "flip_share": flip.share, "target": flip.target} if flip else {})


def settings_of(options):
    """Return the Settings of all runs."""
    steps = options.steps or QUICK.steps
    return dataclasses.replace(QUICK, steps=steps, rate=options.rate or QUICK.rate,
                               batch=options.batch or QUICK.batch, drops=(3 * steps // 4,))


def make_run(options, name, method, seed):
    """Return the run of a method on the task of this name."""
    return Run(f"{name}-{method.name}-{seed}",
               {"task": name, "method": method.name, "share": TASKS[name]["share"], "seed": seed}, method, seed,
               functools.partial(task, name, seed), SMALL, settings_of(options), options.out)


# ------------------------------------------------------------------------------------------------ verdicts

class Effect(NamedTuple):
    """The effect of a method on the test error of plain training, in percent, over the seeds that both have."""
    error: float                # mean of the method
    plain: float                # mean of plain training
    change: float               # mean of the difference
    doubt: float                # its standard error

    @property
    def word(self):
        """Return "helps" or "hurts", or "changes little" for a change within MARGIN or within its standard error."""
        if abs(self.change) <= max(MARGIN, self.doubt):
            return "changes little"
        return "helps" if self.change < 0 else "hurts"


class Verdict(NamedTuple):
    """Whether a claim held in these runs (None: a run is missing), and a sentence that says so, with the numbers."""
    held: bool | None
    sentence: str


def final_errors(lines):
    """Return {task: {method: {seed: test error in percent at the last step}}}.

    Methods that use the clean set come last.
    """
    found = {(line["task"], line["method"], line["seed"]): line["test_error"]
             for line in sorted(lines, key=lambda line: line["step"])}
    ran = [name for name in METHODS if any(method == name for _, method, _ in found)]
    methods = sorted(ran, key=lambda name: METHODS[name].trains_on is not TrainsOn.BASELINE)
    return {task: {method: {s: error for (t, m, s), error in sorted(found.items()) if (t, m) == (task, method)}
                   for method in methods} for task in TASKS}


def effect(errors, task, method):
    """Return the Effect of a method on a task, or None if it has no seed in common with uniform.

    errors: as returned by `final_errors`.
    """
    of, plain = (errors[task].get(name, {}) for name in (method, "uniform"))
    seeds = [seed for seed in of if seed in plain]
    if not seeds:
        return None
    change, deviation = spread([of[seed] - plain[seed] for seed in seeds])
    return Effect(spread([of[seed] for seed in seeds])[0], spread([plain[seed] for seed in seeds])[0], change,
                  deviation / math.sqrt(len(seeds)))


def verdicts(lines):
    """Return {"high losses", "low losses", "clean set", "both at once": Verdict}, from the lines of the records alone.

    Of the methods on low losses those that were run count, or low_loss if none was. A method "fails" on the task with
    both biases if it does not help there.
    """
    errors = final_errors(lines)
    low = [name for name in LOW if any(errors[task].get(name) for task in TASKS)] or ["low_loss"]
    opposite = [("imbalance", "helps"), ("noise", "hurts")], [("imbalance", "hurts"), ("noise", "helps")]
    claims = {
        "high losses": ("weights on high losses help on imbalance and hurt on noise",
                        [(task, name, word) for name in HIGH for task, word in opposite[0]]),
        "low losses": ("weights on low losses hurt on imbalance and help on noise",
                       [(task, name, word) for name in low for task, word in opposite[1]]),
        "clean set": ("weights by the clean set help on both",
                      [(task, "reweight", "helps") for task in ("imbalance", "noise")]),
        "both at once": ("with both biases at once, methods that use the loss alone fail and reweight helps",
                         [("both", name, "fails") for name in (*HIGH, *low)] + [("both", "reweight", "helps")])}
    return {name: _verdict(errors, *claim) for name, claim in claims.items()}


def _verdict(errors, says, wanted):
    effects = [effect(errors, task, method) for task, method, _ in wanted]
    missing = [f"{method} on {task}" for (task, method, _), found in zip(wanted, effects) if found is None]
    if missing:
        return Verdict(None, f"{says}: not decided, because these runs are missing, or uniform's: {', '.join(missing)}")
    held = all(found.word != "helps" if word == "fails" else found.word == word
               for (*_, word), found in zip(wanted, effects))
    numbers = [f"\n    {method} {found.word} on {task}: {found.error:.1f} %, uniform {found.plain:.1f} % "
               f"({found.change:+.1f} ± {found.doubt:.1f})" for (task, method, _), found in zip(wanted, effects)]
    return Verdict(held, f"{says}: {'it held' if held else 'it did NOT hold'} in these runs{''.join(numbers)}")


# -------------------------------------------------------------------------------------------------- report

def table(lines):
    """Format the test error in percent at the last step: a row per method, a column per task."""
    errors = final_errors(lines)
    methods = list(errors["imbalance"])
    width = max(14, *(len(method) + 1 for method in methods), 0)
    head = f"{'test error %':{width}s}" + "".join(f"{task:>18}" for task in TASKS)
    rows = [f"{method:{width}s}" + "".join(f"{_cell(errors[task][method]):>18}" for task in TASKS)
            for method in methods]
    return "\n".join(["", head, "-" * len(head), *rows, "mean ± standard deviation (seeds)"])


def _cell(seeds):
    return spread_text(list(seeds.values())) if seeds else "-"


def describe_task(name):
    """Return the share of nines and of wrong labels in a task, on two lines if there are any."""
    how = TASKS[name]
    flip = how.get("flip", data.NO_FLIP)
    flipped = "fours labeled 9" if flip.target else "nines labeled 4"
    return f"{how['share']:.0%} nines" + (f",\n{flip.share:.0%} of the {flipped}" if flip.kind else "")


def picture(lines, path, caption):
    """Draw bars of the test error with the standard deviation, a group for each task, and return the path.

    The dashed line is plain training: below it a method helps, above it it hurts.
    """
    errors = final_errors(lines)
    figure, axes = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    for group, methods in enumerate(errors.values()):
        width = 0.84 / max(len(methods), 1)
        for k, (method, seeds) in enumerate(methods.items()):
            if not seeds:
                continue
            mean, deviation = spread(list(seeds.values()))
            x = group + width * (k - (len(methods) - 1) / 2)
            axes.bar(x, mean, 0.92 * width, color=color(method), label=label(method))
            axes.errorbar(x, mean, deviation, color="#333333", capsize=3)
            axes.annotate(f"{mean:.1f}", (x, 0.0), (0, 5), textcoords="offset points", ha="center", fontsize=8,
                          bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0})
        if methods.get("uniform"):
            axes.hlines(spread(list(methods["uniform"].values()))[0], group - 0.46, group + 0.46, linestyles="--",
                        color="black", linewidth=1.0, label="plain training: below it helps, above it hurts")
    axes.set_xticks(range(len(errors)), [f"{name}\n{describe_task(name)}" for name in errors])
    axes.set(ylabel="test error, %: mean ± standard deviation", ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    legend(figure, [axes], 3)
    figure.suptitle(wrap(f"Weight on high losses, on low losses, or by the clean set ({caption})", 100))
    return save(figure, path)


class Contradiction(scripts.Script):
    """Three tasks, and the methods on each."""
    name, about, defaults, owns_folder, modes = "contradiction", ABOUT, DEFAULTS, True, ("quick",)

    def add_options(self, parser):
        """Add no options, but name the data."""
        parser.set_defaults(data="sample")

    def check(self, options):
        """Return the options with all defaults; raise MinigradError for methods that do not fit."""
        names = scripts.choose_values(options.methods, DEFAULT_METHODS)
        methods = scripts.check_methods([find_method(name) for name in names], _reason_against)
        return dataclasses.replace(options, methods=methods,
                                   seeds=scripts.choose_values(options.seeds, DEFAULT_SEEDS))

    def plan(self, options):
        """Return the settings of the experiment, as its folder keeps them, and the runs that the options ask for."""
        settings = settings_of(options)
        kept = {"experiment": "contradiction", "tasks": {name: _describe(**how) for name, how in TASKS.items()},
                **dataclasses.asdict(settings), "drops": list(settings.drops)}
        return kept, [make_run(options, name, method, seed) for name in TASKS for seed in options.seeds
                      for method in options.methods]

    def name_task(self, labels):
        """Return the name of the task of a run with these labels."""
        return labels["task"]

    def report(self, options, runs, lines, caption):
        """Print the table and the verdicts of all runs in the folder, draw the picture, and yield its path."""
        print(table(lines))
        print("\nchanges are relative to uniform, ± their standard error over common seeds; a change counts if it "
              f"exceeds that error and {MARGIN:g} percentage point\n")
        for name, verdict in verdicts(lines).items():
            print(f"{name}: {verdict.sentence}")
        print()
        yield picture(lines, options.out / "contradiction.png", caption)

    def folder(self, options):
        """Return the name of the folder."""
        return "contradiction-quick"

    def run_of(self, options, line):
        """Return the run with this line in its record."""
        (method,) = scripts.check_methods([find_method(line["method"])], _reason_against)
        return make_run(options, line["task"], method, int(line["seed"]))


SCRIPTS = {"contradiction": Contradiction()}
