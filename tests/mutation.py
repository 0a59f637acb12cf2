"""How many small faults in the engine does the test suite notice? Every one is tried, in a process of its own.

    pip install -e '.[test]' cosmic-ray
    python -m tests.mutation                            # core, kinds, ops, transforms and reweight: half an hour on 2 cores
    python -m tests.mutation --again mutants.jsonl      # only those that survived, after a change of the tests

Cosmic Ray changes one operator, number, condition, decorator or exception of the source at a time. A mutant is killed
when a test fails, or takes ten times as long as it did (a loop that never ends). For each one only those tests are run
that execute the changed line, the quickest first. Written: mutants.jsonl, a line for each mutant; survivors are shown.
"""
import argparse
import concurrent.futures
import difflib
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

import coverage
import hypothesis  # noqa: F401   imported here, so that the child processes need not do it again
import numpy  # noqa: F401
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = pathlib.Path(__file__).parent.parent
FILES = ["core.py", "kinds.py", "pieces.py", "transforms.py", "functions.py", "reweight.py", *(f"ops/{name}.py" for name in (
    "elementwise", "normalise", "operators", "products", "reductions", "shaping", "windows", "convolution", "dropout"))]
OPERATORS = """
    ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_Sub_Add ReplaceBinaryOperator_Mul_Div ReplaceBinaryOperator_Mul_Add
    ReplaceBinaryOperator_Div_Mul ReplaceBinaryOperator_FloorDiv_Div ReplaceBinaryOperator_Mod_Mul ReplaceBinaryOperator_Pow_Mul
    ReplaceBinaryOperator_BitAnd_BitOr ReplaceBinaryOperator_BitOr_BitAnd
    ReplaceComparisonOperator_Eq_NotEq ReplaceComparisonOperator_NotEq_Eq ReplaceComparisonOperator_Lt_LtE
    ReplaceComparisonOperator_Lt_GtE ReplaceComparisonOperator_LtE_Lt ReplaceComparisonOperator_LtE_Gt
    ReplaceComparisonOperator_Gt_GtE ReplaceComparisonOperator_Gt_LtE ReplaceComparisonOperator_GtE_Gt
    ReplaceComparisonOperator_GtE_Lt ReplaceComparisonOperator_Is_IsNot ReplaceComparisonOperator_IsNot_Is
    ReplaceUnaryOperator_USub_UAdd ReplaceUnaryOperator_Delete_Not AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue
    ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue ReplaceContinueWithBreak ExceptionReplacer NumberReplacer
    RemoveDecorator ZeroIterationForLoop""".split()
PYTEST = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


class _Chosen:
    """A pytest plugin: only some tests, in this order."""

    def __init__(self, names):
        self.order = {name: k for k, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])


class _Durations:
    """A pytest plugin: how long each test takes, and which lines it executes."""

    def __init__(self, measure):
        self.seconds, self.measure = {}, measure

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.measure.switch_context(item.nodeid)
        yield

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.outcome != "skipped":
            self.seconds[report.nodeid] = report.duration


def survey(path):
    """Run the whole suite once: {test: seconds} and {file: {line: tests}}, as JSON in `path`."""
    measure = coverage.Coverage(data_file=None, source=["minigrad"], config_file=False)
    durations = _Durations(measure)
    measure.start()
    code = pytest.main([*PYTEST, "--ignore=tests/experiments", "-k", "not impersonator", "tests", "minigrad", "README.md"],
                       plugins=[durations])
    measure.stop()
    data = measure.get_data()
    lines = {str(pathlib.Path(file).relative_to(ROOT / "minigrad")): data.contexts_by_lineno(file)
             for file in data.measured_files()}
    pathlib.Path(path).write_text(json.dumps({"seconds": durations.seconds, "lines": lines}))
    return code


def mutants(file):
    """(operator, occurrence, first changed line, diff, source) for every mutation of a file."""
    source = (ROOT / "minigrad" / file).read_text()
    for name in OPERATORS:
        occurrence = 0
        while (changed := mutate_code(source, get_operator("core/" + name)(), occurrence)) is not None:
            before, after = source.splitlines(), changed.splitlines()
            line = next((k for k, (a, b) in enumerate(zip(before, after), 1) if a != b), len(before))
            diff = [d for d in difflib.unified_diff(before, after, n=0, lineterm="") if d[:1] in "+-" and d[:3] not in ("+++", "---")]
            yield name, occurrence, line, diff, changed
            occurrence += 1


def survives(file, source, tests):
    """In a process of its own: whether the tests pass with this source in place of the file's."""
    module = "minigrad." + file.removesuffix(".py").replace("/", ".")

    class Loader(importlib.abc.InspectLoader):
        def find_spec(self, name, path=None, target=None):
            if name == module:
                spec = importlib.util.spec_from_loader(name, self, origin=str(ROOT / "minigrad" / file))
                spec.has_location = True                    # pytest compares module.__file__ with the file of a doctest
                return spec

        def get_source(self, name):
            return source
    sys.meta_path.insert(0, Loader())
    files = sorted({name.partition("::")[0] for name in tests})
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
        os._exit(int(pytest.main([*PYTEST, "-x", *files], plugins=[_Chosen(tests)])))


def tried(file, name, occurrence, line, diff, source, tests, limit):
    child = multiprocessing.get_context("fork").Process(target=survives, args=(file, source, tests))
    child.start()
    child.join(limit)
    if child.is_alive():
        child.kill()
        child.join()
    outcome = "survived" if child.exitcode == 0 else "killed"
    return dict(file=file, operator=name, occurrence=occurrence, line=line, diff=diff, outcome=outcome)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", nargs="+", default=FILES)
    parser.add_argument("--again", help="a record: try its survivors once more")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", default="mutants.jsonl")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ["COVERAGE_CORE"] = "ctrace"
    with tempfile.TemporaryDirectory() as folder:           # a process of its own: nothing of minigrad is imported here
        subprocess.run([sys.executable, "-c", f"import tests.mutation as m; raise SystemExit(m.survey({folder + '/survey'!r}))"],
                       check=True, stdout=subprocess.DEVNULL)
        found = json.loads(pathlib.Path(folder, "survey").read_text())
    seconds, work = found["seconds"], []
    again = options.again and {(m["file"], m["operator"], tuple(m["diff"])) for m in map(
        json.loads, pathlib.Path(options.again).read_text().splitlines()) if m["outcome"] != "killed"}
    for file in options.files:
        for name, occurrence, line, diff, source in mutants(file):
            if again is None or (file, name, tuple(diff)) in again:
                touching = [t for t in found["lines"][file].get(str(line), []) if t in seconds]
                tests = sorted(touching or seconds, key=seconds.get)        # a line that runs at import concerns them all
                limit = 30.0 + 10.0 * sum(seconds[t] for t in tests)
                work.append((file, name, occurrence, line, diff, source, tests, limit))
    print(len(work), "mutants")
    counts = {}
    with open(options.out, "w") as out, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda args: tried(*args), work):
            counts[result["outcome"]] = counts.get(result["outcome"], 0) + 1
            print(json.dumps(result), file=out, flush=True)
            if result["outcome"] != "killed":
                print(f"{result['outcome']}: {result['file']}:{result['line']} {result['operator']}", *result["diff"], sep="\n  ")
    print(counts)


if __name__ == "__main__":
    main()
