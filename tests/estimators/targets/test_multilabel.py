"""Several labels at once: each as if alone, with whatever a classifier can do."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score, get_scorer, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight

from sklearn_metakan import KANClassifier, KANImageClassifier, MetaKANClassifier, load
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.targets.labels import LabelTarget
from sklearn_metakan.estimators.targets.multilabel import MultilabelTarget
from sklearn_metakan.inspection import EffectDisplay, NetworkDisplay, explain

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(260, 3))
Y = np.c_[X[:, 0] > 0, np.sin(2 * X[:, 1]) > X[:, 2], X[:, 2] > 1.2].astype(int)
NAMES = ["warm", "wet", "windy"]
SHORT = {"max_iter": 4, "random_state": 0}
# Full batches and a constant rate: two fits of the same numbers take the same steps.
STEPS = SHORT | {
    "hidden_layer_sizes": (4,),
    "n_estimators": 1,
    "batch_size": 10_000,
    "learning_rate_schedule": "constant",
    "early_stopping": False,
}
classifiers = pytest.mark.parametrize("classifier", [KANClassifier, MetaKANClassifier])


@classifiers
def test_labels_are_learned(classifier):
    model = classifier((8,), max_iter=60, random_state=0).fit(X[:200], Y[:200])
    assert f1_score(Y[200:], model.predict(X[200:]), average="macro") > 0.8
    assert model.score(X[200:], Y[200:]) == accuracy_score(Y[200:], model.predict(X[200:]))


@classifiers
def test_what_it_gives(classifier):
    model = classifier((4,), **SHORT).fit(X, Y)
    assert [each.tolist() for each in model.classes_] == [[0, 1]] * 3
    assert model.label_names_ == [0, 1, 2]
    labels, p, odds = model.predict(X), model.predict_proba(X), model.decision_function(X)
    assert labels.shape == p.shape == odds.shape == Y.shape
    assert labels.dtype == Y.dtype
    np.testing.assert_array_equal(labels, odds > 0)
    np.testing.assert_allclose(odds, np.log(p) - np.log1p(-p), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(model.predict_log_proba(X), np.log(p))
    far = model.predict_log_proba(1e6 * X)
    assert np.isfinite(far).all()


def test_an_additive_model_learns_each_label_as_if_alone():
    """The loss of a row is the mean over labels: of two, half the decay is as much for each."""
    settings = {"hidden_layer_sizes": (), "solver": "lbfgs", "max_iter": 300, "n_estimators": 1}
    settings |= {"random_state": 0, "tol": 1e-9}
    both = KANClassifier(weight_decay=0.01, **settings).fit(X, Y[:, :2])
    for label in range(2):
        one = KANClassifier(weight_decay=0.02, **settings).fit(X, Y[:, label])
        expected = one.predict_proba(X)[:, 1]
        np.testing.assert_allclose(both.predict_proba(X)[:, label], expected, atol=1e-3)


def test_a_refit_on_one_column_is_an_ordinary_classifier_again():
    model = KANClassifier((3,), **SHORT).fit(X, Y)
    model.fit(X, Y[:, 0])
    assert model.classes_.tolist() == [0, 1] and model.predict(X).shape == (260,)
    with pytest.raises(AttributeError, match="not fitted to several labels"):
        model.label_names_  # noqa: B018


@pytest.mark.parametrize(
    "given",
    [
        Y.tolist(),
        Y.astype(bool),
        Y.astype(np.float32),
        torch.from_numpy(Y),
        sparse.csr_matrix(Y),
        sparse.csc_array(Y),
        pd.DataFrame(Y, columns=NAMES),
        pd.DataFrame(Y.astype(bool), columns=NAMES).astype("boolean"),
        pl.DataFrame(Y, schema=NAMES),
    ],
    ids=["list", "bool", "float", "tensor", "csr", "csc", "pandas", "nullable", "polars"],
)
def test_all_forms_of_y_say_the_same(given):
    expected = KANClassifier((3,), **SHORT).fit(X, Y).predict_proba(X)
    model = KANClassifier((3,), **SHORT).fit(X, given)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    is_frame = hasattr(given, "columns")
    assert model.label_names_ == (NAMES if is_frame else [0, 1, 2])
    if not is_frame or isinstance(given, pd.DataFrame):
        assert 0 <= model.score(X, np.asarray(given).astype(int) if is_frame else given) <= 1


@pytest.mark.parametrize("members", [1, 3])
def test_early_stopping_calibrates_and_weights_of_rows_count(members):
    weight = RNG.integers(0, 3, size=len(X))
    settings = {"hidden_layer_sizes": (4,), "n_estimators": members, "early_stopping": True}
    model = KANClassifier(**SHORT | settings).fit(X, Y, sample_weight=weight)
    assert model.target_.sharpness.shape == (members,)
    assert len(model.validation_scores_) == 4


def test_weights_are_repeated_rows():
    weight = RNG.integers(0, 3, size=len(X))
    weighted = KANClassifier(**STEPS).fit(X, Y, sample_weight=weight)
    rows = np.repeat(np.arange(len(X)), weight)
    repeated = KANClassifier(**STEPS).fit(X[rows], Y[rows])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize("given", ["balanced", [{1: 3.0}, {0: 0.5}, {0: 1.0, 1: 2.0}]])
def test_class_weight_is_that_of_scikit_learn(given):
    full = given
    if given != "balanced":
        full = [{0: each.get(0, 1.0), 1: each.get(1, 1.0)} for each in given]
    weight = compute_sample_weight(full, Y)
    expected = MetaKANClassifier(**STEPS).fit(X, Y, sample_weight=weight)
    found = MetaKANClassifier(class_weight=given, **STEPS).fit(X, Y)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "y"), [({0: 1.0, 1: 2.0}, Y), ([{1: 2.0}], Y), ([{1: 2.0}], Y[:, 0])]
)
def test_a_class_weight_of_another_kind_is_refused(given, y):
    with pytest.raises(ValueError, match="class_weight must be"):
        KANClassifier(class_weight=given, **STEPS).fit(X, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (2 * Y, r"must hold 0 and 1 alone, .* got 2 in row"),
        (Y - 0.5, r"must hold 0 and 1 alone, .* got 0\.5 in row"),
        (np.where(Y, "yes", "no"), r"must hold 0 and 1 alone, .* got 'yes' in row"),
        (np.where(Y, 1.0, np.nan), "NaN"),
        (Y[:-1], "as many rows"),
        (Y[:, :, None], "array with dim 3"),
    ],
)
def test_other_targets_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        KANClassifier(**STEPS).fit(X, y)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "f1_micro", "accuracy"])
@pytest.mark.parametrize("k", [2, 3])
def test_scorers_of_scikit_learn(name, k):
    model = MetaKANClassifier((4,), **SHORT, scoring=name).fit(X, Y[:, :k])
    assert len(model.validation_scores_) == 4
    assert 0 <= get_scorer(name)(model, X, Y[:, :k]) <= 1


def test_training_goes_on():
    model = KANClassifier((4,), **SHORT).partial_fit(X, Y, classes=[0, 1, 2])
    before = log_loss(Y[:, 0], model.predict_proba(X)[:, 0])
    for _ in range(20):
        model.partial_fit(X, Y)
    assert log_loss(Y[:, 0], model.predict_proba(X)[:, 0]) < before
    with pytest.raises(ValueError, match=r"must be \(n_samples, 3\)"):
        model.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match=r"must be \(n_samples, 3\)"):
        model.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="are not the 3 labels of y"):
        model.partial_fit(X, Y, classes=[0, 1])
    warm = MetaKANClassifier((4,), warm_start=True, **SHORT).fit(X, Y).fit(X, Y)
    assert warm.predict(X).shape == Y.shape
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported"):
        model.set_params(class_weight="balanced").partial_fit(X, Y)


def test_copies_predict_the_same(tmp_path):
    names = pd.DataFrame(Y, columns=NAMES)
    model = MetaKANClassifier((4,), early_stopping=True, **SHORT).fit(X, names)
    expected = model.predict_proba(X)
    model.save(tmp_path / "model.safetensors")
    for copied in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(copied.predict_proba(X), expected)
        assert copied.label_names_ == NAMES
        assert [each.tolist() for each in copied.classes_] == [[0, 1]] * 3
        copied.partial_fit(X, Y)
    found = model.to_torch()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert not hasattr(clone(model), "classes_")


@pytest.mark.parametrize("k", [2, 3])
def test_one_label_is_looked_into(k, tmp_path):
    model = KANClassifier((3,), **SHORT).fit(X, pd.DataFrame(Y[:, :k], columns=NAMES[:k]))
    found = explain(model, X[:3], X[:30])
    sums = found.base_value + found.values.sum(1)
    np.testing.assert_allclose(sums, model.decision_function(X[:3]), atol=1e-6)
    assert (found.what, found.outputs) == ("log-odds of", NAMES[:k])
    display = EffectDisplay.from_estimator(model, X, features=[0], target="wet")
    assert display.axes_[0].get_ylabel() == "effect on log-odds of wet"
    assert len(display.effects[0].values)
    with pytest.raises(ValueError, match="target must be one of the classes"):
        EffectDisplay.from_estimator(model, X, features=[0])
    network = NetworkDisplay.from_estimator(model)
    page = network.to_html(tmp_path / "network.html").read_text(encoding="utf-8")
    assert '"kind": "labels"' in page or '"kind":"labels"' in page
    assert "label wet" in page


def test_images():
    images, y = RNG.normal(size=(40, 5, 5)), RNG.integers(0, 2, size=(40, 2))
    model = KANImageClassifier((2,), max_iter=2, random_state=0).fit(images, y)
    assert model.predict_proba(images).shape == (40, 2)


def test_a_search():
    search = GridSearchCV(
        KANClassifier((3,), **SHORT), {"weight_decay": [0.0, 0.1]}, cv=2, scoring="roc_auc"
    )
    assert search.fit(X, Y).predict(X).shape == Y.shape


def tensor_of(target, y):
    return target.tensor(Rows(X[: len(y)], None, y, None), torch.device("cpu"), torch.float64)


@pytest.mark.parametrize("members", [1, 2])
def test_the_factor_is_that_of_all_labels_together(members):
    """Entries of k labels are rows of two classes, whose best factor is known."""
    target, of_two = MultilabelTarget([0, 1, 2]), LabelTarget()
    y = target.encode(Y)
    outputs = 5 * torch.from_numpy(RNG.normal(size=(len(Y), members, 3)))
    of_two.encode(Y.ravel())
    flat = outputs.mT.flatten(0, 1)[..., None]
    given, weight = (outputs[:, 0] if members == 1 else outputs), torch.rand(len(Y)).double()
    found, losses = target.refine(tensor_of(target, y), given, weight)
    labels = torch.from_numpy(Y.ravel()).double()[:, None]
    expected = of_two.refine(labels, flat, weight.repeat_interleave(3))
    torch.testing.assert_close((found, losses), expected)


def test_score_is_the_share_of_rows_that_are_right():
    target = MultilabelTarget([0, 1, 2])
    outputs = torch.from_numpy(RNG.normal(size=Y.shape))
    score = target.score(tensor_of(target, target.encode(Y)), outputs, None)
    assert score == pytest.approx(accuracy_score(Y, target.predictions(outputs)))
