"""Ratios between rows of the benchmark: times, as medians over the rounds, and memory."""
import statistics

PYTORCH = ("PyTorch", "PyTorch channels_last")
PLAIN, ALGORITHM = ("minigrad", "plain"), ("minigrad", "Algorithm 1")
CAPTURED = {"plain": ("minigrad", "plain, captured"), "Algorithm 1": ("minigrad", "Algorithm 1, captured")}
CHECKPOINTED = ("minigrad", "plain, units forgotten")


def quartiles(values):
    """Return the first and the third quartile."""
    return statistics.quantiles(values, n=4)[::2] if len(values) > 1 else values * 2


def ratio(rows, ours, theirs):
    """Return the ratio of the times of two rows, its median over the rounds and quartiles; None if a row is missing."""
    if ours not in rows or theirs not in rows:
        return None
    each = [a / b for a, b in zip(rows[ours]["times"], rows[theirs]["times"])]
    return statistics.median(each), *quartiles(each)


def fastest(rows, *pairs):
    """Return the pair (library, route) with the fastest row, or None if none of the pairs has a row."""
    return min((pair for pair in pairs if pair in rows), key=lambda pair: rows[pair]["ms"], default=None)


def _pytorch(rows, route):
    return fastest(rows, *[(library, route) for library in PYTORCH])


def _on_cpu(rows):
    """Return [(what, ours, theirs)]: eager minigrad against each other library's best form, and against itself."""
    return [
        ("plain step / PyTorch", PLAIN, _pytorch(rows, "plain")),
        ("plain step / PyTorch, images (n, c, h, w)", PLAIN, ("PyTorch", "plain")),
        ("plain step / JAX", PLAIN, ("JAX", "plain")),
        ("Algorithm 1 / PyTorch double backward", ALGORITHM, _pytorch(rows, "double backward")),
        ("Algorithm 1 / PyTorch double backward, one graph", ALGORITHM, _pytorch(rows, "one graph")),
        ("Algorithm 1 / PyTorch forward mode", ALGORITHM, _pytorch(rows, "forward mode")),
        ("Algorithm 1 / best of JAX", ALGORITHM, fastest(rows, ("JAX", "double backward"), ("JAX", "forward mode"))),
        ("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
        ("Algorithm 1 / own double backward", ALGORITHM, ("minigrad", "double backward")),
        ("plain, units forgotten / plain", CHECKPOINTED, PLAIN),
        ("evaluation / bare NumPy", ("minigrad", "evaluation"), ("NumPy", "evaluation")),
        *[(f"gradient / {other}", ("minigrad", "gradient"), (other, "gradient"))
          for other in ("PyTorch", "JAX", "autograd", "MyGrad")]]


def _on_gpu(rows):
    """Return [(what, ours, theirs)] for captured minigrad."""
    compiled = {"plain": [("JAX", "plain"), _pytorch(rows, "plain, compiled")],
                "Algorithm 1": [("JAX", "double backward"), ("JAX", "forward mode"),
                                _pytorch(rows, "forward mode, compiled")]}
    graphs = {"plain": [_pytorch(rows, "plain, CUDA graph")],
              "Algorithm 1": [_pytorch(rows, f"{route}, CUDA graph") for route in ("one graph", "forward mode")]}
    found = [("Algorithm 1 captured / PyTorch eager double backward", CAPTURED["Algorithm 1"],
              _pytorch(rows, "double backward")),
             ("plain captured / PyTorch eager", CAPTURED["plain"], _pytorch(rows, "plain"))]
    for what, ours in CAPTURED.items():
        found += [(f"{what} captured / best of torch.compile and JAX", ours, fastest(rows, *compiled[what])),
                  (f"{what} captured / PyTorch CUDA graph", ours, fastest(rows, *graphs[what])),
                  (f"{what} captured / eager", ours, ("minigrad", what))]
    return found + [("Algorithm 1 captured / own plain step captured", CAPTURED["Algorithm 1"], CAPTURED["plain"])]


def comparisons(name, rows):
    """Return [(what, value, first quartile, third quartile)]: ratios, and the milliseconds of captured steps.

    name: of the problem; rows: {(library, route): row} as in `benchmark.measure`. The quartiles are None where there
    is a single value.
    """
    found = []
    for what, ours, theirs in _on_cpu(rows) + _on_gpu(rows):
        value = ratio(rows, ours, theirs)
        if value:
            found.append((f"{name}: {what}", *value))
    for what, ours, theirs in [("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
                               ("plain step / PyTorch", PLAIN, ("PyTorch", "plain")),
                               ("plain, units forgotten / plain", CHECKPOINTED, PLAIN)]:
        if ours in rows and theirs in rows and rows[theirs]["memory"]:
            found.append((f"{name}: peak memory, {what}", rows[ours]["memory"] / rows[theirs]["memory"], None, None))
    found += [(f"{name}: {what} captured, milliseconds", rows[pair]["ms"], *rows[pair]["quartiles"])
              for what, pair in CAPTURED.items() if pair in rows]
    return found
