"""The values that the paper reports, as data: Ren et al., Learning to Reweight Examples for Robust Deep Learning, 2018.

Methods have the names of `experiments/methods`; NAMES maps them to the paper's. A suffix says how a method was trained:
"+es" with the paper's shorter schedule, "+ft" with further steps on the clean images only. Accuracies and errors are in
percent. Values of figures were read from the coordinates of the paper's vector drawings.
"""

SUFFIXES = {"": "", "+es": " +ES", "+ft": " +FT", "+es+ft": " +ES +FT"}

# {our name: the paper's name}
NAMES = {method + suffix: name + words for method, name in {
    "uniform": "Baseline", "random": "Random", "proportion": "Proportion", "resample": "Resample",
    "hard_mining": "Hard Mining", "oracle": "Weighted", "bootstrap_soft": "Reed Soft", "bootstrap_hard": "Reed Hard",
    "adaptation": "S-Model", "adaptation_confusion": "S-Model +Conf", "clean_only": "Clean Only", "reweight": "Ours",
    "mentornet_quoted": "MentorNet"}.items() for suffix, words in SUFFIXES.items()}

# Figure 2: MNIST, four against nine; {method: {share of the majority: (test error, half-height of the error bar)}}.
FIGURE_2 = {
    "uniform": {0.9: (1.62, .21), 0.95: (2.86, .30), 0.98: (5.80, .61), 0.99: (10.48, 1.0), 0.995: (18.26, 1.7)},
    "random": {0.9: (1.78, .20), 0.95: (2.82, .55), 0.98: (5.62, .52), 0.99: (9.52, 1.4), 0.995: (17.74, 2.0)},
    "proportion": {0.9: (1.22, .17), 0.95: (2.04, .32), 0.98: (3.32, .44), 0.99: (5.40, .58), 0.995: (8.30, 1.4)},
    "resample": {0.9: (1.40, .24), 0.95: (1.78, .20), 0.98: (3.38, .41), 0.99: (5.96, .86), 0.995: (9.62, 1.1)},
    "hard_mining": {0.9: (1.34, .39), 0.95: (1.48, .53), 0.98: (2.16, .52), 0.99: (4.50, .87), 0.995: (7.74, 2.0)},
    "reweight": {0.9: (1.28, .54), 0.95: (1.44, .58), 0.98: (1.96, .62), 0.99: (2.50, .75), 0.995: (3.62, .65)},
}

# Table 1: 40 % uniform flip, WRN-28-10, 1,000 clean images; {data: {method: (test accuracy, half of the 95 %
# interval)}}. The authors did not run MentorNet: they quote its own paper (WRN-101-10), without intervals.
TABLE_1 = {
    "cifar10": {
        "uniform": (67.97, 0.62), "bootstrap_hard": (69.66, 1.21), "adaptation": (70.64, 3.09),
        "mentornet_quoted": (76.6, None), "random": (86.06, 0.32), "clean_only": (46.64, 3.90),
        "uniform+ft": (78.66, 0.44), "mentornet_quoted+ft": (78.0, None), "random+ft": (86.55, 0.24),
        "reweight": (86.92, 0.19)},
    "cifar100": {
        "uniform": (50.66, 0.24), "bootstrap_hard": (51.34, 0.17), "adaptation": (49.10, 0.58),
        "mentornet_quoted": (56.9, None), "random": (58.01, 0.37), "clean_only": (9.94, 0.82),
        "uniform+ft": (54.52, 0.40), "mentornet_quoted+ft": (59.0, None), "random+ft": (58.54, 0.52),
        "reweight": (61.34, 2.06)},
}

# Table 2: 40 % background flip, ResNet-32, 10 clean images of each class. On CIFAR-100 the paper reports the same
# numbers for Random and for Weighted ("oracle"): one of them is probably a mistake.
TABLE_2 = {
    "cifar10": {
        "uniform": (59.54, 2.16), "uniform+es": (64.96, 1.19), "random": (69.51, 1.36), "oracle": (79.17, 1.36),
        "bootstrap_soft+es": (63.47, 1.05), "bootstrap_hard+es": (65.22, 1.06), "adaptation": (58.60, 2.33),
        "adaptation_confusion": (68.93, 1.09), "adaptation_confusion+es": (79.24, 0.56), "clean_only": (15.90, 3.32),
        "uniform+ft": (82.82, 0.93), "uniform+es+ft": (85.19, 0.46), "oracle+ft": (85.98, 0.47),
        "adaptation_confusion+ft": (81.90, 0.85), "adaptation_confusion+es+ft": (85.86, 0.63),
        "reweight": (86.73, 0.48)},
    "cifar100": {
        "uniform": (37.82, 0.69), "uniform+es": (39.08, 0.65), "random": (36.56, 0.44), "oracle": (36.56, 0.44),
        "bootstrap_soft+es": (38.44, 0.90), "bootstrap_hard+es": (39.03, 0.55), "adaptation": (37.02, 0.34),
        "adaptation_confusion": (46.72, 1.87), "adaptation_confusion+es": (54.50, 2.51), "clean_only": (8.06, 0.76),
        "uniform+ft": (54.23, 1.75), "uniform+es+ft": (55.22, 1.40), "oracle+ft": (53.99, 1.62),
        "adaptation_confusion+ft": (53.11, 1.33), "adaptation_confusion+es+ft": (55.75, 1.26),
        "reweight": (59.30, 0.60)},
}

# Figure 3: the share of the images whose weight lies in the lowest of 49 bins over [0, 0.04], background flip, halfway
# through training. Unconditional: any images; conditional: one class, not the background, 40 % of it mislabeled.
FIGURE_3 = {"unconditional": {"noisy": 0.997, "clean": 0.245}, "conditional": {"noisy": 0.604, "clean": 0.001}}

# Figure 4: CIFAR-10, 40 % flipped to class 3, ResNet-32; {data: {method: {clean images: test accuracy}}}; no intervals.
FIGURE_4 = {"cifar10": {method: dict(zip((15, 30, 50, 100, 200, 500, 1000), accuracies)) for method, accuracies in {
    "uniform+ft": (77.50, 79.81, 81.38, 83.39, 83.81, 84.11, 84.37),
    "adaptation_confusion+ft": (72.03, 77.07, 78.91, 82.27, 83.30, 84.29, 84.56),
    "adaptation_confusion+es+ft": (76.26, 82.01, 83.91, 85.15, 85.92, 86.57, 86.68),
    "reweight": (84.40, 85.31, 86.22, 87.23, 86.40, 87.33, 86.94)}.items()}}

# Figure 5: background flip, ResNet-32, 10 clean images of each class; {data: {method: {share of flipped labels: test
# accuracy}}}; no error bars.
FIGURE_5 = {data: {method: dict(zip((0.0, 0.1, 0.2, 0.3, 0.4, 0.5), accuracies)) for method, accuracies in rows.items()}
            for data, rows in {
    "cifar10": {
        "uniform": (92.55, 85.08, 78.03, 70.50, 63.12, 48.75),
        "adaptation_confusion+es": (92.35, 89.33, 87.03, 83.53, 79.51, 74.33),
        "uniform+ft": (92.55, 87.88, 86.36, 84.75, 83.63, 80.38),
        "adaptation_confusion+es+ft": (92.35, 89.85, 88.46, 86.64, 85.15, 83.61),
        "reweight": (91.21, 89.59, 88.99, 87.75, 87.23, 84.82)},
    "cifar100": {
        "uniform": (68.18, 61.00, 54.16, 47.63, 37.43, 28.86),
        "adaptation_confusion+es": (68.03, 63.40, 61.42, 58.61, 54.29, 47.14),
        "uniform+ft": (68.18, 60.07, 58.24, 55.38, 55.76, 49.76),
        "adaptation_confusion+es+ft": (68.03, 58.99, 57.81, 56.28, 57.63, 51.67),
        "reweight": (65.46, 63.11, 63.19, 60.16, 58.58, 56.96)}}.items()}

# Figure 6: CIFAR-10, the diagonal of the row-normalized confusion matrix, from plane to truck; {bias: {method: ...}}.
FIGURE_6 = {
    "uniform": {"uniform": (.70, .72, .62, .63, .65, .63, .73, .71, .71, .71),
                "reweight": (.90, .94, .79, .78, .87, .78, .92, .88, .93, .92)},
    "background": {"uniform": (.60, .69, .51, .89, .60, .52, .62, .59, .61, .67),
                   "reweight": (.87, .87, .85, .78, .85, .81, .92, .90, .92, .95)},
}

# Figure 7: CIFAR-10, 40 % background flip, ResNet-32, during training; {method: {"validation" | "train": {step:
# accuracy}}}. Train accuracy is against the given labels. Validation is highest at 42K (Baseline), 41K (S-Model +Conf)
# and 80K (Ours).
FIGURE_7_STEPS = 80_000
FIGURE_7 = {
    "uniform": {"validation": {42_000: 75.5, 50_000: 70.1, 60_000: 66.1, 80_000: 63.4},
                "train": {80_000: 90.0}},
    "adaptation_confusion": {"validation": {41_000: 87.0, 50_000: 84.1, 80_000: 70.9}, "train": {}},
    "reweight": {"validation": {41_000: 83.7, 60_000: 84.5, 80_000: 87.3}, "train": {80_000: 62.0}},
}


STANDARD = {"cifar10": 100, "cifar100": 1000}               # clean images beside background flips


def is_main_task(data, bias, share, clean):
    """Return whether a task is that of Table 1 or 2 and Figures 3, 6 and 7: 40 % flips, and as many clean images."""
    known = {"uniform": (1000, 250), "background": (STANDARD.get(data),)}       # 250 in quick mode, a ninth of the data
    return share == 0.4 and clean in known.get(bias, ())


def curves(along, data, bias, fixed):
    """Return {method: {value: test accuracy}} of Figure 5 or 4, {} where the paper has none.

    along: "share" or "clean", which the figure compares; fixed: the other one.
    """
    table, standard = (FIGURE_5, STANDARD.get(data)) if along == "share" else (FIGURE_4, 0.4)
    return table.get(data, {}) if (bias, fixed) == ("background", standard) else {}


def accuracies(data, bias, share, clean):
    """Return {method: (test accuracy, half of the 95 % interval or None)} that the paper reports for a task on CIFAR.

    Tables 1 and 2 count before Figures 4 and 5, which have no intervals. {} for a task that is not in the paper.
    """
    if is_main_task(data, bias, share, clean):
        return (TABLE_1 if bias == "uniform" else TABLE_2).get(data, {})
    for rows, value in ((curves("share", data, bias, clean), share), (curves("clean", data, bias, share), clean)):
        if rows:
            return {method: (points[value], None) for method, points in rows.items() if value in points}
    return {}
