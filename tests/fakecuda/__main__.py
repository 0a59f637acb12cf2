"""Run a command with CuPy on the stand-in for CUDA, which is built before the first: see README.md."""
import os
import sys

from . import build


def main(command):
    """Replace this process by the command; without one, print where the stand-in is. What is missing is an error."""
    try:
        folder = build.find()
    except build.Unavailable as reason:
        sys.exit(f"tests.fakecuda: {reason}")
    if not command:
        print(folder)
        return
    environment = os.environ | build.environment(folder)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.exit(f"tests.fakecuda: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
