"""The cost of a training step: minigrad against PyTorch, JAX and others, in one run.

    python -m experiments.benchmark                      MLP, LeNet and ResNet-32: a table, JSON and figures
    python -m experiments.benchmark --problems lenet --libraries minigrad PyTorch --rounds 30
    python -m experiments.benchmark --threads 1 2        every problem with one thread, and with two
    python -m experiments.benchmark --problems wrn-28-10 --steps plain          WRN-28-10, batches of 16 on the CPU
    python -m experiments.benchmark --growth             time and memory against batch size and depth
    python -m experiments.benchmark --gpu                LeNet, ResNet-32 and WRN-28-10 on a GPU: see gpu.md

Every library runs in its own process and takes its turn in every round, so that a noisy machine disturbs all of them
alike: read the ratios, which are medians over the rounds, not the milliseconds. On the CPU a pause of 0.2 s precedes
every turn, in which the threads of the library before go to sleep: those of OpenBLAS spin for 0.1 s after their last
product, those of PyTorch and JAX for 0.01 s, and would slow the next library. All take the same steps from the same
weights (checked to 1e-5). Libraries that are not installed and routes that cannot be built are left out, with the
reason. Peak memory is the most that a step holds at once beyond what was held before, as reported by tracemalloc,
CuPy's pool, PyTorch's profiler or XLA's plan. The files are updated after every problem.

The peak rates of the machine are measured in the same rounds: a large matrix product, and copying. The columns
"arithmetic" and "copying" compare a step with the least time that its FLOPs need at the first rate, and its arrays,
each read and written once, at the second.
"""
import contextlib
import datetime
import itertools
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

from .. import console, figures
from ..training.folders import check_folder
from ..training.pool import THREADS, environment
from . import precision
from .comparisons import comparisons, quartiles
from .limits import machine, work
from .peers import COMPILED, LIBRARIES, PROBLEMS, STEPS, Problem, find_problem, job, offers, weights
from .peers.process import Peer

GROWTH = [(32, 12), (32, 25), (32, 50), (32, 100), (8, 50), (14, 50), (20, 50)]      # depth of the ResNet, batch size
RESULTS = pathlib.Path("runs", "benchmark")
AGREEMENT = {"float32": 1e-5, "tf32": 1e-4}     # largest difference of two libraries' weights after a step
ON_GPU = ["lenet", "resnet32", "wrn-28-10"]
PAUSE = 0.2                                     # seconds before each turn on the CPU, twice what OpenBLAS spins
SECONDS = 60.0                                  # limit for the rounds of a problem on a GPU, unless two take longer


# -------------------------------------------------------------------------------------------- measurement

def measure(problem, libraries, rounds, array_module=None, tf32=False, steps=None, progress=lambda rounds=1: None):
    """Measure all routes of all libraries, in turns.

    Returns {"rows": {(library, route): row}, "machine", "rounds", "versions", "missing", "failed"}. The libraries build
    their steps at the same time (most of it is the work of compilers); after that only one computes at a time.

    Args:
        problem: the Problem.
        libraries: names in LIBRARIES.
        rounds: measurements of each route.
        array_module: where the libraries compute, "numpy" (CPU) or "cupy" (GPU); by default minigrad's current one.
        tf32: whether matrix products are in TF32.
        steps: the kinds of step to measure, as `peers.job` returns them; None: all.
        progress: called with the number of rounds done.
    """
    peers = {name: Peer(name, problem, array_module, tf32, steps) for name in libraries
             if offers(name, problem, array_module)}
    on_gpu = (array_module or backend.name()) == "cupy"
    try:
        for peer in peers.values():
            peer.wait()
        pairs = [(name, route) for name, peer in peers.items() for route in peer.routes]
        found = {"difference": _check_agreement(peers, pairs, AGREEMENT["tf32" if tf32 else "float32"])}
        for what in ("memory", "launches"):
            found[what] = {pair: peers[pair[0]].ask(what, pair[1]) for pair in pairs}
        found["times"], limits = _rounds(peers, pairs, rounds, *((SECONDS, 0.0) if on_gpu else (math.inf, PAUSE)),
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


def _rounds(peers, pairs, rounds, seconds, pause, progress):
    """Return the times of each pair (library, route) and the peak rates of the machine, per round.

    Stops after two rounds or more when `seconds` have passed. Each measurement follows a pause of so many seconds.
    """
    times, limits, begun = {pair: [] for pair in pairs}, [], time.perf_counter()
    while len(limits) < 2 or len(limits) < rounds and time.perf_counter() - begun < seconds:
        time.sleep(pause)
        limits.append(machine())
        for name, route in pairs:
            time.sleep(pause)
            times[name, route].append(peers[name].ask("time", route))
        progress()
    progress(rounds - len(limits))
    return times, limits


def _row(pair, found, cost, limit):
    """Return the row of one route of one library, as the JSON file keeps it."""
    times = found["times"][pair]
    seconds = statistics.median(times)
    row = {"ms": 1e3 * seconds, "quartiles": [1e3 * q for q in quartiles(times)], "memory": found["memory"][pair],
           "times": times, "difference": found["difference"][pair],
           "arithmetic": cost["flops"] / limit["flops"] / seconds, "copying": cost["bytes"] / limit["bytes"] / seconds}
    launches = found["launches"][pair]
    return row | ({} if launches is None else {"launches": launches})


def _check_agreement(peers, pairs, most=AGREEMENT["float32"]):
    """Return {(library, route): the largest difference of any weight to the first library's after the same step}.

    A route that differs by more than `most` computes something else and is marked as failed.
    """
    first, differ = {}, {}
    for name, route in pairs:
        found = peers[name].ask("weights", route)
        if found is None:                                   # the route failed
            continue
        expected = first.setdefault(job(route), found)
        differ[name, route] = max(float(abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        if not differ[name, route] <= most:
            peers[name].failed[route] = f"its weights differ from the others' by {differ[name, route]:.2g}"
    return differ


# ------------------------------------------------------------------------------------------------ results

def table(title, result):
    """Format the rows of a problem as a table."""
    lines = [f"{title:50s}{'ms':>9}{'quartiles':>18}{'peak MB':>9}{'arithmetic':>12}{'copying':>9}"]
    for (library, route), row in result["rows"].items():
        name = f"{library}, {figures.readable(route)}"
        low, high = row["quartiles"]
        megabytes = f"{row['memory'] / 1e6:.1f}" if row["memory"] else ""
        lines.append(f"  {name:48s}{row['ms']:9.2f}{f'{low:.2f} - {high:.2f}':>18}{megabytes:>9}"
                     f"{row['arithmetic']:12.0%}{row['copying']:9.0%}"
                     + (f"   {row['launches']} launches" if "launches" in row else ""))
    left_out = result["missing"] | {", ".join(pair): reason for pair, reason in result["failed"].items()}
    lines += [f"  {what}: left out ({reason.splitlines()[0]})" for what, reason in left_out.items()]
    return "\n".join(lines)


def growth(rounds, libraries, array_module=None, tf32=False, progress=lambda rounds=1: None):
    """Measure ResNets of several depths and batch sizes in minigrad and PyTorch, with arguments as in `measure`.

    Returns [{"depth", "batch", "library", "route", "ms", "memory", "rounds"}].
    """
    libraries = [library for library in libraries if library in ("minigrad", "PyTorch")]
    found = []
    for depth, batch in GROWTH:
        result = measure(Problem("resnet", batch, batch, (depth, 1)), libraries, rounds, array_module, tf32,
                         progress=progress)
        for (library, route), row in result["rows"].items():
            found.append({"depth": depth, "batch": batch, "library": library, "route": route, "ms": row["ms"],
                          "memory": row["memory"], "rounds": result["rounds"]})
    return found


def _options(arguments):
    """Parse and check the command line, and switch minigrad to the backend that it asks for."""
    p = console.Parser(prog="python -m experiments.benchmark", description=__doc__)
    p.add_argument("--gpu", action="store_true",
                   help=f"run on a GPU: {', '.join(ON_GPU)}, in the libraries that support one, and --precision")
    p.add_argument("--problems", nargs="+", choices=PROBLEMS, metavar="NAME",
                   help=f"some of {', '.join(PROBLEMS)}; default: all but the last; "
                        f"with --gpu: {', '.join(ON_GPU)}")
    p.add_argument("--libraries", nargs="+", choices=LIBRARIES, metavar="NAME",
                   help=f"some of {', '.join(LIBRARIES)}; default: all that are installed but {COMPILED}")
    p.add_argument("--rounds", type=int, default=10, help="measurements of each route, at least 2 (default 10)")
    p.add_argument("--steps", nargs="+", choices=STEPS, metavar="KIND",
                   help=f"kinds of step to measure, some of {', '.join(STEPS)}; default: all")
    p.add_argument("--threads", type=int, nargs="+", default=[threads.threads()], metavar="N",
                   help="threads of every library (default: one per core); several numbers are measured in turn")
    p.add_argument("--backend", choices=("numpy", "cupy"),
                   help="compute on the CPU or a GPU (default: cupy where it can run)")
    p.add_argument("--tf32", action="store_true", help="compute float32 products in TF32 (every library; needs a GPU)")
    p.add_argument("--precision", action="store_true", help="also measure rounding errors of Algorithm 1 in float32")
    p.add_argument("--growth", action="store_true", help="also measure time and memory against batch size and depth")
    p.add_argument("--out", type=console.folder, default=RESULTS,
                   help=f"folder for the JSON file and the figures (default {RESULTS})")
    options = p.parse_args(arguments)
    if options.rounds < 2 or min(options.threads) < 1:
        p.error("--rounds must be at least 2, --threads at least 1")
    if options.growth and len(options.threads) > 1:
        p.error("--growth takes one number of --threads")
    if options.gpu and options.backend == "numpy":
        p.error("--gpu and --backend numpy exclude each other")
    try:
        mg.use("cupy" if options.gpu else options.backend or backend.name())
    except mg.BackendError as error:
        p.error(str(error))
    if options.tf32 and backend.name() == "numpy":
        p.error("--tf32 needs a GPU: add --gpu")
    options.problems = options.problems or (ON_GPU if options.gpu else
                                            list(PROBLEMS)[:None if backend.name() == "cupy" else -1])
    options.libraries = options.libraries or [library for library in LIBRARIES if library != COMPILED]
    return options


def main(arguments=None):
    """Run the benchmark from the command line and return the exit status."""
    console.prepare()
    options = _options(arguments)
    before = backend.matmul_precision()
    backend.matmul_precision("tf32" if options.tf32 else "float32")
    try:
        check_folder(options.out)                           # fail before measuring anything
        _measure_all(options)
        return 0
    except (mg.MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        backend.matmul_precision(before)


@contextlib.contextmanager
def _use_threads(count):
    """Set the number of threads of this process, which measures the machine, and of libraries started within."""
    eigen = "true" if count > 1 else "false"
    with environment({**dict.fromkeys(THREADS, str(count)), "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen}"}):
        threads.threads.cache_clear()
        try:
            yield
        finally:
            threads.threads.cache_clear()


def _conditions(options):
    """Return the conditions of the measurement: date, versions, threads, device ..."""
    found = {"date": datetime.date.today().isoformat(), "backend": backend.name(),
             "products": "tf32" if options.tf32 else "float32", "threads": options.threads, "rounds": options.rounds,
             "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    return found | ({"device": device_name()} if backend.name() == "cupy" else {})


def device_name():
    """Return the name of the GPU."""
    return mg.xp.cuda.runtime.getDeviceProperties(mg.xp.cuda.Device().id)["name"].decode()


def _measure_all(options):
    """Measure all problems, and print and write each when it is done."""
    everything, module = _conditions(options), backend.name()
    print(", ".join(f"{key} {value}" for key, value in everything.items()))
    stem = options.out / f"benchmark-{module}{'-tf32' * options.tf32}-{everything['date']}"
    if options.precision or options.gpu:
        everything["precision"] = precision.rows()
        print(precision.table(everything["precision"]))
    everything |= {"problems": {}, "comparisons": []}
    few = max(options.rounds // 3, 2)                       # rounds of the growth curves
    total = options.rounds * len(options.problems) * len(options.threads) + few * len(GROWTH) * options.growth
    with tqdm.tqdm(total=total, unit="round", disable=None) as bar:
        for name, count in itertools.product(options.problems, options.threads):
            problem = find_problem(name, module)
            title = name if len(options.threads) == 1 else f"{name}, {figures.in_words([count])}"
            with _use_threads(count):
                result = measure(problem, options.libraries, options.rounds, module, options.tf32, options.steps,
                                 bar.update)
            compared = comparisons(title, result["rows"])
            bar.write("\n".join([table(f"{title}, {problem.noisy} + {problem.clean} examples", result),
                                 *map(_line, compared)]), file=sys.stdout)
            everything["comparisons"] += compared
            everything["problems"][title] = {
                **result, "threads": count, "batches": [problem.noisy, problem.clean], "rows": _as_list(result["rows"]),
                "failed": _as_list({pair: {"reason": reason} for pair, reason in result["failed"].items()})}
            write(everything, stem)
        if options.growth:
            with _use_threads(*options.threads):
                everything["growth"] = growth(few, options.libraries, module, options.tf32, bar.update)
            write(everything, stem)
    print(f"written: {stem}.json and the figures next to it")


def _line(comparison):
    what, value, low, high = comparison
    return f"{figures.readable(what):88s}{value:6.2f}" + (f"   ({low:.2f} - {high:.2f})" if low else "")


def _as_list(rows):
    return [{"library": library, "route": route, **row} for (library, route), row in rows.items()]


def write(everything, stem):
    """Write the JSON file and the figures of what has been measured so far."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    tree.write_whole(stem.with_suffix(".json"), (json.dumps(everything, indent=1) + "\n").encode())
    figures.bars(everything, stem.with_suffix(".png"))
    if "growth" in everything:
        figures.growth(everything, stem.with_name(stem.name + "-growth.png"))
