"""Figure 6 of the paper: confusion matrices on CIFAR-10 of plain training and reweighting, with both kinds of flips.

Quick mode is meant for two cores; paper mode needs a GPU.

    python -m experiments.figure6                   a small network
    python -m experiments.figure6 --mode paper      ResNet-32
"""
import functools
import sys

from . import cifar, figures, script
from .runs import restore
from .trainers import confusion, trainer_of


def report(lines, runs, options, caption):
    """Draw the confusion matrices on the test set, a picture for each kind of flips, of the first seed available."""
    for bias in options.grid.biases:
        own = [run for run in runs if run.labels["bias"] == bias]
        chosen, matrices = cifar.choose_runs(own, lambda run, first: run.seed == first.seed), {}
        for run in chosen:
            trainer = trainer_of(run)
            matrices[run.labels["method"]] = confusion(trainer, restore(run, trainer), trainer.task.test)
        names = cifar.NAMES if options.data == "cifar10" else [str(k) for k in range(cifar.CLASSES[options.data])]
        theirs = figures.paper.FIGURE_6.get(bias, {}) if options.data == "cifar10" else {}
        if matrices:
            print("written:", figures.confusion(matrices, options.out / f"figure6-{options.data}-{bias}.png",
                                                f"{bias} flips, seed {chosen[0].seed}; {caption}", names, theirs))


GRID = cifar.Grid("resnet-8-1-2", ("uniform", "reweight"), biases=("uniform", "background"))
SCRIPT = cifar.figure("figure6", __doc__, GRID, GRID._replace(network="resnet-32"), report, network=True)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
