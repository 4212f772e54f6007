"""Several members in one estimator: what each learns, and what they predict together."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import build_network
from sklearn_metakan.training import draw_seeds, net

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(90, 3))
Y = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * RNG.normal(size=90)
LABELS = np.array(["a", "b", "c"])[np.digitize(Y, [-0.4, 0.4])]
SMALL = {"hidden_layer_sizes": (4, 3), "n_estimators": 3, "random_state": 0}
FEW = SMALL | {"max_iter": 4, "batch_size": 32}
REGRESSORS = [KANRegressor, MetaKANRegressor]
CLASSIFIERS = [KANClassifier, MetaKANClassifier]
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
each_regressor = pytest.mark.parametrize("regressor", REGRESSORS)
each_classifier = pytest.mark.parametrize("classifier", CLASSIFIERS)


def members_of(model, table=X):
    """Predictions of every member alone, (n, n_members)."""
    scaled = torch.from_numpy(model.input_scaler_.transform(table))
    found = []
    for member in range(model.n_estimators):
        with torch.no_grad():
            outputs = model.module_.member(member)(scaled)
        found.append(model.target_scaler_.inverse_transform(outputs.numpy())[:, 0])
    return np.stack(found, axis=1)


def test_members_learn_as_each_would_alone():
    settings = {"max_iter": 5, "batch_size": 1000, "learning_rate_schedule": "constant"}
    model = KANRegressor(**SMALL, **settings, early_stopping=False, weight_decay=0.1).fit(X, Y)
    start = build_network(**model._network | {"seed": draw_seeds(0, 3)[1]})
    x = torch.from_numpy(model.input_scaler_.transform(X))
    y = torch.from_numpy(model.target_scaler_.transform(Y[:, None]))
    (group,) = model.net_.optimizer_.param_groups
    for member in range(3):
        alone = start.member(member)
        optimizer = torch.optim.AdamW(
            alone.parameters(), group["lr"], group["betas"], weight_decay=0.1
        )
        for _ in range(5):
            optimizer.zero_grad()
            (alone(x) - y).square().mean().backward()
            optimizer.step()
        trained = dict(model.module_.member(member).named_parameters())
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(trained[name], parameter)


def test_members_with_coefficients_of_their_own_are_kept_each_at_its_best():
    options = {"max_iter": 60, "batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.0}
    train, valid = slice(0, 60), slice(60, 90)
    model = KANRegressor(**SMALL, **options)
    model.fit(X[train], Y[train], X_val=X[valid], y_val=Y[valid])
    losses = np.array(model.net_.history[:, "valid_losses"])
    best = losses.argmin(0)
    assert len(set(best)) > 1  # else it shows nothing
    scale = model.target_scaler_.scale_[0]
    found = ((members_of(model, X[valid]) - Y[valid, None]) ** 2).mean(0) / scale**2
    np.testing.assert_allclose(found, losses.min(0), rtol=1e-9)
    np.testing.assert_allclose(model.net_.history[:, "valid_loss"], losses.mean(1), rtol=1e-9)


def test_members_of_a_meta_learner_are_kept_together():
    options = {"max_iter": 60, "batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.0}
    train, valid = slice(0, 60), slice(60, 90)
    model = MetaKANRegressor(**SMALL, **options)
    model.fit(X[train], Y[train], X_val=X[valid], y_val=Y[valid])
    scale = model.target_scaler_.scale_[0]
    found = ((members_of(model, X[valid]) - Y[valid, None]) ** 2).mean() / scale**2
    assert found == pytest.approx(min(model.net_.history[:, "valid_loss"]), rel=1e-9)


def test_each_member_holds_rows_of_its_own_out():
    seen = {}

    class Watching(KANRegressor):
        def _data(self, *given):
            seen.update(enumerate(super()._data(*given)))
            return seen[0], seen[1]

    weight = 1 + (X[:, 0] > 0)
    Watching(**FEW, early_stopping=True, validation_fraction=0.2).fit(X, Y, weight)
    train, valid = seen[0].weight.numpy(), seen[1].weight.numpy()
    assert train.shape == (90, 3)
    np.testing.assert_allclose(train.mean(0), 1)
    np.testing.assert_allclose(valid.mean(0), 1)
    assert ((train == 0).sum(0) == 18).all()
    assert ((valid > 0).sum(0) == 18).all()
    assert not (train == 0).all(1).any()
    for row, weights in zip(seen[1].X, valid, strict=True):
        same = (row == seen[0].X).all(1).numpy()
        assert ((train[same] == 0) == (weights > 0)).all()
    used = train[:, 0] > 0
    np.testing.assert_allclose(train[used, 0] / weight[used], train[used, 0][0] / weight[used][0])


@each_regressor
def test_predictions_are_the_mean_of_the_members(regressor):
    model = regressor(**FEW).fit(X, Y)
    alone = members_of(model)
    assert alone.std(1).max() > 1e-3
    mean, deviation = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, alone.mean(1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(deviation, alone.std(1), rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), mean)


@each_regressor
def test_several_outputs_and_other_losses(regressor):
    both = np.c_[Y, 100 - Y]
    mean, deviation = regressor(**FEW).fit(X, both).predict(X, return_std=True)
    assert mean.shape == deviation.shape == (90, 2)
    counts = np.exp(Y).round()
    model = regressor(**FEW, loss="poisson").fit(X, counts)
    mean, deviation = model.predict(X, return_std=True)
    assert (mean > 0).all()
    assert (deviation > 0).any()


@each_regressor
@pytest.mark.parametrize("members", [3, 7])
def test_members_predict_a_constant_target_exactly(regressor, members):
    for value in (0.1, 7.3, 1e307):
        model = regressor(**FEW | {"n_estimators": members, "max_iter": 1})
        mean, deviation = model.fit(X, np.full(90, value)).predict(X, return_std=True)
        np.testing.assert_array_equal(mean, value)
        np.testing.assert_array_equal(deviation, 0)


@each_regressor
def test_a_single_network_does_not_disagree_with_itself(regressor):
    model = regressor(**FEW | {"n_estimators": 1}).fit(X, Y)
    with pytest.raises(ValueError, match=r"return_std=True needs several members.*n_estimators=4"):
        model.predict(X, return_std=True)


@each_classifier
@pytest.mark.parametrize("y", [LABELS, Y > 0], ids=["three", "two"])
def test_probabilities_are_the_mean_of_the_members(classifier, y):
    model = classifier(**FEW).fit(X, y)
    scaled, found = torch.from_numpy(model.input_scaler_.transform(X)), []
    for member in range(3):
        with torch.no_grad():
            logits = model.module_.member(member)(scaled)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        found.append(logits.softmax(1).numpy())
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba, np.mean(found, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(X), model.classes_[proba.argmax(1)])
    decision = model.decision_function(X)
    if decision.ndim == 1:
        np.testing.assert_allclose(decision, np.log(proba[:, 1] / proba[:, 0]), rtol=1e-6)
    else:
        np.testing.assert_array_equal(decision.argmax(1), proba.argmax(1))


@pytest.mark.parametrize("estimator", [*REGRESSORS, *CLASSIFIERS])
def test_members_are_stored_served_and_trained_on(estimator):
    y = Y if "Regressor" in estimator.__name__ else LABELS
    model = estimator(**FEW).fit(X, y)
    outputs = model.predict if y is Y else model.predict_proba
    expected = outputs(X)
    loaded = pickle.loads(pickle.dumps(model))
    again = loaded.predict(X) if y is Y else loaded.predict_proba(X)
    np.testing.assert_array_equal(again, expected)
    with torch.no_grad():
        served = model.to_torch()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(served, expected, rtol=1e-9, atol=1e-12)
    assert model.feature_importances_.shape == (3,)
    more = loaded.set_params(warm_start=True).fit(X, y)
    assert more.module_.n_members == 3
    finer = more.set_params(grid_size=10, max_iter=1).fit(X, y)
    assert finer.module_.layers[1].basis.grid_size == 10
    assert finer.partial_fit(X, y).module_.n_members == 3
    with pytest.raises(ValueError, match="cannot change n_estimators from 3 to 2"):
        finer.set_params(n_estimators=2).fit(X, y)


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_members_minimise_by_lbfgs(estimator):
    model = estimator(**SMALL, solver="lbfgs", max_iter=60).fit(X, Y)
    assert model.score(X, Y) > 0.9


class Clock:
    """A clock on which every look takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_a_time_limit_ends_training_with_what_it_has(monkeypatch, schedule, early_stopping):
    clock = Clock()
    monkeypatch.setattr("sklearn_metakan.training.callbacks.perf_counter", clock)
    monkeypatch.setattr("sklearn_metakan.training.trainer.perf_counter", clock)
    options = {"learning_rate_schedule": schedule, "early_stopping": early_stopping}
    model = KANRegressor(**SMALL, **options, time_limit=200, batch_size=30).fit(X, Y)
    assert 10 < model.n_iter_ < 100
    assert clock.now <= 201
    assert model.score(X, Y) > 0.3
    short = KANRegressor(**SMALL, **options, time_limit=3, batch_size=10).fit(X, Y)
    assert short.n_iter_ == 0
    assert np.isfinite(short.predict(X)).all()


def test_features_are_kept_of_all_rows_or_of_none(monkeypatch):
    train, valid = slice(0, 70), slice(70, 90)
    given = {"X_val": X[valid], "y_val": Y[valid]}
    expected = KANRegressor(**FEW).fit(X[train], Y[train], **given)
    of_a_row = 8 * 9 * X.shape[1]  # bytes
    monkeypatch.setattr(net, "FEATURES_MEMORY", 40 * of_a_row / 2**20)  # enough for 20 rows alone
    found = KANRegressor(**FEW).fit(X[train], Y[train], **given)
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-9)
    np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-9)
