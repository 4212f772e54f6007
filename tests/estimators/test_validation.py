"""Which rows are held out, and what decides on them."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, TimeSeriesSplit

from sklearn_metakan import (
    KANClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)
from sklearn_metakan.estimators.inputs.rows import set_aside

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(120, 3))
Y = np.sin(3 * X[:, 0]) + X[:, 1] + 0.1 * RNG.normal(size=120)
LABELS = np.array(["a", "b", "c"])[np.digitize(Y, [-0.4, 0.4])]
GROUPS = np.repeat(np.arange(12), 10)
FEW = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0, "n_estimators": 3}
TABLES = [KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier]
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
each_table = pytest.mark.parametrize("estimator", TABLES)


def targets(estimator):
    return Y if estimator in (KANRegressor, MetaKANRegressor) else LABELS


def held_out_by(estimator, monkeypatch, X=X, weight=None, groups=None):
    """Rows that each member trains on, and holds out, of the first column of X."""
    seen = {}

    def watched(*args):
        rows, validation = set_aside(*args)
        for name, side in (("train", rows), ("held out", validation)):
            counts = side.counts
            if counts is None:
                counts = np.ones((len(side), 1))
            seen[name] = [set(side.column(0)[own > 0]) for own in counts.T]
        return rows, validation

    monkeypatch.setattr("sklearn_metakan.estimators.estimator.set_aside", watched)
    y = targets(type(estimator))
    estimator.fit(X, y, weight, groups=groups)
    return seen


@each_table
def test_groups_are_held_out_whole(estimator, monkeypatch):
    seen = held_out_by(estimator(**FEW), monkeypatch, groups=GROUPS)
    by_group = [set(X[group == GROUPS, 0]) for group in range(12)]
    for train, held_out in zip(seen["train"], seen["held out"], strict=True):
        assert train | held_out == set(X[:, 0])
        assert sum(group <= held_out for group in by_group) == 2  # a tenth of 12, rounded up
        assert all(group <= held_out or group <= train for group in by_group)
    assert len({min(held_out) for held_out in seen["held out"]}) > 1  # members differ


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize(
    "split", [KFold(4), TimeSeriesSplit(4), GroupKFold(4), LeaveOneGroupOut(), 4, "pairs", "masks"]
)
def test_members_take_the_last_splits(split, n_members, monkeypatch):
    groups = GROUPS if split in (4,) or "Group" in str(split) else None
    pairs = [*KFold(4).split(X)]
    given = pairs if split == "pairs" else split
    if split == "masks":
        given = [(~np.isin(np.arange(120), out), np.isin(np.arange(120), out)) for _, out in pairs]
    groups = None if split == 4 else groups
    model = KANRegressor(**FEW | {"n_estimators": n_members}, validation_split=given)
    seen = held_out_by(model, monkeypatch, groups=groups)
    expected = pairs if isinstance(split, int | str) else [*split.split(X, Y, groups)]
    for member, (train, held_out) in enumerate(expected[-n_members:]):
        assert seen["train"][member] == set(X[train, 0])
        assert seen["held out"][member] == set(X[held_out, 0])


def test_row_numbers_are_those_of_the_whole_table(monkeypatch):
    weight = np.ones(120)
    weight[::3] = 0
    pair = np.arange(60), np.arange(60, 120)
    model = KANRegressor(**FEW, validation_split=[pair])  # one for all members
    seen = held_out_by(model, monkeypatch, weight=weight)
    counts = weight > 0
    assert seen["train"] == [set(X[:60][counts[:60], 0])] * 3
    assert seen["held out"] == [set(X[60:][counts[60:], 0])] * 3


@pytest.mark.parametrize(
    ("setting", "more", "match"),
    [
        ({}, {"groups": GROUPS[:50]}, r"groups.*120 rows.*\(50,\)"),
        ({"early_stopping": False}, {"groups": GROUPS}, "groups is for early stopping"),
        ({"early_stopping": False, "validation_split": 3}, {}, "validation_split is for early"),
        ({"validation_split": 3}, {"X_val": X, "y_val": Y}, "X_val came as well"),
        ({"validation_split": []}, {}, "no splits"),
        ({"validation_split": [([], [0])]}, {}, "trains on no row"),
        ({"validation_split": [([0], [])]}, {}, "holds out no row"),
        ({"validation_split": "tenth"}, {}, "validation_split"),
        ({"scoring": "accurracy"}, {}, "scoring"),
        ({"scoring": 3}, {}, "scoring"),
    ],
)
def test_what_contradicts_is_refused(setting, more, match):
    with pytest.raises(ValueError, match=match):
        KANRegressor(**FEW | {"early_stopping": True} | setting).fit(X, Y, **more)


@each_table
@pytest.mark.parametrize("n_members", [1, 3])
def test_a_metric_of_ones_own_decides(estimator, n_members):
    calls = []

    def scorer(model, rows, y):
        """Highest in the second epoch."""
        predictions = model.predict(rows)
        assert predictions.shape == y.shape
        assert set(y) <= set(targets(estimator)) or np.isin(np.round(y, 9), np.round(Y, 9)).all()
        calls.append(None)
        epoch = (len(calls) - 1) // n_members
        return [0.2, 0.9, 0.1, 0.3][epoch]

    options = FEW | {"n_estimators": n_members, "max_iter": 4, "early_stopping": True}
    model = estimator(**options, scoring=scorer, learning_rate=0.1).fit(X, targets(estimator))
    np.testing.assert_allclose(model.validation_scores_, [0.2, 0.9, 0.1, 0.3])
    assert model.best_validation_score_ == pytest.approx(0.9)
    two = {"max_iter": 2, "learning_rate_schedule": "constant"}
    calls.clear()
    kept = estimator(**options | two | {"max_iter": 4}, scoring=scorer, learning_rate=0.1)
    kept.fit(X, targets(estimator))
    calls.clear()
    stopped = estimator(**options | two, scoring=scorer, learning_rate=0.1)
    stopped.fit(X, targets(estimator))
    for left, right in zip(kept.module_.parameters(), stopped.module_.parameters(), strict=True):
        assert left.equal(right)


def test_scores_are_in_the_units_of_the_target_and_weighted():
    weight = RNG.uniform(0.5, 2, size=120)
    val = slice(0, 50)
    model = KANRegressor(
        **FEW | {"max_iter": 1}, scoring="neg_mean_absolute_error", early_stopping=True
    )
    y = 1000 + 50 * Y
    given = {"X_val": X[val], "y_val": y[val], "sample_weight_val": weight[val]}
    model.set_params(n_estimators=1).fit(X, y, **given)
    error = mean_absolute_error(y[val], model.predict(X[val]), sample_weight=weight[val])
    assert model.best_validation_score_ == pytest.approx(-error, rel=1e-6)


@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss", "average_precision", "accuracy"])
@pytest.mark.parametrize("estimator", [KANClassifier, MetaKANClassifier])
def test_metrics_of_classifiers(estimator, scoring):
    model = estimator(**FEW, scoring=scoring, early_stopping=True).fit(X, Y > 0)
    assert len(model.validation_scores_) == 3


def test_a_score_that_is_no_number_says_so():
    rare = np.zeros(120, dtype=int)
    rare[:2] = 1
    pair = np.arange(0, 60), np.arange(60, 120)
    model = KANClassifier(**FEW, scoring="roc_auc", validation_split=[pair])
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="scoring='roc_auc' gives nan for 60 held-out rows"),
    ):
        model.fit(X, rare)


def test_images_take_splits_and_metrics():
    images = RNG.uniform(size=(60, 6, 6))
    labels = np.arange(60) % 3
    options = {"hidden_channels": (2,), "max_iter": 2, "random_state": 0}
    model = MetaKANImageClassifier(**options, validation_split=3, scoring="f1_macro")
    assert len(model.fit(images, labels).validation_scores_) == 2


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("estimator", [KANClassifier, MetaKANClassifier])
def test_classifiers_are_calibrated_where_rows_are_held_out(estimator, n_members):
    options = FEW | {"n_estimators": n_members}
    model = estimator(**options, early_stopping=True).fit(X, LABELS)
    sharpness = model.target_.sharpness
    assert sharpness.shape == (n_members,)
    assert (sharpness != 1).all()
    probabilities = model.predict_proba(X)
    with torch.no_grad():
        np.testing.assert_allclose(model.to_torch()(torch.from_numpy(X)), probabilities)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), probabilities)
    found = [row["valid_losses"] for row in model.net_.history]
    assert len(found[0]) == n_members
    model.partial_fit(X, LABELS)  # other weights: what suited the earlier ones is forgotten
    assert "sharpness" not in dict(model.target_.named_buffers())
