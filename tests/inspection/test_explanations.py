"""Contributions sum to the prediction, and are Shapley values."""

import pickle
from itertools import permutations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.inspection import EffectDisplay, Explanation, explain
from sklearn_metakan.inspection import explanations as module
from sklearn_metakan.inspection.shapley import by_enumeration, by_orders, of_sum

N = 120
RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "age": RNG.uniform(20, 80, N),
        "income": RNG.exponential(30, N),
        "grade": RNG.choice([1.0, 2.0, 4.0], N),
        "same": 7.0,
    },
    index=np.arange(N) + 1000,
)
Y = 0.1 * X["age"] + np.sqrt(X["income"]) * X["grade"]
SHORT = {"n_estimators": 2, "max_iter": 20, "random_state": 0}
ROWS = X[:5]


def sums(explanation):
    return explanation.base_value + explanation.values.sum(1)


@pytest.fixture(scope="module")
def deep():
    return MetaKANRegressor((6,), **SHORT).fit(X, Y)


@pytest.mark.parametrize("way", ["one order", "more orders", "all sets"])
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_contributions_sum_to_the_prediction(hidden, way, monkeypatch):
    if way != "all sets":
        monkeypatch.setattr(module, "MOST_ENUMERATED", 0)
    budget = 1 if way == "one order" else 3000
    model = MetaKANRegressor(hidden, **SHORT).fit(X, Y)
    before = pickle.dumps(model)
    found = explain(model, ROWS, X, max_evaluations=budget)
    assert pickle.dumps(model) == before
    np.testing.assert_allclose(sums(found), model.predict(ROWS), atol=1e-6, rtol=0)
    assert found.values.shape == found.standard_errors.shape == (5, 4)
    assert (found.standard_errors[:, :3] > 0).all() == (hidden != () and way != "all sets")
    np.testing.assert_allclose(found.values[:, 3], 0, atol=1e-9)  # the constant column


def test_those_of_an_additive_model_are_its_functions():
    model = KANRegressor((), **SHORT).fit(X, Y)
    found = explain(model, X)
    (effect,) = EffectDisplay.from_estimator(model, X, features=["age"], n_points=500).effects
    curve = np.interp(X["age"], effect.points[0].values, effect.values)
    contributions = found.values[:, 0]
    np.testing.assert_allclose(contributions - contributions.mean(), curve, atol=1e-9)


def test_all_ways_give_the_contributions_of_a_sum():
    table, background = RNG.normal(size=(40, 5)), np.arange(10, 40)

    def answer(index):
        x = np.take_along_axis(table, index, 0)
        return np.stack([np.sin(x).sum(1), (x * x)[:, 1:].sum(1)], axis=1)

    rows, d = np.arange(10), 5
    expected = of_sum(answer, rows, background, d)
    np.testing.assert_allclose(by_enumeration(answer, rows, background, d), expected, atol=1e-12)
    rng = np.random.default_rng(0)
    for n_pairs in (1, 3):
        values, errors = by_orders(answer, rows, background, d, n_pairs, rng)
        np.testing.assert_allclose(values, expected, atol=1e-12)
        assert n_pairs == 1 or errors.max() < 1e-12


def interacting():
    """A function of four columns, and its Shapley values by their definition."""
    table, background, d = RNG.normal(size=(26, 4)), np.arange(6, 26), 4

    def answer(index):
        x = np.take_along_axis(table, index, 0)
        return (np.exp(x[:, 0] - x[:, 1] / 2 + x[:, 2] / 3 - x[:, 3]) + x[:, 0])[:, None]

    rows = np.arange(6)
    expected = np.zeros((6, 4, 1))
    for order in permutations(range(d)):
        index = np.repeat(background[None], 6, 0)[..., None] + np.zeros(d, int)
        for j in order:
            before = answer(index.reshape(-1, d)).reshape(6, -1).mean(1)
            index[..., j] = rows[:, None]
            after = answer(index.reshape(-1, d)).reshape(6, -1).mean(1)
            expected[:, j, 0] += (after - before) / 24
    return answer, rows, background, d, expected


def test_enumeration_is_the_mean_over_all_orders():
    answer, rows, background, d, expected = interacting()
    np.testing.assert_allclose(by_enumeration(answer, rows, background, d), expected, atol=1e-12)


def test_estimates_are_within_their_standard_errors():
    answer, rows, background, d, expected = interacting()
    off = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values, errors = by_orders(answer, rows, background, d, 3, rng)
        off.append((values - expected) / errors)
    off = np.array(off)
    assert 0.8 < np.sqrt(np.square(off).mean()) < 1.25  # of the size that is told
    assert np.abs(off.mean(0)).max() < 1.2  # and without bias: 5 deviations of a mean of 20


def test_classifiers_are_explained_in_log_odds():
    labels = np.array(["no", "yes"])[(X["age"] > 50).astype(int)]
    model = MetaKANClassifier((4,), **SHORT).fit(X, labels)
    found = explain(model, ROWS, X)
    np.testing.assert_allclose(sums(found), model.decision_function(ROWS), atol=1e-6)
    assert (found.what, found.outputs) == ("log-odds of yes", ["yes"])
    additive = KANClassifier((), **SHORT).fit(X, labels)  # members' mean is no sum any more
    found = explain(additive, ROWS, X)
    np.testing.assert_allclose(sums(found), additive.decision_function(ROWS), atol=1e-6)


def test_several_classes_and_outputs():
    labels = np.array(["a", "b", "c"])[np.digitize(X["age"], [40, 60])]
    model = KANClassifier((4,), **SHORT).fit(X, labels)
    found = explain(model, ROWS, X)
    assert found.values.shape == (5, 4, 3) and found.outputs == ["a", "b", "c"]
    np.testing.assert_allclose(sums(found), model.decision_function(ROWS), atol=1e-6)
    np.testing.assert_array_equal(found.to_frame("b").to_numpy(), found.values[..., 1])
    assert repr(found).startswith("Explanation of score: 5 x 4 contributions about [")
    assert "score of c" in found.plot(1, target="c").axes_.get_title()
    for wrong in (None, "z"):
        with pytest.raises(ValueError, match=r"target must be one of \['a', 'b', 'c'\]"):
            found.plot(0, target=wrong)
    two = KANRegressor((4,), **SHORT).fit(X, np.c_[X["age"], Y])
    found = explain(two, ROWS, X)
    np.testing.assert_allclose(sums(found), two.predict(ROWS), atol=1e-6)
    assert found.to_frame(1).shape == (5, 4)


def test_several_quantiles():
    settings = SHORT | {"loss": "quantile", "quantile": [0.1, 0.5, 0.9]}
    model = KANRegressor((4,), **settings).fit(X, Y)
    found = explain(model, ROWS, X)
    assert found.outputs == [0.1, 0.5, 0.9]
    np.testing.assert_allclose(sums(found), model.predict(ROWS), atol=1e-6)
    two = KANRegressor((4,), **settings).fit(X, np.c_[X["age"], Y])
    found = explain(two, ROWS, X)
    assert found.outputs[:4] == [(0, 0.1), (0, 0.5), (0, 0.9), (1, 0.1)]
    np.testing.assert_allclose(sums(found), two.predict(ROWS).reshape(5, 6), atol=1e-6)


TOWNS = RNG.choice(["Bonn", "Köln", "Trier"], N)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_pipeline(
            make_column_transformer(
                (OneHotEncoder(sparse_output=False), ["town"]), remainder="passthrough"
            ),
            model,
        ),
        lambda model: GridSearchCV(
            make_pipeline(
                make_column_transformer(
                    (OneHotEncoder(sparse_output=False), ["town"]), remainder=StandardScaler()
                ),
                TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp),
            ),
            {"transformedtargetregressor__regressor__max_iter": [20]},
            cv=2,
        ),
    ],
    ids=["pipeline", "nested"],
)
def test_columns_are_those_of_the_table_before_any_step(wrap):
    table = X.assign(town=TOWNS)
    y = Y + 5 * (TOWNS == "Köln")
    model = wrap(MetaKANRegressor((6,), **SHORT)).fit(table, y)
    found = explain(model, table[:3], table, max_evaluations=1000)
    np.testing.assert_allclose(sums(found), model.predict(table[:3]), atol=1e-6)
    assert found.names == [*table]


def test_numbers_stand_beyond_bars_and_errors():
    row = {
        "data": pd.DataFrame([[1, 2]]),
        "names": ["a", "b"],
        "outputs": [0],
        "what": "prediction",
    }
    errors = np.array([[0.5, 0.3]])
    axes = Explanation(np.array([[1.0, -2.0]]), 0.0, errors, **row).plot(0).axes_
    right = {round(text.xy[1]): text.xy[0] for text in axes.texts}
    assert right == {0: 0.0, 1: -0.5}  # from 0 to -2 +- 0.3, from there to -1 +- 0.5


@pytest.mark.parametrize("kind", [np.asarray, pl.DataFrame])
def test_tables_of_every_kind(kind, deep):
    model = MetaKANRegressor((6,), **SHORT).fit(kind(X), Y)
    found = explain(model, kind(ROWS), kind(X))
    np.testing.assert_allclose(found.values, explain(deep, ROWS, X).values)
    assert found.to_frame().shape == (5, 4)
    with pytest.raises(ValueError, match="background must be a table like X"):
        explain(model, kind(ROWS), kind(X[["age", "income"]]))


def test_float32():
    model = KANRegressor((4,), **SHORT).fit(X.astype(np.float32), Y)
    found = explain(model, ROWS.astype(np.float32), X.astype(np.float32))
    np.testing.assert_allclose(sums(found), model.predict(ROWS.astype(np.float32)), atol=1e-6)


def test_the_background_is_drawn_by_the_seed(deep, monkeypatch):
    a, b, c = (explain(deep, ROWS, X, random_state=seed).values for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    monkeypatch.setattr(module, "MOST_BACKGROUND", N)
    found = explain(deep, ROWS, X)
    assert found.base_value == pytest.approx(deep.predict(X).mean())


def test_frames_keep_rows_and_columns(deep):
    frame = explain(deep, ROWS, X).to_frame()
    assert [*frame] == [*X] and frame.index.equals(ROWS.index)


def test_a_waterfall_leads_from_the_base_to_the_prediction(deep):
    found = explain(deep, ROWS, X)
    _, axis = plt.subplots()
    assert found.plot(2, ax=axis) is found and found.axes_ is axis
    bars = axis.patches
    assert len(bars) == 4
    assert bars[0].get_x() == pytest.approx(found.base_value)
    widths = [bar.get_width() for bar in bars]
    assert found.base_value + sum(widths) == pytest.approx(deep.predict(ROWS)[2])
    labels = [each.get_text() for each in axis.get_yticklabels()]
    assert f"grade = {ROWS['grade'].iloc[2]:g}" in labels
    few = found.plot(-1, max_features=2).axes_
    assert [each.get_text() for each in few.get_yticklabels()][1] == "3 other columns"
    assert sum(bar.get_width() for bar in few.patches) == pytest.approx(found.values[-1].sum())


def test_wrong_input_is_named(deep):
    with pytest.raises(ValueError, match="background="):
        explain(deep, X[:1])
    with pytest.raises(ValueError, match="max_evaluations"):
        explain(deep, X, max_evaluations=0)
    with pytest.raises(ValueError, match="background must be a table like X: a DataFrame with"):
        explain(deep, ROWS, X.to_numpy())
    with pytest.raises(TypeError, match="KAN"):
        explain(StandardScaler().fit(X), X)
    found = explain(deep, ROWS, X)
    for row in (5, -6, 0.5):
        with pytest.raises(ValueError, match="row must be a whole number from -5 to 4"):
            found.plot(row)
    with pytest.raises(ValueError, match="max_features"):
        found.plot(0, max_features=0)
