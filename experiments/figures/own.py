"""Pictures of training on data of your own: how good each method is, which labels were trusted, and the suspects."""
import matplotlib.pyplot as plt
import numpy as np

from .common import color, save, wrap

MOST_CLASSES = 12           # in the matrix of suspects
AS_WRITTEN = {"text.parse_math": False}     # $ in a label or the name of a file is no formula


@plt.rc_context(AS_WRITTEN)
def trust(scores, trusted, clean_trusted, pairs, path, caption):
    """Draw accuracies, the distribution of trust, and the suspects by label; return the path.

    Args:
        scores: {method: (its name, accuracy, lowest, highest)}, in percent, the last two of the 95 % interval.
        trusted: (n,), the share of passes in which a training example had a weight above 0.
        clean_trusted: the same for examples that are known to be right.
        pairs: the given and the suggested label of each suspect.
        path: the file to write.
        caption: what was trained on, for the title.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained",
                                                 width_ratios=(1, 1.1, 1.1))
    _draw_scores(left, scores)
    bins = np.linspace(0, 1, 21)
    middle.axvspan(0, 0.5, color="#d62728", alpha=0.08, linewidth=0)
    middle.hist(trusted, bins, color="#7f7f7f", label=f"given labels ({len(trusted)})",
                weights=np.full(len(trusted), 100 / max(len(trusted), 1)))
    middle.hist(clean_trusted, bins, histtype="step", linewidth=1.8, color="#1f77b4",
                label=f"labels known to be right ({len(clean_trusted)})",
                weights=np.full(len(clean_trusted), 100 / max(len(clean_trusted), 1)))
    middle.set(xlabel="trust: share of passes with a weight above 0", ylabel="share of the examples, %",
               title="Who was trusted", xlim=(0, 1))
    middle.text(0.25, 0.8, f"{int((trusted < 0.5).sum())} suspects", color="#a01818", ha="center",
                transform=middle.transAxes)
    middle.set_ylim(0, 1.3 * middle.get_ylim()[1])          # room for the legend
    middle.legend(fontsize=8, loc="upper left")
    _draw_pairs(right, pairs)
    figure.suptitle(wrap(caption, 130))
    return save(figure, path)


def _draw_scores(axes, scores):
    for k, (method, (_, middle, low, high)) in enumerate(reversed(scores.items())):
        shade = color(method)
        axes.errorbar(middle, k, xerr=[[middle - low], [high - middle]], fmt="o", color=shade, capsize=4, linewidth=2)
        axes.annotate(f"{middle:.1f}", (middle, k), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(scores)), [name for name, *_ in scores.values()][::-1])
    axes.set(xlabel="accuracy, %, with the 95 % interval", title="Right labels, not trained on",
             ylim=(-0.5, len(scores) - 0.4))
    axes.grid(axis="x", alpha=0.3)


def _draw_pairs(axes, pairs):
    """Draw how many suspects of each label have each suggestion: the most frequent labels alone if there are many."""
    given, suggested = np.asarray(pairs, str).reshape(-1, 2).T
    names, counts = np.unique(np.concatenate([given, suggested]), return_counts=True)
    shown = np.sort(names[np.argsort(-counts, kind="stable")[:MOST_CLASSES]])
    axes.set_title("Suspects by label" + f" (the {MOST_CLASSES} most frequent)" * (len(names) > MOST_CLASSES))
    if not len(shown):
        axes.axis("off")
        axes.text(0.5, 0.5, "no suspects", ha="center")
        return
    table = ((given[:, None, None] == shown[:, None]) & (suggested[:, None, None] == shown)).sum(0)
    axes.imshow(table, cmap="Reds", vmin=0, vmax=max(table.max(), 1))
    for i, row in enumerate(table):
        for j, count in enumerate(row):
            axes.text(j, i, count, ha="center", va="center", color="white" if count > table.max() / 2 else "black")
    short = [name if len(name) < 15 else f"{name[:13]}…" for name in shown]
    axes.set_xticks(range(len(shown)), short, rotation=30 if max(map(len, short)) > 3 else 0)
    axes.set_yticks(range(len(shown)), short)
    axes.set(xlabel="label that the network would give", ylabel="given label")


@plt.rc_context(AS_WRITTEN)
def suspects(images, titles, path, caption):
    """Draw images (n, h, w, 3), each with a title, in rows of eight; return the path."""
    rows = -(-len(images) // 8)
    figure, panels = plt.subplots(rows, 8, figsize=(12, 1.9 * rows + 0.6), layout="constrained", squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, image, title in zip(panels.flat, images, titles):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
    figure.suptitle(wrap(caption, 130))
    return save(figure, path)
