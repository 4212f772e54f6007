"""Plots of edge functions show what the network computes, and change nothing."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.pipeline import make_pipeline

from sklearn_metakan import KANClassifier, MetaKANRegressor
from sklearn_metakan.inspection import EdgeDisplay
from sklearn_metakan.nn import KAN

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"age": RNG.integers(20, 80, 60), "height": RNG.exponential(30, 60)})
Y = 0.1 * FRAME["age"] + np.sqrt(FRAME["height"])
SHORT = {"max_iter": 3, "random_state": 0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def additive():
    return MetaKANRegressor((), **SHORT).fit(FRAME, Y)


@pytest.mark.parametrize("X", [None, FRAME], ids=["grid", "rows"])
def test_curves_of_an_additive_model_sum_to_its_predictions(additive, X):
    display = EdgeDisplay.from_estimator(additive, X, edges=[(0, 0), (1, 0)], n_points=30)
    points = pd.DataFrame(display.inputs, columns=FRAME.columns)  # in the columns' units
    scaler = additive.target_scaler_
    predicted = scaler.inverse_transform(display.values.sum(1, keepdims=True))[:, 0]
    np.testing.assert_allclose(additive.predict(points), predicted, rtol=1e-6)
    assert [axis.get_title() for axis in display.axes_] == display.labels
    assert display.labels == ["age → output 0", "height → output 0"]


def test_curves_span_the_rows(additive):
    display = EdgeDisplay.from_estimator(additive, FRAME, edges=[(0, 0), (1, 0)])
    np.testing.assert_allclose(display.inputs[[0, -1]], [FRAME.min(), FRAME.max()])


def test_inputs_by_the_name_of_their_column(additive):
    display = EdgeDisplay.from_estimator(additive, edges=[("height", 0), (0, 0)])
    assert display.edges == [(1, 0), (0, 0)]
    assert display.labels == ["height → output 0", "age → output 0"]


def test_most_important_edges_come_first():
    network = KAN([3, 4, 2])
    every, some = (EdgeDisplay.from_estimator(network, max_edges=n) for n in (12, 5))
    assert (np.diff(every.importances) <= 0).all()
    assert every.edges[:5] == some.edges
    np.testing.assert_allclose(some.values.std(0), some.importances, rtol=1e-5)
    hidden = EdgeDisplay.from_estimator(network, layer=-1)
    assert len(hidden.edges) == 4 * 2


def test_the_estimator_stays_as_it_was():
    model = KANClassifier((3,), **SHORT).fit(FRAME, FRAME["age"] > 50)
    before = copy.deepcopy(model.__getstate__())
    EdgeDisplay.from_estimator(model, FRAME, layer=1)
    after = model.__getstate__()
    assert before.keys() == after.keys()
    for name, value in before["_net_state"]["parameters"].items():
        np.testing.assert_array_equal(value, after["_net_state"]["parameters"][name])


def test_one_axes_is_divided(additive):
    _, axes = plt.subplots(1, 2)
    display = EdgeDisplay.from_estimator(additive, ax=axes[0])
    assert len(display.axes_) == 2
    assert display.figure_ is axes[0].figure


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"layer": 1}, "layer must be a whole number between -1 and 0"),
        ({"layer": 0.5}, "layer must be a whole number between -1 and 0"),
        ({"edges": []}, "at least one"),
        ({"edges": (0, 1)}, r"edges must be \(input, output\) pairs"),
        ({"edges": [("a", 0)]}, r"no edge \('a', 0\)"),
        ({"edges": [(0.5, 0)]}, r"no edge \(0.5, 0\)"),
        ({"edges": [(0, 5)]}, r"no edge \(0, 5\)"),
        ({"max_edges": 0}, "max_edges"),
        ({"ax": []}, "one Axes for each of the 2 edges"),
    ],
)
def test_wrong_options_are_named(additive, options, rule):
    with pytest.raises(ValueError, match=rule):
        EdgeDisplay.from_estimator(additive, **options)


def test_pipelines_say_what_to_pass(additive):
    with pytest.raises(TypeError, match=r"pipeline\[-1\]"):
        EdgeDisplay.from_estimator(make_pipeline(additive))


def test_without_matplotlib_the_error_names_it(additive, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"EdgeDisplay requires matplotlib.*pip install"):
        EdgeDisplay.from_estimator(additive)
