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


def ends_by_definition(errors, weight, alpha):
    """Of errors (n,): the alpha / 2 quantiles of either side, with one row more beyond."""
    found = []
    for sign in (-1, 1):
        order = np.argsort(sign * errors)
        total = np.cumsum(weight[order]) / weight.mean()
        reached = np.argmax(total >= (1 - alpha / 2) * (len(errors) + 1) - 1e-9)
        found.append(errors[order][reached])
    return found


@pytest.mark.parametrize("n", [60, 20_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_ends_are_those_of_the_definition(n, weighted):
    rng = np.random.default_rng(1)
    y, by_member = rng.normal(size=(n, 2)), rng.normal(size=(n, 3, 2))
    held_out = rng.random((n, 3)) < 0.5
    held_out[~held_out.any(1)] = True
    weight = rng.uniform(0.5, 2, size=n) if weighted else np.ones(n)
    predicted = torch.from_numpy(by_member)[..., None]
    given = map(torch.from_numpy, (held_out, weight) if weighted else (held_out,))
    found = held_out_errors(torch.from_numpy(y), predicted.__getitem__, *given)
    assert len(found.errors) == min(n, 512)
    low, high = found.ends(0.2)
    for output in range(2):
        errors = [y[i, output] - by_member[i, own, output].mean() for i, own in enumerate(held_out)]
        expected = ends_by_definition(np.array(errors), weight, 0.2)
        tolerance = 1e-12 if n < 512 else 0.03  # 512 numbers stand for 20,000
        ends = low[output].item(), high[output].item()
        np.testing.assert_allclose(ends, expected, rtol=0, atol=tolerance)


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
