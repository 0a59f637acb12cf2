"""The results in a folder, whatever command left them there, as `report` shows them."""
import csv
import itertools
import json
from typing import Any, NamedTuple

import safetensors

from minigrad import MinigradError

from ..methods import METHODS
from ..training.folders import check_lines, parse_json, read_plan, read_record

NOT_LABELS = ("method", "seed")             # the labels that do not distinguish tasks
ROWS = 30                                   # of a table that are shown
LONG = 200                                  # characters of a value that are shown


class Result(NamedTuple):
    """A run as the folder holds it.

    Args:
        name: of its files.
        source: the name of the record if that holds several runs, else "".
        labels: method, seed, share ...
        lines: of its record, none if it has not begun, or failed before the first.
        planned: its number of steps, or None if the folder does not hold it.
        statement: how training differs from test, or None if the folder does not hold it.
        several: whether each seed has a target of its own, all in one task; None if the folder does not hold it.
    """
    name: str
    source: str
    labels: dict[str, Any]
    lines: list
    planned: int | None
    statement: str | None = None
    several: bool | None = None

    @property
    def done(self):
        """The step of the last line."""
        return self.lines[-1]["step"] if self.lines else 0

    @property
    def finished(self):
        """Whether the last line is that of the last step; a run with an unknown number of steps counts as finished."""
        return bool(self.lines) and (self.planned is None or self.done >= self.planned)

    @property
    def task(self):
        """The labels that distinguish the task from others, with the source, as a JSON text."""
        without = (*NOT_LABELS, *["target"] * (self.several is not False))
        return json.dumps([self.source, self.several, {k: v for k, v in self.labels.items() if k not in without}])


class Table(NamedTuple):
    """A table that is no record of training: the rows that are shown, and the number of all."""
    name: str
    head: list
    rows: list
    count: int


class Results(NamedTuple):
    """Everything in a folder that a report shows; problems: texts about files that cannot be read."""
    name: str
    runs: list
    settings: dict
    starts: list
    pictures: list              # paths
    tables: list
    problems: list


def read_results(folder):
    """Return the Results in a folder; raise MinigradError if it is not a folder, or holds none.

    Files that cannot be read are named in `problems`.
    """
    if not folder.is_dir():
        what = "it is not a folder" if folder.exists() else "it does not exist"
        raise MinigradError(f"{folder}: {what}\n  help: the folder of results of a command, such as runs/cifar-quick")
    problems, records = [], {}

    def attempt(read, path, default):
        try:
            return read(path)
        except (MinigradError, OSError, ValueError, csv.Error) as error:
            why = str(error).partition("\n")[0].removeprefix(f"{path}: ")
            problems.append(f"{path.name}: {why.replace(str(path), path.name)}")
            return default
    plan = attempt(lambda path: read_plan(folder), folder / "plan.json", {"starts": [], "runs": {}})
    for path in sorted(folder.glob("*.jsonl")):
        records[path] = attempt(lambda path: read_record(path, _check), path, None)
    runs, others = [], {}
    for path, lines in records.items():
        found = [] if lines is None else _results(path, lines, plan)
        if all(map(_is_training, found)):
            runs += found
        else:
            others[path] = lines
    known = {path.stem for path in records}
    runs += [_planned(name, about) for name, about in plan["runs"].items() if name not in known]
    runs = _in_order(runs, list(plan["runs"]))
    tables = [_table_of(path.name, lines) for path, lines in others.items()]
    for path in sorted({*folder.glob("*.json")} - {folder / "settings.json", folder / "plan.json"}):
        tables += attempt(_read_document, path, [])
    tables += [attempt(_read_table, path, None) for path in sorted(folder.glob("*.csv"))]
    results = Results(folder.resolve().name, runs, attempt(_read_settings, folder / "settings.json", {}),
                      plan["starts"], sorted(folder.glob("*.png")), [table for table in tables if table], problems)
    if not (results.runs or results.pictures or results.tables or problems):
        raise MinigradError(f"{folder}: there are no results, pictures or tables in it\n"
                            "  help: the folder of results of a command, such as runs/cifar-quick")
    return results


def _in_order(runs, names):
    """Return the runs by task, as the plan has them, then by method as in the table of methods, then by seed.

    names: of the runs in the plan.
    """
    def of_task(run):
        planned = names.index(run.name) if run.name in names else len(names)
        return planned, run.source, [_sortable(value) for value in run.labels.values()]

    def of_run(run):
        method = str(run.labels.get("method", ""))
        known = list(METHODS).index(method.partition("+")[0]) if method.partition("+")[0] in METHODS else len(METHODS)
        return tasks.index(run.task), known, method, _sortable(run.labels.get("seed"))
    tasks = list(dict.fromkeys(run.task for run in sorted(runs, key=of_task)))
    return sorted(runs, key=of_run)


def _sortable(value):
    """Return a key that sorts numbers before texts."""
    return (1, 0, value) if isinstance(value, str) else (0, value or 0, "")


def _is_label(value):
    return isinstance(value, (str, int, float, type(None)))


def _labels(line):
    """Return the labels of a line: the fields before "step"."""
    return dict(itertools.takewhile(lambda item: item[0] != "step", line.items()))


def _split(lines):
    """Return {labels as a JSON text: the lines of that run}."""
    found = {}
    for line in lines:
        found.setdefault(json.dumps(_labels(line)), []).append(line)
    return found


def _check(lines):
    """Raise ValueError unless these are the lines of records, one for each set of labels, or have no steps at all."""
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is not a dict")
    if not any("step" in line for line in lines):
        return
    for own in _split(lines).values():
        check_lines(own)


def _is_training(result):
    """Return whether a result has what tables and pictures need: method, seed and numbers; or no lines yet."""
    labels, lines = result.labels, result.lines
    named = isinstance(labels.get("method"), str) and isinstance(labels.get("seed"), int)
    return not lines or (named and "step" in lines[0] and all(map(_is_label, labels.values()))
                         and all(isinstance(line.get("test_error"), (int, float)) for line in lines))


def _results(path, lines, plan):
    """Return the Results of a record: one, or several if it holds the lines of several runs."""
    about, apart = plan["runs"].get(path.stem, {}), _split(lines)
    if len(apart) > 1 and not about:
        return [Result(" ".join(map(str, json.loads(labels).values())), path.stem, json.loads(labels), own, None)
                for labels, own in apart.items()]
    planned = _planned(path.stem, about)
    return [planned._replace(labels=planned.labels or (_labels(lines[0]) if lines else {}), lines=lines,
                             planned=planned.planned or _steps_of(path.with_suffix(".safetensors")))]


def _planned(name, about):
    labels, steps, statement = (about.get(key) for key in ("labels", "steps", "statement"))
    valid = isinstance(labels, dict) and all(map(_is_label, labels.values()))
    return Result(name, "", labels if valid else {}, [], steps if isinstance(steps, int) else None, statement,
                  about.get("several targets"))


def _steps_of(checkpoint):
    """Return the number of steps of the run with this checkpoint; None if there is no valid one."""
    try:
        with safetensors.safe_open(checkpoint, framework="numpy") as file:
            steps = parse_json((file.metadata() or {})["run"])["steps"]
        return steps if isinstance(steps, int) else None
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError):
        return None


def _read_settings(path):
    return _read_dict(path) if path.exists() else {}


def _read_dict(path):
    value = parse_json(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("not a dict")
    return value


def _read_document(path):
    """Return Tables of a JSON file: one of its values, one of each dict in it, whose dicts are rows."""
    parts, values = [], {}
    for name, value in _read_dict(path).items():
        if isinstance(value, dict) and all(isinstance(row, dict) for row in value.values()):
            parts.append(_table_of(f"{path.name}: {name}", [{"": key, **row} for key, row in value.items()]))
        elif isinstance(value, dict):
            parts.append(_table_of(f"{path.name}: {name}", [{"": key, "value": each} for key, each in value.items()]))
        else:
            values[name] = value
    return [*([_table_of(path.name, [{"": key, "value": value} for key, value in values.items()])] if values else []),
            *parts]


def _table_of(name, lines):
    """Return the Table of dicts."""
    head = list(dict.fromkeys(key for line in lines[:ROWS] for key in line))
    return Table(name, head, [[_brief(line.get(key, "-")) for key in head] for line in lines[:ROWS]], len(lines))


def _brief(value):
    """Return a value as a short text."""
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= LONG else f"{text[:LONG]} ..."


def _read_table(path):
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        head, *some = [list(map(_brief, row)) for row in itertools.islice(rows, 1 + ROWS)] or [[]]
        return Table(path.name, head, some, len(some) + sum(1 for _ in rows))
