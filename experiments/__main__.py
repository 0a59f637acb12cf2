"""List of the scripts, what each reproduces, and how long it takes on two cores: python -m experiments."""
from . import SCRIPTS, console

if __name__ == "__main__":
    console.prepare()
    for entry in SCRIPTS:
        print(f"python -m experiments.{entry.name:14s}{entry.about:56s}quick: {entry.quick}; paper: {entry.paper}")
    print("\nEach has --help. Several at once: python -m experiments.sweep table2 figure7 --jobs 2")
