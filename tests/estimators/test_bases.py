"""Every basis by its name: fits, contradictions, copies."""

import pickle
import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor
from sklearn_metakan.basis import BasisName
from sklearn_metakan.nn import build_network

NAMES = get_args(BasisName)
each_name = pytest.mark.parametrize("basis", NAMES)
RNG = np.random.default_rng(0)
X, X_TEST = RNG.uniform(-1, 1, (200, 2)), RNG.uniform(-1, 1, (400, 2))
SHORT = {"max_iter": 3, "hidden_layer_sizes": (4,), "random_state": 0}


def smooth(X):
    return np.sin(3 * X[:, 0]) + X[:, 1] ** 2 + X[:, 0] * X[:, 1]


@pytest.mark.slow
@each_name
def test_fits_a_smooth_function(basis):
    model = MetaKANRegressor(
        (8,), basis=basis, max_iter=60, batch_size=50, early_stopping=False, random_state=0
    )
    assert model.fit(X, smooth(X)).score(X_TEST, smooth(X_TEST)) > 0.95
    assert np.isfinite(model.predict(5 * X_TEST)).all()


@pytest.mark.slow
@each_name
@pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
def test_fits_with_lbfgs(basis):
    model = KANRegressor((4,), basis=basis, solver="lbfgs", max_iter=40, random_state=0)
    assert model.fit(X, smooth(X)).score(X_TEST, smooth(X_TEST)) > 0.95


@each_name
@pytest.mark.parametrize("estimator", [KANClassifier, MetaKANRegressor])
def test_copies_predict_the_same_and_go_on(basis, estimator):
    y = smooth(X) if "Regressor" in estimator.__name__ else smooth(X) > 0.3
    model = estimator(basis=basis, degree=4, grid_size=3, **SHORT).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    again = clone(model).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    before = copy.module_.layers[0].source.tensors()[0][0].clone()
    copy.partial_fit(X, y)
    assert not torch.equal(copy.module_.layers[0].source.tensors()[0][0], before)


@pytest.mark.parametrize("basis", NAMES[1:])
def test_quantile_knots_are_for_splines(basis):
    with pytest.raises(ValueError, match=rf"knots='quantile' contradicts basis='{basis}'"):
        MetaKANRegressor(basis=basis, knots="quantile", **SHORT).fit(X, smooth(X))


def test_legendre_has_no_tails():
    model = KANRegressor(basis="legendre", extrapolation="base", **SHORT)
    with pytest.raises(ValueError, match='extrapolation="base" contradicts Legendre'):
        model.fit(X, smooth(X))


@pytest.mark.parametrize("basis", NAMES)
def test_error_watches_the_inputs_alone(basis):
    model = KANRegressor(basis=basis, extrapolation="error", **SHORT).fit(X, smooth(X))
    model.predict(X)
    with pytest.raises(ValueError, match='extrapolation="error"'):
        model.predict(2 * X)


@pytest.mark.parametrize("scale_inputs", [None, "standard"])
@pytest.mark.parametrize("basis", NAMES)
def test_columns_of_any_range(basis, scale_inputs):
    """Grids follow the data where inputs are not scaled."""
    units = np.array([1000.0, 0.01])
    model = KANRegressor(basis=basis, scale_inputs=scale_inputs, **SHORT)
    if scale_inputs is None:
        model.set_params(learning_rate=1e-5)  # a step moves silu of the first column by its size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(units * X + 5, smooth(X))
    ends = model.module_.layers[0].basis.domain.numpy()
    scaled = model.input_scaler_.transform(units * X + 5)
    np.testing.assert_allclose(ends[:, 0], scaled.min(0), rtol=1e-6, atol=1e-6)
    assert np.isfinite(model.predict(units * X + 5)).all()


def test_warm_start_cannot_change_the_basis():
    model = KANRegressor(basis="rbf", warm_start=True, **SHORT).fit(X, smooth(X))
    with pytest.raises(ValueError, match="cannot change basis from 'rbf' to 'gram'"):
        model.set_params(basis="gram").fit(X, smooth(X))


def test_unknown_basis_raises():
    with pytest.raises(ValueError, match=r"'basis' parameter of KANRegressor.*'fourier'"):
        KANRegressor(basis="fourier").fit(X, smooth(X))


@pytest.mark.parametrize(
    ("basis", "options", "count"),
    [
        ("rbf", {"grid_size": 7}, 9),
        ("chebyshev", {"degree": 6}, 7),
        ("legendre", {}, 5),
        ("gram", {}, 5),
    ],
)
def test_numbers_an_edge_of_the_paper(basis, options, count):
    """As in its convolutional nets: 9 for FastKAN, 7 KACN, 5 KALN and KAGN."""
    network = build_network([6, 5, 2], basis=basis, **options)
    assert sum(p.numel() for p in network.parameters()) == count * (6 * 5 + 5 * 2)
    meta = build_network([6, 5, 2], basis=basis, n_meta_learners="auto", **options)
    learner = 2 * 32 + 33 * count  # no dead weights
    assert sum(p.numel() for p in meta.parameters()) == 6 * 5 + 5 * 2 + learner
