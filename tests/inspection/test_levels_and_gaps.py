"""Tables as they come: categories and gaps in every view."""

import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor
from sklearn_metakan.estimators import network_inputs
from sklearn_metakan.inspection import (
    EdgeDisplay,
    EffectDisplay,
    NetworkDisplay,
    edge_importances,
    explain,
)

N = 300
RNG = np.random.default_rng(0)
TOWNS = ["Bonn", "Köln", "Trier", "Ulm"]
X = pd.DataFrame(
    {
        "noise": RNG.normal(size=N),
        "town": pd.Categorical(RNG.choice(TOWNS, N)),
        "age": np.where(RNG.random(N) < 0.2, np.nan, RNG.uniform(20, 80, N)),
        "kind": RNG.choice(["a", "b", None], N),
    }
)
OF_TOWN = {"Bonn": 8.0, "Köln": 1.0, "Trier": 5.0, "Ulm": 2.0}
Y = X["town"].astype(object).map(OF_TOWN) + np.where(X["age"].isna(), 9.0, 0.1 * X["age"])
SHORT = {"n_estimators": 2, "max_iter": 40, "random_state": 0}


@pytest.fixture(scope="module", params=[(), (6,)], ids=["additive", "deep"])
def model(request):
    return MetaKANRegressor(request.param, **SHORT).fit(X, Y)


def test_effects_of_levels_and_of_missing_values():
    model = KANRegressor((), **SHORT).fit(X, Y)
    before = pickle.dumps(model)
    display = EffectDisplay.from_estimator(model, X, features=["town", "age", "kind"])
    town, age, kind = display.effects
    assert town.points[0].values.tolist() == TOWNS
    row = X.iloc[[0] * 4].assign(town=pd.Categorical(TOWNS))
    np.testing.assert_allclose(np.diff(town.values), np.diff(model.predict(row)), atol=1e-9)
    known = X[X["age"].notna()]
    gain = model.predict(known.assign(age=np.nan)) - model.predict(known)
    assert age.missing[0] == pytest.approx(gain.mean(), abs=0.15 * gain.std())
    assert kind.points[0].values.tolist() == ["a", "b"] and kind.missing is not None
    assert pickle.dumps(model) == before
    EffectDisplay.from_estimator(model, X, features=[("town", "age"), ("kind", "town")])


def test_explanations_sum_to_the_prediction(model):
    rows = pd.concat([X[X["age"].isna()][:2], X[:3]])
    found = explain(model, rows, X, max_evaluations=20_000)
    sums = found.base_value + found.values.sum(1)
    np.testing.assert_allclose(sums, model.predict(rows), atol=1e-6)
    assert found.plot(0).axes_.get_yticklabels()
    assert np.abs(found.values).mean(0)[[1, 2]].min() > np.abs(found.values).mean(0)[[0, 3]].max()


@pytest.mark.parametrize("rows", [None, X], ids=["grid", "rows"])
def test_columns_of_categories_have_edges_and_importances(model, rows):
    first, *_ = edge_importances(model, rows)
    by_column = first.sum((0, 2))
    assert by_column.shape == (4,) and by_column[[1, 2]].min() > by_column[[0, 3]].max()
    if rows is None:
        np.testing.assert_allclose(by_column, model.feature_importances_)
    display = EdgeDisplay.from_estimator(model, rows, edges=[("town", 0), ("age", 0)])
    assert sorted(display.levels[0]) == TOWNS and display.levels[1] is None
    assert [each.get_text() for each in display.axes_[0].get_xticklabels()] == display.levels[0]
    assert np.isnan(display.missing[0]) and np.isfinite(display.missing[1])
    assert np.isfinite(display.values[:4, 0]).all() and np.isfinite(display.values[:, 1]).all()
    assert display.axes_[1].get_xlim()[0] > 10  # in years


def test_edges_of_levels_and_gaps_of_an_additive_model_are_its_predictions():
    model = KANRegressor((), **SHORT | {"n_estimators": 1}).fit(X, Y)
    display = EdgeDisplay.from_estimator(model, X, edges=[("town", 0), ("age", 0)], n_points=30)
    scale = model.target_scaler_.scale_[0]
    row = X.iloc[[0] * 4].assign(town=pd.Categorical(display.levels[0], TOWNS))
    found = np.diff(display.values[:4, 0]) * scale
    np.testing.assert_allclose(found, np.diff(model.predict(row)), atol=1e-6)
    row = X.iloc[[0] * 2].assign(age=[np.nan, display.inputs[0, 1]])
    missing, first = model.predict(row)
    found = (display.missing[1] - display.values[0, 1]) * scale
    assert found == pytest.approx(missing - first, abs=1e-6)


def test_networks_of_them_are_drawn(model, tmp_path):
    display = NetworkDisplay.from_estimator(model, X)
    data = display.graph.page_data()
    names = data["nodes"][0]
    assert {*names} == {*X}
    town = data["inputs"][names.index("town")]
    assert town["levels"] == TOWNS and (town["low"], town["high"]) == (0, 3)
    kind = data["inputs"][names.index("kind")]
    assert kind["levels"] == ["a", "b", "missing"]
    ages = data["inputs"][names.index("age")]
    assert 20 <= ages["low"] < ages["start"] < ages["high"] <= 80
    assert display.to_html(tmp_path / "page.html").stat().st_size > 10_000
    for k, layer in enumerate(display.graph.layers):
        assert np.isfinite(layer.values).all(), k
    towns = [data["layers"][0][key] for key in ("low", "high", "n_points")]
    low, high, n_points = towns[0][names.index("town")], towns[1][names.index("town")], towns[2]
    assert (low, high) == (0, n_points - 1)  # a point a code
    for code, town in enumerate(TOWNS):
        row = X.iloc[[0]].assign(town=pd.Categorical([town], TOWNS))
        x = network_inputs(model, row)
        edges = model.module_.member(0).layers[0].edge_functions(x)[0].detach()
        curves = display.graph.layers[0].values[code, names.index("town")]
        np.testing.assert_allclose(curves, edges[names.index("town")], atol=1e-9)


def test_rare_levels_share_a_name():
    rare = X.assign(
        town=np.where(np.arange(N) < 3, ["x", "y", "z"] * 100, X["town"].astype(object))
    )
    model = KANClassifier((3,), min_frequency=5, **SHORT).fit(rare, Y.median() < Y)
    display = EdgeDisplay.from_estimator(model, rare, edges=[("town", 0)])
    assert len(display.levels[0]) == 5 and {*TOWNS} < {*display.levels[0]}
