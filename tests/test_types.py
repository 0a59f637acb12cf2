"""A type checker finds the mistakes of a user, reports nothing else, and knows what the transforms return."""
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
pytestmark = pytest.mark.needs("mypy")


@pytest.fixture(scope="module")
def reports():
    """All that mypy reports of the two files: (file, line, code)."""
    files = [str(HERE / name) for name in ("mistakes.py", "right_uses.py")]
    ran = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-pretty", *files],
                         cwd=HERE.parent, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stderr or ran.stdout          # 2: mypy itself failed
    found = re.findall(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", ran.stdout, re.MULTILINE)
    return {(file, int(line), code) for file, line, code in found}


def test_exactly_the_mistakes_are_reported(reports):
    lines = (HERE / "mistakes.py").read_text().splitlines()
    marked = {(number, found[1]) for number, line in enumerate(lines, 1) if (found := re.search(r"  # error: ([\w-]+)$", line))}
    assert len(marked) > 20
    assert {(line, code) for file, line, code in reports if file == "mistakes.py"} == marked


def test_right_uses_have_the_types_they_claim(reports):
    assert not [report for report in reports if report[0] == "right_uses.py"]
