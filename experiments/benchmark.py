"""What a training step costs: minigrad against PyTorch, JAX and others, in one run.

    python -m experiments.benchmark                      MLP, LeNet and ResNet-32: a table, JSON and figures
    python -m experiments.benchmark --problems lenet --libraries minigrad PyTorch --rounds 30
    python -m experiments.benchmark --growth             time and memory against batch size and depth
    python -m experiments.benchmark --gpu                LeNet, ResNet-32 and WRN-28-10 on a GPU: see gpu.md

Every library runs in a process of its own and takes its turn in every round, so that a noisy machine disturbs all of
them alike: read the ratios, which are medians over the rounds, not the milliseconds. All take the same steps from the
same weights (checked to 1e-5); libraries that are not installed and routes that cannot be built are left out, with the
reason. Peak memory is the most held at once in a step beyond what was held before, as tracemalloc, CuPy's pool,
PyTorch's profiler or XLA's plan tell it. The files are written anew after every problem.

The limit of the machine is measured in the same rounds: its best matrix product and its speed of copying. A step cannot
take less than its multiplications need at the one and its arrays, each read and written once, at the other.
"""
import argparse
import datetime
import json
import math
import pathlib
import platform
import statistics
import sys
import time

import numpy as np
import tqdm

import minigrad as mg
from minigrad import backend, tree
from minigrad.fast import threads

from . import console, figures, precision
from .comparisons import comparisons, quartiles
from .folders import check_folder
from .limits import machine, work
from .peers import HOST, LIBRARIES, PROBLEMS, Problem, job, offered, weights
from .peers.process import Peer
from .pool import THREADS, environment

GROWTH = [(32, 12), (32, 25), (32, 50), (32, 100), (8, 50), (14, 50), (20, 50)]      # depth of the ResNet, batch size
RESULTS = pathlib.Path("runs", "benchmark")
AGREEMENT = {"float32": 1e-5, "tf32": 1e-4}     # the most that two libraries' weights may differ after a step
ON_GPU = ["lenet", "resnet32", "wrn-28-10"]
SECONDS = 60.0                                  # of rounds of a problem on a GPU, unless two take longer


# -------------------------------------------------------------------------------------------- measurement

def measure(problem, libraries, rounds, array_module=None, tf32=False, progress=lambda rounds=1: None):
    """All routes of all libraries, in turns: {"rows": {(library, route): ...}, "versions", "missing", "failed", ...}.

    array_module: "numpy" or "cupy", where the libraries compute. They build their steps side by side (most of that is
    compilers' work); after that only one works at a time.
    """
    peers = {name: Peer(name, problem, array_module, tf32) for name in libraries if offered(name, problem)}
    try:
        for peer in peers.values():
            peer.built()
        pairs = [(name, route) for name, peer in peers.items() for route in peer.routes]
        found = {"difference": _check_agreement(peers, pairs, AGREEMENT["tf32" if tf32 else "float32"])}
        for what in ("memory", "launches"):
            found[what] = {pair: peers[pair[0]].ask(what, pair[1]) for pair in pairs}
        found["times"], limits = _rounds(peers, pairs, rounds, SECONDS if array_module == "cupy" else math.inf,
                                         progress)
    finally:
        for peer in peers.values():
            peer.close()
    limit = {name: statistics.median(each[name] for each in limits) for name in limits[0]}
    shapes = [p.shape for p in weights(problem)]
    return {"rows": {pair: _row(pair, found, work(problem, shapes, pair[1]), limit) for pair in pairs
                     if pair[1] not in peers[pair[0]].failed},
            "machine": limit, "rounds": len(limits),
            "versions": {name: peer.version for name, peer in peers.items() if not peer.reason},
            "missing": {name: peer.reason for name, peer in peers.items() if peer.reason},
            "failed": {(name, route): reason for name, peer in peers.items() for route, reason in peer.failed.items()}}


def _rounds(peers, pairs, rounds, seconds, progress):
    """The times of each pair and the limits of the machine, round by round; in no more seconds, if two rounds fit."""
    times, limits, begun = {pair: [] for pair in pairs}, [], time.perf_counter()
    while len(limits) < 2 or len(limits) < rounds and time.perf_counter() - begun < seconds:
        limits.append(machine())
        for name, route in pairs:
            times[name, route].append(peers[name].ask("time", route))
        progress()
    progress(rounds - len(limits))
    return times, limits


def _row(pair, found, cost, limit):
    """What is known of one route of one library."""
    times = found["times"][pair]
    seconds = statistics.median(times)
    row = {"ms": 1e3 * seconds, "quartiles": [1e3 * q for q in quartiles(times)], "memory": found["memory"][pair],
           "times": times, "difference": found["difference"][pair],
           "arithmetic": cost["flops"] / limit["flops"] / seconds, "copying": cost["bytes"] / limit["bytes"] / seconds}
    launches = found["launches"][pair]
    return row | ({} if launches is None else {"launches": launches})


def _check_agreement(peers, pairs, most=AGREEMENT["float32"]):
    """The largest difference of any weight to minigrad's, or to the first library's, for each route.

    A route that differs by more than `most` computes something else: it fails.
    """
    first, differ = {}, {}
    for name, route in pairs:
        found = peers[name].ask("weights", route)
        if found is None:                                   # it failed, and is left out
            continue
        expected = first.setdefault(job(route), found)
        differ[name, route] = max(float(abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        if not differ[name, route] <= most:
            peers[name].failed[route] = f"its weights differ from the others' by {differ[name, route]:.2g}"
    return differ


# ------------------------------------------------------------------------------------------------ results

def table(title, result):
    """The rows as text."""
    lines = [f"{title:50s}{'ms':>9}{'quartiles':>18}{'peak MB':>9}{'arithmetic':>12}{'copying':>9}"]
    for (library, route), row in result["rows"].items():
        low, high = row["quartiles"]
        megabytes = f"{row['memory'] / 1e6:.1f}" if row["memory"] else ""
        lines.append(f"  {library + ', ' + route:48s}{row['ms']:9.2f}{f'{low:.2f} - {high:.2f}':>18}{megabytes:>9}"
                     f"{row['arithmetic']:12.0%}{row['copying']:9.0%}"
                     + (f"   {row['launches']} launches" if "launches" in row else ""))
    left_out = result["missing"] | {", ".join(pair): reason for pair, reason in result["failed"].items()}
    lines += [f"  {what}: left out ({reason.splitlines()[0]})" for what, reason in left_out.items()]
    return "\n".join(lines)


def growth(rounds, libraries, array_module=None, tf32=False, progress=lambda rounds=1: None):
    """ResNets of several depths and batch sizes, in minigrad and PyTorch: [{"depth", "batch", "library", ...}]."""
    libraries = [library for library in libraries if library in ("minigrad", "PyTorch")]
    found = []
    for depth, batch in GROWTH:
        result = measure(Problem("resnet", batch, batch, (depth, 1)), libraries, rounds, array_module, tf32,
                         progress)
        for (library, route), row in result["rows"].items():
            found.append({"depth": depth, "batch": batch, "library": library, "route": route, "ms": row["ms"],
                          "memory": row["memory"], "rounds": result["rounds"]})
    return found


def _options(arguments):
    """The command line, checked; minigrad switched to the array module that it asks for."""
    p = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--gpu", action="store_true", help=f"on a GPU: {', '.join(ON_GPU)}, in the libraries that know it, "
                                                      "and the precision; a file of its own")
    p.add_argument("--problems", nargs="+", choices=PROBLEMS, metavar="NAME",
                   help=f"of {', '.join(PROBLEMS)}; default: all but the last, and on a GPU all")
    p.add_argument("--libraries", nargs="+", choices=LIBRARIES, metavar="NAME",
                   help=f"of {', '.join(LIBRARIES)}; default: all that are installed")
    p.add_argument("--rounds", type=int, default=10, help="measurements of each route, at least 2 (default 10)")
    p.add_argument("--threads", type=int, default=threads.threads(), help="of every library (default: one per core)")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--tf32", action="store_true", help="products of float32 in TF32, in every library; on a GPU")
    p.add_argument("--precision", action="store_true", help="also how exact Algorithm 1 is in float32")
    p.add_argument("--growth", action="store_true", help="also time and memory against batch size and depth")
    p.add_argument("--out", type=console.folder, default=RESULTS,
                   help=f"the folder for the JSON file and the figures (default {RESULTS})")
    options = p.parse_args(arguments)
    if options.rounds < 2 or options.threads < 1:
        p.error("--rounds needs at least 2, --threads at least 1")
    if options.gpu and options.backend == "numpy":
        p.error("--gpu and --backend numpy exclude each other")
    try:
        mg.use("cupy" if options.gpu else options.backend or backend.name())
    except mg.BackendError as error:
        p.error(str(error))
    if options.tf32 and backend.name() == "numpy":
        p.error("--tf32 needs a GPU: add --gpu")
    on_gpu = [library for library in LIBRARIES if library not in HOST]
    options.problems = options.problems or (ON_GPU if options.gpu else
                                            list(PROBLEMS)[:None if backend.name() == "cupy" else -1])
    options.libraries = options.libraries or (on_gpu if options.gpu else list(LIBRARIES))
    return options


def main(arguments=None):
    """Run the benchmark from the command line; gives the exit status."""
    console.prepare()
    options = _options(arguments)
    eigen = "true" if options.threads > 1 else "false"
    settings = {**dict.fromkeys(THREADS, str(options.threads)), "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen}"}
    before = backend.matmul_precision()
    backend.matmul_precision("tf32" if options.tf32 else "float32")
    try:
        check_folder(options.out)                           # before anything is measured
        with environment(settings):
            threads.threads.cache_clear()                    # of this process, which measures the machine
            _measured(options)
        return 0
    except (mg.MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        threads.threads.cache_clear()
        backend.matmul_precision(before)


def _conditions(options):
    """What the figures hold for."""
    found = {"date": datetime.date.today().isoformat(), "backend": backend.name(),
             "products": "tf32" if options.tf32 else "float32", "threads": options.threads, "rounds": options.rounds,
             "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    return found | ({"device": device_name()} if backend.name() == "cupy" else {})


def device_name():
    """What the GPU calls itself."""
    return mg.xp.cuda.runtime.getDeviceProperties(mg.xp.cuda.Device().id)["name"].decode()


def _measured(options):
    """All problems: printed and written as they are done."""
    everything, module = _conditions(options), backend.name()
    print(", ".join(f"{key} {value}" for key, value in everything.items()))
    stem = options.out / f"benchmark-{module}{'-tf32' * options.tf32}-{everything['date']}"
    if options.precision or options.gpu:
        everything["precision"] = precision.rows()
        print(precision.table(everything["precision"]))
    everything |= {"problems": {}, "comparisons": []}
    few = max(options.rounds // 3, 2)                       # rounds of the growth curves
    total = options.rounds * len(options.problems) + few * len(GROWTH) * options.growth
    with tqdm.tqdm(total=total, unit="round", disable=None) as bar:
        for name in options.problems:
            result = measure(PROBLEMS[name], options.libraries, options.rounds, module, options.tf32, bar.update)
            compared = comparisons(name, result["rows"])
            bar.write("\n".join([table(name, result), *map(_line, compared)]), file=sys.stdout)
            everything["comparisons"] += compared
            everything["problems"][name] = {**result, "rows": _listed(result["rows"]), "failed": _listed({
                pair: {"reason": reason} for pair, reason in result["failed"].items()})}
            write(everything, stem)
        if options.growth:
            everything["growth"] = growth(few, options.libraries, module, options.tf32, bar.update)
            write(everything, stem)
    print(f"written: {stem}.json and figures beside it")


def _line(comparison):
    what, value, low, high = comparison
    return f"{what:72s}{value:6.2f}" + (f"   ({low:.2f} - {high:.2f})" if low else "")


def _listed(rows):
    return [{"library": library, "route": route, **row} for (library, route), row in rows.items()]


def write(everything, stem):
    """The JSON file and the figures, of what has been measured so far."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    tree.write_whole(stem.with_suffix(".json"), (json.dumps(everything, indent=1) + "\n").encode())
    figures.bars(everything, stem.with_suffix(".png"))
    if "growth" in everything:
        figures.growth(everything, stem.with_name(stem.name + "-growth.png"))


if __name__ == "__main__":
    sys.exit(main())
