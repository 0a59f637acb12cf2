"""Ratios between rows of the benchmark: times, as medians over the rounds, and memory."""
import statistics

from .peers import COMPILED, WITHOUT_C

PLAIN, ALGORITHM = ("minigrad", "plain"), ("minigrad", "Algorithm 1")
CAPTURED = {"plain": ("minigrad", "plain, captured"), "Algorithm 1": ("minigrad", "Algorithm 1, captured")}
CHECKPOINTED = ("minigrad", "plain, units forgotten")
ROUTES = ("double backward", "one graph", "forward mode")         # of Algorithm 1 in the peers
PEERS = {"PyTorch": ("PyTorch", "PyTorch channels_last", COMPILED), "JAX": ("JAX",)}         # each in its forms


def quartiles(values):
    """Return the first and the third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")[::2] if len(values) > 1 else values * 2


def ratio(rows, ours, theirs):
    """Return the ratio of the times of two rows, its median over the rounds and quartiles; None if a row is missing."""
    if ours not in rows or theirs not in rows:
        return None
    each = [a / b for a, b in zip(rows[ours]["times"], rows[theirs]["times"])]
    return statistics.median(each), *quartiles(each)


def fastest(rows, *pairs):
    """Return the pair (library, route) with the fastest row, or None if none of the pairs has a row."""
    return min((pair for pair in pairs if pair in rows), key=lambda pair: rows[pair]["ms"], default=None)


def best(rows, peer, *routes):
    """Return the pair (library, route) with the fastest row of a peer on some routes, in any form, or None."""
    return fastest(rows, *[(library, route) for library in PEERS[peer] for route in routes])


def _eager(rows):
    """Return [(what, ours, theirs)]: eager minigrad against each other library's best form, and against itself."""
    found = []
    for library in ("minigrad", WITHOUT_C):
        prefix = "" if library == "minigrad" else "without C, "
        for peer in PEERS:
            found += [(f"{prefix}plain step / best of {peer}", (library, "plain"), best(rows, peer, "plain")),
                      (f"{prefix}Algorithm 1 / best of {peer}", (library, "Algorithm 1"),
                       best(rows, peer, *ROUTES))]
    found = [(f"{what}: {', '.join(theirs or ())}", ours, theirs) for what, ours, theirs in found]
    return found + [
        *[(f"Algorithm 1 / PyTorch {route}", ALGORITHM, best(rows, "PyTorch", route)) for route in ROUTES],
        ("plain step / without C", PLAIN, (WITHOUT_C, "plain")),
        ("Algorithm 1 / without C", ALGORITHM, (WITHOUT_C, "Algorithm 1")),
        ("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
        ("Algorithm 1 / own double backward", ALGORITHM, ("minigrad", "double backward")),
        ("plain, units forgotten / plain", CHECKPOINTED, PLAIN),
        ("evaluation / bare NumPy", ("minigrad", "evaluation"), ("NumPy", "evaluation")),
        *[(f"gradient / {other}", ("minigrad", "gradient"), (other, "gradient"))
          for other in ("PyTorch", "JAX", "autograd", "MyGrad")]]


def _captured(rows):
    """Return [(what, ours, theirs)] for captured minigrad."""
    compiled = {"plain": [best(rows, "JAX", "plain"), best(rows, "PyTorch", "plain, compiled")],
                "Algorithm 1": [best(rows, "JAX", *ROUTES), best(rows, "PyTorch", "forward mode, compiled")]}
    graphs = {"plain": ["plain, CUDA graph"], "Algorithm 1": ["one graph, CUDA graph", "forward mode, CUDA graph"]}
    found = [("Algorithm 1 captured / PyTorch eager double backward", CAPTURED["Algorithm 1"],
              best(rows, "PyTorch", "double backward")),
             ("plain captured / PyTorch eager", CAPTURED["plain"], best(rows, "PyTorch", "plain"))]
    for what, ours in CAPTURED.items():
        found += [(f"{what} captured / best of torch.compile and JAX", ours, fastest(rows, *compiled[what])),
                  (f"{what} captured / PyTorch CUDA graph", ours, best(rows, "PyTorch", *graphs[what])),
                  (f"{what} captured / eager", ours, ("minigrad", what))]
    return found + [("Algorithm 1 captured / own plain step captured", CAPTURED["Algorithm 1"], CAPTURED["plain"])]


def _peak_memory(rows):
    """Return [(what, ours, theirs)] for the memory of eager minigrad."""
    measured = [(library, "plain") for library in PEERS["PyTorch"] if rows.get((library, "plain"), {}).get("memory")]
    leanest = min(measured, key=lambda pair: rows[pair]["memory"], default=None)
    return [("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
            (f"plain step / best of PyTorch: {', '.join(leanest or ())}", PLAIN, leanest),
            ("plain, units forgotten / plain", CHECKPOINTED, PLAIN)]


def comparisons(name, rows):
    """Return [(what, value, first quartile, third quartile)]: ratios, and the milliseconds of captured steps.

    name: of the problem; rows: {(library, route): row} as in `benchmark.measure`. The quartiles are None where there
    is a single value.
    """
    found = []
    for what, ours, theirs in _eager(rows) + _captured(rows):
        value = ratio(rows, ours, theirs)
        if value:
            found.append((f"{name}: {what}", *value))
    for what, ours, theirs in _peak_memory(rows):
        if ours in rows and theirs in rows and rows[theirs]["memory"]:
            found.append((f"{name}: peak memory, {what}", rows[ours]["memory"] / rows[theirs]["memory"], None, None))
    found += [(f"{name}: {what} captured, milliseconds", rows[pair]["ms"], *rows[pair]["quartiles"])
              for what, pair in CAPTURED.items() if pair in rows]
    return found
