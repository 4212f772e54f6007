"""loss= as a function: the named losses written out by hand, and what a user may get wrong."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor, load

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(240, 3))
Y = 1e4 + 300 * (np.sin(2 * X[:, 0]) + X[:, 1]) + 50 * RNG.normal(size=240)
SHORT = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0}
regressors = pytest.mark.parametrize("regressor", [KANRegressor, MetaKANRegressor])


def squares(prediction, target):
    return (prediction - target).square()


def pinball(prediction, target):
    error = target - prediction
    return torch.maximum(0.9 * error, -0.1 * error)


@regressors
@pytest.mark.parametrize("solver", ["adamw", "lbfgs"])
@pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
def test_squares_by_hand_are_those_by_name(regressor, solver):
    settings = SHORT | {"solver": solver, "n_estimators": 1 if solver == "lbfgs" else 3}
    settings |= {"early_stopping": solver == "adamw"}
    weight = RNG.integers(0, 3, size=240)
    expected = regressor(**settings).fit(X, Y, sample_weight=weight)
    found = regressor(loss=squares, **settings).fit(X, Y, sample_weight=weight)
    near = {"rtol": 1e-6, "atol": 1e-6 * np.ptp(Y)}
    np.testing.assert_allclose(found.predict(X), expected.predict(X), **near)
    if solver == "adamw":
        np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_function_sees_the_units_of_y(dtype):
    seen = []

    def loss(prediction, target):
        seen.append((prediction.detach(), target))
        return squares(prediction, target)

    x, y = X.astype(dtype), np.round(Y).astype(dtype)
    model = KANRegressor(loss=loss, batch_size=10_000, **SHORT).fit(x, y)
    assert model.predict(x).dtype == dtype
    for prediction, target in seen:
        assert prediction.shape == target.shape == target.shape[:1]
        assert prediction.dtype == target.dtype == torch.float64
        assert np.isin(target.numpy(), y).all()  # to the last bit
    assert abs(seen[0][0].mean() - y.mean()) < 0.1 * y.std()


def test_loss_is_over_that_of_a_constant():
    """Whatever the units of the loss are: what is reported, and the network, stay the same."""
    one = KANRegressor(loss=squares, **SHORT).fit(X, Y)
    other = KANRegressor(loss=lambda f, y: 1e-9 * squares(f, y), **SHORT).fit(X, Y)
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(other.predict(X), one.predict(X), rtol=1e-6)
    assert clone(one).set_params(max_iter=60).fit(X, Y).loss_ < 1


def test_a_share_of_the_targets_lies_below_a_quantile():
    model = MetaKANRegressor((8,), max_iter=80, loss=pinball, random_state=0).fit(X, Y)
    assert 0.8 < (model.predict(X) > Y).mean() < 0.97


def test_several_outputs():
    y = np.c_[Y, Y**2]
    model = KANRegressor(
        (8,), max_iter=40, random_state=0, loss=lambda f, y: (f / y - 1).square().sum(1)
    ).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.5
    low, high = model.predict_interval(X)
    assert (low < high).all()


def test_copies_predict_the_same(tmp_path):
    model = MetaKANRegressor(loss=lambda f, y: (f - y).abs(), **SHORT).fit(X, Y)
    expected = model.predict(X)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), expected)
    copied.partial_fit(X, Y)
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(ValueError, match=r"loss of it are functions.* loss=\.\.\."):
        load(path)
    again = load(path, loss=squares)
    np.testing.assert_array_equal(again.predict(X), expected)
    assert again.loss is squares
    again.partial_fit(X, Y)
    found = model.to_torch()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert clone(model).loss is model.loss


def test_training_goes_on_with_another_loss():
    model = KANRegressor(warm_start=True, **SHORT).fit(X, Y)
    model.set_params(loss=pinball, max_iter=60).fit(X, Y)
    assert (model.predict(X) > Y).mean() > 0.75
    model.set_params(loss="squared_error").partial_fit(X, Y).set_params(loss=squares)
    assert np.isfinite(model.partial_fit(X, Y).predict(X)).all()


def test_searches_and_scoring():
    search = GridSearchCV(KANRegressor(**SHORT), {"loss": [squares, "absolute_error"]}, cv=2)
    assert search.fit(X, Y).best_params_["loss"] in (squares, "absolute_error")
    model = KANRegressor(loss=squares, scoring="neg_mean_absolute_error", **SHORT)
    assert np.isfinite(cross_val_score(model, X, Y, cv=2)).all()
    own = model.fit(X, Y).validation_scores_
    named = clone(model).set_params(loss="squared_error").fit(X, Y).validation_scores_
    np.testing.assert_allclose(own, named, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda f, y: squares(f, y).mean(), r"one number for each row.*shape \(\)"),
        (lambda f, y: squares(f, y)[:, None], r"one number for each row.*shape \(240, 1\)"),
        (lambda f, y: squares(f, y).detach().numpy(), "one number for each row.*got ndarray"),
        (lambda f, y: squares(f.detach(), y), "does not depend on the prediction"),
        (lambda f, y: (f - y - 1e9).log(), "loss gives nan for the prediction 1"),
        (lambda f, y: (f - f.detach()).abs().sqrt(), "with the slope (inf|nan)"),
    ],
)
def test_what_is_no_loss_is_named(loss, message):
    model = KANRegressor(loss=loss, **SHORT)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "net_")


def test_a_loss_that_is_neither_a_name_nor_a_function_is_refused():
    with pytest.raises(ValueError, match="'loss' parameter of KANRegressor"):
        KANRegressor(loss="cubes").fit(X, Y)
    with pytest.raises(TypeError, match="loss"):
        KANClassifier(loss=squares)
