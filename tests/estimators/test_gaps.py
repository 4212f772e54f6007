"""Missing numbers are a level of their own, wherever they come from, and in every call."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

N = 240
RNG = np.random.default_rng(0)
WHOLE = RNG.normal(size=(N, 3))
MISSING = RNG.random(N) < 0.3
X = WHOLE.copy()
X[MISSING, 1] = np.nan
Y = np.sin(2 * X[:, 0]) + np.where(MISSING, 2.0, 0.5 * WHOLE[:, 1])
LABELS = np.select([Y < 0, Y < 1.5], ["low", "middle"], "high")
NAMES = ["age", "height", "weight"]
FRAME = pd.DataFrame(X, columns=NAMES)

REGRESSORS = [KANRegressor, MetaKANRegressor]
ALL = [*REGRESSORS, KANClassifier, MetaKANClassifier]
each_estimator = pytest.mark.parametrize("estimator", ALL)
each_regressor = pytest.mark.parametrize("estimator", REGRESSORS)
FEW = {"hidden_layer_sizes": (8,), "n_estimators": 2, "max_iter": 3, "random_state": 0}


def target_of(estimator):
    return Y if estimator in REGRESSORS else LABELS


def outputs(model, table):
    return getattr(model, "predict_proba", model.predict)(table)


@pytest.mark.parametrize("n_estimators", [1, 3])
@each_estimator
def test_a_gap_is_learned(estimator, n_estimators):
    model = estimator((8,), n_estimators=n_estimators, max_iter=80, random_state=0)
    assert model.fit(X, target_of(estimator)).score(X, target_of(estimator)) > 0.9
    assert model.feature_importances_[1] > model.feature_importances_[2] >= 0


def frames():
    """The same gaps in the columns of every library and type."""
    nullable, objects = FRAME.convert_dtypes(), FRAME.astype(object)
    objects.loc[MISSING, "height"] = None
    with_na = objects.copy()
    with_na.loc[MISSING, "height"] = pd.NA
    columns = {name: [None if v != v else v for v in FRAME[name]] for name in NAMES}
    return {
        "nullable": nullable,
        "None": objects,
        "NA": with_na,
        "Arrow in pandas": FRAME.convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.DataFrame(columns),
        "polars NaN": pl.DataFrame({name: FRAME[name].to_numpy() for name in NAMES}),
        "pyarrow": pa.table(columns),
        "array of objects": objects.to_numpy(),
        "lists": objects.to_numpy().tolist(),
        "masked": np.ma.masked_array(np.where(np.isnan(X), 7.0, X), np.isnan(X)),
        "tensor": torch.from_numpy(X),
    }


@pytest.mark.parametrize("kind", frames())
def test_gaps_of_every_kind_are_alike(kind):
    table = frames()[kind]
    expected = KANRegressor(**FEW).fit(X, Y).predict(X)
    model = KANRegressor(**FEW).fit(table, Y)
    np.testing.assert_array_equal(model.predict(table), expected)
    assert hasattr(model, "feature_names_in_") == hasattr(table, "columns")


def test_whole_numbers_with_gaps_of_every_kind():
    counts = pd.Series(RNG.integers(9, size=N))
    expected = KANRegressor(**FEW).fit(counts.mask(MISSING).to_frame("c"), Y)
    for dtype in ("Int64", "Float32", "int32[pyarrow]"):
        table = counts.astype(dtype).mask(MISSING).to_frame("c")
        found = KANRegressor(**FEW).fit(table, Y).predict(table)
        assert found.shape == (N,) and np.isfinite(found).all()
        if dtype != "Float32":
            np.testing.assert_array_equal(found, expected.predict(table.astype("Float64")))


@each_regressor
def test_where_training_had_none_a_gap_is_the_mean_of_the_column(estimator):
    model = estimator((), n_estimators=2, max_iter=40, random_state=0).fit(WHOLE, Y)
    few, gaps = WHOLE[:5], WHOLE[:5].copy()
    gaps[:, 1] = np.nan
    values = []
    for value in WHOLE[:, 1]:
        table = few.copy()
        table[:, 1] = value
        values.append(model.predict(table))
    mean = np.mean(values, axis=0)  # of an additive model
    np.testing.assert_allclose(model.predict(gaps), mean, atol=0.02 * Y.std())
    np.testing.assert_array_equal(model.predict(WHOLE), model.predict(WHOLE.copy()))


@each_estimator
def test_all_gaps_in_a_row_and_in_a_table(estimator):
    model = estimator(**FEW).fit(WHOLE, target_of(estimator))
    for rows in (1, 3):
        assert np.isfinite(outputs(model, np.full((rows, 3), np.nan))).all()


@pytest.mark.parametrize("scale_inputs", ["auto", "minmax", "standard", "quantile", None])
@pytest.mark.parametrize("knots", ["uniform", "quantile"])
def test_empty_columns_and_constants_beside_gaps(scale_inputs, knots):
    flag = np.where(MISSING, np.nan, 7.0)
    table = np.c_[X[:, 0], np.full(N, np.nan), flag, np.full(N, 5.0)]
    model = KANRegressor(**FEW | {"max_iter": 60}, scale_inputs=scale_inputs, knots=knots)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(table, Y)
    assert model.input_scaler_.kept_.tolist() == [0, 2]
    assert model.score(table, Y) > 0.5
    moved = table.copy()
    moved[:, 1] = moved[:, 3] = 3.0
    np.testing.assert_array_equal(model.predict(moved), model.predict(table))


def test_nothing_but_gaps_is_a_constant():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KANRegressor(**FEW).fit(np.full((N, 2), np.nan), Y)
    assert np.ptp(model.predict(np.r_[X[:, :2], np.full((1, 2), np.nan)])) == 0


@each_estimator
def test_infinity_beside_gaps_is_an_error(estimator):
    table = X.copy()
    table[5, 2] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*column 2 \(1 rows\)"):
        estimator(**FEW).fit(table, target_of(estimator))


def test_the_scaling_looks_at_what_is_there():
    some = KANRegressor(**FEW).fit(X, Y).input_scaler_
    alone = KANRegressor(**FEW).fit(X[~MISSING], Y[~MISSING]).input_scaler_
    np.testing.assert_allclose(some.points_[1], alone.points_[1])
    np.testing.assert_array_equal(some.ranges_[:, 1], alone.ranges_[:, 1])
    quantiles = some.quantiles_[:, 1]
    np.testing.assert_allclose(np.isnan(quantiles).mean(), MISSING.mean(), atol=1 / 129)


def test_weights_count_as_repeated_rows():
    exact = {"solver": "lbfgs", "hidden_layer_sizes": (3,), "max_iter": 15, "random_state": 0}
    exact |= {"n_estimators": 1, "weight_decay": 1e-4}
    weight = RNG.integers(3, size=60)
    for knots in ("uniform", "quantile"):
        model = KANRegressor(**exact, knots=knots)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weighted = clone(model).fit(X[:60], Y[:60], weight)
            repeated = clone(model).fit(np.repeat(X[:60], weight, 0), np.repeat(Y[:60], weight))
        np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weighted.input_scaler_.gaps_, repeated.input_scaler_.gaps_)


@each_estimator
def test_pickles_copies_and_the_torch_module_agree(estimator):
    model = estimator(**FEW).fit(X, target_of(estimator))
    table = X.copy()
    table[::3, 0] = np.nan  # which training did not see
    expected = outputs(model, table)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(outputs(other, table), expected)
    found = model.to_torch()(torch.from_numpy(table)).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@each_estimator
def test_float32_and_chunks(estimator):
    model = estimator(**FEW).fit(X, target_of(estimator))
    table = X.copy()
    table[::3, 0] = np.nan
    expected = outputs(model, table)
    model.set_params(working_memory=0.05)
    np.testing.assert_allclose(outputs(model, table), expected, rtol=1e-9)
    single = estimator(**FEW).fit(X.astype(np.float32), target_of(estimator))
    found = outputs(single, table.astype(np.float32))
    assert found.dtype == np.float32 and np.isfinite(found).all()


@each_estimator
def test_partial_fit_and_warm_start(estimator):
    y = target_of(estimator)
    model = estimator(**FEW)
    extra = {"classes": np.unique(y)} if y is LABELS else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a loss that is not finite
        model.partial_fit(WHOLE[:100], y[:100], **extra).partial_fit(X[100:], y[100:])
    assert np.isfinite(outputs(model, X)).all()
    model = estimator(**FEW, warm_start=True).fit(X, y)
    before = model.loss_
    assert model.set_params(max_iter=30, grid_size=10).fit(X, y).loss_ < before


def test_validation_rows_with_gaps_that_training_had_not():
    table = X[:40].copy()
    table[0, 0] = np.nan
    model = KANRegressor(**FEW).fit(X[40:], Y[40:], X_val=table, y_val=Y[:40])
    assert np.isfinite(model.validation_scores_).all()


def test_in_a_pipeline_and_a_search():
    pipe = make_pipeline(StandardScaler(), KANRegressor(**FEW)).fit(FRAME, Y)
    assert np.isfinite(pipe.predict(FRAME)).all()
    search = GridSearchCV(KANRegressor(**FEW), {"grid_size": [3, 5]}, cv=2).fit(FRAME, Y)
    assert np.isfinite(search.best_estimator_.predict(FRAME)).all()
    both = KANRegressor(**FEW).fit(FRAME, np.c_[Y, -Y])
    assert both.predict(FRAME).shape == (N, 2)


def test_tables_without_gaps_have_the_network_they_had():
    model = KANRegressor(**FEW).fit(WHOLE, Y)
    assert model.module_.layers[0].levels is None
    assert model.n_parameters_ == 2 * (3 * 8 + 8) * 9


def test_extrapolation_error_lets_gaps_pass():
    model = KANRegressor(**FEW, extrapolation="error", early_stopping=False).fit(X, Y)
    assert np.isfinite(model.predict(np.full((2, 3), np.nan))).all()
    with pytest.raises(ValueError, match=r"beyond|outside"):
        model.predict(X + 100)


def test_tags():
    tags = KANRegressor().__sklearn_tags__()
    assert tags.input_tags.allow_nan and tags.input_tags.categorical
