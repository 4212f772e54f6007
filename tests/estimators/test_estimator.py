"""What every estimator does at the edges: constant columns and targets, far numbers, threads."""

import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)

REGRESSORS = [KANRegressor, MetaKANRegressor]
LOSSES = ["squared_error", "absolute_error", "huber", "quantile", "poisson"]
ALL = [*REGRESSORS, KANClassifier, MetaKANClassifier]
IMAGES = [KANImageClassifier, MetaKANImageClassifier]
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(30, 2))
Y = X[:, 0] - X[:, 1] ** 2
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0}

every = pytest.mark.parametrize("estimator", ALL)


def target_of(estimator):
    return Y if estimator in REGRESSORS else (Y > 0).astype(int)


def outputs(model, table):
    return model.predict_proba(table) if hasattr(model, "classes_") else model.predict(table)


# A column that is constant in training says nothing.

WITH_CONSTANT = np.c_[X[:, :1], np.full(30, 5.0), X[:, 1:]]
MOVED = WITH_CONSTANT + np.array([0, 3, 0])
SETTINGS = {
    **{name: {"basis": name} for name in ("rbf", "mexican_hat", "chebyshev", "legendre")},
    **{f"{kind}": {"scale_inputs": kind} for kind in ("minmax", "standard", "quantile", None)},
    **{kind: {"extrapolation": kind} for kind in ("base", "constant")},
    "quantile knots": {"knots": "quantile"},
    "lbfgs": {"solver": "lbfgs"},
    "additive": {"hidden_layer_sizes": ()},
    "bias": {"net_params": {"module__bias": True}},
    "plain": {},
}
OF_SOURCES = {
    "no scale": {"edge_scale": False},
    "linear": {"meta_hidden_dim": 0, "edge_scale": False, "prompt_dim": 2},
    "by layer": {"n_meta_learners": "layer"},
}


@pytest.mark.parametrize(
    ("estimator", "settings"),
    [
        *(pytest.param(KANRegressor, SETTINGS[name], id=name) for name in SETTINGS),
        *(pytest.param(MetaKANRegressor, OF_SOURCES[name], id=name) for name in OF_SOURCES),
        *(pytest.param(estimator, {}, id=estimator.__name__) for estimator in ALL[1:]),
    ],
)
def test_a_constant_column_changes_nothing(estimator, settings):
    y = target_of(estimator)
    model = estimator(**SMALL | settings).fit(WITH_CONSTANT, y)
    expected = outputs(model, WITH_CONSTANT)
    np.testing.assert_array_equal(outputs(model, MOVED), expected)  # nor when it moves
    found = model.to_torch()(torch.from_numpy(MOVED)).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert model.feature_importances_[1] == 0
    assert model.feature_importances_.sum() == pytest.approx(1)
    without = estimator(**SMALL | settings).fit(X, y)
    np.testing.assert_allclose(outputs(without, X), expected, rtol=1e-12)
    assert without.n_parameters_ == model.n_parameters_


@every
def test_a_constant_column_that_moves_later_still_says_nothing(estimator):
    y = target_of(estimator)
    model = estimator(**SMALL).fit(WITH_CONSTANT, y)
    plain = clone(model).fit(X, y)
    for _ in range(2):
        model.partial_fit(MOVED, y)
        plain.partial_fit(X, y)
    np.testing.assert_allclose(outputs(model, WITH_CONSTANT), outputs(plain, X), rtol=1e-12)


@every
def test_a_constant_column_that_moves_is_an_error_where_that_was_asked_for(estimator):
    table = pd.DataFrame(WITH_CONSTANT, columns=["a", "b", "c"])
    model = estimator(**SMALL, extrapolation="error").fit(table, target_of(estimator))
    model.predict(table.assign(b=5 * (1 + 1e-15)))  # rounding
    with pytest.raises(ValueError, match=r"column 'b' was constant.*extrapolation=\"error\""):
        model.predict(table.assign(b=6.0))
    model = clone(model).fit(WITH_CONSTANT, target_of(estimator))
    with pytest.raises(ValueError, match="column 1 was constant"):
        model.predict(MOVED)


@every
@pytest.mark.parametrize("value", [0.0, 1.0, -7e5, 1e300, 1e-300, 8e307])
def test_a_table_of_constant_columns_alone(estimator, value):
    table = np.full((30, 2), value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = estimator(**SMALL).fit(table, target_of(estimator))
        expected = outputs(model, table)
    assert np.isfinite(expected).all()
    assert (expected == expected[0]).all()
    np.testing.assert_array_equal(outputs(model, X), expected)
    assert (model.feature_importances_ == 0).all()


@pytest.mark.parametrize("estimator", IMAGES)
@pytest.mark.parametrize("kind", ["auto", "minmax", "standard", None])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_a_constant_channel_changes_nothing(estimator, kind, dtype):
    images = RNG.integers(0, 256, (20, 2, 4, 4)).astype(dtype)
    constant = np.insert(images, 1, 100, axis=1)
    moved = np.insert(images, 1, 200, axis=1)
    y = np.arange(20) % 2
    settings = {"hidden_channels": (2,), "max_iter": 2, "random_state": 0, "scale_inputs": kind}
    model = estimator(**settings).fit(constant, y)
    expected = model.predict_proba(constant)
    np.testing.assert_array_equal(model.predict_proba(moved), expected)
    without = estimator(**settings, image_shape=(2, 4, 4)).fit(images, y)
    np.testing.assert_allclose(without.predict_proba(images), expected, rtol=1e-6)


@pytest.mark.parametrize("estimator", IMAGES)
def test_a_constant_channel_that_moves_is_an_error_where_that_was_asked_for(estimator):
    images = RNG.normal(size=(20, 3, 4, 4))
    images[:, 1] = 100
    settings = {"hidden_channels": (2,), "max_iter": 2, "random_state": 0}
    model = estimator(**settings, extrapolation="error").fit(images, np.arange(20) % 2)
    model.predict(images)
    images[3, 1, 2, 2] = 101
    with pytest.raises(ValueError, match=r"channel 1 was constant.*extrapolation=\"error\""):
        model.predict(images)


@pytest.mark.parametrize("estimator", IMAGES)
def test_images_of_one_colour(estimator):
    grey = np.full((20, 4, 4), 7, dtype=np.float32)
    settings = {"hidden_channels": (2,), "max_iter": 2, "random_state": 0}
    model = estimator(**settings).fit(grey, np.arange(20) % 2)
    assert np.isfinite(model.predict_proba(grey + 1)).all()


# Validation rows that were not transformed.


@every
def test_validation_rows_beyond_the_grid_are_worth_a_warning(estimator):
    y = target_of(estimator)
    table = pd.DataFrame(X, columns=["a", "b"])
    with pytest.warns(UserWarning, match=r"column 'b'.*transform_input=\[\"X_val\"\]"):
        estimator(**SMALL).fit(table, y, X_val=table + np.array([0, 1000]), y_val=y)
    with pytest.warns(UserWarning, match="column 0"):
        estimator(**SMALL).fit(X, y, X_val=X[:2] - 1000, y_val=y[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator(**SMALL).fit(X, y, X_val=np.r_[X[:9] + 1000, X[:1]], y_val=y[:10])
        estimator(**SMALL).fit(X, y, X_val=X[:1] * 1.1, y_val=y[:1])


def test_a_pipeline_that_transforms_validation_rows_does_not_warn():
    raw = 1000 + X
    with config_context(enable_metadata_routing=True):
        model = KANRegressor(**SMALL, n_estimators=1).set_fit_request(X_val=True, y_val=True)
        steps = [("scale", StandardScaler()), ("model", model)]
        with pytest.warns(UserWarning, match="transform_input"):
            Pipeline(steps).fit(raw, Y, X_val=raw, y_val=Y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            whole = Pipeline(steps, transform_input=["X_val"]).fit(raw, Y, X_val=raw, y_val=Y)
    assert whole[-1].best_validation_score_ == pytest.approx(whole.score(raw, Y))


# Numbers at the ends of their type.

SIGNS = np.where(X[:, 1] > 0, 1.0, -1.0)
AT_THE_END = {
    "both signs": 1.79e308 * SIGNS,
    "half of both signs": 8e307 * SIGNS,
    "spread": 1.79e308 * X[:, 1],
    "one sign": 1.7e308 + 1e306 * X[:, 1],
    "a subnormal beside zero": np.where(SIGNS > 0, 5e-324, 0.0),
    "one subnormal": np.r_[5e-324, np.zeros(29)],
    "subnormals": 1e-310 * X[:, 1],
    "a large one beside them": np.r_[1.79e308, X[1:, 1]],
}


@every
@pytest.mark.parametrize("kind", ["auto", "minmax", "standard", "quantile"])
@pytest.mark.parametrize("column", AT_THE_END.values(), ids=AT_THE_END)
def test_columns_at_the_ends_of_float64(estimator, kind, column):
    table = np.c_[X[:, 0], column]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = estimator(**SMALL, scale_inputs=kind).fit(table, target_of(estimator))
        assert np.isfinite(outputs(model, table)).all()
        assert np.isfinite(model.loss_curve_).all()
        assert np.isfinite(model.feature_importances_).all()


@every
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
@pytest.mark.parametrize("basis", ["bspline", "chebyshev"])
def test_rows_far_out_are_finite_or_name_the_column(estimator, dtype, extrapolation, basis):
    settings = SMALL | {"extrapolation": extrapolation, "basis": basis, "max_iter": 1}
    table = pd.DataFrame(X.astype(dtype), columns=["a", "b"])
    model = estimator(**settings).fit(table, target_of(estimator))
    most, said = np.finfo(dtype).max, 0
    for size in (1e10, 1e20, 9.9e37, most / 2, most):
        far = table.iloc[:3].copy()
        far.iloc[1, 1] = -size
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert np.isfinite(outputs(model, far)).all()
            except ValueError as error:
                said += 1
                assert "row 1 of X" in str(error)
                assert "column 'b'" in str(error)
    assert not said or extrapolation != "constant"


@every
def test_a_value_far_out_changes_its_own_row_alone(estimator):
    model = estimator(**SMALL, extrapolation="constant").fit(X, target_of(estimator))
    far = X.copy()
    far[3, 0] = 1e308
    expected, found = outputs(model, X), outputs(model, far)
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(expected, 3, 0))


@every
@pytest.mark.parametrize(
    ("dtype", "size", "what"),
    [
        (np.float64, 1e-300, "small"),
        (np.float64, 1e-200, "small"),
        (np.float32, 1e-30, "small"),
        (np.float64, 1e200, "large"),
        (np.float32, 1e30, "large"),
    ],
)
def test_columns_too_far_from_one_to_be_left_unscaled(estimator, dtype, size, what):
    table = pd.DataFrame(np.c_[X[:, 0], size * X[:, 1]].astype(dtype), columns=["a", "b"])
    model = estimator(**SMALL, scale_inputs=None)
    with pytest.raises(ValueError, match=rf"column 'b'.*too {what}.*scale_inputs='auto'"):
        model.fit(table, target_of(estimator))
    with pytest.raises(ValueError, match="column 1"):
        model.fit(table.to_numpy(), target_of(estimator))
    model.set_params(scale_inputs="auto").fit(table, target_of(estimator))
    assert np.isfinite(outputs(model, table)).all()


# Targets and weights.


@pytest.mark.parametrize("estimator", REGRESSORS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale_target", [True, False])
@pytest.mark.parametrize("value", [7.0, 0.0, 0.1, 1e9])
def test_a_constant_target_is_predicted_exactly(estimator, loss, scale_target, value):
    model = estimator(**SMALL, loss=loss, scale_target=scale_target)
    for table in (X, X.astype(np.float32)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unscaled and large: it diverges
            model.fit(table, np.full(30, value))
        expected = model.predict(table).dtype.type(value)
        np.testing.assert_array_equal(model.predict(10 * table), np.full(30, expected))
        found = model.to_torch()(torch.from_numpy(table)).detach().numpy()
        np.testing.assert_array_equal(found, np.full(30, expected))


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_one_constant_output_beside_another(estimator):
    settings = SMALL | {"max_iter": 100}
    model = estimator(**settings).fit(X, np.c_[Y, np.full(30, 7.0)])
    assert (model.predict(X)[:, 1] == 7).all()
    assert np.ptp(model.predict(X)[:, 0]) > 0.1 * np.ptp(Y)


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_a_target_that_varies_later_is_learned(estimator):
    model = estimator(**SMALL | {"learning_rate": 0.05}).partial_fit(X, np.full(30, 7.0))
    assert (model.predict(X) == 7).all()
    model.partial_fit(X, np.full(30, 7.0))
    assert (model.predict(X) == 7).all()
    for _ in range(100):
        model.partial_fit(X, 7 + Y)
    assert model.score(X, 7 + Y) > 0.5


@pytest.mark.parametrize("estimator", REGRESSORS)
@pytest.mark.parametrize("loss", LOSSES)
def test_targets_near_the_end_of_float64(estimator, loss):
    model = estimator(**SMALL, loss=loss)
    for y in (1.5e308 * SIGNS, 1.5e308 + 1e306 * Y, np.c_[Y, 9e307 * Y]):
        with pytest.raises(ValueError, match=r"y holds numbers as large as 1\.\d+e\+308.*1e\+307"):
            model.fit(X, np.abs(y) if loss == "poisson" else y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, 1e306 * np.abs(Y))
    assert np.isfinite(model.predict(X)).all()


# Names and widths.


@pytest.mark.parametrize("estimator", [*ALL, *IMAGES])
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("max_itr", "max_iter"),
        ("learning_rat", "learning_rate"),
        ("randomstate", "random_state"),
        ("epochs", "max_iter"),
        ("lr", "learning_rate"),
    ],
)
def test_misspelt_parameters_are_answered_with_the_right_name(estimator, given, meant):
    with pytest.raises(TypeError, match=f"{given!r}.*Did you mean {meant!r}"):
        estimator(**{given: 3})


def test_hidden_layers_are_hidden_layer_sizes():
    with pytest.raises(TypeError, match=r"KANRegressor.*'hidden_layers'.*'hidden_layer_sizes'"):
        KANRegressor(hidden_layers=(3,))
    with pytest.raises(TypeError, match="'depth'"):
        KANRegressor(depth=3)


def test_a_subclass_may_hand_its_parameters_on():
    class Own(KANRegressor):
        def __init__(self, factor=2, **params):
            super().__init__(**params)
            self.factor = factor

    assert Own(factor=3, max_iter=2).max_iter == 2


@every
@pytest.mark.parametrize("widths", [8, np.int64(8), np.array(8), [8]])
def test_one_hidden_layer_may_be_a_number(estimator, widths):
    y = target_of(estimator)
    expected = estimator(**SMALL | {"hidden_layer_sizes": (8,)}).fit(X, y)
    model = estimator(**SMALL | {"hidden_layer_sizes": widths}).fit(X, y)
    np.testing.assert_array_equal(outputs(model, X), outputs(expected, X))
    model.set_params(warm_start=True, hidden_layer_sizes=(8,)).fit(X, y)


# Several threads.


@every
def test_fits_of_one_instance_in_threads_leave_it_whole(estimator):
    model, errors = estimator(**SMALL | {"max_iter": 2}), []
    tables = {columns: np.tile(X, (1, columns)) for columns in (1, 2, 3)}
    y = target_of(estimator)

    def fit(columns):
        try:
            for _ in range(4):
                model.fit(tables[columns], y)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fit, args=(columns,)) for columns in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    table = tables[model.n_features_in_ // 2]
    np.testing.assert_array_equal(outputs(model, table), outputs(clone(model).fit(table, y), table))


class Waits(Callback):
    """Halts training after the first batch of an epoch until it may go on."""

    reached, may_go_on = threading.Event(), threading.Event()

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch and not self.reached.is_set():
            self.reached.set()
            self.may_go_on.wait(60)


@every
@pytest.mark.parametrize(("call", "epoch"), [("fit", 2), ("partial_fit", 4)])
def test_predictions_during_a_refit_are_those_of_the_earlier_fit(estimator, call, epoch):
    y = target_of(estimator)
    model = estimator(**SMALL | {"batch_size": 10}).fit(X, y)
    expected = outputs(model, X)
    Waits.reached.clear()
    Waits.may_go_on.clear()
    model.set_params(callbacks=[Waits(epoch)], warm_start=True)
    refit = threading.Thread(target=getattr(model, call), args=(X, y[::-1]))
    refit.start()
    try:
        assert Waits.reached.wait(60)
        np.testing.assert_array_equal(outputs(model, X), expected)
    finally:
        Waits.may_go_on.set()
        refit.join()
    assert np.abs(outputs(model, X) - expected).max() > 1e-6


def test_dropout_goes_on_from_one_partial_fit_to_the_next():
    """Each draws masks of its own, though each trains a copy of the network."""
    masks = []

    class Notes(Callback):
        def on_batch_end(self, net, **kwargs):
            masks.append(net.module_.dropouts[1].generator.get_state())

    model = KANRegressor(**SMALL, dropout=0.5, callbacks=[Notes()])
    for _ in range(3):
        model.partial_fit(X, Y)
    assert len({mask.numpy().tobytes() for mask in masks}) == 3


@every
def test_predictions_while_fits_of_other_widths_come_and_go(estimator):
    y, errors, done = target_of(estimator), [], threading.Event()
    model = estimator(**SMALL | {"max_iter": 1}).fit(X, y)
    other = 100 + y if estimator in REGRESSORS else np.array(list("abc"))[np.arange(30) % 3]
    expected = [outputs(clone(model).fit(X, each), X) for each in (y, other)]

    def predict():
        while not done.is_set():
            try:
                found = outputs(model, X)
                if not any(np.array_equal(found, each) for each in expected):
                    errors.append(found)
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=predict)
    reader.start()
    for target in 5 * [other, y]:
        model.fit(X, target)
    done.set()
    reader.join()
    assert not errors


# Found by generated cases.


@every
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scaling", ["auto", "standard", "quantile"])
def test_a_weight_beside_which_others_are_nothing(estimator, dtype, scaling):
    table, weight = np.array([[0.5], [-0.5], [0.1]], dtype), [1.0, 1e-300, 1e-300]
    y = np.array([1e299, -1e299, 0.0]) if estimator in REGRESSORS else [0, 1, 1]
    model = estimator(**SMALL, scale_inputs=scaling)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Training stopped at max_iter")
        model.fit(table, y, weight)
    assert np.isfinite(model.loss_)
    assert np.isfinite(outputs(model, table)).all()


@pytest.mark.parametrize("loss", LOSSES[:4])
@pytest.mark.parametrize("level", [0.1, -7.3, 1e307])
def test_a_constant_target_has_no_error_to_learn_from(loss, level):
    model = KANRegressor(**SMALL, loss=loss).fit(X, np.full(30, level))
    assert model.target_scaler_.location_ == level
    assert np.isfinite(model.loss_)


def test_a_time_limit_within_the_first_iteration_is_told():
    with pytest.warns(ConvergenceWarning, match=r"time_limit=1e-09 ended .* Raise time_limit"):
        model = KANRegressor(**SMALL, time_limit=1e-9).fit(X, Y)
    assert model.n_iter_ == 0
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    ("estimator", "scoring"),
    [
        (KANRegressor, "neg_log_loss"),
        (KANRegressor, "accuracy"),
        (KANClassifier, "neg_mean_squared_error"),
    ],
)
def test_a_score_that_does_not_suit_is_named(estimator, scoring):
    model = estimator(**SMALL, scoring=scoring, early_stopping=True)
    labels = np.where(Y > 0, "high", "low") if estimator is KANClassifier else Y
    with pytest.raises(ValueError, match=f"scoring='{scoring}' .*Choose another"):
        model.fit(X, labels)
