"""Figure 5 of the paper: test accuracy against the share of background flips.

Quick mode is meant for two cores; paper mode needs a GPU.

    python -m experiments.figure5                                CIFAR-10, a small network
    python -m experiments.figure5 --mode paper [--data cifar100] ResNet-32
"""
import functools
import sys

from . import cifar, figures, script

METHODS = ("uniform", "adaptation_confusion+es", "uniform+ft", "adaptation_confusion+es+ft", "reweight")


def report(lines, runs, options, caption):
    """Draw the picture."""
    print("written:", figures.accuracy_against(lines, "share", {options.data: figures.paper.FIGURE_5[options.data]},
                                               options.out / f"figure5-{options.data}.png", caption,
                                               "share of flipped labels"))


SCRIPT = cifar.figure(
    "figure5", __doc__, cifar.Grid("resnet-8-1-2", ("uniform", "uniform+ft", "reweight"), shares=(0.0, 0.2, 0.4)),
    cifar.Grid("resnet-32", METHODS, shares=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5)), report, along="shares")
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
