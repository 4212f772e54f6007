"""KANRegressor and MetaKANRegressor: losses, scaling inside, weights, stopping, going on."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression
from sklearn.metrics import d2_pinball_score, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sklearn_metakan import KANRegressor, MetaKANRegressor

REGRESSORS = [KANRegressor, MetaKANRegressor]
LOSSES = ["squared_error", "absolute_error", "huber", "quantile", "poisson"]
SCALINGS = ["auto", "minmax", "standard", "quantile", None]
META = {"meta_hidden_dim": 8, "edge_scale": True}

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(150, 3))
Y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.05 * RNG.normal(size=150)

# Full batches and a constant rate: two fits of the same numbers take the same steps.
STEPS = {
    "hidden_layer_sizes": (4,),
    "n_estimators": 1,
    "max_iter": 15,
    "batch_size": 10_000,
    "learning_rate": 0.01,
    "learning_rate_schedule": "constant",
    "weight_decay": 0.0,
    "early_stopping": False,
    "random_state": 0,
}
STOPPING = STEPS | {"early_stopping": True}
QUICK = STEPS | {"hidden_layer_sizes": (8,), "max_iter": 60, "learning_rate": 0.03}
SETTLED = QUICK | {"max_iter": 200, "learning_rate_schedule": "onecycle"}

both = pytest.mark.parametrize("regressor", REGRESSORS)
# Of two that share what is tested; the other one in the slow part.
meta_first = pytest.mark.parametrize(
    "regressor", [pytest.param(KANRegressor, marks=pytest.mark.slow), MetaKANRegressor]
)


# --- quality, with whatever the defaults are ------------------------------------------


@meta_first
def test_defaults_learn_a_smooth_function_from_unscaled_columns(regressor):
    X, y = make_friedman1(800, noise=0.5, random_state=0)
    X, y = X * 10.0 ** np.arange(-4, 6) + 1000, 1e5 * y - 3e6
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    score = regressor(random_state=0).fit(train, y_train).score(test, y_test)
    assert score > 0.85
    assert score > LinearRegression().fit(train, y_train).score(test, y_test) + 0.1


@pytest.mark.slow
@both
@pytest.mark.parametrize("setting", [{"solver": "lbfgs"}, {"hidden_layer_sizes": ()}], ids=str)
def test_defaults_of_other_models_learn_an_additive_function(regressor, setting):
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    model = regressor(random_state=0, **setting).fit(train, y_train)
    assert model.score(test, y_test) > 0.85


@pytest.mark.slow
@both
def test_noise_is_not_learnt_by_heart_under_early_stopping(regressor):
    noise = np.random.default_rng(1).normal(size=600)
    X = np.random.default_rng(1).normal(size=(600, 8))
    model = regressor(random_state=0, early_stopping=True).fit(X, noise)
    assert model.score(X, noise) < 0.5


# --- losses ---------------------------------------------------------------------------


def skewed_noise():
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(500, 2))
    return X, 4 + 2 * X[:, 0] + (1.5 + X[:, 1]) * rng.exponential(size=500)


@pytest.mark.slow
@both
def test_quantiles_cover_their_share_and_keep_their_order(regressor):
    X, y = skewed_noise()
    predicted = {}
    for level in (0.1, 0.5, 0.9):
        model = regressor(**SETTLED, loss="quantile", quantile=level)
        predicted[level] = model.fit(X, y).predict(X)
        assert (y <= predicted[level]).mean() == pytest.approx(level, abs=0.05)
        assert d2_pinball_score(y, predicted[level], alpha=level) > 0.1
    assert (predicted[0.1] < predicted[0.5]).mean() > 0.98
    assert (predicted[0.5] < predicted[0.9]).mean() > 0.98


@both
def test_absolute_error_is_the_median(regressor):
    X, y = skewed_noise()
    median = regressor(**SETTLED, loss="absolute_error").fit(X, y).predict(X)
    mean = regressor(**SETTLED, loss="squared_error").fit(X, y).predict(X)
    assert (y <= median).mean() == pytest.approx(0.5, abs=0.05)
    assert (y <= mean).mean() > 0.55  # skewed to the right
    assert mean.mean() == pytest.approx(y.mean(), rel=0.02)


@both
@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_robust_losses_bear_outliers(regressor, loss):
    spoilt = Y.copy()
    spoilt[::15] += 100
    fits = {kind: regressor(**QUICK, loss=kind).fit(X, spoilt) for kind in ("squared_error", loss)}
    assert fits[loss].score(X, Y) > 0.3
    assert fits[loss].score(X, Y) > fits["squared_error"].score(X, Y)


@pytest.mark.slow
@both
def test_each_loss_is_best_at_what_it_measures(regressor):
    X, y = skewed_noise()
    measures = {
        "squared_error": lambda error: error**2,
        "absolute_error": np.abs,
        "quantile": lambda error: np.maximum(0.8 * error, -0.2 * error),
    }
    fits = {loss: regressor(**SETTLED, loss=loss, quantile=0.8).fit(X, y) for loss in measures}
    for loss, measure in measures.items():
        values = {name: measure(y - model.predict(X)).mean() for name, model in fits.items()}
        assert min(values, key=values.get) == loss, values


def counts(factor=1.0):
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, size=(400, 2))
    return X, factor * rng.poisson(np.exp(1 + 1.5 * X[:, 0]))


@both
def test_poisson_is_positive_and_calibrated(regressor):
    X, y = counts()
    assert (y == 0).any()
    model = regressor(**QUICK | {"max_iter": 150}, loss="poisson").fit(X, y)
    predicted = model.predict(X)
    assert (predicted > 0).all()
    assert (model.predict(50 * X) >= 0).all()
    assert predicted.mean() == pytest.approx(y.mean(), rel=0.05)
    assert np.corrcoef(np.log(predicted), X[:, 0])[0, 1] > 0.9


@both
def test_poisson_follows_the_scale_of_the_counts(regressor):
    X, y = counts()
    small = regressor(**STEPS, loss="poisson").fit(X, y).predict(X)
    large = regressor(**STEPS, loss="poisson").fit(X, 1024.0 * y).predict(X)
    np.testing.assert_allclose(large, 1024 * small, rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("solver", ["adamw", "lbfgs"])
@both
def test_every_loss_falls_with_both_solvers(regressor, solver, loss):
    settings = STEPS | {"solver": solver, "learning_rate": "auto", "max_iter": 30}
    model = regressor(**settings, loss=loss).fit(X, np.exp(Y))
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.best_loss_ == min(model.loss_curve_)
    assert model.loss_ == model.loss_curve_[-1]
    assert len(model.loss_curve_) == model.n_iter_


# --- shapes and types -----------------------------------------------------------------


@both
def test_shapes_of_targets(regressor):
    one = regressor(**STEPS).fit(X, Y)
    assert one.predict(X).shape == (150,)
    assert one.n_outputs_ == 1
    two = regressor(**STEPS).fit(X, np.c_[Y, -Y])
    assert two.predict(X).shape == (150, 2)
    assert two.n_outputs_ == 2
    with pytest.warns(UserWarning, match="column-vector"):
        column = regressor(**STEPS).fit(X, Y[:, None])
    np.testing.assert_array_equal(column.predict(X), one.predict(X))


@pytest.mark.slow
def test_outputs_of_an_additive_model_do_not_mix():
    # An optimum of its own for each output: fitted together or alone is the same.
    settings = {"hidden_layer_sizes": (), "solver": "lbfgs", "weight_decay": 1e-3}
    settings |= {"max_iter": 500, "tol": 0, "n_iter_no_change": 500, "random_state": 0}
    targets = np.c_[Y, 100 * X[:, 2] ** 2]
    together = KANRegressor(**settings | {"weight_decay": 1e-3 / 2}).fit(X, targets).predict(X)
    for k in range(2):
        alone = KANRegressor(**settings).fit(X, targets[:, k]).predict(X)
        scale = targets[:, k].std()
        np.testing.assert_allclose(together[:, k] / scale, alone / scale, atol=1e-3)


@both
@pytest.mark.parametrize("loss", LOSSES)
def test_multi_output_learns_every_output(regressor, loss):
    targets = np.exp(np.c_[Y, X[:, 2], Y + X[:, 2]])
    model = regressor(**QUICK | {"max_iter": 100}, loss=loss).fit(X, targets)
    assert (r2_score(targets, model.predict(X), multioutput="raw_values") > 0.6).all()


@both
def test_float32_in_float32_out(regressor):
    single = X.astype(np.float32)
    model = regressor(**STEPS).fit(single, Y)
    assert {p.dtype.itemsize for p in model.module_.parameters()} == {4}
    assert model.predict(single).dtype == np.float32
    assert model.predict(X).dtype == np.float64
    double = regressor(**STEPS).fit(X, Y)
    assert {p.dtype.itemsize for p in double.module_.parameters()} == {8}
    assert double.predict(X).dtype == np.float64
    assert double.predict(single).dtype == np.float32
    np.testing.assert_allclose(model.predict(single), double.predict(X), rtol=1e-2, atol=1e-2)


@both
def test_the_same_table_in_any_container(regressor):
    table = np.round(X, 1)
    expected = regressor(**STEPS).fit(table, Y)
    frame = pd.DataFrame(table, columns=["a", "b", "c"])
    containers = {
        "frame": frame,
        "frame of objects": frame.astype(object),
        "nullable frame": frame.convert_dtypes(),
        "list": table.tolist(),
        "Fortran": np.asfortranarray(table),
        "strided": np.repeat(table, 2, axis=0)[::2],
        "objects": table.astype(object),
    }
    read_only = table.copy()
    read_only.flags.writeable = False
    containers["read-only"] = read_only
    for name, container in containers.items():
        for y in (Y, pd.Series(Y, name="y"), Y.tolist()):
            model = regressor(**STEPS).fit(container, y)
            predicted = model.predict(container)
            np.testing.assert_array_equal(predicted, expected.predict(table), err_msg=name)
        assert hasattr(model, "feature_names_in_") == ("frame" in name)
    integers = np.arange(60).reshape(20, 3)
    model = regressor(**STEPS).fit(integers, np.arange(20))
    floats = regressor(**STEPS).fit(integers.astype(float), np.arange(20.0))
    np.testing.assert_array_equal(model.predict(integers), floats.predict(integers * 1.0))


@both
def test_predicting_in_chunks_changes_nothing(regressor):
    model = regressor(**STEPS).fit(X, np.c_[Y, -Y])
    at_once = model.set_params(working_memory=1000).predict(X)
    for working_memory in (1e-6, 1e-2):
        in_chunks = model.set_params(working_memory=working_memory).predict(X)
        np.testing.assert_allclose(in_chunks, at_once, rtol=1e-12, atol=1e-12)


@both
def test_predict_changes_no_attribute(regressor):
    model = regressor(**STEPS).fit(X, Y)
    before = dict(vars(model))
    model.predict(X)
    _ = model.feature_importances_, model.score(X, Y)
    assert vars(model) == before


# --- the additive model ---------------------------------------------------------------


@both
def test_no_hidden_layer_means_no_interactions(regressor):
    def interaction(model):
        corners = np.array([[-1.0, -1, -1], [1, -1, -1], [-1, 1, -1], [1, 1, -1]])
        f = model.predict(corners)
        return abs(f[3] - f[1] - f[2] + f[0])

    y = X[:, 0] * X[:, 1]
    additive = regressor(**QUICK | {"hidden_layer_sizes": ()}).fit(X, y)
    assert interaction(additive) < 1e-10
    assert interaction(regressor(**QUICK).fit(X, y)) > 0.5


def test_parameters_are_counted():
    additive = KANRegressor(**STEPS | {"hidden_layer_sizes": ()}, grid_size=4, degree=2)
    assert additive.fit(X, Y).n_parameters_ == 3 * (4 + 2 + 1)
    deeper = KANRegressor(**STEPS | {"hidden_layer_sizes": (5,)}, grid_size=4, degree=2)
    assert deeper.fit(X, np.c_[Y, Y]).n_parameters_ == (3 * 5 + 5 * 2) * 7
    linear = {"meta_hidden_dim": 0, "edge_scale": False}
    for p in (1, 2):
        small, wide = (
            MetaKANRegressor(**STEPS | {"hidden_layer_sizes": (h,)}, prompt_dim=p, **linear)
            .fit(X, Y)
            .n_parameters_
            for h in (5, 6)
        )
        assert wide - small == 4 * p  # p numbers an edge: three edges in, one out


# --- scaling inside -------------------------------------------------------------------

FACTORS, OFFSETS = np.array([1e-6, 1.0, 3e5]), np.array([-1e-3, 100.0, 7e5])


@both
@pytest.mark.parametrize("scale_inputs", SCALINGS[:-1])
def test_units_of_columns_do_not_matter(regressor, scale_inputs):
    settings = STEPS | {"scale_inputs": scale_inputs}
    plain = regressor(**settings).fit(X, Y).predict(X)
    other = X * FACTORS + OFFSETS
    np.testing.assert_allclose(
        regressor(**settings).fit(other, Y).predict(other), plain, rtol=1e-6, atol=1e-6
    )


@both
@pytest.mark.parametrize("loss", LOSSES[:-1])
@pytest.mark.parametrize(("factor", "offset"), [(1e6, 3e7), (1e-6, -1e-4), (1e150, 0)])
def test_units_of_the_target_do_not_matter(regressor, loss, factor, offset):
    plain = regressor(**STEPS, loss=loss).fit(X, Y).predict(X)
    other = regressor(**STEPS, loss=loss).fit(X, Y * factor + offset).predict(X)
    np.testing.assert_allclose((other - offset) / factor, plain, rtol=1e-6, atol=1e-6)


@both
@pytest.mark.parametrize("scale_inputs", SCALINGS)
def test_knots_cover_the_data_with_every_scaling(regressor, scale_inputs):
    # extrapolation="error" is the witness: no row of the table lies outside the grid.
    for knots in ("uniform", "quantile"):
        settings = STEPS | {"scale_inputs": scale_inputs, "knots": knots, "extrapolation": "error"}
        skewed = np.exp(2 * X)
        assert np.isfinite(regressor(**settings).fit(skewed, Y).predict(skewed)).all()


@both
def test_target_can_be_left_unscaled(regressor):
    model = regressor(**STEPS, scale_target=False).fit(X, 7 * Y)
    np.testing.assert_array_equal(model.target_scaler_.transform(Y[:, None]), Y[:, None])
    loss_before = mean_squared_error(
        7 * Y, clone(model).set_params(max_iter=1).fit(X, 7 * Y).predict(X)
    )
    assert mean_squared_error(7 * Y, model.predict(X)) < loss_before


# --- weights --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("knots", ["uniform", "quantile"])
def test_weights_count_like_repeated_rows(regressor, loss, knots):
    weight = np.random.default_rng(1).integers(0, 4, size=150)
    X_odd, y = np.exp(X), np.exp(Y)
    settings = STEPS | {"loss": loss, "knots": knots}
    weighted = regressor(**settings).fit(X_odd, y, sample_weight=weight)
    rows = np.repeat(np.arange(150), weight)
    repeated = regressor(**settings).fit(X_odd[rows], y[rows])
    np.testing.assert_allclose(
        weighted.predict(X_odd), repeated.predict(X_odd), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-6)


@pytest.mark.slow
@both
def test_rounding_of_the_knots_does_not_change_the_start(regressor):
    # Weights and repeated rows give knots that differ in the last bit, and no more.
    settings = STEPS | {"max_iter": 1, "knots": "quantile"}
    skewed = np.exp(X)
    for seed in range(60):
        weight = np.random.default_rng(seed).integers(0, 4, size=150)
        rows = np.repeat(np.arange(150), weight)
        weighted = regressor(**settings).fit(skewed, Y, sample_weight=weight)
        repeated = regressor(**settings).fit(skewed[rows], Y[rows])
        np.testing.assert_allclose(weighted.loss_, repeated.loss_, rtol=1e-9)


@both
def test_scale_of_weights_does_not_matter(regressor):
    weight = np.random.default_rng(1).uniform(0.5, 2, size=150)
    once = regressor(**STEPS).fit(X, Y, weight).predict(X)
    np.testing.assert_allclose(
        regressor(**STEPS).fit(X, Y, 1000 * weight).predict(X), once, rtol=1e-6, atol=1e-6
    )


@both
def test_weights_as_large_as_they_may_be(regressor):
    weight = np.full(150, 1e308)
    model = regressor(**STEPS).fit(X, Y, weight)
    np.testing.assert_array_equal(model.predict(X), regressor(**STEPS).fit(X, Y).predict(X))


@meta_first
def test_weights_of_partial_fit_compare_its_calls(regressor):
    """Of two streams that contradict each other, the heavier one is learned."""
    settings = QUICK | {"batch_size": 32, "solver": "adamw"}
    # AdamW's memory of large gradients has to outlast a call of small ones.
    settings |= {"net_params": {"optimizer__betas": (0.9, 0.999)}}

    def learned(of_first, of_second):
        model = regressor(**settings)
        for _ in range(40):
            model.partial_fit(X, Y, None if of_first is None else np.full(150, of_first))
            model.partial_fit(X, -Y, None if of_second is None else np.full(150, of_second))
        return model.score(X, Y)

    assert learned(None, 1e-3) > 0.7
    assert learned(1000.0, None) > 0.7
    assert learned(1.0, 1e3) < -1
    first, scaled = learned(1.0, 0.1), learned(64.0, 6.4)
    assert first == pytest.approx(scaled, rel=1e-6)


@both
def test_predictions_keep_the_digits_of_the_target(regressor):
    """float32 has steps of 128 at 1.7e9, and ends at 3.4e38."""
    table = X.astype(np.float32)
    plain = regressor(**QUICK).fit(table, Y)
    assert plain.predict(table).dtype == np.float32
    for y in (Y + 1.7e9, 1e40 * Y, 1e-50 * Y, np.stack([Y, Y + 1.7e9], 1)):
        model = regressor(**QUICK).fit(table, y)
        assert model.score(table, y) > plain.score(table, Y) - 0.1
        predicted = model.predict(table)
        assert predicted.dtype == np.float64
        exported = model.to_torch()(torch.from_numpy(table))
        assert exported.dtype == torch.float64
        spread = float(np.ptp(predicted, axis=0).max())  # what rounding of the network is beside
        tolerance = {"rtol": 1e-6, "atol": 1e-6 * spread}
        np.testing.assert_allclose(exported.detach().numpy(), predicted, **tolerance)


@both
@pytest.mark.parametrize("value", [1e-6, -1e-30, 0.5])
def test_a_constant_target_is_predicted_in_its_own_size(regressor, value):
    predicted = regressor(**SETTLED).fit(X, np.full(150, value)).predict(X)
    np.testing.assert_allclose(predicted, value, rtol=0.3)


@both
def test_columns_below_the_normal_numbers_count_as_constant(regressor):
    table = np.c_[X, 1e-310 * X[:, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite(regressor(**STEPS).fit(table, Y).predict(table)).all()


@both
def test_weights_act_in_mini_batches_and_partial_fit(regressor):
    weight = np.where(X[:, 2] > 0, 1.0, 1e-3)
    contradicting = np.where(X[:, 2] > 0, Y, -Y)
    settings = QUICK | {"batch_size": 16, "hidden_layer_sizes": ()}
    fitted = regressor(**settings).fit(X[:, :2], contradicting, weight)
    streamed = regressor(**settings)
    for _ in range(60):
        streamed.partial_fit(X[:, :2], contradicting, sample_weight=weight)
    assert fitted.score(X[:, :2], Y) > 0.8
    assert streamed.score(X[:, :2], Y) > 0.8


# --- early stopping -------------------------------------------------------------------


def noisy():
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, size=(120, 4))
    y = X[:, 0] + rng.normal(size=120)
    return train_test_split(X, y, test_size=0.5, random_state=0)


OVERFIT = STOPPING | {"hidden_layer_sizes": (16,), "max_iter": 300, "learning_rate": 0.02}


@both
@pytest.mark.parametrize("solver", ["adamw", "lbfgs"])
def test_best_weights_on_validation_rows_are_kept(regressor, solver):
    train, valid, y_train, y_valid = noisy()
    settings = OVERFIT | {"solver": solver, "learning_rate": "auto", "n_iter_no_change": 15}
    model = regressor(**settings).fit(train, y_train, X_val=valid, y_val=y_valid)
    assert 15 < model.n_iter_ < 300
    assert len(model.validation_scores_) == model.n_iter_
    assert model.score(valid, y_valid) == pytest.approx(max(model.validation_scores_), rel=1e-9)
    assert model.best_validation_score_ == pytest.approx(max(model.validation_scores_), rel=1e-9)
    assert model.validation_scores_[-1] < model.best_validation_score_
    losses = model.net_.history[:, "valid_loss"]
    scaled = model.target_scaler_.transform(np.c_[y_valid, model.predict(valid)])
    assert mean_squared_error(*scaled.T) == pytest.approx(min(losses), rel=1e-9)


@both
def test_validation_rows_only_decide_when_to_stop(regressor):
    train, valid, y_train, y_valid = noisy()
    settings = STOPPING | {"n_iter_no_change": 1000}
    watched = regressor(**settings).fit(train, y_train, X_val=valid, y_val=y_valid)
    alone = regressor(**settings | {"early_stopping": False}).fit(train, y_train)
    assert watched.loss_curve_ == alone.loss_curve_
    np.testing.assert_array_equal(
        watched.input_scaler_.transform(valid), alone.input_scaler_.transform(valid)
    )


@both
def test_validation_weights_count(regressor):
    train, valid, y_train, y_valid = noisy()
    weight = np.where(valid[:, 1] > 0, 1.0, 0.25)
    model = regressor(**STOPPING).fit(
        train, y_train, X_val=valid, y_val=y_valid, sample_weight_val=weight
    )
    assert model.best_validation_score_ == pytest.approx(
        model.score(valid, y_valid, sample_weight=weight), rel=1e-9
    )
    ignored = np.where(valid[:, 1] > 0, 1.0, 0.0)
    by_weight, by_choice = (
        regressor(**STOPPING).fit(train, y_train, **rows).validation_scores_
        for rows in (
            {"X_val": valid, "y_val": y_valid, "sample_weight_val": ignored},
            {"X_val": valid[ignored > 0], "y_val": y_valid[ignored > 0]},
        )
    )
    np.testing.assert_allclose(by_weight, by_choice, rtol=1e-9)


@both
def test_share_of_rows_held_out(regressor):
    class Sizes(Callback):
        def on_train_begin(self, net, X, **kwargs):
            self.sizes_ = [len(X), len(net.validation_)]

    for fraction in (0.1, 0.4, 0.99):
        settings = STOPPING | {"max_iter": 2, "validation_fraction": fraction}
        model = regressor(**settings, callbacks=[Sizes()]).fit(X, Y)
        held_out = round(150 * fraction)
        assert model.callbacks_[0].sizes_ == [150 - held_out, held_out]


@both
def test_auto_early_stopping_is_for_large_tables_and_given_rows(regressor):
    settings = STEPS | {"max_iter": 2, "early_stopping": "auto"}
    assert regressor(**settings).fit(X, Y).validation_scores_ is None
    assert regressor(**settings).fit(X, Y).best_validation_score_ is None
    assert len(regressor(**settings).fit(X, Y, X_val=X, y_val=Y).validation_scores_) == 2
    large, y = np.tile(X, (2, 1))[:201], np.tile(Y, 2)[:201]
    assert regressor(**settings).fit(large[:200], y[:200]).validation_scores_ is None
    assert len(regressor(**settings).fit(large, y).validation_scores_) == 2
    settings["early_stopping"] = False
    assert regressor(**settings).fit(large, y).validation_scores_ is None


@both
def test_training_loss_that_settles_stops_a_constant_schedule(regressor):
    settings = STEPS | {"max_iter": 1000, "tol": 0.5, "n_iter_no_change": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert regressor(**settings).fit(X, Y).n_iter_ < 50


@both
def test_running_out_of_iterations_warns_where_convergence_was_meant(regressor):
    for setting in ({"solver": "lbfgs"}, {"learning_rate_schedule": "constant"}):
        with pytest.warns(ConvergenceWarning, match="max_iter=3.*Raise max_iter"):
            regressor(**STEPS | {"max_iter": 3, "tol": 0} | setting).fit(X, Y)
    for schedule in ("cosine", "exponential", "onecycle"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            regressor(**STEPS | {"max_iter": 3, "learning_rate_schedule": schedule}).fit(X, Y)


# --- going on -------------------------------------------------------------------------


def scaled_loss(model, X, y):
    scaled = model.target_scaler_.transform(np.c_[y, model.predict(X)])
    return mean_squared_error(*scaled.T)


@both
def test_warm_start_goes_on_from_the_same_weights(regressor):
    model = regressor(**STEPS, warm_start=True).fit(X, Y)
    reached, scaler = scaled_loss(model, X, Y), model.input_scaler_
    model.fit(X, Y)
    assert model.loss_curve_[0] == pytest.approx(reached, rel=1e-9)
    assert model.loss_curve_[-1] < reached
    assert model.n_iter_ == STEPS["max_iter"]
    assert model.input_scaler_ is scaler
    model.fit(X + 100, Y)  # the first scaling stays
    assert model.input_scaler_ is scaler
    anew = model.set_params(warm_start=False).fit(X, Y)
    np.testing.assert_array_equal(anew.predict(X), regressor(**STEPS).fit(X, Y).predict(X))


@both
def test_warm_start_takes_new_training_parameters(regressor):
    model = regressor(**STEPS, warm_start=True).fit(X, Y)
    before = model.predict(X)
    model.set_params(learning_rate=1e-12, max_iter=2, weight_decay=0.1, batch_size=32).fit(X, Y)
    assert model.n_iter_ == 2
    np.testing.assert_allclose(model.predict(X), before, atol=1e-8)


NETWORK_CHANGES = {
    "hidden_layer_sizes": (5,),
    "degree": 2,
    "extrapolation": "base",
    "knots": "quantile",
    "scale_inputs": "standard",
    "scale_target": False,
}
META_CHANGES = {
    "prompt_dim": 3,
    "meta_hidden_dim": 9,
    "meta_activation": "tanh",
    "edge_scale": False,
    "n_meta_learners": "layer",
}


@pytest.mark.parametrize("going_on", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("regressor", "name", "value"),
    [(KANRegressor, *change) for change in NETWORK_CHANGES.items()]
    + [(MetaKANRegressor, *change) for change in (NETWORK_CHANGES | META_CHANGES).items()],
)
def test_going_on_refuses_another_network(regressor, name, value, going_on):
    start = {"grid_size": 5, "degree": 3, "extrapolation": "linear"}
    if regressor is MetaKANRegressor:
        start |= META | {"prompt_dim": 2, "meta_activation": "relu", "n_meta_learners": "auto"}
    model = regressor(**STEPS, **start, warm_start=True).fit(X, Y)
    then, predicted = model.get_params()[name], model.predict(X)
    with pytest.raises(ValueError) as error:
        getattr(model.set_params(**{name: value}), going_on)(X, Y)
    assert f"{name} from {then!r} to {value!r}" in str(error.value)
    np.testing.assert_array_equal(model.predict(X), predicted)


REFINING = {
    "direct": (KANRegressor, {}),
    "direct, own knots": (KANRegressor, {"knots": "quantile"}),
    "direct, own ranges": (KANRegressor, {"scale_inputs": None}),
    "wavelets": (KANRegressor, {"basis": "morlet"}),
    "polynomials": (KANRegressor, {"basis": "gram"}),
    "generated": (MetaKANRegressor, META),
    "generated, own ranges": (MetaKANRegressor, META | {"scale_inputs": None}),
    "linear": (MetaKANRegressor, {"meta_hidden_dim": 0, "edge_scale": False, "prompt_dim": 3}),
}


@pytest.mark.parametrize("going_on", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", REFINING)
def test_a_finer_grid_goes_on_from_the_same_function(kind, going_on):
    regressor, settings = REFINING[kind]
    model = regressor(**STEPS, **settings, grid_size=3, warm_start=True).fit(X, Y)
    reached, before = scaled_loss(model, X, Y), model.predict(X)
    model.set_params(grid_size=6, learning_rate=1e-13)
    getattr(model, going_on)(X, Y)
    np.testing.assert_allclose(model.predict(X), before, atol=1e-9)
    newest = model.loss_curve_[-STEPS["max_iter"] if going_on == "fit" else -1]
    assert newest == pytest.approx(reached, rel=1e-9)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    for going in (model, loaded):
        going.set_params(learning_rate=0.01).fit(X, Y)
        assert going.loss_ < reached
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@both
def test_a_grid_that_does_not_nest_goes_on_from_a_close_function(regressor):
    model = regressor(**QUICK, grid_size=3, warm_start=True).fit(X, Y)
    before = model.predict(X)
    model.set_params(grid_size=10, learning_rate=1e-13, max_iter=1).fit(X, Y)
    assert {layer.basis.grid_size for layer in model.module_.kan_layers()} == {10}
    assert np.abs(model.predict(X) - before).max() < 0.02 * Y.std()


@both
def test_lbfgs_refines_and_goes_on(regressor):
    settings = STEPS | {"solver": "lbfgs", "learning_rate": "auto"}
    model = regressor(**settings, grid_size=3, warm_start=True).fit(X, Y)
    reached = scaled_loss(model, X, Y)
    model.set_params(grid_size=6).fit(X, Y)
    assert max(model.loss_curve_) < reached


@pytest.mark.parametrize("going_on", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("regressor", "settings", "grid_size", "message"),
    [
        (KANRegressor, {}, 2, r"grid_size cannot change from 3 to 2.*warm_start=False"),
        (MetaKANRegressor, META, 2, r"grid_size cannot change from 3 to 2.*warm_start=False"),
        (MetaKANRegressor, META | {"knots": "quantile"}, 6, r"uniform knots.*warm_start=False"),
    ],
)
def test_grids_that_cannot_go_on(regressor, settings, grid_size, message, going_on):
    model = regressor(**STEPS, **settings, grid_size=3, warm_start=True).fit(X, Y)
    before = model.predict(X)
    with pytest.raises(ValueError, match=message):
        getattr(model.set_params(grid_size=grid_size), going_on)(X, Y)
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), before)


class Fails(Callback):
    def on_epoch_begin(self, net, **kwargs):
        raise RuntimeError("stop")


@both
def test_a_failed_refinement_leaves_the_old_grid(regressor):
    model = regressor(**STEPS, grid_size=3, warm_start=True).fit(X, Y)
    before = model.predict(X)
    with pytest.raises(RuntimeError, match="stop"):
        model.set_params(grid_size=6, callbacks=[Fails()]).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(model.set_params(callbacks=None)))
    np.testing.assert_array_equal(loaded.predict(X), before)
    model.fit(X, Y)
    assert model.module_.layers[0].basis.grid_size == 6


@both
def test_going_on_takes_another_backend_but_no_bias(regressor):
    model = regressor(**STEPS, warm_start=True).fit(X, Y)
    model.set_params(net__module__backend="reference").fit(X, Y)
    assert {layer.backend for layer in model.module_.kan_layers()} == {"reference"}
    with pytest.raises(ValueError, match=r"cannot change net_params\['module__bias'\] from False"):
        model.set_params(net__module__bias=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"cannot change net_params\['module__bias'\] from False"):
        model.partial_fit(X, Y)
    model.set_params(net_params={"module__bias": False}).fit(X, Y)  # as it was
    model.set_params(net_params={"module__bias": True}, warm_start=False).fit(X, Y)
    with pytest.raises(ValueError, match=r"\['module__bias'\] from True to False"):
        model.set_params(net_params=None, warm_start=True).fit(X, Y)


@both
@pytest.mark.parametrize("going_on", ["fit", "partial_fit"])
def test_going_on_refuses_other_data(regressor, going_on):
    model = regressor(**STEPS, warm_start=True).fit(X, Y)
    go_on = getattr(model, going_on)
    with pytest.raises(ValueError, match=r"2 features.*3"):
        go_on(X[:, :2], Y)
    with pytest.raises(ValueError, match=r"float32.*float64"):
        go_on(X.astype(np.float32), Y)
    with pytest.raises(ValueError, match=r"2 outputs.*1"):
        go_on(X, np.c_[Y, Y])
    with pytest.raises(ValueError, match=r"loss.*'poisson'"):
        getattr(model.set_params(loss="poisson"), going_on)(X, np.exp(Y))


@both
def test_another_loss_with_the_same_link_may_go_on(regressor):
    X, y = skewed_noise()
    model = regressor(**QUICK | {"max_iter": 150}, warm_start=True).fit(X, y)
    assert (y <= model.predict(X)).mean() < 0.75
    model.set_params(loss="quantile", quantile=0.9).fit(X, y)
    assert (y <= model.predict(X)).mean() == pytest.approx(0.9, abs=0.05)
    for _ in range(150):
        model.set_params(quantile=0.1).partial_fit(X, y)
    assert (y <= model.predict(X)).mean() == pytest.approx(0.1, abs=0.05)


@both
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_adamw_first_and_lbfgs_after(regressor, dtype):
    table = X.astype(dtype)
    model = regressor(**QUICK, warm_start=True).fit(table, Y)
    by_adamw = scaled_loss(model, table, Y)
    model.set_params(solver="lbfgs", learning_rate="auto", max_iter=30)
    model.fit(table, Y)
    assert model.loss_curve_[0] < by_adamw
    assert model.loss_curve_[-1] < 0.7 * by_adamw
    assert model.loss_ == pytest.approx(scaled_loss(model, table, Y), rel=1e-4)
    assert next(model.module_.parameters()).dtype.itemsize == 8  # as precision="auto" says
    assert model.predict(table).dtype == dtype


@both
def test_partial_fit_fixes_the_scaling_and_learns(regressor):
    model = regressor(**STEPS | {"batch_size": 32})
    assert model.partial_fit(X, Y) is model
    scaler, target_scaler = model.input_scaler_, model.target_scaler_
    location, scale = target_scaler.location_.copy(), target_scaler.scale_.copy()
    first = model.score(X, Y)
    for _ in range(60):
        model.partial_fit(X[:75], Y[:75]).partial_fit(X[75:], Y[75:])
    assert model.n_iter_ == 121 == len(model.loss_curve_)
    assert model.input_scaler_ is scaler
    np.testing.assert_array_equal(model.target_scaler_.location_, location)
    np.testing.assert_array_equal(model.target_scaler_.scale_, scale)
    assert model.score(X, Y) > max(0.7, first)


def moved_by(model, call):
    before = np.concatenate([p.detach().numpy().ravel() for p in model.module_.parameters()])
    call(model)
    after = np.concatenate([p.detach().numpy().ravel() for p in model.module_.parameters()])
    return np.abs(after - before).max()


@both
@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential", "onecycle"])
def test_partial_fit_after_fit_steps_at_the_full_rate(regressor, schedule):
    model = regressor(**STEPS | {"learning_rate_schedule": schedule})
    model.fit(X, Y)
    assert model.partial_fit(X, Y).n_iter_ == STEPS["max_iter"] + 1
    # A step of Adam moves some weight by nearly the rate.
    moved = moved_by(model, lambda m: m.partial_fit(X, Y))
    assert 0.2 * STEPS["learning_rate"] < moved < 5 * STEPS["learning_rate"]


@both
def test_partial_fit_takes_a_new_rate_and_a_new_solver(regressor):
    model = regressor(**STEPS, solver="lbfgs")
    model.set_params(learning_rate="auto").fit(X, Y)
    model.set_params(solver="adamw", learning_rate=1e-2)
    assert 5e-3 < moved_by(model, lambda m: m.partial_fit(X, -Y)) < 2e-2
    model.set_params(learning_rate=1e-4)
    assert 5e-5 < moved_by(model, lambda m: m.partial_fit(X, -Y)) < 2e-4


# --- importances ----------------------------------------------------------------------


@both
def test_importances_find_the_relevant_features(regressor):
    X, y = make_friedman1(400, n_features=8, random_state=0)
    model = regressor(**QUICK | {"max_iter": 150, "hidden_layer_sizes": (16,)}).fit(X, y)
    importances = model.feature_importances_
    assert importances.shape == (8,)
    assert (importances >= 0).all()
    assert importances.sum() == pytest.approx(1)
    assert importances[:5].min() > 2 * importances[5:].max()
    np.testing.assert_array_equal(importances, model.feature_importances_)
    chosen = SelectFromModel(model, prefit=True, max_features=5, threshold=-np.inf)
    assert chosen.get_support().tolist() == [True] * 5 + [False] * 3


@both
def test_importances_are_shares_of_variance(regressor):
    X = np.random.default_rng(1).uniform(size=(400, 3)) * [1, 100, 1e-3]
    y = 3 * X[:, 0] + X[:, 1] / 100
    model = regressor(**QUICK | {"hidden_layer_sizes": (), "max_iter": 200}).fit(X, y)
    np.testing.assert_allclose(model.feature_importances_, [0.9, 0.1, 0], atol=0.03)


@both
def test_constant_feature_has_no_importance(regressor):
    model = regressor(**STEPS).fit(np.c_[X, np.full(150, 3.0)], Y)
    assert model.feature_importances_[3] == 0


def test_a_subclass_may_have_fewer_parameters():
    class Narrow(MetaKANRegressor):
        def __init__(self, max_iter=3):
            super().__init__((2,), max_iter=max_iter, random_state=0)

    whole = MetaKANRegressor((2,), max_iter=3, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(Narrow().fit(X, Y).predict(X), whole.predict(X))
