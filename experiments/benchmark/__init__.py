"""What a training step costs, against PyTorch, JAX and others: python -m experiments.benchmark."""
from .. import deprecated

__getattr__ = deprecated.attributes(__name__, "benchmark")
