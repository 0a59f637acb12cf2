"""Rounding errors of Algorithm 1: its gradient and example weights in float32 (on a GPU also TF32) against float64."""
import numpy as np

import minigrad as mg
from minigrad import backend, reweight, tree

from .peers import WORKLOADS, Workload, data, minigrad_model
from .peers.of_minigrad import both_losses

NETWORKS = {"lenet": WORKLOADS["lenet"], "resnet8": Workload("resnet", 100, 100, (8, 1))}
ON_GPU = {"resnet32": WORKLOADS["resnet32"]}             # its float64 reference is slow on a machine without a GPU


def algorithm_1(workload, dtype):
    """Return {"gradient", "weights"} of a step from the initial weights, as flat NumPy arrays.

    dtype: of all floats, "float32" or "float64".
    """
    def put(a):
        a = mg.to_host(a)
        return mg.xp.asarray(a.astype(dtype) if a.dtype.kind == "f" else a)
    losses = both_losses(workload, *map(put, data(workload)))
    found = reweight.reweighted_gradient(*losses, tree.map(put, minigrad_model(workload)))
    leaves = [mg.to_host(leaf).ravel() for leaf in tree.flatten(found.gradient)[0]]
    return {"gradient": np.concatenate(leaves), "weights": mg.to_host(found.weights)}


def rows(networks=None):
    """Return [{"problem", "precision", "backend", "gradient", "weights"}]: relative errors on the backend in use."""
    used, before, found = backend.name(), backend.matmul_precision(), []
    on_gpu = used == "cupy"
    try:
        for name, workload in (networks or NETWORKS | (ON_GPU if on_gpu else {})).items():
            mg.use("numpy")
            expected = algorithm_1(workload, "float64")
            mg.use(used)
            for precision in ("float32", "tf32") if on_gpu else ("float32",):
                backend.matmul_precision(precision)
                ours = algorithm_1(workload, "float32")
                found.append({"problem": name, "precision": precision, "backend": used,
                              **{what: relative(ours[what], expected[what]) for what in expected}})
    finally:
        mg.use(used)
        backend.matmul_precision(before)
    return found


def relative(found, expected):
    """Return the norm of the error divided by the norm of the expected array."""
    return float(np.linalg.norm(found.astype("float64") - expected) / np.linalg.norm(expected))


def table(rows):
    """Format the rows as a table."""
    lines = [f"{'Algorithm 1 against float64: relative error':50s}{'gradient':>12}{'weights':>12}"]
    return "\n".join(lines + [f"  {', '.join((row['problem'], row['precision'], row['backend'])):48s}"
                              f"{row['gradient']:12.1e}{row['weights']:12.1e}" for row in rows])
