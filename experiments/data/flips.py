"""Wrong labels: flips of the labels of a set, uniformly or to one class.

`variant` is "exact" where exactly round(share n) labels are wrong, and "paper" for what the authors' code does. `rng`
is a NumPy generator; the paper variant also accepts a RandomState.
"""
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError
from minigrad.losses import label_array

VARIANTS, KINDS = ("exact", "paper"), (None, "uniform", "background")


class Flip(NamedTuple):
    """How the labels of a set are flipped: `kind` is None (not at all), "uniform", or "background".

    Args:
        kind: see above.
        share: of the labels, to be flipped.
        classes: number of classes.
        target: the background class; None: one drawn at random.
        variant: "exact" or "paper".
    """
    kind: str | None
    share: float
    classes: int
    target: int | None = None
    variant: str = "exact"


def require(condition, problem, remedy):
    """Raise a MinigradError that states the problem and the remedy, unless the condition holds."""
    if not condition:
        raise MinigradError(f"{problem}\n  help: {remedy}")


def check_flip(flip):
    """Raise MinigradError unless every field of the flip has a possible value."""
    kind, share, classes, target, variant = flip
    require(variant in VARIANTS, f"variant {variant!r}: there is no such variant", "choose 'exact' or 'paper'")
    require(kind in KINDS, f"flip {kind!r}: there is no such flip", "choose None, 'uniform' or 'background'")
    require(classes >= 2, f"classes {classes}: there must be at least two", "classes=K, where the labels are 0 to K-1")
    require(0 <= share <= 1, f"share {share}: the share of labels to flip must lie between 0 and 1",
            "the paper uses 0.4")
    require(target is None or target in range(classes), f"target {target}: no class has this label",
            f"choose 0 to {classes - 1}, or None for a class at random")


def check_labels(labels, classes):
    """Return the labels as an array of integers; raise MinigradError unless all are from 0 to classes - 1."""
    labels = label_array("check_labels(labels, classes)", labels)
    require(labels.ndim == 1, f"labels of shape {labels.shape}: there must be one for each example", "labels (n,)")
    require(not len(labels) or labels.min() >= 0 and labels.max() < classes,
            f"classes {classes}: there are labels other than 0 to {classes - 1}",
            "classes=K, where the labels are 0 to K-1")
    return labels


def flip_labels(labels, flip, rng):
    """Return the labels (n,) after a Flip; the labels themselves where its kind is None."""
    if flip.kind is None:
        return labels
    if flip.kind == "uniform":
        return uniform_flip(labels, flip.share, flip.classes, rng, flip.variant)
    return background_flip(labels, flip.share, flip.classes, rng, flip.target, flip.variant)


def uniform_flip(labels, share, classes, rng, variant="exact"):
    """Return new labels (n,), a share of them replaced by other classes at random.

    "exact": round(share n) labels are wrong, and all other classes are equally likely.
    "paper" (Ren et al. 2018, section 4.2, the authors' code): int(share n) labels are drawn again as
    floor(U(0, K - 1)). The last class is never drawn, and an example may keep its label: with K = 10 classes a share of
    0.4 makes 36.0 % wrong. With two classes every redrawn label is 0: a background flip to class 0, not a uniform flip.

    Args:
        labels: integers from 0 to classes - 1, (n,).
        share: of the labels, to be flipped, in [0, 1].
        classes: number of classes.
        rng: NumPy generator.
        variant: "exact" or "paper".

    Raises MinigradError for a share outside [0, 1] and for labels outside the classes.
    """
    check_flip(Flip("uniform", share, classes, variant=variant))
    labels = check_labels(labels, classes)
    if variant == "paper":
        return redraw_labels(labels, rng.permutation(len(labels))[:int(share * len(labels))], classes, rng)
    chosen = rng.permutation(len(labels))[:round(share * len(labels))]
    new = labels.copy()
    new[chosen] = (new[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return new


def background_flip(labels, share, classes, rng, target=None, variant="exact"):
    """Return new labels (n,), a share of them replaced by one class, the background.

    "exact": round(share n_k) examples of each other class k, so that a share of 1 leaves no other label.
    "paper" (Ren et al. 2018, section 4.2, the authors' code): int(share n) of all examples. Those of the background
    among them stay right: with K = 10 classes a share of 0.4 makes 36 % wrong.

    Args:
        labels: integers from 0 to classes - 1, (n,).
        share: of the labels, to be flipped, in [0, 1].
        classes: number of classes.
        rng: NumPy generator.
        target: the background class; None: see `draw_background`.
        variant: "exact" or "paper".

    Raises MinigradError for a share outside [0, 1], and for labels or a target outside the classes.
    """
    check_flip(Flip("background", share, classes, target, variant))
    labels = check_labels(labels, classes)
    target = draw_background(classes, rng, variant) if target is None else target
    if variant == "paper":
        chosen = rng.permutation(len(labels))[:int(share * len(labels))]
        return redraw_labels(labels, chosen, classes, rng, target)
    new = labels.copy()
    for k in set(range(classes)) - {target}:
        members = rng.permutation(np.flatnonzero(labels == k))
        new[members[:round(share * len(members))]] = target
    return new


def draw_background(classes, rng, variant):
    """Draw the background class: any class, or floor(U(0, K - 1)) in the paper variant, which is never the last."""
    return int(rng.uniform(0, classes - 1) if variant == "paper" else rng.integers(classes))


def redraw_labels(labels, chosen, classes, rng, target=None):
    """Return new labels as in the paper variant: the chosen ones become the target, or floor(U(0, K - 1)) each."""
    new = labels.copy()
    new[chosen] = np.floor(rng.uniform(0, classes - 1, len(chosen))) if target is None else target
    return new


def describe_flip(part, flip):
    """Return a text that counts the wrong labels, and those of the background; "" without flips."""
    if flip.kind is None:
        return ""
    text = f"; {part.wrong.sum()} labels wrong ({part.wrong.mean():.1%}, {flip.kind} flip)"
    if flip.kind == "uniform":
        return text
    background = part.labels == flip.target
    others = (len(part) - background.sum()) / (flip.classes - 1)
    return (f"{text}: {background.sum()} ({background.mean():.1%}) have label {flip.target}, "
            f"{part.wrong.sum() / max(background.sum(), 1):.1%} of them wrongly; {others:.0f} have each other label, "
            "on average")


def flip_matrix(part, classes):
    """Return P(given label | true label), (K, K), counted in the part; each row, a true class, sums to 1.

    The row of a class that does not occur in the part is that of the identity.
    """
    given, true = check_labels(part.labels, classes), check_labels(part.true, classes)
    counts = np.bincount(true * classes + given, minlength=classes * classes).reshape(classes, classes)
    counts = np.where(counts.sum(1, keepdims=True), counts, np.eye(classes))
    return counts / counts.sum(1, keepdims=True)
