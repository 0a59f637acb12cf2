"""What a step costs: Algorithm 1 by each of its routes against a plain step, on LeNet and an MLP.

    python -m experiments.benchmark                  prints a table, writes experiments/results/benchmark-DATE.json

Times are medians over rounds in which the routes take turns, so that a noisy machine disturbs all of them alike: read
the ratios, not the milliseconds. Memory is the most held at once in one step beyond what was held before.
"""
import argparse
import datetime
import functools
import json
import pathlib
import platform
import statistics
import sys
import time

import numpy as np
import threadpoolctl

import minigrad as mg
from minigrad import nn, optim, reweight, tree
from minigrad.backend import peak_memory, seed, synchronize
from models import lenet, mlp

RESULTS = pathlib.Path(__file__).parent / "results"


def problem(name, noisy, clean):
    """A model, the losses of a noisy batch and the loss of a clean batch, on random float32 data."""
    rng = seed(0)
    model, shape, loss, classes = {
        "lenet": (lenet, (28, 28, 1), nn.sigmoid_cross_entropy, 2),
        "mlp": (functools.partial(mlp, sizes=(784, 256, 256, 10)), (784,), nn.cross_entropy, 10),
    }[name]
    x, x_clean = (mg.xp.asarray(rng.random((n, *shape), "float32")) for n in (noisy, clean))
    y, y_clean = (mg.xp.asarray(rng.integers(0, classes, n)) for n in (noisy, clean))
    return model(rng), lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y_clean))


def routes(model, losses, clean_loss):
    """{name: a whole training step, optimiser included}: the plain step first, then Algorithm 1 in three ways."""
    optimiser = optim.sgd(1e-3, momentum=0.9)
    state = optimiser.init(model)

    def step(gradient):
        return optimiser.update(gradient, state, model, 0)

    def then_update(weigh):
        weights = weigh(losses, clean_loss, model)
        return step(mg.grad(lambda m: mg.sum(weights * losses(m)))(model))
    return {
        "plain": lambda: step(mg.grad(lambda m: mg.mean(losses(m)))(model)),
        "reweighted_gradient": lambda: step(reweight.reweighted_gradient(losses, clean_loss, model).gradient),
        "example_weights": lambda: then_update(reweight.example_weights),
        "example_weights_unrolled": lambda: then_update(reweight.example_weights_unrolled),
    }


def measure(steps, rounds):
    """{name: {median, spread, memory}}: milliseconds, the quartiles of the ratio to the first, bytes."""
    times = {name: [] for name in steps}
    memory = {}
    for name, step in steps.items():
        step()
        with peak_memory() as peak:
            step()
        memory[name] = peak()
    for _ in range(rounds):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            times[name].append(time.perf_counter() - start)
    first = next(iter(steps))
    rows = {}
    for name in steps:
        ratios = [t / plain for t, plain in zip(times[name], times[first])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {"ms": 1e3 * statistics.median(times[name]), "ratio": middle, "ratio_quartiles": [low, high],
                      "memory": memory[name], "memory_ratio": memory[name] / memory[first]}
    return rows


def table(title, rows):
    """The rows as text."""
    lines = [f"{title:34s}{'ms':>8}{'ratio':>8}{'quartiles':>15}{'peak MB':>10}{'ratio':>7}"]
    for name, row in rows.items():
        low, high = row["ratio_quartiles"]
        lines.append(f"  {name:32s}{row['ms']:8.2f}{row['ratio']:8.2f}{f'{low:.2f} - {high:.2f}':>15}"
                     f"{row['memory'] / 1e6:10.2f}{row['memory_ratio']:7.2f}")
    return "\n".join(lines)


def main(arguments=None):
    """Run the benchmark from the command line; gives the exit status."""
    p = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=30, help="measurements of each route, at least 2 (default 30)")
    p.add_argument("--threads", type=int, default=1, help="of matrix products on the CPU (default 1)")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--out", type=pathlib.Path, help="the JSON file to write")
    options = p.parse_args(arguments)
    if options.rounds < 2 or options.threads < 1:
        p.error("--rounds needs at least 2, --threads at least 1")
    try:
        mg.use(options.backend or mg.backend.name())
    except mg.BackendError as error:
        p.error(str(error))
    today = datetime.date.today().isoformat()
    out = options.out or RESULTS / f"benchmark-{today}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"date": today, "backend": mg.backend.name(), "threads": options.threads, "rounds": options.rounds,
              "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(", ".join(f"{key} {value}" for key, value in result.items()))
    with threadpoolctl.threadpool_limits(options.threads):
        for name, noisy, clean in (("lenet", 100, 10), ("lenet", 100, 100), ("mlp", 100, 10)):
            title = f"{name}, {noisy} noisy + {clean} clean"
            result[title] = measure(routes(*problem(name, noisy, clean)), options.rounds)
            print(table(title, result[title]))
    tree.write_whole(out, (json.dumps(result, indent=1) + "\n").encode())
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
