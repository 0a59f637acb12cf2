"""Mutation testing: how many planted faults does the suite notice? Each is planted alone, in its own process.

    pip install -e '.[test]'
    python -m tests.mutation --sample 60                        # 60 faults of all files, drawn by --seed
    python -m tests.mutation --files experiments/methods models --sample 40 --minutes 10
    python -m tests.mutation --files minigrad/core.py           # every fault of a file
    python -m tests.mutation --again                            # the known survivors, after a change of the tests

A fault is one that a person could make: a changed number, a reversed comparison, another operator or condition, an
argument left out or two of them swapped, a call replaced by its neighbor, a result by the argument, a seed by 0, a
statement left out. It is noticed when a test fails, or takes many times as long as before (an endless loop). For each
fault, the tests that execute its line are run, the fastest first, from the test files that TESTS lists. Survivors are
compared with tests/survivors.jsonl, which says why each is accepted: new ones are printed, and known ones that are
noticed by now are counted.
The exit status is 1 if there are new ones and fewer are noticed than FLOORS requires; --write updates the file.
"""
import argparse
import ast
import concurrent.futures
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import coverage
import hypothesis  # noqa: F401   imported here, so that the child processes need not do it again
import numpy  # noqa: F401
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SURVIVORS = ROOT / "tests" / "survivors.jsonl"
FLOORS = {"minigrad": 0.95, "models": 0.9, "experiments": 0.9}
PYTEST = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-m", "not cupy"]
LEFT_OUT = ("minigrad/__main__.py", "minigrad/fast/cuda", "minigrad/fast/cublas.py", "minigrad/fast/capture.py", "minigrad/fast/memory.py",
            "minigrad/draw.py", "experiments/__main__.py", "experiments/benchmark/__main__.py", "experiments/benchmark/peers/of_",
            "experiments/training/pool.py")                 # devices, processes, other libraries

EXPERIMENTS = "tests/experiments/test_"
TESTS = {                                                   # the first entry that matches the file
    "minigrad/ops/": ["tests/ops", "tests/test_errors.py", "tests/test_models_by_hand.py"],
    "minigrad/schedules.py": ["tests/test_optim.py", "tests/test_updates_by_hand.py"],
    "minigrad/optim.py": ["tests/test_optim.py", "tests/test_updates_by_hand.py", "tests/test_errors.py"],
    "minigrad/layers.py": ["tests/test_layers.py", "tests/test_nn.py", "tests/test_models_by_hand.py", "tests/test_errors.py"],
    "minigrad/nn.py": ["tests/test_nn.py", "tests/test_models.py", "tests/test_models_by_hand.py", "tests/test_copies.py", "tests/test_errors.py"],
    "minigrad/normalization.py": ["tests/test_layers.py", "tests/test_nn.py", "tests/ops", "tests/test_models_by_hand.py"],
    "minigrad/initial.py": ["tests/test_nn.py", "tests/test_models_by_hand.py"],
    "minigrad/losses.py": ["tests/test_losses.py", "tests/test_nn.py", "tests/test_errors.py"], "minigrad/reweight.py": ["tests/test_reweight.py", "tests/test_errors.py"],
    **dict.fromkeys(("minigrad/tree.py", "minigrad/files.py"), ["tests/test_tree.py", "tests/test_copies.py", "tests/test_errors.py"]),
    **dict.fromkeys(("minigrad/labels.py", "minigrad/training.py", "minigrad/estimators.py"), ["tests/test_training.py", "tests/test_estimators.py"]),
    "minigrad/fast/threads.py": ["tests/fast/test_threads.py"],
    "minigrad/fast/info.py": ["tests/fast/test_info.py"],
    "minigrad/fast/native.py": ["tests/fast/test_native.py"],
    "minigrad/fast/native_": ["tests/fast/test_native_kernels.py", "tests/fast/test_table.py"],
    "minigrad/fast/": ["tests/fast/test_table.py", "tests/fast/test_threads.py", "tests/ops/test_windows.py", "tests/ops/test_kinks.py"],
    "minigrad/backend.py": ["tests/test_backend.py", "tests/test_errors.py"],
    "minigrad/": ["tests", "minigrad", "README.md", "--ignore=tests/experiments"],
    "models/": ["tests/test_models.py", "tests/test_models_by_hand.py"],
    "experiments/data/tasks.py": ["tasks", "known_images", "seeds"], "experiments/data/flips.py": ["tasks"],
    "experiments/data/labels.py": ["labels"], "experiments/data/pickles.py": ["labels", "data"],
    **dict.fromkeys(("experiments/data/__init__.py", "experiments/data/images.py", "experiments/data/fetch.py"), ["data", "known_images"]),
    **dict.fromkeys(("experiments/data/own", "experiments/figures/own.py", "experiments/pages/own"), ["own"]),
    "experiments/methods/": ["what_methods_do", "methods", "resampling", "boosting"],
    "experiments/training/trainers.py": ["what_methods_do", "trainers", "seeds"],
    "experiments/training/": ["training", "trainers", "command"],
    **dict.fromkeys(("experiments/figures/tables.py", "experiments/pages/tables.py"), ["tables"]),
    "experiments/figures/": ["figures", "pictures", "settings", "report"],
    "experiments/paper/figure2.py": ["settings", "pictures", "known_images", "seeds", "training"],
    "experiments/paper/": ["settings", "pictures", "seeds", "cifar", "training", "command"],
    "experiments/pages/contradiction.py": ["contradiction", "settings", "pictures", "seeds"],
    "experiments/pages/nested": ["nested", "settings", "seeds"], "experiments/pages/walkthrough": ["walkthrough", "settings", "seeds"],
    "experiments/pages/tour.py": ["tour", "command"], "experiments/pages/report": ["report"], "experiments/pages/results.py": ["report"],
    "experiments/pages/html_page.py": ["report", "tour"], "experiments/pages/": ["nested", "walkthrough", "tour"],
    "experiments/benchmark/": ["benchmark", "pictures"],
    **dict.fromkeys(("experiments/__init__.py", "experiments/deprecated.py", "experiments/commands/"), ["old_names", "command"]),
    **dict.fromkeys(("experiments/command_line.py", "experiments/console.py"), ["command"])}


def tests_of(file):
    """Return the test files of a source file, as arguments of pytest."""
    names = next(names for prefix, names in TESTS.items() if file.startswith(prefix))
    return [name if file.startswith(("minigrad/", "models/")) else f"{EXPERIMENTS}{name}.py" for name in names]


# ------------------------------------------------------------------------------------------------------ faults

OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/", ast.Mod: "*", ast.Pow: "*", ast.BitAnd: "|",
             ast.BitOr: "&"}
COMPARISONS = {ast.Lt: ("<=", ">="), ast.LtE: ("<", ">"), ast.Gt: (">=", "<="), ast.GtE: (">", "<"), ast.Eq: ("!=",), ast.NotEq: ("==",),
               ast.Is: ("is not",), ast.IsNot: ("is",), ast.In: ("not in",), ast.NotIn: ("in",)}
NEIGHBOURS = dict(pair for a, b in (
    ("max", "min"), ("maximum", "minimum"), ("argmax", "argmin"), ("sum", "mean"), ("any", "all"), ("zeros", "ones"), ("zeros_like", "ones_like"),
    ("floor", "ceil"), ("exp", "expm1"), ("log", "log1p"), ("sin", "cos"), ("push", "pull"), ("rows", "columns"), ("var", "std"),
    ("standard_normal", "random"), ("integers", "random"), ("flatnonzero", "argsort")) for pair in ((a, b), (b, a)))
SEEDS = ("seed", "key")
SYMMETRIC = ("add", "multiply", "maximum", "minimum", "array_equal", "assert_array_equal")      # swapping their arguments changes nothing


def functions(tree):
    """Return {name: the next function with as many arguments} for the top-level functions of a file."""
    by_count = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            by_count.setdefault(len(node.args.args), []).append(node.name)
    return {name: names[(i + 1) % len(names)] for names in by_count.values() if len(names) > 1 for i, name in enumerate(names)}


def faults(source, elsewhere=()):
    """Return [(kind, node to replace, its replacement as text)] for all faults in a source.

    elsewhere: {(module, function): its neighbor}, of other files.
    """
    tree, found = ast.parse(source), []
    neighbors = functions(tree)
    strings = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    texts = {id(node.exc): node for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    strict = {id(k.value) for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords if k.arg == "strict"}
    words = {id(part) for node in texts.values() if node.exc for part in ast.walk(node.exc)}        # texts of errors: not all are tested word for word
    of_types = [part for node in ast.walk(tree) for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part]
    of_types += [node for node in tree.body if "overload" in [getattr(name, "id", "") for name in getattr(node, "decorator_list", ())]]
    types = {id(part) for node in of_types for part in ast.walk(node)}                      # test_types.py holds these

    def text(node):
        return ast.get_source_segment(source, node)

    def add(kind, node, new):
        if not {id(node)} & (strings | words | strict | types) and text(node) != new:
            found.append((kind, node, new))

    def expression(node):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            add("number", node, repr(node.value + 1 if type(node.value) is int else node.value * 1.1 or 0.1))
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            add("condition", node, repr(not node.value))
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            add("operator", node, f"{text(node.left)} {OPERATORS[type(node.op)]} {text(node.right)}")
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            for new in COMPARISONS[type(node.ops[0])]:
                add("comparison", node, f"{text(node.left)} {new} {text(node.comparators[0])}")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            add("operator", node, text(node.operand))
        elif isinstance(node, ast.BoolOp):
            add("condition", node, {ast.And: " or ", ast.Or: " and "}[type(node.op)].join(text(value) for value in node.values))
        elif isinstance(node, ast.IfExp):
            add("condition", node, f"{text(node.body)} if not ({text(node.test)}) else {text(node.orelse)}")
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in SEEDS:
                add("seed", node, "0")
            if isinstance(node, ast.Name) and name in neighbors:
                add("neighbor", node, neighbors[name])
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, name) in elsewhere:
                add("neighbor", node, f"{node.value.id}.{elsewhere[node.value.id, name]}")
        elif isinstance(node, ast.Call):
            call(node)

    def call(node):
        name, arguments = text(node.func), [text(each) for each in (*node.args, *(k.value for k in node.keywords))]
        named = [f"{k.arg}=" if k.arg else "**" for k in node.keywords]
        arguments = [(" " * 0 if i < len(node.args) else named[i - len(node.args)]) + each for i, each in enumerate(arguments)]
        last = name.rpartition(".")[2]
        if last in NEIGHBOURS:
            add("neighbor", node.func, name[:len(name) - len(last)] + NEIGHBOURS[last])
        for i in range(len(node.args), len(arguments)):
            if named[i - len(node.args)] not in ("**", "strict="):
                add("argument left out", node, f"{name}({', '.join(arguments[:i] + arguments[i + 1:])})")
        if len(node.args) > 1:
            rest = arguments[len(node.args):]
            add("argument left out", node, f"{name}({', '.join(arguments[:len(node.args) - 1] + rest)})")
            if last not in SYMMETRIC:
                add("arguments swapped", node, f"{name}({', '.join([arguments[1], arguments[0], *arguments[2:]])})")

    def statement(node, argument):
        if isinstance(node, (ast.If, ast.While)):
            add("condition", node.test, f"not ({text(node.test)})")
        elif isinstance(node, ast.Return) and node.value and argument and text(node.value) != argument:
            add("result", node.value, argument)
        elif isinstance(node, ast.For):
            add("loop", node.iter, "[]")
        elif isinstance(node, ast.AugAssign) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) or isinstance(node, ast.Raise):
            add("left out", node, "pass")

    def walk(node, argument):
        for child in ast.iter_child_nodes(node):
            inner = argument
            if isinstance(child, ast.FunctionDef):
                names = [a.arg for a in child.args.args if a.arg not in ("self", "cls")]
                inner = names[0] if names else None
            if isinstance(child, ast.stmt):
                statement(child, inner)
            elif isinstance(child, ast.expr):
                expression(child)
            walk(child, inner)
    walk(tree, None)
    return found


def replace_node(source, node, new):
    """Return the source with a node replaced by a text."""
    lines = source.encode().splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    start, end = offsets[node.lineno - 1] + node.col_offset, offsets[node.end_lineno - 1] + node.end_col_offset
    content = source.encode()
    inside = new if isinstance(node, ast.stmt) else f"({new})"
    if isinstance(node, ast.Name) or isinstance(node, ast.Attribute):
        inside = new                                        # also where it is called
    return (content[:start] + inside.encode() + content[end:]).decode()


def mutants(file):
    """Return [{file, kind, line, before, after, source}] for every fault that can be planted in a file."""
    source, found, seen = (ROOT / file).read_text(), [], set()
    elsewhere = {(path.stem, name): other for path in (ROOT / file).parent.glob("*.py")
                 for name, other in functions(ast.parse(path.read_text())).items()}
    for kind, node, new in faults(source, elsewhere):
        after = replace_node(source, node, new)
        try:
            same = ast.dump(ast.parse(after)) == ast.dump(ast.parse(source))
        except SyntaxError:
            continue
        old, new_lines = source.splitlines(), after.splitlines()
        k = next((k for k, (a, b) in enumerate(zip(old, new_lines)) if a != b), 0)
        identity = kind, old[k].strip(), new_lines[k].strip()
        if not same and (identity, after) not in seen:
            seen.add((identity, after))
            found.append(dict(file=file, kind=kind, line=k + 1, before=identity[1], after=identity[2], source=after))
    return found


# ------------------------------------------------------------------------------------------------- running tests

class _Chosen:
    """A pytest plugin that runs only some tests, in this order."""

    def __init__(self, names):
        self.order = {name: k for k, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])


class _Durations:
    """A pytest plugin that records how long each test takes, and which lines it executes."""

    def __init__(self, measure):
        self.seconds, self.measure = {}, measure

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.measure.switch_context(item.nodeid)
        yield

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.outcome == "passed":
            self.seconds[report.nodeid] = report.duration


def survey(path, arguments):
    """Run these tests once, and write {test: seconds} and {file: {line: tests}} to `path`, as JSON."""
    measure = coverage.Coverage(data_file=None, source=list(FLOORS), config_file=False)
    durations = _Durations(measure)
    measure.start()
    pytest.main([*PYTEST, *arguments], plugins=[durations])
    measure.stop()
    data = measure.get_data()
    lines = {str(pathlib.Path(file).relative_to(ROOT)): data.contexts_by_lineno(file) for file in data.measured_files()}
    pathlib.Path(path).write_text(json.dumps({"seconds": durations.seconds, "lines": lines}))


def run_survey(arguments):
    """Run `survey` in its own process, so that this one imports nothing of the project, and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"import tests.mutation as m; m.survey({folder + '/survey'!r}, {arguments!r})"
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        return json.loads(pathlib.Path(folder, "survey").read_text())


def run_tests(file, source, tests):
    """Run the tests with this source in place of the file's, in a child process; the exit status is pytest's."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = f"minigrad.{module}" if file.startswith("models/") else module

    class Loader(importlib.abc.InspectLoader):
        def find_spec(self, name, path=None, target=None):
            if name == module:
                package = file.endswith("__init__.py")
                spec = importlib.util.spec_from_loader(name, self, origin=str(ROOT / file), is_package=package)
                spec.has_location = True                    # pytest compares module.__file__ with the file of a doctest
                if package:
                    spec.submodule_search_locations = [str((ROOT / file).parent)]
                return spec

        def get_source(self, name):
            return source

        def is_package(self, name):
            return file.endswith("__init__.py")
    sys.meta_path.insert(0, Loader())
    files = sorted({name.partition("::")[0] for name in tests})
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
        os._exit(int(pytest.main([*PYTEST, "-x", *files], plugins=[_Chosen(tests)])))


def try_mutant(mutant, found):
    """Run the tests of a mutant, and return it with its outcome, "killed" or "survived"."""
    seconds = found["seconds"]
    touching = [t for t in found["lines"].get(mutant["file"], {}).get(str(mutant["line"]), []) if t in seconds]
    tests = sorted(touching or seconds, key=seconds.get)    # a line that runs at import concerns all tests
    child = multiprocessing.get_context("fork").Process(target=run_tests, args=(mutant["file"], mutant["source"], tests))
    child.start()
    child.join(30.0 + 10.0 * sum(seconds[t] for t in tests))
    if child.is_alive():
        child.kill()
        child.join()
    return {**{key: value for key, value in mutant.items() if key != "source"}, "outcome": "survived" if child.exitcode == 0 else "killed"}


# ---------------------------------------------------------------------------------------------------- the command

def identity(mutant):
    """Return a key of a fault that stays the same when its line moves."""
    return tuple(mutant[key] for key in ("file", "kind", "before", "after"))


def known():
    """Return {identity: line of the file} for the survivors of earlier runs."""
    lines = SURVIVORS.read_text().splitlines() if SURVIVORS.exists() else []
    return {identity(json.loads(line)): json.loads(line) for line in lines}


def chosen_files(given):
    """Return the named files, and all files in named folders."""
    files = sorted(str(path.relative_to(ROOT)) for folder in FLOORS for path in (ROOT / folder).rglob("*.py"))
    given = [name.rstrip("/") for name in given]
    return [file for file in files if not file.startswith(LEFT_OUT) and any(file == name or file.startswith(name + "/") for name in given)]


def main(arguments=None):
    """Plant faults, run the tests and compare survivors; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", default=list(FLOORS), help="files and folders, default all")
    parser.add_argument("--sample", type=int, help="as many faults, drawn at random; default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="plant no more after this time (to find out which tests run which lines comes before)")
    parser.add_argument("--again", action="store_true", help="only the known survivors")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help="write tests/survivors.jsonl anew")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    os.environ["COVERAGE_CORE"] = "ctrace"
    before = known()
    work = [mutant for file in chosen_files(options.files) for mutant in mutants(file)]
    if options.again:
        work = [mutant for mutant in work if identity(mutant) in before]
    if options.sample is not None:
        work = random.Random(options.seed).sample(work, min(options.sample, len(work)))
    surveys, results = {}, []
    for arguments in dict.fromkeys(tuple(tests_of(mutant["file"])) for mutant in work):
        surveys[arguments] = run_survey(list(arguments))
    print(len(work), "faults", flush=True)
    end = time.monotonic() + 60 * options.minutes
    for name in ("matplotlib.pyplot", "scipy.stats", "sklearn.ensemble", "imblearn.over_sampling", "imblearn.under_sampling"):
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)                   # imported once, and not in every child

    def one(mutant):
        return try_mutant(mutant, surveys[tuple(tests_of(mutant["file"]))]) if time.monotonic() < end else None
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in filter(None, pool.map(one, work)):
            results.append(result)
            if result["outcome"] == "survived":
                new = "" if identity(result) in before else "NEW "
                print(f"{new}{result['file']}:{result['line']} {result['kind']}\n  - {result['before']}\n  + {result['after']}", flush=True)
    return compare(results, before, options.write)


def compare(results, before, write):
    """Print how many faults were noticed, and what changed since survivors.jsonl; return the exit status."""
    survivors = {identity(result): result for result in results if result["outcome"] == "survived"}
    status = 0
    for folder, floor in FLOORS.items():
        own = [result for result in results if result["file"].startswith(folder + "/")]
        killed = sum(result["outcome"] == "killed" for result in own)
        if own:
            print(f"{folder}: {killed} of {len(own)} noticed, {killed / len(own):.1%} (at least {floor:.0%})")
            new = [each for each in survivors if each not in before and each[0].startswith(folder + "/")]
            status = max(status, int(bool(new) and killed < floor * len(own)))
    tested = {identity(result) for result in results}
    print(f"{sum(each not in before for each in survivors)} new survivors; "
          f"{sum(each in tested and each not in survivors for each in before)} of {len(before)} known ones are noticed by now")
    if write:
        kept = {**{each: line for each, line in before.items() if each not in tested}, **{each: before.get(each, {
            key: result[key] for key in ("file", "kind", "before", "after")}) for each, result in survivors.items()}}
        SURVIVORS.write_text("".join(json.dumps(kept[each], ensure_ascii=False) + "\n" for each in sorted(kept)))
    return status


if __name__ == "__main__":
    sys.exit(main())
