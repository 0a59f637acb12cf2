"""python -m experiments.walkthrough: the same as python -m experiments walkthrough."""
import sys

from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["walkthrough", *sys.argv[1:]]))
