"""Sums of functions solved exactly: least squares, likelihood, posterior draws, labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor, load
from sklearn_metakan.nn import KAN, additive_terms
from sklearn_metakan.training import reml
from sklearn_metakan.training.reml import Reml

RNG = np.random.default_rng(0)
N = 300
X = RNG.uniform(-1, 1, size=(N, 3))
SCORE = np.sin(3 * X[:, 0]) + X[:, 1] ** 2
HOW = {"hidden_layer_sizes": (), "solver": "reml", "n_estimators": 1, "random_state": 0}


def settled(criterion, y, n_members=1, outputs=1, weight=None):
    """A network and its solver after the last step."""
    network = KAN([3, outputs], n_members=n_members, grid_size=8, dtype=torch.float64)
    solver = Reml(network.parameters())
    batch = torch.from_numpy(X), (torch.from_numpy(y), weight)
    for _ in range(100):
        solver.step_on(network, criterion, batch, False, 0)
        if solver.settled:
            return network, solver
    raise AssertionError("never settled")


def design(network, kept=None):
    """Centred features of each term, or of some, in its own numbers."""
    with torch.no_grad():
        features = network.features(torch.from_numpy(X))
    features = features - features.mean(0)
    terms = additive_terms(network)
    for span, factor in [terms[k] for k in range(len(terms)) if kept is None or k in kept]:
        yield (features[:, span] if factor is None else features[:, span] @ factor).numpy()


def test_the_likelihood_is_at_its_maximum():
    """Of covariances ``phi I + sum_t F_t F_t' / s_t``, without the mean."""
    y = SCORE + 0.3 * RNG.normal(size=N)
    network, solver = settled(nn.MSELoss(reduction="none"), y[:, None])
    parts = [*design(network, solver._kept)]
    rest = np.linalg.svd(np.ones((1, N)))[2][1:]  # what is orthogonal to the mean

    def likelihood(strengths, noise):
        covariance = noise * np.eye(N)
        for part, strength in zip(parts, strengths, strict=True):
            covariance += part @ part.T / strength
        covariance = rest @ covariance @ rest.T
        explained = rest @ y @ np.linalg.solve(covariance, rest @ y)
        return -0.5 * (np.linalg.slogdet(covariance)[1] + explained)

    (state,) = solver._states
    strengths, noise = state.strengths.numpy(), float(state.noise)
    best = likelihood(strengths, noise)
    for changed in (1.5, 1 / 1.5):
        assert likelihood(strengths, noise * changed) < best
        assert likelihood(strengths * changed, noise) < best
        for term in np.flatnonzero(state.freedom.numpy() > 1):
            others = strengths.copy()
            others[term] *= changed
            assert likelihood(others, noise) < best + 0.01
    assert 0.2 < noise**0.5 < 0.4


def test_outputs_are_those_of_ridge_regression():
    network, _ = settled(nn.MSELoss(reduction="none"), SCORE[:, None] + X[:, [2]] ** 3)
    solver = Reml(network.parameters())
    batch = torch.from_numpy(X), (torch.from_numpy(SCORE[:, None]), None)
    solver.step_on(network, nn.MSELoss(reduction="none"), batch, False, 0)
    parts = np.column_stack([*design(network)])
    noise, strength = 0.1 * SCORE.var(), len([*design(network)])
    matrix = parts.T @ parts / noise + strength * np.eye(parts.shape[1])
    expected = SCORE.mean() + parts @ np.linalg.solve(matrix, parts.T @ SCORE / noise)
    with torch.no_grad():
        found = network(batch[0])[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_mean_of_members_is_the_solution_and_they_spread_as_far_as_it_is_unsure():
    y = SCORE[:, None] + 0.3 * RNG.normal(size=(N, 1))
    alone, _ = settled(nn.MSELoss(reduction="none"), y)
    several, _ = settled(nn.MSELoss(reduction="none"), y, n_members=50)
    x = torch.from_numpy(X)
    with torch.no_grad():
        one, many = alone(x)[:, 0], several(x)[..., 0]
    torch.testing.assert_close(many.mean(1), one)
    within = (many.std(1).numpy() ** 2).mean() ** 0.5
    error = np.sqrt(np.mean((one.numpy() - SCORE) ** 2))
    assert 0.5 < within / error < 2


@pytest.mark.parametrize("kind", ["two", "three", "labels"])
def test_newton_steps_end_where_the_gradient_does(kind):
    noisy = SCORE + 0.5 * RNG.logistic(size=N)
    y = {
        "two": (noisy > 0.3)[:, None].astype(float),
        "three": np.digitize(noisy, [0, 0.8]),
        "labels": np.column_stack([noisy > 0.3, X[:, 2] > 0.1 * noisy]).astype(float),
    }[kind]
    criterion = nn.CrossEntropyLoss if kind == "three" else nn.BCEWithLogitsLoss
    outputs = {"two": 1, "three": 3, "labels": 2}[kind]
    network, solver = settled(criterion(reduction="none"), y, outputs=outputs)
    logits = network(torch.from_numpy(X))
    target = torch.from_numpy(y)
    losses = F.cross_entropy if kind == "three" else F.binary_cross_entropy_with_logits
    (slope,) = torch.autograd.grad(losses(logits, target, reduction="sum"), logits)
    assert abs(slope.sum(0)).max() < 0.5  # of rows: constants are free
    for output, state in enumerate(solver._states):
        for part in design(network, solver._kept):
            pull = part.T @ slope[:, output].numpy()
            # Where the penalty's gradient s v balances it, it is as small as s |v| = sqrt(s g).
            assert np.linalg.norm(pull) < 2 * float((state.strengths * state.freedom).max()) ** 0.5


def test_features_that_memory_does_not_hold_are_made_at_each_step(monkeypatch):
    y = (SCORE + RNG.logistic(size=N) > 0.3).astype(int)
    held = KANClassifier(**HOW).fit(X, y).decision_function(X)
    monkeypatch.setattr(reml, "_HELD", 0)
    monkeypatch.setattr("sklearn_metakan.training.net.FEATURES_MEMORY", 0)
    made = KANClassifier(**HOW).fit(X, y).decision_function(X)
    np.testing.assert_allclose(made, held, atol=1e-6 * np.ptp(held))


@pytest.mark.parametrize(("kind", "cells"), [(KANRegressor, 75), (KANClassifier, 32)])
def test_many_rows_with_numbers_have_finer_functions(kind, cells):
    """Those with labels do not; each row of numbers tells more."""
    x = np.random.default_rng(0).uniform(size=(6000, 1))
    y = np.sign(np.sin(50 * np.pi * x[:, 0]))
    how = HOW | {"degree": 1}
    found = kind(**how).fit(x, y)
    assert found.module_.layers[0].basis.breaks.shape[1] - 3 == cells
    if kind is KANRegressor:
        assert found.score(x, y) > 0.1 + kind(**how, grid_size=32).fit(x, y).score(x, y)


def test_curves_are_as_smooth_as_they_are():
    """Noise has none; a step has cells; a line is one."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(2000, 3))
    y = np.where(X[:, 0] > 0.2, 1.0, 0.0) + X[:, 1] + 0.1 * rng.normal(size=2000)
    how = HOW | {"degree": 1, "grid_size": 40, "knots": "quantile"}
    model = KANRegressor(**how).fit(X, y)
    new = rng.uniform(-1, 1, size=(2000, 3))
    truth = np.where(new[:, 0] > 0.2, 1.0, 0.0) + new[:, 1]
    away = np.abs(new[:, 0] - 0.2) > 0.1
    assert np.sqrt(np.mean((model.predict(new) - truth)[away] ** 2)) < 0.02
    assert model.feature_importances_[2] < 1e-3


def test_weights_count_and_their_unit_does_not():
    y = SCORE + np.where(np.arange(N) < 100, 0.0, 1.0) * X[:, 2]
    how = HOW | {"interactions": [(0, 1)]}
    weight = np.where(np.arange(N) < 100, 1.0, 0.0)
    part = KANRegressor(**how).fit(X[:100], y[:100]).predict(X)
    np.testing.assert_allclose(KANRegressor(**how).fit(X, y, weight).predict(X), part, atol=1e-6)
    weight += 1e-3
    nearly = KANRegressor(**how).fit(X, y, weight).predict(X)
    np.testing.assert_allclose(
        KANRegressor(**how).fit(X, y, 10 * weight).predict(X), nearly, atol=1e-6
    )
    even = KANRegressor(**how).fit(X, y).predict(X)
    errors = [np.square(each - y)[:100].mean() for each in (nearly, even)]
    assert errors[0] < 0.5 * errors[1]


FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(city=RNG.choice(["Oslo", "Rome"], N))
FRAME.loc[::7, "c"] = np.nan
SUM = SCORE + np.where(FRAME["city"] == "Rome", 1.0, 0.0) * (1 + FRAME["b"])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kind", ["number", "numbers", "classes"])
def test_levels_gaps_pairs_and_files(kind, members, tmp_path):
    y = {
        "number": SUM,
        "numbers": np.column_stack([SUM, -SUM]),
        "classes": np.digitize(SUM, [0, 1]),
    }
    how = HOW | {"n_estimators": members, "interactions": [("b", "city"), ("a", "b")]}
    model = (KANClassifier if kind == "classes" else KANRegressor)(**how).fit(FRAME, y[kind])
    assert model.score(FRAME, y[kind]) > 0.9
    assert 1 < model.n_iter_ < 100
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    method = "predict_proba" if kind == "classes" else "predict"
    np.testing.assert_array_equal(getattr(other, method)(FRAME), getattr(model, method)(FRAME))


def test_a_table_of_levels_alone():
    levels = FRAME[["city"]].assign(other=RNG.choice(["x", "y", "z"], N))
    y = 5 + 2.0 * (levels["city"] == "Rome") - 1.0 * (levels["other"] == "z")
    model = KANRegressor(**HOW).fit(levels, y + 0.01 * RNG.normal(size=N))
    np.testing.assert_allclose(model.predict(levels), y, atol=0.05)


def test_a_search_and_a_second_call():
    model = KANRegressor(**HOW, warm_start=True).fit(X, SCORE)
    first = model.predict(X)
    np.testing.assert_allclose(model.fit(X, SCORE).predict(X), first, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        (KANRegressor, {"hidden_layer_sizes": (4,)}, "hidden layers"),
        (MetaKANRegressor, {}, "meta-learner"),
        (KANRegressor, {"loss": "poisson"}, "squared_error"),
        (KANRegressor, {"monotonic_cst": [1, 0, 0]}, "monotonic_cst"),
        (KANRegressor, {"basis": "rbf"}, "bspline"),
        (KANRegressor, {"weight_decay": 0.1}, "weight_decay=0.1"),
        (KANRegressor, {"sparsity": 0.1}, "sparsity=0.1"),
        (KANRegressor, {"early_stopping": True}, "early_stopping=True"),
    ],
)
def test_what_it_cannot_do_is_refused(kind, more, message):
    with pytest.raises(ValueError, match=message):
        kind(**HOW | more).fit(X, SCORE - SCORE.min())


def test_many_levels_are_refused():
    many = pd.DataFrame({"x": X[:, 0], "name": [f"n{k % 90}" for k in range(N)]})
    with pytest.raises(ValueError, match="min_frequency"):
        KANRegressor(**HOW).fit(many, SCORE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_columns_have_coarser_functions():
    x = np.random.default_rng(0).uniform(size=(100, 60))
    module = KANRegressor(**HOW, degree=1, max_iter=1).fit(x, x[:, 0]).module_
    assert module.layers[0].basis.breaks.shape[1] - 3 == 1024 // 60


@pytest.mark.parametrize("held_out", [1000, 100])  # all folds, and two
def test_held_out_labels_choose_how_far_all_strengths_are_off(held_out, monkeypatch):
    """Whichever factor comes first, the one that neither flattens nor overfits is found."""
    monkeypatch.setattr(reml, "HELD_OUT", held_out)
    y = (SCORE + 0.3 * RNG.logistic(size=N) > 0.3).astype(int)
    found = {}
    for factors in ((1.0,), (1e5, 1.0), (1.0, 1e5), (1e-5, 1.0), (1e5, 1e5)):
        monkeypatch.setattr(reml, "FACTORS", factors)
        found[factors] = KANClassifier(**HOW).fit(X, y).decision_function(X)
    (alone, *same, flat) = found.values()
    for each in same:
        np.testing.assert_array_equal(each, alone)
    assert np.ptp(flat) < 0.1 * np.ptp(alone)


def test_few_rows_and_many_are_solved_alike():
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 12, generator=rng, dtype=torch.float64)
    rows -= rows.mean(0)
    target, strengths = rows @ rows[0] + rows[:, 1], torch.linspace(0.1, 5, 12, dtype=rows.dtype)
    one, noise = rows.new_ones(()), rows.new_tensor(0.3)
    few = reml._Sums(one, one, one, rows, target, target @ target)
    many = few._replace(products=rows.T @ rows, cross=rows.T @ target)
    normal = torch.randn(20, 50_000, generator=rng, dtype=rows.dtype)
    *found, factor, draws = reml._by_rows(few, strengths, noise, normal)
    *expected, other, others = reml._by_numbers(many, strengths, noise, normal[:12])
    torch.testing.assert_close(found, expected)
    shares = [reml._shares(few, strengths, factor), reml._shares(many, strengths, other)]
    torch.testing.assert_close(*shares)
    assert (torch.cov(draws) - torch.cov(others)).abs().max() < 0.1 * torch.cov(others).max()
