"""What many ranks cost: messages, bytes and time of a step of Algorithm 1 on this machine, and a model of many GPUs.

    python -m experiments.ranks                     1, 2 and 4 ranks, one thread each: tables and a JSON file
    python -m experiments.ranks --ranks 1 2 8

The batch is the same however many ranks divide it. Ranks that share a core take turns: their time says little, their
messages and bytes are those of any machine.

The model. A step of Algorithm 1 on R GPUs, each with a batch of its own, takes

    T = compute + 2 sums of 4 P bytes + 4 sums of one number + 7 L sums of 8 C bytes

for P parameters and L batch normalizations of C channels on average, of which the last term is only there where their
statistics are over all ranks: 2 for the mean and the variance and 1 for the pull of the clean batch; for the noisy one
2, 1 for the push and 1 for the pull. They carry two numbers per channel at most (ten together, which the
formula rounds up to 14). A sum of n bytes over R GPUs takes latency + 2 n / bandwidth: within a machine by its own
links, beyond it by the network, whose latency grows with the logarithm of the number of machines. Nothing overlaps:
`share` sums all gradients at once, when the last is known.
"""
import argparse
import datetime
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import tqdm

import minigrad as mg
from minigrad import distributed, nn, optim, tree

from .. import console
from ..training.folders import check_folder
from ..training.pool import THREADS
from .limits import forward_pass, passes
from .peers import MOMENTUM, RATE, WORKLOADS, data, minigrad_model

MEASURED = ("lenet", "resnet32")
RESULTS = pathlib.Path("runs", "benchmark")
SIZES = 8, 16, 64, 256, 1024        # of the model


# ------------------------------------------------------------------------------------------------ measured

def measure(name, comm, steps):
    """Return what a step costs on these ranks: seconds, messages, bytes; and the number of parameters."""
    workload = WORKLOADS[name]
    x, y, xc, yc = (distributed.part(a, comm) for a in data(workload))
    model = distributed.synchronize(minigrad_model(workload), comm)
    loss = nn.sigmoid_cross_entropy if workload.network == "lenet" else nn.cross_entropy
    optimizer = optim.sgd(momentum=MOMENTUM)
    momentum, times = optimizer.init(model), []
    for _ in range(steps + 1):
        before, start = (comm.messages, comm.bytes), time.perf_counter()
        r = mg.reweighted_gradient(lambda m: loss(m(x), y),
                                   lambda m: distributed.mean_part(loss(m(xc), yc), comm), model, comm=comm)
        model, momentum = optimizer.update(r.gradient, momentum, model, RATE)
        times.append(time.perf_counter() - start)
    distributed.check_equal(model, comm)
    return {"workload": name, "ranks": comm.size, "ms": 1e3 * statistics.median(times[1:]),
            "messages": comm.messages - before[0], "bytes": comm.bytes - before[1],
            "parameters": sum(p.size for p in tree.flatten(model)[0])}


def _measure_here(path, steps):
    """Measure on the ranks of this program, and write the rows to a file."""
    rows = [measure(name, distributed.world(), steps) for name in MEASURED]
    if distributed.rank() == 0:
        tree.write_whole(pathlib.Path(path), json.dumps(rows).encode())


def find_mpiexec():
    """Return the path of mpiexec, of this environment first; None if there is none."""
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    return shutil.which("mpiexec", path=beside)


def measure_all(sizes, steps, folder):
    """Return the rows of all numbers of ranks, each measured by a program that mpiexec starts."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        raise mg.MinigradError("mpiexec was not found\n  help: pip install 'minigrad[mpi]'")
    rows, file = [], folder / "ranks.part.json"
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "MINIGRAD_BACKEND": "numpy"}
    for size in tqdm.tqdm(sizes, unit="size", disable=None):
        command = [mpiexec, "-n", str(size), sys.executable, "-m", "mpi4py", "-m", "experiments.benchmark.ranks",
                   "--measure", str(file), "--steps", str(steps)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise mg.MinigradError(f"{size} ranks failed: {done.stderr.strip()[-2000:]}")
        rows += json.loads(file.read_text())
    file.unlink()
    return rows


def table(rows):
    """Format what was measured."""
    lines = [f"{'a step of Algorithm 1, one thread a rank':42s}{'ranks':>6}{'ms':>10}{'messages':>10}{'bytes':>12}"
             f"{'/ 4 P':>8}"]
    return "\n".join(lines + [f"  {row['workload']:40s}{row['ranks']:6}{row['ms']:10.1f}{row['messages']:10}"
                              f"{row['bytes']:12,}{row['bytes'] / row['parameters'] / 4:8.2f}" for row in rows])


# ------------------------------------------------------------------------------------------------ the model

class Cluster(NamedTuple):
    """Machines with GPUs. These numbers are assumptions, of eight H100 in a machine and 400 Gb/s for each of them."""
    gpus: int = 8                   # in a machine
    inside: float = 300e9           # bytes/s of a GPU to the others in its machine, of 450 by the data sheet
    between: float = 40e9           # ... to other machines, of 50
    latency: float = 12e-6          # seconds of a sum of a few bytes within a machine
    hop: float = 6e-6               # ... more for each doubling of the number of machines

    def sum(self, bytes, ranks):
        """Return the seconds of a sum of so many bytes on each of the ranks."""
        if ranks == 1:
            return 0.0
        machines = max(ranks / self.gpus, 1.0)
        bandwidth = self.inside if machines == 1 else self.between
        return self.latency + self.hop * math.log2(machines) + 2 * bytes * (1 - 1 / ranks) / bandwidth


class Network(NamedTuple):
    """A network, as the model sees it."""
    parameters: int
    layers: int                     # batch normalizations
    channels: float                 # of these, on average
    compute: float                  # seconds of a step on one GPU


def network(name, compute=None, rate=30e12):
    """Return the Network of a workload. compute: seconds of a step, or None for its FLOPs at this rate per second."""
    workload, model = WORKLOADS[name], minigrad_model(WORKLOADS[name])
    compute = compute or forward_pass(workload)["flops"] * passes(workload, "Algorithm 1") / rate
    channels = [len(a) for a in tree.flatten(model.init_state())[0]][::2]
    return Network(sum(p.size for p in tree.flatten(model)[0]), len(channels), float(np.mean(channels)), compute)


CLUSTER = Cluster()


def predict(net, ranks, cluster=CLUSTER):
    """Return the seconds of a step: with statistics of each rank, and with those of all ranks."""
    own = net.compute + 2 * cluster.sum(4 * net.parameters, ranks) + 4 * cluster.sum(4, ranks)
    return own, own + 7 * net.layers * cluster.sum(8 * net.channels, ranks)


NETWORKS = {"resnet32": 11.5e-3, "wrn-28-10": None}     # seconds of a captured step on an H100, see gpu.md


def model():
    """Return the rows of the model, in milliseconds."""
    found = []
    for name, compute in NETWORKS.items():
        net = network(name, compute)
        for ranks in (1, *SIZES):
            own, of_all = predict(net, ranks)
            found.append({"network": name, "gpus": ranks, "own": 1e3 * own, "all": 1e3 * of_all,
                          "efficiency": [net.compute / own, net.compute / of_all]})
    return found


def model_table(rows):
    """Format the rows of the model."""
    lines = [f"{'model: 100 + 100 images on each GPU':42s}{'GPUs':>6}{'ms, own statistics':>22}{'of all ranks':>18}"]
    return "\n".join(lines + [f"  {row['network']:40s}{row['gpus']:6}{row['own']:14.1f} ({row['efficiency'][0]:4.0%})"
                              f"{row['all']:11.1f} ({row['efficiency'][1]:4.0%})" for row in rows])


def main(arguments=None):
    """Measure, print and write; return the exit status."""
    p = console.Parser(prog="python -m experiments.ranks", description=__doc__)
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="numbers of ranks to measure")
    p.add_argument("--steps", type=int, default=20, help="steps to measure (default 20)")
    p.add_argument("--out", type=console.folder, default=RESULTS, help=f"folder of the JSON file (default {RESULTS})")
    p.add_argument("--measure", help=argparse.SUPPRESS)
    options = p.parse_args(arguments)
    if min(*options.ranks, options.steps) < 1:
        p.error("--ranks and --steps must be at least 1")
    if options.measure:
        _measure_here(options.measure, options.steps)
        return 0
    try:
        check_folder(options.out)
        rows, predicted = measure_all(options.ranks, options.steps, options.out), model()
    except (mg.MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    date = datetime.date.today().isoformat()
    path = options.out / f"ranks-{date}.json"
    found = {"date": date, "cores": os.cpu_count(), "steps": options.steps, "measured": rows, "model": predicted,
             "cluster": CLUSTER._asdict()}
    tree.write_whole(path, (json.dumps(found, indent=1) + "\n").encode())
    print(table(rows), model_table(predicted), f"written: {path}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
