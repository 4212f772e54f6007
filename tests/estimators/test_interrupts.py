"""Ctrl-C at any moment: an estimator is as it was before the call, or fitted; never half."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, random, signal, sys, threading, time, warnings
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn_metakan import KANRegressor, MetaKANClassifier

signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.simplefilter("ignore")
random.seed(int(sys.argv[1]))
rng = np.random.default_rng(0)
X = rng.normal(size=(240, 4))  # with rows held out
targets = [X[:, 0], np.where(X[:, 0] > 0, "high", "low")]
ended = {"through": 0, "fitted": 0}


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interrupt(call, delay):
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        call()
        timer.join()
        time.sleep(0.05)
    except KeyboardInterrupt:
        return True
    return False


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


def search(model, y):
    # Interrupted, it raises or ends with a fitted model; what it was given stays unfitted.
    grid = GridSearchCV(clone(model).set_params(warm_start=False), {"grid_size": [3, 5]}, cv=2)
    usual = seconds(lambda: clone(grid).fit(X, y))
    through = interrupt(lambda: grid.fit(X, y), 1.1 * usual * random.random())
    assert not hasattr(grid.estimator, "net_")
    if not through:
        assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
        assert np.isfinite(outputs(grid)).all()
    grid.fit(X, y)  # another one is as ever
    return through


for number in range(int(sys.argv[2])):
    kind, y = random.choice([*zip([KANRegressor, MetaKANClassifier], targets)])
    settings = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 6, "batch_size": 64}
    model = kind(**settings, random_state=0, warm_start=random.random() < 0.5).fit(X[:120], y[:120])
    expected, before = outputs(model), dict(vars(model))
    name = random.choice(["fit", "fit", "partial_fit", "predict", "search"])
    if name == "search":
        ended["through" if search(model, y) else "fitted"] += 1
        continue
    call = (lambda: model.predict(X)) if name == "predict" else lambda: getattr(model, name)(X, y)
    other = kind(**settings, random_state=0).fit(X[:120], y[:120])
    usual = seconds(lambda: other.predict(X) if name == "predict" else getattr(other, name)(X, y))
    through = interrupt(call, 1.1 * usual * random.random())
    if vars(model) == before:
        np.testing.assert_array_equal(outputs(model), expected)
        assert through or name == "predict", "an interrupt that vanished"
    else:
        assert name != "predict", "predict changed the estimator"
        assert model.n_iter_ == len(model.loss_curve_)
        assert not model.net_.callbacks
    assert np.isfinite(outputs(model)).all()
    assert not model.module_.training
    model.partial_fit(X, y)  # it goes on
    ended["through" if through else "fitted"] += 1
print(ended)
"""


@pytest.mark.parametrize(
    ("seed", "rounds"), [(0, 16), *(pytest.param(s, 67, marks=pytest.mark.slow) for s in (1, 2, 3))]
)
def test_ctrl_c_at_random_moments(seed, rounds, tried):
    command = [sys.executable, "-c", PROGRAM, str(seed), str(rounds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert "through" in run.stdout
    tried("interrupts", rounds)
