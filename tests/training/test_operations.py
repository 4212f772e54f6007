"""How many operations PyTorch dispatches in a training step; the same on every machine."""

import pytest

from benchmarks.speed.steps import LINEAR, SINE, operations
from sklearn_metakan import KANRegressor, MetaKANRegressor


@pytest.mark.parametrize(
    ("estimator", "settings", "most"),
    [
        (KANRegressor, {"n_estimators": 1}, 110),
        (MetaKANRegressor, {"n_estimators": 1} | LINEAR, 150),
        (MetaKANRegressor, {"n_estimators": 1} | SINE, 190),
        (KANRegressor, {"n_estimators": 8}, 130),
        (MetaKANRegressor, {"n_estimators": 8} | LINEAR, 170),
    ],
)
def test_operations_of_a_step(estimator, settings, most):
    assert operations(estimator, **settings) <= most
