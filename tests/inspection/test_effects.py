"""Effects are what the model's function says, in the user's columns and units."""

import pickle
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
)
from sklearn_metakan.inspection import EffectDisplay
from sklearn_metakan.inspection import effects as effects_module

N = 300
RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "age": RNG.uniform(20, 80, N),
        "income": RNG.exponential(30, N),
        "grade": RNG.choice([1.0, 2.0, 4.0], N),
        "same": 7.0,
    }
)
Y = 0.1 * X["age"] + np.sqrt(X["income"]) * X["grade"]
SHORT = {"n_estimators": 2, "max_iter": 30, "random_state": 0}


@pytest.fixture(scope="module")
def additive():
    return MetaKANRegressor((), **SHORT).fit(X, Y)


@pytest.fixture(scope="module")
def deep():
    return MetaKANRegressor((6,), **SHORT).fit(X, Y)


@pytest.mark.parametrize("kind", ["ale", "pdp"])
def test_effects_of_an_additive_model_are_the_model(additive, kind):
    display = EffectDisplay.from_estimator(additive, X, features=[*X], kind=kind)
    total = np.zeros(N)
    for effect, name in zip(display.effects, X, strict=True):
        (points,) = effect.points
        assert effect.columns == (X.columns.get_loc(name),)
        row = X.iloc[np.zeros(len(points.values), int)].assign(**{name: points.values})
        change = additive.predict(row) - additive.predict(row)[0]
        np.testing.assert_allclose(effect.values - effect.values[0], change, atol=1e-9)
        np.testing.assert_allclose(effect.members.mean(0), effect.values, atol=1e-9)
        total += np.interp(X[name], points.values, effect.values)
    centred = additive.predict(X) - additive.predict(X).mean()
    np.testing.assert_allclose(total, centred, atol=0.02 * np.ptp(centred))  # between points
    assert display.effects[3].values == pytest.approx([0], abs=1e-9)  # the constant column
    assert display.effects[2].points[0].values.tolist() == [1, 2, 4]


def test_effects_are_centred_and_in_the_targets_units(deep):
    effect, *_ = EffectDisplay.from_estimator(deep, X, features=["age"]).effects
    values = np.interp(X["age"], effect.points[0].values, effect.values)
    assert values.mean() == pytest.approx(0, abs=1e-9)
    slope = np.polyfit(effect.points[0].values, effect.values, 1)[0]
    assert slope == pytest.approx(0.1, abs=0.03)
    assert effect.members.shape == (2, 33)


def test_accumulated_effects_by_their_definition(deep):
    """Row by row, for a column of numbers and one of few values."""
    for name in ("age", "grade"):
        (effect,) = EffectDisplay.from_estimator(deep, X, features=[name], n_points=5).effects
        z, steps = effect.points[0].values, []
        for low, high in pairwise(z):
            cell = X[(X[name] >= low if low == z[0] or name == "grade" else X[name] > low)]
            cell = cell[cell[name] <= high]
            change = deep.predict(cell.assign(**{name: high})) - deep.predict(
                cell.assign(**{name: low})
            )
            steps.append(change.mean())
        np.testing.assert_allclose(np.diff(effect.values), steps, atol=1e-9)


def test_levels_have_the_effect_of_their_functions():
    towns = RNG.choice(["Bonn", "Köln", "Trier", "Ulm"], N)
    frame = pd.DataFrame({"town": towns, "age": X["age"]})
    y = pd.Series(towns).map({"Bonn": 4.0, "Köln": 1.0, "Trier": 3.0, "Ulm": 1.5})
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["town"]), remainder="passthrough"
    )
    model = make_pipeline(columns, MetaKANRegressor((), **SHORT)).fit(frame, y)
    display = EffectDisplay.from_estimator(model, frame, features=["town", ("town", "age")])
    names = ["Bonn", "Köln", "Trier", "Ulm"]
    effect, pair = display.effects
    assert effect.points[0].values.tolist() == names
    predicted = model.predict(frame.iloc[[0] * 4].assign(town=names))
    np.testing.assert_allclose(np.diff(effect.values), np.diff(predicted), atol=1e-9)
    np.testing.assert_allclose(pair.values, 0, atol=1e-9)
    assert [each.get_text() for each in display.axes_[0].get_xticklabels()] == names
    categories = frame.astype({"town": "category"})
    (again,) = EffectDisplay.from_estimator(model, categories, features=["town"]).effects
    np.testing.assert_allclose(again.values, effect.values)


def test_a_missing_value_has_an_effect():
    frame = X.assign(age=X["age"].mask(np.arange(N) % 4 == 0))
    y = frame["age"].fillna(110.0)
    imputer = SimpleImputer(add_indicator=True)
    model = make_pipeline(imputer, MetaKANRegressor((), **SHORT | {"max_iter": 60})).fit(frame, y)
    display = EffectDisplay.from_estimator(model, frame, features=["age", "income"])
    assert display.effects[0].missing.shape == (3,)
    assert display.effects[0].missing[0] == pytest.approx(110 - frame["age"].mean(), rel=0.1)
    assert display.effects[1].missing is None
    assert np.isfinite(display.effects[0].values).all()


def test_pairs_show_what_two_columns_do_together():
    data = RNG.uniform(-1, 1, (400, 3))
    y = 2 * data[:, 0] * data[:, 1] + np.sin(3 * data[:, 0]) + data[:, 2]
    model = KANRegressor((8,), **SHORT | {"max_iter": 100}).fit(data, y)
    display = EffectDisplay.from_estimator(model, data, features=[(0, 1), (0, 2)])
    joint, none = display.effects
    a, b = (points.values for points in joint.points)
    expected = 2 * np.outer(a, b)
    assert np.abs(joint.values - expected)[joint.known].mean() < 0.15
    assert np.corrcoef(joint.values[joint.known], expected[joint.known])[0, 1] > 0.97
    assert np.abs(none.values).max() < 0.25 * np.abs(joint.values).max()


@pytest.mark.parametrize("n_values", [2, 3])
def test_pairs_of_few_values_of_a_sum_do_nothing_together(additive, n_values):
    data = X.assign(grade=np.resize([1.0, 2.0, 4.0][:n_values], N))
    display = EffectDisplay.from_estimator(
        additive, data, features=[("age", "grade"), ("grade", "same")]
    )
    for effect in display.effects:
        np.testing.assert_allclose(effect.values, 0, atol=1e-9)


def test_most_important_columns_come_first(deep):
    display = EffectDisplay.from_estimator(deep, X, max_features=3)
    assert {effect.columns[0] for effect in display.effects[:2]} == {1, 2}
    assert display.effects[2].columns == (0,)
    assert [axis.get_xlabel() for axis in display.axes_][2] == "age"
    assert len({axis.get_ylim() for axis in display.axes_}) == 1


def test_of_a_long_table_some_rows_count(deep, monkeypatch):
    monkeypatch.setattr(effects_module, "MOST_ROWS", 50)
    display = EffectDisplay.from_estimator(deep, X, features=["age"])
    assert len(display.data[0]) == 50
    assert len(display.effects[0].points[0].values) == 33


LABELS = np.array(["no", "yes"])[(X["age"] > 50).astype(int)]


def test_classes_have_effects_on_their_log_odds():
    one = KANClassifier((), **SHORT | {"n_estimators": 1}).fit(X, LABELS)
    display = EffectDisplay.from_estimator(one, X, features=["age"])
    (effect,) = display.effects
    rows = X.iloc[np.zeros(len(effect.values), int)].assign(age=effect.points[0].values)
    logits = one.decision_function(rows)
    np.testing.assert_allclose(np.diff(effect.values), np.diff(logits), atol=1e-9)
    assert display.axes_[0].get_ylabel() == "effect on log-odds of yes"
    (other,) = EffectDisplay.from_estimator(one, X, features=["age"], target="no").effects
    np.testing.assert_allclose(other.values, -effect.values)


def test_one_of_several_classes_or_outputs():
    labels = np.array(["a", "b", "c"])[np.digitize(X["age"], [40, 60])]
    model = MetaKANClassifier((4,), **SHORT).fit(X, labels)
    (up,), (down,) = (
        EffectDisplay.from_estimator(model, X, features=["age"], target=c).effects for c in "ca"
    )
    assert up.values[-1] > up.values[0] and down.values[-1] < down.values[0]
    with pytest.raises(ValueError, match=r"target must be one of the classes \['a', 'b', 'c'\]"):
        EffectDisplay.from_estimator(model, X, features=["age"])
    two = KANRegressor((), **SHORT).fit(X, np.c_[X["age"], -X["age"]])
    (up,), (down,) = (
        EffectDisplay.from_estimator(two, X, features=["age"], target=t).effects for t in (0, 1)
    )
    rows = X.iloc[[0] * len(up.values)].assign(age=up.points[0].values)
    both = np.diff([up.values, down.values], axis=1).T
    np.testing.assert_allclose(both, np.diff(two.predict(rows), axis=0), atol=1e-9)
    with pytest.raises(ValueError, match=r"target must be one of the outputs \[0, 1\]"):
        EffectDisplay.from_estimator(two, X, features=["age"])


def test_several_quantiles_have_effects():
    settings = SHORT | {"loss": "quantile", "quantile": [0.1, 0.9]}
    model, some = KANRegressor((4,), **settings).fit(X, Y), X[:200]
    display = EffectDisplay.from_estimator(model, some, features=["grade"], target=0.9, kind="pdp")
    means = [model.predict(some.assign(grade=g))[:, 1].mean() for g in (1.0, 2.0, 4.0)]
    np.testing.assert_allclose(np.diff(display.effects[0].values), np.diff(means), rtol=1e-6)
    assert display.axes_[0].get_ylabel() == "effect on output 0.9"
    with pytest.raises(ValueError, match=r"target must be one of the outputs \[0.1, 0.9\]"):
        EffectDisplay.from_estimator(model, X, features=["grade"])
    two = TransformedTargetRegressor(KANRegressor((4,), **settings), transformer=StandardScaler())
    effect, *_ = EffectDisplay.from_estimator(
        two.fit(X, Y), X, features=["grade"], target=0.1
    ).effects
    assert len(effect.members) == 2 and np.isfinite(effect.values).all()


def test_counts_have_effects_in_their_units():
    """Which are no sum of functions, though their logarithms are."""
    model = KANRegressor((), loss="poisson", **SHORT).fit(X, np.exp(X["age"] / 40))
    (effect,) = EffectDisplay.from_estimator(
        model, X, features=["age"], n_points=3, kind="pdp"
    ).effects
    means = [model.predict(X.assign(age=z)).mean() for z in effect.points[0].values]
    np.testing.assert_allclose(np.diff(effect.values), np.diff(means), rtol=0.1)
    (effect,) = EffectDisplay.from_estimator(model, X, features=["age"]).effects
    assert len(effect.values) == 33


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: GridSearchCV(model, {"max_iter": [30]}, cv=2),
        lambda model: make_pipeline(StandardScaler(), model),
        lambda model: make_pipeline("passthrough", GridSearchCV(model, {"max_iter": [30]}, cv=2)),
        lambda model: TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp),
        lambda model: TransformedTargetRegressor(
            make_pipeline(StandardScaler(), model), transformer=StandardScaler()
        ),
    ],
    ids=["search", "pipeline", "nested", "logarithm", "scaled target"],
)
def test_what_holds_an_estimator_has_effects_of_its_predictions_in_its_columns(wrap):
    model = wrap(MetaKANRegressor((), **SHORT)).fit(X, Y)
    before = pickle.dumps(model)
    display = EffectDisplay.from_estimator(model, X, features=["age", "grade"], kind="pdp")
    assert pickle.dumps(model) == before
    assert display.effects[0].points[0].values[0] == X["age"].min()
    means = [model.predict(X.assign(grade=g)).mean() for g in (1.0, 2.0, 4.0)]
    effect = display.effects[1].values
    np.testing.assert_allclose(np.diff(effect), np.diff(means), rtol=0.2)
    (ale,) = EffectDisplay.from_estimator(model, X, features=["age"]).effects
    assert len(ale.members) == 2 and np.ptp(ale.values) > 0.5 * np.ptp(display.effects[0].values)


@pytest.mark.parametrize(
    "kind", [np.asarray, pl.DataFrame, lambda frame: frame.to_numpy().tolist()]
)
def test_tables_of_every_kind(kind):
    model = MetaKANRegressor((), **SHORT).fit(kind(X), Y)
    before = pickle.dumps(model)
    display = EffectDisplay.from_estimator(model, kind(X), features=[0, (0, 2)])
    frame = MetaKANRegressor((), **SHORT).fit(X, Y)
    expected = EffectDisplay.from_estimator(frame, X, features=["age", ("age", "grade")])
    for a, b in zip(display.effects, expected.effects, strict=True):
        np.testing.assert_allclose(a.values, b.values)
    assert pickle.dumps(model) == before


def test_float32():
    model = KANRegressor((), **SHORT).fit(X.astype(np.float32), Y)
    (effect,) = EffectDisplay.from_estimator(model, X.astype(np.float32), features=["age"]).effects
    assert effect.values.dtype == np.float64 and np.isfinite(effect.values).all()


@pytest.mark.parametrize("dtype", ["category", object])
def test_text_of_every_type_with_gaps(dtype):
    text = np.where(np.arange(N) % 5 == 0, None, np.resize(["a", "b", "c"], N))
    frame = pd.DataFrame(
        {"text": pd.Series(text, dtype=dtype), "count": pd.array([1, None, 3] * 100)}
    )
    encoder = OneHotEncoder(sparse_output=False)
    columns = make_column_transformer((encoder, ["text"]), (SimpleImputer(), ["count"]))
    model = make_pipeline(columns, KANRegressor((), **SHORT)).fit(frame, Y)
    text, count = EffectDisplay.from_estimator(model, frame, features=["text", "count"]).effects
    assert text.points[0].values.tolist() == ["a", "b", "c"] and len(text.missing) == 3
    assert count.points[0].values.tolist() == [1, 3] and len(count.missing) == 3


def test_numbers_among_objects_are_numbers_and_text_is_text():
    frame = pd.DataFrame({"a": X["age"].astype(object), "b": np.resize(["1", "nan", "2"], N)})
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(sparse_output=False), ["b"]), remainder="passthrough"
        ),
        KANRegressor((), **SHORT),
    )
    number, text = EffectDisplay.from_estimator(
        model.fit(frame, Y), frame, features=["a", "b"]
    ).effects
    assert number.points[0].is_number and len(number.values) == 33
    assert text.points[0].values.tolist() == ["1", "2", "nan"] and text.missing is None


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"features": ["aeg"]}, r"no column 'aeg'. Did you mean 'age'\? The columns are 'age', "),
        ({"features": [9]}, "no column 9; columns have numbers below 4"),
        ({"features": []}, "features must be a list of columns or pairs, at least one"),
        ({"features": "age"}, "features must be a list of columns or pairs"),
        ({"features": [("age", "age")]}, "features must be columns or pairs of two"),
        ({"features": [("age", "same", "grade")]}, "features must be columns or pairs of two"),
        ({"kind": "shap"}, "kind must be 'ale' or 'pdp'"),
        ({"max_features": 0}, "max_features"),
        ({"n_points": 1}, "n_points"),
        ({"target": 1}, "target"),
        ({"ax": []}, "one Axes for each of the 4 plots"),
    ],
    ids=str,
)
def test_wrong_options_are_named(additive, options, rule):
    with pytest.raises(ValueError, match=rule):
        EffectDisplay.from_estimator(additive, X, **options)


def test_wrong_estimators_and_tables_are_named(additive, monkeypatch):
    images = KANImageClassifier((2,), max_iter=1)
    images.fit(np.zeros((4, 6, 6)) + np.arange(4)[:, None, None], [0, 1, 0, 1])
    for model in (LinearRegression().fit(X, Y), images, additive.module_):
        with pytest.raises(TypeError, match="KAN"):
            EffectDisplay.from_estimator(model, X)
    with pytest.raises(NotFittedError):
        EffectDisplay.from_estimator(KANRegressor(), X)
    with pytest.raises(ValueError, match=r"X must be a table.*X\[:1\]"):
        EffectDisplay.from_estimator(additive, X.to_numpy()[0])
    with pytest.raises(ValueError, match="at least one row"):
        EffectDisplay.from_estimator(additive, X[:0])
    with pytest.raises(ValueError, match="feature names should match"):
        EffectDisplay.from_estimator(additive, X[["age"]])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"EffectDisplay requires matplotlib"):
        EffectDisplay.from_estimator(additive, X)
