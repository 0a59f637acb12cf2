"""Trainers, which take the steps of a run: gradient descent on a network (Descent), or boosting (Boosting).

Both have these methods; `learned` is a tree of arrays, everything that training changes:

    template() -> learned                   a tree of the same structure, for loading a checkpoint
    init() -> learned                       the tree before the first step
    step(learned, t) -> learned, row        one step, and the numbers of it that the record needs
    fetch_rows(rows, t) -> rows             the rows as lists of floats on the host; raises NotFinite
    line(learned, rows, t) -> dict          the evaluation after step t, a line of the record
"""
import numpy as np

from minigrad import FileError, capture, mean, optim, stack, to_host, tree, xp
from minigrad.backend import generator
from minigrad.distributed import Alone, part, synchronize

from ..data import Part
from ..methods import (
    NOT_GIVEN,
    Aux,
    Batch,
    Boosted,
    Known,
    NoiseLayer,
    Now,
    Row,
    TrainsOn,
    boosting,
    criteria,
    samplers,
)
from .runs import DIVERGED, INIT, MASKS, METHOD, REBUILD, STEPS, is_finished, not_finite_error, restore

ALONE = Alone()


def scores(model, images, state=None, train=True, key=None):
    """Return the scores (n, classes) and the new running averages.

    A single score y for each example, (n,), becomes the two scores [0, y].
    """
    y, state = model.apply(images, state, train, key)
    return _for_each_class(y), state


def _for_each_class(y):
    return stack([xp.zeros(len(y), y.dtype), y], axis=1) if len(y.shape) == 1 else y


def predict(model, state, images, prepare):
    """Return the scores (n, classes) of images on the host, in evaluation mode."""
    return _for_each_class(model.predict(images, state, prepare=lambda some: prepare(xp.asarray(some), None)))


def _percent_wrong(decisions, labels):
    return 100.0 * float(np.mean(decisions != labels))


class _Trainer:
    """The base class of trainers, with the task of a run, and `examples`, the part that its method trains on.

    comm: the communicator of the ranks that train this run together.
    """

    def __init__(self, run, comm=ALONE):
        self.comm = comm
        self.run, self.method, self.task, self.problem = run, run.method, run.task(), run.problem
        self.examples, self.classes = self._training_set(), self.task.classes
        self.frequencies = np.bincount(self.examples.labels, minlength=self.classes) / len(self.examples)

    def errors(self, decide):
        """Return errors in percent: on the test set, and on validation by true and by given labels.

        decide: images -> their predicted labels (n,).
        """
        result = {"test_error": _percent_wrong(decide(self.task.test.images), self.task.test.labels)}
        if self.task.validation is not None:
            decisions = decide(self.task.validation.images)
            result |= {"validation_error": _percent_wrong(decisions, self.task.validation.true),
                       "validation_error_biased": _percent_wrong(decisions, self.task.validation.labels)}
        return result


class Descent(_Trainer):
    """Stochastic gradient descent with momentum, by the sampler, rule and criterion of a method.

    learned: {"params": {"model", "layer"}, "state": running averages of batch norm, "momentum", "memory" of the rule}.
    On a GPU a step is a CUDA graph, and its output is in the memory of the graph, which the next step overwrites. Many
    ranks draw the same batch, and each takes its part of it.
    """

    def __init__(self, run, comm=ALONE):
        super().__init__(run, comm)
        s = run.settings
        self.rate = optim.piecewise(s.rate, s.drops)
        self.optimizer = optim.sgd(momentum=s.momentum, weight_decay=s.decay)
        self.images, self.labels = xp.asarray(self.examples.images), xp.asarray(self.examples.labels)
        self.clean_images, self.clean_labels = xp.asarray(self.task.clean.images), xp.asarray(self.task.clean.labels)
        self.true, right = xp.asarray(self.examples.true), ~self.examples.wrong
        precision = [np.mean(right[self.examples.labels == c]) if (self.examples.labels == c).any() else 0.0
                     for c in range(self.classes)]
        self.known = Known(self.frequencies, np.array(precision), s.decay, comm)
        self.update = capture(self._update)

    def _training_set(self):
        part = self.method.trains_on.part(self.task)
        if self.method.rebuild is None:
            return part
        images, labels, origin = self.method.rebuild(part.images, part.labels, generator((self.run.seed, REBUILD)))
        true = np.where(origin < 0, labels, part.true[origin])      # the label of a synthetic example is right
        return Part(images, labels, part.indices[origin], true)

    def template(self):
        """Return new parameters, and the initial running averages, momentum and memory of the rule."""
        model = synchronize(self.problem.init(generator((self.run.seed, INIT)), self.classes), self.comm)
        layer = criteria.adaptation_layer(np.eye(self.classes)) if self.method.layer else None
        memory = self.method.memory(generator((self.run.seed, METHOD))) if self.method.memory else None
        params = {"model": model, "layer": layer}
        return {"params": params, "state": model.init_state(), "momentum": self.optimizer.init(params),
                "memory": memory}

    def init(self):
        """Return the tree before the first step: new parameters, or those of the base, the run this one starts from."""
        learned = self.template()
        if self.method.base is None:
            return learned
        base = self.run.base
        if base is None or not is_finished(base):
            first = base.labels.get("method", base.name) if base else self.method.base.name
            raise FileError(f"{self.run.name} starts from a finished run of {first}, which does not "
                            "exist\n  help: train that run first, as every sweep does; if it failed, see its error")
        trainer = trainer_of(base)
        trained = restore(base, trainer)
        if self.method.layer is NoiseLayer.CONFUSION:       # the base determines the noise layer only
            layer = criteria.adaptation_layer(confusion(trainer, trained))
            return {**learned, "params": {**learned["params"], "layer": layer}}
        return {**learned, "params": {**learned["params"], "model": trained["params"]["model"]},
                "state": trained["state"]}

    def losses(self, params, batch, state):
        """Return the method's loss of each example of a batch, (n,), and the new running averages and scores as Aux."""
        y, state = scores(params["model"], batch.images, state, key=batch.key)
        return self.method.criterion(y, batch.labels, params["layer"], self.frequencies), Aux(state, y)

    def step(self, learned, t):
        """Take one step of the method's rule and of the optimizer."""
        run, rng = self.run, generator((self.run.seed, STEPS, t))
        chosen = self.method.sampler(self.examples.labels, self.method.batch or run.settings.batch, rng)
        indices, labels, rate = xp.asarray(chosen), self.examples.labels[chosen], self.rate(t)
        now = Now(t, run.settings.steps, rate, labels, rng)
        images, mine = self.problem.prepare(self.images[indices], rng), part(indices, self.comm)
        batch = Batch(part(images, self.comm), self.labels[mine], self._key(t, 0),
                      xp.asarray(part(self.method.weigh(self.known, now), self.comm), np.float32))
        parts = batch, self._clean(rng, t), self.true[mine], np.asarray(rate, np.float32)
        if self.method.host:
            return self._update(learned, *tree.map(xp.asarray, parts), now=now)
        return self.update(learned, *parts)

    def _key(self, t, which):
        key = [self.run.seed % 2**32, MASKS, t, which]
        return np.array(key if self.comm.size == 1 else [*key, self.comm.rank], np.uint32)

    def _update(self, learned, batch, clean, true, rate, now=NOT_GIVEN):
        """Do the part of a step that runs on the device, and is captured unless the method has host=True.

        Args:
            learned: the tree.
            batch: Batch of training examples.
            clean: Batch of clean examples, or None.
            true: (n,), true labels.
            rate: of this step.
            now: a Now for methods with host=True.
        """
        def losses(params, part):                           # the clean batch does not update the running averages
            return self.losses(params, part, None if part is clean else learned["state"])
        r = self.method.rule(losses, learned["params"], batch, clean, learned["memory"], self.known, now)
        params, momentum = self.optimizer.update(r.gradient, learned["momentum"], learned["params"], rate)
        learned = {"params": params, "state": r.aux.state, "momentum": momentum, "memory": r.memory}
        return learned, self._row(r, batch.labels, true)

    def _clean(self, rng, t):
        count = self.run.settings.clean_batch
        if self.method.trains_on is not TrainsOn.TRAIN:
            return None
        chosen = samplers.with_repetition(self.task.clean.labels, count, rng) if count else np.arange(
            len(self.task.clean))
        indices = xp.asarray(chosen)
        images = self.problem.prepare(self.clean_images[indices], rng)
        return Batch(part(images, self.comm), self.clean_labels[part(indices, self.comm)], self._key(t, 1))

    def _row(self, r, labels, true):
        """Return a Row as one array on the device, in few kernel launches and without synchronizing."""
        predicted = r.aux.scores.argmax(1)
        other, wrong = predicted != labels, labels != true
        minority = labels == (-1 if self.task.minority is None else self.task.minority)
        marks = xp.stack([minority, wrong, ~wrong], 1).astype(np.float32)
        sums = xp.stack([r.losses / len(r.losses), r.weights, other, other & (predicted == true)]).sum(1)
        parts = [sums[:2], (r.weights[:, None] * marks).sum(0), marks[:, 1:].sum(0), sums[2:],
                 xp.full(1, -1.0) if r.clean_loss is None else r.clean_loss.reshape(1)]
        return xp.concatenate([part.astype(np.float32) for part in parts])

    def fetch_rows(self, rows, t):
        """Return the rows as lists on the host; raise NotFinite for a loss that is not finite or above DIVERGED."""
        new = [row for row in rows if not isinstance(row, list)]
        host = self._over_ranks(to_host(xp.stack(new)).astype(float)) if new else np.zeros((0, len(Row._fields)))
        all_rows = Row(*host.T)
        largest = np.maximum(np.abs(all_rows.loss), np.abs(all_rows.clean_loss))
        if not (largest < DIVERGED).all():                  # NaN compares as False
            k = int(np.argmin(largest < DIVERGED))
            raise not_finite_error(self.run, t + 2 - len(host) + k, largest[k])
        return [row for row in rows if isinstance(row, list)] + host.tolist()

    def _over_ranks(self, rows):
        """Return the rows of the whole batches from those of this rank's parts: sums, and two means."""
        if self.comm.size == 1:
            return rows
        count = rows[:, [Row._fields.index("wrong"), Row._fields.index("right")]].sum(1, keepdims=True)
        loss, clean_loss = Row._fields.index("loss"), Row._fields.index("clean_loss")
        sums = self.comm.allsum(np.hstack([rows, rows[:, [loss]] * count, count]))
        total = sums[:, :-2]
        total[:, loss], total[:, clean_loss] = sums[:, -2] / sums[:, -1], rows[:, clean_loss]
        return total

    def line(self, learned, rows, t):
        """Return losses and errors after step t, and the distribution of weights since the last line."""
        r = Row(*np.array(rows).T)
        model, state = learned["params"]["model"], learned["state"]
        clean_loss = float(mean(criteria.plain(predict(model, state, self.clean_images, self.problem.prepare),
                                               self.clean_labels, None, self.frequencies)))
        if not clean_loss < DIVERGED:
            raise not_finite_error(self.run, t + 1, clean_loss)
        other, total = r.other.sum(), r.weight.sum()
        line = {"train_loss": r.loss.mean(), "train_error": 100.0 * other / (r.wrong + r.right).sum(),
                "clean_loss": clean_loss,
                **self.errors(lambda images: to_host(predict(model, state, images, self.problem.prepare).argmax(1))),
                "own_label_right": r.other_right.sum() / other if other else None,
                "minority_weight": r.minority_weight.sum() / total if total else 0.0,
                "noisy_weight": (r.wrong_weight.sum() / r.wrong.sum()) / (r.right_weight.sum() / r.right.sum())
                if r.wrong.sum() and r.right_weight.sum() else None}
        has_clean = (r.clean_loss >= 0).all()
        return line | ({"clean_losses": [float(f"{x:.4g}") for x in r.clean_loss]} if has_clean else {})


class Boosting(_Trainer):
    """Boosting, one round a step; learned: the Ensemble of boosting.py, with votes on the test and validation sets."""

    def __init__(self, run, comm=ALONE):
        super().__init__(run, comm)
        self.costs = self.method.costs(self.frequencies)[self.examples.labels]
        sets = [self.task.test, *([self.task.validation] if self.task.validation is not None else [])]
        self.x, *self.others = (to_host(self.problem.prepare(xp.asarray(part.images), None)).reshape(len(part), -1)
                                for part in (self.examples, *sets))

    def _training_set(self):
        return self.task.baseline

    def template(self):
        """Return an Ensemble without votes, with the initial weights of the method."""
        first = self.method.first(self.frequencies)[self.examples.labels]
        return boosting.init(first, [len(x) for x in self.others], self.classes)

    init = template

    def step(self, learned, t):
        """Do one round of boosting: train a learner, and add its vote."""
        seed = int(generator((self.run.seed, STEPS, t)).integers(2 ** 31 - 1))
        learned, r = boosting.boost_round(learned, self.method.learner, self.x, self.examples.labels, self.others,
                                          seed, self.costs)
        return learned, list(r)

    def fetch_rows(self, rows, t):
        """Return the rows, which are on the host and always finite."""
        return rows

    def line(self, learned, rows, t):
        """Return the errors of the vote after round t, and the distribution of the weights."""
        decisions = map(boosting.decide, learned.other_votes)
        w, examples = learned.weights, self.examples
        last = boosting.Round(*rows[-1])
        return {"learner_error": 100.0 * last.error, "alpha": last.alpha,
                "train_error": _percent_wrong(boosting.decide(learned.votes), examples.labels),
                **self.errors(lambda images: next(decisions)),
                "minority_weight": float(w[examples.labels == self.task.minority].sum()),
                "noisy_weight": (float(w[examples.wrong].mean() / w[~examples.wrong].mean())
                                 if 0 < examples.wrong.sum() < len(examples) else None)}


def trainer_of(run, comm=ALONE):
    """Return a new trainer for a run on these ranks: Boosting or Descent."""
    return (Boosting if isinstance(run.method, Boosted) else Descent)(run, comm)


def confusion(trainer, learned, part=None):
    """Return the confusion matrix of a trained network, (true classes, predicted classes); each row sums to 1.

    part: a Part of the task; None: the validation set, or the clean set if there is no validation set.
    """
    part = part or (trainer.task.validation if trainer.task.validation is not None else trainer.task.clean)
    model, prepare = learned["params"]["model"], trainer.problem.prepare
    predicted = to_host(predict(model, learned["state"], part.images, prepare).argmax(1))
    counts = np.zeros((trainer.classes, trainer.classes))
    np.add.at(counts, (part.true, predicted), 1.0)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
