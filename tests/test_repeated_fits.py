"""Fitting again and again in one process takes no more memory than a few fits."""

import subprocess
import sys

import pytest

FITS = '''
import resource, warnings
from pathlib import Path

import numpy as np

from sklearn_metakan import KANClassifier, MetaKANRegressor

def resident():
    """KiB, or whatever the platform counts in; the most so far where there is no /proc."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 40))  # 1 MB: a table kept by each fit would show
y = X[:, 0] + np.sin(X[:, 1])
for fit in range(1, 51):
    estimator, target = [(MetaKANRegressor, y), (KANClassifier, y > 0)][fit % 2]
    settings = {"hidden_layer_sizes": (2,), "max_iter": 2, "batch_size": 1000}
    model = estimator(early_stopping=fit % 4 < 2, random_state=fit, **settings)
    model.fit(X, target).predict(X)
    if fit in (10, 50):
        print(resident())
'''


@pytest.mark.slow
def test_fifty_fits_take_the_memory_of_ten():
    run = subprocess.run([sys.executable, "-c", FITS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    after_10, after_50 = map(float, run.stdout.split())
    assert after_50 < 1.05 * after_10
