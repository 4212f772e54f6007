"""Small estimators of every class, fitted, with inputs; run as a script, it writes the fixtures.

Fixtures are files of a format, with predictions: later versions have to read them. They are
written once for each format, into a folder of its name.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import sklearn_metakan
from sklearn_metakan import pde

FIXTURES = Path(__file__).parent / "fixtures"

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
Y = X[:, 0] + np.sin(X[:, 1])
IMAGES = (X[:24, :1] * np.linspace(-1, 1, 16)).reshape(-1, 4, 4)
POINTS = np.linspace(0, 1, 9)[:, None]
SHORT = {"max_iter": 3, "random_state": 0}
TABLE = {**SHORT, "hidden_layer_sizes": (3,), "n_estimators": 2, "early_stopping": True}
SOLVER = {**SHORT, "hidden_layer_sizes": (3,), "n_interior": 20, "n_boundary": 2}


def residual(x, u):
    return u.d(0, 0) + 1


def made(name):
    """A fitted estimator, points, and what load needs beside the file."""
    kind = getattr(sklearn_metakan, name, None) or getattr(pde, name)
    if "PDE" in name:
        domain, conditions = pde.Interval(0, 1), [pde.Dirichlet(0.0)]
        solver = kind(residual, domain=domain, conditions=conditions, **SOLVER)
        return solver.fit(), POINTS, {"residual": residual}
    if "Image" in name:
        model = kind((3,), **SHORT, norm="batch", dropout=0.2, augment="flip")
        return model.fit(IMAGES, Y[:24] > 0), IMAGES, {}
    labels = np.where(Y > 0, "high", "low") if "Classifier" in name else Y
    return kind(**TABLE, knots="quantile", dropout=0.2).fit(X, labels), X, {}


NAMES = [
    "KANRegressor",
    "MetaKANRegressor",
    "KANClassifier",
    "MetaKANClassifier",
    "KANImageClassifier",
    "MetaKANImageClassifier",
    "KANPDESolver",
    "MetaKANPDESolver",
]
each_class = pytest.mark.parametrize("name", NAMES)


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


if __name__ == "__main__":
    folder = FIXTURES / "format-1"
    folder.mkdir(parents=True)
    expected = {}
    for name in NAMES:
        model, points, _ = made(name)
        model.save(folder / f"{name}.safetensors")
        expected[name] = outputs(model, points).tolist()
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
