"""Under a limit of the operating system: a fit to a table four times as large as the memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "bounded_fit.py"


def run(kind, folder, size):
    command = [sys.executable, SCRIPT, kind, folder, str(size)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("memmap", 64),
        *(
            pytest.param(kind, 256, marks=pytest.mark.slow)
            for kind in ("memmap", "hdf5", "parquet")
        ),
    ],
)
def test_a_table_four_times_the_memory(kind, size, tmp_path, capsys):
    done = run(kind, tmp_path, size)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\ntable in {kind}: {found}")
    assert found["MiB"] == pytest.approx(4 * found["room"])
    assert found["R2"] > 0.5


@pytest.mark.slow
def test_the_same_table_does_not_fit_into_the_memory(tmp_path):
    done = run("memory", tmp_path, 64)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr
