"""Additive models with pairs of columns: found or named, in files, on further calls."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_metakan import (
    KANClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
    load,
)
from sklearn_metakan.estimators.inputs.interactions import detail, main_effects
from sklearn_metakan.inspection import EffectDisplay, NetworkDisplay, explain
from sklearn_metakan.inspection.answers import Answers
from sklearn_metakan.inspection.shapley import by_enumeration
from sklearn_metakan.inspection.tables import Table

RNG = np.random.default_rng(0)
N = 400
FRAME = pd.DataFrame(
    {
        "a": RNG.uniform(-1, 1, N),
        "b": RNG.uniform(-1, 1, N),
        "city": RNG.choice(["Oslo", "Rome", "Ulm"], N),
        "d": RNG.normal(size=N),
        "flat": 1.0,
    }
)
FRAME.loc[::8, "d"] = np.nan
SUM = np.sin(2 * FRAME["a"]) + 2 * FRAME["a"] * FRAME["b"]
SUM = (SUM + np.where(FRAME["city"] == "Rome", 2, 0) * FRAME["b"]).to_numpy()
TARGETS = {
    "regression": SUM,
    "outputs": np.column_stack([SUM, -3 * SUM + FRAME["a"]]),
    "two": np.where(SUM > 0, "yes", "no"),
    "three": np.digitize(SUM, [-0.5, 0.8]),
}
SHORT = {"max_iter": 12, "batch_size": 100, "n_estimators": 2, "random_state": 0}
PAIRS = [("b", "a"), (2, 1)]
KINDS = {
    "regression": (KANRegressor, MetaKANRegressor),
    "outputs": (KANRegressor, MetaKANRegressor),
    "two": (KANClassifier, MetaKANClassifier),
    "three": (KANClassifier, MetaKANClassifier),
}
CASES = [(kind, name) for name, kinds in KINDS.items() for kind in kinds]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def fitted(request):
    kind, name = request.param
    return kind((), interactions=PAIRS, **SHORT).fit(FRAME, TARGETS[name]), TARGETS[name]


def answers(model, X):
    """In float64, (n, outputs)."""
    found = model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)
    return np.reshape(found, (len(X), -1))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def positions(model):
    """The rows as a module takes them: levels by their positions."""
    return np.asarray(model.input_scaler_.as_table(FRAME, "model"), dtype=np.float64)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [KANRegressor, MetaKANRegressor])
def test_a_product_is_found_and_learned(kind):
    X = RNG.uniform(-1, 1, size=(600, 5))
    y = np.sin(3 * X[:, 0]) + 2 * X[:, 3] * X[:, 1] + X[:, 4]
    how = {"solver": "lbfgs", "max_iter": 40, "n_estimators": 1, "random_state": 0}
    model = kind((), interactions=1, **how).fit(X[:400], y[:400])
    assert model.interactions_ == [(1, 3)]
    alone = kind((), **how).fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.97 > alone.score(X[400:], y[400:])


@pytest.mark.parametrize("name", ["two", "three"])
def test_pairs_are_found_for_labels(name):
    how = {"max_iter": 1, "n_estimators": 1, "early_stopping": False}
    model = KANClassifier((), interactions=2, **how).fit(FRAME, TARGETS[name])
    assert {*model.interactions_} == {(0, 1), (1, 2)}


def test_more_pairs_than_there_are():
    model = KANRegressor((), interactions=100, max_iter=1).fit(FRAME[["a", "b", "flat"]], SUM)
    assert model.interactions_ == [(0, 1)]
    model = KANRegressor((), interactions=3, max_iter=1).fit(FRAME[["a", "flat"]], SUM)
    assert model.interactions_ == []


def test_names_and_numbers_mean_the_same(fitted):
    model, y = fitted
    assert model.interactions_ == [(0, 1), (1, 2)]
    same = clone(model).set_params(interactions=[(0, 1), ("b", "city")]).fit(FRAME, y)
    np.testing.assert_array_equal(answers(same, FRAME), answers(model, FRAME))


def test_a_pair_with_a_constant_column_is_none():
    model = KANRegressor((), interactions=[("a", "flat"), ("a", "b")], **SHORT).fit(FRAME, SUM)
    assert model.interactions_ == [(0, 1)]


@pytest.mark.parametrize(
    ("interactions", "message"),
    [
        ([("a", "z")], "'z', which is not there"),
        ([(0, 9)], "9, which is not there"),
        ([("a", "a")], "a column with itself"),
        ([("a", "b"), (1, 0)], "a pair twice"),
        ([("a", "b", "d")], "pairs of two columns"),
        (["ab"], "pairs of two columns"),
        ([(0, True)], "True, which is not there"),
        (-1, "interactions"),
        ("all", "interactions"),
    ],
)
def test_what_is_no_pair_is_refused(interactions, message):
    with pytest.raises(ValueError, match=message):
        KANRegressor((), interactions=interactions, max_iter=1).fit(FRAME, SUM)


@pytest.mark.parametrize("interactions", [3, [("a", "b")]])
def test_hidden_layers_have_no_pairs(interactions):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(\)"):
        KANRegressor(8, interactions=interactions, max_iter=1).fit(FRAME, SUM)
    KANRegressor(8, interactions=[], max_iter=1).fit(FRAME, SUM)


def test_files_modules_and_pickles_predict_the_same(fitted, tmp_path):
    model, _ = fitted
    expected = answers(model, FRAME)
    model.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(answers(other, FRAME), expected)
        assert other.interactions_ == model.interactions_
    with torch.no_grad():
        found = model.to_torch()(torch.tensor(positions(model)))
    method = model.predict_proba if hasattr(model, "classes_") else model.predict
    np.testing.assert_allclose(found.numpy(), method(FRAME), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_graph_predicts_the_same(fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, _ = fitted
    model.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    given = {name: FRAME[[name]].to_numpy(np.float64) for name in FRAME if name != "city"}
    given["city"] = FRAME[["city"]].fillna("").to_numpy(object)
    *_, found = session.run(None, given)
    method = model.predict_proba if hasattr(model, "classes_") else model.predict
    np.testing.assert_allclose(found, method(FRAME), rtol=1e-6, atol=1e-6)


def test_training_goes_on_with_the_same_pairs(fitted):
    model, y = fitted
    known = answers(model, FRAME)
    more = pickle.loads(pickle.dumps(model)).set_params(warm_start=True, interactions=PAIRS)
    more.fit(FRAME, y)
    assert more.interactions_ == model.interactions_
    assert np.abs(answers(more, FRAME) - known).max() > 0
    with pytest.raises(ValueError, match="cannot change interactions"):
        more.set_params(interactions=1).fit(FRAME, y)
    part = clone(model).partial_fit(FRAME, y).partial_fit(FRAME[:50], y[:50])
    assert part.interactions_ == model.interactions_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_over_the_number_of_pairs():
    search = GridSearchCV(
        KANRegressor((), **SHORT | {"solver": "lbfgs"}), {"interactions": [0, 2]}, cv=2
    )
    assert search.fit(FRAME, SUM).best_params_ == {"interactions": 2}


def test_rows_of_weight_zero_say_nothing():
    weight = np.ones(N)
    weight[100:] = 0
    whole = KANRegressor((), interactions=2, **SHORT).fit(FRAME, SUM, weight)
    part = KANRegressor((), interactions=2, **SHORT).fit(FRAME[:100], SUM[:100])
    assert whole.interactions_ == part.interactions_
    functions = [each.module_.layers[0].pairs.functions for each in (whole, part)]
    torch.testing.assert_close(*functions)


def test_effects_and_pairs_sum_to_the_prediction(fitted):
    """Main effects up to constants, pairs as they are, at rows that are points of all of them."""
    model, _ = fitted
    X = FRAME[1:8].reset_index(drop=True)
    X["d"] = X["d"].fillna(0.3)
    classes = getattr(model, "classes_", [])
    n_outputs = answers(model, X).shape[1]
    for output in range(n_outputs):
        target = output if n_outputs > 1 else None
        target = classes[output] if len(classes) > 2 else target
        found = EffectDisplay.from_estimator(
            model, X, features=["a", "b", "city", "d", ("a", "b"), ("b", "city")], target=target
        ).effects
        total = np.zeros(len(X))
        for effect in found:
            places = []
            for column, points in zip(effect.columns, effect.points, strict=True):
                known = points.values.tolist()
                places.append([known.index(value) for value in X.iloc[:, column]])
            total += effect.values[tuple(places)]
        expected = answers(model, X)[:, output]
        np.testing.assert_allclose(total - total[0], expected - expected[0], atol=1e-9)


def test_a_pair_that_the_model_has_not_is_nothing(fitted):
    model, _ = fitted
    target = model.classes_[0] if hasattr(model, "classes_") else 0
    (effect,) = EffectDisplay.from_estimator(
        model, FRAME, features=[("a", "d")], target=target
    ).effects
    np.testing.assert_allclose(effect.values, 0, atol=1e-9)


def test_explanations_sum_and_halve_pairs(fitted):
    model, _ = fitted
    found = explain(model, FRAME[:4], FRAME[50:60])
    sums = found.base_value + found.values.sum(1)
    np.testing.assert_allclose(
        sums.reshape(4, -1), answers(model, FRAME[:4]).reshape(4, -1), atol=1e-9
    )
    assert not found.standard_errors.any()
    few = explain(model, FRAME[:1], FRAME[50:51])  # by all sets of columns
    table = Table(FRAME[:1]).joined(Table(FRAME[50:51]))
    own = Answers(model)
    exact = by_enumeration(
        lambda index: own.of(table, index)[:, 0], np.array([0]), np.array([1]), 5
    )
    np.testing.assert_allclose(few.values.reshape(exact.shape), exact, atol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_importances_count_pairs():
    X = RNG.uniform(-1, 1, size=(400, 3))
    how = {"solver": "lbfgs", "max_iter": 40, "n_estimators": 1, "random_state": 0}
    model = KANRegressor((), interactions=1, **how)
    found = model.fit(X, X[:, 0] * X[:, 2]).feature_importances_
    assert found[[0, 2]].min() > 0.4 and found[1] < 0.05


def test_what_knows_no_pairs_says_so(fitted):
    with pytest.raises(ValueError, match="EffectDisplay"):
        NetworkDisplay.from_estimator(fitted[0])
    assert "2 pairs of columns" in fitted[0].summary()


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_the_screen_leaves_no_main_effects(n_classes):
    """Residuals of steps sum to nothing over each of the steps, but for the ridge."""
    bins = [RNG.integers(4, size=2000), RNG.integers(3, size=2000)]
    score = bins[0] - 1.5 + 0.7 * (bins[1] == 1)
    y = (
        score[:, None]
        if n_classes == 1
        else np.digitize(score + RNG.logistic(size=2000), [0, 1, 2][: n_classes - 1])
    )
    residual, strength = main_effects(bins, y, np.ones(2000))
    assert strength[0] > strength[1] > 0
    for column in bins:
        means = np.stack([residual[column == k].mean(0) for k in np.unique(column)])
        assert np.abs(means).max() < 0.03


def test_pairs_have_functions_by_rows_and_by_their_number():
    assert detail(700, 28, 46) == (10, 85)  # cells, functions
    assert detail(1400, 60, 93) == (16, 40)
    assert detail(9000, 6, 600) == (31, 500)
    assert detail(9000, 60, 600) == (16, 50)
    assert detail(35_000, 36, 2333) == (16, 138)
    assert detail(10**6, 36, 66_666) == (18, 166)
    for n_pairs in (1, 6, 30, 100):
        cells, functions = detail(9000, n_pairs, 600)
        assert functions < (cells + 1) ** 2 and detail(9000, n_pairs, 0)[1] <= functions
