"""Algorithm 1 as a classifier in scikit-learn's manner: ReweightedClassifier.

    model = make_pipeline(StandardScaler(), ReweightedClassifier())
    model.fit(X, y, reweightedclassifier__clean=clean)      # a mask of the rows whose labels are known to be right
    model.predict(X_test)

It needs scikit-learn: pip install 'minigrad[sklearn]'. `import minigrad` does not import this file.
"""
from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy
from numpy.typing import NDArray

from . import files, nn, tree
from .backend import generator, xp
from .errors import DataError, FileError, RequirementError, message
from .labels import check_covered, check_several, clean_indices, different, encode, known_labels, listed
from .training import (
    CleanSet,
    Fitted,
    Pass,
    Plan,
    Rows,
    balanced_loss,
    check_count,
    check_flag,
    check_number,
    default_network,
    divide,
    one_pass,
    probabilities,
    start,
)
from .typing import Tree

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise RequirementError(f"minigrad.estimators: scikit-learn 1.6 or newer cannot be imported ({error})\n"
                           "  help: pip install 'minigrad[sklearn]'") from error

TITLE, OWN = "minigrad.ReweightedClassifier", "a network of one's own"
FACTS = ("classes_", "n_features_in_", "feature_names_in_", "n_iter_", "loss_curve_", "clean_loss_curve_",
         "validation_losses_", "_shape", "_seed", "_hidden")
INPUT = dict(accept_sparse="csr", dtype="float32", allow_nd=True)


class ReweightedClassifier(ClassifierMixin, BaseEstimator):     # type: ignore[misc]
    """A neural network trained on biased data with the help of a small clean set (Ren et al. 2018, Algorithm 1).

    At every step each example of the batch is weighted by how much it lowers the loss on the clean set. So wrong labels
    and classes that are too frequent lose their influence. The classes in the clean set should be as frequent as those
    in the data to predict, or equally frequent.

    The input is a table (n, features), an array or sparse matrix of numbers, best standardized, without missing values;
    or any array (n, ...) such as images, with a `network` for it. It is converted to float32, a sparse one batch by
    batch.

    Args:
        network: (rng, shape of an example, number of classes) -> nn.Module, which maps (n, *shape) to (n, classes); or
            a module, whose parameters are the initial ones; None: an MLP with ReLU.
        hidden_layer_sizes: of the MLP: the number of units of its hidden layer, or of each of several.
        method: "reweight", Algorithm 1; or, to compare with, "uniform", plain training, and "proportion", weights
            inverse to the frequency of the class.
        learning_rate_init: the rate of Adam, the same for all methods.
        weight_decay: by which matrices shrink in a step, times the rate.
        max_iter: the number of passes over the training set.
        batch_size: the number of examples in a batch, at most.
        clean_batch_size: the number of clean examples in each step, at most.
        clean_fraction: without a clean set in `fit`, the share of the training set to use in its place, equally many of
            each class. This cures imbalance but not wrong labels, which such a share has as well.
        early_stopping: whether to hold out a share of the clean set, or of the training set if there is none, to keep
            the parameters with the lowest loss on it, and to stop after n_iter_no_change passes without a lower one.
            The loss is the mean over the classes. This saves time, at the price of clean examples.
        validation_fraction: the share of each class to hold out, at least one example.
        n_iter_no_change: see early_stopping.
        warm_start: whether `fit` begins with the parameters of the previous one, and its optimizer's state. `network`
            and `hidden_layer_sizes` have no effect then.
        random_state: the seed of all random numbers: an integer, a RandomState or None.
        verbose: whether to print the losses of each pass.

    Attributes:
        classes_: the labels, sorted.
        trust_: (n,), the share of passes of the last call of fit or partial_fit in which the weight of a training
            example was above 0: below 0.5 for suspects; NaN for rows that were held out.
        sample_weights_: (n,), the mean weight of a training example in these passes, where 1 is that of plain training.
        loss_curve_: the mean training loss of each pass.
        clean_loss_curve_: the mean clean loss of each pass, with method="reweight".
        validation_losses_: the loss on the examples held out after each pass, with early_stopping.
        n_iter_: the number of passes so far.
        model_: the trained nn.Module; averages_: its running averages.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(self, network: Any = None, *, hidden_layer_sizes: int | Sequence[int] = (100,),
                 method: str = "reweight", learning_rate_init: float = 1e-3, weight_decay: float = 1e-4,
                 max_iter: int = 100, batch_size: int = 100, clean_batch_size: int = 100, clean_fraction: float = 0.1,
                 early_stopping: bool = False, validation_fraction: float = 0.2, n_iter_no_change: int = 10,
                 warm_start: bool = False, random_state: Any = None, verbose: bool = False) -> None:
        self.network, self.hidden_layer_sizes, self.method = network, hidden_layer_sizes, method
        self.learning_rate_init, self.weight_decay, self.max_iter = learning_rate_init, weight_decay, max_iter
        self.batch_size, self.clean_batch_size, self.clean_fraction = batch_size, clean_batch_size, clean_fraction
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.warm_start = n_iter_no_change, warm_start
        self.random_state, self.verbose = random_state, verbose

    # ------------------------------------------------------------------------------------------ training

    def fit(self, X: Any, y: Any, X_clean: Any = None, y_clean: Any = None, clean: Any = None,
            after_pass: Callable[[Self], object] | None = None) -> Self:
        """Train on (X, y), some labels of which may be wrong, with a clean set. Return the classifier itself.

        Args:
            X: (n, ...), the training set.
            y: (n,), its labels: integers, strings ...
            X_clean: the clean set, where it is apart from X. It weights the training set, and is no part of it.
            y_clean: its labels.
            clean: the clean set, where it is a part of (X, y): a mask (n,), or indices, of the rows that are known to
                be right. They are trained on as well.
            after_pass: called with the classifier after each pass, to show progress or to measure.

        Without a clean set, a share of (X, y) takes its place: see clean_fraction.

        A Pipeline scales X, but not X_clean: pass `clean`. Cross-validation cuts a mask along with X, but not indices;
        its folds need clean examples of each class, as `StratifiedKFold(5).split(X, 2 * codes + mask)` chooses them,
        where codes are the labels as integers, and its scores are those on labels that may be wrong.

        Raises ValueError for data that cannot be trained on, such as missing values, a single class, or a clean set
        that lacks a class, for settings out of range, and where the loss is not finite. After an error, or Ctrl-C, the
        classifier is what it was before the pass, or before the call if that was the first.
        """
        return self._fit(X, y, None, (X_clean, y_clean, clean), self.warm_start, self.max_iter, self.early_stopping,
                         after_pass)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, X_clean: Any = None, y_clean: Any = None,
                    clean: Any = None) -> Self:
        """Make one pass over (X, y), starting from the parameters so far. Return the classifier itself.

        classes: all labels that will ever come, in the first call; by default those in y. The clean set is that of this
        call, and needs all classes in y. There is no early stopping. Other arguments and errors are those of fit.
        """
        return self._fit(X, y, classes, (X_clean, y_clean, clean), True, 1, False)

    def _fit(self, X: Any, y: Any, classes: Any, clean: tuple[Any, Any, Any], goes_on: bool, *training: Any) -> Self:
        before = dict(self.__dict__)                    # what is kept where no pass is completed: an error, or Ctrl-C
        try:
            return self._train(*self._prepare(X, y, classes, clean, goes_on), *training)
        finally:
            if self.__dict__.get("trust_") is before.get("trust_"):
                self.__dict__.clear()
                self.__dict__.update(before)

    def _prepare(self, X: Any, y: Any, classes: Any, clean: tuple[Any, Any, Any],
                 goes_on: bool) -> tuple[Rows, CleanSet | None]:
        """Check all that the caller passed, and draw the initial parameters unless training goes on."""
        self._check_settings()
        goes_on = goes_on and hasattr(self, "model_")
        X, y = validate_data(self, X, None if y is None else known_labels(y, "y"), reset=not goes_on, **INPUT)
        found = different(y)
        check_classification_targets(y)
        if classes is not None:
            found = different(known_labels(classes, "classes"))
        if not goes_on:
            check_several(found)
            self.classes_, self._shape = found, X.shape[1:]
        elif classes is not None and not numpy.array_equal(found, self.classes_):
            raise DataError(f"partial_fit: classes {listed(classes)} are not those of the first call, "
                            f"{listed(self.classes_)}\n  help: pass all labels that will ever come in the first call")
        self._check_shape(X)
        rows = Rows(X, encode(y, self.classes_, "y"))
        chosen = self._clean_set(rows, *clean)
        if not goes_on:
            self._start()
        return rows, chosen

    def _start(self) -> None:
        """Draw the initial parameters."""
        self._seed: int = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._hidden = numpy.ravel(self.hidden_layer_sizes).tolist() if self.network is None else None
        self.n_iter_ = 0
        self.loss_curve_: list[float] = []
        self.clean_loss_curve_: list[float] = []
        self.validation_losses_: list[float] = []
        self._set(self._initial())
        scores = self.model_.apply(xp.zeros((1, *self._shape), "float32"), self.averages_, False)[0]
        if scores.shape != (1, len(self.classes_)):
            raise DataError(message("fit", "the network does not return one score for each class", [
                ("scores", scores, f"of one example, {len(self.classes_)} classes")],
                "let it map examples (n, *shape) to scores (n, classes)"))

    def _initial(self) -> Fitted:
        """Return what training begins with: of an MLP, with hidden layers of the sizes _hidden; None: the network's."""
        plan, network, rng = self._plan(), self.network, generator(self._seed)
        if self._hidden is not None:
            network = default_network(rng, self._shape, len(self.classes_), self._hidden)
        elif not isinstance(network, nn.Module) and callable(network):
            network = network(rng, self._shape, len(self.classes_))
        return start(network, plan)

    def _plan(self) -> Plan:
        return Plan(self.method, self.learning_rate_init, self.weight_decay, self.batch_size, self.clean_batch_size,
                    self._seed)

    def _set(self, now: Fitted) -> None:
        self.model_, self.averages_, self._optimizer_state = now

    def _fitted(self) -> Fitted:
        return Fitted(self.model_, self.averages_, self._optimizer_state)

    def _train(self, rows: Rows, clean: CleanSet | None, passes: int, early_stopping: bool,
               after_pass: Callable[[Self], object] | None = None) -> Self:
        """Train. An error or Ctrl-C in a pass leaves the best parameters of those before."""
        plan, now, held_out = self._plan(), self._fitted(), self.validation_fraction if early_stopping else 0.0
        chosen, validation, unused = divide(rows, clean, held_out, self.clean_fraction, self._seed)
        used = numpy.setdiff1d(numpy.arange(len(rows.y)), unused)
        weights, positive = numpy.zeros((2, len(rows.y)))
        begin = balanced_loss(now, validation) if early_stopping and self.n_iter_ else math.inf
        lowest, since, made, best = begin, 0, 0, now
        while made < passes and (not early_stopping or since < self.n_iter_no_change):
            now, record = one_pass(plan, now, rows, chosen, self.n_iter_, used)
            loss = balanced_loss(now, validation) if early_stopping else None
            weights, positive, made, since = weights + record.weights, positive + record.positive, made + 1, since + 1
            if loss is None:
                best = now
            elif loss < lowest:
                lowest, since, best = loss, 0, now
            self._set(best)
            self.n_iter_ += 1
            self.sample_weights_, self.trust_ = weights / made, positive / made
            self.sample_weights_[unused] = self.trust_[unused] = numpy.nan
            self._record(record, loss)
            if after_pass:
                after_pass(self)
        return self

    def _record(self, record: Pass, validation_loss: float | None) -> None:
        """Append the losses of a pass to their lists, and print them."""
        found = [("loss", self.loss_curve_, record.loss)]
        found += [("clean loss", self.clean_loss_curve_, record.clean_loss)] * (self.method == "reweight")
        if validation_loss is not None:
            found.append(("held-out loss", self.validation_losses_, validation_loss))
        for _, curve, loss in found:
            curve.append(loss)
        if self.verbose:
            print(f"pass {self.n_iter_}: " + ", ".join(f"{name} {loss:.4f}" for name, _, loss in found))

    # ------------------------------------------------------------------------------------------ checks

    def _clean_set(self, rows: Rows, X_clean: Any, y_clean: Any, clean: Any) -> CleanSet | None:
        """Return the clean set that the caller passed, or None. Raise DataError where it does not fit the rows."""
        if (X_clean is None) != (y_clean is None) or clean is not None and X_clean is not None:
            raise DataError("fit: the clean set is not complete, or passed twice\n"
                            "  help: pass X_clean and y_clean, or clean, a mask of the rows of X that are known to be "
                            "right")
        if clean is not None:
            known = clean_indices(clean, len(rows.y))
            chosen = CleanSet(rows.take(known), known)
        elif X_clean is not None:
            x = check_array(X_clean, input_name="X_clean", estimator=self, **INPUT)
            try:
                validate_data(self, X_clean, reset=False, skip_check_array=True)    # the names and number of columns
            except ValueError as error:
                raise DataError(f"fit: the columns of X_clean are not those of X ({' '.join(str(error).split())})\n"
                                "  help: pass the same columns in the same order") from None
            self._check_shape(x)
            y_clean = column_or_1d(known_labels(y_clean, "y_clean"))
            check_consistent_length(x, y_clean)
            chosen = CleanSet(Rows(x, encode(y_clean, self.classes_, "y_clean")), numpy.arange(0))
        else:
            return None
        check_covered(rows.y, chosen.rows.y, self.classes_)
        return chosen

    def _check_settings(self) -> None:
        """Raise DataError for settings out of range. Those of the plan are checked there."""
        check_count("max_iter", self.max_iter)
        check_count("n_iter_no_change", self.n_iter_no_change)
        check_number("clean_fraction", self.clean_fraction, 1.0)
        check_number("validation_fraction", self.validation_fraction, 1.0)
        check_flag("early_stopping", self.early_stopping)
        check_flag("warm_start", self.warm_start)

    def _check_shape(self, X: Any) -> None:
        if X.shape[1:] != self._shape:
            raise DataError(message("ReweightedClassifier", "examples differ in shape from those of the training set", [
                ("X", X, f"each example should have shape {self._shape}")]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ------------------------------------------------------------------------------------------ predicting

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class: (n, classes), float32, in the order of classes_."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, **INPUT)
        self._check_shape(X)
        return probabilities(self._fitted(), X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each example: (n,)."""
        best = self.predict_proba(X).argmax(1)
        return numpy.asarray(self.classes_[best])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of examples with the right label: the accuracy."""
        return float(super().score(X, known_labels(y, "y"), sample_weight))

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, optimizer's state, settings and labels to a safetensors file, without pickle.

        A network of one's own is a function, and not written. Raises FileError where the file cannot be written,
        DataError for labels other than strings and numbers.
        """
        check_is_fitted(self, "model_")
        settings = self.get_params(deep=False)
        settings["network"] = None if self._hidden is not None else OWN
        if not isinstance(self.random_state, numbers.Integral):
            settings["random_state"] = None
        facts = {name: getattr(self, name, None) for name in FACTS}
        try:
            text = json.dumps([settings, facts, self.classes_.dtype.str], default=_plain)
        except TypeError as error:
            raise DataError(f"save: labels or settings cannot be written ({error})\n"
                            "  help: use strings or numbers as labels") from None
        tree.save(path, self._arrays(), {TITLE: text})

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: Any = None) -> Self:
        """Return the classifier that `save` wrote: it predicts, and trains on, as the saved one would.

        network: that of the saved classifier, if it had one of its own. Raises FileError where the file is damaged or
        not such a file, DataError where the network is missing, ShapeError where it is another.
        """
        arrays, metadata = files.read(path)
        if TITLE not in metadata:
            raise FileError(f"{path}: this file holds no {TITLE}\n  help: pass a file that its method save wrote")
        try:
            settings, facts, dtype = json.loads(metadata[TITLE])
            own = settings.pop("network") is not None
            facts.setdefault("_hidden", None if own else settings["hidden_layer_sizes"])    # older files lack it
            new = cls(network)
            new.set_params(**{name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()})
            new.__dict__.update({name: facts[name] for name in FACTS if facts[name] is not None})
            new.classes_, new._shape = numpy.array(facts["classes_"], dtype), tuple(facts["_shape"])
            new._hidden = facts["_hidden"]
            if facts["feature_names_in_"]:
                new.feature_names_in_ = numpy.array(facts["feature_names_in_"], object)
            new.sample_weights_, new.trust_ = arrays["sample_weights"], arrays["trust"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"{path}: settings and labels cannot be read ({type(error).__name__}: {error})\n"
                            "  help: the file is damaged, or of another version: save it again") from None
        if own == (network is None):
            raise DataError(f"{path}: the network of this classifier is {'not ' * (not own)}one of its own,"
                            " which no file holds\n  help: load(path, network=...) as in the constructor, or without")
        new._set(new._initial())
        new._set(tree.load(path, new._arrays())["fitted"])
        return new

    def _arrays(self) -> Tree:
        return {"fitted": self._fitted(), "sample_weights": self.sample_weights_, "trust": self.trust_}


def _plain(value: Any) -> Any:
    """Return an array or a number of NumPy as JSON has it. Raises TypeError for what JSON does not have."""
    if not isinstance(value, (numpy.ndarray, numpy.generic)) or type(value) is numpy.longdouble:
        raise TypeError(f"{type(value).__name__}: {value!r}")
    return value.tolist()
