"""python -m experiments.tour: the same as python -m experiments tour."""
import sys

from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["tour", *sys.argv[1:]]))
