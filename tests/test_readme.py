"""The README's code runs as printed, is silent, and gives the scores that it states."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
STATED = re.findall(r"It prints `(\w+) (\S+)`", README)


def test_readme_opens_with_five_lines_without_scaler_or_torch():
    lines = BLOCKS[0].strip().splitlines()
    assert len(lines) == 5
    assert "torch" not in BLOCKS[0]
    assert "Scaler" not in BLOCKS[0]


def test_the_equation_takes_at_most_twelve_lines():
    assert "residual" in BLOCKS[2] and len(BLOCKS[2].strip().splitlines()) <= 12


@pytest.mark.parametrize("index", [0, 1, 2], ids=["opening", "grid_search", "equation"])
def test_readme_block(index):
    name, stated = STATED[index]
    run = subprocess.run(
        [sys.executable, "-c", BLOCKS[index]], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    printed = re.fullmatch(rf"{name} (\d\.\d+)\n", run.stdout)
    assert printed, run.stdout
    assert float(printed[1]) == pytest.approx(float(stated), abs=0.01)
