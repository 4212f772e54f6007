"""Rows that weigh next to nothing are no rows, however long training takes."""

import numpy as np
import pytest

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
    StoredTable,
)
from sklearn_metakan.estimators.inputs.rows import rows_that_count

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.sin(2 * X[:, 0])
LIGHT = np.arange(60) % 3 == 0  # far away, and with other targets
FAR, SHIFTED = np.where(LIGHT[:, None], 50 + X, X), np.where(LIGHT, 9 - Y, Y)
LABELS = np.where(LIGHT, "light", np.where(Y > 0, "more", "less"))
LONG = {"n_estimators": 1, "max_iter": 200, "learning_rate": 0.03, "random_state": 0}
TABLES = [KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier]
IMAGES = [KANImageClassifier, MetaKANImageClassifier]


def made(estimator):
    if estimator in IMAGES:
        return estimator((3,), image_shape=(2, 2), max_iter=20, random_state=0)
    return estimator((4,), **LONG)


@pytest.mark.parametrize("estimator", TABLES + IMAGES)
def test_next_to_no_weight_is_no_weight(estimator):
    y = SHIFTED if estimator in (KANRegressor, MetaKANRegressor) else LABELS
    light = made(estimator).fit(FAR, y, np.where(LIGHT, 3e-9, 3.0))
    without = made(estimator).fit(FAR, y, np.where(LIGHT, 0.0, 3.0))
    ask = "predict_proba" if y is LABELS else "predict"
    np.testing.assert_array_equal(getattr(light, ask)(FAR), getattr(without, ask)(FAR))
    np.testing.assert_array_equal(light.loss_curve_, without.loss_curve_)


def test_members_streams_and_stored_tables():
    weight = np.where(LIGHT, 1e-12, 1.0)
    members = KANRegressor(max_iter=5, random_state=0)
    known = members.fit(FAR, SHIFTED, LIGHT < 1).predict(X)
    np.testing.assert_array_equal(members.fit(FAR, SHIFTED, weight).predict(X), known)
    table = StoredTable(FAR, memory=0.01)
    known = members.fit(table, SHIFTED, LIGHT < 1).predict(X)
    np.testing.assert_array_equal(members.fit(table, SHIFTED, weight).predict(X), known)
    found = [
        KANRegressor(**LONG).partial_fit(FAR, SHIFTED, w).partial_fit(FAR, SHIFTED, w).predict(X)
        for w in (weight, LIGHT < 1)
    ]
    np.testing.assert_array_equal(*found)


def test_rows_that_are_many_count_though_each_is_light():
    """The bound is on a row's weight beside the mean, not beside the sum."""
    n = 2_000_000
    assert len(rows_that_count(np.empty((n, 0)), np.zeros(n), np.ones(n))) == n
    for light, left in ((1e-5, 4), (1e-8, 1), (0.0, 1)):
        weight = np.array([2.0, light, light, light])
        for scale in (1.0, 1e-300, 4e307):
            rows = rows_that_count(X[:4], Y[:4], scale * weight)
            assert len(rows) == left
            np.testing.assert_allclose(rows.weight.mean(), 1)
