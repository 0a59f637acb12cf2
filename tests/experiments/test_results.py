"""The numbers in the tables of the pages are those of the records beside them, and of the paper's values."""
import fnmatch
import json
import pathlib
import re

import pytest

from experiments.figures import paper
from experiments.figures.common import interval, spread, spread_text
from experiments.figures.imbalance import final_errors
from experiments.figures.tables import scores

ROOM = pathlib.Path(__file__).parents[2] / "experiments"
RESULTS = ROOM / "results"
PAGE, FRONT = (RESULTS / "README.md").read_text(), (ROOM / "README.md").read_text()


def lines(name):
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def record(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows(text, corner):
    """Return the rows of the table whose first cell, at the top on the left, begins with `corner`: lists of cells, the head first."""
    table = re.search(rf"^\| {re.escape(corner)}.*?(?=\n\n|\Z)", text, re.M | re.S)[0].splitlines()
    cells = [[cell.strip().replace("**", "").replace(r"\*", "*") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    return [cells[0], *cells[2:]]


def test_every_file_is_in_one_row():
    """Of the table that says how it was made; * stands for any part of a name, and a name after a comma begins as the one before."""
    patterns = []
    for cells in rows(PAGE, "file |")[1:]:
        for name in re.findall(r"`([^`]+)`", cells[0].partition(" and ")[0]):
            patterns.append(patterns[-1].rpartition(".")[0] + name if name.startswith(".") else name)
    names = [path.name for path in RESULTS.iterdir() if path.name != "README.md"]
    assert {name: sum(fnmatch.fnmatch(name, each) for each in patterns) for name in names} == dict.fromkeys(names, 1)
    assert all(fnmatch.filter(names, each) for each in patterns)


def test_figure_2():
    (_, *head), *found = rows(FRONT, "method |")
    errors, shares = final_errors(lines("imbalance-paper")), [float(re.sub(r"majority (.*) %", r"\1", cell)) / 100 for cell in head[::2]]
    assert {method for method, *_ in found} == {*paper.FIGURE_2} and len(shares) == 5
    for method, *cells in found:
        assert cells[::2] == [spread_text(errors[method][share]) for share in shares]
        assert cells[1::2] == ["{:.1f} ± {:.1f}".format(*paper.FIGURE_2[method][share]) for share in shares]


def accuracies(**settings):
    """Return the test accuracy of each seed, and the agreement with the given labels, at the end of training on CIFAR-10."""
    settings = {"bias": "background", "share": 0.4, "clean": 100, **settings}
    chosen = [line for line in lines("cifar-quick") if settings.items() <= line.items()]
    return [100 - line["test_error"] for line in chosen], [100 - line["train_error"] for line in chosen]


TASKS = {"40 % flipped to cat, 100 clean": {}, "the same with 15": {"clean": 15}, "with 500": {"clean": 500}, "20 % flipped": {"share": 0.2},
         "none flipped": {"share": 0.0}, "40 % uniform flips, 250": {"bias": "uniform", "clean": 250}}


def means(method, **settings):
    own, _ = accuracies(method=method, **settings)
    assert len(own) == 3
    return spread(own)[0]


def test_three_seeds_of_cifar():
    (_, *methods), *found = rows(PAGE, "test accuracy, %: mean (seeds 0, 1, 2)")
    assert methods == ["uniform", "uniform+ft", "reweight"] and len(found) == len(TASKS)
    for (start, settings), (name, *cells) in zip(TASKS.items(), found):
        assert name.startswith(start)
        for method, cell in zip(methods, cells, strict=True):
            own, _ = accuracies(method=method, **settings)
            assert cell == f"{means(method, **settings):.1f} ({', '.join(f'{value:.1f}' for value in own)})"
    for method in methods:
        assert "{:.1f} ± {:.1f} %".format(*interval(accuracies(method=method)[0])) in FRONT.replace("\n", " ")


def test_the_papers_order_of_cifar():
    """With each seed, as the page says: ours above both others wherever labels are wrong, and close to plain training where none is."""
    for settings in TASKS.values():
        plain, tuned, ours = (accuracies(method=method, **settings)[0] for method in ("uniform", "uniform+ft", "reweight"))
        for each in zip(plain, tuned, ours, strict=True):
            assert each[2] > max(each[:2]) if settings.get("share") != 0.0 else each[0] - 3.0 < each[2] < each[0]


def test_a_night_of_cifar():
    own = {}
    for line in lines("cifar-night"):
        own.setdefault(line["method"], {})[line["step"]] = line
    (_, *head), *found = rows(PAGE, "test accuracy, % (agreement")
    steps = [int(cell.removesuffix(" steps").replace(",", "")) for cell in head]
    assert [name for name, *_ in found] == ["uniform", "reweight"]
    for name, *cells in found:
        assert cells == [f"{100 - own[name][step]['test_error']:.1f} ({100 - own[name][step]['train_error']:.0f})" for step in steps]
    _, *found = rows(PAGE, "at the end |")
    assert {name for name, *_ in found} == {*own}
    for name, ours, theirs in found:
        assert ours == f"{100 - own[name][max(own[name])]['test_error']:.1f}" and theirs == "{:.2f} ± {:.2f}".format(*paper.TABLE_2["cifar10"][name])


def test_what_the_choice_of_quick_mode_gives():
    row = [cells for cells in rows(PAGE, "images, pixels, steps") if cells[0] == "5,000, 16, 16,000"][0]
    (plain,), (agreement,) = accuracies(method="uniform", seed=0)
    own = [plain, *(accuracies(seed=0, **settings)[0][0] for settings in (
        {"method": "uniform+ft"}, {"method": "reweight"}, {"method": "reweight", "share": 0.0}, {"method": "uniform", "share": 0.0}))]
    assert row[1:7] == [f"{agreement:.1f} %", *(f"{value:.1f}" for value in own)]
    assert f"agrees with {agreement:.1f} % of the given labels" in PAGE.replace("\n", " ")


def test_figures_4_and_5():
    def told(method, key, values):
        return ", ".join(f"{means(method, **{key: value}):.1f}" for value in values) + " %"
    text = " ".join(PAGE.split())
    for method, name in (("reweight", "Algorithm 1"), ("uniform+ft", "fine-tuning")):
        assert f"{name} {told(method, 'clean', (15, 100, 500))}" in text
    for method, name in (("uniform", "plain training"), ("reweight", "Algorithm 1")):
        assert f"{name} {told(method, 'share', (0.0, 0.2, 0.4))}" in text
    lost, plain = means("reweight", share=0.0) - means("reweight"), means("uniform", share=0.0) - means("uniform", share=0.2)
    assert f"It loses {lost:.1f} points from 0 to 40 %; plain training loses {plain:.1f} from 0 to 20." in text
    assert f"it is {means('uniform', share=0.0) - means('reweight', share=0.0):.1f} points below plain training" in text


def test_public_tables():
    (_, *head), *found = rows(PAGE, "| breast cancer, imbalance")
    own, columns = scores(lines("tables")), []
    for cell in head:
        table, _, bias = cell.rpartition(", ")
        columns.append((table or columns[-1][0], bias))
    assert [*dict.fromkeys(table for table, _ in columns)] == [*own] and len(columns) == 9
    assert [name for name, *_ in found] == [*own["digits"]["both"]]
    for name, *cells in found:
        assert cells == ["{:.1f} ± {:.1f}".format(*spread(own[table][bias][name])) for table, bias in columns]


@pytest.fixture(scope="module")
def steps():
    """Time in ms and memory in MB of each step: (workload, library, route) -> (ms, MB)."""
    return {(name, row["library"], row["route"]): (row["ms"], row["memory"] / 1e6) for name, problem in record("benchmark-numpy-2026-11-26")["problems"].items() for row in problem["rows"]}


def test_steps_on_cores(steps):
    _, *found = rows(PAGE, "one training step, time and peak memory")
    routes = {"minigrad: plain": ("minigrad", "plain"), "minigrad: Algorithm 1, `reweighted_gradient`": ("minigrad", "Algorithm 1"),
              "... with the residual blocks checkpointed (`checkpoint=True`)": ("minigrad", "Algorithm 1, checkpointed"),
              "minigrad: Algorithm 1 by double backward": ("minigrad", "double backward"),
              "minigrad without its kernels in C: plain": ("minigrad without C", "plain"), "minigrad without its kernels in C: Algorithm 1": ("minigrad without C", "Algorithm 1"),
              "PyTorch: plain": ("PyTorch", "plain"), "PyTorch: Algorithm 1 by double backward, as it is usually written": ("PyTorch", "double backward"),
              "PyTorch: double backward, noisy batch run once": ("PyTorch", "one graph"), "PyTorch: forward mode, noisy batch run once": ("PyTorch", "forward mode"),
              "JAX, compiled: plain": ("JAX", "plain"), "JAX, compiled: Algorithm 1 in its best form (forward mode)": ("JAX", "forward mode")}
    assert [name for name, *_ in found] == [*routes]
    for name, *cells in found:
        for workload, cell in zip(("lenet", "resnet32"), cells):
            library, route = routes[name]
            if (workload, library, route) not in steps:
                assert not cell
                continue
            ms, memory = steps[workload, library, route]
            other = steps.get((workload, f"{library} channels_last", route), (None,))[0]
            beside = "" if other is None else rf" \((channels_last: )?{other:.0f}\)"
            assert re.fullmatch(rf"{ms:.0f} ms{beside}, {memory:.0f} MB", cell), (name, workload)


def test_steps_on_the_first_page(steps):
    text, gpu = (ROOM.parent / "README.md").read_text().replace("\n", " "), record("benchmark-cupy-2026-11-26")["problems"]
    ours = [[steps[workload, "minigrad", route][0] for workload in ("lenet", "resnet32")] for route in ("Algorithm 1", "plain")]
    theirs = [min(ms for (name, library, route), (ms, _) in steps.items() if name == workload and library.startswith("PyTorch") and route != "plain") for workload in ("lenet", "resnet32")]
    compiled = [min(row["ms"] for row in gpu[workload]["rows"] if row["route"] == "forward mode, compiled") for workload in ("lenet", "resnet32")]
    (lenet, resnet), (plain_lenet, plain_resnet) = ours
    assert f"Algorithm 1 takes {lenet:.0f} ms a step with LeNet and {resnet / 1e3:.1f} s with ResNet-32 on two cores" in text
    assert f"plain training {plain_lenet:.0f} ms and {plain_resnet / 1e3:.2f} s, PyTorch's double backward {theirs[0]:.0f} ms and {theirs[1] / 1e3:.1f} s" in text
    assert "PyTorch compiled {:.1f} and {:.1f} ms".format(*compiled) in text


def test_ratios_on_cores():
    ratios = {name: (median, low, high) for record_name in ("benchmark-numpy-2026-11-26", "benchmark-wrn-2026-11-26")
              for name, median, low, high in record(record_name)["comparisons"] if low is not None}
    _, *found = rows(PAGE, "minigrad / the fastest layout and route of")
    workloads = {"LeNet": "lenet", "ResNet-32": "resnet32", "WRN-28-10": "wrn-28-10", "MLP 784-256-256-10": "mlp"}
    assert len(found) == 6
    for name, *cells in found:
        key = f"{workloads[name.partition(',')[0]]}: {'plain step' if name.endswith('plain') else 'Algorithm 1'} / "
        for end, cell in zip(("best of PyTorch", "best of JAX", "without C"), cells):
            own = [value for title, value in ratios.items() if title.startswith(key + end)]
            assert cell == ("{:.2f} ({:.2f} - {:.2f})".format(*own[0]) if own else "")


def test_steps_on_a_gpu():
    """The rows of captured steps after the convolution had a kernel have no record."""
    _, *found = rows(PAGE, "one training step on an H100")
    times = {name: {(row["library"].partition(" ")[0], row["route"]): row["ms"] for row in sorted(problem["rows"], key=lambda row: -row["ms"])}
             for name, problem in record("benchmark-cupy-2026-11-26")["problems"].items()}          # the fastest layout comes last
    best = ("double backward", "one graph", "forward mode")
    routes = {"... both before convolution had a kernel of its own": ("minigrad", ["plain, captured"], ["Algorithm 1, captured"]),
              "minigrad, eager: plain, Algorithm 1": ("minigrad", ["plain"], ["Algorithm 1"]),
              "PyTorch, CUDA graph: plain": ("PyTorch", ["plain, CUDA graph"]), "PyTorch, CUDA graph: Algorithm 1 in its best form": ("PyTorch", [f"{route}, CUDA graph" for route in best]),
              "PyTorch, eager: plain, Algorithm 1 in its best form": ("PyTorch", ["plain"], best), "PyTorch, compiled: plain, Algorithm 1": ("PyTorch", ["plain, compiled"], ["forward mode, compiled"]),
              "JAX, compiled: plain, Algorithm 1": ("JAX", ["plain"], best)}
    assert [name for name, *_ in found[2:]] == [*routes]
    for name, *cells in found[2:]:
        for workload, cell in zip(("lenet", "resnet32"), cells):
            library, *kinds = routes[name]
            own = [min(times[workload][library, route] for route in kind if (library, route) in times[workload]) for kind in kinds]
            told = [float(number) for number in cell.removesuffix(" ms").split(", ")]
            digits = [len(number.partition(".")[2]) for number in cell.removesuffix(" ms").split(", ")]
            assert cell.endswith(" ms") and told == [round(ms, n) for ms, n in zip(own, digits)], (name, workload)


def test_precision_on_a_gpu():
    text = (ROOM / "gpu.md").read_text().replace("\n", " ")
    for precision, told in (("float32", "({:.1e}, {:.1e}, {:.1e} for LeNet"), ("tf32", "In TF32 they are {:.1e}, {:.1e} and {:.2f}:")):
        own = [row["gradient"] for row in record("benchmark-cupy-2026-11-26")["precision"] if row["precision"] == precision]
        assert told.format(*own).replace("e-0", "e-") in text


def test_ranks():
    _, *found = rows(PAGE, "| parameters | messages")
    measured = record("ranks-2026-11-27")["measured"]
    for name, *cells in found:
        own = [row for row in measured if row["workload"] == {"L": "lenet", "R": "resnet32"}[name[0]]]
        assert cells == [f"{own[0]['parameters']:,}", str(own[1]["messages"]), f"{own[1]['bytes'] / 1e6:.1f} MB", *(f"{row['ms']:,.0f} ms" for row in own)]
        assert own[2]["messages"] == own[1]["messages"] and own[2]["bytes"] == own[1]["bytes"]


def test_the_model_of_many_gpus():
    (_, *head), *found = rows(PAGE, "ms a step (share of the time that computes)")
    own = {(row["network"], row["gpus"]): row for row in record("ranks-2026-11-27")["model"]}
    assert len(found) == 4
    for name, *cells in found:
        network, k = name.partition(",")[0].lower().replace("resnet-32", "resnet32"), "all ranks" in name
        for gpus, cell in zip(head, cells):
            row = own[network, int(gpus.replace(",", ""))]
            ms = row["all" if k else "own"]
            assert cell == (f"{ms:.1f}" if ms < 100 else f"{ms:.0f}") + (f" ({row['efficiency'][k]:.0%})".replace("%", " %") if gpus != "1" else "")
