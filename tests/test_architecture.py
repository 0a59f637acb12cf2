"""The architecture: who imports whom, how long files are, and that everything public has a docstring."""
import ast
import importlib
import inspect
import pathlib

import pytest

import minigrad as mg
from minigrad import nn

ROOT = pathlib.Path(mg.__file__).parent.parent
LAYERS = [{"typing"}, {"errors", "deprecated"}, {"boundary"}, {"backend", "files"}, {"communicators", "nodes"}, {"tree"}, {"box"}, {"core"}, {"kinds"}, {"ops"}, {"transforms", "linalg", "special"}, {"numpy"}, {"functions", "jacobians", "stats"},
          {"losses", "normalization", "initial", "distributed", "schedules"}, {"layers"}, {"nn", "optim", "reweight", "check", "draw"}, {"models", "labels"}, {"training"}, {"estimators"}, {"fast"}, {"__main__"}]      # the ground floor, and the wing
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ROOMS = [{"deprecated", "console"}, {"data"}, {"methods"}, {"training"}, {"figures"}, {"paper"}, {"pages", "benchmark"}, {"command_line"},
         {"commands", "__main__"}]                          # of the experiments: each may import those before it
IDEA = "core", "box", "kinds", "ops", "linalg", "transforms", "jacobians", "functions", "losses", "normalization", "layers", "nn", "optim", "reweight", "check", "draw"
SOURCES = sorted(path for folder in ("minigrad", "models", "experiments") for path in (ROOT / folder).rglob("*.py"))
MODULES = [mg, *(importlib.import_module(f"minigrad.{'.'.join(path.relative_to(ROOT / 'minigrad').with_suffix('').parts)}")
                 for path in SOURCES if path.is_relative_to(ROOT / "minigrad") and path.name != "__init__.py"),
           *(importlib.import_module(f"minigrad.models.{path.stem}") for path in SOURCES if path.parent == ROOT / "models" and path.name != "__init__.py")]


def imported(path):
    """Yield the first part of the name of each module that a file imports, of relative ones without the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = path.parent.name if path.parent.name in ("ops", "fast") and node.level == 1 else None
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (inside or name.split(".")[0] for name in names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name.split(".")[0] for name in names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    names = set(imported(path))
    folder = path.relative_to(ROOT).parts[0]
    if folder == "minigrad":
        assert "experiments" not in names
        assert "cupy" not in names or path.name == "backend.py"
        if path.name != "__init__.py" or path.parent.name in ("ops", "fast"):
            names -= {"numpy"}                              # the library; no module imports minigrad.numpy
            own = path.parent.name if path.parent.name in ("ops", "fast") else path.stem
            assert {LEVEL[name] for name in names if name in LEVEL and name != own} <= set(range(LEVEL[own]))
    if folder == "models":
        inside = {name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minigrad")
                  for name in (node.module.split(".")[1:] or [alias.name for alias in node.names])}
        assert "experiments" not in names and all(LEVEL.get(name, 0) < LEVEL["models"] for name in inside)


def rooms_imported(path):
    """Yield the rooms, or files beside them, that a file of the experiments imports."""
    package = tuple(part for part in path.relative_to(ROOT).parent.parts if part != "commands")     # experiments.table2
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):                # from ..training import runs: experiments.training.runs
            base = package[:len(package) - node.level + 1] if node.level else ()
            names = [".".join([*base, *filter(None, [node.module]), name]) for name in names]
        yield from (name.split(".")[1] for name in names if name.startswith("experiments."))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "experiments")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_calls_one_above_it(path):
    """Data flow through data, methods, training and paper; figures import no other room, as they draw records alone."""
    level = {name: level for level, names in enumerate(ROOMS) for name in names}
    own = path.relative_to(ROOT / "experiments").with_suffix("").parts[0]
    names = {name for name in rooms_imported(path) if name in level and name != own}
    above = {name for name in level if own == "figures" or own in level and level[name] >= level[own]}
    if own == "__init__":
        above = {*level} - {"deprecated"}                   # it looks up the others by name, when a command is run
    assert own in {*level, "__init__"} and not names & above


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    module = ast.parse(path.read_text())
    docs = sum((ast.get_docstring(node) or "").count("\n") + 1 for node in ast.walk(module)
               if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    imports = sum(node.end_lineno - node.lineno + 1 for node in module.body if isinstance(node, (ast.Import, ast.ImportFrom)))
    overloads = sum(node.end_lineno - node.lineno + 2 for node in module.body if isinstance(node, ast.FunctionDef)
                    and "overload" in [getattr(name, "id", "") for name in node.decorator_list])     # only for type checkers
    assert path.read_text().count("\n") - docs - imports - overloads <= 250
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno - (ast.get_docstring(node) or "").count("\n") <= 40, node.name


@pytest.mark.parametrize("path", [path for path in SOURCES if set(IDEA) & set(path.relative_to(ROOT).with_suffix("").parts)
                                  and path.is_relative_to(ROOT / "minigrad") and not path.is_relative_to(ROOT / "minigrad/fast")], ids=lambda path: path.name)
def test_the_ground_floor_knows_no_device(path):
    """Only backend.py and the wing distinguish array modules."""
    names = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(ast.parse(path.read_text()))}
    assert not names & {"on_device", "cupy", "threads", "scratch", "as_strided"} or names & {"as_strided"} and path.name == "windows.py"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_everything_public_says_what_it_is(module):
    inherited = {inspect.getdoc(mg.Primitive), inspect.getdoc(nn.Module), None, ""}
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value) or not callable(value):
            continue
        if getattr(value, "__module__", "") == module.__name__ and (inspect.isfunction(value) or inspect.isclass(value)):
            assert inspect.getdoc(value) not in inherited or value in (mg.Primitive, nn.Module), name
            for method, inside in vars(value).items() if inspect.isclass(value) else ():
                if not method.startswith("_") and inspect.isfunction(inside) and method not in ("apply", "record"):
                    assert inspect.getdoc(inside), f"{name}.{method}"


def test_public_names_are_listed():
    """What __all__ lists is there, once; and whatever a module defines or exports, but for modules, is listed."""
    homes = {"minigrad.nn", "minigrad.layers", "minigrad.losses", "minigrad.normalization", "minigrad.initial"}
    layers = {name for name, value in vars(nn).items() if getattr(value, "__module__", "") in homes and not name.startswith("_")}
    exported = {name for name, value in vars(mg).items() if not name.startswith("_") and not inspect.ismodule(value)}
    for module, names in ((nn, layers | {"Array"}), (mg, exported)):
        assert len(set(module.__all__)) == len(module.__all__) and set(module.__all__) <= set(vars(module))
        assert {name for name in module.__all__ if not inspect.ismodule(vars(module)[name])} == names


def test_tests_are_skipped_by_requirements_alone():
    """Tests skipped in another way would go unnoticed where MINIGRAD_REQUIRE demands that all run."""
    for path in (ROOT / "tests").rglob("*.py"):
        called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name in ("requirements.py", "test_requirements.py") or not called & {"skip", "skipif", "importorskip", "xfail"}, path


def test_engine_needs_little_more_than_numpy():
    allowed = {"numpy", "safetensors", "threadpoolctl", "cupy", "matplotlib", "cuda", "mpi4py"}       # the last two only with CuPy, and under mpiexec
    names = {name for path in (ROOT / "minigrad").rglob("*.py") for name in imported(path) if (path.stem, name) != ("estimators", "sklearn")}
    import sys
    assert names - set(LEVEL) - set(sys.stdlib_module_names) - {p.stem for p in (ROOT / "minigrad/ops").glob("*.py")} <= allowed
