"""The experiments of the paper, and demonstrations and benchmarks of minigrad; COMMANDS is the list."""
import importlib
import os
import pathlib
import sys
from typing import Any, NamedTuple

os.environ["MPLBACKEND"] = "Agg"        # a notebook may set one that is not installed here; pictures go into files

_beside = str(pathlib.Path(__file__).parent.parent)
sys.path.insert(0, _beside)             # import `minigrad` from here, not from the working directory
import minigrad  # noqa: E402

sys.path.remove(_beside)
__path__.append(str(pathlib.Path(__file__).parent / "commands"))     # python -m experiments.table2

from . import deprecated  # noqa: E402

deprecated.install()


class Command(NamedTuple):
    """A command: python -m experiments NAME."""
    name: str
    home: str                   # the module that defines it
    about: str                  # what it reproduces
    quick: str                  # duration in quick mode,
    night: str = "-"            # in night mode
    paper: str = "-"            # and in paper mode
    operand: str = ""           # the argument that follows the name, if there is one

    @property
    def module(self) -> Any:
        """The module. It has SCRIPTS or, for a command that trains no runs, main(arguments) -> exit status."""
        return importlib.import_module(f"{__name__}.{self.home}")

    @property
    def script(self) -> Any:
        """The Script; None for a command that trains no runs."""
        return getattr(self.module, "SCRIPTS", {}).get(self.name)


COMMANDS = {command.name: command for command in [
    Command("imbalance", "paper.figure2", "Figure 2: class imbalance, test error of every method", "2.5 min", "9.6 h",
            "24 h"),
    Command("table1", "paper.grids", "Table 1: uniform flips, CIFAR", "17 min", "5 h", "GPU"),
    Command("table2", "paper.grids", "Table 2: background flips, CIFAR", "23 min", "5 h", "GPU"),
    Command("figure3", "paper.grids", "Figure 3: example weights of right and wrong labels", "6 min", "1.6 h", "GPU"),
    Command("figure4", "paper.grids", "Figure 4: accuracy against the number of clean images", "24 min", "7 h", "GPU"),
    Command("figure5", "paper.grids", "Figure 5: accuracy against the share of wrong labels", "24 min", "7 h", "GPU"),
    Command("figure6", "paper.grids", "Figure 6: confusion matrices", "16 min", "7 h", "GPU"),
    Command("figure7", "paper.grids", "Figure 7: accuracy during training", "13 min", "5 h", "GPU"),
    Command("contradiction", "pages.contradiction", "imbalance needs high losses, noise low ones", "90 s"),
    Command("own", "pages.own", "your own table, texts or images with wrong labels", "30 s and more"),
    Command("tour", "pages.tour", "a tour: the engine built on one page, with pictures", "5 s"),
    Command("walkthrough", "pages.walkthrough", "one step of Algorithm 1 in seven pictures", "5 s"),
    Command("nested", "pages.nested", "the exact two loops against the single one", "10 s"),
    Command("tables", "pages.tables", "Algorithm 1 beside scikit-learn, on public tables", "3 min"),
    Command("benchmark", "benchmark.benchmark", "the cost of one step, against PyTorch and JAX",
            "20 min; with --growth 30"),
    Command("ranks", "benchmark.ranks", "what many ranks cost, measured and modeled", "2 min"),
    Command("report", "pages.report", "a folder of results as one HTML page", "10 s", operand="FOLDER"),
]}


def __getattr__(name):
    if name != "SCRIPTS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    deprecated.warn("SCRIPTS", "COMMANDS")
    return list(COMMANDS.values())
