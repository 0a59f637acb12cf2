"""The classifier of scikit-learn's kind: scikit-learn's own checks, wrong labels found, and every way in and out."""
import copy
import fractions
import functools
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pandas  # mlxtend, of the experiments, requires it
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import minigrad as mg
from minigrad import estimators, files, nn, training, tree
from minigrad.errors import DataError, FileError
from minigrad.estimators import ReweightedClassifier

CHECKS = parametrize_with_checks([ReweightedClassifier(max_iter=25, learning_rate_init=0.01)]).args[1]
SWITCHED_OFF = "check_array_api_input"          # scikit-learn skips it unless SCIPY_ARRAY_API=1 is set before SciPy is imported; then it passes


@pytest.mark.parametrize("estimator, check", [pair for pair in CHECKS if SWITCHED_OFF not in str(pair[1])], ids=lambda value: getattr(getattr(value, "func", None), "__name__", ""))
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------------ what it is for

@functools.cache
def cancer(seed):
    """Return 426 rows, labels of which 40 % of those not known to be right are wrong, the true ones, the mask; and the test set."""
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    rng = np.random.default_rng(seed)
    clean = np.zeros(len(y), bool)
    for c in (0, 1):
        clean[rng.choice(np.flatnonzero(y == c), 20, replace=False)] = True
    wrong = rng.choice(np.flatnonzero(~clean), int(0.4 * (~clean).sum()), replace=False)
    noisy = y.copy()
    noisy[wrong] = 1 - y[wrong]
    return X, noisy, y, clean, X_test, y_test


def small(n=60, seed=0, shape=(4,), classes=3):
    """Return n examples of a few separable classes, and a mask of every fourth row."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, *shape)) + 2.0 * rng.normal(size=(classes, *shape))[y]
    return X.astype("float32"), y, np.arange(n) % (4 + (classes == 2)) == 0


def quick(**settings):
    return ReweightedClassifier(**{"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (8,), "batch_size": 16, **settings})


def test_a_function_is_called_after_each_pass():
    X, y, clean = small()
    seen = []
    model = ReweightedClassifier(max_iter=3, random_state=0)
    model.fit(X, y, clean=clean, after_pass=lambda fitted: seen.append((fitted, fitted.n_iter_, fitted.score(X, y))))
    assert [found[:2] for found in seen] == [(model, 1), (model, 2), (model, 3)] and seen[-1][2] == model.score(X, y)


@pytest.mark.parametrize("seed", [0, 1])
def test_wrong_labels_are_withstood_and_found(seed):
    X, noisy, y, clean, X_test, y_test = cancer(seed)
    scores = {}
    for method in ("reweight", "uniform"):
        model = make_pipeline(StandardScaler(), ReweightedClassifier(method=method, random_state=seed))
        model.fit(X, noisy, reweightedclassifier__clean=clean)
        scores[method] = model.score(X_test, y_test)
        if method == "reweight":
            assert roc_auc_score((noisy == y)[~clean], model[-1].trust_[~clean]) > 0.95
            assert roc_auc_score(noisy == y, model[-1].sample_weights_) > (0.95, 0.85)[seed]
        else:
            assert (model[-1].trust_ == 1).all() and np.allclose(model[-1].sample_weights_, 1)
    assert scores["reweight"] > 0.9 and scores["reweight"] - scores["uniform"] > 0.15


def test_proportion_gives_classes_equal_weight():
    X, y, _ = small(90)
    y = np.minimum(y, 1)
    model = quick(method="proportion", batch_size=90).fit(X, y)
    assert np.allclose(model.sample_weights_, np.where(y == 0, 1.5, 0.75))
    assert model.clean_loss_curve_ == [] and len(model.loss_curve_) == 3


# ------------------------------------------------------------------------------------------ in scikit-learn's tools

class Witness(ReweightedClassifier):
    """A classifier that expects the index of a row in its first column, and notes which rows are said to be clean."""
    seen = []

    def fit(self, X, y, clean=None):
        self.seen.append((X[:, 0].astype(int), np.asarray(clean)))
        return super().fit(X, y, clean=clean)


@pytest.fixture
def numbered():
    X, y, clean = small()
    X[:, 0] = np.arange(len(y))
    Witness.seen.clear()
    return X, y, clean


def test_cross_validation_cuts_the_mask_along_with_the_rows(numbered):
    X, y, clean = numbered
    scores = cross_val_score(Witness(max_iter=1), X, y, cv=3, params={"clean": clean}, error_score="raise")
    assert len(scores) == len(Witness.seen) == 3
    for rows, part in Witness.seen:
        assert len(rows) == 40 and (part == clean[rows]).all()


def test_grid_search_in_a_pipeline_cuts_the_mask_too():
    X, y, clean = small()
    grid = GridSearchCV(make_pipeline(StandardScaler(), quick(max_iter=30, learning_rate_init=0.01)), {"reweightedclassifier__method": ["reweight", "uniform"],
                        "reweightedclassifier__hidden_layer_sizes": [(8,), 4]}, cv=2, error_score="raise")
    grid.fit(X, y, reweightedclassifier__clean=clean)
    assert len(grid.cv_results_["params"]) == 4 and (grid.predict(X) == y).mean() > 0.8


def test_metadata_routing(numbered):
    X, y, clean = numbered
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(StandardScaler(), quick().set_fit_request(clean=True)).fit(X, y, clean=clean)
    assert len(model[-1].trust_) == len(y)


# ------------------------------------------------------------------------------------------ data

TEXTS = [f"{subject} {verb} {thing}" for subject in ("the cook", "she", "our guest") for verb in ("boils", "fries", "salts", "eats")
         for thing in ("an egg", "rice", "the soup")] + [f"{subject} {verb} {thing}" for subject in ("the wind", "a cloud", "the storm")
         for verb in ("moves", "hides", "shakes", "crosses") for thing in ("the sun", "hills", "the coast")]


def test_texts_as_a_sparse_matrix_train_as_the_dense_one():
    """A third of the labels are wrong, all of one class: plain training follows them."""
    y = np.repeat(["kitchen", "weather"], 36)
    noisy, rng = y.copy(), np.random.default_rng(0)
    noisy[rng.choice(np.arange(36, 72), 24, replace=False)] = "kitchen"
    clean = np.zeros(72, bool)
    clean[rng.choice(36, 4)] = clean[rng.choice(np.flatnonzero(noisy == "weather"), 4)] = True
    X = CountVectorizer().fit_transform(TEXTS)
    assert sparse.issparse(X)
    fitted = {method: quick(method=method, max_iter=60).fit(X, noisy, clean=clean) for method in ("reweight", "uniform")}
    assert fitted["reweight"].score(X, y) > fitted["uniform"].score(X, y) + 0.1
    dense = clone(fitted["reweight"]).fit(X.toarray(), noisy, clean=clean)
    assert np.array_equal(dense.predict_proba(X.toarray()), fitted["reweight"].predict_proba(X))
    other = clone(dense).fit(X, noisy, X_clean=X[clean], y_clean=noisy[clean])
    assert np.array_equal(other.predict_proba(X), dense.predict_proba(X))


@pytest.mark.parametrize("labels", [np.array(["b", "a", "cc"]), np.array(["b", "a", "cc"], object), np.array([-5, 100, 7]), np.array([0.0, 2.0, 1.0])], ids=str)
def test_any_labels(labels, tmp_path):
    X, y, clean = small()
    model = quick(max_iter=40, learning_rate_init=0.01).fit(X, labels[y], clean=clean)
    assert model.classes_.tolist() == sorted(labels.tolist()) and model.score(X, labels[y]) > 0.9
    assert model.predict_proba(X).shape == (60, 3) and model.predict_proba(X).dtype == "float32"
    model.save(tmp_path / "model")
    again = ReweightedClassifier.load(tmp_path / "model")
    assert again.classes_.dtype == model.classes_.dtype and np.array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("labels, says", [(["a", "b", None], "no label at index 2"), (["a", float("nan"), "b"], "no label at index 1"), (["a", 1, "b"], "neither all strings nor all numbers"),
                                          ([b"a", "b", "c"], "neither all strings nor all numbers"), (["a", True, "b"], "neither all strings nor all numbers")])
def test_a_list_of_labels_is_what_its_array_of_objects_is(labels, says):
    """NumPy would make strings of what is none: a class called "nan"."""
    array = np.array(labels * 10, object)
    for y in (labels * 10, tuple(labels * 10), array):
        with pytest.raises(DataError, match=says):
            quick().fit(X[:30], y, clean=np.arange(30))
    assert quick(max_iter=1).fit(X[:30], ["a", "b", "c"] * 10, clean=np.arange(30)).classes_.dtype.kind == "U"


@pytest.mark.parametrize("labels, kind", [([7, 5, 6], "i"), ([True, False, True], "b"), (["b", "a", "c"], "O")])
def test_labels_of_dtype_object(labels, kind, tmp_path):
    """As pandas has them after a merge: numbers are numbers, strings stay objects."""
    X, y, clean = small()
    y = np.array(labels, object)[y]
    model = quick().fit(pandas.DataFrame(X), pandas.Series(y), X_clean=pandas.DataFrame(X[clean]), y_clean=pandas.Series(y[clean]))
    assert model.classes_.dtype.kind == kind and model.classes_.tolist() == sorted({*labels}) and {*model.predict(X).tolist()} <= {*labels}
    assert model.score(X, y) == (model.predict(X) == y).mean() and cross_val_score(model, X, y, params={"clean": clean}, cv=KFold(2), error_score="raise").shape == (2,)
    parts = quick().partial_fit(X, y, classes=sorted({*labels})).partial_fit(X, y, classes=np.array(sorted({*labels}), object))
    assert parts.predict(X).dtype.kind in (kind, "U")
    model.save(tmp_path / "model")
    assert ReweightedClassifier.load(tmp_path / "model").classes_.dtype == model.classes_.dtype


def test_indices_are_as_good_as_a_mask():
    X, y, clean = small()
    a, *others = (quick().fit(X, y, clean=form).predict_proba(X) for form in (
        clean, np.flatnonzero(clean).tolist(), clean.tolist(), pandas.Series(clean), pandas.Series(clean, dtype="boolean"), clean.astype(object)))
    assert all(np.array_equal(a, other) for other in others)


def test_without_a_clean_set_a_balanced_share_serves():
    X, y, _ = small(90)
    y = np.minimum(y, 1)
    used = np.arange(80)
    share = training.balanced_share(y, used, 0.2, seed=3)
    assert np.bincount(y[share]).tolist() == [8, 8] and len(set(share)) == 16 and share.max() < 80
    assert np.bincount(y[training.balanced_share(y, used[1:5], 0.2, seed=3)]).tolist() == [1, 1]
    assert quick().fit(X, y).n_iter_ == 3


def test_images_with_a_network_for_them():
    X, y, clean = small(shape=(6, 6, 1), classes=2)

    def network(rng, shape, classes):
        assert shape == (6, 6, 1)
        conv = nn.Conv2d.init(rng, shape[2], 4)
        return nn.Sequential((conv, nn.BatchNorm.init(4), mg.relu, lambda x: mg.mean(x, (1, 2)), nn.Linear.init(rng, 4, classes)))
    model = quick(network=network, max_iter=60, learning_rate_init=0.01).fit(X, y, clean=clean)
    assert model.score(X, y) > 0.9
    rows = np.concatenate([model.predict_proba(x[None]) for x in X])        # running averages: a row alone is as good as in a batch
    assert np.allclose(rows, model.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match=re.escape("(60, 6, 3, 2)") + ".*" + re.escape("each example should have shape (6, 6, 1)")):
        model.predict(X.reshape(60, 6, 3, 2))
    assert quick().fit(X, y, clean=clean).model_.layers[1].weight.shape == (36, 8)      # an MLP takes the pixels


def test_a_module_is_where_training_begins():
    X, y, clean = small()
    start = quick().fit(X, y, clean=clean).model_
    model = quick(network=start, max_iter=1, learning_rate_init=1e-12).fit(X, y, clean=clean)
    assert all(np.allclose(a, b) for a, b in zip(tree.flatten(start)[0], tree.flatten(model.model_)[0]))
    assert clone(model).fit(X, y, clean=clean).n_iter_ == 1


def test_no_batch_has_one_example():
    """Batch normalization would refuse it: 33 rows are batches of 17 and 16."""
    X, y, clean = small(33)
    layers = lambda rng, shape, classes: nn.Sequential((nn.Linear.init(rng, 4, 8), nn.BatchNorm.init(8), mg.relu, nn.Linear.init(rng, 8, classes)))     # noqa: E731
    assert quick(network=layers, batch_size=32).fit(X, y, clean=clean).n_iter_ == 3


def test_arrays_of_either_module(device, tmp_path):
    X, y, clean = small()
    model = quick(clean_batch_size=9, max_iter=2, early_stopping=True).fit(X, y, clean=clean).partial_fit(X, y, clean=clean)
    assert type(model.trust_) is type(model.predict_proba(X)) is np.ndarray
    assert isinstance(model.model_.layers[1].weight, mg.xp.ndarray) and 0 < model.trust_.mean() < 1
    model.save(tmp_path / "model")
    assert same(model, ReweightedClassifier.load(tmp_path / "model"), X)


# ------------------------------------------------------------------------------------------ going on

def same(a, b, X):
    return np.array_equal(a.predict_proba(X), b.predict_proba(X)) and a.n_iter_ == b.n_iter_ and a.loss_curve_ == b.loss_curve_


@pytest.mark.parametrize("method", training.METHODS)
def test_same_seed_same_bits(method):
    X, y, clean = small()
    a, b, c = (quick(method=method, clean_batch_size=9, random_state=seed).fit(X, y, clean=clean) for seed in (1, 1, 2))
    assert same(a, b, X) and np.array_equal(a.trust_, b.trust_) and not same(a, c, X)


@pytest.mark.parametrize("given", [True, False])
def test_passes_one_by_one_are_those_of_one_fit(given):
    X, y, clean = small()
    clean = {"clean": clean} if given else {}
    whole = quick(max_iter=5).fit(X, y, **clean)
    parts = quick()
    for _ in range(5):
        parts.partial_fit(X, y, **clean)
    warm = quick(max_iter=2, warm_start=True).fit(X, y, **clean)
    assert same(warm.set_params(max_iter=3).fit(X, y, **clean), whole, X) and same(parts, whole, X)
    assert not same(whole.fit(X, y, **clean).partial_fit(X, y, **clean), warm, X) and whole.n_iter_ == 6


def test_weights_and_trust_are_those_of_the_last_call():
    model = quick(method="uniform").fit(X, Y).partial_fit(X, Y)
    assert model.n_iter_ == 4 and (model.trust_ == 1).all() and np.allclose(model.sample_weights_, 1)


def test_losses_are_those_of_the_training_and_the_clean_set():
    """At rest, where each pass has the same; log_loss is scikit-learn's."""
    model = quick(max_iter=2, learning_rate_init=1e-12).fit(X, Y, clean=CLEAN)
    p = model.predict_proba(X).astype(float)
    p /= p.sum(1, keepdims=True)
    assert model.loss_curve_ == pytest.approx([log_loss(Y, p)] * 2, rel=1e-4) and model.clean_loss_curve_ == pytest.approx([log_loss(Y[CLEAN], p[CLEAN])] * 2, rel=1e-4)
    weights = np.arange(60.0)
    assert model.score(X, Y, weights) == pytest.approx(np.average(model.predict(X) == Y, weights=weights)) != model.score(X, Y)


def test_partial_fit_in_chunks_that_lack_classes():
    X, y, _ = small()
    order = np.argsort(y)
    model = quick()
    for chunk in np.array_split(order, 6):
        model.partial_fit(X[chunk], y[chunk], classes=[0, 1, 2], X_clean=X[:15], y_clean=y[:15])
    assert model.n_iter_ == 6 and len(model.trust_) == 10 and model.predict_proba(X).shape == (60, 3)
    with pytest.raises(DataError, match="are not those of the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(DataError, match="classes is not a list of labels"):
        model.partial_fit(X, y, classes={0, 1, 2})
    with pytest.raises(DataError, match="y has the labels 3, which are not known"):
        model.partial_fit(X, y + 1)


@pytest.mark.parametrize("form", ["mask", "apart", "none"])
def test_early_stopping_keeps_the_best(form):
    """A fifth of the clean set is held out, or of the training set where there is no clean set."""
    X, noisy, y, clean, *_ = cancer(0)
    X = StandardScaler().fit_transform(X)
    given = {"mask": {"clean": clean}, "apart": {"X_clean": X[clean], "y_clean": y[clean]}, "none": {}}[form]
    settings = {"learning_rate_init": 0.01, "batch_size": 100}
    model = quick(early_stopping=True, n_iter_no_change=3, max_iter=60, **settings).fit(X, noisy, **given)
    losses, held_out = model.validation_losses_, np.isnan(model.trust_)
    best = int(np.argmin(losses))
    assert model.n_iter_ == len(losses) == best + 4 < 60 and np.array_equal(held_out, np.isnan(model.sample_weights_))
    assert held_out.sum() == {"mask": 8, "apart": 0, "none": 85}[form] and (form != "mask" or clean[held_out].all())
    if form != "apart":
        p = model.predict_proba(X)[np.arange(len(noisy)), noisy]
        assert np.isclose(-np.mean([np.log(p[held_out & (noisy == c)]).mean() for c in (0, 1)]), losses[best], rtol=1e-4)
        assert clone(model).set_params(max_iter=best + 1).fit(X, noisy, **given).validation_losses_ == losses[:best + 1]


def test_a_share_of_each_class_is_held_out():
    y = np.repeat([0, 1, 2], [10, 2, 1])
    assert [np.bincount(y[training.hold_out(y, fraction, seed=4)], minlength=3).tolist() for fraction in (0.01, 0.2, 0.9)] == [
        [1, 1, 0], [2, 1, 0], [9, 1, 0]]
    assert len({*training.hold_out(y, 0.9, seed=4)}) == 10


@pytest.mark.parametrize("given", [True, False])
def test_rows_held_out_are_not_trained_on(given):
    X, y, clean = small()
    given = {"clean": clean} if given else {}
    model = quick(early_stopping=True).fit(X, y, **given)
    other = np.where(np.isnan(model.trust_)[:, None], -X, X)
    again = clone(model).fit(other, y, **given)
    assert again.loss_curve_ == model.loss_curve_ and again.validation_losses_ != model.validation_losses_


def test_early_stopping_needs_two_examples_of_a_class():
    X, y, _ = small()
    with pytest.raises(DataError, match="the clean set has one example of each class"):
        quick(early_stopping=True).fit(X, y, clean=[0, 1, 2])
    with pytest.raises(DataError, match="y has one example of each class"):
        quick(early_stopping=True).fit(X[:3], y[:3])


def test_progress(capsys):
    X, y, clean = small()
    quick(verbose=True, early_stopping=True).fit(X, y, clean=clean)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and re.fullmatch(r"pass 1: loss \d\.\d{4}, clean loss \d\.\d{4}, held-out loss \d\.\d{4}", lines[0])
    quick(verbose=True, method="uniform", max_iter=1).fit(X, y)
    assert re.fullmatch(r"pass 1: loss \d\.\d{4}\n", capsys.readouterr().out)


# ------------------------------------------------------------------------------------------ files

def layers(rng, shape, classes):
    return nn.Sequential((nn.Linear.init(rng, *shape, 8), nn.BatchNorm.init(8), mg.relu, nn.Linear.init(rng, 8, classes)))


@pytest.mark.parametrize("network", [None, layers])
def test_a_loaded_classifier_predicts_and_goes_on(network, tmp_path):
    X, y, clean = small()
    model = quick(network=network, random_state=np.random.RandomState(3), early_stopping=True).fit(X, y, clean=clean)
    model.save(tmp_path / "model.safetensors")
    again = ReweightedClassifier.load(tmp_path / "model.safetensors", network)
    assert same(model, again, X)
    public = {name for name in vars(model) if name.endswith("_")} - {"model_", "averages_"}
    assert public >= {"n_features_in_", "validation_losses_", "trust_"} and all(np.array_equal(getattr(model, name), getattr(again, name), equal_nan=True) for name in public - {"classes_"})
    assert same(model.partial_fit(X, y, clean=clean), again.partial_fit(X, y, clean=clean), X)
    assert again.get_params() == {**model.get_params(), "random_state": None}


@pytest.mark.parametrize("settings", [dict(hidden_layer_sizes=(3, 3)), dict(network=layers), dict(method="uniform", batch_size=7, random_state=5)], ids=", ".join)
@pytest.mark.parametrize("warm", [True, False])
def test_what_was_fitted_is_saved_whatever_is_set_later(settings, warm, tmp_path):
    """As documented, network and hidden_layer_sizes have no effect on a warm start: the file holds what there is, not what is set."""
    X, y, clean = small()
    model = quick(warm_start=warm).fit(X, y, clean=clean).set_params(**settings)
    if warm:
        model.fit(X, y, clean=clean)
    model.save(tmp_path / "model")
    again = ReweightedClassifier.load(tmp_path / "model")
    assert same(model, again, X) and again.get_params() == {**model.get_params(), "network": None}
    assert same(model.partial_fit(X, y, clean=clean), again.partial_fit(X, y, clean=clean), X)


def test_a_file_of_an_older_version(tmp_path):
    X, y, clean = small()
    for network in (None, layers):
        model = quick(network=network).fit(X, y, clean=clean)
        model.save(tmp_path / "model")
        settings, facts, dtype = json.loads(files.read(tmp_path / "model")[1][estimators.TITLE])
        assert facts.pop("_hidden") == (None if network else [8])
        tree.save(tmp_path / "model", model._arrays(), {estimators.TITLE: json.dumps([settings, facts, dtype])})
        assert same(model, ReweightedClassifier.load(tmp_path / "model", network), X)


def test_names_of_columns_are_saved(tmp_path):
    X, y, clean = small()
    table = pandas.DataFrame(X, columns=list("abcd"))
    model = quick().fit(table, y, X_clean=table[clean], y_clean=y[clean])
    model.save(tmp_path / "model")
    again = ReweightedClassifier.load(tmp_path / "model")
    assert again.feature_names_in_.tolist() == list("abcd") and again.feature_names_in_.dtype == model.feature_names_in_.dtype and same(model, again, table)
    with pytest.raises(ValueError, match="feature names"):
        again.predict(table[list("dcba")])
    with pytest.raises(ValueError, match="feature names"):
        quick().fit(table, y, X_clean=table[list("dcba")][clean], y_clean=y[clean])


def test_files_that_do_not_fit(tmp_path):
    X, y, clean = small()
    with pytest.raises(NotFittedError):
        quick().save(tmp_path / "no")
    with pytest.raises(DataError, match="cannot be written .*Fraction"):
        quick(learning_rate_init=fractions.Fraction(1, 100)).fit(X, y, clean=clean).save(tmp_path / "no")
    quick(network=layers).fit(X, y, clean=clean).save(tmp_path / "own")
    with pytest.raises(DataError, match="is one of its own.*\n.*network="):
        ReweightedClassifier.load(tmp_path / "own")
    quick().fit(X, y, clean=clean).save(tmp_path / "default")
    with pytest.raises(DataError, match="is not one of its own"):
        ReweightedClassifier.load(tmp_path / "default", layers)
    tree.save(tmp_path / "other", {"a": np.zeros(2)})
    with pytest.raises(FileError, match="holds no minigrad.ReweightedClassifier"):
        ReweightedClassifier.load(tmp_path / "other")
    (tmp_path / "text").write_text("no arrays")
    with pytest.raises(FileError, match="not a whole safetensors file"):
        ReweightedClassifier.load(tmp_path / "text")


@pytest.mark.parametrize("change", [lambda text: text[:-5], lambda text: "[1, 2]", lambda text: text.replace("max_iter", "most"), lambda text: text.replace('"classes_"', '"labels"'),
                                    lambda text: text.replace('"_seed"', '"seed"')], ids=["cut off", "another list", "unknown setting", "no classes", "no seed"])
def test_a_file_with_damaged_settings(change, tmp_path):
    X, y, clean = small()
    model = quick().fit(X, y, clean=clean)
    model.save(tmp_path / "model")
    tree.save(tmp_path / "model", model._arrays(), {estimators.TITLE: change(files.read(tmp_path / "model")[1][estimators.TITLE])})
    with pytest.raises(FileError, match="settings and labels cannot be read .*\n  help: the file is damaged"):
        ReweightedClassifier.load(tmp_path / "model")


def test_a_file_sets_no_other_attributes(tmp_path):
    X, y, clean = small()
    model = quick().fit(X, y, clean=clean)
    model.save(tmp_path / "model")
    text = files.read(tmp_path / "model")[1][estimators.TITLE]
    tree.save(tmp_path / "model", model._arrays(), {estimators.TITLE: text.replace('"n_iter_"', '"predict": 3, "n_iter_"')})
    assert len(ReweightedClassifier.load(tmp_path / "model").predict(X)) == 60


# ------------------------------------------------------------------------------------------ errors and Ctrl-C in the middle

class Breaks:
    """A layer of a linear network that raises an error after a number of calls."""

    def __init__(self, error, calls):
        self.error, self.calls = error, calls

    def __call__(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return x

    def network(self, rng, shape, classes):
        return nn.Sequential((self, nn.Linear.init(rng, *shape, classes)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_stopped_in_a_later_pass(error, tmp_path):
    """A call to check the scores, then four batches in a pass, each with two calls of the network: the eleventh is in the second pass."""
    X, y, clean = small()
    layer = Breaks(error, 10)
    model = quick(network=layer.network)
    with pytest.raises(error):
        model.fit(X, y, clean=clean)
    layer.calls = 1000
    assert same(model, clone(model).set_params(max_iter=1).fit(X, y, clean=clean), X) and len(model.trust_) == len(model.sample_weights_) == 60
    model.save(tmp_path / "model")
    whole = clone(model).set_params(max_iter=2).fit(X, y, clean=clean)
    assert same(model.partial_fit(X, y, clean=clean), whole, X)


@pytest.mark.parametrize("goes_on", [True, False])
def test_stopped_in_the_first_pass(goes_on):
    X, y, clean = small()
    layer = Breaks(KeyboardInterrupt, 5)
    model = quick(network=layer.network, warm_start=goes_on)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, clean=clean)
    layer.calls = 1000
    with pytest.raises(NotFittedError):
        model.predict(X)
    before = copy.deepcopy(model.fit(X, y, clean=clean))
    layer.calls = 5
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, clean=clean)
    layer.calls = 1000
    assert same(model, before, X) and model.trust_ is not None


def test_data_that_are_refused_change_nothing():
    X, y, clean = small()
    model = quick().fit(X, y, clean=clean)
    before = copy.deepcopy(model)
    with pytest.raises(DataError):
        model.fit(X[:, :2], np.array(list("abc"))[y], clean=clean & False)
    assert same(model, before, X) and model.classes_.tolist() == [0, 1, 2] and model.n_features_in_ == 4


def test_a_loss_that_is_not_finite():
    X, y, clean = small()
    with np.errstate(all="ignore"), pytest.raises(DataError, match="the loss of pass 1 is not finite\n  help: standardize the examples, or lower the rate"):
        quick(learning_rate_init=1e30).fit(X, y, clean=clean)


# ------------------------------------------------------------------------------------------ what is refused

X, Y, CLEAN = small()
MISSING = np.where(np.arange(60)[:, None] == 7, np.nan, X)
REFUSED = {
    "NaN": (dict(X=MISSING), {}, "Input X contains NaN"),
    "NaN in the clean set": (dict(X_clean=MISSING, y_clean=Y), {}, "Input X_clean contains NaN"),
    "too large": (dict(X=X.astype(float) * 1e300), {}, "too large for dtype"),
    "lengths": (dict(y=Y[:50]), {}, "inconsistent numbers of samples"),
    "lengths of the clean set": (dict(X_clean=X[:9], y_clean=Y[:8]), {}, "inconsistent numbers of samples"),
    "columns of the clean set": (dict(X_clean=X[:9, :3], y_clean=Y[:9]), {}, "X has 3 features, but ReweightedClassifier is expecting 4"),
    "one class": (dict(y=0 * Y), {}, "y has one class, 0: there is nothing to tell apart"),
    "regression": (dict(y=X[:, 0]), {}, "Unknown label type"),
    "no labels of the clean set": (dict(X_clean=X), {}, "the clean set is not complete, or passed twice"),
    "clean set passed twice": (dict(X_clean=X, y_clean=Y, clean=CLEAN), {}, "the clean set is not complete, or passed twice"),
    "class without a clean example": (dict(clean=CLEAN & (Y != 2)), {}, "the clean set has no example of 2\n.*\n.*add a few examples of it"),
    "unknown clean label": (dict(X_clean=X, y_clean=Y + 1), {}, "y_clean has the labels 3, which are not known\n  known: 0, 1, 2"),
    "clean rows out of range": (dict(clean=[0, 1, 60]), {}, "clean has indices from 0 to 60, of 60 rows"),
    "clean rows below 0": (dict(clean=[0, 1, -1]), {}, "clean has indices from -1 to 1, of 60 rows"),
    "no clean rows": (dict(clean=CLEAN & False), {}, "clean has no row"),
    "an empty list": (dict(clean=[]), {}, "clean has no row"),
    "mask of another length": (dict(clean=CLEAN[1:]), {}, "clean is neither a mask of 60 rows nor indices"),
    "mask of numbers": (dict(clean=CLEAN.astype(int)), {}, "the same index twice: numbers 0 and 1 are not a mask"),
    "mask with a gap": (dict(clean=np.where(Y == 2, None, CLEAN)), {}, "clean is neither a mask of 60 rows nor indices"),
    "mask of floats": (dict(clean=CLEAN.astype(float)), {}, "clean is neither a mask of 60 rows nor indices"),
    "method": ({}, dict(method="ours"), "method = 'ours': there is no such method\n  help: reweight, proportion, uniform"),
    "neither true nor false": ({}, dict(early_stopping="no"), "early_stopping = 'no' is neither True nor False"),
    "passes": ({}, dict(max_iter=0), "max_iter = 0 is not an integer, 1 or more"),
    "batches": ({}, dict(batch_size=2.5), "batch_size = 2.5 is not an integer, 1 or more"),
    "share": ({}, dict(clean_fraction=1.5), "clean_fraction = 1.5 is not a number between 0 and 1"),
    "rate": ({}, dict(learning_rate_init=0.0), "rate = 0.0 is not a number between 0 and inf"),
    "weight decay": ({}, dict(weight_decay=-1), "weight_decay = -1 is not a number, 0 or more"),
    "no weight decay": ({}, dict(weight_decay=None), "weight_decay = None is not a number"),
    "labels of two kinds": (dict(y=np.array(["a", 1, "c"] * 20, object)), {}, "labels are neither all strings nor all numbers .*\n  help: make all of them strings"),
    "a label is missing": (dict(y=np.array(["a", None, "c"] * 20, object)), {}, "y has no label at index 1 and 19 others\n  help: leave out rows"),
    "NA": (dict(y=pandas.Series([0, None, 1] * 20, dtype="Int64")), {}, "y has no label at index 1 and 19 others"),
    "NaN as a label": (dict(y=np.where(np.arange(60) == 7, np.nan, Y)), {}, "y has no label at index 7\n"),
    "a masked label": (dict(y=np.ma.array(Y, mask=Y == 2)), {}, "y has no label at index 2 and 19 others"),
    "a clean label is missing": (dict(X_clean=X, y_clean=[None, *Y[1:]]), {}, "y_clean has no label at index 0\n"),
    "masked clean rows": (dict(clean=np.ma.array(CLEAN, mask=Y == 2)), {}, "clean is neither a mask of 60 rows nor indices"),
    "columns of 0 and 1": (dict(y=np.eye(3)[Y]), {}, r"y is not a list of labels\n  y  \(60, 3\)  float64\n  help: pass an array \(n,\)"),
    "bytes": (dict(y=np.array([b"a", b"b", b"c"])[Y]), {}, "labels are neither all strings nor all numbers"),
    "order of the clean columns": (dict(X=pandas.DataFrame(X, columns=list("abcd")), X_clean=pandas.DataFrame(X, columns=list("bacd")), y_clean=Y), {},
                                   "the columns of X_clean are not those of X .*same order.*\n  help: pass the same columns in the same order"),
    "a clean set of one axis": (dict(X_clean=X[0], y_clean=Y[:1]), {}, "Expected 2D array, got 1D array"),
    "hidden layers": ({}, dict(hidden_layer_sizes=(8, 0)), "hidden_layer_sizes = 0 is not an integer, 1 or more"),
    "name of a network": ({}, dict(network="mlp"), "network: str is no nn.Module"),
    "network of nothing": ({}, dict(network=lambda rng, shape, classes: None), "network: NoneType is no nn.Module"),
    "network of too many axes": ({}, dict(network=lambda rng, shape, classes: nn.Sequential((nn.Linear.init(rng, *shape, classes), lambda x: x[:, None]))), "does not return one score for each class"),
    "network": ({}, dict(network=lambda rng, shape, classes: nn.Linear.init(rng, *shape, 2)), "does not return one score for each class"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    data, settings, words = REFUSED[name]
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=words):
        quick(**settings).fit(**{"X": X, "y": Y, **data})


@pytest.mark.parametrize("name", sorted(ReweightedClassifier().get_params().keys() - {"network", "random_state", "verbose"}))
def test_each_setting_refuses_what_is_none_of_its_values(name):
    with pytest.raises(DataError, match="rate" if name == "learning_rate_init" else name):
        quick(**{name: "no"}).fit(X, Y, clean=CLEAN)


def test_images_of_another_shape_are_refused_wherever_they_come():
    X, y, clean = small(shape=(6, 4, 1))
    other = X.reshape(60, 6, 2, 2)                          # scikit-learn compares the second axis alone
    model = quick().fit(X, y, clean=clean)
    for call in (lambda: model.predict(other), lambda: model.partial_fit(other, y, clean=clean), lambda: quick().fit(X, y, X_clean=other, y_clean=y)):
        with pytest.raises(DataError, match=re.escape("each example should have shape (6, 4, 1)")):
            call()


def test_of_many_labels_ten_are_listed():
    with pytest.raises(DataError, match="the clean set has no example of 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ... .13.\n"):
        quick().fit(X[:15], np.arange(15), clean=[0, 1])


def test_only_this_file_imports_scikit_learn():
    code = "import sys, minigrad, minigrad.training; assert 'sklearn' not in sys.modules; sys.modules['sklearn'] = None; import minigrad.estimators"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RequirementError: minigrad.estimators: scikit-learn 1.6 or newer cannot be imported" in done.stderr and "help: pip install 'minigrad[sklearn]'" in done.stderr


# ------------------------------------------------------------------------------------------ passes, without scikit-learn

def test_defaults_are_those_of_the_classifier():
    assert ReweightedClassifier().get_params() == dict(
        network=None, hidden_layer_sizes=(100,), method="reweight", learning_rate_init=1e-3, weight_decay=1e-4, max_iter=100, batch_size=100, clean_batch_size=100,
        clean_fraction=0.1, early_stopping=False, validation_fraction=0.2, n_iter_no_change=10, warm_start=False, random_state=None, verbose=False)
    names = {"rate": "learning_rate_init", "seed": "random_state"}
    settings = ReweightedClassifier(random_state=0).get_params()
    assert training.Plan()._asdict() == {**{name: settings[names.get(name, name)] for name in training.Plan._fields if name != "loss"}, "loss": nn.cross_entropy}
    assert settings["hidden_layer_sizes"] == inspect.signature(training.default_network).parameters["hidden"].default


def test_a_network_is_given_float32():
    """Also where its scores are counted, before training."""
    seen = set()

    def note(x):
        seen.add(str(x.dtype))
        return x
    X, y, clean = small()
    quick(network=lambda rng, shape, classes: nn.Sequential((note, nn.Linear.init(rng, *shape, classes)))).fit(X.astype(float), y, clean=clean).predict(X)
    assert seen == {"float32"}


def test_each_pass_has_an_order_of_its_own():
    rows, orders = training.Rows(np.arange(60.0)[:, None], Y), []

    def note(x):
        orders[-1].extend(x[:, 0].tolist())
        return x
    plan = training.Plan("uniform", batch_size=16)
    now = training.start(nn.Sequential((note, nn.Linear.init(mg.backend.generator(0), 1, 3))), plan)
    for number in (0, 1, 1):
        orders.append([])
        training.one_pass(plan, now, rows, rows, number)
    assert all(sorted(order) == [*range(60)] != order for order in orders) and orders[0] != orders[1] == orders[2]


def test_one_pass_uses_each_row_once():
    X, y, clean = small()
    rows = training.Rows(X, y)
    plan = training.Plan("uniform", batch_size=16)
    start = training.start(training.default_network(mg.backend.generator(0), (4,), 3), plan)
    now, record = training.one_pass(plan, start, rows, rows.take(np.flatnonzero(clean)), 0, used=np.arange(50))
    assert np.allclose(record.weights, np.arange(60) < 50) and record.positive.sum() == 50 and record.clean_loss == 0.0
    assert now.optimizer["count"] == 4
    with pytest.raises(DataError, match="no such method"):
        training.start(now.model, plan._replace(method="ours"))


def test_digits_as_images_of_eight_by_eight():
    """Ten classes, 30 % of the labels wrong; plain training learns part of them by heart."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:600].reshape(-1, 8, 8, 1) / 16.0, y[:600]
    rng = np.random.default_rng(0)
    clean = np.zeros(600, bool)
    for c in range(10):
        clean[np.flatnonzero(y == c)[:8]] = True
    wrong = rng.choice(np.flatnonzero(~clean), 156, replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, 10, 156)) % 10
    model = ReweightedClassifier(random_state=0, max_iter=60).fit(X, noisy, clean=clean)
    assert roc_auc_score(noisy == y, model.trust_) > 0.95 and model.score(X[wrong], y[wrong]) > 0.8


@pytest.mark.parametrize("made", [list, np.array, pandas.Series, lambda y: pandas.Series(y).values, lambda y: pandas.Series(y).array, pandas.Index])
@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "string", "category", "float64", "object", "masked"])
def test_a_column_of_any_kind_has_the_same_classes_or_the_same_error(made, dtype):
    X, y, _ = small(n=8, classes=2)
    values = [str(label) for label in y] if dtype == "string" else y.astype(bool) if dtype == "boolean" else y
    def column(values, missing):
        if dtype == "masked":
            return np.ma.masked_array(values, np.arange(8) == 3 if missing else False)
        own = pandas.array([None if missing and i == 3 else value for i, value in enumerate(values)], object if dtype == "category" else dtype)
        return made(own) if dtype != "category" else made(pandas.Categorical(own))
    found = quick(max_iter=1).fit(X, column(values, False)).classes_
    assert found.tolist() == sorted({*values})
    with pytest.raises(DataError, match="y has no label at index 3"):
        quick(max_iter=1).fit(X, column(values, True))


def test_training_on_keeps_the_best_network():
    """The held-out examples are the same in both calls; the second, at a rate too high, makes it worse."""
    X = np.random.default_rng(0).normal(size=(200, 4))
    y, clean = (X[:, 0] > 0).astype(int), np.arange(200) < 40
    model = quick(early_stopping=True, warm_start=True, max_iter=30, learning_rate_init=0.05).fit(X, y, clean=clean)
    best, before = min(model.validation_losses_), model.predict_proba(X)
    model.set_params(learning_rate_init=5.0, max_iter=2).fit(X, y, clean=clean)
    assert min(model.validation_losses_[-2:]) > best
    np.testing.assert_array_equal(model.predict_proba(X), before)


@pytest.mark.parametrize("kind", [*np.typecodes["AllInteger"], *np.typecodes["Float"], "?", "U", "S"])
def test_every_kind_of_number_is_saved_or_refused(tmp_path, kind):
    X, y, clean = small(classes=2)
    try:
        model = quick(max_iter=1, learning_rate_init=np.array(0.01).astype(kind)[()] if kind in "efdg" else 0.01).fit(X, y.astype(kind), clean=clean)
        model.save(tmp_path / "m")
    except DataError as error:
        assert kind in "gS" and "help: " in str(error) and not (tmp_path / "m").exists()
        return
    again = ReweightedClassifier.load(tmp_path / "m")
    assert again.classes_.dtype == model.classes_.dtype and (again.predict(X) == model.predict(X)).all()


OTHERWISE = {                                               # setting: another value, and what else is set so that it counts
    "network": (layers, {}), "hidden_layer_sizes": ((3,), {}), "method": ("uniform", {}), "learning_rate_init": (0.02, {}), "weight_decay": (0.5, {}), "max_iter": (2, {}),
    "batch_size": (11, {}), "clean_batch_size": (4, {}), "clean_fraction": (0.6, {}), "early_stopping": (True, {}), "validation_fraction": (0.5, {"early_stopping": True}),
    "n_iter_no_change": (1, {"early_stopping": True, "max_iter": 30, "learning_rate_init": 0.3}), "warm_start": (True, {}), "random_state": (1, {}), "verbose": (True, {})}


@pytest.mark.parametrize("name", ReweightedClassifier().get_params())
def test_each_setting_changes_what_is_fitted(name, capsys):
    """None is checked and then forgotten. Fitted twice, for a warm start; without a clean set where a share takes its place."""
    value, rest = OTHERWISE[name]
    given, found = {} if name == "clean_fraction" else {"clean": CLEAN}, []
    for settings in (rest, {**rest, name: value}):
        model = quick(**settings).fit(X, Y, **given).fit(X, Y, **given)
        found.append((model, capsys.readouterr().out))
    (one, silent), (other, told) = found
    assert not silent and (told and same(one, other, X) if name == "verbose" else not same(one, other, X))


def test_predictions_are_those_of_the_running_averages():
    """Of those at the end of training: neither of the first ones nor of the examples to predict; and they are what is saved."""
    model = quick(network=layers, max_iter=10).fit(X + 5, Y, clean=CLEAN)
    assert all(abs(a - b).max() > 0.5 for a, b in zip(tree.flatten(model.averages_)[0], tree.flatten(model.model_.init_state())[0]))
    p = np.exp(mg.to_host(model.model_.apply(mg.xp.asarray(X + 5), model.averages_, False)[0]))
    np.testing.assert_allclose(model.predict_proba(X + 5), p / p.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    for a, b in zip(tree.flatten(model._arrays()["fitted"].averages)[0], tree.flatten(model.averages_)[0], strict=True):
        np.testing.assert_array_equal(mg.to_host(a), mg.to_host(b))


def test_of_equal_losses_on_what_is_held_out_the_first_counts():
    """At rest no pass has a lower one than the first: training stops after n_iter_no_change more."""
    model = quick(early_stopping=True, n_iter_no_change=3, max_iter=20, learning_rate_init=1e-12).fit(X, Y, clean=CLEAN)
    assert len({*model.validation_losses_}) == 1 and model.n_iter_ == 4


def test_masked_labels_are_not_written_to():
    values = np.ma.array(np.array(["a", "b", "c"], object), mask=[False, True, False])
    found = mg.labels.without_objects(values)
    assert found.tolist() == ["a", None, "c"] and values.data.tolist() == ["a", "b", "c"] and values.mask.tolist() == [False, True, False]


@pytest.mark.parametrize("make", [list, tuple, np.array, pandas.Series, *[functools.partial(np.array, dtype=dtype) for dtype in ("uint8", "uint64", "int8", "int32", object)]])
def test_clean_rows_may_be_integers_of_any_type(make):
    np.testing.assert_array_equal(mg.labels.clean_indices(make([0, 3]), 5), [0, 3])


@pytest.mark.parametrize("values", [["a", None], [1.0, np.nan], np.array(["2020-01-01", "NaT"], "datetime64[D]"), pandas.Series([1, None], dtype="Int64"), pandas.Series(["a", pandas.NA], dtype=object),
                                    np.ma.array([1, 2], mask=[False, True]), pandas.to_datetime(pandas.Series(["2020-01-01", None])), [[1.0], [np.nan]], np.array([1.0, np.nan], "float16")])
def test_a_label_that_is_missing_is_located(values):
    with pytest.raises(DataError, match="y has no label at index 1\n  help: leave out rows without a label"):
        mg.labels.known_labels(values, "y")


def test_what_is_kept_of_the_best_pass_is_all_of_it():
    """Parameters, averages and the optimizer's state: whoever goes on from them takes the step that came next."""
    rng = np.random.default_rng(0)
    X, y, kept = rng.normal(size=(60, 4)), rng.integers(0, 2, 60), []
    fitted = ReweightedClassifier(method="uniform", early_stopping=True, learning_rate_init=0.03, batch_size=16, n_iter_no_change=5, random_state=0).fit(
        X, y, after_pass=lambda it: kept.append(copy.deepcopy(it._fitted())))
    best = int(np.argmin(fitted.validation_losses_))
    assert 0 < best < fitted.n_iter_ - 1 and tree.same(fitted._fitted(), kept[best])
    assert [int(now.optimizer["count"]) for now in kept[:best + 1]] == [3 * (1 + int(np.argmin(fitted.validation_losses_[:k + 1]))) for k in range(best + 1)]


def test_clean_labels_may_be_a_column():
    """As those of the training set may."""
    one, other = (quick().fit(X, Y, X_clean=X[CLEAN], y_clean=form) for form in (Y[CLEAN], Y[CLEAN][:, None]))
    assert same(one, other, X)


def test_a_first_fit_is_the_same_with_a_warm_start():
    """Also where no pass lowers the loss on what is held out: there is no earlier network to keep."""
    given = dict(early_stopping=True, learning_rate_init=500.0, max_iter=2)
    one, other = quick(**given).fit(X, Y, clean=CLEAN), quick(warm_start=True, **given).fit(X, Y, clean=CLEAN)
    assert same(one, other, X)


@pytest.mark.parametrize("n", [1, 2, 10, 11, 300])
@pytest.mark.parametrize("kind", [int, float, str])
def test_labels_are_listed_sorted_and_ten_of_them_at_most(kind, n):
    labels = np.random.default_rng(0).permutation(n).astype(kind)
    expected = ", ".join(map(repr, sorted(labels.tolist())[:10])) + f" ... ({n})" * (n > 10)
    assert mg.labels.listed(labels) == mg.labels.listed({*labels.tolist()}) == expected
