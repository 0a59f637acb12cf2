"""Wrong labels: a Flip says how the labels of a set are made wrong, and makes them so.

`variant` is "exact" where exactly round(share n) labels are wrong, and "paper" for what the authors' code does (Ren et
al. 2018, section 4.2). `rng` is a NumPy generator; the paper variant also accepts a RandomState.
"""
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError
from minigrad.losses import label_array

VARIANTS, KINDS = ("exact", "paper"), (None, "uniform", "background")


def require(condition, problem, remedy):
    """Raise a MinigradError that states the problem and the remedy, unless the condition holds."""
    if not condition:
        raise MinigradError(f"{problem}\n  help: {remedy}")


def check_labels(labels, classes):
    """Return the labels as an array of integers; raise MinigradError unless all are from 0 to classes - 1."""
    labels = label_array("check_labels(labels, classes)", labels)
    require(labels.ndim == 1, f"labels of shape {labels.shape}: there must be one for each example", "labels (n,)")
    require(not len(labels) or labels.min() >= 0 and labels.max() < classes,
            f"classes {classes}: there are labels other than 0 to {classes - 1}",
            "classes=K, where the labels are 0 to K-1")
    return labels


class Flip(NamedTuple):
    """How the labels of a set are made wrong: not at all, uniformly, or to one class, the background.

    uniform, exact: round(share n) labels are wrong, and all other classes are equally likely.
    uniform, paper: int(share n) labels are drawn again as floor(U(0, K - 1)). The last class is never drawn, and an
    example may keep its label: with K = 10 classes a share of 0.4 makes 36.0 % wrong. With two classes every redrawn
    label is 0: a background flip to class 0, not a uniform flip.

    background, exact: round(share n_k) examples of each other class k, so that a share of 1 leaves no other label.
    background, paper: int(share n) of all examples. Those of the background among them stay right: with K = 10 classes
    a share of 0.4 makes 36 % wrong.

    Args:
        kind: None (no label is flipped), "uniform" or "background".
        share: of the labels, to be flipped, in [0, 1].
        target: the background class; None: one drawn at random.
        variant: "exact" or "paper".
    """
    kind: str | None = None
    share: float = 0.4
    target: int | None = None
    variant: str = "exact"

    def __call__(self, labels, classes, rng):
        """Return new labels (n,) for integers from 0 to classes - 1; the labels themselves where the kind is None."""
        if self.kind is None:
            return labels
        self.check(classes)
        labels = check_labels(labels, classes)
        flip = self.with_target(classes, rng)
        if flip.variant == "paper":
            return flip.redraw(labels, rng.permutation(len(labels))[:int(flip.share * len(labels))], classes, rng)
        new = labels.copy()
        if flip.kind == "uniform":
            chosen = rng.permutation(len(labels))[:round(flip.share * len(labels))]
            new[chosen] = (new[chosen] + rng.integers(1, classes, len(chosen))) % classes
            return new
        for k in set(range(classes)) - {flip.target}:
            members = rng.permutation(np.flatnonzero(labels == k))
            new[members[:round(flip.share * len(members))]] = flip.target
        return new

    def check(self, classes):
        """Raise MinigradError unless every field has a possible value."""
        kind, share, target, variant = self
        require(variant in VARIANTS, f"variant {variant!r}: there is no such variant", "choose 'exact' or 'paper'")
        require(kind in KINDS, f"flip {kind!r}: there is no such flip", "choose None, 'uniform' or 'background'")
        require(classes >= 2, f"classes {classes}: there must be at least two",
                "classes=K, where the labels are 0 to K-1")
        require(0 <= share <= 1, f"share {share}: the share of labels to flip must lie between 0 and 1",
                "the paper uses 0.4")
        require(target is None or target in range(classes), f"target {target}: no class has this label",
                f"choose 0 to {classes - 1}, or None for a class at random")

    def with_target(self, classes, rng):
        """Return the flip with its background class drawn, where it needs one and has none.

        It is any class, or floor(U(0, K - 1)) in the paper variant, which is never the last.
        """
        if self.kind != "background" or self.target is not None:
            return self
        drawn = rng.uniform(0, classes - 1) if self.variant == "paper" else rng.integers(classes)
        return self._replace(target=int(drawn))

    def redraw(self, labels, chosen, classes, rng):
        """Return new labels as in the paper variant: the chosen ones become the target, or floor(U(0, K - 1)) each."""
        new = labels.copy()
        uniform = self.kind == "uniform"
        new[chosen] = np.floor(rng.uniform(0, classes - 1, len(chosen))) if uniform else self.target
        return new

    def describe(self, part, classes):
        """Return a text that counts the wrong labels, and those of the background; "" without flips."""
        if self.kind is None:
            return ""
        text = f"; {part.wrong.sum()} labels wrong ({part.wrong.mean():.1%}, {self.kind} flip)"
        if self.kind == "uniform":
            return text
        background = part.labels == self.target
        others = (len(part) - background.sum()) / (classes - 1)
        return (f"{text}: {background.sum()} ({background.mean():.1%}) have label {self.target}, "
                f"{part.wrong.sum() / max(background.sum(), 1):.1%} of them wrongly; {others:.0f} have each other "
                "label, on average")


NO_FLIP = Flip()
