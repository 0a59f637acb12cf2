"""The paper's experiments. `python -m experiments` lists the scripts."""
