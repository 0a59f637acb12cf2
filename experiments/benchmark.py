"""What a training step costs: minigrad against PyTorch, JAX and others, in one run.

    python -m experiments.benchmark                      MLP, LeNet and ResNet-32: a table, JSON and figures
    python -m experiments.benchmark --problems lenet --libraries minigrad PyTorch --rounds 30
    python -m experiments.benchmark --growth             time and memory against batch size and depth

Every library runs in a process of its own and takes its turn in every round, so that a noisy machine disturbs all of
them alike: read the ratios, which are medians over the rounds, not the milliseconds. All take the same steps from the
same weights (checked to 1e-5); libraries that are not installed are left out and named. Peak memory is the most held at
once in a step beyond what was held before, as tracemalloc, CuPy's pool, PyTorch's profiler or XLA's plan tell it.

The limit of the machine is measured in the same rounds: its best matrix product and its speed of copying. A step cannot
take less than its multiplications need at the one and its arrays, each read and written once, at the other.
"""
import argparse
import datetime
import json
import math
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time

import numpy as np
import tqdm

import minigrad as mg
from minigrad import pieces, tree

from . import figures
from .peers import LIBRARIES, NETWORKS, PROBLEMS, Problem, offered, serve

RESULTS = pathlib.Path(__file__).parent / "results"
JOBS = {"gradient": "gradient", "plain": "plain", "plain, units forgotten": "plain"}      # all others are Algorithm 1


# --------------------------------------------------------------------------- what cannot be had for less

class Shape:
    """Stands for an array in a network and counts: multiplications and additions, and bytes read and written."""

    def __init__(self, shape, count):
        self.shape, self.count = shape, count

    def made(self, shape, flops=0):
        """The result of an operation."""
        self.count["flops"] += flops
        self.count["bytes"] += 4 * (math.prod(self.shape) + math.prod(shape))
        return Shape(shape, self.count)

    def __add__(self, other):
        return self.made(self.shape)


class Counting:
    """The operations of a network (peers), on shapes."""

    def dense(self, x, weight, bias):
        """x W + b."""
        return x.made((x.shape[0], weight[1]), 2 * x.shape[0] * weight[0] * weight[1])

    def conv(self, x, k, stride=1, bias=None):
        """A convolution."""
        n, h, w, _ = x.shape
        shape = (n, -(-h // stride), -(-w // stride), k[3])
        return x.made(shape, 2 * math.prod(shape) * math.prod(k[:3]))

    def max_pool(self, x):
        """3x3 with stride 2."""
        n, h, w, c = x.shape
        return x.made((n, -(-h // 2), -(-w // 2), c))

    def norm(self, x, bias):
        """Normalisation and ReLU: read twice, for the moments first."""
        self.relu(x)
        return x.made(x.shape)

    def relu(self, x):
        """max(x, 0)."""
        return x.made(x.shape)

    def average(self, x):
        """2x2."""
        n, h, w, c = x.shape
        return x.made((n, h // 2, w // 2, c))

    def widen(self, x, more):
        """More channels."""
        return x.made((*x.shape[:3], x.shape[3] + 2 * more))

    def pooled(self, x):
        """The mean over all pixels."""
        return x.made((x.shape[0], x.shape[3]))

    def flat(self, x):
        """No work."""
        return Shape((x.shape[0], math.prod(x.shape[1:])), x.count)


def work(problem, shapes, route):
    """Floating-point operations and bytes of a step: a pass over the network costs 1 forwards, 2 pushed or pulled."""
    count = {"flops": 0, "bytes": 0}
    NETWORKS[problem.network](Counting(), shapes, Shape((1, *problem.image), count), problem.size)
    passes = 3 * problem.noisy if route in JOBS else (1 + 2 + 2) * problem.noisy + 3 * problem.clean
    return {name: each * passes for name, each in count.items()}


def machine():
    """The machine now: FLOP/s of the best matrix product of float32, and bytes copied (read and written) per second."""
    a, big = np.ones((1024, 1024), "float32"), np.ones((pieces.threads(), 1 << 23), "float32")
    to = np.empty_like(big)
    lanes = list(range(pieces.threads()))

    def best(f):
        pieces.each(f, lanes)
        return min(_seconds(lambda: pieces.each(f, lanes)) for _ in range(3))
    return {"flops": len(lanes) * 2 * 1024 ** 3 / best(lambda lane: a @ a),
            "bytes": 2 * big.nbytes / best(lambda lane: np.copyto(to[lane], big[lane]))}


def _seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


# -------------------------------------------------------------------------------------------- measurement

class Peer:
    """One library with one problem, in a process of its own."""

    def __init__(self, library, problem, backend):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library, problem, backend), daemon=True)
        self.process.start()
        theirs.close()
        self.version, self.routes, self.reason = "", [], ""
        try:
            told = self.pipe.recv()
        except EOFError:
            told = "the process ended without a word"
        if isinstance(told, str):
            self.reason = told
        else:
            self.version, self.routes = told

    def ask(self, what, route):
        """Seconds, bytes or weights of one step."""
        self.pipe.send((what, route))
        return self.pipe.recv()

    def close(self):
        """End the process."""
        if not self.reason:
            self.pipe.send(None)
        self.process.join()


def measure(problem, libraries, rounds, backend=None, progress=lambda: None):
    """All routes of all libraries, in turns: {"rows": {(library, route): ...}, "versions", "missing", "machine"}."""
    peers = {name: Peer(name, problem, backend) for name in libraries if offered(name, problem)}
    try:
        pairs = [(name, route) for name, peer in peers.items() for route in peer.routes]
        differ = _check_agreement(peers, pairs)
        memory = {pair: peers[pair[0]].ask("memory", pair[1]) for pair in pairs}
        times, limits = {pair: [] for pair in pairs}, []
        for _ in range(rounds):
            limits.append(machine())
            for name, route in pairs:
                times[name, route].append(peers[name].ask("time", route))
            progress()
    finally:
        for peer in peers.values():
            peer.close()
    shapes = [p.shape for p in _weights(problem)]
    limit = {name: statistics.median(each[name] for each in limits) for name in ("flops", "bytes")}
    rows = {}
    for pair in pairs:
        cost, seconds = work(problem, shapes, pair[1]), statistics.median(times[pair])
        rows[pair] = {"ms": 1e3 * seconds, "quartiles": [1e3 * q for q in _quartiles(times[pair])],
                      "memory": memory[pair], "times": times[pair], "difference": differ[pair],
                      "arithmetic": cost["flops"] / limit["flops"] / seconds,
                      "copying": cost["bytes"] / limit["bytes"] / seconds}
    return {"rows": rows, "machine": limit, "versions": {n: p.version for n, p in peers.items() if not p.reason},
            "missing": {name: peer.reason for name, peer in peers.items() if peer.reason}}


def _weights(problem):
    from .peers import weights
    return weights(problem)


def _quartiles(values):
    return statistics.quantiles(values, n=4)[::2] if len(values) > 1 else values * 2


def _check_agreement(peers, pairs):
    """The largest difference of any weight to minigrad's, or to the first library's, for each route."""
    first, differ = {}, {}
    for name, route in pairs:
        found = peers[name].ask("weights", route)
        expected = first.setdefault(JOBS.get(route, "Algorithm 1"), found)
        differ[name, route] = max(float(abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        if not differ[name, route] <= 1e-5:
            raise mg.MinigradError(f"{name}, {route}: its weights differ from the others' by {differ[name, route]:.2g}")
    return differ


def ratio(rows, ours, theirs):
    """The median over the rounds of the time of one row over that of another, and its quartiles; None without them."""
    if ours not in rows or theirs not in rows:
        return None
    each = [a / b for a, b in zip(rows[ours]["times"], rows[theirs]["times"])]
    return statistics.median(each), *_quartiles(each)


def fastest(rows, libraries, routes):
    """The row of the fastest of these libraries and routes, or None."""
    found = [pair for pair in rows if pair[0] in libraries and pair[1] in routes]
    return min(found, key=lambda pair: rows[pair]["ms"], default=None)


PYTORCH, DOUBLE = ("PyTorch", "PyTorch channels_last"), ("double backward", "one graph")
PLAIN, ALGORITHM = ("minigrad", "plain"), ("minigrad", "Algorithm 1")


def comparisons(name, rows):
    """[(what, ratio, its quartiles)]: minigrad against the best form of each other library, and against itself."""
    found = []
    for what, ours, theirs in [
            ("plain step / PyTorch", PLAIN, fastest(rows, PYTORCH, ["plain"])),
            ("plain step / PyTorch, images (n, c, h, w)", PLAIN, ("PyTorch", "plain")),
            ("plain step / JAX", PLAIN, ("JAX", "plain")),
            ("Algorithm 1 / PyTorch double backward", ALGORITHM, fastest(rows, PYTORCH, ["double backward"])),
            ("Algorithm 1 / PyTorch double backward, one graph", ALGORITHM, fastest(rows, PYTORCH, ["one graph"])),
            ("Algorithm 1 / PyTorch forward mode", ALGORITHM, fastest(rows, PYTORCH, ["forward mode"])),
            ("Algorithm 1 / best of JAX", ALGORITHM, fastest(rows, ["JAX"], ["double backward", "forward mode"])),
            ("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
            ("Algorithm 1 / own double backward", ALGORITHM, ("minigrad", "double backward")),
            ("plain, units forgotten / plain", ("minigrad", "plain, units forgotten"), PLAIN),
            *[(f"gradient / {other}", ("minigrad", "gradient"), (other, "gradient"))
              for other in ("PyTorch", "JAX", "autograd", "MyGrad")]]:
        value = theirs and ratio(rows, ours, theirs)
        if value:
            found.append((f"{name}: {what}", *value))
    for what, ours, theirs in [("Algorithm 1 / own plain step", ALGORITHM, PLAIN),
                               ("plain step / PyTorch", PLAIN, ("PyTorch", "plain")),
                               ("plain, units forgotten / plain", ("minigrad", "plain, units forgotten"), PLAIN)]:
        if ours in rows and theirs in rows and rows[theirs]["memory"]:
            found.append((f"{name}: peak memory, {what}", rows[ours]["memory"] / rows[theirs]["memory"], None, None))
    return found


# ------------------------------------------------------------------------------------------------ results

def table(title, result):
    """The rows as text."""
    lines = [f"{title:50s}{'ms':>9}{'quartiles':>18}{'peak MB':>9}{'arithmetic':>12}{'copying':>9}"]
    for (library, route), row in result["rows"].items():
        low, high = row["quartiles"]
        megabytes = f"{row['memory'] / 1e6:.1f}" if row["memory"] else ""
        lines.append(f"  {library + ', ' + route:48s}{row['ms']:9.2f}{f'{low:.2f} - {high:.2f}':>18}{megabytes:>9}"
                     f"{row['arithmetic']:12.0%}{row['copying']:9.0%}")
    lines += [f"  {library}: left out ({reason})" for library, reason in result["missing"].items()]
    return "\n".join(lines)


def growth(rounds, libraries, backend=None, progress=lambda: None):
    """ResNets of several depths and batch sizes: [{"depth", "batch", "library", "route", "ms", "memory"}]."""
    points = [(32, batch) for batch in (12, 25, 50, 100)] + [(depth, 50) for depth in (8, 14, 20)]
    found = []
    for depth, batch in points:
        result = measure(Problem("resnet", batch, batch, (depth, 1)), libraries, rounds, backend, progress)
        for (library, route), row in result["rows"].items():
            found.append({"depth": depth, "batch": batch, "library": library, "route": route, "ms": row["ms"],
                          "memory": row["memory"]})
    return found


def main(arguments=None):
    """Run the benchmark from the command line; gives the exit status."""
    p = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--problems", nargs="+", choices=PROBLEMS, metavar="NAME",
                   help=f"of {', '.join(PROBLEMS)}; default: all but the last, and on a GPU all")
    p.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), metavar="NAME",
                   help=f"of {', '.join(LIBRARIES)}; default: all that are installed")
    p.add_argument("--rounds", type=int, default=10, help="measurements of each route, at least 2 (default 10)")
    p.add_argument("--threads", type=int, default=pieces.threads(), help="of every library (default: one per core)")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--growth", action="store_true", help="also time and memory against batch size and depth")
    p.add_argument("--out", type=pathlib.Path, default=RESULTS, help="the folder for the JSON file and the figures")
    options = p.parse_args(arguments)
    if options.rounds < 2 or options.threads < 1:
        p.error("--rounds needs at least 2, --threads at least 1")
    try:
        mg.use(options.backend or mg.backend.name())
    except mg.BackendError as error:
        p.error(str(error))
    backend = mg.backend.name()
    for variable in ("MINIGRAD_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(options.threads)         # of the processes of all libraries
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if options.threads > 1 else 'false'}"
    pieces.threads.cache_clear()
    problems = options.problems or list(PROBLEMS)[:None if backend == "cupy" else -1]
    today = datetime.date.today().isoformat()
    everything = {"date": today, "backend": backend, "threads": options.threads, "rounds": options.rounds,
                  "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(", ".join(f"{key} {value}" for key, value in everything.items()))
    total = options.rounds * (len(problems) + 7 * options.growth)
    everything |= {"problems": {}, "comparisons": []}
    with tqdm.tqdm(total=total, unit="round") as bar:
        for name in problems:
            result = measure(PROBLEMS[name], options.libraries, options.rounds, backend, bar.update)
            bar.write(table(name, result), file=sys.stdout)
            everything["comparisons"] += comparisons(name, result["rows"])
            rows = [{"library": a, "route": b, **row} for (a, b), row in result["rows"].items()]
            everything["problems"][name] = {**result, "rows": rows}
        if options.growth:
            everything["growth"] = growth(options.rounds, options.libraries, backend, bar.update)
    for what, value, low, high in everything["comparisons"]:
        print(f"{what:72s}{value:6.2f}" + (f"   ({low:.2f} - {high:.2f})" if low else ""))
    write(everything, options.out / f"benchmark-{backend}-{today}")
    return 0


def write(everything, stem):
    """The JSON file and the figures."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    tree.write_whole(stem.with_suffix(".json"), (json.dumps(everything, indent=1) + "\n").encode())
    figures.bars(everything, stem.with_suffix(".png"))
    if "growth" in everything:
        figures.growth(everything, stem.with_name(stem.name + "-growth.png"))
    print(f"written: {stem}.json and figures beside it")


if __name__ == "__main__":
    sys.exit(main())
