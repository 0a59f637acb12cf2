"""Pictures of the benchmark: the time and memory of a training step in each library."""
import matplotlib.pyplot as plt

from .common import legend, save, wrap

COLORS = {"minigrad": "#d62728", "minigrad without C": "#f4a6a6", "PyTorch": "#1f77b4",
          "PyTorch channels_last": "#6baed6", "PyTorch compiled": "#08306b", "JAX": "#2ca02c", "autograd": "#9467bd"}
OTHER = "#7f7f7f"               # of a library that is no longer measured, in an old record
STYLES = {                      # of the curves of `growth`
    ("minigrad", "plain"): "--", ("minigrad", "Algorithm 1"): "-", ("minigrad", "Algorithm 1, checkpointed"): ":",
    ("PyTorch", "plain"): "--", ("PyTorch", "double backward"): "-", ("PyTorch", "one graph"): "-.",
}


def in_words(threads):
    """Return the numbers of threads of a run in words: "1 thread", "2 threads", "1 and 2 threads"."""
    return " and ".join(map(str, threads)) + (" thread" if threads == [1] else " threads")


def _conditions(everything, rounds):
    versions = {}
    for problem in everything["problems"].values():
        versions |= problem["versions"]
    where = everything.get("device") or in_words(everything["threads"])
    products = ", products in TF32" if everything.get("products") == "tf32" else ""
    return (f"{everything['date']}, {everything['backend']}, {where}{products}, medians of "
            f"{rounds} rounds; " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def bars(everything, path):
    """Draw the time of each route of each library, one panel per problem, and return the path.

    The line on a bar spans the quartiles. everything: the benchmark's JSON record.
    """
    problems = everything["problems"]
    heights = [max(len(result["rows"]), 2) for result in problems.values()]
    figure, panels = plt.subplots(len(problems), 1, figsize=(9, 0.33 * sum(heights) + 1.1 * len(problems) + 0.6),
                                  squeeze=False, height_ratios=heights, layout="constrained")
    for panel, (name, result) in zip(panels[:, 0], problems.items()):
        rows = sorted(result["rows"], key=lambda row: row["ms"])
        for k, row in enumerate(rows):
            low, high = row["quartiles"]
            panel.barh(k, row["ms"], color=COLORS.get(row["library"], OTHER),
                       xerr=[[max(row["ms"] - low, 0)], [max(high - row["ms"], 0)]], error_kw={"ecolor": "#333333"})
        panel.set_yticks(range(len(rows)), [f"{row['library']}: {row['route']}" for row in rows], fontsize=8)
        panel.invert_yaxis()
        panel.set_title(f"{name}: milliseconds for one step", loc="left", fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    counts = {result.get("rounds", everything["rounds"]) for result in problems.values()}
    rounds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    figure.supxlabel(wrap(_conditions(everything, rounds)), fontsize=7)
    return save(figure, path)


def growth(everything, path):
    """Draw time and peak memory against batch size (depth 32) and against depth (batch 50), and return the path.

    One line for each route; everything: the benchmark's JSON record.
    """
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    for column, (along, fixed, value) in enumerate((("batch", "depth", 32), ("depth", "batch", 50))):
        for (library, route), line in STYLES.items():
            points = sorted((p for p in everything["growth"] if (p["library"], p["route"], p[fixed]) ==
                             (library, route, value)), key=lambda p: p[along])
            for panel, key, unit in ((panels[0, column], "ms", 1.0), (panels[1, column], "memory", 1e6)):
                if points and all(p[key] for p in points):
                    panel.plot([p[along] for p in points], [p[key] / unit for p in points],
                               color=COLORS[library], marker="o", markersize=3,
                               linestyle=line, label=f"{library}: {route}")
        for panel, text in zip(panels[:, column], ("ms for one step", "peak MB in one step")):
            panel.set_xlabel("images in each batch (ResNet-32)" if along == "batch" else "layers (50 images a batch)")
            panel.set_ylabel(text)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
    legend(figure, panels[0], location="outside upper center")
    rounds = everything["growth"][0].get("rounds", everything["rounds"])
    figure.supxlabel(wrap(_conditions(everything, rounds)), fontsize=7)
    return save(figure, path)
