"""The page of messages quotes messages that come, and each that is quoted comes."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_friedman1

from sklearn_metakan import KANClassifier, KANRegressor, load
from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "troubleshooting.md"
QUOTED = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
X, y = make_friedman1(300, random_state=0)
FRAME = pd.DataFrame(X, columns=list("abcdefghij"))


def model(**params):
    settings = {"n_estimators": 1, "max_iter": 2, "random_state": 0}
    return KANRegressor((4,), **(settings | params))


def solver(residual, **params):
    settings = {"conditions": [Dirichlet(0.0)], "hidden_layer_sizes": (3,), "max_iter": 1}
    return KANPDESolver(residual, domain=Interval(0, 1), **(settings | params)).fit()


def bent(x, u):
    return u.d(0, 0) + 1


def with_infinity():
    return np.where(np.arange(X.size).reshape(X.shape) == 5, np.inf, X)


MISTAKES = [
    lambda _: model().fit(with_infinity(), y),
    lambda _: model().fit(X, np.where(y > 15, np.nan, y)),
    lambda _: model().fit(pd.DataFrame({"t": ["1", "2", "3"]}), [1, 2, 3]),
    lambda _: model().fit(csr_array(X), y),
    lambda _: model().fit(FRAME, y).predict(FRAME[list("bacdefghij")]),
    lambda _: model().fit(X, y).predict(X[:, :3]),
    lambda _: model().fit(X, y, X_val=X + 100, y_val=y),
    lambda _: model(extrapolation="error", early_stopping=False).fit(X, y).predict(X + 5),
    lambda _: KANClassifier().fit(X, y),
    lambda _: KANClassifier().fit(X, np.zeros(300)),
    lambda _: model().fit(X, y[:, None]),
    lambda _: KANRegressor(hidden_layers=(3,)),
    lambda _: model(basis="spline").fit(X, y),
    lambda _: model(net_params={"batch_size": 3}).fit(X, y),
    lambda _: model(warm_start=True).fit(X, y).set_params(grid_size=3).fit(X, y),
    lambda _: model(device="cuda:99").fit(X, y),
    lambda _: model(learning_rate=1e9, batch_size=256).fit(X, y),
    lambda _: model(learning_rate=1e9).fit(X, y),
    lambda _: model(solver="lbfgs").fit(X, y),
    lambda _: model().fit(X, y).predict(X, return_std=True),
    lambda _: model(early_stopping=False).fit(X, y).predict_interval(X),
    lambda _: model().fit(X, y).predict_interval(X, alpha=0.01),
    lambda _: model().predict(X),
    lambda _: solver(bent),
    lambda _: solver(bent, conditions=None),
    lambda _: solver(lambda x, u: u.d(0, 0)[:, None] + 1),
    lambda _: solver(lambda x, u: np.zeros(len(x))),
    lambda _: solver(bent, degree=2),
    lambda folder: load(folder / "no.safetensors"),
]


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """What each mistake says: its error, or all its warnings."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "no.safetensors").write_bytes(b"no" * 50)
    said = []
    for mistake in MISTAKES:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                mistake(folder)
                said.append([str(each.message) for each in warned])
            except (ValueError, TypeError) as error:
                said.append([str(error)])
    return said


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_is_quoted_is_said(quoted, messages):
    assert any(quoted in text for texts in messages for text in texts)


def test_every_mistake_is_answered(messages):
    assert len(QUOTED) == len(MISTAKES)
    for texts in messages:
        assert any(quoted in text for text in texts for quoted in QUOTED), texts
