"""python -m experiments: the scripts, what each reproduces, and how long it takes on two cores."""
from typing import NamedTuple


class Entry(NamedTuple):
    """A script: what it reproduces, and how long it takes in each mode. runs: whether the sweep can run it."""
    name: str
    about: str
    quick: str
    paper: str = "-"
    runs: bool = True


SCRIPTS = [
    Entry("imbalance", "Figure 2: class imbalance, test error of every method", "3 min", "40 h"),
    Entry("table1", "Table 1: uniform flips, CIFAR", "", "GPU"),
    Entry("table2", "Table 2: background flips, CIFAR", "", "GPU"),
    Entry("figure3", "Figure 3: who gets which weight", "", "GPU"),
    Entry("figure4", "Figure 4: accuracy against the number of clean images", "", "GPU"),
    Entry("figure5", "Figure 5: accuracy against the share of wrong labels", "", "GPU"),
    Entry("figure6", "Figure 6: what is taken for what", "", "GPU"),
    Entry("figure7", "Figure 7: accuracy during training", "", "GPU"),
    Entry("contradiction", "imbalance wants high losses, noise wants low ones", "", runs=False),
    Entry("walkthrough", "one step of Algorithm 1 in seven pictures", "5 s", runs=False),
    Entry("nested", "the exact two loops against the single one", "10 s", runs=False),
    Entry("benchmark", "the cost of one step, against PyTorch and JAX", "10 min; with --growth 20 min", runs=False),
]

if __name__ == "__main__":
    for entry in SCRIPTS:
        print(f"python -m experiments.{entry.name:14s}{entry.about:56s}quick: {entry.quick}; paper: {entry.paper}")
    print("\nEach takes --help. Several at once: python -m experiments.sweep table2 figure7 --jobs 2")
