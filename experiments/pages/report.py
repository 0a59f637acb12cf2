"""A folder of results as one HTML page that can be sent to somebody: it refers to no other file.

    python -m experiments report FOLDER [--out FILE]

For each task the page says how training differs from test, and shows the final results with the paper's values beside
them, and pictures; then the state of each run, the settings and the versions. It is made of the files in the folder
alone, also while runs are going on. A browser prints it as PDF.
"""
import base64
import collections
import itertools
import json
import pathlib
import shlex
import sys
import tempfile
import time

import minigrad
from minigrad import MinigradError

from .. import console
from ..training.folders import check_folder
from . import html_page
from .html_page import element, table
from .report_tasks import Draw, comparisons, describe, explain, result_table, task_pictures
from .results import ROWS, read_results

STYLE = """
h1 { margin-bottom: 0.3em } h2 { border-bottom: 1px solid #ddd; padding-bottom: 0.2em } a { color: #1f5fa0 }
h3 { margin-top: 2em } .made, .note { color: #555; font-size: 0.9em }
.scroll { overflow-x: auto; margin: 1em 0 } .scroll table { font-size: 0.88em } thead { background: #f6f6f3 }
.number { text-align: right; font-variant-numeric: tabular-nums } td.number { white-space: nowrap }
.statement { border-left: 3px solid #1f5fa0; padding-left: 1em }
.lines { white-space: pre-line }
.problems { background: #fdf3e7; border-left: 3px solid #d9730d; padding: 0.5em 1em }
@media screen and (max-width: 40em) { body { margin: 1em auto; font-size: 16px }
  h1 { font-size: 1.6em } h2 { font-size: 1.3em }
  figure { margin: 1em 0; overflow-x: auto; text-align: left } figure img { max-width: none; width: 42em }
  figcaption { position: sticky; left: 0 } .scroll table { font-size: 0.8em } td, th { padding: 0.15em 0.45em }
  nav ul, .problems ul { padding-left: 1.2em } }
@media print { @page { margin: 1.5cm } body { max-width: none; margin: 0; font-size: 10pt } nav { display: none }
  figure, tr, .statement { break-inside: avoid } h2, h3 { break-after: avoid } figure img { max-height: 18cm }
  .scroll { overflow: visible } .scroll table { font-size: 7.5pt } td, th { padding: 0.1em 0.4em } }
"""


# ---------------------------------------------------------------------------------------------- pictures

def embed(path, caption):
    """Return a PNG file as a picture that is part of the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return html_page.figure(f"data:image/png;base64,{data}", caption)


def drawn(pictures, problems):
    """Return pictures as HTML; what cannot be drawn is added to the problems.

    pictures: Draws.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for picture in pictures:
            path = pathlib.Path(folder, "picture.png")
            try:
                picture.draw(path)
                found.append(embed(path, picture.caption))
            except Exception as error:                      # of a strange record: the rest of the page is still made
                problems.append(f"not drawn: {picture.caption} {console.reason(error).splitlines()[0]}")
    return found


# ---------------------------------------------------------------------------------------------- sections

def _by_task(runs):
    """Return the runs of each task, in a list of lists."""
    found = collections.defaultdict(list)
    for run in runs:
        if run.labels:
            found[run.task].append(run)
    return list(found.values())


def _task(number, runs, problems):
    """Return the section of one task."""
    finished = [run for run in runs if run.finished]
    statement = next((run.statement for run in runs if run.statement), None)
    parts = [f'<h3 id="task-{number}">{html_page.escape(describe(runs))}</h3>']
    counts = (f"{statement[:1].upper()}{statement[1:]}." if isinstance(statement, str) else
              "The folder does not hold the numbers of examples.")
    parts.append(element("p", f"{explain(runs[0].labels)} {counts}", kind="statement"))
    if not finished:
        return [*parts, element("p", f"None of the {len(runs)} runs of this task is finished.")]
    lines = [line for run in finished for line in run.lines]
    try:
        parts += result_table(lines)
    except Exception as error:                              # of a strange record
        problems.append(f"no table: {describe(runs)}: {console.reason(error).splitlines()[0]}")
    return parts + drawn(task_pictures(lines, _note(runs)), problems)


def _note(runs):
    """Return a text for the titles of pictures: how many runs they are made of."""
    finished = sum(run.finished for run in runs)
    return f"{finished} of {len(runs)} runs" if finished < len(runs) else f"{finished} run{'s' * (finished > 1)}"


def _state(run):
    if not run.lines:
        return "nothing is recorded"
    if run.planned is None:
        return f"step {run.done}; how many were planned is not recorded"
    return "finished" if run.finished else f"step {run.done} of {run.planned} ({run.done / max(run.planned, 1):.0%})"


def _runs(runs):
    """Return the table of all runs: what distinguishes them, how far they got, and their last result."""
    keys = list(dict.fromkeys(key for run in runs for key in run.labels))
    keys = [key for key in keys if key in ("method", "seed") or len({str(run.labels.get(key)) for run in runs}) > 1]
    rows = []
    for run in runs:
        last, seconds = run.lines[-1] if run.lines else {}, [line.get("seconds") for line in run.lines]
        known = bool(seconds) and all(isinstance(each, (int, float)) for each in seconds)
        rows.append([*(run.labels.get(key, run.name if key == "method" else "-") for key in keys or ["method"]),
                     run.done, run.planned or "-", _state(run), f"{last['test_error']:.2f}" if last else "-",
                     f"{sum(seconds):.0f}" if known else "-"])
    head = [*(keys or ["method"]), "steps done", "planned", "state", "test error, %", "seconds"]
    return table(head, rows, [k for k, name in enumerate(head) if name not in ("method", "state", "data", "network",
                                                                               "bias", "task")])


def _settings(results):
    """Return the settings and the versions."""
    parts = ['<h2 id="settings">Settings</h2>']
    if results.settings:
        parts.append(table(["setting", "value"], [[name, value if isinstance(value, str) else json.dumps(value)]
                                                  for name, value in results.settings.items()]))
        if None in results.settings.values():
            parts.append(element("p", "null: the default of the mode.", kind="note"))
    else:
        parts.append(element("p", "The folder holds no settings.json."))
    parts.append('<h2 id="versions">Versions</h2>')
    if not results.starts:
        return [*parts, element("p", "The folder does not hold the versions that the results were made with; the "
                                "commands of this version save them.")]
    for versions, starts in itertools.groupby(results.starts, lambda start: start.get("versions")):
        rows = [[start.get("date", "-"), _command_line(start)] for start in starts]
        parts.append(table(["started", "command"], rows))
        if isinstance(versions, dict):
            parts.append(table(["with", "version"], versions.items()))
    return parts


def _command_line(start):
    """Return the command of a start as it may be typed again."""
    words, options = [str(start.get("command", "-"))], start.get("options")
    for option, value in options.items() if isinstance(options, dict) else ():
        words += [f"--{option}", *([] if value is True else map(str, value if isinstance(value, list) else [value]))]
    return shlex.join(words)


def _others(results, redrawn):
    """Return what else the folder holds: pictures that were not drawn anew, and tables."""
    parts, left = [], [path for path in results.pictures if not any(path.match(names) for names in redrawn)]
    if not (left or results.tables):
        return []
    for path in left:
        try:
            parts.append(embed(path, f"{path.name}, as the folder holds it"))
        except OSError as error:
            results.problems.append(f"{path.name}: {error.strerror}")
    for each in results.tables:
        parts += [element("h3", each.name), table(each.head, each.rows)]
        if each.count > ROWS:
            parts.append(element("p", f"The first {ROWS} of {each.count} rows.", kind="note"))
    return [f'<h2 id="others">{_name_others(results)} in the folder</h2>', *parts]


def _name_others(results):
    return "Other pictures and tables" if results.runs else "Pictures and tables"


# ---------------------------------------------------------------------------------------------- the page

def body(results, date):
    """Return the page of these Results as HTML. date: when it is made."""
    runs, problems, tasks = results.runs, results.problems, _by_task(results.runs)
    sections = [part for k, own in enumerate(tasks, 1) for part in _task(k, own, problems)]
    finished = [run for run in runs if run.finished]
    pictures, redrawn = comparisons(finished, results.settings, _note(runs), problems)
    together = drawn([each for each in pictures if isinstance(each, Draw)], problems)
    texts = [element("p", each, kind="lines") for each in pictures if isinstance(each, str)]
    others, unknown = _others(results, redrawn), sum(run.planned is None for run in finished)
    head = [element("h1", f"Results: {results.name}"),
            element("p", f"{len(finished)} of {len(runs)} runs are finished. " * bool(runs)
                    + f"For {unknown} of them the folder does not hold the number of steps. " * bool(unknown)
                    + f"This page was made on {date} with minigrad {minigrad.__version__}, of the files in the folder "
                    "alone.", kind="made")]
    if problems:
        head += ['<div class="problems">', element("p", "Not everything could be read or shown:"), "<ul>",
                 *(element("li", text) for text in problems), "</ul></div>"]
    contents = [f'<li><a href="#task-{k}">{html_page.escape(describe(own))}</a></li>' for k, own in enumerate(tasks, 1)]
    contents += [f'<li><a href="#{name}">{text}</a></li>' for name, text, there in (
        ("together", "All tasks together", together or texts), ("others", _name_others(results), others),
        ("runs", "Runs", runs), ("settings", "Settings", runs), ("versions", "Versions", runs)) if there]
    return "\n".join([
        *head, "<nav><ul>", *contents, "</ul></nav>",
        *(['<h2 id="tasks">Tasks</h2>'] if tasks else []), *sections,
        *(['<h2 id="together">All tasks together</h2>', *texts, *together] if together or texts else []), *others,
        *(['<h2 id="runs">Runs</h2>', _runs(runs), *_settings(results)] if runs else [])])


def main(arguments=None):
    """Write the page of a folder; return the exit status: 0, or 2 for an error."""
    console.prepare()
    p = console.Parser(prog="python -m experiments.report", description=__doc__)
    p.add_argument("folder", type=console.folder, metavar="FOLDER", help="of the results of a command")
    p.add_argument("--out", type=console.folder, metavar="FILE", help="the page, default FOLDER/report.html")
    options = p.parse_args(arguments)
    path = options.out or options.folder / "report.html"
    try:
        if options.out:
            check_folder(path.parent)
        if path.is_dir():                                   # a link to a folder would be replaced by the page
            raise MinigradError(f"{path}: it is a folder\n  help: --out {path / 'report.html'}")
        results = read_results(options.folder)
        page = body(results, time.strftime("%Y-%m-%d %H:%M"))
        print("written:", html_page.write(path, f"Results: {results.name}", page, STYLE))
        for problem in results.problems:
            print(f"left out: {problem}")
        return 0
    except (MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 2
