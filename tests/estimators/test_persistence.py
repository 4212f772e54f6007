"""Pickle, joblib, deepcopy and clone: what comes back predicts the same and trains on."""

import pickle
import subprocess
import sys
import threading
from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EpochScoring, EpochTimer

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
Y = X[:, 0] + np.sin(X[:, 1])
SMALL = {
    "hidden_layer_sizes": (4,),
    "max_iter": 5,
    "batch_size": 20,
    "learning_rate": 0.01,
    "random_state": 0,
}

every = pytest.mark.parametrize("estimator", ALL)


def target_of(estimator):
    return np.where(Y > 0, "high", "low") if issubclass(estimator, ClassifierMixin) else Y


def outputs(model, X=X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def by_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib", compress=3)
    return joblib.load(folder / "model.joblib")


COPIES = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "oldest pickle": lambda model, folder: pickle.loads(pickle.dumps(model, protocol=2)),
    "deepcopy": lambda model, folder: deepcopy(model),
    "joblib": by_joblib,
    "twice": lambda model, folder: deepcopy(pickle.loads(pickle.dumps(model))),
}
copies = pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)


@every
@copies
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_copy_predicts_the_same_to_the_last_bit(estimator, copy, dtype, tmp_path):
    table = pd.DataFrame(X.astype(dtype), columns=["a", "b", "c"])
    setting = {"early_stopping": True, "dropout": 0.2, "knots": "quantile"}
    model = estimator(**SMALL, **setting).fit(table, target_of(estimator))
    other = copy(model, tmp_path)
    np.testing.assert_array_equal(outputs(other, table), outputs(model, table))
    np.testing.assert_array_equal(other.feature_importances_, model.feature_importances_)
    assert other.get_params() == model.get_params()
    for name in ("n_iter_", "loss_", "best_loss_", "loss_curve_", "validation_scores_"):
        assert getattr(other, name) == getattr(model, name)
    for name in ("best_validation_score_", "n_parameters_", "n_features_in_"):
        assert getattr(other, name) == getattr(model, name)
    assert list(other.feature_names_in_) == ["a", "b", "c"]
    assert [row["train_loss"] for row in other.net_.history] == model.loss_curve_


@every
def test_copying_leaves_the_original_alone(estimator, tmp_path):
    model = estimator(**SMALL).fit(X, target_of(estimator))
    before, weights = dict(vars(model)), pickle.dumps(model)
    other = deepcopy(model)
    other.partial_fit(X, target_of(estimator))
    assert vars(model) == before
    assert pickle.dumps(model) == weights


@every
@copies
def test_unfitted_copy_is_unfitted(estimator, copy, tmp_path):
    other = copy(estimator(**SMALL, callbacks=[EpochTimer()]), tmp_path)
    assert other.get_params()["hidden_layer_sizes"] == (4,)
    with pytest.raises(NotFittedError):
        other.predict(X)
    other.fit(X, target_of(estimator))


@every
def test_clone_of_a_fitted_estimator_is_fresh_and_fits_the_same(estimator):
    y = target_of(estimator)
    model = estimator(**SMALL, net_params={"optimizer__betas": (0.8, 0.9)}).fit(X, y)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "net_")
    np.testing.assert_array_equal(outputs(fresh.fit(X, y)), outputs(model))


@every
def test_partial_fit_goes_on_after_loading(estimator):
    y = target_of(estimator)
    model = estimator(**SMALL).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    before = outputs(loaded)
    loaded.partial_fit(X, y)
    assert loaded.n_iter_ == model.n_iter_ + 1
    assert len(loaded.loss_curve_) == loaded.n_iter_
    assert loaded.loss_curve_[:-1] == model.loss_curve_
    assert 0 < np.abs(outputs(loaded) - before).max() < 1
    for _ in range(30):
        loaded.partial_fit(X, y)
    assert loaded.loss_ < 0.8 * model.loss_curve_[0]


@every
def test_warm_start_goes_on_after_loading_as_without(estimator):
    y = target_of(estimator)
    model = estimator(**SMALL, warm_start=True).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    # A warm start takes a fresh optimiser, so both go the same way.
    np.testing.assert_array_equal(outputs(loaded.fit(X, y)), outputs(model.fit(X, y)))


@every
def test_loaded_estimator_refuses_another_network_too(estimator):
    y = target_of(estimator)
    loaded = pickle.loads(pickle.dumps(estimator(**SMALL, warm_start=True).fit(X, y)))
    with pytest.raises(ValueError, match=r"hidden_layer_sizes from \(4,\) to \(5,\)"):
        loaded.set_params(hidden_layer_sizes=(5,)).fit(X, y)
    with pytest.raises(ValueError, match=r"2 features.*3"):
        loaded.set_params(hidden_layer_sizes=(4,)).partial_fit(X[:, :2], y)


@every
@copies
def test_copies_leave_callbacks_out_that_trained(estimator, copy, tmp_path):
    class Unpicklable(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            self.hook = lambda: X

    y = target_of(estimator)
    model = estimator(**SMALL, callbacks=[EpochTimer(), Unpicklable()]).fit(X, y)
    assert len(model.callbacks_) == 2
    other = copy(model.set_params(callbacks=[EpochTimer()]), tmp_path)
    assert len(model.callbacks_) == 2
    assert not hasattr(other, "callbacks_")
    np.testing.assert_array_equal(outputs(other), outputs(model))
    assert len(other.partial_fit(X, y).callbacks_) == 1


def told(epochs):
    class Local(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(len(net.history))

    return Local


@every
@copies
def test_lambdas_and_local_classes_are_copied_by_value(estimator, copy, tmp_path):
    y, lowered = target_of(estimator), 0.5
    scorer = EpochScoring(lambda net, X, y: lowered, on_train=True, name="half")
    callbacks = [scorer, told([]), ("told", told([])())]
    model = estimator(**SMALL, early_stopping=False, callbacks=callbacks, warm_start=True)
    unfitted = copy(model, tmp_path)
    assert unfitted.fit(X, y).net_.history[-1, "half"] == 0.5
    other = copy(model.fit(X, y), tmp_path)
    np.testing.assert_array_equal(outputs(other), outputs(model))
    assert other.fit(X, y).net_.history[-1, "half"] == 0.5
    assert len(other.callbacks_) == 3
    other = estimator.__new__(estimator)
    other.__setstate__(model.__getstate__())
    np.testing.assert_array_equal(outputs(other.fit(X, y)), outputs(model.fit(X, y)))


def test_searches_in_other_processes_keep_lambdas():
    scorer = EpochScoring(lambda net, X, y: 0.5, on_train=True, name="half")
    model = KANRegressor(**SMALL, callbacks=[scorer, ("half", EpochTimer())])
    search = GridSearchCV(model, {"grid_size": [2, 3]}, cv=2, n_jobs=2).fit(X, Y)
    assert search.best_estimator_.net_.history[-1, "half"] == 0.5
    assert [type(each) for each in search.best_estimator_.callbacks_] == [EpochScoring, EpochTimer]


class HoldsALock(Callback):
    def __init__(self):
        self.lock = threading.Lock()


@every
def test_callbacks_that_no_pickle_holds_are_left_out_and_named(estimator):
    model = estimator(**SMALL, callbacks=[HoldsALock()])
    with pytest.raises(pickle.PicklingError, match=r"cannot be pickled with its callbacks: .*lock"):
        pickle.dumps(model)
    model.fit(X, target_of(estimator))
    with pytest.warns(UserWarning, match=r"has callbacks=None: .*lock"):
        other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(other), outputs(model))
    assert other.callbacks is None
    assert len(model.callbacks) == 1
    model.set_params(net_params={"module__made_by": threading.Lock()}, callbacks=None)
    with pytest.raises(pickle.PicklingError, match=r"net_params: .*set_params\(net_params=None\)"):
        pickle.dumps(model)


class KeepsData(Callback):
    def on_train_begin(self, net, X=None, **kwargs):
        self.data = X


@every
def test_size_is_that_of_the_weights_not_of_the_data(estimator):
    def size(n):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 3))
        y = X[:, 0] if estimator in (KANRegressor, MetaKANRegressor) else X[:, 0] > 0
        settings = SMALL | {"max_iter": 2, "batch_size": 1000, "precision": "float32"}
        model = estimator(**settings, knots="quantile", callbacks=[KeepsData()])
        return len(pickle.dumps(model.fit(X, y, X_val=X, y_val=y)))

    assert abs(size(20_000) - size(500)) < 500
    assert size(500) < 40_000


def test_size_does_not_grow_with_batches():
    sizes = [
        len(pickle.dumps(KANRegressor(**SMALL | {"batch_size": size}).fit(X, Y)))
        for size in (80, 1)
    ]
    assert abs(sizes[0] - sizes[1]) < 200


@every
@pytest.mark.parametrize(
    "later",
    [
        {"hidden_layer_sizes": (7, 7)},
        {"grid_size": 11},
        {"hidden_layer_sizes": "nonsense"},
        {"net_params": {"optimizer__param_groups": [("nothing", {"lr": 1})]}},
        {"net_params": {"optimizer__nonsense": 1}},
        {"net_params": 3},
        {"callbacks": 3},
        {"solver": "lbfgs"},
        {"scale_inputs": None, "knots": "quantile"},
        {"device": "nowhere", "precision": "float32"},
        {"random_state": "nonsense"},
    ],
    ids=str,
)
def test_parameters_set_after_fitting_do_not_touch_what_was_fitted(estimator, later):
    model = estimator(**SMALL).fit(X, target_of(estimator))
    expected = outputs(model)
    model.set_params(**later)
    np.testing.assert_array_equal(outputs(model), expected)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(loaded), expected)
    for name, value in later.items():
        assert loaded.get_params(deep=False)[name] == value


def test_loading_in_a_fresh_process_is_silent_and_predicts_the_same(tmp_path):
    model = MetaKANRegressor(**SMALL).fit(X, Y)
    joblib.dump((model, X, model.predict(X)), tmp_path / "model.joblib")
    code = """
import sys, joblib
model, X, expected = joblib.load(sys.argv[1])
assert abs(model.predict(X) - expected).max() < 1e-12
assert model.partial_fit(X, expected).n_iter_ > 1
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path / "model.joblib"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("device", ["cuda:0", "mps", "mps:0", "xpu:1", "of another torch"])
def test_model_fitted_on_a_card_loads_on_a_cpu(device):
    state = KANRegressor(**SMALL).fit(X, Y).__getstate__()
    expected = outputs(KANRegressor(**SMALL).fit(X, Y))
    state["_net"]["execution"]["device"] = device
    loaded = KANRegressor.__new__(KANRegressor)
    loaded.__setstate__(state)
    np.testing.assert_allclose(loaded.predict(X), expected, rtol=1e-6)


@every
def test_a_pickle_says_its_format_and_notices_a_flipped_bit(estimator):
    model = estimator(**SMALL).fit(X, target_of(estimator))
    state = pickle.loads(pickle.dumps(model.__getstate__()))
    assert isinstance(state["_net"]["format"], int)
    for name, numbers in state["_net"]["parameters"].items():
        changed = deepcopy(state)
        raw = bytearray(numbers.tobytes())
        raw[0] ^= 1
        flipped = np.frombuffer(raw, numbers.dtype).reshape(numbers.shape)
        changed["_net"]["parameters"][name] = flipped
        with pytest.raises(ValueError, match="damaged"):
            estimator().__setstate__(changed)
    later = deepcopy(state)
    later["_net"]["format"] += 1
    with pytest.raises(ValueError, match="has format"):
        estimator().__setstate__(later)


def test_a_bit_flipped_in_the_file_changes_no_prediction_silently():
    model = KANRegressor(**SMALL).fit(X, Y)
    expected, data = outputs(model), pickle.dumps(model)
    largest = max(model.module_.parameters(), key=torch.numel)
    start = data.index(largest.detach().numpy().tobytes()[:64])
    for position in range(start, start + 64):
        flipped = bytearray(data)
        flipped[position] ^= 1
        with pytest.raises(ValueError, match="damaged"):
            pickle.loads(bytes(flipped))
    np.testing.assert_array_equal(outputs(pickle.loads(data)), expected)
