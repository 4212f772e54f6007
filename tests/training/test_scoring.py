"""skorch's scoring callbacks see targets and predictions in the user's units, and the weights."""

import threading

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    median_absolute_error,
    roc_auc_score,
)
from skorch.callbacks import BatchScoring, Callback, EarlyStopping, EpochScoring

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = 1000 + 50 * X[:, 0]
X_VAL, Y_VAL = X[:20] + 0.01, Y[:20]
WEIGHT = RNG.uniform(0.1, 3, size=60)
VALIDATION = {"X_val": X_VAL, "y_val": Y_VAL, "sample_weight_val": WEIGHT[:20]}
LABELS = {2: np.where(X[:, 0] > 0, "yes", "no"), 3: np.array(list("abc"))[np.arange(60) % 3]}
# Full batches: what is scored after an epoch are the predictions of that epoch's weights.
ONE = {"hidden_layer_sizes": (3,), "max_iter": 1, "batch_size": 100, "random_state": 0}
ONE |= {"learning_rate_schedule": "exponential"}

SCORING = {
    "name": "neg_mean_absolute_error",
    "callable": lambda net, X, y: -mean_absolute_error(y, net.predict(X)),
    "scorer": make_scorer(mean_absolute_error, greater_is_better=False),
}
regressors = pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
classifiers = pytest.mark.parametrize("estimator", [KANClassifier, MetaKANClassifier])


def last(model, name):
    return model.net_.history[-1][name]


@regressors
@pytest.mark.parametrize("callback", [EpochScoring, BatchScoring])
@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("scoring", SCORING.values(), ids=SCORING)
def test_validation_rows_are_scored_as_after_the_fit(
    estimator, callback, use_caching, weighted, scoring
):
    score = callback(scoring, name="mae", use_caching=use_caching, lower_is_better=False)
    given = VALIDATION if weighted else {"X_val": X_VAL, "y_val": Y_VAL}
    model = estimator(**ONE, callbacks=[score]).fit(X, Y, **given)
    weight = WEIGHT[:20] if weighted and scoring is not SCORING["callable"] else None
    expected = -mean_absolute_error(Y_VAL, model.predict(X_VAL), sample_weight=weight)
    assert last(model, "mae") == pytest.approx(expected, rel=1e-9)


@regressors
@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_training_rows_are_scored_in_the_order_of_their_batches(estimator, use_caching, weighted):
    score = EpochScoring(
        "neg_mean_absolute_error", name="mae", on_train=True, use_caching=use_caching
    )
    settings = ONE | {"batch_size": 16, "learning_rate": 1e-300, "early_stopping": False}
    model = estimator(**settings, callbacks=[score])  # stands still: all epochs are alike
    model.fit(X, Y, WEIGHT if weighted else None)
    weight = WEIGHT if weighted else None
    expected = -mean_absolute_error(Y, model.predict(X), sample_weight=weight)
    assert last(model, "mae") == pytest.approx(expected, rel=1e-9)


@regressors
def test_batches_of_training_rows_are_scored_each_by_itself(estimator):
    score = BatchScoring("neg_mean_absolute_error", name="mae", on_train=True)
    settings = ONE | {"batch_size": 20, "learning_rate": 1e-300, "early_stopping": False}
    model = estimator(**settings, callbacks=[score]).fit(X, Y)
    expected = -mean_absolute_error(Y, model.predict(X))
    assert last(model, "mae") == pytest.approx(expected, rel=1e-9)  # of batches of one size


@regressors
def test_several_outputs_and_a_log_link(estimator):
    score = EpochScoring("neg_mean_absolute_error", name="mae", lower_is_better=False)
    two, count = np.c_[Y, -Y], np.floor(np.exp(X[:, 0]))
    for y, settings in ((two, {}), (count, {"loss": "poisson"})):
        model = estimator(**ONE | settings, callbacks=[score])
        model.fit(X, y, X_val=X_VAL, y_val=y[:20])
        expected = -mean_absolute_error(y[:20], model.predict(X_VAL))
        assert last(model, "mae") == pytest.approx(expected, rel=1e-9)


@classifiers
@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_scored_by_label_and_by_probability(estimator, use_caching, classes):
    y, weight = LABELS[classes], WEIGHT[:20]
    auc = "roc_auc" if classes == 2 else "roc_auc_ovr"
    options = {"lower_is_better": False, "use_caching": use_caching}
    scores = [
        EpochScoring(name, name=name, **options) for name in ("accuracy", "neg_log_loss", auc)
    ]
    model = estimator(**ONE, callbacks=scores)
    model.fit(X, y, X_val=X_VAL, y_val=y[:20], sample_weight_val=weight)
    del model.target_.sharpness  # found once training is over
    proba = model.predict_proba(X_VAL)
    right = accuracy_score(y[:20], model.predict(X_VAL), sample_weight=weight)
    loss = log_loss(y[:20], proba, labels=model.classes_, sample_weight=weight)
    given = proba[:, 1] if classes == 2 else proba
    area = roc_auc_score(y[:20], given, multi_class="ovr", sample_weight=weight)
    assert last(model, "accuracy") == pytest.approx(right)
    assert last(model, "neg_log_loss") == pytest.approx(-loss, rel=1e-6)
    assert last(model, auc) == pytest.approx(area)


@regressors
def test_a_metric_of_one_s_own_steers_skorch_s_early_stopping(estimator):
    def worst(net, X, y):
        return median_absolute_error(y, net.predict(X))

    callbacks = [
        EpochScoring(worst, name="worst", lower_is_better=True),
        EarlyStopping(monitor="worst", patience=3, threshold=0.9),
    ]
    settings = ONE | {"max_iter": 60, "n_iter_no_change": 100}
    model = estimator(**settings, callbacks=callbacks).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert 3 < model.n_iter_ < 60
    seen = model.net_.history[:, "worst"]
    assert len(seen) == model.n_iter_
    flags = model.net_.history[:, "worst_best"]
    assert flags == [value <= min(seen[: i + 1]) for i, value in enumerate(seen)]


class Locked(Callback):
    """Writes under a lock, as loggers do."""

    def __init__(self):
        self.lock, self.seen = threading.Lock(), []

    def on_epoch_end(self, net, **kwargs):
        with self.lock:
            self.seen.append(net.history[-1]["train_loss"])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_callback_that_holds_a_lock(wrapped, tmp_path):
    given = Locked()
    given.log = (tmp_path / "log").open("w")
    with given.log:
        callbacks = [("locked", given)] if wrapped else [given]
        model = KANRegressor(**ONE, callbacks=callbacks).fit(X, Y)
    (copied,) = model.callbacks_
    assert copied.seen == model.loss_curve_
    assert given.seen == []
    assert copied.lock is given.lock
