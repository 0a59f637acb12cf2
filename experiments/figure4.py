"""Figure 4 of the paper: test accuracy against the number of clean images, with 40 % background flips.

Quick mode is meant for two cores; paper mode needs a GPU.

    python -m experiments.figure4                   CIFAR-10, a small network
    python -m experiments.figure4 --mode paper      ResNet-32
"""
import functools
import sys

from . import cifar, figures, script

METHODS = ("uniform+ft", "adaptation_confusion+ft", "adaptation_confusion+es+ft", "reweight")


def report(lines, runs, options, caption):
    """Draw the picture."""
    print("written:", figures.accuracy_against(lines, "clean", figures.paper.FIGURE_4,
                                               options.out / f"figure4-{options.data}.png", caption,
                                               "number of clean images"))


SCRIPT = cifar.figure(
    "figure4", __doc__, cifar.Grid("resnet-8-1-2", ("uniform+ft", "reweight"), cleans=(15, 100, 500)),
    cifar.Grid("resnet-32", METHODS, cleans=(15, 30, 50, 100, 200, 500, 1000)), report, along="cleans")
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
