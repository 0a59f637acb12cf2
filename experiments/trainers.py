"""What takes the steps of a run: gradient descent on a network, or rounds of boosting. Both have

    blank() -> learned          a tree of the shape of what is learned, for loading
    begin() -> learned          what training begins with
    step(learned, t) -> learned, row        row: what happened, kept for the next line of the record
    checked(rows, t) -> rows    on the host, as lists of floats; raises NotFinite
    line(learned, rows, t) -> dict          evaluation after step t
"""

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
    """Scores (n, classes) and the moved averages. A model with one score, (n,), has the two classes' 0 and that."""
    y, state = model.apply(images, state, train, key)
    return (stack([xp.zeros(len(y), y.dtype), y], axis=1) if len(y.shape) == 1 else y), state


def predict(model, state, images, prepare):
    """The scores of many images, a chunk at a time, by the averages: (n, classes)."""
    return xp.concatenate([scores(model, prepare(xp.asarray(images[k:k + CHUNK]), None), state, train=False)[0]
                           for k in range(0, len(images), CHUNK)])


def _percent_wrong(decisions, labels):
    return 100.0 * float(np.mean(decisions != labels))


class _Trainer:
    """What both have in common: the task, and the images that are trained on."""

    def __init__(self, run):
        self.run, self.method, self.task, self.problem = run, METHODS[run.method], run.task(), run.problem
        self.pool, self.classes = self._training_set(), self.task.classes
        self.frequencies = np.bincount(self.pool.labels, minlength=self.classes) / len(self.pool)

    def errors(self, decide):
        """Errors in percent on test and validation (true labels, and the labels a practitioner would have)."""
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
        """What is learned, before anything is."""
        model = self.problem.init(generator((self.run.seed, INIT)), self.classes)
        layer = criteria.adaptation_layer(np.eye(self.classes)) if self.method.layer else None
        memory = self.method.memory(generator((self.run.seed, METHOD))) if self.method.memory else None
        params = {"model": model, "layer": layer}
        return {"params": params, "state": model.init_state(), "momentum": self.optimizer.init(params),
                "memory": memory}

    def begin(self):
        """What training begins with: new parameters, or those of the run it begins from."""
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
        """The method's loss of each example of a batch; the averages moved, and the scores."""
        y, state = scores(params["model"], batch.images, state, key=batch.key)
        return self.method.criterion(y, batch.labels, params["layer"], self.frequencies), Aux(state, y)

    def step(self, learned, t):
        """One step of the method's rule and of the optimizer."""
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
        """What a step does on the device. now: for methods that look at the host; the others may be captured."""
        def losses(params, part):
            """Of images of the clean set the averages of batch norm take no notice."""
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
        """Stays on the device until somebody looks: mean loss, sum of w, w on the minority, on wrong and on right
        labels, counts of wrong and right ones, how often the model would give another label, how often rightly, and
        the clean loss or -1."""
        own = r.aux.scores.argmax(1)
        other = own != batch.labels
        counts = xp.stack([r.losses / len(r.losses), r.weights, other, other & (own == true)]).sum(1)
        parts = [counts[:2], (r.weights[:, None] * marks).sum(0), marks[:, 1:].sum(0), counts[2:],
                 xp.full(1, -1.0) if r.clean_loss is None else r.clean_loss.reshape(1)]
        return xp.concatenate([part.astype(np.float32) for part in parts])

    def checked(self, rows, t):
        """The rows on the host; raises NotFinite if a loss among them is not finite, or beyond DIVERGED."""
        new = [row for row in rows if not isinstance(row, list)]
        host = to_host(xp.stack(new)).astype(float) if new else np.zeros((0, 10))
        largest = np.abs(host[:, [0, -1]]).max(1)           # the clean loss is -1 where there is none
        if not (largest < DIVERGED).all():                  # nor is NaN
            k = int(np.argmin(largest < DIVERGED))
            raise not_finite(self.run, t + 2 - len(host) + k, largest[k])
        return [row for row in rows if isinstance(row, list)] + host.tolist()

    def line(self, learned, rows, t):
        """Losses, errors and where the weight went, since the line before."""
        loss, total, rare, on_wrong, on_right, wrong, right, other, rightly, clean = np.array(rows).T
        model, state = learned["params"]["model"], learned["state"]
        clean_loss = float(mean(criteria.plain(predict(model, state, self.clean_images, self.problem.prepare),
                                               self.clean_labels, None, self.frequencies)))
        if not clean_loss < DIVERGED:
            raise not_finite(self.run, t + 1, clean_loss)
        seen = (wrong + right).sum()
        line = {"train_loss": loss.mean(), "train_error": 100.0 * other.sum() / seen, "clean_loss": clean_loss,
                **self.errors(lambda images: to_host(predict(model, state, images, self.problem.prepare).argmax(1))),
                "own_label_right": rightly.sum() / other.sum() if other.sum() else None,
                "minority_weight": rare.sum() / total.sum() if total.sum() else 0.0,
                "noisy_weight": (on_wrong.sum() / wrong.sum()) / (on_right.sum() / right.sum())
                if wrong.sum() and on_right.sum() else None}
        return line | ({"clean_losses": [float(f"{x:.4g}") for x in clean]} if (clean >= 0).all() else {})


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
        """No votes yet; weights equal, or by what the class costs."""
        weights = self.method.first(self.frequencies)[self.pool.labels] if self.method.first else None
        return boosting.begin(len(self.pool), [len(x) for x in self.others], self.classes, weights)

    begin = blank

    def step(self, learned, t):
        """One round: a learner, its weighted error and its vote."""
        predict = self.learner(self.x, self.pool.labels, to_host(learned.weights), generator((self.run.seed, STEPS, t)))
        learned, r = boosting.boost_round(learned, self.pool.labels, predict(self.x), [predict(x) for x in self.others],
                                          self.classes, self.costs)
        return learned, [r.error, r.alpha]

    def checked(self, rows, t):
        """As they are: errors and logarithms of errors are finite."""
        return rows

    def line(self, learned, rows, t):
        """Errors of the vote, and where the weight is."""
        decisions = iter(votes.argmax(1) for votes in learned.other_votes)
        w, pool = learned.weights, self.pool
        return {"learner_error": 100.0 * rows[-1][0], "alpha": rows[-1][1],
                "train_error": _percent_wrong(learned.votes.argmax(1), pool.labels),
                **self.errors(lambda images: next(decisions)),
                "minority_weight": float(w[pool.labels == self.task.minority].sum()),
                "noisy_weight": float(w[pool.wrong].mean() / w[~pool.wrong].mean()) if pool.wrong.any() else None}


def trainer_of(run):
    """What takes the steps of a run."""
    return (Boosting if isinstance(METHODS[run.method], Boosted) else Descent)(run)


def confusion(trainer, learned, part=None):
    """How often an example of each class (row) is taken for each class (column) by a trained network: rows of sum 1.

    part: of the task; the validation set if not given, else the clean set where there is none.
    """
    part = part or (trainer.task.validation if trainer.task.validation is not None else trainer.task.clean)
    model, prepare = learned["params"]["model"], trainer.problem.prepare
    taken = to_host(predict(model, learned["state"], part.images, prepare).argmax(1))
    counts = np.zeros((trainer.classes, trainer.classes))
    np.add.at(counts, (part.true, taken), 1.0)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
