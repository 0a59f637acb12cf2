"""What a training step costs, against PyTorch, JAX and others: python -m experiments.benchmark."""
