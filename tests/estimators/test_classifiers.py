"""KANClassifier and MetaKANClassifier: labels, probabilities, weights, stopping, going on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris, make_classification, make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score, train_test_split
from skorch.callbacks import Callback

from sklearn_metakan import KANClassifier, MetaKANClassifier

CLASSIFIERS = [KANClassifier, MetaKANClassifier]

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(150, 3))
SCORE = np.sin(2 * X[:, 0]) + X[:, 1]
TWO = np.where(SCORE > 0, "yes", "no")
THREE = np.array(["low", "middle", "high"])[np.digitize(SCORE, [-0.7, 0.7])]

# Full batches and a constant rate: two fits of the same numbers take the same steps.
STEPS = {
    "hidden_layer_sizes": (4,),
    "n_estimators": 1,
    "max_iter": 15,
    "batch_size": 10_000,
    "learning_rate": 0.01,
    "learning_rate_schedule": "constant",
    "weight_decay": 0.0,
    "early_stopping": False,
    "random_state": 0,
}
STOPPING = STEPS | {"early_stopping": True}
QUICK = STEPS | {"hidden_layer_sizes": (8,), "max_iter": 80, "learning_rate": 0.03}

both = pytest.mark.parametrize("classifier", CLASSIFIERS)
targets = pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])


# --- quality, with whatever the defaults are ------------------------------------------


@pytest.mark.slow
@both
def test_defaults_separate_what_no_line_can(classifier):
    X, y = make_moons(400, noise=0.15, random_state=0)
    X = X * [1e-3, 1e4] + [5, -7e4]
    score = cross_val_score(classifier(random_state=0), X, y, cv=3).mean()
    assert score > 0.95
    assert score > cross_val_score(LogisticRegression(), X / X.std(axis=0), y, cv=3).mean()


@both
def test_defaults_on_iris_by_name(classifier):
    iris = load_iris(as_frame=True)
    names = iris.target.map(dict(enumerate(iris.target_names)))
    assert cross_val_score(classifier(random_state=0), iris.data, names, cv=3).mean() > 0.9


@pytest.mark.slow
@both
@pytest.mark.parametrize("setting", [{"solver": "lbfgs"}, {"hidden_layer_sizes": ()}], ids=str)
def test_defaults_of_other_models(classifier, setting):
    train, test, y_train, y_test = train_test_split(X, THREE, random_state=0)
    model = classifier(random_state=0, **setting).fit(train, y_train)
    assert model.score(test, y_test) > 0.75


# --- probabilities --------------------------------------------------------------------


@both
@targets
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_probabilities_agree_with_logits_logarithms_and_labels(classifier, y, dtype):
    table = X.astype(dtype)
    model = classifier(**QUICK).fit(table, y)
    far = np.r_[table, 100 * table].astype(dtype)  # logits large enough to round to 0 and 1
    eps = np.finfo(dtype).eps

    proba, log_proba = model.predict_proba(far), model.predict_log_proba(far)
    logits = model.decision_function(far)
    assert proba.dtype == log_proba.dtype == logits.dtype == dtype
    n_classes = len(np.unique(y))
    assert proba.shape == log_proba.shape == (300, n_classes)
    assert logits.shape == ((300,) if n_classes == 2 else (300, n_classes))

    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=8 * eps)
    assert np.isfinite(log_proba).all()
    assert (log_proba <= 0).all()
    np.testing.assert_allclose(log_proba, np.log(proba), rtol=8 * eps, atol=8 * eps)
    assert (proba < 1e-20).any()  # so the rows far away were worth a look

    labels = model.predict(far)
    if n_classes == 2:
        np.testing.assert_array_equal(labels == model.classes_[1], logits > 0)
        log_odds, resolved = log_proba[:, 1] - log_proba[:, 0], np.abs(logits) < 80
        np.testing.assert_allclose(
            log_odds[resolved], logits[resolved], rtol=100 * eps, atol=100 * eps
        )
    np.testing.assert_array_equal(labels[:150], model.classes_[proba[:150].argmax(axis=1)])


@both
def test_training_loss_is_the_log_loss(classifier):
    for y in (TWO, THREE):
        model = classifier(**STEPS, warm_start=True).fit(X, y)
        expected = log_loss(y, model.predict_proba(X))
        assert model.fit(X, y).loss_curve_[0] == pytest.approx(expected, rel=1e-9)


@both
def test_probabilities_are_calibrated_on_noisy_labels(classifier):
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(1500, 1))
    true = 0.5 + 0.4 * np.sin(3 * X[:, 0])
    y = rng.uniform(size=1500) < true
    settings = QUICK | {"max_iter": 150, "learning_rate_schedule": "onecycle"}
    proba = classifier(**settings).fit(X, y).predict_proba(X)[:, 1]
    assert np.abs(proba - true).mean() < 0.06
    assert proba.mean() == pytest.approx(y.mean(), abs=0.01)


# --- labels ---------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array(["no", "yes"], dtype=object),
        np.array([-1, 1]),
        np.array([7, 3]),
        np.array([0.0, 1.0]),
        np.array([False, True]),
        np.array(["a", "c", "b"]),
        np.array([30, 10, 20]),
    ],
    ids=lambda labels: f"{labels.tolist()}-{labels.dtype}",
)
def test_labels_of_any_type(classifier, labels):
    codes = np.digitize(SCORE, [0] if len(labels) == 2 else [-0.7, 0.7])
    y = labels[codes]
    model = classifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    predicted = model.predict(X)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.85
    predicted = classifier(**STEPS).fit(X, y).predict(X)
    for container in (pd.Series(y), y.tolist()):
        np.testing.assert_array_equal(classifier(**STEPS).fit(X, container).predict(X), predicted)
    named = pd.DataFrame(X, columns=["a", "b", "c"])
    frame = classifier(**STEPS).fit(named, y)
    np.testing.assert_array_equal(frame.predict(named), predicted)


@both
def test_names_of_the_classes_do_not_matter(classifier):
    plain = classifier(**STEPS).fit(X, np.digitize(SCORE, [-0.7, 0.7])).predict_proba(X)
    named = classifier(**STEPS).fit(X, np.array(["p", "q", "r"])[np.digitize(SCORE, [-0.7, 0.7])])
    np.testing.assert_array_equal(named.predict_proba(X), plain)


@both
def test_units_of_columns_do_not_matter(classifier):
    other = X * [1e-6, 1, 3e5] + [-1e-3, 100, 7e5]
    plain = classifier(**STEPS).fit(X, THREE).decision_function(X)
    np.testing.assert_allclose(
        classifier(**STEPS).fit(other, THREE).decision_function(other), plain, rtol=1e-6, atol=1e-6
    )


# --- weights --------------------------------------------------------------------------


@both
@targets
def test_weights_count_like_repeated_rows(classifier, y):
    weight = np.random.default_rng(1).integers(0, 4, size=150)
    settings = STEPS | {"early_stopping": False}
    weighted = classifier(**settings).fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(150), weight)
    repeated = classifier(**settings).fit(X[rows], y[rows])
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), rtol=1e-6, atol=1e-6
    )


@both
@targets
def test_class_weight_is_a_factor_on_rows(classifier, y):
    factors = {label: 1.0 + 2 * k for k, label in enumerate(np.unique(y))}
    rows = np.array([factors[label] for label in y])
    by_class = classifier(**STEPS, class_weight=factors).fit(X, y)
    by_row = classifier(**STEPS).fit(X, y, rows)
    np.testing.assert_array_equal(by_class.decision_function(X), by_row.decision_function(X))

    weight = np.random.default_rng(1).uniform(0.5, 2, size=150)
    together = classifier(**STEPS, class_weight=factors).fit(X, y, weight)
    product = classifier(**STEPS).fit(X, y, weight * rows)
    np.testing.assert_array_equal(together.decision_function(X), product.decision_function(X))


@both
def test_balanced_finds_more_of_a_rare_class(classifier):
    X, y = make_classification(
        400, n_features=4, weights=[0.93], class_sep=0.6, flip_y=0.05, random_state=0
    )
    plain, balanced = (
        classifier(**QUICK | {"max_iter": 30}, class_weight=weight).fit(X, y).predict(X)
        for weight in (None, "balanced")
    )
    assert (balanced[y == 1] == 1).mean() > (plain[y == 1] == 1).mean() + 0.1


@both
@targets
def test_balanced_counts_weights_like_repeated_rows(classifier, y):
    weight = np.random.default_rng(1).integers(0, 4, size=150)
    weight[y == y[0]] //= 2
    rows = np.repeat(np.arange(150), weight)
    settings = STEPS | {"class_weight": "balanced"}
    weighted = classifier(**settings).fit(X, y, sample_weight=weight)
    repeated = classifier(**settings).fit(X[rows], y[rows])
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), rtol=1e-6, atol=1e-6
    )


@both
def test_balanced_leaves_out_rows_of_weight_zero(classifier):
    y = (X[:, 0] > 1).astype(int)
    y[100:] = 1
    model = classifier(**STEPS, class_weight="balanced")
    expected = model.fit(X[:100], y[:100]).decision_function(X)
    some = model.fit(X, y, np.r_[np.ones(100), np.zeros(50)]).decision_function(X)
    np.testing.assert_allclose(some, expected, rtol=1e-9, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(X, THREE, np.where(THREE == "low", 0.0, 1.0))  # one class has none
    assert list(model.classes_) == ["high", "low", "middle"]


@both
def test_class_weight_may_name_some_classes_where_others_come(classifier):
    model = classifier(**STEPS, class_weight={"low": 2})
    some = THREE != "low"
    plain = classifier(**STEPS).partial_fit(X[some], THREE[some], classes=np.unique(THREE))
    model.partial_fit(X[some], THREE[some], classes=np.unique(THREE))
    np.testing.assert_array_equal(model.decision_function(X), plain.decision_function(X))


@both
def test_class_of_weight_zero_is_never_predicted(classifier):
    # ... but stays among the classes, so that columns of probabilities keep their place.
    model = classifier(**QUICK, class_weight={"low": 0, "middle": 1, "high": 1}).fit(X, THREE)
    assert list(model.classes_) == ["high", "low", "middle"]
    assert "low" not in model.predict(X)


# --- early stopping -------------------------------------------------------------------


@both
@pytest.mark.parametrize("solver", ["adamw", "lbfgs"])
def test_best_weights_on_validation_rows_are_kept(classifier, solver):
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, size=(120, 4))
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + rng.normal(size=120), [-0.5, 0.5])]
    train, valid, y_train, y_valid = train_test_split(X, y, test_size=0.5, random_state=0)
    settings = STOPPING | {"hidden_layer_sizes": (16,), "max_iter": 300, "solver": solver}
    settings |= {"learning_rate": "auto", "n_iter_no_change": 15}
    model = classifier(**settings).fit(train, y_train, X_val=valid, y_val=y_valid)
    losses = [loss for (loss,) in model.net_.history[:, "valid_losses"]]
    assert 15 < model.n_iter_ < 300
    assert len(losses) == len(model.validation_scores_) == model.n_iter_
    assert log_loss(y_valid, model.predict_proba(valid)) == pytest.approx(min(losses), rel=1e-6)
    assert losses[-1] > min(losses)
    assert model.best_validation_score_ == pytest.approx(model.score(valid, y_valid))
    assert model.best_validation_score_ == model.validation_scores_[int(np.argmin(losses))]


def classes_by_side(model, X, y):
    """Rows of each class that were trained on, and that were held out."""

    class Sides(Callback):
        def on_train_begin(self, net, X, **kwargs):
            labels = (side.y.flatten().long() for side in (X, net.validation_))
            self.sizes_ = [side.bincount(minlength=len(np.unique(y))).tolist() for side in labels]

    return model.set_params(callbacks=[Sides()]).fit(X, y).callbacks_[0].sizes_


def weights_by_side(model, X, y, weight):
    """Weights that rows were given, by the first column, and those that training used."""

    class Sides(Callback):
        def on_train_begin(self, net, X, **kwargs):
            self.sides_ = [
                (side.X[:, 0].numpy(), side.weight.numpy()) for side in (X, net.validation_)
            ]

    model.set_params(callbacks=[Sides()]).fit(X, y, weight)
    scaled = model.input_scaler_.transform(X)[:, 0]
    order = np.argsort(scaled)
    return [
        (weight[order[np.searchsorted(scaled[order], column)]], used)
        for column, used in model.callbacks_[0].sides_
    ]


@both
@targets
def test_held_out_rows_hold_every_class(classifier, y):
    # One row in fifteen of the rare class: a split that ignores classes would miss it often.
    rare = y.copy()
    rare[rare == np.unique(y)[0]] = np.unique(y)[-1]
    rare[::15] = np.unique(y)[0]
    settings = STOPPING | {"max_iter": 1, "validation_fraction": 0.2}
    for seed in range(5):
        model = classifier(**settings | {"random_state": seed})
        assert [side[0] for side in classes_by_side(model, X, rare)] == [8, 2]


@both
def test_a_class_of_one_row_is_trained_on_and_the_others_are_stratified(classifier):
    y = np.full(150, 2)
    y[::15], y[[7, 8]] = 1, [0, 3]
    weight = 3 + X[:, 0]
    settings = STOPPING | {"max_iter": 1, "validation_fraction": 0.2}
    for seed in range(5):
        model = classifier(**settings | {"random_state": seed})
        train, held_out = classes_by_side(model, X, y)
        assert (train, held_out) == ([1, 8, 110, 1], [0, 2, 28, 0])
        for given, used in weights_by_side(model, X, y, weight):
            np.testing.assert_allclose(used, given / given.mean())


@both
def test_classes_of_one_row_each_and_training_rows_fewer_than_classes(classifier):
    few = np.array(["a", "b", "c"])
    for X_few, y in ((X[:3], few), (X[:12], np.repeat(few, 4))):
        model = classifier(**STOPPING | {"validation_fraction": 0.9})
        train, held_out = classes_by_side(model, X_few, y)
        assert sum(train) == 1
        assert sum(held_out) == len(y) - 1


@both
def test_early_stopping_with_a_class_of_one_row(classifier):
    y = np.r_[["alone"], TWO[1:]]
    model = classifier(**STOPPING).fit(X, y)
    assert list(model.classes_) == ["alone", "no", "yes"]
    assert len(model.validation_scores_) == model.n_iter_


@both
def test_validation_weights_count(classifier):
    weight = np.where(X[:, 1] > 0, 1.0, 0.25)
    model = classifier(**STOPPING).fit(
        X[::2], THREE[::2], X_val=X[1::2], y_val=THREE[1::2], sample_weight_val=weight[1::2]
    )
    assert model.best_validation_score_ == pytest.approx(
        model.score(X[1::2], THREE[1::2], sample_weight=weight[1::2])
    )


# --- going on -------------------------------------------------------------------------


@both
def test_warm_start_goes_on_and_knows_its_classes(classifier):
    model = classifier(**STEPS, warm_start=True).fit(X, THREE)
    reached = log_loss(THREE, model.predict_proba(X))
    some = THREE != "low"  # a fit that goes on need not see every class
    model.fit(X[some], THREE[some])
    assert list(model.classes_) == ["high", "low", "middle"]
    assert model.predict_proba(X).shape == (150, 3)
    model = classifier(**STEPS, warm_start=True).fit(X, THREE).fit(X, THREE)
    assert model.loss_curve_[-1] < reached
    with pytest.raises(ValueError, match=r"'new'.*'high', 'low', 'middle'"):
        model.fit(X, np.where(some, THREE, "new"))
    assert list(model.classes_) == ["high", "low", "middle"]


@both
def test_a_finer_grid_goes_on_from_the_same_probabilities(classifier):
    model = classifier(**STEPS, grid_size=3, warm_start=True).fit(X, THREE)
    before, reached = model.predict_proba(X), log_loss(THREE, model.predict_proba(X))
    model.set_params(grid_size=6, learning_rate=1e-13).fit(X, THREE)
    np.testing.assert_allclose(model.predict_proba(X), before, atol=1e-9)
    model.set_params(learning_rate=0.01).fit(X, THREE)
    assert log_loss(THREE, model.predict_proba(X)) < reached


@both
def test_adamw_first_and_lbfgs_after(classifier):
    model = classifier(**STEPS, warm_start=True).fit(X, THREE)
    by_adamw = log_loss(THREE, model.predict_proba(X))
    model.set_params(solver="lbfgs", learning_rate="auto", max_iter=20).fit(X, THREE)
    assert log_loss(THREE, model.predict_proba(X)) < 0.8 * by_adamw


@both
def test_partial_fit_takes_classes_in_any_order(classifier):
    order = np.argsort(THREE)  # one class after the other
    model = classifier(**QUICK | {"batch_size": 10})
    model.partial_fit(X[order[:20]], THREE[order[:20]], classes=["middle", "low", "high"])
    assert list(model.classes_) == ["high", "low", "middle"]
    rng = np.random.default_rng(0)
    for _ in range(40):
        rows = rng.permutation(150)[:50]
        model.partial_fit(X[rows], THREE[rows])
    assert model.score(X, THREE) > 0.8
    assert model.n_iter_ == 41
    with pytest.raises(ValueError, match=r"'rare'"):
        model.partial_fit(X, np.where(X[:, 0] > 1, "rare", THREE))


@both
def test_a_first_call_with_one_class_names_the_remedy(classifier):
    with pytest.raises(ValueError, match=r"only one class: 0.*name all of them in classes="):
        classifier(**STEPS).partial_fit(X, np.zeros(len(X), int))


@both
def test_partial_fit_without_classes_takes_those_of_the_first_call(classifier):
    model = classifier(**STEPS).partial_fit(X, TWO)
    assert list(model.classes_) == ["no", "yes"]
    model.partial_fit(X[TWO == "no"], TWO[TWO == "no"])
    assert model.decision_function(X).shape == (150,)


@both
def test_importances_find_the_relevant_features(classifier):
    for y in (TWO, THREE):
        importances = classifier(**QUICK).fit(X, y).feature_importances_
        assert importances.sum() == pytest.approx(1)
        assert importances[:2].min() > 2 * importances[2]


@both
def test_predicting_in_chunks_changes_nothing(classifier):
    model = classifier(**STEPS, working_memory=1000).fit(X, THREE)
    at_once = model.predict_proba(X)
    in_chunks = model.set_params(working_memory=1e-6).predict_proba(X)
    np.testing.assert_allclose(in_chunks, at_once, rtol=1e-12, atol=1e-12)
