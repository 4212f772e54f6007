"""Real processes, killed by signal 9 at random moments, end in the weights of unbroken ones."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import long_fit
import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "long_fit.py"
SECONDS = {"equations": 4.0}  # up to a kill; a fit of equations reads its losses more seldom


def started(name, folder, result):
    arguments = [sys.executable, SCRIPT, name, folder, result]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def weights(result):
    with np.load(result) as arrays:
        return [arrays[key] for key in arrays.files]


def kill(name, folder, result, rng):
    """Whether the process was killed before it was done."""
    process = started(name, folder, result)
    assert process.stdout.readline() == "starts\n"
    time.sleep(rng.uniform(0, SECONDS.get(name, 0.6)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return not result.exists()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("meta", 2),
        pytest.param("meta", 20, marks=pytest.mark.slow),
        pytest.param("classifier", 10, marks=pytest.mark.slow),
        pytest.param("lbfgs", 10, marks=pytest.mark.slow),
        pytest.param("images", 10, marks=pytest.mark.slow),
        pytest.param("equations", 10, marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again(name, kills, tmp_path, capsys, tried):
    rng, died = random.Random(kills), 0
    long_fit.main(name, tmp_path / "unbroken", tmp_path / "unbroken.npz")
    folder, result = tmp_path / "killed", tmp_path / "killed.npz"
    for _ in range(kills):
        if kill(name, folder, result, rng):
            died += 1
        else:  # it was done before: another one
            result.unlink(missing_ok=True)
            for path in folder.iterdir():
                path.unlink()
    process = started(name, folder, result)
    assert "done" in process.communicate(timeout=300)[0]
    with capsys.disabled():
        print(f"\nkilled: {died} of {kills} ({name})")
    tried("kills by signal 9", died)
    assert died > 0
    pairs = zip(weights(result), weights(tmp_path / "unbroken.npz"), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
