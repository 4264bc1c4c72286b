"""The README's examples print what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
CODE, EXPECTED = (re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL) for kind in ("python", "text"))


@pytest.mark.parametrize(
    "code, expected", list(zip(CODE, EXPECTED, strict=True)), ids=["rotation", "design", "lindblad"]
)
def test_the_examples_print_what_they_say(code, expected):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == expected
