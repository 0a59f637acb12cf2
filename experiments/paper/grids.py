"""Tables 1 and 2 and Figures 3 to 7 of the paper: one row each, with the runs that it compares and a report of them.

All are on CIFAR-10, or with --data cifar100 on CIFAR-100. Quick mode is meant for two cores, night mode for a night
of them, paper mode for a GPU. The paper's values are drawn beside ours where it has any for the task: not for the
labels of a file, nor for other shares of flips or numbers of clean images than its own.

A row is a generator, name(lines, runs, options, caption, file): it prints a table, draws pictures to file(ending) and
yields their paths. Its name is that of the command, and its docstring the description.
"""
import inspect

from .. import figures
from ..training.runs import restore
from ..training.trainers import confusion, trainer_of
from . import cifar, figure3
from .cifar import Grid

SCRIPTS = {}
SMALL, LAYER, FIVE = "resnet-8-1-2", "adaptation_confusion", (0, 1, 2, 3, 4)
IN_TABLE_1 = ("uniform", "uniform+short", "bootstrap_hard", "adaptation", "random", "clean_only", "uniform+ft",
              "random+ft", "reweight")
IN_TABLE_2 = ("uniform", "uniform+es", "random", "oracle", "bootstrap_hard+es", "adaptation", LAYER, "clean_only",
              "uniform+ft", "reweight")
NIGHT_METHODS = ("reweight", "reweight+half", "uniform", "uniform+short", "uniform+es", "clean_only", "uniform+ft")
IN_FIGURE_6 = Grid(SMALL, ("uniform", "reweight"), biases=("uniform", "background"))
IN_FIGURE_7 = Grid(SMALL, ("uniform", "uniform+es", LAYER, "reweight"))


def night_of(paper):
    """Return the Grid of night mode: the main methods of the paper's Grid, and at most two values of what it compares.

    The longest run is the first, so that the others fit beside it.
    """
    def keep(wanted, values):
        return tuple(value for value in wanted if value in values)
    return Grid("resnet-20", keep(NIGHT_METHODS, paper.methods), paper.biases, keep((0.0, 0.4), paper.shares),
                keep((None, 15, 100), paper.cleans))


def row(quick, paper, **settings):
    """Return a decorator that adds a generator to SCRIPTS, as the draw of a Figure.

    quick, paper: the Grids of these modes; settings: see cifar.Figure.
    """
    def add(draw):
        name, about = draw.__name__, inspect.getdoc(draw)
        SCRIPTS[name] = cifar.Figure(name, about, {"quick": quick, "night": night_of(paper), "paper": paper}, draw,
                                      **settings)
        return draw
    return add


def _task(options, bias):
    """Return data, bias, share and number of clean images, of the first task where several are compared."""
    clean = options.cleans[0] or cifar.clean_images(options.data, bias, options.mode)
    return options.data, bias, options.shares[0], clean


def _paper(options):
    """Return the paper's values for the task of a table."""
    return figures.paper.accuracies(*_task(options, options.grid.biases[0]))


def _flips(options, kind):
    """Return the text for a title: the kind of flips, or what took their place."""
    return "labels of a file" if options.given else f"{kind} flips"


@row(Grid(SMALL, IN_TABLE_1, biases=("uniform",)), Grid("wrn-28-10", IN_TABLE_1, biases=("uniform",), seeds=FIVE))
def table1(lines, runs, options, caption, file):
    """Table 1 of the paper: test accuracy of each method with 40 % uniform flips and 1,000 clean images (quick: 250).

    The result of MentorNet is quoted, as in the paper. uniform+short, plain training that ends early, is not in the
    paper; it is the baseline to beat on this task.
    """
    theirs, flips = _paper(options), _flips(options, "uniform")
    print(figures.accuracy_table(lines, theirs, f"Table 1: {flips} ({caption})"))
    yield figures.accuracy_bars(lines, theirs, file(), f"Table 1, {flips}; {caption}")


@row(Grid(SMALL, IN_TABLE_2), Grid("resnet-32", tuple(figures.paper.TABLE_2["cifar10"]), seeds=FIVE,
                                   targets=lambda data, seed: cifar.TARGETS[data][seed % 5]))
def table2(lines, runs, options, caption, file):
    """Table 2 of the paper: test accuracy of each method with 40 % background flips and ten clean images per class.

    uniform+es is plain training by a shorter schedule: the longer one fits more wrong labels.
    """
    theirs, flips = _paper(options), _flips(options, "background")
    print(figures.accuracy_table(lines, theirs, f"Table 2: {flips} ({caption})"))
    yield figures.accuracy_bars(lines, theirs, file(), f"Table 2, {flips}; {caption}")
    yield figures.weights_over_training(lines, file("-weights"), caption)


row(Grid(SMALL, ("reweight+half",)), Grid("resnet-32", ("reweight+half",)), needs_network=True)(figure3.figure3)


@row(Grid(SMALL, ("uniform+ft", "reweight"), cleans=(15, 100, 500)),
     Grid("resnet-32", ("uniform+ft", f"{LAYER}+ft", f"{LAYER}+es+ft", "reweight"),
          cleans=(15, 30, 50, 100, 200, 500, 1000)), along="cleans")
def figure4(lines, runs, options, caption, file):
    """Figure 4 of the paper: test accuracy against the number of clean images, with 40 % background flips."""
    data, bias, share, _ = _task(options, options.grid.biases[0])
    theirs = {data: figures.paper.curves("clean", data, bias, share)}
    yield figures.accuracy_against(lines, "clean", theirs, file(), caption, "number of clean images")


@row(Grid(SMALL, ("uniform", "uniform+ft", "reweight"), shares=(0.0, 0.2, 0.4)),
     Grid("resnet-32", ("uniform", f"{LAYER}+es", "uniform+ft", f"{LAYER}+es+ft", "reweight"),
          shares=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5)), along="shares")
def figure5(lines, runs, options, caption, file):
    """Figure 5 of the paper: test accuracy against the share of background flips."""
    data, bias, _, clean = _task(options, options.grid.biases[0])
    theirs = {data: figures.paper.curves("share", data, bias, clean)}
    yield figures.accuracy_against(lines, "share", theirs, file(), caption, "share of flipped labels")


@row(IN_FIGURE_6, IN_FIGURE_6._replace(network="resnet-32"), needs_network=True)
def figure6(lines, runs, options, caption, file):
    """Figure 6 of the paper: confusion matrices of plain training and reweighting, with both kinds of flips.

    They are those of the test set, of the first seed available.
    """
    for bias in options.grid.biases:
        own = [run for run in runs if run.labels["bias"] == bias]
        chosen, matrices = cifar.choose_runs(own, lambda run, first: run.seed == first.seed), {}
        for run in chosen:
            trainer = trainer_of(run)
            matrices[run.labels["method"]] = confusion(trainer, restore(run, trainer), trainer.task.test)
        names = cifar.NAMES if options.data == "cifar10" else [str(k) for k in range(cifar.CLASSES[options.data])]
        main = options.data == "cifar10" and figures.paper.is_main_task(*_task(options, bias))
        theirs = figures.paper.FIGURE_6[bias] if main else {}
        if matrices:
            about = f"{_flips(options, bias)}, seed {chosen[0].seed}; {caption}"
            yield figures.confusion(matrices, file(f"-{bias}"), about, names, theirs)


@row(IN_FIGURE_7, IN_FIGURE_7._replace(network="resnet-32"))
def figure7(lines, runs, options, caption, file):
    """Figure 7 of the paper: accuracy on validation and training images over training, with 40 % background flips."""
    yield figures.training_curves(lines, file(), caption)
