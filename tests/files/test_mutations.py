"""Hundreds of mutated files, or 10,000: none crashes, runs or takes memory, all others say why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def came_of(count, seed):
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    run = subprocess.run(
        [sys.executable, HERE / "mutations.py", str(count), str(seed)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("count", "seed"), [(500, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)]
)
def test_mutated_files_are_refused_or_read_as_before(count, seed, capsys, tried):
    found = came_of(count, seed)
    with capsys.disabled():
        print(f"\nmutated files: {found}")
    tried("mutated files", found["count"])
    assert found["count"] == count
    assert found["bytes: refused"] + found.get("bytes: as before", 0) == count / 2
    assert found["bytes: refused"] > 0.9 * count / 2
    assert found["forged: refused"] > 0.3 * count / 2
    assert found["forged: read"] > 0  # parameters that do not enter into predictions
    assert found["MiB"] < 64  # of a process; files have about 20 KiB
