"""Trainers take the steps of a run: gradient descent on a network (Descent), or rounds of boosting (Boosting).

Both have

    blank() -> learned          a tree with the structure of the learned one, for loading
    begin() -> learned          the tree that training begins with
    step(learned, t) -> learned, row        row: numbers of this step, kept for the next line of the record
    checked(rows, t) -> rows    on the host, as lists of floats; raises NotFinite
    line(learned, rows, t) -> dict          evaluation after step t
"""
from typing import Any, NamedTuple

import numpy as np

from minigrad import FileError, capture, mean, optim, stack, to_host, tree, xp
from minigrad.backend import generator

from .biases import Part
from .methods import (
    METHODS,
    NOT_GIVEN,
    Aux,
    Batch,
    Boosted,
    Known,
    NoiseLayer,
    Now,
    TrainsOn,
    boosting,
    criteria,
    samplers,
)
from .runs import DIVERGED, INIT, MASKS, METHOD, REBUILD, STEPS, finished, not_finite, restored

CHUNK = 500                     # images evaluated at once


def scores(model, images, state=None, train=True, key=None):
    """Return the scores (n, classes) and the moved averages. One score, (n,), becomes the two classes' 0 and itself."""
    y, state = model.apply(images, state, train, key)
    return (stack([xp.zeros(len(y), y.dtype), y], axis=1) if len(y.shape) == 1 else y), state


def predict(model, state, images, prepare):
    """Return the scores (n, classes) of many images, in evaluation mode, computed a chunk at a time."""
    return xp.concatenate([scores(model, prepare(xp.asarray(images[k:k + CHUNK]), None), state, train=False)[0]
                           for k in range(0, len(images), CHUNK)])


def _percent_wrong(decisions, labels):
    return 100.0 * float(np.mean(decisions != labels))


class Row(NamedTuple):
    """The numbers of one step of Descent, in one array of the device until the host asks for them, or of many steps."""
    loss: Any                   # the mean over the batch
    weight: Any                 # the sums of the weights: of all examples,
    minority_weight: Any        # of the rare class,
    wrong_weight: Any           # of wrong labels,
    right_weight: Any           # and of right ones
    wrong: Any                  # how many labels are wrong, and right
    right: Any
    other: Any                  # how many examples the model would label otherwise,
    other_right: Any            # and how many of them rightly
    clean_loss: Any             # -1 where the rule computes none


class _Trainer:
    """The task of a run and the set it trains on, common to both kinds."""

    def __init__(self, run):
        self.run, self.method, self.task, self.problem = run, METHODS[run.method], run.task(), run.problem
        self.pool, self.classes = self._training_set(), self.task.classes
        self.frequencies = np.bincount(self.pool.labels, minlength=self.classes) / len(self.pool)

    def errors(self, decide):
        """Return the errors in percent on test and validation (true labels, and those a practitioner would have)."""
        result = {"test_error": _percent_wrong(decide(self.task.test.images), self.task.test.labels)}
        if self.task.validation is not None:
            decisions = decide(self.task.validation.images)
            result |= {"validation_error": _percent_wrong(decisions, self.task.validation.true),
                       "validation_error_biased": _percent_wrong(decisions, self.task.validation.labels)}
        return result


class Descent(_Trainer):
    """Stochastic gradient descent: sampler, rule and criterion of the method, and SGD with momentum.

    learned: {"params": {"model", "layer"}, "state": averages of batch norm, "momentum", "memory" of the rule}. On a GPU
    a step is a CUDA graph, whose memory holds what is learned: the next step overwrites it.
    """

    def __init__(self, run):
        super().__init__(run)
        s = run.settings
        self.rate = optim.piecewise(s.rate, s.drops)
        self.optimizer = optim.sgd(momentum=s.momentum, weight_decay=s.decay)
        self.images, self.labels = xp.asarray(self.pool.images), xp.asarray(self.pool.labels)
        self.clean_images, self.clean_labels = xp.asarray(self.task.clean.images), xp.asarray(self.task.clean.labels)
        wrong = self.pool.wrong
        self.marks = np.stack([self.pool.labels == self.task.minority, wrong, ~wrong], 1).astype(np.float32)
        self.true = xp.asarray(self.pool.true)
        precision = [np.mean(~wrong[self.pool.labels == c]) if (self.pool.labels == c).any() else 0.0
                     for c in range(self.classes)]
        self.known = Known(self.frequencies, np.array(precision), s.decay)
        self.update = capture(self._update)

    def _training_set(self):
        part = self.method.trains_on.part(self.task)
        if self.method.rebuild is None:
            return part
        images, labels, origin = self.method.rebuild(part.images, part.labels, generator((self.run.seed, REBUILD)))
        true = np.where(origin < 0, labels, part.true[origin])      # what is made up is what it was made for
        return Part(images, labels, part.indices[origin], true)

    def blank(self):
        """Return new parameters, the first averages, no momentum, and the first memory of the rule."""
        model = self.problem.init(generator((self.run.seed, INIT)), self.classes)
        layer = criteria.adaptation_layer(np.eye(self.classes)) if self.method.layer else None
        memory = self.method.memory(generator((self.run.seed, METHOD))) if self.method.memory else None
        params = {"model": model, "layer": layer}
        return {"params": params, "state": model.init_state(), "momentum": self.optimizer.init(params),
                "memory": memory}

    def begin(self):
        """Return new parameters, or those of the run that this one begins from."""
        learned = self.blank()
        if self.method.base is None:
            return learned
        base = self.run.base
        if base is None or not finished(base):
            raise FileError(f"{self.run.name} begins from a finished run of {self.method.base}, which is not there\n"
                            "  help: train that run first, as every sweep does; if it failed, its error says why")
        trainer = trainer_of(base)
        trained = restored(base, trainer)
        if self.method.layer is NoiseLayer.CONFUSION:       # only the noise layer knows the base
            layer = criteria.adaptation_layer(confusion(trainer, trained))
            return {**learned, "params": {**learned["params"], "layer": layer}}
        return {**learned, "params": {**learned["params"], "model": trained["params"]["model"]},
                "state": trained["state"]}

    def losses(self, params, batch, state):
        """Return the method's loss of each example of a batch, and the moved averages and scores as Aux."""
        y, state = scores(params["model"], batch.images, state, key=batch.key)
        return self.method.criterion(y, batch.labels, params["layer"], self.frequencies), Aux(state, y)

    def step(self, learned, t):
        """Take one step of the method's rule and of the optimizer."""
        run, rng = self.run, generator((self.run.seed, STEPS, t))
        chosen = self.method.sampler(self.pool.labels, self.method.batch or run.settings.batch, rng)
        where, labels, rate = xp.asarray(chosen), self.pool.labels[chosen], self.rate(t)
        now = Now(t, run.settings.steps, rate, labels, rng)
        batch = Batch(self.problem.prepare(self.images[where], rng), self.labels[where], self._key(t, 0),
                      xp.asarray(self.method.weigh(self.known, now), np.float32))
        parts = batch, self._clean(rng, t), self.marks[chosen], self.true[where], np.asarray(rate, np.float32)
        if self.method.host:
            return self._update(learned, *tree.map(xp.asarray, parts), now=now)
        return self.update(learned, *parts)

    def _key(self, t, which):
        return np.array([self.run.seed % 2**32, MASKS, t, which], np.uint32)

    def _update(self, learned, batch, clean, marks, true, rate, now=NOT_GIVEN):
        """Do the part of a step that runs on the device. now: for methods with host=True; the others are captured."""
        def losses(params, part):
            """Return the losses; the clean batch does not update the running averages."""
            return self.losses(params, part, None if part is clean else learned["state"])
        r = self.method.rule(losses, learned["params"], batch, clean, learned["memory"], self.known, now)
        params, momentum = self.optimizer.update(r.gradient, learned["momentum"], learned["params"], rate)
        learned = {"params": params, "state": r.aux.state, "momentum": momentum, "memory": r.memory}
        return learned, self._row(r, batch, marks, true)

    def _clean(self, rng, t):
        count = self.run.settings.clean_batch
        if self.method.trains_on is not TrainsOn.TRAIN:
            return None
        chosen = samplers.with_repetition(self.task.clean.labels, count, rng) if count else np.arange(
            len(self.task.clean))
        where = xp.asarray(chosen)
        return Batch(self.problem.prepare(self.clean_images[where], rng), self.clean_labels[where], self._key(t, 1))

    def _row(self, r, batch, marks, true):
        """Return a Row as one array, in few launches: nothing here waits for the device."""
        own = r.aux.scores.argmax(1)
        other = own != batch.labels
        counts = xp.stack([r.losses / len(r.losses), r.weights, other, other & (own == true)]).sum(1)
        parts = [counts[:2], (r.weights[:, None] * marks).sum(0), marks[:, 1:].sum(0), counts[2:],
                 xp.full(1, -1.0) if r.clean_loss is None else r.clean_loss.reshape(1)]
        return xp.concatenate([part.astype(np.float32) for part in parts])

    def checked(self, rows, t):
        """Return the rows on the host; raise NotFinite if a loss among them is not finite, or beyond DIVERGED."""
        new = [row for row in rows if not isinstance(row, list)]
        host = to_host(xp.stack(new)).astype(float) if new else np.zeros((0, len(Row._fields)))
        all_rows = Row(*host.T)
        largest = np.maximum(np.abs(all_rows.loss), np.abs(all_rows.clean_loss))
        if not (largest < DIVERGED).all():                  # nor is NaN
            k = int(np.argmin(largest < DIVERGED))
            raise not_finite(self.run, t + 2 - len(host) + k, largest[k])
        return [row for row in rows if isinstance(row, list)] + host.tolist()

    def line(self, learned, rows, t):
        """Return losses, errors and where the weight went, since the line before."""
        r = Row(*np.array(rows).T)
        model, state = learned["params"]["model"], learned["state"]
        clean_loss = float(mean(criteria.plain(predict(model, state, self.clean_images, self.problem.prepare),
                                               self.clean_labels, None, self.frequencies)))
        if not clean_loss < DIVERGED:
            raise not_finite(self.run, t + 1, clean_loss)
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
    """Rounds of boosting; learned: the state of boosting.py, votes on the test and the validation set among it."""

    def __init__(self, run):
        super().__init__(run)
        self.learner = self.method.learner(self.classes)
        self.costs = self.method.costs(self.frequencies) if self.method.costs else None
        sets = [self.task.test, *([self.task.validation] if self.task.validation is not None else [])]
        self.x, *self.others = (to_host(self.problem.prepare(xp.asarray(part.images), None))
                                for part in (self.pool, *sets))

    def _training_set(self):
        return self.task.baseline

    def blank(self):
        """Return an ensemble without votes; weights are equal, or by the cost of the class."""
        weights = self.method.first(self.frequencies)[self.pool.labels] if self.method.first else None
        return boosting.begin(len(self.pool), [len(x) for x in self.others], self.classes, weights)

    begin = blank

    def step(self, learned, t):
        """Do one round: train a learner, and add its vote."""
        predict = self.learner(self.x, self.pool.labels, to_host(learned.weights), generator((self.run.seed, STEPS, t)))
        learned, r = boosting.boost_round(learned, self.pool.labels, predict(self.x), [predict(x) for x in self.others],
                                          self.classes, self.costs)
        return learned, [r.error, r.alpha]

    def checked(self, rows, t):
        """Return the rows as they are: errors and logarithms of errors are finite."""
        return rows

    def line(self, learned, rows, t):
        """Return the errors of the vote, and where the weight is."""
        decisions = iter(votes.argmax(1) for votes in learned.other_votes)
        w, pool = learned.weights, self.pool
        return {"learner_error": 100.0 * rows[-1][0], "alpha": rows[-1][1],
                "train_error": _percent_wrong(learned.votes.argmax(1), pool.labels),
                **self.errors(lambda images: next(decisions)),
                "minority_weight": float(w[pool.labels == self.task.minority].sum()),
                "noisy_weight": float(w[pool.wrong].mean() / w[~pool.wrong].mean()) if pool.wrong.any() else None}


def trainer_of(run):
    """Return the trainer of a run."""
    return (Boosting if isinstance(METHODS[run.method], Boosted) else Descent)(run)


def confusion(trainer, learned, part=None):
    """Return the confusion matrix of a trained network: true classes by predicted ones, each row divided by its sum.

    part: of the task; the validation set if not given, or the clean set where there is none.
    """
    part = part or (trainer.task.validation if trainer.task.validation is not None else trainer.task.clean)
    model, prepare = learned["params"]["model"], trainer.problem.prepare
    predicted = to_host(predict(model, learned["state"], part.images, prepare).argmax(1))
    counts = np.zeros((trainer.classes, trainer.classes))
    np.add.at(counts, (part.true, predicted), 1.0)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
