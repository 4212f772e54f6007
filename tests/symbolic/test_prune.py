"""Pruned estimators are smaller estimators: they predict, pickle, go on and count their numbers."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from sklearn_metakan import (
    KANClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
    load,
)
from sklearn_metakan.symbolic import prune


def table(n=300, seed=0):
    X = np.random.default_rng(seed).uniform(-1, 1, size=(n, 2))
    return X, np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)


def n_edges(estimator):
    sources = [layer.source for layer in estimator.module_.layers]
    return sum(
        getattr(source, "n_edges", source.in_features * source.out_features) for source in sources
    )


@pytest.fixture(scope="module", params=[KANRegressor, MetaKANRegressor])
def fitted(request):
    X, y = table()
    return request.param((8, 8), n_estimators=1, max_iter=100, random_state=0).fit(X, y)


def test_half_of_the_edges_go_and_the_error_stays(fitted):
    (X, y), (X_test, y_test) = table(), table(seed=1)
    small = prune(fitted, n_edges=44, X=X, y=y)
    before, after = (np.mean((each.predict(X_test) - y_test) ** 2) for each in (fitted, small))
    assert n_edges(fitted) == 88 and n_edges(small) <= 44
    assert after <= 1.1 * before
    assert small.n_parameters_ < fitted.n_parameters_


def test_as_many_go_as_the_loss_allows(fitted):
    X, y = table()
    before = fitted.predict(X)
    small = prune(fitted, X=X, y=y, tolerance=0.5, time_limit=3)
    assert 3 <= n_edges(small) < 88
    assert small.score(X, y) > 0.99
    assert np.array_equal(fitted.predict(X), before) and n_edges(fitted) == 88


def test_a_pruned_estimator_is_one(fitted, tmp_path):
    X, y = table()
    small = prune(fitted, n_edges=20)
    assert type(small) is type(fitted) and np.isfinite(small.predict(X)).all()
    assert small.n_parameters_ == sum(p.numel() for p in small.module_.parameters())
    assert len(small.hidden_layer_sizes) == 2 and small.n_estimators == 1
    assert f"on {n_edges(small)} edges" in small.summary()
    loaded = pickle.loads(pickle.dumps(small))
    assert np.array_equal(loaded.predict(X), small.predict(X))
    small.save(tmp_path / "small.safetensors")
    assert np.array_equal(load(tmp_path / "small.safetensors").predict(X), small.predict(X))
    exported = small.to_torch()(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(exported, small.predict(X), rtol=1e-9)
    assert small.feature_importances_.sum() == pytest.approx(1)
    again = prune(loaded, n_edges=10, X=X, y=y)
    assert n_edges(again) <= 10
    for each in (small, loaded):
        count = each.n_parameters_
        each.set_params(warm_start=True, max_iter=5).fit(X, y)
        assert each.n_parameters_ == count and n_edges(each) <= 20
    assert clone(small).hidden_layer_sizes == small.hidden_layer_sizes


def test_effects_below_a_threshold_go(fitted):
    counts = [n_edges(prune(fitted, threshold=each)) for each in (0.0, 1e-4, 1e-2)]
    assert counts[0] >= counts[1] >= counts[2] and counts[2] < 88


def test_the_last_edge_gives_numbers(fitted):
    X, y = table()
    for rows in ({}, {"X": X[:50], "y": y[:50]}):
        assert np.isfinite(prune(fitted, n_edges=1, **rows).predict(X)).all()


@pytest.mark.parametrize("kind", [KANClassifier, MetaKANClassifier])
def test_classes_and_members(kind):
    X, y = load_iris(return_X_y=True, as_frame=True)
    y = y.map(str)
    model = kind((6,), max_iter=40, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = prune(model, n_edges=12, X=X, y=y)
    assert small.module_.n_members == 1 and n_edges(small) <= 12
    assert small.score(X, y) > 0.9
    assert small.predict_proba(X).shape == (150, 3)


def test_several_outputs_in_float32():
    X, y = table()
    X, Y = X.astype(np.float32), np.column_stack([y, -2 * y]).astype(np.float32)
    model = KANRegressor((5,), max_iter=60, random_state=0).fit(X, Y)
    small = prune(model, n_edges=12, X=X, y=Y)
    assert small.predict(X).shape == (300, 2) and small.predict(X).dtype == np.float32
    assert small.score(X, Y) > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs n_edges, a threshold, or rows"),
        ({"n_edges": 0}, "n_edges must be a whole number of at least 1"),
        ({"n_edges": 2.5}, "n_edges must be a whole number"),
        ({"threshold": 1.0}, "threshold must be in"),
        ({"n_edges": 3, "threshold": 0.1}, "Only one of"),
        ({"n_edges": 3, "X": [[0.0, 0.0]]}, "both or not at all"),
        ({"n_edges": 3, "tolerance": -1}, "tolerance must be"),
        ({"n_edges": 3, "time_limit": 0}, "time_limit must be"),
    ],
)
def test_what_cannot_be(fitted, given, message):
    with pytest.raises(ValueError, match=message):
        prune(fitted, **given)


def test_what_is_no_network():
    with pytest.raises(TypeError, match="LinearRegression"):
        prune(LinearRegression(), n_edges=3)
    with pytest.raises(NotFittedError):
        prune(KANRegressor(), n_edges=3)
