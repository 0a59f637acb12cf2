"""The cost of a training step: minigrad against PyTorch, JAX and autograd, in one run.

    python -m experiments.benchmark                      MLP, LeNet and ResNet-32 on the CPU: a table, JSON, figures
    python -m experiments.benchmark --workloads lenet --libraries minigrad PyTorch --rounds 30
    python -m experiments.benchmark --threads 1 2        every workload with one thread, and with two
    python -m experiments.benchmark --workloads wrn-28-10 --steps plain          WRN-28-10, batches of 16 on the CPU
    python -m experiments.benchmark --growth             time and memory against batch size and depth
    python -m experiments.benchmark --gpu                LeNet, ResNet-32 and WRN-28-10 on a GPU: see gpu.md

Every library runs in its own process and takes its turn in every round, so that a noisy machine disturbs all of them
alike: read the ratios, which are medians over the rounds, not the milliseconds. On the CPU a pause of 0.2 s precedes
every turn: threads of OpenBLAS spin for 0.1 s after their last product and would slow the next library. All take the
same steps from the same weights (checked to 1e-5). Libraries that are not installed and routes that cannot be built are
left out, with the reason. Peak memory is the most that a step holds at once beyond what was held before.

The columns "arithmetic" and "copying" compare a step with the least time that its FLOPs need at the machine's rate of
matrix products, and its arrays, each read and written once, at that of copying. Both are measured in the same rounds.
The files are updated after every workload.
"""
import argparse
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
from .limits import forward_pass, machine, passes
from .peers import BATCH_ON_CPU, COMPILED, KINDS, LIBRARIES, WORKLOADS, Workload, kind, runs
from .peers.process import Peer

GROWTH = [(32, 12), (32, 25), (32, 50), (32, 100), (8, 50), (14, 50), (20, 50)]      # depth of the ResNet, batch size
OF_GROWTH = "minigrad", "PyTorch"
RESULTS = pathlib.Path("runs", "benchmark")
AGREEMENT = {"float32": 1e-5, "tf32": 1e-4}     # largest difference of two libraries' weights after a step
ON_GPU = ["lenet", "resnet32", "wrn-28-10"]
PAUSE = 0.2                                     # seconds before each turn on the CPU, twice what OpenBLAS spins
SECONDS = 60.0                                  # limit for the rounds of a workload on a GPU, unless two take longer


# -------------------------------------------------------------------------------------------- measurement

def measure(workload, libraries, rounds, gpu=False, tf32=False, kinds=None, progress=lambda rounds=1: None):
    """Measure all routes of all libraries, in turns.

    Returns {"rows": {(library, route): row}, "machine", "rounds", "versions", "missing", "failed"}. The libraries build
    their steps at the same time (most of it is the work of compilers); after that only one computes at a time.

    Args:
        workload: the Workload.
        libraries: names in LIBRARIES.
        rounds: measurements of each route.
        gpu: whether they compute on a GPU.
        tf32: whether matrix products are in TF32.
        kinds: the kinds of step to measure, some of KINDS; None: all.
        progress: called with the number of rounds done.

    There are no rows where no library has a step of these kinds.
    """
    peers = {name: Peer(name, workload, gpu, tf32, kinds) for name in libraries if runs(name, workload, gpu)}
    try:
        for peer in peers.values():
            peer.wait()
        rows = {(name, route): {"library": name, "route": route, "times": []}
                for name, peer in peers.items() for route in peer.routes}
        _check_agreement(peers, rows, AGREEMENT["tf32" if tf32 else "float32"])
        for (name, route), row in rows.items():
            row |= {what: peers[name].ask(what, route) for what in ("memory", "launches")}
        rates = _take_rounds(peers, rows, rounds if rows else 2, *((SECONDS, 0.0) if gpu else (math.inf, PAUSE)),
                             progress)
    finally:
        for peer in peers.values():
            peer.close()
    rate = {name: statistics.median(each[name] for each in rates) for name in rates[0]}
    failed = {(name, route): reason for name, peer in peers.items() for route, reason in peer.failed.items()}
    rows, once = {pair: row for pair, row in rows.items() if pair not in failed}, forward_pass(workload)
    for (_, route), row in rows.items():
        seconds = statistics.median(row["times"])
        row |= {"ms": 1e3 * seconds, "quartiles": [1e3 * q for q in quartiles(row["times"])]}
        row |= {name: once[what] * passes(workload, route) / rate[what] / seconds
                for name, what in (("arithmetic", "flops"), ("copying", "bytes"))}
    return {"rows": rows, "machine": rate, "rounds": len(rates), "failed": failed,
            "versions": {name: peer.version for name, peer in peers.items() if not peer.reason},
            "missing": {name: peer.reason for name, peer in peers.items() if peer.reason}}


def _take_rounds(peers, rows, rounds, seconds, pause, progress):
    """Append a time to each row in every round, and return the peak rates of the machine in each.

    Stops after two rounds or more when `seconds` have passed. Each measurement follows a pause of so many seconds.
    """
    rates, begun = [], time.perf_counter()
    while len(rates) < 2 or len(rates) < rounds and time.perf_counter() - begun < seconds:
        time.sleep(pause)
        rates.append(machine())
        for (name, route), row in rows.items():
            time.sleep(pause)
            row["times"].append(peers[name].ask("time", route))
        progress()
    progress(rounds - len(rates))
    return rates


def _check_agreement(peers, rows, most):
    """Enter into each row the largest difference of any weight to the first library's after the same step.

    A route that differs by more than `most` computes something else and is marked as failed.
    """
    first = {}
    for (name, route), row in rows.items():
        found = peers[name].ask("weights", route)
        if found is None:                                   # the route failed
            continue
        expected = first.setdefault(kind(route), found)
        row["difference"] = max(float(abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        if not row["difference"] <= most:
            peers[name].failed[route] = f"its weights differ from the others' by {row['difference']:.2g}"


def growth(rounds, libraries, gpu=False, tf32=False, kinds=None, progress=lambda rounds=1: None):
    """Measure ResNets of several depths and batch sizes in minigrad and PyTorch, with arguments as in `measure`.

    Returns [{"depth", "batch", "library", "route", "ms", "memory", "rounds"}].
    """
    found, libraries = [], [library for library in OF_GROWTH if library in libraries]
    for depth, batch in GROWTH:
        result = measure(Workload("resnet", batch, batch, (depth, 1)), libraries, rounds, gpu, tf32, kinds,
                         progress)
        found += [{"depth": depth, "batch": batch, **{key: row[key] for key in ("library", "route", "ms", "memory")},
                   "rounds": result["rounds"]} for row in result["rows"].values()]
    return found


# ------------------------------------------------------------------------------------------------ the command

def _options(arguments):
    """Parse and check the command line."""
    p = console.Parser(prog="python -m experiments.benchmark", description=__doc__)
    p.add_argument("--gpu", action=argparse.BooleanOptionalAction, default=None,
                   help=f"run on a GPU: {', '.join(ON_GPU)}, in the libraries that support one, and --precision; "
                        "default: if one works")
    p.add_argument("--workloads", "--problems", nargs="+", choices=WORKLOADS, metavar="NAME",
                   help=f"some of {', '.join(WORKLOADS)}; default: all but the last; "
                        f"with --gpu: {', '.join(ON_GPU)}")
    p.add_argument("--libraries", nargs="+", choices=LIBRARIES, metavar="NAME",
                   default=[library for library in LIBRARIES if library != COMPILED],
                   help=f"some of {', '.join(LIBRARIES)}; default: all that are installed but {COMPILED}")
    p.add_argument("--rounds", type=int, default=10, help="measurements of each route, at least 2 (default 10)")
    p.add_argument("--steps", nargs="+", choices=KINDS, metavar="KIND",
                   help=f"kinds of step to measure, some of {', '.join(KINDS)}; default: all")
    p.add_argument("--threads", type=int, nargs="+", default=[threads.threads()], metavar="N",
                   help="threads of every library (default: one per core); several numbers are measured in turn")
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
    if options.growth and not {*OF_GROWTH} & {*options.libraries}:
        p.error(f"--growth measures {' and '.join(OF_GROWTH)}: add one of them to --libraries")
    if options.growth and options.steps == ["gradient"]:
        p.error("--growth has no step of kind gradient: add plain or Algorithm 1 to --steps")
    if options.gpu is None:
        options.gpu = backend.name() == "cupy"
    if options.tf32 and not options.gpu:
        p.error("--tf32 needs a GPU: add --gpu")
    options.workloads = options.workloads or (ON_GPU if options.gpu else list(WORKLOADS)[:-1])
    return options


def main(arguments=None):
    """Run the benchmark from the command line and return the exit status."""
    console.prepare()
    options, before = _options(arguments), (backend.name(), backend.matmul_precision())
    try:
        mg.use("cupy" if options.gpu else "numpy")
        backend.matmul_precision("tf32" if options.tf32 else "float32")
        check_folder(options.out)                           # fail before measuring anything
        _measure_all(options)
        return 0
    except (mg.MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        mg.use(before[0])
        backend.matmul_precision(before[1])


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
             "products": backend.matmul_precision(), "threads": options.threads, "rounds": options.rounds,
             "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    if options.gpu:
        found["device"] = mg.xp.cuda.runtime.getDeviceProperties(mg.xp.cuda.Device().id)["name"].decode()
    return found


def _measure_all(options):
    """Measure all workloads, and print and write each when it is done."""
    everything = _conditions(options)
    print(", ".join(f"{key} {value}" for key, value in everything.items()))
    stem = options.out / f"benchmark-{backend.name()}{'-tf32' * options.tf32}-{everything['date']}"
    if options.precision or options.gpu:
        everything["precision"] = precision.rows()
        print(precision.table(everything["precision"]))
    everything |= {"problems": {}, "comparisons": []}
    few = max(options.rounds // 3, 2)                       # rounds of the growth curves
    total = options.rounds * len(options.workloads) * len(options.threads) + few * len(GROWTH) * options.growth
    with tqdm.tqdm(total=total, unit="round", disable=None) as bar:
        for name, count in itertools.product(options.workloads, options.threads):
            workload = WORKLOADS[name]
            if not options.gpu and name in BATCH_ON_CPU:
                workload = workload._replace(noisy=BATCH_ON_CPU[name], clean=BATCH_ON_CPU[name])
            title = name if len(options.threads) == 1 else f"{name}, {figures.in_words([count])}"
            with _use_threads(count):
                result = measure(workload, options.libraries, options.rounds, options.gpu, options.tf32, options.steps,
                                 bar.update)
            compared = comparisons(title, result["rows"])
            bar.write("\n".join([table(f"{title}, {workload.noisy} + {workload.clean} examples", result),
                                 *map(_line, compared)]), file=sys.stdout)
            everything["comparisons"] += compared
            failed = [{"library": library, "route": route, "reason": reason}
                      for (library, route), reason in result["failed"].items()]
            everything["problems"][title] = {**result, "threads": count, "batches": [workload.noisy, workload.clean],
                                             "rows": list(result["rows"].values()), "failed": failed}
            write(everything, stem)
        if not any(each["rows"] or each["failed"] for each in everything["problems"].values()):
            raise mg.MinigradError(f"no library here has a step of kind {', '.join(options.steps or KINDS)} on "
                                   f"{', '.join(options.workloads)}\n  help: other --steps, --libraries or --workloads")
        if options.growth:
            with _use_threads(*options.threads):
                everything["growth"] = growth(few, options.libraries, options.gpu, options.tf32, options.steps,
                                              bar.update)
            write(everything, stem)
    print(f"written: {stem}.json and the figures next to it")


def table(title, result):
    """Format the rows of a workload as a table."""
    lines = [f"{title:50s}{'ms':>9}{'quartiles':>20}{'peak MB':>9}{'arithmetic':>12}{'copying':>9}"]
    for pair, row in result["rows"].items():
        span = " - ".join(f"{q:.2f}" for q in row["quartiles"])
        megabytes = f"{row['memory'] / 1e6:.1f}" if row["memory"] else ""
        launches = f"   {row['launches']} launches" if row.get("launches") else ""
        lines.append(f"  {', '.join(pair):48s}{row['ms']:9.2f}{span:>20}{megabytes:>9}"
                     f"{row['arithmetic']:12.0%}{row['copying']:9.0%}{launches}")
    left_out = result["missing"] | {", ".join(pair): reason for pair, reason in result["failed"].items()}
    lines += [f"  {what}: left out ({reason.splitlines()[0]})" for what, reason in left_out.items()]
    return "\n".join(lines)


def _line(comparison):
    what, value, low, high = comparison
    return f"{what:88s}{value:6.2f}" + (f"   ({low:.2f} - {high:.2f})" if low else "")


def write(everything, stem):
    """Write the JSON file and the figures of what has been measured so far."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    tree.write_whole(stem.with_suffix(".json"), (json.dumps(everything, indent=1) + "\n").encode())
    figures.bars(everything, stem.with_suffix(".png"))
    if "growth" in everything:
        figures.growth(everything, stem.with_name(stem.name + "-growth.png"))
