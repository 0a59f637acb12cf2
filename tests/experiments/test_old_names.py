"""Old names of modules are the new modules, and warn once at the line that uses them; the table lists all of them."""
import importlib
import pathlib
import runpy
import subprocess
import sys
import warnings

import pytest

import experiments
from experiments import deprecated
from experiments.paper import scripts

ROOT = pathlib.Path(experiments.__file__).parents[1]
TABLE = {
    "biases": "data.tasks", "cifar": "paper.cifar", "comparisons": "benchmark.comparisons", "contradiction": "pages.contradiction",
    "fetch": "data.fetch", "figure3": "paper.figure3", "figure4": "paper.grids", "figure5": "paper.grids", "figure6": "paper.grids",
    "figure7": "paper.grids", "flips": "data.flips", "folders": "training.folders", "imbalance": "paper.figure2", "limits": "benchmark.limits",
    "nested": "pages.nested", "nested_page": "pages.nested_page", "peers": "benchmark.peers", "pool": "training.pool",
    "precision": "benchmark.precision", "runs": "training.runs", "script": "paper.scripts", "sweep": "command_line", "table1": "paper.grids",
    "table2": "paper.grids", "tour": "pages.tour", "trainers": "training.trainers", "walkthrough": "pages.walkthrough",
    "walkthrough_picture": "pages.walkthrough_picture"}
NEW = ["report", "tables", "own", "ranks"]          # commands that never had another name
GOES = "; the old name goes in minigrad 0.3$"


@pytest.fixture
def fresh(monkeypatch):
    """Let old names be imported as for the first time."""
    for old in TABLE:
        monkeypatch.delitem(sys.modules, f"experiments.{old}", raising=False)
        monkeypatch.delattr(experiments, old, raising=False)


def test_the_table_holds_every_old_name():
    assert deprecated.MOVED == TABLE


@pytest.mark.parametrize("old", TABLE)
def test_the_old_name_is_the_new_module_and_warns_once(fresh, old):
    new = importlib.import_module(f"experiments.{TABLE[old]}")
    spec = new.__spec__
    with pytest.warns(DeprecationWarning, match=rf"^experiments\.{old} is now experiments\.{TABLE[old]}{GOES}") as caught:
        assert importlib.import_module(f"experiments.{old}") is new
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importlib.import_module(f"experiments.{old}") is getattr(experiments, old) is new
    assert new.__spec__ is spec and new.__name__ == f"experiments.{TABLE[old]}"


def test_all_forms_of_an_import(fresh):
    """What is replaced in a module under its old name is replaced under the new one."""
    from experiments.paper import cifar as new
    from experiments.training import runs
    with pytest.warns(DeprecationWarning) as caught:
        import experiments.cifar
        from experiments.runs import Problem, Run, Settings
    from experiments import cifar
    assert cifar is experiments.cifar is new and (Problem, Run, Settings) == (runs.Problem, runs.Run, runs.Settings)
    assert [warning.filename for warning in caught] == [__file__] * 2
    with pytest.raises(ImportError, match="nothing_like_it"):
        from experiments import nothing_like_it  # noqa: F401


@pytest.mark.parametrize("package, module, name", [
    ("data", "images", "MNIST"), ("data", "images", "_content"), ("training", "loop", "SAVE_INTERVAL"),
    ("benchmark", "benchmark", "measure"), ("pages", "command", "main")])
def test_a_package_that_was_a_module_has_its_attributes(package, module, name):
    old, new = (importlib.import_module(f"experiments.{path}") for path in (package, f"{package}.{module}"))
    with pytest.warns(DeprecationWarning, match=rf"^experiments\.{package}\.{name} is now experiments\.{package}\.{module}\.{name}{GOES}") as caught:
        assert getattr(old, name) is getattr(new, name)
    assert [warning.filename for warning in caught] == [__file__]
    for missing in ("np", "__wrapped__", "nothing_like_it"):            # an import of the module is none of its names
        with pytest.raises(AttributeError, match=f"experiments.{package}"):
            getattr(old, missing)


def test_the_old_home_of_scripts_has_its_names(fresh):
    with pytest.warns(DeprecationWarning):
        from experiments.script import Script, check_methods, choose_values, class_mismatch, make_parser, parse_options
    assert (Script, check_methods, choose_values) == (scripts.Script, scripts.check_methods, scripts.choose_values) and (class_mismatch, make_parser, parse_options) == (scripts.class_mismatch, scripts.make_parser, scripts.parse_options)


def test_the_list_of_scripts():
    with pytest.warns(DeprecationWarning, match=rf"^experiments\.SCRIPTS is now experiments\.COMMANDS{GOES}"):
        assert [each.name for each in experiments.SCRIPTS] == list(experiments.COMMANDS)
    with pytest.raises(AttributeError, match="module 'experiments' has no attribute 'nothing_like_it'"):
        experiments.nothing_like_it


@pytest.mark.parametrize("name", ["table2", "sweep"])
def test_a_command_does_not_warn(name):
    options = ["table2"] * (name == "sweep") + ["--help"]
    ran = subprocess.run([sys.executable, "-W", "error::DeprecationWarning:experiments", "-W", "error::DeprecationWarning:__main__", "-m",
                          f"experiments.{name}", *options], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout.startswith("usage: python -m experiments.table2")


@pytest.mark.parametrize("name", experiments.COMMANDS)
def test_every_module_runs_its_own_command(fresh, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    assert end.value.code == 0 and f"usage: python -m experiments.{name} " in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "commands").glob("*.py")), ids=lambda file: file.stem)
def test_every_file_of_commands_runs_a_command_or_is_an_old_name(file):
    assert file.stem == "sweep" or experiments.COMMANDS[file.stem]
    assert file.stem in TABLE or file.stem in NEW
