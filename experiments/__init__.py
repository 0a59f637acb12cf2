"""The experiments of the paper, and demonstrations and benchmarks of minigrad; SCRIPTS is the list."""
import os
import pathlib
import sys
from typing import NamedTuple

os.environ["MPLBACKEND"] = "Agg"        # a notebook may set one that is not installed here; pictures go into files

_beside = str(pathlib.Path(__file__).parent.parent)
sys.path.insert(0, _beside)             # import `models` from here, not from the working directory
import models  # noqa: E402

sys.path.remove(_beside)


class Entry(NamedTuple):
    """An entry of the list of scripts."""
    name: str
    about: str                  # what it reproduces
    quick: str                  # duration in quick mode,
    paper: str = "-"            # and in paper mode
    runs: bool = True           # whether experiments.sweep can run it


SCRIPTS = [
    Entry("imbalance", "Figure 2: class imbalance, test error of every method", "2.5 min", "24 h"),
    Entry("table1", "Table 1: uniform flips, CIFAR", "10 min", "GPU"),
    Entry("table2", "Table 2: background flips, CIFAR", "18 min", "GPU"),
    Entry("figure3", "Figure 3: example weights of wrong and right labels", "3 min", "GPU"),
    Entry("figure4", "Figure 4: accuracy against the number of clean images", "15 min", "GPU"),
    Entry("figure5", "Figure 5: accuracy against the share of wrong labels", "15 min", "GPU"),
    Entry("figure6", "Figure 6: confusion matrices", "11 min", "GPU"),
    Entry("figure7", "Figure 7: accuracy during training", "9 min", "GPU"),
    Entry("contradiction", "imbalance needs high losses, noise low ones", "90 s"),
    Entry("tour", "a tour: the engine built on one page, with pictures", "5 s", runs=False),
    Entry("walkthrough", "one step of Algorithm 1 in seven pictures", "5 s", runs=False),
    Entry("nested", "the exact two loops against the single one", "10 s", runs=False),
    Entry("benchmark", "the cost of one step, against PyTorch and JAX", "20 min; with --growth 30 min", runs=False),
]
