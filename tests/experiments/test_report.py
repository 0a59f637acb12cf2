"""The page of a folder of results: whatever commands leave there is on it, and nothing else is needed to read it."""
import base64
import collections
import html.parser
import json
import os
import pathlib
import shlex
import shutil

import matplotlib.figure
import numpy as np
import pytest

import minigrad
from experiments import COMMANDS, command_line, data, figures
from experiments.pages import contradiction, html_page, report, report_tasks, results
from experiments.paper import cifar, command, figure2, scripts
from experiments.training.folders import add_to_plan, prepare_folder, read_plan
from experiments.training.runs import Problem
from minigrad import FileError, MinigradError, nn

from .test_cifar import Here, colored
from .test_command import Linear, linear_problem

RESULTS = pathlib.Path(command_line.__file__).parent / "results"
VOID = {"meta", "img", "br"}
STARTED = {
    "imbalance": [["imbalance", "--steps", "4", "--methods", "uniform", "reweight", "fine_tune", "--shares", "0.95", "--seeds", "0", "1"]],
    "contradiction": [["contradiction", "--steps", "4", "--methods", "uniform", "hard_mining", "low_loss", "reweight", "--seeds", "0"]],
    "cifar": [["table2", "--methods", "uniform", "reweight", "uniform+ft"],
              ["figure5", "--methods", "uniform", "reweight", "--shares", "0", "0.4", "--resume"]]}


class Page(html.parser.HTMLParser):
    """A page that is checked while it is read: elements end in order, ids occur once, and it refers to itself alone."""

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.links, self.pictures, self.tables, self.words, self.items = [], [], [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open and len({*self.ids}) == len(self.ids) and {*self.links} <= {f"#{name}" for name in self.ids}
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert not {*attributes} & {"srcset", "data", "action", "onload", "style"} and tag not in ("script", "link", "iframe", "object")
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag == "img":
            kind, _, content = attributes["src"].partition(",")
            assert kind == "data:image/png;base64" and attributes["alt"]
            self.pictures.append((attributes["alt"], base64.b64decode(content, validate=True)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" in self.open:
            assert "url(" not in text and "@import" not in text
            return
        self.words.append(text)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += text

    def table(self, *head):
        """Return the rows of the only table whose head begins like this."""
        (rows,) = [rows[1:] for rows in self.tables if tuple(rows[0][:len(head)]) == head]
        return rows

    def column(self, name):
        """Return a column of the table of runs."""
        (table,) = [table for table in self.tables if "steps done" in table[0]]
        return [row[table[0].index(name)] for row in table[1:]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return {kind: folder} of folders that real commands left, of few steps."""
    folders, rng = {}, np.random.default_rng(0)
    source = colored(800, rng), colored(100, rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "cifar10", lambda: source)
        patch.setitem(cifar.MODES, "quick", cifar.Mode(4, 2, {"size": 200, "validation": 100, "tests": 50}, "exact"))
        patch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, file, **how: file.write(b"old"))
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(cifar, "problem", linear_problem)
        patch.setattr(figure2, "LENET", Problem(lambda rng, k: Linear(nn.Linear.init(rng, 784, 1))))
        cifar._source.cache_clear()
        for kind, starts in STARTED.items():
            folders[kind] = tmp_path_factory.mktemp("made") / kind
            for arguments in starts:
                assert command_line.main([*arguments, "--out", str(folders[kind])], executor=Here()) == 0
        cifar._source.cache_clear()
    return folders


@pytest.fixture
def undrawn(monkeypatch):
    """Write a few bytes in the place of each picture, which saves time."""
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, file, **how: file.write(b"new"))


@pytest.fixture
def copied(made, tmp_path):
    """Return copied(kind) -> a copy of that folder."""
    return lambda kind: pathlib.Path(shutil.copytree(made[kind], tmp_path / kind))


def page_of(folder, *arguments):
    assert command_line.main(["report", str(folder), *arguments]) == 0
    return Page(folder / "report.html")


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


# ------------------------------------------------------------------------------------------------ what commands leave

@pytest.mark.parametrize("kind", STARTED)
def test_the_page_of_what_a_command_left(copied, capsys, kind):
    folder = copied(kind)
    page, plan = page_of(folder), read_plan(folder)
    assert f"written: {folder / 'report.html'}" in capsys.readouterr().out
    assert f"Results: {kind}" in page.text and f"{len(plan['runs'])} of {len(plan['runs'])} runs are finished." in page.text
    assert {path.stem for path in folder.glob("*.jsonl")} == {*plan["runs"]} and "Not everything" not in page.text
    assert collections.Counter(page.column("method")) == collections.Counter(run["labels"]["method"] for run in plan["runs"].values())
    assert sorted(page.column("steps done"), key=int) == sorted((str(run["steps"]) for run in plan["runs"].values()), key=int)
    statements = {run["statement"] for run in plan["runs"].values()}
    assert all(statement[1:] in page.text for statement in statements) and len(statements) == page.text.count("Training: ")
    assert {name for name, _ in page.table("setting", "value")} == {*json.loads((folder / "settings.json").read_text())}
    assert [command.split()[0] for _, command in page.table("started", "command")] == [start[0] for start in STARTED[kind]]
    for _, started in page.table("started", "command"):     # it may be typed again
        name, *options = started.split()
        scripts.parse_options(COMMANDS[name].script, options)
    versions = dict(page.table("with", "version"))
    assert {*versions} == {"minigrad", "Python", "NumPy", "CuPy", "backend"} and versions["minigrad"] == minigrad.__version__
    assert versions["NumPy"].startswith(f"{np.__version__}, ") and versions["backend"] == minigrad.backend.name()
    assert page.pictures and all(content[:4] == b"\x89PNG" for alt, content in page.pictures if "as the folder holds it" not in alt)
    assert [alt for alt, content in page.pictures if content == b"old"] == []           # all of them are drawn anew


def test_final_results_stand_beside_those_of_the_paper(copied, undrawn):
    folder = copied("cifar")
    page = page_of(folder)
    error = json.loads((folder / "cifar10-resnet-8-1-2-background-0.4-100-3-reweight-0.jsonl").read_text().splitlines()[-1])["test_error"]
    tables = [table for table in page.tables if table[0] == ["method", "test accuracy, %: ours", "the paper"]]
    rows = [{row[0]: row[1:] for row in table} for table in tables]
    assert rows[0]["reweight (Ours)"] == [f"{100 - error:.1f} (1)", "86.73 ± 0.48"] and rows[0]["oracle (Weighted)"] == ["-", "79.17 ± 1.36"]
    assert rows[1]["uniform (Baseline)"][1] == "92.5" and len(rows) == 2                # Figure 5 at 0 %
    assert [command for _, command in page.table("started")] == [
        "table2 --mode quick --data cifar10 --methods uniform reweight uniform+ft",
        "figure5 --mode quick --data cifar10 --shares 0.0 0.4 --methods uniform reweight --resume"]
    alts = [alt for alt, _ in page.pictures]
    assert "null: the default of the mode." in page.text
    assert len([alt for alt in alts if "against the share of flipped labels" in alt]) == 1 and len(alts) == 4


def test_the_seeds_of_a_table_are_those_of_its_command():
    """Table 2 has a background class for each seed, and they are one task; figures have one for all, which is another."""
    runs = {name: {run.name: run for run in COMMANDS[name].script.plan(
        scripts.parse_options(COMMANDS[name].script, ["--mode", "paper"]))[1]} for name in ("table2", "figure7")}
    for order in (["table2", "figure7"], ["figure7", "table2"]):
        plan = {}
        for name in order:
            plan |= command._describe_runs(COMMANDS[name].script, runs[name].values(), collections.defaultdict(str))
        tasks = collections.defaultdict(set)
        for name, about in plan.items():
            tasks[results._planned(name, about).task].add(name)
        assert [{*own} for own in tasks.values()] == [{*runs[name]} for name in order]


def test_figures_4_and_5_have_their_own_values_of_the_paper(monkeypatch):
    drawn, lines = [], []
    monkeypatch.setattr(figures, "accuracy_against", lambda lines, along, theirs, path, caption, words: drawn.append((along, theirs, words)))
    for share, clean in ((0.2, 100), (0.4, 100), (0.4, 15)):
        lines.append({"data": "cifar10", "network": "n", "bias": "background", "share": share, "clean": clean})
    for each in report_tasks._on_cifar(lines, {}, ""):
        each.draw("a.png")
    assert drawn == [("share", {"cifar10": figures.paper.FIGURE_5["cifar10"]}, "share of flipped labels"), ("clean", {"cifar10": figures.paper.FIGURE_4["cifar10"]}, "number of clean images")]


def test_the_table_of_runs_has_what_distinguishes_them(copied, undrawn):
    folder = copied("cifar")
    assert [table[0] for table in page_of(folder).tables if "steps done" in table[0]] == [
        ["share", "method", "seed", "steps done", "planned", "state", "test error, %", "seconds"]]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert '<th class="number">steps done</th>' in text and "<th>state</th>" in text and '<th class="number">the paper</th>' in text


def test_errors_are_those_of_figure_2(copied, undrawn):
    folder = copied("imbalance")
    errors = [json.loads((folder / f"reweight-0.95-{seed}.jsonl").read_text().splitlines()[-1])["test_error"] for seed in (0, 1)]
    ours = f"{np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f} (2)"
    rows = page_of(folder).table("method", "test error, %: ours", "the paper")
    assert [row for row in rows if row[0] == "reweight (Ours)"] == [["reweight (Ours)", ours, "1.44 ± 0.58"]]
    assert [row[0] for row in rows] == ["uniform (Baseline)", "reweight (Ours)", "fine_tune"]      # as in the table of methods


def test_the_claims_of_the_contradiction_are_on_its_page(copied, undrawn):
    page = page_of(copied("contradiction"))
    assert page.text.count("in these runs") == 4 and "Fours and nines; in training 90% nines, 40% of the fours labeled 9;" in page.text
    assert [word for word in page.words if word.startswith('Task "')][:3] == [f'Task "{name}"' for name in contradiction.TASKS]


# ------------------------------------------------------------------------------------------------ parts of a folder

def test_runs_that_are_not_finished_are_listed_alone(copied, undrawn):
    folder = copied("imbalance")
    record = folder / "uniform-0.95-0.jsonl"
    shutil.copy(record, folder / "other.jsonl")
    record.write_text(record.read_text().splitlines(keepends=True)[0].replace('"step": 4', '"step": 2') + '{"torn')
    (folder / "other.jsonl").unlink(), (folder / "uniform-0.95-1.jsonl").unlink(), (folder / "fine_tune-0.95-1.jsonl").write_text("")
    with prepare_folder(folder, json.loads((folder / "settings.json").read_text()), True, 1):    # another process writes there
        page = page_of(folder)
    assert "3 of 6 runs are finished" in page.text and collections.Counter(page.column("state")) == {
        "finished": 3, "step 2 of 4 (50%)": 1, "nothing is recorded": 2}
    rows = page.table("method", "test error, %: ours")
    assert [row[0] for row in rows] == ["reweight (Ours)", "fine_tune"] and rows[1][1].endswith("(1)")


def test_a_folder_without_a_plan_has_a_page(copied, undrawn):
    """The number of steps is then that of the checkpoint."""
    folder = copied("imbalance")
    (folder / "plan.json").unlink(), (folder / "uniform-0.95-0.safetensors").unlink()
    (folder / "reweight-0.95-0.safetensors").write_bytes(b"damaged")
    page = page_of(folder)
    assert "In training 95 % of the examples are of one class" in page.text and "does not hold the numbers of examples" in page.text
    assert sorted(page.column("planned")) == ["-", "-", "1", "1", "4", "4"] and "does not hold the versions" in page.text
    assert page.column("state").count("step 4; how many were planned is not recorded") == 2
    assert "6 of 6 runs are finished. For 2 of them the folder does not hold the number of steps." in page.text


def test_what_is_damaged_is_named_and_the_rest_is_shown(copied, undrawn, capsys):
    folder = copied("imbalance")
    (folder / "uniform-0.95-0.jsonl").write_text("no JSON\n")
    write_lines(folder / "reweight-0.95-0.jsonl", {"method": "reweight", "share": 0.95, "seed": 0, "step": 2, "test_error": 1.0},
                {"method": "reweight", "share": 0.95, "seed": 0, "step": 1, "test_error": 1.0})
    (folder / "settings.json").write_text("[]")
    (folder / "plan.json").write_text('{"starts": [], "runs": {"a": 1}}')
    page, out = page_of(folder), capsys.readouterr().out
    for name in ("uniform-0.95-0.jsonl", "reweight-0.95-0.jsonl", "settings.json", "plan.json"):
        assert f"{name}: " in page.text and f"left out: {name}: " in out
    assert "4 of 4 runs are finished" in page.text and str(folder) not in page.text


@pytest.mark.parametrize("strange", [{"share": "much"}, {"share": None}, {"seed": "x"}, {"test_error": None}, {"test_error": float("nan")},
                                     {"method": "$\\x$"}, {"task": "unknown"}, {"bias": "b", "clean": [1], "data": "d"}, {"bias": "b", "clean": 1, "data": "d", "network": 1},
                                     {"bias": "b", "clean": 1, "data": "d"}, {"test_error": True}, {"step": 4, "noisy_weight": "x"}])
def test_a_strange_record_stops_no_page(copied, request, strange):
    if "method" not in strange:                             # matplotlib refuses this one where the picture is written
        request.getfixturevalue("undrawn")
    folder = copied("imbalance")
    line = {"method": "odd", "share": 0.95, "seed": 0} | {key: value for key, value in strange.items() if key != "test_error"}
    write_lines(folder / "odd.jsonl", {**line, "step": 4, "test_error": 1.0, "train_error": 2.0} | strange)
    page = page_of(folder)
    assert str(line["method"]) in page.text and "reweight (Ours)" in page.text and "Traceback" not in page.text


def test_texts_of_records_are_text(tmp_path, undrawn):
    evil = "<script>alert('1')</script>&\"\x00\ud800"
    folder = tmp_path / "a<b>&c"
    folder.mkdir()
    write_lines(folder / "x.jsonl", {"method": evil, evil: evil, "share": 0.9, "seed": 0, "step": 1, "test_error": 3.0})
    write_lines(folder / "y.jsonl", {"own": evil, "step": 1})
    (folder / "settings.json").write_text(json.dumps({evil: {"a": evil}}))
    (folder / "table.csv").write_text("<b>,c\n<i>,&amp;\n")
    (folder / "plan.json").write_text(json.dumps({"starts": [{"command": evil, "options": {evil: evil}, "versions": {evil: evil}}], "runs": {
        "z": {"labels": {"method": evil, "seed": 1}, "statement": evil, "steps": 2}}}))
    page = page_of(folder)
    assert page.text.count("<script>alert('1')</script>&\"\ufffd\ufffd") >= 8 and "Results: a<b>&c" in page.text
    assert page.table("<b>", "c") == [["<i>", "&amp;"]]


def test_pictures_and_tables_without_records(tmp_path):
    (tmp_path / "own.png").write_bytes(b"\x89PNG own")
    (tmp_path / "long.csv").write_text("a,b\n" + "1,2\n" * 100)
    (tmp_path / "short.csv").write_bytes(b"c\xff\n")
    page = page_of(tmp_path)
    assert page.pictures == [("own.png, as the folder holds it", b"\x89PNG own")]
    assert page.table("a", "b") == [["1", "2"]] * results.ROWS and "The first 30 of 100 rows." in page.text and ["c\ufffd"] in page.tables[1]
    assert page.ids == ["others"] and "Other" not in page.text and "0 of 0 runs" not in page.text and "Settings" not in page.text


def test_documents_and_lines_without_steps_are_tables(tmp_path):
    """As the commands own, tables and benchmark leave them."""
    write_lines(tmp_path / "tables.jsonl", *({"table": "wine", "score": k / 7, "old": 1} for k in range(39)), {"table": "digits", "more": [2]})
    (tmp_path / "results.json").write_text(json.dumps({"tested on": 7, "scores": {"plain": {"accuracy": 1 / 3, "auc": None}, "ours": {"accuracy": 2, "n": 3}},
                                                       "settings": {"rate": 0.001, "seeds": [0, 1], "text": "x" * 300}}))
    (tmp_path / "list.json").write_text("[1]")
    page = page_of(tmp_path)
    assert page.table("table", "score", "old")[1] == ["wine", "0.142857", "1"] and "The first 30 of 40 rows." in page.text
    assert page.table("", "accuracy", "auc", "n") == [["plain", "0.333333", "null", "-"], ["ours", "2", "-", "3"]]
    assert ["tested on", "7"] in page.tables[1] and page.tables[3][1:] == [["rate", "0.001"], ["seeds", "[0, 1]"], ["text", f"{'x' * 200} ..."]]
    assert [word for word in page.words if ".json" in word] == ["list.json: not a dict", "tables.jsonl", "results.json", "results.json: scores", "results.json: settings"]


def test_labels_of_a_file_are_no_flips(tmp_path, undrawn):
    labels = {"data": "cifar10", "network": "resnet-32", "bias": "worse_label", "share": 0.4021, "clean": 100, "method": "uniform", "seed": 0}
    write_lines(tmp_path / "x.jsonl", {**labels, "step": 1, "test_error": 1.0})
    page = page_of(tmp_path)
    assert "CIFAR-10: 40.21 % wrong labels, worse_label, 100 clean images, resnet-32" in page.text
    assert "In training 40.21 % of the labels are wrong; 100 clean images and the test images have right labels." in page.text


@pytest.mark.parametrize("mode, source, paper", [("quick", "mnist", False), ("night", "mnist", True), ("paper", "mnist", True), ("paper", "sample", False)])
def test_every_number_of_the_page_is_that_of_the_records(tmp_path, undrawn, monkeypatch, mode, source, paper):
    """Of each run the last line and the sum of the seconds; tables and pictures have the finished runs alone, as the plan says."""
    told, plan, errors = [], {}, {0: (30.0, 10.0), 1: (40.0, 14.0), 2: (50.0, 60.0)}
    monkeypatch.setattr(figures, "error_against_share", lambda lines, path, caption, paper: told.append((lines, paper)) or path.write_bytes(b"new"))
    for seed, own in errors.items():
        labels = {"method": "uniform", "share": 0.95, "seed": seed}
        write_lines(tmp_path / f"u-{seed}.jsonl", *({**labels, "step": 2 * k, "test_error": error, "seconds": 3.0 * k} for k, error in enumerate(own, 1)))
        plan[f"u-{seed}"] = {"labels": labels, "steps": 8 if seed == 2 else 4}
    cifar_run = {"data": "cifar10", "network": "n", "bias": "background", "share": 0.4, "clean": 100, "method": "uniform", "seed": 0, "step": 1, "test_error": 5.0}
    write_lines(tmp_path / "c.jsonl", cifar_run)
    (tmp_path / "settings.json").write_text(json.dumps({"mode": mode, "data": source}))
    (tmp_path / "error.png").write_bytes(b"old"), (tmp_path / "table2-cifar10.png").write_bytes(b"old")
    add_to_plan(tmp_path, [], plan)
    page = page_of(tmp_path)
    assert {tuple(row) for row in zip(*map(page.column, ("seed", "test error, %", "seconds", "state"))) if "8" in row[3] or row[2] != "-"} == {
        ("0", "10.00", "9", "finished"), ("1", "14.00", "9", "finished"), ("2", "60.00", "9", "step 4 of 8 (50%)")}
    assert ["uniform (Baseline)", figures.common.spread_text([10.0, 14.0]), "2.86 ± 0.30"] in [row for table in page.tables for row in table]
    ((lines, drawn_paper),) = told
    assert {line["seed"] for line in lines} == {0, 1} and drawn_paper == paper
    assert not any("as the folder holds it" in alt for alt, _ in page.pictures)


@pytest.mark.parametrize("bias, share, there", [("background", 0.4, True), ("background", 0.3, True), ("background", 0.33, False), ("uniform", 0.4, True),
                                                ("uniform", 0.3, False), ("labels-worse", 0.4, False)])
def test_captions_name_the_papers_values_where_they_are_drawn(tmp_path, monkeypatch, drawn, bias, share, there):
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, path, **how: None)
    lines = [{"data": "cifar10", "network": "n", "bias": bias, "share": share, "clean": clean, "method": method, "seed": 0, "step": 1, "test_error": 9.0}
             for clean in (100, 1000) for method in ("uniform", "uniform+ft", "random", "reweight")]
    one = [line for line in lines if line["clean"] == (1000 if bias == "uniform" else 100)]
    pictures = [*report_tasks.task_pictures(one, ""), *report_tasks._on_cifar(lines, {}, "")]
    assert len(pictures) == 2
    for picture, theirs in zip(pictures, (there, (bias, share) == ("background", 0.4))):
        picture.draw(tmp_path / "a.png")
        hollow = any(line.get_markerfacecolor() == "none" for axes in drawn[-1].axes for line in axes.get_lines())
        assert hollow == theirs == picture.caption.endswith("; hollow: the paper's values.")
        assert ("flips" in picture.caption + drawn[-1].get_suptitle()) == (bias in report_tasks.FLIPS and picture is pictures[1])


def test_a_record_of_several_runs(tmp_path, undrawn):
    shutil.copy(RESULTS / "imbalance-paper.jsonl", tmp_path)
    labels = {(line["method"], line["share"], line["seed"]) for line in map(json.loads, (RESULTS / "imbalance-paper.jsonl").read_text().splitlines())}
    page = page_of(tmp_path)
    assert len(page.column("method")) == len(labels) and {*page.column("method")} == {method for method, *_ in labels}
    assert "imbalance-paper: Class imbalance: 99 % of the training examples are of one class" in page.text


def test_tasks_differ_by_labels_other_than_method_seed_and_target(tmp_path, undrawn):
    """In paper mode each seed has its own background."""
    for seed, target, clean in ((0, 0, 100), (1, 3, 100), (2, 5, 1000)):
        line = {"data": "cifar10", "network": "resnet-32", "bias": "background", "share": 0.4, "clean": clean, "target": target}
        write_lines(tmp_path / f"{seed}.jsonl", {**line, "method": "reweight", "seed": seed, "step": 10, "test_error": 20.0 + seed, "train_error": 1.0})
    page = page_of(tmp_path)
    assert page.ids[:3] == ["tasks", "task-1", "task-2"]
    assert "CIFAR-10: 40 % background flips to class 0, 3, 100 clean images, resnet-32" in page.text
    assert [row for table in page.tables for row in table if row[0] == "reweight (Ours)"] == [
        ["reweight (Ours)", "79.5 ± 6.4 (2)", "86.73 ± 0.48"], ["reweight (Ours)", "78.0 (1)", "86.9"]]


def test_every_finished_run_counts_in_the_table_of_its_task(tmp_path, undrawn):
    """Also runs of one seed with two backgrounds, which are of one task."""
    labels = {"data": "cifar10", "network": "resnet-8", "bias": "background", "share": 0.4, "clean": 100}
    for k, (target, seed) in enumerate(((3, 0), (5, 0), (5, 1), (None, 0))):
        line = {**labels, **({} if target is None else {"target": target}), "method": "reweight", "seed": seed, "step": 1, "test_error": 10.0 + k}
        write_lines(tmp_path / f"{k}.jsonl", line)
    page = page_of(tmp_path)
    assert [row[1] for table in page.tables for row in table if row[0] == "reweight (Ours)"] == [figures.common.interval_text([90.0, 89.0, 88.0, 87.0])]
    assert sorted(page.column("test error, %")) == ["10.00", "11.00", "12.00", "13.00"]


# ------------------------------------------------------------------------------------------------ the command

def test_the_command_of_a_start_may_be_typed_again():
    start = {"command": "table1", "options": {"labels": "my labels.pt:a b", "seeds": [0, 1], "quiet": True, "rate": 0.1}}
    assert shlex.split(report._command_line(start)) == ["table1", "--labels", "my labels.pt:a b", "--seeds", "0", "1", "--quiet", "--rate", "0.1"]


@pytest.mark.parametrize("make, says", [(lambda path: None, "it does not exist"), (lambda path: path.write_text(""), "it is not a folder"),
                                        (lambda path: path.mkdir(), "there are no results, pictures or tables in it")])
def test_what_has_no_page_is_refused(tmp_path, capsys, make, says):
    make(tmp_path / "x")
    assert report.main([str(tmp_path / "x")]) == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path / 'x'}: {says}\n  help: the folder of results of a command, such as runs/cifar-quick\n")


def test_the_page_goes_where_it_should_and_appears_whole(copied, undrawn, monkeypatch, tmp_path, capsys):
    folder = copied("imbalance")
    assert command_line.main(["report", str(folder), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert Page(tmp_path / "new" / "page.html").text and not (folder / "report.html").exists()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for name in ("new", "link"):
        assert command_line.main(["report", str(folder), "--out", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: it is a folder\n  help: --out {tmp_path / name / 'report.html'}\n" in capsys.readouterr().err
    assert (tmp_path / "link").is_symlink()
    before = (tmp_path / "new" / "page.html").read_bytes()

    def fail(*paths):
        raise OSError("came to grief")
    monkeypatch.setattr(os, "replace", fail)
    assert command_line.main(["report", str(folder), "--out", str(tmp_path / "new" / "page.html")]) == 2
    assert "page.html: the file cannot be written" in capsys.readouterr().err
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [before]


def test_a_folder_follows_the_command(capsys):
    assert COMMANDS["report"].operand == "FOLDER" and not any(entry.operand for name, entry in COMMANDS.items() if name != "report")
    with pytest.raises(SystemExit) as end:
        command_line.main(["report"])
    assert end.value.code == 2 and "required: FOLDER" in capsys.readouterr().err
    assert command_line.main(["table2", "report"]) == 2 and "report trains no runs" in capsys.readouterr().err
    assert command_line.main(["report", "a", "b", "--out", "c"]) == 2
    assert capsys.readouterr().err == "error: report takes one FOLDER, and b is another\n  help: python -m experiments report FOLDER\n"


def test_a_changed_pictures_caption_names_the_missing_runs():
    run = results.Result("a", "", {"method": "m", "seed": 0}, [{"step": 4, "test_error": 1.0}], 4)
    assert report._note([run]) == "1 run" and report._note([run, run]) == "2 runs" and report._note([run, run._replace(planned=5)]) == "1 of 2 runs"


# ------------------------------------------------------------------------------------------------ what it is made of

def test_the_plan_grows_with_each_start(tmp_path):
    assert read_plan(tmp_path) == {"starts": [], "runs": {}}
    add_to_plan(tmp_path, [{"command": "a"}], {"x": {"steps": 1}})
    add_to_plan(tmp_path, [{"command": "b"}], {"y": {"steps": 1}})              # the first start left no results
    assert read_plan(tmp_path) == {"starts": [{"command": "b"}], "runs": {"y": {"steps": 1}}}
    (tmp_path / "y.jsonl").write_text("{}\n")
    add_to_plan(tmp_path, [{"command": "c"}], {"y": {"steps": 2}, "z": {"steps": 3}})
    assert read_plan(tmp_path) == {"starts": [{"command": "b"}, {"command": "c"}], "runs": {"y": {"steps": 2}, "z": {"steps": 3}}}
    for damage in ("", "[]", "{}", '{"starts": {}, "runs": {}}', '{"starts": [], "runs": []}', '{"starts": [1], "runs": {}}', '{"starts": [], "runs": {"a": 1}}'):
        (tmp_path / "plan.json").write_text(damage)
        with pytest.raises(FileError, match=r"plan.json: not a plan of runs \(.*\)\n  help: delete it; --resume writes it again"):
            read_plan(tmp_path)
    add_to_plan(tmp_path, [{"command": "d"}], {})
    assert read_plan(tmp_path) == {"starts": [{"command": "d"}], "runs": {}}


def test_the_plan_has_the_runs_that_others_start_from(made):
    runs = read_plan(made["imbalance"])["runs"]
    assert runs["fine_tune-0.95-1"]["steps"] == 1 and runs["uniform-0.95-1"] == {
        "labels": {"method": "uniform", "share": 0.95, "seed": 1}, "steps": 4, "several targets": False,
        "statement": runs["fine_tune-0.95-1"]["statement"]}
    script = COMMANDS["imbalance"].script
    _, planned = script.plan(scripts.parse_options(script, ["--methods", "fine_tune", "--shares", "0.95", "--seeds", "0"]))
    assert [*command._describe_runs(script, planned, {"share 0.95": "s"})] == ["fine_tune-0.95-0", "uniform-0.95-0"]


@pytest.mark.parametrize("task, method, value", [
    (("cifar10", "uniform", 0.4, 1000), "mentornet_quoted", (76.6, None)), (("cifar100", "uniform", 0.4, 1000), "reweight", (61.34, 2.06)),
    (("cifar10", "background", 0.4, 100), "reweight", (86.73, 0.48)), (("cifar100", "background", 0.4, 1000), "reweight", (59.30, 0.60)),
    (("cifar10", "background", 0.2, 100), "uniform", (78.03, None)), (("cifar100", "background", 0.5, 1000), "uniform", (28.86, None)),
    (("cifar10", "background", 0.4, 15), "reweight", (84.40, None)), (("cifar10", "background", 0.4, 1000), "uniform+ft", (84.37, None)),
    (("cifar10", "background", 0.4, 16), None, None), (("cifar100", "background", 0.4, 15), None, None), (("cifar10", "background", 0.2, 15), None, None),
    (("cifar10", "uniform", 0.2, 1000), None, None), (("cifar10", "uniform", 0.4, 100), None, None), (("svhn", "background", 0.4, 100), None, None),
    (("svhn", "uniform", 0.4, 1000), None, None), (("cifar10", "uniform", 0.4, cifar.MODES["quick"].clean), "reweight", (86.92, 0.19))])
def test_the_papers_values_of_a_task(task, method, value):
    found = figures.paper.accuracies(*task)
    assert found.get(method) == value and bool(found) == (method is not None)


def test_rows_of_accuracies():
    lines = [{"method": "reweight", "seed": 0, "step": 1, "test_error": 12.34}]
    rows = figures.accuracy_rows(lines, {"mentornet_quoted": (76.6, None), "uniform": (92.55, None)})
    assert rows == [("mentornet_quoted (MentorNet)", "-", "76.6 (quoted)"), ("uniform (Baseline)", "-", "92.5"), ("reweight (Ours)", "87.7 (1)", "-")]


def test_kinds_of_records():
    assert [report_tasks.kind(labels) for labels in ({"task": 1, "share": 1}, {"data": 1, "network": 1, "bias": 1, "share": 1, "clean": 1}, {"share": 1}, {"method": 1})] == [
        "contradiction", "cifar", "imbalance", "other"]
    runs = [results.Result("a", "", {"method": "m", "seed": 0, "rows": 7}, [], None), results.Result("a", "s", {"method": "m", "seed": 0}, [], None)]
    assert [report_tasks.describe([run]) for run in runs] == ["rows 7", "s: One task"] and report_tasks.explain(runs[0].labels) == ""


def test_parts_of_a_page(tmp_path):
    assert html_page.element("p", "a < b", kind="note") == '<p class="note">a &lt; b</p>'
    assert html_page.table(["a", "b"], [[1, "<"]], (1,)) == (
        '<div class="scroll"><table><thead><tr><th>a</th><th class="number">b</th></tr></thead>\n<tbody>\n<tr><td>1</td>'
        '<td class="number">&lt;</td></tr>\n</tbody></table></div>')
    assert html_page.figure("a.png", '"x"') == '<figure><img src="a.png" alt="&quot;x&quot;"><figcaption>&quot;x&quot;</figcaption></figure>'
    text = html_page.write(tmp_path / "p.html", "a & b", "<p>±</p>", "p { color: red }").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "<title>a &amp; b</title>" in text and "p { color: red }</style>" in text and "<p>±</p>" in text
    with pytest.raises(MinigradError):
        html_page.write(tmp_path / "none" / "p.html", "", "")


def test_each_share_has_a_picture_of_its_own(tmp_path, undrawn, monkeypatch):
    told = []
    monkeypatch.setattr(figures, "all_methods", lambda lines, path, caption, share, paper: told.append(share) or path.write_bytes(b"new"))
    shutil.copy(RESULTS / "imbalance-paper.jsonl", tmp_path)
    page = page_of(tmp_path)
    captions = [alt for alt, _ in page.pictures if alt.startswith("Test error of every method")]
    assert told == [0.9, 0.95, 0.98, 0.99, 0.995] and captions == [f"Test error of every method where {100 * share:g} % of the examples are of one class." for share in told]


@pytest.mark.parametrize("name, called", [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"), ("svhn", "svhn")])
@pytest.mark.parametrize("bias, how", [("background", "flipped to one class, the background"), ("uniform", "flipped to random classes"), ("labels-worse", "wrong")])
def test_a_task_is_told_in_words(name, called, bias, how):
    labels = {"data": name, "network": "resnet-8", "bias": bias, "share": 0.4, "clean": 100, "method": "uniform", "seed": 0}
    assert report_tasks.describe([results.Result("a", "", labels, [], None)]).startswith(f"{called}: 40 % ")
    assert report_tasks.explain(labels) == f"In training 40 % of the labels are {how}; 100 clean images and the test images have right labels."


@pytest.mark.parametrize("more", [0, 1])
def test_only_a_table_that_is_cut_off_says_so(tmp_path, more):
    (tmp_path / "a.csv").write_text("a\n" + "1\n" * (results.ROWS + more))
    page = page_of(tmp_path)
    assert len(page.table("a")) == results.ROWS and ("The first 30 of 31 rows." in page.text) == bool(more) == ("The first" in page.text)


@pytest.mark.parametrize("more", [0, 1])
def test_only_a_value_that_is_cut_off_has_dots(more):
    text = "x" * (results.LONG + more)
    assert results._brief(text) == "x" * results.LONG + " ..." * more


def test_runs_are_in_the_order_of_their_numbers(tmp_path, undrawn):
    """Of shares and of seeds: 2 comes before 10, whatever the files are called."""
    for share in (0.99, 0.9):
        for seed in (10, 2, 1):
            write_lines(tmp_path / f"{share}-{seed}.jsonl", {"method": "uniform", "share": share, "seed": seed, "step": 1, "test_error": 3.0})
    page = page_of(tmp_path)
    assert [*zip(page.column("share"), page.column("seed"))] == [(share, seed) for share in ("0.9", "0.99") for seed in ("1", "2", "10")]


def test_methods_of_others_come_after_those_of_the_table(tmp_path, undrawn):
    for name in ("zzz", "adaboost", "a_new_one", "uniform", "reweight+ft", "reweight"):
        write_lines(tmp_path / f"{name}.jsonl", {"method": name, "share": 0.9, "seed": 0, "step": 1, "test_error": 3.0})
    assert page_of(tmp_path).column("method") == ["uniform", "reweight", "reweight+ft", "adaboost", "a_new_one", "zzz"]


@pytest.mark.parametrize("biased", [9.0, None])
def test_a_star_on_the_page_is_explained(tmp_path, undrawn, biased):
    labels = {"data": "cifar10", "network": "n", "bias": "background", "share": 0.4, "clean": 100, "method": "uniform", "seed": 0}
    write_lines(tmp_path / "a.jsonl", {**labels, "step": 1, "test_error": 9.0, "validation_error": 8.0, "validation_error_biased": biased})
    page = page_of(tmp_path)
    assert ("stopped by validation *" in page.text) == ("*: at the step with the fewest errors on the validation set" in page.text) == (biased is not None)


def test_what_cannot_be_drawn_is_told_in_one_line():
    def fail(path):
        raise MinigradError("it went wrong\n  help: do something else")
    problems = []
    assert report.drawn([report_tasks.Draw(fail, "A picture.")], problems) == [] and problems == ["not drawn: A picture. it went wrong"]


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").write_bytes(b"\x89PNG own")
    page = page_of(tmp_path)
    assert [alt for alt, _ in page.pictures] == ["b.png, as the folder holds it"] and "a.png: Is a directory" in page.text


def test_characters_that_html_forbids_are_replaced():
    """Of those below 32 it has tab and the ends of lines."""
    for code in (*range(32), 127, 0xD800, 0xDFFF):
        assert html_page.escape(f"a{chr(code)}b") == ("a%sb" % (chr(code) if code in (9, 10, 13) else "\ufffd"))
    assert html_page.escape("~ é \ud7ff\ue000") == "~ é \ud7ff\ue000"


def test_a_run_of_which_nothing_is_known_is_of_no_task(tmp_path):
    """Its record is empty, and there is no plan."""
    (tmp_path / "x.jsonl").write_text("")
    page = page_of(tmp_path)
    assert page.column("state") == ["nothing is recorded"] and page.column("method") == ["x"] and "0 of 1 runs are finished." in page.text
    assert not any(name.startswith("task") for name in page.ids) and "Not everything" not in page.text


def test_a_folder_of_damaged_files_alone_has_a_page_that_names_them(tmp_path):
    (tmp_path / "x.jsonl").write_text("no JSON\n")
    assert "Not everything could be read or shown: x.jsonl: not a record of a run" in page_of(tmp_path).text


def test_the_backgrounds_of_a_task_are_in_order():
    runs = [results.Result(str(target), "", {"data": "cifar10", "network": "n", "bias": "background", "share": 0.4, "clean": 100, "target": target}, [], None)
            for target in (7, 12, 1, 5, 0, 3, 1)]
    assert " background flips to class 0, 1, 3, 5, 7, 12, 100 clean images" in report_tasks.describe(runs)
