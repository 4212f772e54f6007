"""Plots of edge functions show what the network computes, and change nothing."""

import copy
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_metakan import KANClassifier, MetaKANRegressor
from sklearn_metakan.inspection import EdgeDisplay, edge_importances
from sklearn_metakan.nn import KAN

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"age": RNG.integers(20, 80, 60), "height": RNG.exponential(30, 60)})
Y = 0.1 * FRAME["age"] + np.sqrt(FRAME["height"])
SHORT = {"n_estimators": 1, "max_iter": 3, "random_state": 0}


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
    assert display.labels == ["age → output", "height → output"]


def test_curves_span_the_rows(additive):
    display = EdgeDisplay.from_estimator(additive, FRAME, edges=[(0, 0), (1, 0)])
    np.testing.assert_allclose(display.inputs[[0, -1]], [FRAME.min(), FRAME.max()])


def test_inputs_by_the_name_of_their_column(additive):
    display = EdgeDisplay.from_estimator(additive, edges=[("height", 0), (0, 0)])
    assert display.edges == [(1, 0), (0, 0)]
    assert display.labels == ["height → output", "age → output"]


def test_most_important_edges_come_first():
    network = KAN([3, 4, 2])
    every, some = (EdgeDisplay.from_estimator(network, max_edges=n) for n in (12, 5))
    assert (np.diff(every.importances) <= 0).all()
    assert every.edges[:5] == some.edges
    assert (some.importances > 0).all() and some.importances.sum() < 1
    hidden = EdgeDisplay.from_estimator(network, layer=-1)
    assert len(hidden.edges) == 4 * 2


def test_the_estimator_stays_as_it_was():
    model = KANClassifier((3,), **SHORT).fit(FRAME, FRAME["age"] > 50)
    before, attributes = copy.deepcopy(model.module_.state_dict()), set(vars(model))
    EdgeDisplay.from_estimator(model, FRAME, layer=1)
    assert set(vars(model)) == attributes
    after = model.module_.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


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


def pipeline(last):
    return make_pipeline(ColumnTransformer([("scaled", StandardScaler(), ["height", "age"])]), last)


def same_picture(found, expected):
    for name in ("inputs", "values", "importances"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))
    assert found.edges == expected.edges


@pytest.mark.parametrize("X", [None, FRAME], ids=["grid", "rows"])
def test_a_pipeline_shows_its_last_step(X):
    model = pipeline(MetaKANRegressor((), **SHORT)).fit(FRAME, Y)
    display = EdgeDisplay.from_estimator(model, X, edges=[("scaled__age", 0), (0, 0)])
    assert display.labels == ["scaled__age → output", "scaled__height → output"]
    inner = None if X is None else model[:-1].transform(FRAME)
    same_picture(display, EdgeDisplay.from_estimator(model[-1], inner, edges=[(1, 0), (0, 0)]))


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda model: make_pipeline(model), lambda model: model[-1]),
        (
            lambda model: GridSearchCV(model, {"max_iter": [3]}, cv=2),
            lambda model: model.best_estimator_,
        ),
        (
            lambda model: TransformedTargetRegressor(model, transformer=StandardScaler()),
            lambda model: model.regressor_,
        ),
        (
            lambda model: GridSearchCV(
                TransformedTargetRegressor(make_pipeline("passthrough", pipeline(model))),
                {"regressor__pipeline__metakanregressor__grid_size": [3]},
                cv=2,
            ),
            lambda model: model.best_estimator_.regressor_[-1],
        ),
    ],
    ids=["pipeline", "search", "target", "nested"],
)
def test_what_holds_an_estimator_shows_it(wrap, unwrap):
    model = wrap(MetaKANRegressor((), **SHORT)).fit(FRAME, Y)
    same_picture(*(EdgeDisplay.from_estimator(each, FRAME) for each in (model, unwrap(model))))
    with pytest.raises(NotFittedError):
        EdgeDisplay.from_estimator(clone(model))


def test_steps_that_name_nothing_leave_numbers():
    model = make_pipeline(FunctionTransformer(np.asarray), MetaKANRegressor((), **SHORT))
    display = EdgeDisplay.from_estimator(model.fit(FRAME, Y), edges=[(1, 0)])
    assert display.labels == ["input 1 → output"]
    with pytest.raises(ValueError, match=r"no edge.*inputs have no names here\. Give inputs by"):
        EdgeDisplay.from_estimator(model, edges=[("age", 0)])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("heigth", r"no column 'heigth'. Did you mean 'height'\? The columns are 'age', 'height'."),
        ("x", r"no column 'x'. The columns are 'age', 'height'."),
    ],
)
def test_an_unknown_column_is_answered_with_those_that_there_are(additive, name, answer):
    with pytest.raises(ValueError, match=answer):
        EdgeDisplay.from_estimator(additive, edges=[(name, 0)])


def test_of_many_columns_the_answer_shows_some():
    frame = pd.DataFrame(RNG.normal(size=(30, 40))).add_prefix("column_")
    model = MetaKANRegressor((), **SHORT).fit(frame, frame["column_3"])
    with pytest.raises(ValueError, match=r"'column_0', .*'column_9' and 30 more.$"):
        EdgeDisplay.from_estimator(model, edges=[("z", 0)])


def test_columns_keep_their_place_where_constant_ones_have_no_edges():
    X = pd.DataFrame({"a": FRAME["age"], "b": 7.0, "c": FRAME["height"]})
    model = MetaKANRegressor((4,), **SHORT).fit(X, Y)
    display = EdgeDisplay.from_estimator(model, X, edges=[("c", 1), (0, 3)])
    assert display.edges == [(2, 1), (0, 3)]
    assert [label.partition(" (")[0] for label in display.labels] == ["c → unit 1", "a → unit 3"]
    np.testing.assert_allclose(display.inputs[[0, -1]], [X[["c", "a"]].min(), X[["c", "a"]].max()])
    frame = pd.DataFrame({"a": display.inputs[:, 1], "b": 7.0, "c": display.inputs[:, 0]})
    t = torch.from_numpy(model.input_scaler_.transform(frame.to_numpy()))
    curves = model.module_.layers[0].edge_functions(t).detach()
    np.testing.assert_allclose(display.values, curves[:, [1, 0], [1, 3]], atol=1e-9)
    every = EdgeDisplay.from_estimator(model)
    assert {column for column, _ in every.edges} == {0, 2}
    for column in ("b", 1):
        with pytest.raises(ValueError, match=f"column {column!r} was constant in training and has"):
            EdgeDisplay.from_estimator(model, edges=[(column, 0)])
    first, last = edge_importances(model)
    assert (first.shape, last.shape) == ((1, 3, 4), (1, 4, 1))
    assert (first[0, 1] == 0).all()
    np.testing.assert_allclose(first.sum((0, 2)), model.feature_importances_)


# What each column does to y is plain; five columns do nothing.
KNOWN = {
    "sum": lambda X: 3 * X[:, 0] + 2 * np.sin(3 * X[:, 1]) + X[:, 2] ** 2,
    "product": lambda X: 4 * X[:, 0] * X[:, 1] + X[:, 2],
    "nested": lambda X: np.exp(X[:, 0] + 0.7 * X[:, 1] - 0.4 * X[:, 2]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_edges_rank_columns_as_permutation_importance_does(name):
    X = np.random.default_rng(0).uniform(-1, 1, (400, 8))
    X[:, 7] = X[:, 7] > 0
    y = KNOWN[name](X)
    settings = {"n_estimators": 2, "max_iter": 60, "random_state": 0}
    model = MetaKANRegressor((8,), **settings).fit(X, y)
    by_column = edge_importances(model, X)[0].sum((0, 2))
    permuted = permutation_importance(model, X, y, n_repeats=5, random_state=0).importances_mean
    matter = permuted > 0.05 * permuted.max()
    assert 2 <= matter.sum() <= 3
    assert np.corrcoef(by_column, permuted)[0, 1] > 0.98
    assert by_column[~matter].max() < by_column[matter].min()
    display = EdgeDisplay.from_estimator(model, X, max_edges=3)
    assert {column for column, _ in display.edges} <= {*np.flatnonzero(matter)}


def test_a_column_of_few_values_is_drawn_as_points():
    X = FRAME.assign(grade=RNG.choice([1.0, 2.5, 4.0], 60))
    model = MetaKANRegressor((), **SHORT).fit(X, Y)
    display = EdgeDisplay.from_estimator(model, X, edges=[("grade", 0), ("age", 0)])
    points = display.inputs[:, 0]
    np.testing.assert_allclose(points[:3], [1, 2.5, 4])
    assert np.isnan(points[3:]).all() and np.isnan(display.values[3:, 0]).all()
    assert np.isfinite(display.values[:, 1]).all()
    (drawn,), (curve,) = (axis.lines for axis in display.axes_)
    assert (drawn.get_marker(), curve.get_marker()) == ("o", "None")


def test_units_are_named_with_the_columns_that_move_them_and_outputs_with_classes():
    labels = np.array(["short", "tall"])[(FRAME["height"] > 30).astype(int)]
    model = KANClassifier((3,), n_estimators=2, max_iter=40, random_state=0).fit(FRAME, labels)
    for member in (0, 1):
        display = EdgeDisplay.from_estimator(model, FRAME, layer=1, member=member)
        assert len(display.labels) == 3
        for label in display.labels:
            assert re.fullmatch(r"unit \d \((height|age)(, (height|age))?\) → class tall", label)
        assert "height" in display.labels[0]


def test_more_than_networks_for_tables_is_refused():
    with pytest.raises(TypeError, match="KAN or KANLinear module, got Linear"):
        edge_importances(torch.nn.Linear(2, 1))


def test_without_matplotlib_the_error_names_it(additive, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"EdgeDisplay requires matplotlib.*pip install"):
        EdgeDisplay.from_estimator(additive)
