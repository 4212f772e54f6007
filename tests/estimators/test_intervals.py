"""Prediction intervals and several quantiles."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.estimators.targets.intervals import held_out_errors

RNG = np.random.default_rng(0)
FEW = {"hidden_layer_sizes": (4,), "max_iter": 4, "random_state": 0, "early_stopping": True}
REGRESSORS = [KANRegressor, MetaKANRegressor]
each_regressor = pytest.mark.parametrize("regressor", REGRESSORS)
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


def noisy(n, rng=RNG):
    X = rng.uniform(-1, 1, size=(n, 3))
    spread = np.where(X[:, 2] > 0, 0.5, 0.1)
    return X, np.sin(3 * X[:, 0]) + spread * rng.normal(size=n)


def jackknife_plus(y, by_member, held_out, weight, new, alpha):
    """The definition, row by row."""
    n = len(y)
    low, high = [], []
    for predictions in new:
        sums = []
        for i in range(n):
            own = held_out[i]
            sums.append(predictions[own].mean() + y[i] - by_member[i, own].mean())
        order = np.argsort(sums)
        total = np.cumsum(weight[order]) / weight.mean()
        high.append(np.array(sums)[order][np.argmax(total >= (1 - alpha / 2) * (n + 1) - 1e-9)])
        total = np.cumsum(weight[order[::-1]]) / weight.mean()
        reached = np.argmax(total >= (1 - alpha / 2) * (n + 1) - 1e-9)
        low.append(np.array(sums)[order[::-1]][reached])
    return np.stack([low, high], axis=1)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_bounds_are_those_of_the_definition(n_members, weighted):
    n, rng = 60, np.random.default_rng(1)
    y, by_member = rng.normal(size=n), rng.normal(size=(n, n_members))
    held_out = rng.random((n, n_members)) < 0.5
    held_out[~held_out.any(1)] = True
    weight = rng.uniform(0.9, 1.1, size=n) if weighted else np.ones(n)
    new = rng.normal(size=(7, n_members))
    twice = torch.from_numpy(by_member)[:, :, None, None].expand(-1, -1, 1, 2)
    errors = held_out_errors(y[:, None], twice, torch.from_numpy(held_out), weight)
    found = errors.bounds(torch.from_numpy(new)[:, :, None, None].expand(-1, -1, 1, 2), 0.2)
    expected = jackknife_plus(y, by_member, held_out, weight, new, 0.2)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-12)


def test_many_errors_are_represented_by_some():
    n, rng = 6000, np.random.default_rng(5)
    y, by_member = rng.normal(size=(n, 2)), rng.normal(size=(n, 3, 2))
    held_out, weight = rng.random((n, 3)) < 0.3, rng.uniform(0.1, 2, size=n)
    some = held_out.any(1)
    ends = torch.from_numpy(by_member)[..., None].expand(-1, -1, -1, 2)
    parts = y[some], ends[some], torch.from_numpy(held_out[some]), weight[some]
    few = held_out_errors(*parts)
    assert 512 <= len(few) <= 520
    new = torch.from_numpy(rng.normal(size=(5, 3, 2)))[..., None].expand(-1, -1, -1, 2)
    found = few.bounds(new, 0.2)
    for output in range(2):
        one = (by_member[some][..., output], held_out[some], weight[some])
        all_of_them = jackknife_plus(y[some, output], *one, new[:, :, output, 0].numpy(), 0.2)
        np.testing.assert_allclose(found[:, output], all_of_them, atol=0.05)


@pytest.mark.parametrize("setting", [{"n_estimators": 1}, {}, {"quantile": (0.1, 0.5, 0.9)}])
@each_regressor
def test_intervals_hold_the_share_that_was_asked_for(regressor, setting):
    loss = {"loss": "quantile"} if "quantile" in setting else {}
    X, y = noisy(1200, np.random.default_rng(2))
    new, target = noisy(4000, np.random.default_rng(3))
    model = regressor(**FEW | {"max_iter": 30}, **setting, **loss).fit(X, y)
    for alpha in (0.1, 0.2):
        low, high = model.predict_interval(new, alpha)
        inside = ((target >= low) & (target <= high)).mean()
        assert -0.04 < inside - (1 - alpha) < 0.08  # members differ, which widens
    if loss:  # they follow the noise
        noise = new[:, 2] > 0
        assert (high - low)[noise].mean() > 2 * (high - low)[~noise].mean()


@each_regressor
def test_intervals_of_several_outputs_in_a_pickle_and_by_given_rows(regressor):
    X, y = noisy(300)
    y = np.stack([y, 1e6 + 10 * y], axis=1).astype(np.float32)
    X = X.astype(np.float32)
    model = regressor(**FEW).fit(X, y, X_val=X[:100], y_val=y[:100])
    low, high = model.predict_interval(X)
    assert low.shape == high.shape == y.shape
    assert (low < high).all()
    again = pickle.loads(pickle.dumps(model)).predict_interval(X)
    assert low.tobytes() == again[0].tobytes()
    assert high.tobytes() == again[1].tobytes()


def test_a_constant_target_has_intervals_without_width():
    X, _ = noisy(100)
    low, high = KANRegressor(**FEW).fit(X, np.full(100, 7.0)).predict_interval(X[:3], 0.5)
    assert (low == 7).all()
    assert (high == 7).all()


def test_intervals_that_cannot_be_had_say_why():
    X, y = noisy(100)
    model = KANRegressor(**FEW | {"n_estimators": 1}).fit(X, y)
    with pytest.raises(ValueError, match="at least 19 held-out rows, but there were 10"):
        model.predict_interval(X)
    with pytest.raises(ValueError, match="alpha"):
        model.predict_interval(X, 0)
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="early_stopping=True"):
        model.predict_interval(X)
    model = KANRegressor(**FEW | {"early_stopping": False}).fit(X, y)
    with pytest.raises(ValueError, match="early_stopping=True"):
        model.predict_interval(X)


@each_regressor
def test_quantiles_of_one_fit_hold_their_shares_and_never_cross(regressor):
    X, y = noisy(1500, np.random.default_rng(4))
    levels = [0.1, 0.25, 0.5, 0.9]
    model = regressor(**FEW | {"max_iter": 60}, loss="quantile", quantile=levels).fit(X, y)
    found = model.predict(10 * X)
    assert found.shape == (1500, 4)
    assert (np.diff(found, axis=1) >= 0).all()
    shares = (y[:, None] < model.predict(X)).mean(0)
    np.testing.assert_allclose(shares, levels, atol=0.06)
    alone = regressor(**FEW | {"max_iter": 60}, loss="quantile", quantile=0.5).fit(X, y)
    assert model.score(X, y) == pytest.approx(alone.score(X, y), abs=0.1)
    with torch.no_grad():
        np.testing.assert_allclose(model.to_torch()(torch.from_numpy(X)), model.predict(X))


def test_quantiles_of_several_outputs():
    X, y = noisy(120)
    y = np.stack([y, -100 * y], axis=1)
    model = MetaKANRegressor(**FEW, loss="quantile", quantile=(0.2, 0.8)).fit(X, y)
    found, spread = model.predict(X, return_std=True)
    assert found.shape == spread.shape == (120, 2, 2)
    assert np.isfinite(model.score(X, y))


@pytest.mark.parametrize("quantile", [[], [0.5, 0.5], [0.9, 0.1], [0.0, 0.5], [[0.1, 0.9]]])
def test_quantiles_must_rise(quantile):
    X, y = noisy(30)
    with pytest.raises(ValueError, match="quantile"):
        KANRegressor(loss="quantile", quantile=quantile).fit(X, y)


def test_the_number_of_quantiles_stays():
    X, y = noisy(60)
    model = KANRegressor(**FEW, warm_start=True, loss="quantile", quantile=[0.1, 0.9]).fit(X, y)
    model.set_params(quantile=[0.2, 0.8]).fit(X, y)
    with pytest.raises(ValueError, match="how many quantiles"):
        model.set_params(quantile=0.5).fit(X, y)
