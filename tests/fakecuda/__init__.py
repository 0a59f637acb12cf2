"""A stand-in for CUDA: the unmodified CuPy runs on it where there is no GPU. README.md explains it.

    python -m tests.fakecuda                    build it, once; show where it is
    python -m tests.fakecuda pytest -m cupy     run a command on it
"""
