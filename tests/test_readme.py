"""The pages for newcomers are true: commands are valid, links and files exist, the README is short.

(.ci/run runs the first commands, each in its own environment.)
"""
import ast
import contextlib
import importlib
import inspect
import itertools
import operator
import pathlib
import re
import shlex
import tomllib

import numpy as np
import pytest

import minigrad as mg
from experiments import COMMANDS
from experiments.methods import METHODS
from experiments.paper import cifar, figure2, grids
from experiments.paper.command import make_parser
from minigrad import models
from minigrad.communicators import TIMEOUT

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = [ROOT / name for name in ("minigrad", "models", "experiments", "tests", ".ci")]
FILES = [*(path for path in ROOT.iterdir() if path.is_file()), *(path for folder in FOLDERS for path in folder.rglob("*"))]
PAGES = [path for path in FILES if path.suffix == ".md"]
TEXT = "\n".join(page.read_text() for page in PAGES)
LINES = sorted({line.split("#")[0].strip() for line in re.findall(r"python -m experiments[^`\n]*", TEXT)})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = [importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
           for folder in ("minigrad", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))
           if not path.name.startswith(("__main__", "of_", "cu", "capture", "torch_")) and path.parent.name != "commands"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_first_commands_need_nothing_but_what_they_install():
    """.ci/run uses these two lines verbatim."""
    first, second = re.search(r"^## Install$.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.S | re.M)[1].splitlines()
    assert first == "pip install -e '.[experiments]' && python -m experiments.imbalance"
    assert second == "pip install -e '.[test]' && pytest"


def test_extras_that_are_named_exist():
    """In pages, messages, .ci/run and pyproject.toml itself; and each extra is named in one of them."""
    sources = [path.read_text() for path in FILES if path.suffix in (".md", ".py", ".toml") or path.parent.name == ".ci"]
    named = {name for text in sources for names in re.findall(r"(?:'\.|minigrad)\[([\w,-]+)\](?!\()", text) for name in names.split(",")}
    assert named == set(PROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize("line", LINES)
def test_commands_are_understood(line):
    _, _, module, *arguments = shlex.split(re.sub(r"[\[\]]", "", line))      # extras in brackets are optional
    module = module.removesuffix(".sweep")                                  # the old name
    names = [module.partition(".")[2]] if "." in module else [*itertools.takewhile(COMMANDS.__contains__, arguments)]
    arguments = arguments if "." in module else arguments[len(names):]
    assert names or not arguments
    for name in names:
        if COMMANDS[name].script:
            make_parser(COMMANDS[name].script).parse_args(arguments)


def test_options_that_pages_name_are_written_somewhere():
    """Those of other programs are listed here."""
    others = {"--depth", "--nthreads", "--nworkers", "--no-binary", "--no-deps"}
    sources = "\n".join(path.read_text() for path in FILES if path.suffix in (".py", ".toml"))
    named = {option for page in PAGES if page.name != "CHANGELOG.md" for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text())}
    own = {option for option in named - others if not re.search(rf"[\"' ]{option}[\"'= ]", sources)}
    assert len(named) > 30 and own <= {"--cov", "--dist", "--hypothesis-profile"}, own
    assert set(re.findall(r"--hypothesis-profile=(\w+)", TEXT)) <= set(re.findall(r'register_profile\("(\w+)"', (ROOT / "tests/conftest.py").read_text()))


def test_every_command_is_in_the_table_of_commands():
    table = (ROOT / "experiments" / "README.md").read_text().partition("| command | reproduces |")[2].partition("\n\n")[0]
    rows = {name: (quick, full) for name, quick, full in re.findall(r"^\| \[?`(\w+)`.*\| (.*) \| (.*) \|$", table, re.M)}
    assert sorted(rows) == sorted(COMMANDS)
    assert rows["imbalance"][1] == f"{len(figure2.PAPER_SHARES)} shares x {len(figure2.PAPER_METHODS)} methods x {len(figure2.PAPER_SEEDS)} seeds"
    for name, figure in grids.SCRIPTS.items():
        for text, grid in zip(rows[name], (figure.grids["quick"], figure.grids["paper"])):
            assert [int(n) for n in re.findall(r"(\d+) methods", text)] in ([], [len(grid.methods)]), name
            assert [int(n) for n in re.findall(r"(\d+) seeds", text)] in ([], [len(grid.seeds)]), name
            assert re.findall(r"resnet[-\d]+|wrn[-\d]+", text.lower()) in ([], [grid.network]), name


def test_the_settings_are_those_that_the_engine_reads():
    """A table lists the environment variables; a time-out is told beside it, too."""
    text = (ROOT / "minigrad" / "README.md").read_text()
    read = {name for path in (ROOT / "minigrad").rglob("*.py") for name in re.findall(r"(?:environ(?:\.get\(|\[)|flag\()\"(MINIGRAD_\w+)\"", path.read_text())}
    assert set(re.findall(r"^\| `(MINIGRAD_\w+)=", text, re.M)) == read
    everywhere = {name for path in FILES if path.suffix == ".py" for name in re.findall(r"MINIGRAD_[A-Z]\w+", path.read_text())}
    assert set(re.findall(r"MINIGRAD_[A-Z]\w+", TEXT)) <= everywhere
    assert f"MINIGRAD_RANK_TIMEOUT seconds ({TIMEOUT:g})" in text.replace("\n", " ") and re.search(rf"`MINIGRAD_RANK_TIMEOUT=.*\| {TIMEOUT:g} \|", text)


def test_how_long_the_suite_takes_is_told_alike():
    minutes = re.search(r"the second tests in (\w+)\.", (ROOT / "README.md").read_text())[1]
    told = {page: set(re.findall(r"^pytest +# (\w+) minutes on two cores", (ROOT / page).read_text(), re.M)) for page in ("CONTRIBUTING.md", "tests/README.md")}
    assert [*told.values()] == [{minutes}] * 2


def test_the_table_of_models():
    """Arguments, defaults and numbers of parameters."""
    text = (ROOT / "models" / "README.md").read_text()
    table = text.partition("| function |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|.*\| *([\d,]*)(?: \(.*\))? *\|$", table, re.M)
    assert {name for name, *_ in rows} == {name for name in models.__all__ if inspect.isfunction(getattr(models, name))}
    for name, told, count in [*rows, *((name, told, "") for name, told in re.findall(r"`(lenet)\((rng, classes.*?)\)`", text))]:
        f, told = getattr(models, name), told.split(", ")
        own = [*inspect.signature(f).parameters.values()][:len(told)]
        assert told == [p.name if p.default is p.empty or "=" not in given else f"{p.name}={p.default}" for p, given in zip(own, told)], name
        assert not count or f"{mg.tree.size(f(np.random.default_rng(0))):,}" == count, name


def test_calls_of_the_engine_that_pages_show_fit():
    """Settings in spans such as `mg.mean(x, 0, keepdims=True)` exist, and names of arguments stand in their order."""
    seen = 0
    for page in PAGES:
        for span in re.findall(r"`(mg\.[^`\n]*)`", page.read_text()) if page.name != "CHANGELOG.md" else []:
            with contextlib.suppress(SyntaxError):
                for call in [node for node in ast.walk(ast.parse(span)) if isinstance(node, ast.Call) and re.fullmatch(r"mg\.[\w.]+", ast.unparse(node.func))]:
                    known = [*inspect.signature(operator.attrgetter(ast.unparse(call.func)[3:])(mg)).parameters]
                    assert {word.arg for word in call.keywords} <= {*known}, span
                    given = [node.id for node in call.args if isinstance(node, ast.Name)]
                    assert set(given) != set(known[:len(given)]) or given == known[:len(given)], span
                    seen += 1
    assert seen > 10


def test_facts_that_stand_in_two_places():
    """The oldest Python, the paper, the settings of quick mode, and the register tiles of the kernels in C."""
    first, front = ((ROOT / name).read_text().replace("\n", " ") for name in ("README.md", "experiments/README.md"))
    assert f"Python {PROJECT['project']['requires-python'].removeprefix('>=')} or newer" in first
    assert re.findall(r"arxiv.org/abs/[\d.]+", first) == re.findall(r"arxiv.org/abs/[\d.]+", (ROOT / "CITATION.cff").read_text()) != []
    quick = cifar.MODES["quick"]
    assert "{0:,} biased training images of {1} x {1} pixels".format(quick.sizes["size"], quick.pixels) in front
    assert f"{quick.sizes['tests']:,} test images, {quick.steps:,} steps" in front and f"Beside uniform flips there are {quick.clean} clean images" in front
    tiles = dict(zip(("AVX-512", "AVX", "NEON", "SSE"), re.findall(r"BYTES (\d+)\n#define VECTORS (\d+)\n#define MOST (\d+)", (ROOT / "minigrad/fast/kernels/kernels.h").read_text())))
    rows = re.findall(r"^\| (\S+) \| \d+ of (\d+) floats \| (\d+) x (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (ROOT / "minigrad/fast/kernels/README.md").read_text(), re.M)
    assert {name for name, *_ in rows} == {*tiles}
    for name, *told in rows:
        size, vectors, most = map(int, tiles[name])
        assert [*map(int, told)] == [size // 4, most, vectors, most * vectors, most + vectors, vectors * size // 4], name


def test_constants_that_the_page_of_gpus_names_exist():
    found = re.findall(r"((?:[A-Z_]+(?:, | and |\s))+)of `(\w+)\.py`", (ROOT / "experiments" / "gpu.md").read_text())
    assert len(found) == 3
    for names, module in found:
        for name in re.findall(r"[A-Z_]{2,}", names):
            assert re.search(rf"^{name} = ", (ROOT / "minigrad" / "fast" / f"{module}.py").read_text(), re.M), name


def test_the_first_page_is_short_and_honest():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 900
    assert "(experiments/gpu.md) says what was measured on one" in text


def heading_links(text):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in heading_links(target.read_text()), link


@pages
def test_files_that_are_named_exist(page):
    """A name may leave out folders in front: `ops/test_laws.py`. The changelog also names what is gone."""
    names = re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|jsonl|cff|toml|c|h|cu)|(?:[\w.-]+/)+)`", page.read_text()) if page.name != "CHANGELOG.md" else []
    known = [f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in [*FOLDERS, *FILES]]
    outputs = {"runs/", "minigrad/kernels/"}                # folders that the programs make
    assert not [name for name in names if name not in outputs and not any(path.endswith(f"/{name}") for path in known)]


def attribute(owner, name):
    """Return the attribute owner.name, or the annotation of a field; None if there is none."""
    try:
        return operator.attrgetter(name)(owner)
    except AttributeError:
        return getattr(owner, "__annotations__", {}).get(name)


def find_name(name):
    """Return what a page calls `name`, such as `tasks.noisy`, `Task.clean` or `experiments.command_line.main`; None if there is nothing."""
    first, _, rest = name.partition(".")
    owners = [module for module in MODULES if first in (module.__name__.partition(".")[0], module.__name__.rpartition(".")[2])]
    owners += [getattr(module, first) for module in MODULES if hasattr(module, first)]
    return next((found for owner in owners if (found := attribute(owner, rest)) is not None), None)


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_names_of_the_experiments_exist(page):
    """Spans such as `trainers.Descent.step` or `tasks.noisy(flip=...)`."""
    text = (ROOT / "experiments" / page).read_text()
    names = set(re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*)?`", text))
    names = {name for name in names if name.rpartition(".")[2] not in ("py", "md", "jsonl", "json", "png", "toml")}
    assert names and [name for name in sorted(names) if find_name(name) is None] == []


def test_the_table_of_items_names_what_there_is():
    """A single word in it is a command, a method, or a name in a module or in a class."""
    table = (ROOT / "experiments" / "README.md").read_text().partition("## Where every item is")[2].partition("\n## ")[0]
    words = set(re.findall(r"`([A-Za-z_]\w+)`", table)) - {*COMMANDS, *METHODS}
    known = {name for module in MODULES for value in vars(module).values() for name in (*vars(module), *getattr(value, "__annotations__", ()))}
    assert words <= known, words - known


def test_the_examples_of_additions_are_short():
    text = (ROOT / "experiments" / "README.md").read_text().partition("## Adding a method, a task, a figure")[2].partition("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 3 and all(len(example.strip().splitlines()) <= 15 for example in examples)


def test_there_is_one_version():
    """It stands in minigrad/__init__.py: pyproject.toml reads it there, the citation leaves it out, the changelog names it."""
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.findall(r'^__version__ = "(.*)"$', source, re.M) == [mg.__version__]
    assert not re.search(r"^version", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert newest == "[Unreleased]" if ".dev" in mg.__version__ else newest.startswith(f"[{mg.__version__}] - ")


def test_the_order_of_reading_is_one_and_leaves_nothing_out():
    listed = re.findall(r"\w+(?:\.py|/)", mg.__doc__)
    text = (ROOT / "minigrad" / "README.md").read_text()
    assert listed == [*re.findall(r"^\| `(\w+(?:\.py|/))` \|", text, re.M), "fast/"]
    there = {path.name for path in (ROOT / "minigrad").glob("*.py")} | {f"{path.parent.name}/" for path in (ROOT / "minigrad").glob("*/*.py")}
    assert sorted(listed) == sorted(there - {"__init__.py"})
    assert set(re.findall(r"`(fast/\w+\.py)`", text)) == {f"fast/{path.name}" for path in (ROOT / "minigrad" / "fast").glob("*.py")}
    assert sorted(re.findall(r"`(\w+)`", re.search(r"^\| `ops/` \|.*$", text, re.M)[0])) == sorted(path.stem for path in (ROOT / "minigrad" / "ops").glob("[!_]*.py"))
    told = re.findall(r"^\| `(\w+(?:\.py|/))` \|", (ROOT / "experiments" / "tour.md").read_text(), re.M)
    assert told == [name for name in listed if name in told] and {"core.py", "box.py", "ops/", "reweight.py"} <= {*told}


def test_tables_of_folders_leave_nothing_out():
    """Those of the wing, of its kernels and of the rooms of the experiments."""
    wing = ROOT / "minigrad" / "fast"
    told = set(re.findall(r"\b(?:native_)?\w+\.(?:py|cu)|\bnative_\w+", mg.fast.__doc__.partition("    threads.py")[2] + "threads.py"))
    assert {name.partition(".")[0] for name in told} == {path.stem for path in (*wing.glob("[!_]*.py"), *wing.glob("*.cu"))} - {"conv2d"}
    table = (wing / "kernels" / "README.md").read_text().partition("| file |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+\.[ch])`", table, re.M)) == sorted(path.name for path in (wing / "kernels").glob("*.[ch]"))
    table = (ROOT / "experiments" / "README.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    rooms = {f"{path.parent.name}/" for path in (ROOT / "experiments").glob("*/*.py")}
    assert sorted(re.findall(r"^\| `(\w+/)`", table, re.M)) == sorted(rooms)


def test_what_a_kill_costs():
    """The minutes between two checkpoints, which the page and the settings of the loop tell."""
    from experiments.training import loop
    text = (ROOT / "experiments" / "README.md").read_text().replace("\n", " ")
    told = re.findall(r"at most the (\w+) minutes since the last checkpoint|back every (\w+) minutes or so", text)
    assert {word for words in told for word in words if word} == {{2: "two", 3: "three", 4: "four", 5: "five", 10: "ten"}[loop.SAVE_INTERVAL / 60]} and len(told) == 2
