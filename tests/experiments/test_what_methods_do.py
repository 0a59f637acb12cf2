"""Two steps of every method, through the trainer, against a NumPy program written from the papers' equations.

The network is dropout and a linear layer, so that all derivatives can be written down: scores s = z W + b with z the
images after dropout. The tests compare parameters (after the second step also momentum), memory, and the numbers for the record. Each
method has a row here; the tests fail for a method without one, and for two methods that do the same.
"""
import functools
import inspect
import types

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from experiments.data.tasks import Part, Task
from experiments.methods import METHODS, Boosted, Weighting, boosting, criteria, resampling, rules
from experiments.paper import figure3
from experiments.training import trainers
from experiments.training.loop import train
from experiments.training.runs import INIT, MASKS, METHOD, REBUILD, STEPS, Problem, Run, Settings, restore
from minigrad import nn, to_host, tree
from minigrad.backend import generator

from ..plain import mask

SEED, RATE, MOMENTUM, DECAY, KEEP = 8, 0.3, 0.9, 0.02, 0.75
SETTINGS = Settings(steps=5, rate=RATE, momentum=MOMENTUM, batch=8, every=5, clean_batch=3, decay=DECAY, drops=(1,))
FEATURES = 4


def init(rng, classes):
    return nn.Sequential((nn.Dropout(1 - KEEP), nn.Linear.init(rng, FEATURES, classes)))


def prepare(images, rng):
    """Flatten images; in training also shift their values a little at random, in place of an augmentation."""
    x = images.reshape(len(images), -1)
    return x if rng is None else x + (0.1 * rng.standard_normal(x.shape)).astype("float32")


def part(n, rare, wrong, rng, start):
    """Return n examples of two overlapping clouds, `rare` of them of class 0; the first `wrong` labels of class 1 are wrong."""
    true = np.repeat([0, 1], [rare, n - rare])
    images = (rng.standard_normal((n, 2, 2, 1)) + true[:, None, None, None]).astype("float32")
    labels = true.copy()
    labels[rare:rare + wrong] = 0
    order = rng.permutation(n)
    return Part(images[order], labels[order], start + np.arange(n), true[order])


def make_task():
    rng = np.random.default_rng(11)
    train_set, clean = part(30, 6, 2, rng, 0), part(6, 3, 0, rng, 100)
    return Task("", train_set, clean, part(40, 20, 5, rng, 200), part(20, 10, 0, rng, 300), train_set + clean, 2, 0)


TASK = make_task()


def run_of(folder, method):
    folder.mkdir(exist_ok=True)
    base = METHODS[method].base
    return Run(method, {"method": method, "seed": SEED}, method, SEED, lambda: TASK, Problem(init, prepare), SETTINGS,
               folder, base and run_of(folder, base.name))


# ------------------------------------------------------------------------------------------- the plain network

def softmax(s):
    e = np.exp(s - s.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def dropped(x, key):
    """Return the input of the linear layer for images from `prepare`: layer 1 is dropout, so its key ends in 1."""
    stays = mask(x.size, 1 - KEEP, (*key, 1)).reshape(x.shape)
    return np.where(stays, x / KEEP, 0.0)


def gradient_of(z, slopes, weights):
    """Return the gradient of sum w_i l_i by W and b; slopes: the derivative of each loss by its scores."""
    return {"W": z.T @ (weights[:, None] * slopes), "b": weights @ slopes}


def dot(a, b):
    return np.sum(a["W"] * b["W"]) + np.sum(a["b"] * b["b"])


def each(z, slopes):
    return [gradient_of(z[[i]], slopes[[i]], np.ones(1)) for i in range(len(z))]


# ------------------------------------------------------- losses: (scores, labels, layer) -> losses, slopes, layer's slopes

def cross_entropy(s, y, layer):
    p = softmax(s)
    return -np.log(p[range(len(y)), y]), p - np.eye(2)[y], None


def focal(s, y, layer):
    """Return (1 - p)^2 L, p = exp(-L), and its slopes; the derivative by L is (1 - p)^2 + 2 (1 - p) p L. Lin et al., equation 4."""
    loss, slopes, _ = cross_entropy(s, y, layer)
    p = np.exp(-loss)
    return (1 - p) ** 2 * loss, ((1 - p) ** 2 + 2 * (1 - p) * p * loss)[:, None] * slopes, None


def bootstrap(beta, target):
    """Return the cross-entropy with the target t = beta y + (1 - beta) own, a constant, and its slopes p - t. Reed et al."""
    def loss(s, y, layer):
        p = softmax(s)
        t = beta * np.eye(2)[y] + (1 - beta) * target(p)
        return -(t * np.log(p)).sum(1), p - t, None
    return loss


def adaptation(s, y, layer):
    """Return -log sum_k p_k Q_ky and its derivatives. By s_j: p_j - p_j Q_jy / sum; by row k of the layer: a softmax. Goldberger & Ben-Reuven."""
    p, Q = softmax(s), softmax(layer.reshape(2, 2))
    joint = p * Q[:, y].T                                   # (n, k)
    total = joint.sum(1, keepdims=True)
    own = joint / total                                     # how much of label y comes from class k
    by_layer = own[:, :, None] * (Q[None] - np.eye(2)[y][:, None, :])
    return -np.log(total[:, 0]), p - own, by_layer.reshape(len(y), 4)


def dice(s, y, layer):
    """Return 1 - (2 q t + 1) / (q + t + 1) and its slopes, with q = (1 - p) p, p of the rarer class and t = 1 for it. Li et al., equation 9."""
    p = softmax(s)[:, 0]
    t, q = (y == 0).astype(float), (1 - p) * p
    by_q = -(2 * t * (q + t + 1) - (2 * q * t + 1)) / (q + t + 1) ** 2
    by_s0 = by_q * (1 - 2 * p) * p * (1 - p)
    return 1 - (2 * q * t + 1) / (q + t + 1), np.stack([by_s0, -by_s0], 1), None


# ---------------------------------------------------------------------------------------------- batches, weights

def any_of(labels, n, rng):
    return rng.choice(len(labels), min(n, len(labels)), replace=False)


def repeated(labels, n, rng):
    return rng.choice(len(labels), n)


def balanced(labels, n, rng):
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), n // 2, replace=np.sum(labels == c) < n // 2)
                           for c in (0, 1)])


class Now:
    """Everything that weights may depend on in a step."""
    def __init__(self, **known):
        vars(self).update(known)


def equal(now):
    return np.full(len(now.y), 1 / len(now.y))


def noise(now):
    u = np.maximum(now.rng.standard_normal(len(now.y)), 0)
    return u / u.sum()


def inverse_share(now):
    return 1 / (len(now.y) * 2 * now.frequencies[now.y])


def oracle(now):
    right = np.array([np.mean(now.examples.true[now.examples.labels == c] == c) for c in (0, 1)])[now.y]
    return right / right.sum()


def lowest(now):
    """Return equal weights in the first fifth of the five steps, then of the lowest 0.6 of the batch."""
    if now.t == 0:
        return equal(now)
    w = np.zeros(len(now.y))
    w[np.argsort(now.l)[:round(0.6 * len(now.y))]] = 1 / round(0.6 * len(now.y))
    return w


def mentor(now):
    """Return MentorNet's weights; the threshold is the 0.75 quantile, then 0.95 of the old one and 0.05 of the new."""
    quantile = np.quantile(now.l, 0.75)
    now.memory = quantile if now.t == 0 else 0.95 * now.memory + 0.05 * quantile
    v = np.clip(1 - (now.l - now.memory), 0, 1) if now.t else np.ones(len(now.y))
    return v / v.sum()


def algorithm_1(decay=0.0):
    def weights(now):
        z, y = dropped(now.clean_x, now.clean_key), now.clean_y
        loss, slopes, _ = cross_entropy(z @ now.W + now.b, y, None)
        v = gradient_of(z, slopes, np.full(len(y), 1 / len(y)))
        now.clean_loss = loss.mean() + 0.5 * decay * np.sum(now.W ** 2)
        v["W"] = v["W"] + decay * now.W
        u = np.maximum([dot(g, v) for g in each(now.z, now.slopes)], 0)
        assert u.any()                                      # where nothing helps there is nothing to see
        return u / u.sum()
    return weights


def meta_weight_net(now):
    """Return V(l) / sum V(l) after an Adam step of V on the clean loss of the look-ahead step. Shu et al., equations 4 to 8."""
    def forward(net):
        a = now.l[:, None] @ net[0] + net[1]
        h = np.maximum(a, 0)
        v = 1 / (1 + np.exp(-(h @ net[2] + net[3])))
        return a, h, v, v[:, 0] / v.sum()
    net, moments = now.memory
    a, h, v, w = forward(net)
    g = each(now.z, now.slopes)
    moved_W = now.W - now.rate * sum(wi * gi["W"] for wi, gi in zip(w, g))
    moved_b = now.b - now.rate * sum(wi * gi["b"] for wi, gi in zip(w, g))
    z, y = dropped(now.clean_x, now.clean_key), now.clean_y
    loss, slopes, _ = cross_entropy(z @ moved_W + moved_b, y, None)
    now.clean_loss = loss.mean()
    direction = gradient_of(z, slopes, np.full(len(y), 1 / len(y)))
    by_w = np.array([-now.rate * dot(gi, direction) for gi in g])
    by_v = (by_w - w @ by_w)[:, None] / v.sum()
    by_s = by_v * v * (1 - v)
    by_a = by_s @ net[2].T * (a > 0)
    slopes_of_net = [now.l[None] @ by_a, by_a.sum(0), h.T @ by_s, by_s.sum(0)]
    new = []
    for k, (p, slope) in enumerate(zip(net, slopes_of_net)):
        m, s = moments[k]
        m, s = 0.9 * m + 0.1 * slope, 0.999 * s + 0.001 * slope ** 2
        moments[k] = m, s
        new.append(p - 1e-3 * (m / (1 - 0.9 ** (now.t + 1))) / (np.sqrt(s / (1 - 0.999 ** (now.t + 1))) + 1e-8))
    now.memory = new, moments
    return forward(new)[3]


# --------------------------------------------------------------------------------------------- the plain training

class Row:
    """The parts of a method in this file."""
    def __init__(self, weights=equal, loss=cross_entropy, batch=any_of, trains_on="baseline", size=None, redraw=False,
                 mining=False, layer=None):
        self.weights, self.loss, self.batch, self.trains_on = weights, loss, batch, trains_on
        self.size, self.redraw, self.mining, self.layer = size, redraw, mining, layer


DESCENTS = {
    "uniform": Row(), "random": Row(noise), "proportion": Row(inverse_share), "resample": Row(batch=balanced),
    "hard_mining": Row(mining=True, size=500),
    "reweight": Row(algorithm_1(), trains_on="train"),
    "reweight_decay": Row(algorithm_1(DECAY), trains_on="train"),
    "reweight_authors": Row(algorithm_1(DECAY), trains_on="train", redraw=True),
    "under_sample": Row(), "over_sample": Row(), "smote": Row(),
    "focal": Row(loss=focal), "dice": Row(loss=dice),
    "low_loss": Row(lowest), "mentor": Row(mentor),
    "bootstrap_soft": Row(loss=bootstrap(0.95, lambda p: p)),
    "bootstrap_hard": Row(loss=bootstrap(0.8, lambda p: np.eye(2)[p.argmax(1)])),
    "adaptation": Row(loss=adaptation, layer="identity"),
    "adaptation_confusion": Row(loss=adaptation, layer="confusion"),
    "oracle": Row(oracle),
    "clean_only": Row(batch=repeated, trains_on="clean"), "fine_tune": Row(batch=repeated, trains_on="clean"),
    "meta_weight_net": Row(meta_weight_net, trains_on="train"),
}
BOOSTED = {"adaboost": ("stump", 100), "adaboost_networks": ("network", 10), "cost_boost": ("stump", 100),
           "cost_boost_csb2": ("stump", 40)}


def test_every_method_has_a_row():
    assert {*DESCENTS, *BOOSTED} == set(METHODS)
    assert {name for name, method in METHODS.items() if isinstance(method, Boosted)} == set(BOOSTED)


def plain_steps(name, examples, model, layer, memory, steps=2):
    """Return after each step W, b and layer, the memory, and the numbers for the record."""
    row, params, found = DESCENTS[name], {**model, "layer": layer}, []
    velocity = {key: 0.0 for key in params}
    frequencies = np.bincount(examples.labels, minlength=2) / len(examples)
    for t in range(steps):
        rng, rate = generator((SEED, STEPS, t)), RATE * (0.1 if t >= 1 else 1.0)
        chosen = row.batch(examples.labels, row.size or 8, rng)
        y, key = examples.labels[chosen], (SEED, MASKS, t, 0)
        now = Now(rng=rng, t=t, rate=rate, y=y, examples=examples, frequencies=frequencies, memory=memory, W=params["W"], b=params["b"],
                  clean_key=(SEED, MASKS, t, 1), clean_loss=-1.0)
        x = prepare(examples.images[chosen], rng)
        now.z = dropped(x, key)
        s = now.z @ params["W"] + params["b"]
        now.l, now.slopes, by_layer = row.loss(s, y, params["layer"])
        if row.weights is noise:
            w = noise(now)
        if row.trains_on == "train":                        # drawn after the weights, from the same generator
            chosen_clean = rng.choice(len(TASK.clean), SETTINGS.clean_batch)
            now.clean_x, now.clean_y = prepare(TASK.clean.images[chosen_clean], rng), TASK.clean.labels[chosen_clean]
        z, slopes = now.z, now.slopes
        if row.mining:                                      # of each class the hardest, as many as of the rarest
            k = min(np.sum(y == 0), np.sum(y == 1))
            hardest = np.concatenate([np.flatnonzero(y == c)[np.argsort(-now.l[y == c])[:k]] for c in (0, 1)])
            w = np.zeros(len(y))
            w[hardest] = 1 / len(hardest)
            z = np.zeros_like(now.z)
            z[hardest] = dropped(x[hardest], key)     # run again by themselves, so other masks
            slopes = row.loss(z @ params["W"] + params["b"], y, None)[1]
        elif row.weights is not noise:
            w = row.weights(now)
        told = now.l
        if row.redraw:                                      # the update's own masks: one more integer in the key
            z = dropped(x, (*key, 1))
            now.clean_loss = -1.0                           # which their code does not give
            told, slopes, _ = row.loss(z @ params["W"] + params["b"], y, None)
            s = z @ params["W"] + params["b"]
        gradient = gradient_of(z, slopes, w)
        gradient["layer"] = None if layer is None else w @ by_layer
        gradient["W"] = gradient["W"] + DECAY * params["W"]
        for key in ("W", "b", "layer"):
            if gradient[key] is not None:
                velocity[key] = MOMENTUM * velocity[key] + gradient[key]
                params[key] = params[key] - rate * velocity[key]
        memory, wrong = now.memory, examples.labels[chosen] != examples.true[chosen]
        other = s.argmax(1) != y
        numbers = [told.mean(), w.sum(), w[y == 0].sum(), w[wrong].sum(), w[~wrong].sum(), wrong.sum(), (~wrong).sum(),
                   other.sum(), np.sum(other & (s.argmax(1) == examples.true[chosen])), now.clean_loss]
        found.append((dict(params), memory, numbers))
    return found


def linear(model):
    return {"W": model.layers[1].weight.astype(float), "b": model.layers[1].bias.astype(float)}


def begun(tmp_path, name):
    run = run_of(tmp_path, name)
    if run.base:
        train(run.base)
    trainer = trainers.trainer_of(run)
    return trainer, trainer.init()


def fresh():
    """Return parameters drawn as in He et al.: variance 2 / inputs, biases 0."""
    draw = generator((SEED, INIT)).standard_normal((FEATURES, 2)) * np.sqrt(2 / FEATURES)
    return {"W": draw.astype("float32").astype(float), "b": np.zeros(2)}


def memory_of(name):
    if name == "mentor":
        return 0.0
    if name == "meta_weight_net":
        rng = generator((SEED, METHOD))
        net = [(rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype("float32").astype(float)
               for shape in ((1, 100), (100, 1))]
        net = [net[0], np.zeros(100), net[1], np.zeros(1)]
        return net, [(np.zeros_like(p), np.zeros_like(p)) for p in net]
    return None


def examples_of(name, trainer):
    """Return the training examples; assert the laws of rebuilt sets (see also test_resampling.py)."""
    part = getattr(TASK, DESCENTS[name].trains_on)
    if name not in ("under_sample", "over_sample", "smote"):
        return part
    examples, few, many = trainer.examples, *np.sort(np.bincount(part.labels))
    assert np.bincount(examples.labels).tolist() == [few if name == "under_sample" else many] * 2
    known = {image.tobytes(): k for k, image in enumerate(part.images)}
    made = np.array([image.tobytes() not in known for image in examples.images])
    assert made.sum() == (many - few if name == "smote" else 0) and (examples.true == examples.labels)[made].all()
    origins = [known[image.tobytes()] for image in examples.images[~made]]
    assert len(set(origins)) == (2 * few if name == "under_sample" else len(part))
    np.testing.assert_array_equal(examples.true[~made], part.true[origins])
    images, labels, _ = METHODS[name].rebuild(part.images, part.labels, generator((SEED, REBUILD)))
    np.testing.assert_array_equal(examples.images, images)
    np.testing.assert_array_equal(examples.labels, labels)
    return examples


@functools.cache
def expected_and_found(name, folder):
    trainer, learned = begun(folder, name)
    examples, layer, model = examples_of(name, trainer), None, fresh()
    if DESCENTS[name].layer == "identity":
        layer = np.log(np.eye(2) + 1e-3).ravel()
    if name in ("fine_tune", "adaptation_confusion"):
        base = run_of(folder, "uniform")
        trained = linear(restore(base, trainers.trainer_of(base))["params"]["model"])
        if name == "fine_tune":
            model = trained
        else:                                               # how the trained network takes the classes of validation
            part = TASK.validation
            taken = (part.images.reshape(len(part), -1) @ trained["W"] + trained["b"]).argmax(1)
            counts = np.array([[np.sum((part.true == i) & (taken == j)) for j in (0, 1)] for i in (0, 1)])
            layer = np.log(counts / counts.sum(1, keepdims=True) + 1e-3).ravel()
    found = []
    for t in range(2):
        learned, row = trainer.step(learned, t)
        found.append((learned, to_host(row)))
    return plain_steps(name, examples, model, layer, memory_of(name)), found, trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", DESCENTS)
def test_two_steps_by_hand(name, folder):
    expected, found, trainer = expected_and_found(name, folder)
    for (params, memory, numbers), (learned, row) in zip(expected, found, strict=True):
        there = {**linear(learned["params"]["model"]), "layer": learned["params"]["layer"]}
        for key, value in params.items():
            assert (value is None) == (there[key] is None)
            if value is not None:
                np.testing.assert_allclose(there[key], value, rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(row, numbers, rtol=2e-4, atol=2e-6)
        if name == "mentor":
            np.testing.assert_allclose(learned["memory"], memory, rtol=1e-5)
        if name == "meta_weight_net":
            for a, b in zip(tree.flatten(learned["memory"]["net"])[0], memory[0], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert_evaluated(trainer, *found[-1])


def assert_evaluated(trainer, learned, row):
    """Assert the errors and the clean loss, of images without augmentation and without masks."""
    W, b = linear(learned["params"]["model"]).values()

    def scores(part):
        return part.images.reshape(len(part), -1) @ W + b
    line = trainer.line(learned, [row.astype(float).tolist()], 1)
    wrong = {part: scores(getattr(TASK, part)).argmax(1) for part in ("test", "validation")}
    assert line["test_error"] == pytest.approx(100 * np.mean(wrong["test"] != TASK.test.labels))
    assert line["validation_error"] == pytest.approx(100 * np.mean(wrong["validation"] != TASK.validation.true))
    assert line["validation_error_biased"] == pytest.approx(100 * np.mean(wrong["validation"] != TASK.validation.labels))
    clean_loss = cross_entropy(scores(TASK.clean), TASK.clean.labels, None)[0].mean()
    assert line["clean_loss"] == pytest.approx(clean_loss, rel=1e-4)
    loss, total, rare, on_wrong, on_right, wrong, right, other, rightly, clean = row
    assert line["train_loss"] == pytest.approx(loss, rel=1e-5) and line["train_error"] == pytest.approx(100 * other / (wrong + right))
    assert line["minority_weight"] == pytest.approx(rare / total)
    assert line["own_label_right"] == (pytest.approx(rightly / other) if other else None)
    told = wrong > 0 and on_right > 0
    assert line["noisy_weight"] == (pytest.approx((on_wrong / wrong) / (on_right / right)) if told else None)
    assert line.get("clean_losses", []) == ([pytest.approx(clean, rel=1e-3)] if clean >= 0 else [])


def test_no_two_methods_do_the_same(folder):
    """After two steps from the same parameters, on the same data, no two methods have the same parameters."""
    ends = {name: np.concatenate([np.ravel(a) for a in linear(expected_and_found(name, folder)[1][-1][0]["params"]["model"]).values()])
            for name in DESCENTS}
    names = list(ends)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert np.abs(ends[a] - ends[b]).max() > 1e-4, f"{a} is {b}"


# -------------------------------------------------------------------------------------------------- boosting

def one_question(x, says):
    """Return whether these predictions, 0 or 1, are those of one test "is this pixel at most that bright?"."""
    for pixel in x.reshape(len(x), -1).T:
        order = np.argsort(pixel)
        if np.sum(np.diff(says[order]) != 0) <= 1:
            return True
    return False


@pytest.mark.parametrize("name", BOOSTED)
def test_two_rounds_by_hand(name, folder):
    """Initial weights, and error, alpha, weights and votes of each round, are computed from the predictions of the learners."""
    learner, rounds = BOOSTED[name]
    assert METHODS[name].rounds == rounds
    trainer, learned = begun(folder, name)
    examples = TASK.baseline
    frequencies = np.bincount(examples.labels) / len(examples)
    w = np.ones(len(examples)) if name != "cost_boost" else (frequencies.max() / frequencies)[examples.labels]
    w = w / w.sum()
    np.testing.assert_allclose(learned.weights, w)
    cost = np.where(frequencies < 0.5, 2.0, 1.0)[examples.labels] if name == "cost_boost_csb2" else np.ones(len(examples))
    for t in range(2):
        before = learned
        x = examples.images.reshape(len(examples), -1)
        drawn = int(generator((SEED, STEPS, t)).integers(2**31 - 1))
        seeded = np.random.RandomState(drawn).randint(2**31 - 1)                # as scikit-learn draws for its learners
        one = DecisionTreeClassifier(max_depth=1, random_state=seeded) if learner == "stump" else boosting.Network(random_state=seeded)
        predict = one.fit(x, examples.labels, sample_weight=w).predict
        learned, row = trainer.step(learned, t)
        says = (learned.votes - before.votes).argmax(1)
        np.testing.assert_array_equal(says, predict(x))
        assert learner == "network" or one_question(x, says)
        error = w[says != examples.labels].sum()
        assert error < 0.5
        alpha = np.log((1 - error) / error) if error else 1.0
        np.testing.assert_allclose(row, [error, alpha], rtol=1e-6)
        np.testing.assert_allclose(learned.votes - before.votes, alpha * np.eye(2)[says], rtol=1e-6, atol=1e-9)
        for votes, part in zip(learned.other_votes, (TASK.test, TASK.validation), strict=True):
            theirs = predict(part.images.reshape(len(part), -1))
            assert votes.shape == (len(part), 2) and (votes[range(len(part)), theirs] > 0).all()
        w = w * np.where(says != examples.labels, np.exp(alpha) * cost, 1.0)
        w = w / w.sum()
        np.testing.assert_allclose(learned.weights, w, rtol=1e-6)
        line, own = trainer.line(learned, [row], t), learned.votes.argmax(1)
        assert line["minority_weight"] == pytest.approx(w[examples.labels == 0].sum())
        assert line["noisy_weight"] == pytest.approx(w[examples.wrong].mean() / w[~examples.wrong].mean())
        assert line["train_error"] == pytest.approx(100 * np.mean(own != examples.labels))
        assert (line["learner_error"], line["alpha"]) == (pytest.approx(100 * error), pytest.approx(alpha))


def test_the_small_network_of_boosting_by_hand():
    """200 steps of SGD at 0.05 with momentum 0.9, batches of 100 drawn by weight, 32 hidden units: NumPy's labels."""
    assert METHODS["adaboost_networks"].learner == boosting.Network(steps=200, hidden=32, rate=0.05, batch=100)
    rng = np.random.default_rng(3)
    x, y, w = rng.standard_normal((60, 2)).astype("float32"), rng.integers(0, 3, 60), rng.random(60)
    probe = np.stack(np.meshgrid(*[np.linspace(-2, 2, 40)] * 2), -1).reshape(-1, 2).astype("float32")
    ours = boosting.Network(random_state=4).fit(x, y, w).predict(probe)
    draw = generator(4)
    p = [(draw.standard_normal(shape) * np.sqrt(2 / shape[0])).astype("float32").astype(float) for shape in ((2, 32), (32, 3))]
    p, m = [p[0], np.zeros(32), p[1], np.zeros(3)], [0.0] * 4
    for chosen in draw.choice(60, (200, 100), p=w / w.sum()):
        a = x[chosen] @ p[0] + p[1]
        h = np.maximum(a, 0)
        slopes = (softmax(h @ p[2] + p[3]) - np.eye(3)[y[chosen]]) / 100
        back = slopes @ p[2].T * (a > 0)
        m = [0.9 * v + g for v, g in zip(m, (x[chosen].T @ back, back.sum(0), h.T @ slopes, slopes.sum(0)))]
        p = [q - 0.05 * v for q, v in zip(p, m)]
    plainly = (np.maximum(probe @ p[0] + p[1], 0) @ p[2] + p[3]).argmax(1)
    assert np.mean(ours == plainly) > 0.998 and len(set(plainly)) == 3


def test_the_weights_of_figure_3_by_hand(folder):
    """They are those of Algorithm 1 without dropout and weight decay, with a batch drawn from the clean set."""
    trainer, learned = begun(folder, "reweight")
    images, labels = TASK.validation.images[:12], TASK.validation.labels[:12]
    found = figure3.weights_of(trainer, learned, images, labels, generator(21))
    rng, model = generator(21), fresh()
    chosen = rng.choice(len(TASK.clean), SETTINGS.clean_batch)
    z, clean, y = prepare(images, rng), prepare(TASK.clean.images[chosen], rng), TASK.clean.labels[chosen]
    slopes = cross_entropy(clean @ model["W"] + model["b"], y, None)[1]
    v = gradient_of(clean, slopes, np.full(len(y), 1 / len(y)))
    u = [dot(g, v) for g in each(z, cross_entropy(z @ model["W"] + model["b"], labels, None)[1])]
    w = np.maximum(u, 0)
    np.testing.assert_allclose(found, w / w.sum(), rtol=1e-4, atol=1e-6)
    assert 0 < np.sum(w > 0) < 12


@pytest.mark.parametrize("target", [2, None])
def test_the_batches_of_figure_3(monkeypatch, target):
    """Left: drawn from all of validation. Right: of one class each, and the first labels, the share of the run, are flipped to the background."""
    true = np.repeat(np.arange(4), [30, 30, 30, 6])
    labels, seen = np.where(np.arange(96) % 3 == 0, 2, true), []

    def weights_of(trainer, learned, images, labels, rng):
        seen.append((images, labels))
        return images / 100
    validation = Part(np.arange(96), labels, np.arange(96), true)           # each image is its own number
    trainer = types.SimpleNamespace(task=types.SimpleNamespace(validation=validation), classes=4, run=types.SimpleNamespace(
        settings=types.SimpleNamespace(batch=20), labels={"share": 0.25}))
    monkeypatch.setattr(figure3, "weights_of", weights_of)
    monkeypatch.setattr(figure3, "BATCHES", 8)
    pairs = figure3.histogram_data(trainer, "learned", target, generator(5))
    left, right = seen[::2], seen[1::2]
    for images, given in left:
        assert len(set(images)) == 20 and len(set(true[images])) > 2
        np.testing.assert_array_equal(given, labels[images])
    assert len({tuple(images) for images, _ in left}) == 8
    assert [{*true[images]} for images, _ in right] == [{0}, {1}, {2 if target is None else 3}, {3}] * 2
    for images, given in right:
        assert len(images) == 20 and len(set(images)) == (20 if true[images[0]] != 3 else len(set(images)))      # repeated where too few
        np.testing.assert_array_equal(given, labels[images] if target is None else [2] * 5 + [true[images[0]]] * 15)
    for (on_wrong, on_right), batches in zip(pairs, (left, right)):
        images, given = (np.concatenate(parts) for parts in zip(*batches))
        wrong = given != true[images]
        np.testing.assert_array_equal(on_wrong, images[wrong] / 100)
        np.testing.assert_array_equal(on_right, images[~wrong] / 100)


def test_what_is_used_where_nobody_says():
    """The defaults are those of the papers: gamma 2 (Lin et al.), beta 0.95 and 0.8 (Ren et al.), 5 neighbors (Chawla et al.) and so on."""
    def given(f):
        return {key: p.default for key, p in inspect.signature(f).parameters.items() if p.default is not p.empty}
    assert given(criteria.focal) == {"gamma": 2.0} and given(criteria.dice) == {"gamma": 1.0}
    assert given(criteria.bootstrap_soft) == {"beta": 0.95} and given(criteria.bootstrap_hard) == {"beta": 0.8}
    assert given(resampling.smote) == {"k": 5, "under": None} and given(rules.low_loss) == {"keep": 0.6}
    assert given(rules.mentor) == {"share": 0.75, "average": 0.95, "slope": 1.0}
    assert given(rules.ByCleanLoss) == {"decay": False, "redraw": False}


def test_what_the_table_says_of_steps_and_batches():
    """Fields of the table that two steps do not show."""
    weightings = {name: m for name, m in METHODS.items() if isinstance(m, Weighting)}
    assert {name: m.batch for name, m in weightings.items() if m.batch} == {"hard_mining": 500}
    assert {name: m.base.name for name, m in METHODS.items() if m.base} == {"fine_tune": "uniform", "adaptation_confusion": "uniform"}
    assert {name for name, m in weightings.items() if m.host} == {"hard_mining", "low_loss", "mentor", "meta_weight_net"}
