"""What a fit shows, and how it ends when somebody or something interrupts it."""

import re
import signal
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    GradientNormClipping,
    PrintLog,
)

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.estimators.inputs.table import TableInputs
from sklearn_metakan.estimators.targets.labels import LabelTarget
from sklearn_metakan.estimators.targets.number import NumberTarget

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] + 0.5 * RNG.normal(size=60) > 0).astype(float)
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 7, "batch_size": 16, "random_state": 0}
SMALL |= {"n_estimators": 1}

every = pytest.mark.parametrize("estimator", ALL)


# --- the bar --------------------------------------------------------------------------


@every
@pytest.mark.parametrize("setting", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_nothing_is_shown_by_default(estimator, setting, capfd):
    model = estimator(**SMALL, **setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y).predict(X)
    if not setting:
        model.partial_fit(X, Y)
    assert capfd.readouterr() == ("", "")


def bars(text):
    """The last state of each bar drawn."""
    return [line.split("\r")[-1] for line in text.strip().split("\n")]


@every
def test_verbose_shows_one_bar_with_loss_rate_and_time_left(estimator, capfd):
    model = estimator(**SMALL, verbose=1, early_stopping=False).fit(X, Y)
    shown = capfd.readouterr()
    assert shown.out == ""
    (bar,) = bars(shown.err)
    assert "7/7" in bar
    assert f"loss={model.loss_:.4g}" in bar
    assert re.search(r"lr=\d", bar)
    assert "validation" not in bar
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", bar)  # time gone < time left


@every
def test_verbose_shows_the_validation_score(estimator, capfd):
    model = estimator(**SMALL, verbose=1, early_stopping=True, n_iter_no_change=50).fit(X, Y)
    (bar,) = bars(capfd.readouterr().err)
    assert f"validation={model.validation_scores_[-1]:.4f}" in bar


def test_bar_ends_where_training_ends(capfd):
    settings = SMALL | {"verbose": 1, "max_iter": 50, "n_iter_no_change": 2, "tol": 0.9}
    model = KANRegressor(**settings, early_stopping=True).fit(X, Y)
    assert model.n_iter_ < 50
    (bar,) = bars(capfd.readouterr().err)
    assert f"{model.n_iter_}/50" in bar


def test_rate_shown_is_the_one_that_trains(capfd):
    settings = SMALL | {"learning_rate": 0.0123, "learning_rate_schedule": "exponential"}
    KANRegressor(**settings | {"max_iter": 1}, verbose=1).fit(X, Y)
    (bar,) = bars(capfd.readouterr().err)
    assert "lr=0.012" in bar


# --- interrupts -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def interrupts_arrive():
    """Also in a process that a shell started in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptsAfterEpoch(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


class PressesCtrlC(Callback):
    """In the middle of an epoch, as a person would."""

    def __init__(self, epoch, training=True):
        self.epoch, self.training = epoch, training

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == self.epoch and training == self.training:
            signal.raise_signal(signal.SIGINT)


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def assert_fitted_after(model, epochs):
    assert model.n_iter_ == len(model.loss_curve_) == epochs
    assert np.isfinite(outputs(model)).all()
    assert model.n_features_in_ == 3
    if epochs:
        assert model.loss_ == model.loss_curve_[-1]
    assert not model.net_.callbacks
    model.set_params(callbacks=None)
    model.partial_fit(X, Y)
    assert model.n_iter_ == epochs + 1


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANClassifier])
def test_interrupt_while_an_epoch_is_scored(estimator, monkeypatch):
    target = NumberTarget if estimator is KANRegressor else LabelTarget
    score, calls = target.score, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return score(self, *args)

    monkeypatch.setattr(target, "score", interrupted)
    model = estimator(**SMALL)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 2 iterations"):
        model.fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert len(model.validation_scores_) == 2
    assert_fitted_after(model, 2)
    assert model.validation_scores_ is None  # of rows that partial_fit does not know


@every
def test_interrupt_at_epoch_3_leaves_a_fitted_estimator_and_one_warning(estimator):
    model = estimator(**SMALL, callbacks=[InterruptsAfterEpoch(3)])
    with pytest.warns(ConvergenceWarning, match="Interrupted after 3 iterations") as caught:
        assert model.fit(X, Y) is model
    assert [warning.filename for warning in caught] == [__file__]  # who called fit
    whole = estimator(**SMALL).fit(X, Y)
    assert model.loss_curve_ == whole.loss_curve_[:3]
    assert np.abs(outputs(model) - outputs(whole)).max() > 1e-6
    assert_fitted_after(model, 3)


@every
@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_in_the_middle_of_an_epoch(estimator, epoch):
    model = estimator(**SMALL, callbacks=[PressesCtrlC(epoch)])
    with pytest.warns(ConvergenceWarning, match=f"Interrupted after {epoch - 1} iterations"):
        model.fit(X, Y)
    assert_fitted_after(model, epoch - 1)


@every
@pytest.mark.parametrize("training", [True, False])
def test_ctrl_c_under_early_stopping_keeps_the_best_weights(estimator, training):
    settings = SMALL | {"learning_rate": 0.5, "learning_rate_schedule": "constant"}
    model = estimator(**settings, callbacks=[PressesCtrlC(4, training)])
    with pytest.warns(ConvergenceWarning, match="Interrupted after 3 iterations"):
        model.fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert len(model.validation_scores_) == 3
    best = int(np.argmin(model.net_.history[:, "valid_loss"]))
    assert model.best_validation_score_ == model.validation_scores_[best]
    assert model.score(X[:20], Y[:20]) == pytest.approx(model.best_validation_score_)
    assert_fitted_after(model, 3)


def test_ctrl_c_in_lbfgs():
    model = KANRegressor(**SMALL, solver="lbfgs", callbacks=[InterruptsAfterEpoch(3)])
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(X, Y)
    assert ["Interrupted after 3" in str(w.message) for w in caught] == [True]
    assert model.n_iter_ == 3


def test_ctrl_c_closes_the_bar(capfd):
    with pytest.warns(ConvergenceWarning):
        KANRegressor(**SMALL, verbose=1, callbacks=[PressesCtrlC(3)]).fit(X, Y)
    assert capfd.readouterr().err.endswith("\n")


@every
@pytest.mark.parametrize("first", [True, False])
def test_ctrl_c_in_partial_fit_comes_through_and_leaves_the_fit_before(estimator, first):
    model = estimator(**SMALL)
    if not first:
        expected = outputs(model.partial_fit(X, Y))
    model.set_params(callbacks=[PressesCtrlC(1 if first else 2)])
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, Y)
    assert vars(model) == before
    if not first:
        np.testing.assert_array_equal(outputs(model), expected)
        assert len(model.loss_curve_) == model.n_iter_ == 1


def test_ctrl_c_before_training_leaves_the_earlier_fit(monkeypatch):
    model = KANRegressor(**SMALL).fit(X, Y)
    before = dict(vars(model))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(TableInputs, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, -Y)
    assert vars(model) == before


@every
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_second_ctrl_c_comes_through(estimator, goes_on):
    class PressesAgain(Callback):
        def on_train_end(self, net, **kwargs):
            signal.raise_signal(signal.SIGINT)

    model = estimator(**SMALL, warm_start=goes_on)
    if goes_on:
        expected = outputs(model.fit(X, Y))
    model.set_params(callbacks=[PressesCtrlC(3), PressesAgain()])
    with pytest.warns(ConvergenceWarning, match="Interrupted"), pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    if goes_on:
        np.testing.assert_array_equal(outputs(model), expected)
    else:
        assert not hasattr(model, "net_")


def test_a_second_ctrl_c_while_the_first_is_reported():
    def press(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    model = KANRegressor(**SMALL, callbacks=[PressesCtrlC(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = press
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y)
    assert not hasattr(model, "net_")


# --- callbacks of a user --------------------------------------------------------------


@every
@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_skorch_s_early_stopping_stops_without_a_warning(estimator, schedule):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.9)
    settings = SMALL | {"max_iter": 50, "learning_rate_schedule": schedule}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = estimator(**settings, callbacks=[stop], early_stopping=False).fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) < 50


def test_skorch_s_early_stopping_may_watch_the_validation_rows():
    stop = EarlyStopping(monitor="valid_score", patience=3, lower_is_better=False, load_best=True)
    settings = SMALL | {"max_iter": 60, "n_iter_no_change": 100}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KANRegressor(**settings, callbacks=[stop]).fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert model.n_iter_ < 60


@pytest.mark.parametrize("split", ["train", "valid"])
def test_skorch_s_checkpoint_saves_the_best_parameters(tmp_path, split):
    best = Checkpoint(dirname=tmp_path, monitor=f"{split}_loss_best", f_history=None)
    settings = SMALL | {"max_iter": 12, "early_stopping": True, "n_iter_no_change": 100}
    model = KANRegressor(**settings, callbacks=[best]).fit(X, Y)
    saved = torch.load(tmp_path / "params.pt")
    assert saved.keys() == model.module_.state_dict().keys()
    losses = [row[f"{split}_loss"] for row in model.net_.history]
    flags = [row[f"{split}_loss_best"] for row in model.net_.history]
    assert flags == [loss <= min(losses[: i + 1]) for i, loss in enumerate(losses)]


@pytest.mark.parametrize("callback", [EarlyStopping, Checkpoint])
def test_a_callback_that_watches_rows_which_are_not_held_out(callback):
    model = KANRegressor(**SMALL, early_stopping=False, callbacks=[callback])
    with pytest.raises(ValueError, match=r"'\w+' watches 'valid_loss\w*', but no rows are held"):
        model.fit(X, Y)


def test_callbacks_come_as_objects_classes_or_named_pairs():
    class Counts(Callback):
        batches = 0

        def on_batch_end(self, net, training=False, **kwargs):
            Counts.batches += training

    for given in (Counts(), Counts, ("counter", Counts())):
        Counts.batches = 0
        KANRegressor(**SMALL, callbacks=[given], early_stopping=False).fit(X, Y)
        assert Counts.batches == 7 * 4


def test_what_a_step_found_holds_no_graph():
    seen = []

    class Watches(Callback):
        def on_batch_end(self, net, loss=None, y_pred=None, **kwargs):
            seen.append(loss.requires_grad or y_pred.requires_grad)

    KANRegressor(**SMALL, callbacks=[Watches()]).fit(X, Y)
    assert seen and not any(seen)


class Collects(Callback):
    def initialize(self):
        self.losses_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        self.losses_.append(net.history[-1]["train_loss"])


@every
def test_what_callbacks_collect_is_in_the_fitted_copies(estimator):
    given = [Collects(), ("second", Collects()), PrintLog(sink=str), Collects, ("last", Collects)]
    model = estimator(**SMALL, callbacks=given, early_stopping=False).fit(X, Y)
    assert [type(callback) for callback in model.callbacks_] == [
        Collects, Collects, PrintLog, Collects, Collects,
    ]  # fmt: skip
    first, second, log, third, last = model.callbacks_
    for callback in (first, second, third, last):
        assert callback.losses_ == model.loss_curve_
    assert first is not given[0]
    assert log is not given[2]
    assert not hasattr(given[0], "losses_")
    model.partial_fit(X, Y)
    assert [len(callback.losses_) for callback in (first, model.callbacks_[0])] == [7, 1]
    before = model.callbacks_
    with pytest.raises(ValueError):
        model.fit(X[:, :0], Y)
    assert model.callbacks_ is before
    model.set_params(callbacks=None).fit(X, Y)
    assert model.callbacks_ == []


def test_callback_may_change_the_gradients():
    still = GradientNormClipping(gradient_clip_value=1e-300)
    settings = SMALL | {"weight_decay": 0.0}
    clipped = KANRegressor(**settings, callbacks=[still]).fit(X, Y)
    start = KANRegressor(**settings | {"max_iter": 1, "learning_rate": 1e-300}).fit(X, Y)
    np.testing.assert_allclose(clipped.predict(X), start.predict(X), rtol=1e-9)


def test_error_in_a_callback_comes_through():
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ZeroDivisionError("in a callback")

    model = KANRegressor(**SMALL, callbacks=[Fails()])
    with pytest.raises(ZeroDivisionError, match="in a callback"):
        model.fit(X, Y)
    assert not hasattr(model, "net_")
