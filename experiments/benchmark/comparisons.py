"""Ratios between rows of the benchmark: times, as medians over the rounds, and memory."""
import statistics

from .peers import COMPILED, WITHOUT_C

TORCH, JAX = ("PyTorch", "PyTorch channels_last", COMPILED), ("JAX",)            # each peer in its forms
ROUTES = ("double backward", "one graph", "forward mode")                        # of Algorithm 1 in the peers
PLAIN, ALGORITHM, CHECKPOINTED, PLAIN_CAPTURED, ALGORITHM_CAPTURED = (
    ("minigrad", route)
    for route in ("plain", "Algorithm 1", "plain, checkpointed", "plain, captured", "Algorithm 1, captured"))
PLAIN_WITHOUT_C, ALGORITHM_WITHOUT_C = (WITHOUT_C, "plain"), (WITHOUT_C, "Algorithm 1")


def each(libraries, *routes):
    """Return all pairs of a library and a route."""
    return [(library, route) for library in libraries for route in routes]


# (what, ours, theirs: the best of these pairs); what says "best" is completed by the name of the pair
TIMES = [
    ("plain step / best of PyTorch", PLAIN, each(TORCH, "plain")),
    ("plain step / best of JAX", PLAIN, each(JAX, "plain")),
    ("Algorithm 1 / best of PyTorch", ALGORITHM, each(TORCH, *ROUTES)),
    ("Algorithm 1 / best of JAX", ALGORITHM, each(JAX, *ROUTES)),
    ("without C, plain step / best of PyTorch", PLAIN_WITHOUT_C, each(TORCH, "plain")),
    ("without C, plain step / best of JAX", PLAIN_WITHOUT_C, each(JAX, "plain")),
    ("without C, Algorithm 1 / best of PyTorch", ALGORITHM_WITHOUT_C, each(TORCH, *ROUTES)),
    ("without C, Algorithm 1 / best of JAX", ALGORITHM_WITHOUT_C, each(JAX, *ROUTES)),
    ("Algorithm 1 / PyTorch double backward", ALGORITHM, each(TORCH, "double backward")),
    ("Algorithm 1 / PyTorch one graph", ALGORITHM, each(TORCH, "one graph")),
    ("Algorithm 1 / PyTorch forward mode", ALGORITHM, each(TORCH, "forward mode")),
    ("plain step / without C", PLAIN, [PLAIN_WITHOUT_C]),
    ("Algorithm 1 / without C", ALGORITHM, [ALGORITHM_WITHOUT_C]),
    ("Algorithm 1 / own plain step", ALGORITHM, [PLAIN]),
    ("Algorithm 1 / own double backward", ALGORITHM, [("minigrad", "double backward")]),
    ("plain, checkpointed / plain", CHECKPOINTED, [PLAIN]),
    ("gradient / PyTorch", ("minigrad", "gradient"), [("PyTorch", "gradient")]),
    ("gradient / JAX", ("minigrad", "gradient"), [("JAX", "gradient")]),
    ("gradient / autograd", ("minigrad", "gradient"), [("autograd", "gradient")]),
    ("plain captured / eager", PLAIN_CAPTURED, [PLAIN]),
    ("plain captured / PyTorch eager", PLAIN_CAPTURED, each(TORCH, "plain")),
    ("plain captured / PyTorch CUDA graph", PLAIN_CAPTURED, each(TORCH, "plain, CUDA graph")),
    ("plain captured / best of torch.compile and JAX", PLAIN_CAPTURED,
     each(TORCH, "plain, compiled") + each(JAX, "plain")),
    ("Algorithm 1 captured / eager", ALGORITHM_CAPTURED, [ALGORITHM]),
    ("Algorithm 1 captured / PyTorch eager double backward", ALGORITHM_CAPTURED, each(TORCH, "double backward")),
    ("Algorithm 1 captured / PyTorch CUDA graph", ALGORITHM_CAPTURED,
     each(TORCH, "one graph, CUDA graph", "forward mode, CUDA graph")),
    ("Algorithm 1 captured / best of torch.compile and JAX", ALGORITHM_CAPTURED,
     each(TORCH, "forward mode, compiled") + each(JAX, *ROUTES)),
    ("Algorithm 1 captured / own plain step captured", ALGORITHM_CAPTURED, [PLAIN_CAPTURED]),
]
MEMORY = [
    ("peak memory, Algorithm 1 / own plain step", ALGORITHM, [PLAIN]),
    ("peak memory, plain step / best of PyTorch", PLAIN, each(TORCH, "plain")),
    ("peak memory, plain, checkpointed / plain", CHECKPOINTED, [PLAIN]),
]


def comparisons(title, rows):
    """Return [(what, ratio, first quartile, third quartile)]; the quartiles are None where there is a single value.

    title: of the workload; rows: {(library, route): row} as in `benchmark.measure`.
    """
    found = []
    for key, table in (("ms", TIMES), ("memory", MEMORY)):
        for what, ours, theirs in table:
            best = min((pair for pair in theirs if rows.get(pair, {}).get(key)), key=lambda pair: rows[pair][key],
                       default=None)
            if best and ours in rows:
                name = f"{title}: {what}" + (f": {', '.join(best)}" if "best" in what else "")
                ratio = _time_ratio if key == "ms" else lambda a, b: (a["memory"] / b["memory"], None, None)
                found.append((name, *ratio(rows[ours], rows[best])))
    return found


def _time_ratio(a, b):
    """Return the ratio of the times of two rows: its median over the rounds, and quartiles."""
    ratios = [ours / theirs for ours, theirs in zip(a["times"], b["times"])]
    return statistics.median(ratios), *quartiles(ratios)


def quartiles(values):
    """Return the first and the third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")[::2] if len(values) > 1 else values * 2
