"""Training in batches: passes over examples on the host, by Algorithm 1 or two methods to compare it with.

    plan = Plan("reweight", seed=0)
    now = start(model, plan)
    for number in range(100):
        now, record = one_pass(plan, now, rows, clean, number)
    probabilities(now, x)

The record of a pass tells what each example earned; minigrad/README.md adds it up, for a loss of numbers.

Everything random comes from keys, (seed, use, pass, batch): whoever stops after a pass, and goes on later with the same
`Fitted`, has the same bits as without a stop. estimators.py wraps this for scikit-learn.
"""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from . import nn, optim, tree
from .backend import generator, is_float, to_host, xp
from .boundary import guard
from .errors import DataError, ShapeError, message, shape
from .kinds import is_integer
from .labels import row_indices
from .models import mlp
from .ops import mean, reshape, softmax, sum
from .reweight import reweighted_gradient
from .transforms import value_and_grad
from .typing import Array, Key, Shape, Tree

METHODS = "reweight", "proportion", "uniform"
CLEAN, HELD_OUT, ORDER, STEP = range(1, 5)      # the second integer of a key: what its random numbers are for


class Rows(NamedTuple):
    """Examples on the host: x, (n, ...), an array or a sparse matrix; y, the labels 0 ... classes - 1, (n,).

    With a loss of your own in the plan, y is whatever it takes: numbers, (n,) or (n, outputs).
    """
    x: Any
    y: NDArray[Any]

    def take(self, indices: NDArray[Any]) -> Rows:
        """Return the rows with these indices."""
        return Rows(self.x[indices], self.y[indices])


class CleanSet(NamedTuple):
    """The clean set, and the indices of its rows in the training set: none for rows apart from it."""
    rows: Rows
    known: NDArray[Any]


class Plan(NamedTuple):
    """The settings of training.

    method: "reweight", Algorithm 1; "uniform", plain training; "proportion", weights inverse to the frequency of the
    class. rate, weight_decay: of Adam. batch_size, clean_batch_size: the most examples in a step. seed: of all random
    numbers. loss: (output of the model, y) -> the loss of each example, (n,), such as nn.squared_error.
    """
    method: str = "reweight"
    rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 100
    clean_batch_size: int = 100
    seed: int = 0
    loss: Callable[[Array, Any], Array] = nn.cross_entropy

    def check(self) -> None:
        """Raise DataError for settings out of range."""
        if self.method not in METHODS:
            raise DataError(f"method = {self.method!r}: there is no such method\n  help: {', '.join(METHODS)}")
        check_number("rate", self.rate)
        if not isinstance(self.weight_decay, numbers.Real) or not 0.0 <= float(self.weight_decay) < math.inf:
            raise DataError(f"weight_decay = {self.weight_decay!r} is not a number, 0 or more")
        check_count("batch_size", self.batch_size)
        check_count("clean_batch_size", self.clean_batch_size)
        if not is_integer(self.seed) or self.seed < 0:
            raise DataError(f"seed = {self.seed!r} is not an integer, 0 or more")
        if not callable(self.loss):
            raise DataError(f"loss = {self.loss!r} is not a function\n  help: nn.cross_entropy, nn.squared_error ...")

    def optimizer(self) -> optim.Optimizer:
        """Return Adam with this weight decay."""
        return optim.adam(weight_decay=self.weight_decay)


class Fitted(NamedTuple):
    """All that a step of training changes."""
    model: nn.Module
    averages: Tree      # of batch normalization
    optimizer: Tree     # the optimizer's state


class Pass(NamedTuple):
    """The record of a pass: (n,) for the examples on the host, 0 for those that were not used; and two means."""
    weights: NDArray[Any]       # times the size of the batch: 1 in plain training
    positive: NDArray[Any]      # whether the weight was above 0
    loss: float                 # in training
    clean_loss: float           # 0 where it is not computed


def start(model: nn.Module, plan: Plan) -> Fitted:
    """Return a model with its initial running averages and the initial state of the optimizer.

    Raises DataError for settings out of range, and for a model that is no module.
    """
    plan.check()
    if not isinstance(model, nn.Module):
        raise DataError(f"network: {type(model).__name__} is no nn.Module\n"
                        "  help: pass a module, or a function that returns one")
    return Fitted(model, model.init_state(), plan.optimizer().init(model))


def one_pass(plan: Plan, now: Fitted, rows: Rows, clean: Rows, number: int,
             used: NDArray[Any] | None = None) -> tuple[Fitted, Pass]:
    """Train on each example once, in random order and in batches of nearly equal size.

    Args:
        plan: the settings.
        now: the parameters to begin with.
        rows: the training set.
        clean: the clean set, which "reweight" alone reads; all of it in each step, or a part drawn at random.
        number: of passes before this one: with the seed, the key of the random numbers.
        used: indices of the rows to train on, or a mask of them; None: all.

    Nothing is read from a device before the end of the pass. Raises DataError for settings out of range, for rows that
    do not belong together, where there is no row to train on or no clean one, and where the loss, a parameter, the
    optimizer's state or the scores of all examples are not finite.
    """
    plan.check()
    _check_rows("rows", rows)
    if plan.method == "reweight":
        _check_rows("clean", clean)
    n = len(rows.y)
    used = numpy.arange(n) if used is None else row_indices(
        "one_pass", "used", used, n, f"a mask of {n} bools, or different indices from 0 to {n - 1}")
    for what, count in (("training set", len(used)), ("clean set", len(clean.y) if plan.method == "reweight" else 1)):
        if not count:
            raise DataError(f"one_pass: the {what} has no row\n  help: one row of each class at least")
    balance = _balance(rows.y[used]) if plan.method == "proportion" else None
    weights, positive, means = xp.zeros(n, "float32"), xp.zeros(n, bool), xp.zeros(3, "float32")
    order = generator((plan.seed, ORDER, number)).permutation(used)
    for k, indices in enumerate(numpy.array_split(order, math.ceil(len(used) / plan.batch_size))):
        key, batch, at = (plan.seed, STEP, number, k), rows.take(indices), xp.asarray(indices)
        if plan.method == "reweight":
            now, w, found = _reweighted_step(plan, now, batch, clean, key)
        else:
            now, w, found = _weighted_step(plan, now, batch, balance, key)
        weights[at] = w * len(indices)
        positive[at] = w > 0
        means += xp.stack(found) * (len(indices) / len(used))
    loss, clean_loss, unscored = map(float, to_host(means))
    wrong = ("the loss of" if not math.isfinite(loss + clean_loss) else
             "a parameter, or the optimizer's state, after" if not _is_finite(now) else
             "every example's score in" if unscored > 0.999 else None)
    if wrong:
        raise DataError(f"{wrong} pass {number + 1} is not finite\n"
                        "  help: standardize the examples, or lower the rate; a network must return finite scores")
    return now, Pass(to_host(weights), to_host(positive), loss, clean_loss)


def _check_rows(name: str, rows: Rows) -> None:
    """Raise DataError unless x is an array or a sparse matrix, and y an array, of as many examples."""
    if not hasattr(rows.x, "dtype") or hasattr(rows.x, "iloc") or not isinstance(rows.y, numpy.ndarray):
        raise DataError(f"one_pass: {name} are a {type(rows.x).__name__} and a {type(rows.y).__name__}, not two "
                        "arrays\n  help: Rows(numpy.asarray(x), numpy.asarray(y))")
    if shape(rows.x)[:1] != shape(rows.y)[:1]:
        raise DataError(message("one_pass", f"{name} are examples without a label each", [
            ("x", rows.x, ""), ("y", rows.y, "")], "pass as many labels as examples"))


def _is_finite(now: Fitted) -> bool:
    """Return whether all that a step changes is finite; of a device, by one read."""
    each = [xp.isfinite(leaf).all() for leaf in tree.flatten(now)[0] if is_float(leaf)]
    return not each or bool(to_host(xp.stack(each)).all())


def _balance(y: NDArray[Any]) -> NDArray[Any]:
    """Return a factor for each class, inverse to its frequency: 1 if all are equally frequent.

    Raises DataError unless y are classes, 0, 1 ...
    """
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.min(initial=0) < 0:
        raise DataError(message("one_pass", "method 'proportion' weights classes, and y are not classes", [
            ("y", y, "")], "Rows(x, y) with y = 0, 1 ... for the class of each example; or method='reweight'"))
    counts = numpy.bincount(y)
    return len(y) / numpy.maximum(counts, 1) / numpy.count_nonzero(counts)


def _losses(plan: Plan, now: Fitted, batch: Rows, key: Key) -> Callable[[nn.Module], tuple[Array, Tree]]:
    """Return the function from the model to the losses of a batch, in training mode, and the next running averages."""
    x, y = to_device(batch.x), xp.asarray(batch.y)

    def losses(model: nn.Module) -> tuple[Array, Tree]:
        scores, averages = model.apply(x, now.averages, True, key)
        each = plan.loss(scores, y)
        if shape(each) != shape(y)[:1]:
            raise ShapeError(message("one_pass", "plan.loss(scores, y) must return one loss per example", [
                ("scores", scores, ""), ("y", y, ""), ("losses", each, "")],
                "sum it over outputs, and take no mean over examples"))
        return each, averages
    return losses


def _reweighted_step(plan: Plan, now: Fitted, batch: Rows, clean: Rows,
                     key: tuple[int, ...]) -> tuple[Fitted, Array, tuple[Array, Array, Array]]:
    """Return the next parameters, the weights of the batch, its mean training and clean loss: Algorithm 1.

    The third mean is the share of its examples whose score is not finite, so that they have no weight.
    """
    if len(clean.y) > plan.clean_batch_size:
        clean = clean.take(generator((*key, 0)).choice(len(clean.y), plan.clean_batch_size, replace=False))
    clean_losses = _losses(plan, now, clean, (*key, 1))
    r = reweighted_gradient(_losses(plan, now, batch, (*key, 2)), lambda model: mean(clean_losses(model)[0]),
                            now.model, has_aux=True)
    return _update(plan, now, r.gradient, r.aux), r.weights, (mean(r.losses), r.clean_loss, r.not_finite / len(batch.y))


def _weighted_step(plan: Plan, now: Fitted, batch: Rows, balance: NDArray[Any] | None,
                   key: tuple[int, ...]) -> tuple[Fitted, Array, tuple[Array, Array, Array]]:
    """Return the same with equal weights, or with weights in proportion to `balance` of the class."""
    factors = numpy.ones(len(batch.y)) if balance is None else balance[batch.y]
    weights, losses = xp.asarray(factors / len(batch.y), "float32"), _losses(plan, now, batch, (*key, 2))

    def total(model: nn.Module) -> tuple[Array, Any]:
        each, averages = losses(model)
        return sum(weights * each), (mean(each), averages)
    (_, (loss, averages)), gradient = value_and_grad(total, has_aux=True)(now.model)
    return _update(plan, now, gradient, averages), weights, (loss, xp.zeros_like(loss), xp.zeros_like(loss))


def _update(plan: Plan, now: Fitted, gradient: Tree, averages: Tree) -> Fitted:
    model, state = plan.optimizer().update(gradient, now.optimizer, now.model, plan.rate)
    return Fitted(model, averages, state)


def probabilities(now: Fitted, x: Any) -> NDArray[Any]:
    """Return the probability of each class, (n, classes), on the host.

    x: an array or a sparse matrix. The running averages are those of training.
    """
    return to_host(softmax(now.model.predict(x, now.averages, prepare=to_device)))


def balanced_loss(now: Fitted, rows: Rows) -> float:
    """Return the mean over the classes of their mean loss, in evaluation. Raises DataError where it is not finite."""
    p = probabilities(now, rows.x)[numpy.arange(len(rows.y)), rows.y].astype(float)
    losses = -numpy.log(numpy.maximum(p, numpy.finfo("float32").tiny))
    loss = float(numpy.mean([losses[rows.y == c].mean() for c in numpy.unique(rows.y)]))
    if not math.isfinite(loss):
        raise DataError("the loss of held-out examples is not finite\n"
                        "  help: standardize the examples, or lower the rate")
    return loss


def to_device(x: Any) -> Array:
    """Return examples as a dense float32 array of the array module in use. x: an array or a sparse matrix."""
    return xp.asarray(x.toarray() if hasattr(x, "toarray") else x, "float32")


# ------------------------------------------------------------------------------------------------- checks

def check_count(name: str, value: Any) -> None:
    """Raise DataError unless this setting is an integer, 1 or more."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise DataError(f"{name} = {value!r} is not an integer, 1 or more")


def check_number(name: str, value: Any, below: float = math.inf) -> None:
    """Raise DataError unless this setting is a number above 0 and below `below`."""
    if not isinstance(value, numbers.Real) or not 0.0 < float(value) < below:
        raise DataError(f"{name} = {value!r} is not a number between 0 and {below:g}")


def check_flag(name: str, value: Any) -> None:
    """Raise DataError unless this setting is True or False: a text such as "no" would count as true."""
    if not isinstance(value, bool | numpy.bool):
        raise DataError(f"{name} = {value!r} is neither True nor False")


# ------------------------------------------------------------------------------------------------- rows and networks

def divide(rows: Rows, clean: CleanSet | None, held_out: float, clean_fraction: float,
           seed: int) -> tuple[Rows, Rows, NDArray[Any]]:
    """Return the clean set to train with, the examples to hold out, and the indices of the rows not to train on.

    Args:
        rows: the training set.
        clean: the clean set; None: a share of the training set takes its place.
        held_out: the share of the clean set to hold out, or of the training set where there is none; 0: nothing.
        clean_fraction: see balanced_share.
        seed: of the random numbers.

    Raises DataError where there is nothing to hold out.
    """
    source = clean.rows if clean else rows
    out = hold_out(source.y, held_out, seed) if held_out else numpy.zeros(0, int)
    if held_out and not len(out):
        raise DataError(f"fit: {'the clean set' if clean else 'y'} has one example of each class, which leaves none to "
                        "hold out\n  help: early_stopping=False")
    rest, validation = numpy.setdiff1d(numpy.arange(len(source.y)), out), source.take(out)
    if clean is None:
        return rows.take(balanced_share(rows.y, rest, clean_fraction, seed)), validation, out
    return source.take(rest), validation, clean.known[out] if len(clean.known) else out[:0]


def balanced_share(y: NDArray[Any], used: NDArray[Any], fraction: float, seed: int) -> NDArray[Any]:
    """Return the indices of a share of the rows `used`, equally many of each class: as many as its rarest one has."""
    rng, parts = generator((seed, CLEAN)), [used[y[used] == c] for c in numpy.unique(y[used])]
    each = min(max(round(fraction * len(used) / len(parts)), 1), *map(len, parts), len(used))
    return numpy.concatenate([rng.choice(part, each, replace=False) for part in parts])


def hold_out(y: NDArray[Any], fraction: float, seed: int) -> NDArray[Any]:
    """Return the indices of rows to hold out: this share of each class, but one at least, and one fewer at most."""
    rng = generator((seed, HELD_OUT))
    parts = [rng.permutation(numpy.flatnonzero(y == c)) for c in numpy.unique(y)]
    counts = [min(max(round(fraction * len(part)), 1), len(part) - 1) for part in parts]
    return numpy.concatenate([part[:count] for part, count in zip(parts, counts)])


def default_network(rng: numpy.random.Generator, shape: Shape, classes: int,
                    hidden: int | Sequence[int] = (100,)) -> nn.Module:
    """Return linear layers with ReLU between them, from examples of any shape to scores (n, classes).

    hidden: the number of units of the hidden layer, or of each of several.
    """
    units = numpy.ravel(hidden).tolist()
    for each in units:
        check_count("hidden_layer_sizes", each)
    sizes = [math.prod(shape), *units, classes]
    return nn.Sequential((flatten, *mlp(rng, sizes).layers))


def flatten(x: Array) -> Array:
    """Return examples (n, ...) as (n, numbers of each)."""
    return reshape(x, (len(x), math.prod(x.shape[1:])))


guard(__name__)
