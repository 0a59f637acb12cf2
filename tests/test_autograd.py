"""HIPS/autograd's own tests run on minigrad's names, through the shim of autograd_shim.py."""
import os
import re
import subprocess
import sys

import pytest

from . import requirements

LEAST = 450                                                 # tests that pass


@pytest.mark.needs("autograd_tests")
def test_autograds_own_tests_pass():
    done = subprocess.run([sys.executable, "-m", "tests.autograd_shim", str(requirements.AUTOGRAD_TESTS)], capture_output=True, text=True, cwd=requirements.ROOT,
                          env={**os.environ, "MINIGRAD_BACKEND": "numpy", "PYTEST_ADDOPTS": "", "PYTHONPATH": str(requirements.ROOT)})
    last = done.stdout.rstrip().rpartition("\n")[2]
    passed, failed = (int(re.search(rf"(\d+) {word}", last)[1]) for word in ("passed", "failed"))
    assert passed >= LEAST and failed == 0 and done.returncode == 0, done.stdout[-4000:]
