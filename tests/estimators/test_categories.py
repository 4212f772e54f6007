"""Categories are levels, from frames of every library, and in every call."""

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
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import sklearn_metakan
from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

N = 240
RNG = np.random.default_rng(0)
CITY = RNG.choice(["Oslo", "Rome", "Paris"], N, p=[0.5, 0.3, 0.2])
EFFECT = {"Oslo": -1.0, "Rome": 1.5, "Paris": 0.0}
HEIGHT, GAP = RNG.normal(size=N), RNG.random(N) < 0.2
Y = np.sin(2 * HEIGHT) + np.array([EFFECT[city] for city in CITY])
Y = np.where(GAP, 3.0, Y)
LABELS = np.select([Y < 0, Y < 1.5], ["low", "middle"], "high")
CITIES = np.where(GAP, None, CITY)
COLUMNS = {"height": HEIGHT, "city": CITIES, "member": RNG.random(N) < 0.5}
FRAME = pd.DataFrame(COLUMNS)

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
def test_levels_and_their_gap_are_learned(estimator, n_estimators):
    model = estimator((8,), n_estimators=n_estimators, max_iter=80, random_state=0)
    assert model.fit(FRAME, target_of(estimator)).score(FRAME, target_of(estimator)) > 0.93
    height, city, member = model.feature_importances_
    assert city > height > 5 * member


def frames():
    columns = {name: list(values) for name, values in COLUMNS.items()}
    arrow = pa.table(columns)
    dictionary = arrow.set_column(1, "city", arrow["city"].dictionary_encode())
    polars = pl.DataFrame(columns, strict=False)
    levels = pl.Enum(["Oslo", "Paris", "Rome"])
    return {
        "text": FRAME.convert_dtypes(),
        "category": FRAME.astype({"city": "category"}),
        "Arrow in pandas": FRAME.convert_dtypes(dtype_backend="pyarrow"),
        "NaN": FRAME.assign(city=FRAME["city"].where(~GAP, np.nan)),
        "NA": FRAME.assign(city=FRAME["city"].where(~GAP, pd.NA)),
        "polars": polars,
        "polars Categorical": polars.cast({"city": pl.Categorical}),
        "polars Enum": polars.cast({"city": levels}),
        "pyarrow": arrow,
        "dictionary": dictionary,
        "by the Arrow interface": OfArrow(arrow),
    }


class OfArrow:
    """A frame of a library that nobody knows, but for the interface."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class Interchanged:
    def __init__(self, table):
        self.table = table

    def __dataframe__(self, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas calls the protocol deprecated
            return self.table.__dataframe__(*args, **kwargs)


@pytest.mark.parametrize("kind", frames())
def test_frames_of_every_library_are_alike(kind):
    table = frames()[kind]
    expected = KANRegressor(**FEW).fit(FRAME, Y)
    model = KANRegressor(**FEW).fit(table, Y)
    np.testing.assert_array_equal(model.predict(table), expected.predict(FRAME))
    np.testing.assert_array_equal(expected.predict(table), expected.predict(FRAME))
    assert model.feature_names_in_.tolist() == [*COLUMNS]
    found = {j: levels.tolist() for j, levels in model.categories_.items()}
    assert found == {1: ["Oslo", "Paris", "Rome"], 2: [False, True]}


def test_frames_of_the_interchange_protocol():
    table = pd.DataFrame({"height": HEIGHT, "city": CITY})
    expected = KANRegressor(**FEW).fit(table, Y).predict(table)
    shown = Interchanged(table)
    found = KANRegressor(**FEW).fit(shown, Y).predict(shown)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "wanted",
    [
        ["city", "member"],
        np.array(["city", "member"]),
        [1, 2],
        [False, True, True],
        np.array([False, True, True]),
        "from_dtype",
    ],
    ids=repr,
)
def test_columns_are_named_in_four_ways(wanted):
    model = KANRegressor(**FEW, categorical_features=wanted).fit(FRAME, Y)
    expected = KANRegressor(**FEW).fit(FRAME, Y)
    np.testing.assert_array_equal(model.predict(FRAME), expected.predict(FRAME))
    assert np.array_equal(clone(model).categorical_features, wanted)
    if not isinstance(wanted[0], str):
        array = FRAME.to_numpy()
        np.testing.assert_array_equal(
            clone(model).fit(array, Y).predict(array), model.predict(FRAME)
        )


def test_numbers_may_be_categories():
    digits = RNG.integers(5, size=N)
    table = np.c_[HEIGHT, digits]
    model = KANRegressor((8,), max_iter=60, categorical_features=[1], random_state=0)
    y = HEIGHT + np.array([3.0, -2.0, 0.0, 5.0, 1.0])[digits]
    assert model.fit(table, y).score(table, y) > 0.95
    assert model.categories_[1].tolist() == [0, 1, 2, 3, 4]
    frame = pd.DataFrame({"height": HEIGHT, "digit": pd.Categorical(digits)})
    np.testing.assert_allclose(clone(model).set_params(categorical_features="from_dtype")
                               .fit(frame, y).predict(frame), model.predict(table))  # fmt: skip


@each_regressor
def test_what_training_did_not_see_is_the_mean_of_the_column(estimator):
    whole = FRAME[~GAP]
    model = estimator((), n_estimators=2, max_iter=40, random_state=0).fit(whole, Y[~GAP])
    shares = whole["city"].value_counts(normalize=True)
    few = whole[:6]
    mean = sum(share * model.predict(few.assign(city=city)) for city, share in shares.items())
    for unknown in ("Lima", None, np.nan, 7):
        found = model.predict(few.assign(city=unknown))
        np.testing.assert_allclose(found, mean, rtol=1e-6)  # of an additive model


def test_levels_below_the_least_frequency_share_one_with_unknown_ones():
    city = CITY.astype(object)
    city[:3], city[3:5] = "Lima", "Bern"
    frame = FRAME.assign(city=city)
    for least in (10, 0.04):
        model = KANRegressor(**FEW, min_frequency=least).fit(frame, Y)
        of_lima, *others = (model.predict(frame.assign(city=c)) for c in ("Lima", "Bern", "new"))
        for other in others:
            np.testing.assert_array_equal(other, of_lima)
        assert "Lima" in model.categories_[1]
    own = KANRegressor(**FEW).fit(frame, Y)
    assert (own.predict(frame.assign(city="Lima")) != own.predict(frame.assign(city="Bern"))).any()


def test_columns_that_say_nothing():
    table = FRAME.assign(one="x", empty=None, name=[f"row {i}" for i in range(N)])
    table["empty"] = table["empty"].astype("string")
    model = KANRegressor(**FEW, min_frequency=2).fit(table, Y)
    assert model.input_scaler_.kept_.tolist() == [0, 1, 2]
    expected = KANRegressor(**FEW, min_frequency=2).fit(FRAME, Y).predict(FRAME)
    np.testing.assert_array_equal(model.predict(table), expected)
    assert model.feature_importances_[3:].tolist() == [0, 0, 0]


@each_estimator
def test_tables_of_categories_alone(estimator):
    table = FRAME[["city", "member"]]
    model = estimator(**FEW | {"max_iter": 60}).fit(table, target_of(estimator))
    assert model.score(table, target_of(estimator)) > 0.5
    assert np.isfinite(outputs(model, table.assign(city="new", member=None))).all()


@pytest.mark.parametrize(
    "estimator", [pytest.param(e, marks=pytest.mark.slow) for e in ALL[:2]] + ALL[2:]
)
def test_many_levels_are_generated(estimator):
    n, levels = 1200, 300
    name, effect = RNG.integers(levels, size=n), RNG.normal(size=levels)
    y = effect[name]
    y = y if estimator in REGRESSORS else np.where(y > 0, "high", "low")
    table = pd.DataFrame({"name": [f"n{i}" for i in name], "noise": RNG.normal(size=n)})
    model = estimator((8,), n_estimators=2, max_iter=100, random_state=0).fit(table, y)
    module = model.module_.layers[0].levels
    assert module.prompts.shape == (len(model.categories_[0]), 4) and module.table is None
    assert model.score(table, y) > 0.8
    assert model.feature_importances_[0] > 0.8
    with_unknown = table.assign(name="unknown")
    assert np.ptp(outputs(model, with_unknown.assign(noise=0.0)), axis=0).max() == 0


def test_text_where_training_had_numbers_is_an_error():
    model = KANRegressor(**FEW).fit(FRAME, Y)
    with pytest.raises(
        ValueError, match=r"column 'height'.*In training these columns held numbers"
    ):
        model.predict(FRAME.assign(height="tall"))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(FRAME.rename(columns={"city": "town"}))
    with pytest.raises(ValueError, match="member"):
        model.predict(FRAME[["height", "city"]])
    with pytest.raises(ValueError, match="2 features"), pytest.warns(UserWarning, match="names"):
        model.predict(FRAME[["height", "city"]].to_numpy())


@each_estimator
def test_pickles_copies_files_and_the_torch_module_agree(estimator, tmp_path):
    model = estimator(**FEW).fit(FRAME, target_of(estimator))
    table = FRAME.copy()
    table.loc[::4, "city"] = "Lima"
    expected = outputs(model, table)
    model.save(tmp_path / "model")
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        sklearn_metakan.load(tmp_path / "model"),
    ):
        np.testing.assert_array_equal(outputs(other, table), expected)
        assert other.categories_[1].tolist() == ["Oslo", "Paris", "Rome"]
    positions = {city: float(i) for i, city in enumerate(model.categories_[1])}
    city = table["city"].map(positions).fillna(-1.0).mask(table["city"].isna())
    raw = torch.tensor(np.c_[HEIGHT, city, table["member"]].astype(float))
    found = model.to_torch()(raw).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@each_estimator
def test_partial_fit_and_warm_start_keep_the_first_levels(estimator):
    y = target_of(estimator)
    extra = {"classes": np.unique(y)} if y is LABELS else {}
    model = estimator(**FEW).partial_fit(FRAME[:120], y[:120], **extra)
    later = FRAME[120:].assign(city="Lima", height=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(later, y[120:])
    assert model.categories_[1].tolist() == ["Oslo", "Paris", "Rome"]
    assert np.isfinite(outputs(model, later)).all()
    model = estimator(**FEW, warm_start=True).fit(FRAME, y)
    before = model.loss_
    assert model.set_params(max_iter=30, grid_size=10).fit(FRAME, y).loss_ < before


def test_validation_rows_with_levels_that_training_had_not():
    table = FRAME[:40].assign(city="Lima")
    model = KANRegressor(**FEW).fit(FRAME[40:], Y[40:], X_val=table, y_val=Y[:40])
    assert np.isfinite(model.validation_scores_).all()


def test_weights_count_as_repeated_rows():
    exact = {"solver": "lbfgs", "hidden_layer_sizes": (3,), "max_iter": 15, "random_state": 0}
    exact |= {"n_estimators": 1, "weight_decay": 1e-4, "min_frequency": 6}
    weight = RNG.integers(3, size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighted = KANRegressor(**exact).fit(FRAME[:60], Y[:60], weight)
        rows = np.repeat(np.arange(60), weight)
        repeated = KANRegressor(**exact).fit(FRAME.iloc[rows], Y[rows])
    for one, other in zip(
        weighted.input_scaler_.code_counts_, repeated.input_scaler_.code_counts_, strict=True
    ):
        np.testing.assert_allclose(one, other)
    np.testing.assert_allclose(
        weighted.predict(FRAME), repeated.predict(FRAME), rtol=1e-5, atol=1e-6
    )


def test_in_pipelines_and_searches():
    grid = {"min_frequency": [None, 5]}
    search = GridSearchCV(KANRegressor(**FEW), grid, cv=2).fit(FRAME, Y)
    assert np.isfinite(search.best_estimator_.predict(FRAME)).all()
    assert np.isfinite(cross_val_score(KANClassifier(**FEW), FRAME, LABELS, cv=2)).all()
    columns = make_column_transformer(
        (SimpleImputer(strategy="most_frequent"), ["city"]), remainder="passthrough"
    ).set_output(transform="pandas")
    pipe = make_pipeline(columns, KANRegressor(**FEW)).fit(FRAME, Y)
    assert np.isfinite(pipe.predict(FRAME)).all()
    assert [*pipe[-1].categories_] == [0, 2]


@each_regressor
def test_no_worse_than_behind_one_hot_columns(estimator):
    options = {"hidden_layer_sizes": (8,), "n_estimators": 2, "max_iter": 60, "random_state": 0}
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city", "member"]), remainder="passthrough"
    )
    half = N // 2
    model, behind = estimator(**options), make_pipeline(encoder, estimator(**options))
    errors = [
        np.mean((each.fit(FRAME[:half], Y[:half]).predict(FRAME[half:]) - Y[half:]) ** 2)
        for each in (model, behind)
    ]
    assert errors[0] < 1.2 * errors[1] and errors[0] < 0.15 * Y.var()
