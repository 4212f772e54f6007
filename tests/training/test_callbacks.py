"""Warnings of a training run point at the line that asked for it; tol may be any number."""

import linecache
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_metakan import KANRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X[:, 0]
SMALL = {"hidden_layer_sizes": (), "max_iter": 2, "random_state": 0, "early_stopping": False}
CAUSES = {
    "max_iter": {"learning_rate_schedule": "constant"},
    "diverged": {"learning_rate": 1e6, "learning_rate_schedule": "constant"},
    "not finite in": {"learning_rate": 1e250, "learning_rate_schedule": "constant"},
    "not finite after": {"learning_rate": 1e250, "max_iter": 1},
}


@pytest.mark.parametrize(("message", "setting"), CAUSES.items(), ids=CAUSES)
def test_warning_points_at_the_line_of_the_user(message, setting):
    model = KANRegressor(**SMALL | setting)
    pipeline = make_pipeline(StandardScaler(), model)
    search = GridSearchCV(pipeline, {"kanregressor__degree": [2, 3]}, cv=2)
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        model.fit(X, Y)
        pipeline.fit(X, Y)
        search.fit(X, Y)
    assert {warning.filename for warning in caught} == {__file__}
    lines = [linecache.getline(__file__, warning.lineno).strip() for warning in caught]
    assert lines == ["model.fit(X, Y)", "pipeline.fit(X, Y)"] + 5 * ["search.fit(X, Y)"]


@pytest.mark.parametrize("tol", [0, 1e-3, np.float32(1e-3), np.float16(1e-3), np.int64(0)])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_tol_of_any_kind_is_compared_without_a_warning(tol, early_stopping):
    settings = SMALL | {"tol": tol, "early_stopping": early_stopping, "n_iter_no_change": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KANRegressor(**settings).fit(X, Y).partial_fit(X, Y)
