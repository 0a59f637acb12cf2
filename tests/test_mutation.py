"""The faults that mutation testing plants, and its comparison of survivors with the known ones."""
import ast
import json

import pytest

from . import mutation

SOURCE = '''def f(x, rate=0.5):
    """Of x."""
    if x.any() and rate > 0:
        x += g(x, 3, key=seed)
    return h(x - 1)


def g(x, y):
    raise ValueError(f"{x} is not 2")


def h(x):
    return -x
'''


def planted(source):
    """Return {(kind, the line before, the line after)}."""
    found = set()
    for kind, node, new in mutation.faults(source):
        after = mutation.replace_node(source, node, new)
        lines = [(a.strip(), b.strip()) for a, b in zip(source.splitlines(), after.splitlines()) if a != b]
        ast.parse(after)
        found.add((kind, *lines[0]))
    return found


def test_what_is_planted():
    """Faults that a person could make; none in texts, which are not behavior."""
    call, back = "x += g(x, 3, key=seed)", "return h(x - 1)"
    expected = {
        ("number", "def f(x, rate=0.5):", "def f(x, rate=(0.55)):"), ("number", call, "x += g(x, (4), key=seed)"),
        ("seed", call, "x += g(x, 3, key=0)"), ("argument left out", call, "x += (g(x, 3))"), ("argument left out", call, "x += (g(x, key=seed))"),
        ("arguments swapped", call, "x += (g(3, x, key=seed))"), ("left out", call, "pass"), ("operator", back, "return h((x + 1))"),
        ("result", back, "return (x)"), ("operator", "return -x", "return (x)"),
        ("comparison", "if x.any() and rate > 0:", "if x.any() and (rate >= 0):"), ("comparison", "if x.any() and rate > 0:", "if x.any() and (rate <= 0):"),
        ("condition", "if x.any() and rate > 0:", "if (x.any() or rate > 0):"), ("condition", "if x.any() and rate > 0:", "if (not (x.any() and rate > 0)):"),
        ("neighbor", "if x.any() and rate > 0:", "if x.all() and rate > 0:"), ("left out", 'raise ValueError(f"{x} is not 2")', "pass")}
    assert expected <= planted(SOURCE)
    assert not any("is not 3" in after or "Of" in before for _, before, after in planted(SOURCE))
    types = "@overload\ndef f(x: Literal[1], y: int = 2) -> A[3]: ...\ndef g(x: Literal[1]) -> A[3]:\n    return x\n"
    assert mutation.faults(types) == []


def test_every_file_has_its_tests_and_its_faults():
    files = mutation.chosen_files(["minigrad", "models", "experiments/methods"])
    assert "minigrad/optim.py" in files and "models/lenet.py" in files and not any(file.startswith("minigrad/fast/cuda") for file in files)
    for file in files + mutation.chosen_files(["experiments"]):
        assert all((mutation.ROOT / name).exists() for name in mutation.tests_of(file) if not name.startswith("--")), file
    found = mutation.mutants("models/mlp.py")
    assert len(found) > 10 and all({"file", "kind", "line", "before", "after", "source"} == set(each) for each in found)


def test_the_table_of_files_is_up_to_date():
    """Every source file is left out or has an entry; entries stand for existing files, none of them hidden by one before, and existing tests."""
    every = [str(path.relative_to(mutation.ROOT)) for folder in mutation.FLOORS for path in (mutation.ROOT / folder).rglob("*.py")]
    files = [file for file in every if not file.startswith(mutation.LEFT_OUT)]
    first = {file: next((prefix for prefix in mutation.TESTS if file.startswith(prefix)), None) for file in files}
    assert [file for file, prefix in first.items() if prefix is None] == []
    assert set(first.values()) == set(mutation.TESTS)
    for prefix in mutation.LEFT_OUT:
        assert any(file.startswith(prefix) for file in every), prefix
    for file in files:
        assert all((mutation.ROOT / name).exists() for name in mutation.tests_of(file) if not name.startswith("--")), file


@pytest.mark.parametrize("outcomes, before, status, says", [
    (["killed"] * 9 + ["survived"], [], 0, "models: 9 of 10 noticed, 90.0% (at least 90%)\n1 new survivors; 0 of 0"),
    (["killed"] * 8 + ["survived"] * 2, [], 1, "models: 8 of 10 noticed, 80.0%"),
    (["killed"] * 8 + ["survived"] * 2, [8, 9], 0, "0 new survivors; 0 of 2 known ones"),
    (["killed"] * 10, [3, 4], 0, "0 new survivors; 2 of 2 known ones are noticed by now")])
def test_survivors_are_compared_with_those_that_are_known(outcomes, before, status, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutation, "SURVIVORS", tmp_path / "survivors.jsonl")
    faults = [{"file": "models/a.py", "kind": "number", "before": str(k), "after": str(k + 1)} for k in range(10)]
    mutation.SURVIVORS.write_text("".join(json.dumps({**faults[k], "why": "so"}) + "\n" for k in before))
    known = mutation.known()
    results = [{**fault, "line": 1, "outcome": outcome} for fault, outcome in zip(faults, outcomes)]
    assert mutation.compare(results, known, True) == status
    assert says in capsys.readouterr().out
    assert [fault["before"] for fault in map(json.loads, mutation.SURVIVORS.read_text().splitlines())] == [
        str(k) for k, outcome in enumerate(outcomes) if outcome == "survived"]


def test_every_known_survivor_says_why():
    assert all(line["why"] and (mutation.ROOT / line["file"]).exists() for line in mutation.known().values())
