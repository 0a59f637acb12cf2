"""Programs of many ranks: what one returns on each rank is compared with what it returns on one rank, Alone()."""
import os
import signal
import time

import numpy as np

import minigrad as mg
from minigrad import distributed, models, nn, optim, tree
from minigrad.communicators import find
from minigrad.distributed import allmean, allsum, broadcast, share

NOISY, CLEAN = 13, 7    # examples, which no number of ranks divides


def counts(n, size):
    """Return uneven numbers of rows for each rank, which add up to n."""
    return [n // size + n % size + (size > 1), *[n // size] * (size - 2), n // size - 1][:size]


def rows(x, comm):
    """Return this rank's rows of x, on the device."""
    each = counts(len(x), comm.size)
    return mg.xp.asarray(x[sum(each[:comm.rank]):][:each[comm.rank]])


def normal(seed, *shape, dtype=float):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def on_host(x):
    return tree.map(lambda leaf: mg.to_host(leaf).copy(), x)


# ------------------------------------------------------------------------------------------------ derivatives

def net(params, x, comm):
    """Return (n, 2), by all collectives: synchronized normalization, a mean that all ranks use, a value of one rank."""
    h = mg.standardize(mg.tanh(mg.matmul(x, params["a"])), 0, 0.1, comm)
    center = allsum(mg.sum(h * h * h, axis=0), comm) / NOISY
    scale = broadcast(mg.exp(mg.mean(params["b"])), comm.size - 1, comm)
    return mg.sin(mg.matmul(h * center, params["b"])) * scale + allmean(params["c"], comm)


def derivatives(comm):
    """Return the derivatives up to the third of a function of parameters that all ranks share, in all mixes.

    Forward, a derivative belongs to a rank's rows, and those of all ranks add up. Backward, it is a gradient, which all
    ranks have; its product with a direction is divided by the number of ranks, so that these add up too.
    """
    x = rows(normal(3, NOISY, 4), comm)
    params = {"a": normal(1, 4, 3), "b": normal(2, 3, 2), "c": normal(4, 2)}
    params = tree.map(mg.xp.asarray, params)
    directions = [tree.map(lambda p: mg.xp.asarray(normal(seed, *p.shape)), params) for seed in (10, 11, 12)]

    def f(params):
        return mg.sum(net(share(params, comm), x, comm) ** 3)

    def forward(f, v):
        return lambda p: mg.jvp(f, (p,), (v,))[1]

    def backward(f, v):
        return lambda p: sum(mg.sum(g * d) for g, d in zip(tree.flatten(mg.grad(f)(p))[0], tree.flatten(v)[0])) / comm.size
    found, functions = {}, {"": f}
    for order, v in enumerate(directions):
        for name, g in functions.items():
            found[f"value {name}"] = comm.allsum(np.asarray(mg.to_host(g(params))))
            found[f"gradient {name}"] = on_host(mg.grad(g)(params))
        functions = {f"{name} {kind.__name__}": kind(g, v) for name, g in functions.items() for kind in (forward, backward)}
    for name, g in functions.items():
        found[f"value {name}"] = comm.allsum(np.asarray(mg.to_host(g(params))))
    y, J = mg.linearize(f, params)
    return found | {"push": comm.allsum(np.asarray(mg.to_host(J.push(directions[0])))), "pull": on_host(J.pull(1.0))}


def adjoints(comm):
    """Return, of each collective, the sums over ranks of <g, push t> and of <pull g, t>, nested three times.

    The t of `share` are those of parameters, the same on all ranks, and count once. x enters by the collective alone.
    """
    x, t = (mg.xp.asarray(normal(seed + comm.rank, 3, 2)) for seed in (0, 100))
    same = mg.xp.asarray(normal(99, 3, 2))
    found = {}
    maps = {"allsum": lambda x: allsum(x, comm), "allmean": lambda x: allmean(x, comm), "share": lambda x: share({"x": x}, comm)["x"],
            "broadcast": lambda x: broadcast(x, comm.size - 1, comm), "standardize": lambda x: mg.standardize(x, 0, 0.1, comm)}
    for name, f in maps.items():
        for order in range(3):
            at, direction, once = (same, same + 1.0, comm.size) if name == "share" else (x, t, 1)
            y, J = mg.linearize(f, at)
            g = mg.xp.asarray(normal(200 + comm.rank, *y.shape))
            sides = [mg.sum(g * J.push(direction)), mg.sum(J.pull(g) * direction) / once]
            found[name, order] = [float(comm.allsum(np.asarray(mg.to_host(side)))) for side in sides]
            f = (lambda f, of: lambda x: mg.jvp(lambda x: f(x) ** 3, (x,), (mg.sin(of(x)),))[1])(f, maps[name])
    return found


# ------------------------------------------------------------------------------------------------ Algorithm 1

MODELS = {"mlp": (lambda rng: models.mlp(rng, (64, 16, 3), normalize=True), (8, 8, 1)), "lenet": (lambda rng: models.lenet(rng, 3), (28, 28, 1)),
          "resnet-8": (lambda rng: models.resnet(rng, 8, classes=3), (8, 8, 3))}


def data(name, dtype):
    """Return the model of this name, and images and labels of the noisy and of the clean batch."""
    make, shape = MODELS[name]
    model = tree.map(lambda p: p.astype(dtype), make(np.random.default_rng(0)))
    flat = (lambda x: x.reshape(len(x), -1)) if name == "mlp" else (lambda x: x)
    batches = [(flat(normal(seed, n, *shape, dtype=dtype)), np.random.default_rng(seed).integers(0, 3, n)) for seed, n in ((5, NOISY), (6, CLEAN))]
    return tree.map(mg.xp.asarray, model), *batches


def step(name, dtype, comm, spoil=None, steps=1):
    """Return the results of Algorithm 1 on uneven parts of the batches, and the model and averages after some steps."""
    model, (x, y), (xc, yc) = data(name, dtype)
    model = distributed.synchronize(model, comm)
    if spoil is not None:
        x[spoil] = np.nan
    x, y, xc, yc = (rows(each, comm) for each in (x, y, xc, yc))
    optimizer = optim.sgd(momentum=0.9)
    momentum, state = optimizer.init(model), model.init_state()

    def losses(model):
        scores, new = model.apply(x, state)
        return nn.cross_entropy(scores, y), new

    def clean_loss(model):
        return mg.sum(nn.cross_entropy(model(xc), yc)) / CLEAN
    for _ in range(steps):
        r = mg.reweighted_gradient(losses, clean_loss, model, has_aux=True, comm=comm)
        w = mg.example_weights(lambda model: losses(model)[0], clean_loss, model, comm=comm)
        model, momentum = optimizer.update(r.gradient, momentum, model, 0.05)
        state = r.aux
    distributed.check_equal({"model": model, "state": state}, comm)
    own = [mg.to_host(each) for each in (r.weights, r.scores, r.losses, w)]
    joined = [np.concatenate(each) for each in zip(*comm.gather(own))]
    same = {"gradient": r.gradient, "clean loss": r.clean_loss, "not finite": r.not_finite, "model": model, "averages": state}
    return dict(zip(("weights", "scores", "losses", "example_weights"), joined)) | {key: tree.flatten(on_host(v))[0] for key, v in same.items()}


def steps(comm):
    """Return the results of `step` for all models and types."""
    return {(name, dtype): step(name, dtype, comm) for name in MODELS for dtype in ("float64", "float32")}


def step_on_device(comm):
    assert mg.backend.name() == "cupy"
    return step("lenet", "float32", comm)


# ------------------------------------------------------------------------------------------------ MPI

def pairs(comm):
    """Return the sums of the ranks over pairs of them, by communicators of mpi4py, and over all."""
    from mpi4py import MPI
    half = MPI.COMM_WORLD.Split(comm.rank // 2)
    sums = [float(allsum(np.asarray(float(comm.rank)), each)) for each in (half, half, MPI.COMM_WORLD)]
    assert sums[0] == sums[1]
    return sums[1:]


def differ(comm):
    allsum(np.ones(2 + (comm.rank == 1)), comm)


def fail(comm):
    if comm.rank == 1:
        raise ValueError("only rank 1 fails")
    allsum(np.ones(2), comm)


def die(comm):
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    allsum(np.ones(2), comm)


def sleep(comm):
    from mpi4py import MPI
    MPI.COMM_WORLD.Barrier()                                # all have started, however long that took
    if comm.rank == 1:
        time.sleep(150)
    allsum(np.ones(2), comm)


def own_messages(comm):
    """Return the message that a rank was sent while it waits; communicators are made once and found again."""
    from mpi4py import MPI
    half = MPI.COMM_WORLD.Split(comm.rank // 2)
    assert find(half) is find(half) and find(MPI.COMM_WORLD) is comm
    if comm.rank == 0:
        MPI.COMM_WORLD.send("mine", 1)
        time.sleep(1.5)
    allsum(np.ones(2), comm)                                # for which rank 1 waits, and listens
    return MPI.COMM_WORLD.recv() if MPI.COMM_WORLD.Iprobe() else None
