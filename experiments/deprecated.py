"""Old names of modules, which still work for one version, each with a DeprecationWarning that says the new one.

An old name is the new module itself: `import experiments.cifar` imports experiments.paper.cifar. Three ways lead there:

    install()                       import experiments.runs: no file has this name; a finder loads it
    replace(name)                   of a file of commands/: import experiments.table2, where the file is not run
    attributes(__name__, "images")  in a package that was a module: data.MNIST is data.images.MNIST
"""
import importlib
import importlib.abc
import importlib.util
import sys
import types

from minigrad.deprecated import warn_outside

MOVED = {
    "biases": "data.tasks", "fetch": "data.fetch", "flips": "data.flips",
    "folders": "training.folders", "pool": "training.pool", "runs": "training.runs", "trainers": "training.trainers",
    "cifar": "paper.cifar", "imbalance": "paper.figure2", "script": "paper.scripts", "sweep": "command_line",
    "table1": "paper.grids", "table2": "paper.grids", "figure3": "paper.figure3", "figure4": "paper.grids",
    "figure5": "paper.grids", "figure6": "paper.grids", "figure7": "paper.grids",
    "contradiction": "pages.contradiction", "nested": "pages.nested", "nested_page": "pages.nested_page",
    "tour": "pages.tour", "walkthrough": "pages.walkthrough", "walkthrough_picture": "pages.walkthrough_picture",
    "comparisons": "benchmark.comparisons", "limits": "benchmark.limits", "peers": "benchmark.peers",
    "precision": "benchmark.precision",
}
PACKAGE = __package__


def warn(old, new):
    """Warn, at the first line outside of this package that led here, that `old` is now `new`."""
    warn_outside(f"{PACKAGE}.{old} is now {PACKAGE}.{new}; the old name goes in minigrad 0.3", PACKAGE)


def _import_new(name):
    """Return the module that the full old name stands for, with a warning."""
    old = name.removeprefix(f"{PACKAGE}.")
    warn(old, MOVED[old])
    return importlib.import_module(f"{PACKAGE}.{MOVED[old]}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the old names, and loads the new modules for them."""

    def find_spec(self, name, path=None, target=None):
        package, _, old = name.partition(".")
        return importlib.util.spec_from_loader(name, self) if package == PACKAGE and old in MOVED else None

    def create_module(self, spec):
        module = _import_new(spec.name)
        spec.loader_state = module.__spec__                 # the import machinery puts `spec` in its place
        return module

    def get_code(self, name):
        """Return None: python -m runs no old name, and says so."""

    def exec_module(self, module):
        module.__spec__ = module.__spec__.loader_state


def install():
    """Let the old names be found where no file has them."""
    sys.meta_path.append(_Finder())


def replace(name):
    """Put the new module in the place of the one that is being imported under its old name."""
    if name.removeprefix(f"{PACKAGE}.") in MOVED:           # not where multiprocessing runs a main file again
        sys.modules[name] = _import_new(name)


def attributes(package, module):
    """Return a __getattr__ that looks up in one of its modules what the package lacks."""
    def __getattr__(name):
        new = f"{package}.{module}"
        found = vars(importlib.import_module(new))
        if name.startswith("__") or isinstance(found.get(name, sys), types.ModuleType):      # absent, or an import
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warn(*(f"{each}.{name}".removeprefix(f"{PACKAGE}.") for each in (package, new)))
        return found[name]
    return __getattr__
