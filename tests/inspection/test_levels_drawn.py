"""Pictures of columns with levels and gaps: every value of an edge is where it belongs."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.inspection import (
    EdgeDisplay,
    EffectDisplay,
    NetworkDisplay,
    edge_importances,
    explain,
)
from sklearn_metakan.nn import KAN, Columns

N = 200
RNG = np.random.default_rng(0)
CITY = RNG.choice(["Oslo", "Rome", "Paris"], N)
HEIGHT = np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N))
FRAME = pd.DataFrame({"city": CITY, "height": HEIGHT, "weight": RNG.normal(size=N)})
FRAME.loc[:20, "city"] = None
FRAME.loc[21:24, "city"] = ["a", "b", "c", "d"]
Y = FRAME["weight"] + np.where(CITY == "Rome", 2.0, 0.0) + np.where(np.isnan(HEIGHT), 3.0, HEIGHT)
SETTINGS = {"n_estimators": 2, "max_iter": 40, "min_frequency": 5, "random_state": 0}


@pytest.fixture(scope="module", params=[KANRegressor, MetaKANRegressor])
def additive(request):
    return request.param((), **SETTINGS).fit(FRAME, Y)


def effect(model, frame):
    """What the first member makes of rows, in the units of its output."""
    inputs = torch.from_numpy(model.input_scaler_.transform(table_of(model, frame)))
    network = model.input_scaler_.with_means(model.module_)
    return network.member(0).layers[0](inputs).detach().numpy()[:, 0]


def table_of(model, frame):
    return model.input_scaler_.as_table(frame, "KANRegressor").to_numpy()


@pytest.mark.parametrize("X", [None, FRAME])
def test_levels_are_sorted_points_and_a_gap_is_one_of_its_own(additive, X):
    display = EdgeDisplay.from_estimator(additive, X, edges=[("city", 0), ("height", 0), (2, 0)])
    of_city, of_height, of_weight = display.levels
    assert sorted(of_city) == ["4 others", "Oslo", "Paris", "Rome", "missing"]
    assert of_height is None and of_weight is None
    assert np.isnan(display.missing).tolist() == [True, False, True]
    values = display.values[: len(of_city), 0]
    assert (np.diff(values) >= 0).all() and np.isnan(display.values[len(of_city) :, 0]).all()
    rows = FRAME[:1].assign(height=0.5)
    known = dict(zip(of_city, values, strict=True))
    for other in ("Oslo", None, "a", "unknown"):
        name = {None: "missing", "a": "4 others", "unknown": "4 others"}.get(other, other)
        change = effect(additive, rows.assign(city=other))
        change -= effect(additive, rows.assign(city="Rome"))
        np.testing.assert_allclose(change, known[name] - known["Rome"], atol=1e-9)
    x, curve = display.inputs[40, 1], display.values[40, 1]
    change = effect(additive, rows.assign(height=np.nan)) - effect(additive, rows.assign(height=x))
    np.testing.assert_allclose(change, display.missing[1] - curve, atol=1e-6)


def test_what_is_drawn(additive):
    display = EdgeDisplay.from_estimator(additive, edges=[("city", 0), ("height", 0)])
    of_city, of_height = display.axes_
    assert [tick.get_text() for tick in of_city.get_xticklabels()] == [*map(str, display.levels[0])]
    assert of_city.lines[0].get_linestyle() == "None" and of_city.lines[0].get_marker() == "o"
    curve, gap = of_height.lines
    assert gap.get_xdata()[0] > np.nanmax(curve.get_xdata())
    assert gap.get_ydata()[0] == display.missing[1]


def test_a_column_of_more_levels_than_points():
    names = [f"level {i}" for i in RNG.integers(90, size=600)]
    frame = pd.DataFrame({"name": names, "x": RNG.normal(size=600)})
    model = KANRegressor((), n_estimators=1, max_iter=3, random_state=0).fit(frame, frame["x"])
    display = EdgeDisplay.from_estimator(model, n_points=10, edges=[("name", 0), ("x", 0)])
    assert len(display.levels[0]) == len(set(names)) == len(display.values)
    assert len(display.axes_[0].get_xticks()) <= 8


@pytest.mark.parametrize("X", [None, FRAME])
def test_importances_are_of_columns(additive, X):
    first, *_ = edge_importances(additive, X)
    assert first.shape == (2, 3, 1)
    np.testing.assert_allclose(first.sum(), 1)
    assert (first.sum((0, 2)) > 0.02).all()
    if X is None:
        np.testing.assert_allclose(first.sum((0, 2)), additive.feature_importances_)


def test_networks_effects_and_explanations_take_such_columns(tmp_path):
    model = MetaKANRegressor((4,), **SETTINGS).fit(FRAME, Y)
    for X in (None, FRAME):
        display = NetworkDisplay.from_estimator(model, X)
        display.to_html(tmp_path / "page.html")
    EffectDisplay.from_estimator(model, FRAME)
    explanation = explain(model, FRAME[:3], FRAME[:60])
    assert np.isfinite(explanation.values).all()
    assert "on 32 edges" in model.summary()  # of two members, three columns and four units


def test_of_a_network_codes_are_numbered():
    network = KAN([1, 2], columns=Columns([0.0], [3.0], [[5.0, 6.0]]))
    display = EdgeDisplay.from_estimator(network)
    assert {tuple(sorted(each)) for each in display.levels if each} == {("level 0", "level 1")}
    assert (~np.isnan(display.missing)).sum() == 2
