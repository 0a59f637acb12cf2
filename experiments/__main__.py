"""python -m experiments: the scripts, what each reproduces, and how long it takes on two cores."""

SCRIPTS = [
    ("imbalance", "Figure 2: class imbalance, test error of six methods", "quick: 3 minutes; paper: about 40 hours"),
    ("benchmark", "the cost of one step, against PyTorch and JAX", "10 minutes; with --growth 20"),
]

if __name__ == "__main__":
    for name, what, time in SCRIPTS:
        print(f"python -m experiments.{name:12s}{what:56s}{time}")
    print("\nEach takes --help.")
