"""python -m experiments.benchmark: the same as python -m experiments benchmark."""
import sys

from .benchmark import main

sys.exit(main())
