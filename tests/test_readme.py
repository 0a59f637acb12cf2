"""What the pages tell a newcomer to type is understood. (.ci/run types it: each command in an environment of its own.)"""
import importlib
import pathlib
import re
import shlex
import tomllib

import pytest

from experiments import SCRIPTS, script

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "experiments/README.md", "experiments/tour.md", "experiments/gpu.md", "experiments/results/README.md")]
TEXT = "\n".join(page.read_text() for page in PAGES)
COMMANDS = sorted({line.split("#")[0].strip() for line in re.findall(r"python -m experiments[^`\n]*", TEXT)})


def test_the_first_commands_need_nothing_but_what_they_install():
    """.ci/run takes these two lines as they stand."""
    first, second = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[0].splitlines()
    assert first == "pip install -e '.[experiments]' && python -m experiments.imbalance"
    assert second == "pip install -e '.[test]' && pytest"


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for names in re.findall(r"'\.\[([\w,-]+)\]'", TEXT) for name in names.split(",")}
    assert {"experiments", "test", "bench", "cuda13", "kernel-check"} <= named <= set(extras)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    _, _, module, *arguments = shlex.split(re.sub(r"[\[\]]", "", command))      # what stands in brackets may be added
    names = [module.partition(".")[2]]
    if names == ["sweep"]:
        names = [argument for argument in arguments if argument in {entry.name for entry in SCRIPTS if entry.runs}]
        arguments = arguments[len(names):]
        assert names
    for name in filter(None, names):
        found = importlib.import_module(f"experiments.{name}")
        if hasattr(found, "SCRIPT"):
            script.parser(found.SCRIPT).parse_args(arguments)
        else:
            assert name in {entry.name for entry in SCRIPTS}
