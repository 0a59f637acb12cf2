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
import multiprocessing
import pathlib
import platform
import statistics
import sys

import numpy as np
import tqdm

import minigrad as mg
from minigrad import pieces, tree

from . import figures
from .limits import machine, work
from .peers import JOBS, LIBRARIES, PROBLEMS, Problem, offered, serve, weights
from .pool import THREADS, environment

GROWTH = [(32, 12), (32, 25), (32, 50), (32, 100), (8, 50), (14, 50), (20, 50)]      # depth of the ResNet, batch size
RESULTS = pathlib.Path(__file__).parent / "results"


# -------------------------------------------------------------------------------------------- measurement

class Peer:
    """One library with one problem, in a process of its own."""

    def __init__(self, library, problem, backend):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library, problem, backend), daemon=True)
        with environment({"MINIGRAD_KEEP_MEMORY": str(int(library == "minigrad"))}):    # the others as without us
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
    shapes = [p.shape for p in weights(problem)]
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
            ("evaluation / bare NumPy", ("minigrad", "evaluation"), ("NumPy", "evaluation")),
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
    """ResNets of several depths and batch sizes, in minigrad and PyTorch: [{"depth", "batch", "library", ...}]."""
    libraries = [library for library in libraries if library in ("minigrad", "PyTorch")]
    found = []
    for depth, batch in GROWTH:
        result = measure(Problem("resnet", batch, batch, (depth, 1)), libraries, rounds, backend, progress)
        for (library, route), row in result["rows"].items():
            found.append({"depth": depth, "batch": batch, "library": library, "route": route, "ms": row["ms"],
                          "memory": row["memory"], "rounds": rounds})
    return found


def _options(arguments):
    """The command line, checked; minigrad switched to the array module that it asks for."""
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
    return options


def main(arguments=None):
    """Run the benchmark from the command line; gives the exit status."""
    options = _options(arguments)
    eigen = "true" if options.threads > 1 else "false"
    threads = {**dict.fromkeys(THREADS, str(options.threads)), "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen}"}
    with environment(threads):
        pieces.threads.cache_clear()                        # of this process, which measures the machine
        everything = _measured(options)
    pieces.threads.cache_clear()
    write(everything, options.out / f"benchmark-{everything['backend']}-{everything['date']}")
    return 0


def _measured(options):
    """All problems, printed as they are done."""
    today, backend = datetime.date.today().isoformat(), mg.backend.name()
    problems = options.problems or list(PROBLEMS)[:None if backend == "cupy" else -1]
    everything = {"date": today, "backend": backend, "threads": options.threads, "rounds": options.rounds,
                  "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(", ".join(f"{key} {value}" for key, value in everything.items()))
    everything |= {"problems": {}, "comparisons": []}
    few = max(options.rounds // 3, 2)                       # rounds of the growth curves
    total = options.rounds * len(problems) + few * len(GROWTH) * options.growth
    with tqdm.tqdm(total=total, unit="round") as bar:
        for name in problems:
            result = measure(PROBLEMS[name], options.libraries, options.rounds, backend, bar.update)
            bar.write(table(name, result), file=sys.stdout)
            everything["comparisons"] += comparisons(name, result["rows"])
            rows = [{"library": a, "route": b, **row} for (a, b), row in result["rows"].items()]
            everything["problems"][name] = {**result, "rows": rows}
        if options.growth:
            everything["growth"] = growth(few, options.libraries, backend, bar.update)
    for what, value, low, high in everything["comparisons"]:
        print(f"{what:72s}{value:6.2f}" + (f"   ({low:.2f} - {high:.2f})" if low else ""))
    return everything


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
