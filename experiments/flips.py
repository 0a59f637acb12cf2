"""Wrong labels: new labels for old ones, uniformly or all to one class.

`form` is "true" where a flip does what its name says, to the very count, and "paper" where it does what the authors'
code does. `rng` is a generator of NumPy; the paper form also takes a RandomState.
"""
import numpy as np

from minigrad import MinigradError
from minigrad.losses import label_array

FORMS, FLIPS = ("true", "paper"), (None, "uniform", "background")


def require(condition, problem, remedy):
    """Raise MinigradError, with what was wrong and what to do, unless the condition holds."""
    if not condition:
        raise MinigradError(f"{problem}\n  help: {remedy}")


def check_flips(flip, share, classes, target, form):
    """Raise unless there are such flips."""
    require(form in FORMS, f"form {form!r}: there is no such form", "choose 'true' or 'paper'")
    require(flip in FLIPS, f"flip {flip!r}: there is no such flip", "choose None, 'uniform' or 'background'")
    require(classes >= 2, f"classes {classes}: there must be at least two", "classes=K, where the labels are 0 to K-1")
    require(0 <= share <= 1, f"share {share}: the share of labels to flip must lie between 0 and 1",
            "the paper uses 0.4")
    require(target is None or target in range(classes), f"target {target}: no class has this label",
            f"choose 0 to {classes - 1}, or None for any")


def check_labels(labels, classes):
    """The labels as an array of integers. Raises MinigradError unless all are 0 to classes - 1."""
    labels = label_array("check_labels(labels, classes)", labels)
    require(labels.ndim == 1, f"labels of shape {labels.shape}: there must be one for each example", "labels (n,)")
    require(not len(labels) or labels.min() >= 0 and labels.max() < classes,
            f"classes {classes}: there are labels other than 0 to {classes - 1}",
            "classes=K, where the labels are 0 to K-1")
    return labels


def uniform_flip(labels, share, classes, rng, form="true"):
    """New labels (n,), of which a share was replaced by other classes.

    "true": round(share n) of them are wrong, each of the other classes equally likely.
    "paper" (Ren et al. 2018, section 4.2, the authors' code): int(share n) of them are drawn again as
    floor(U(0, K - 1)). The last class is never drawn, and an example may keep its label: of K = 10 classes 0.4 means
    36.0 % wrong. Of two classes every one that is drawn becomes class 0: no uniform flip, but a background of class 0.
    Raises MinigradError for a share outside [0, 1] and for labels outside the classes.
    """
    check_flips("uniform", share, classes, None, form)
    labels = check_labels(labels, classes)
    if form == "paper":
        return drawn_again(labels, rng.permutation(len(labels))[:int(share * len(labels))], classes, rng)
    chosen = rng.permutation(len(labels))[:round(share * len(labels))]
    new = labels.copy()
    new[chosen] = (new[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return new


def background_flip(labels, share, classes, rng, target=None, form="true"):
    """New labels (n,), of which a share was replaced by one class, the background; `target` says which (None: any).

    "true": of each other class, round(share n_class) examples; a share of 1 leaves no other label.
    "paper" (Ren et al. 2018, section 4.2, the authors' code): int(share n) of all, those of the background among them,
    which stay right: of K = 10 classes 0.4 means 36 % wrong. Any class means floor(U(0, K - 1)), never the last one;
    of two classes it is always class 0.
    Raises MinigradError for a share outside [0, 1], and for labels or a target outside the classes.
    """
    check_flips("background", share, classes, target, form)
    labels = check_labels(labels, classes)
    target = drawn_background(classes, rng, form) if target is None else target
    if form == "paper":
        chosen = rng.permutation(len(labels))[:int(share * len(labels))]
        return drawn_again(labels, chosen, classes, rng, target)
    new = labels.copy()
    for k in set(range(classes)) - {target}:
        members = rng.permutation(np.flatnonzero(labels == k))
        new[members[:round(share * len(members))]] = target
    return new


def drawn_background(classes, rng, form):
    """Which class becomes the background, if nobody says."""
    return int(rng.uniform(0, classes - 1) if form == "paper" else rng.integers(classes))


def drawn_again(labels, chosen, classes, rng, target=None):
    """New labels in the paper form: the chosen ones become the target, or floor(U(0, K - 1)) each."""
    new = labels.copy()
    new[chosen] = np.floor(rng.uniform(0, classes - 1, len(chosen))) if target is None else target
    return new


def about_labels(part, flip, classes, target):
    """How many labels are wrong, and of a background what it consists of; "" without flips."""
    if flip is None:
        return ""
    text = f"; {part.wrong.sum()} labels wrong ({part.wrong.mean():.1%}, {flip} flip)"
    if flip == "uniform":
        return text
    background = part.labels == target
    others = (len(part) - background.sum()) / (classes - 1)
    return (f"{text}: {background.sum()} ({background.mean():.1%}) say class {target}, of which "
            f"{part.wrong.sum() / max(background.sum(), 1):.1%} wrongly; {others:.0f} say another class, on average")


def flip_matrix(part, classes):
    """P(given label | true label), (K, K), as counted in the part: each row, a true class, sums to 1.

    The row of a class that the part does not hold is that of the identity: none of it was flipped.
    """
    given, true = check_labels(part.labels, classes), check_labels(part.true, classes)
    counts = np.bincount(true * classes + given, minlength=classes * classes).reshape(classes, classes)
    counts = np.where(counts.sum(1, keepdims=True), counts, np.eye(classes))
    return counts / counts.sum(1, keepdims=True)
