"""NumberTarget: losses by row, scores of validation rows, scaling and its inverse."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_squared_error,
    r2_score,
)

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.targets.number import NumberTarget, weighted_r2
from sklearn_metakan.training.data import weighted_mean

RNG = np.random.default_rng(0)
TARGET, OUTPUT = RNG.normal(size=(2, 50, 2))
WEIGHT = RNG.uniform(0.1, 3, size=50)
WEIGHT /= WEIGHT.mean()


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def loss_of(name, output, target, weight=None, quantile=0.5):
    losses = NumberTarget(name, quantile).criterion()(*tensors(output, target))
    return weighted_mean(losses, None if weight is None else torch.from_numpy(weight)).item()


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_losses_equal_scikit_learn_s_metrics(weight):
    metrics = {
        "squared_error": mean_squared_error,
        "absolute_error": mean_absolute_error,
        "quantile": lambda *args, **kw: mean_pinball_loss(*args, alpha=0.3, **kw),
    }
    for name, metric in metrics.items():
        expected = metric(TARGET, OUTPUT, sample_weight=weight)
        assert loss_of(name, OUTPUT, TARGET, weight, 0.3) == pytest.approx(expected)


def test_huber_is_squared_inside_and_linear_outside():
    small, large = np.array([[0.5], [-0.5]]), np.array([[5.0], [-5.0]])
    zero = np.zeros((2, 1))
    assert loss_of("huber", small, zero) == 0.5 * loss_of("squared_error", small, zero)
    assert loss_of("huber", large, zero) == loss_of("absolute_error", large, zero) - 0.5


def test_poisson_differs_from_half_the_deviance_by_a_constant():
    counts = RNG.poisson(3, size=50).astype(float)
    mean_a, mean_b = RNG.uniform(0.5, 8, size=(2, 50))
    ours = loss_of("poisson", np.log(mean_a), counts) - loss_of("poisson", np.log(mean_b), counts)
    theirs = mean_poisson_deviance(counts, mean_a) - mean_poisson_deviance(counts, mean_b)
    assert ours == pytest.approx(theirs / 2)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.8])
def test_pinball_loss_is_least_at_the_quantile(level):
    target = torch.from_numpy(RNG.exponential(size=1001))
    candidates = torch.linspace(0, 6, 2001, dtype=torch.float64)
    pinball = NumberTarget("quantile", level).criterion()
    losses = torch.stack([pinball(c[None, None], target[:, None]).mean() for c in candidates])
    best = candidates[losses.argmin()].item()
    assert (target.numpy() <= best).mean() == pytest.approx(level, abs=0.005)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_scores_equal_scikit_learn_s(weight):
    given = None if weight is None else torch.from_numpy(weight)
    for target, output in ((TARGET, OUTPUT), (TARGET[:, 0], OUTPUT[:, 0])):
        expected = r2_score(target, output, sample_weight=weight)
        assert weighted_r2(*tensors(target, output), given) == pytest.approx(expected)


def test_r2_of_a_constant_target_is_zero():
    constant = torch.full((5, 1), 2.0)
    assert weighted_r2(constant, constant + 1, None) == 0
    assert weighted_r2(constant, constant, None) == 0


KINDS = {"standard": "squared_error", "robust": "absolute_error", "mean": "poisson"}
N = 400


def fit(kind, y, weight=None):
    """Scaled as for a loss; None: not scaled."""
    target = NumberTarget(KINDS.get(kind, "squared_error"), scaled=kind is not None)
    y = np.asarray(y, dtype=np.float64)
    return target.fit(Rows(np.zeros((len(y), 1)), None, y, weight))


def resolution(y):
    """Rounding of numbers of the size of y, by output."""
    return np.finfo(np.float64).eps * np.abs(y).max(axis=0)


@pytest.mark.parametrize("kind", ["standard", "robust", "mean", None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_target_inverse(kind, dtype):
    y = np.exp(np.random.default_rng(1).normal(size=(N, 2)) * [1, 2] + [0, 5]).astype(dtype)
    scaler = fit(kind, y)
    scaled = scaler.transform(y)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaler.inverse_transform(scaled), y, rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("size", [1e-200, 1e-3, 1.0, 1e200])
def test_target_standard(size, offset):
    if offset and size < 1:
        size = 1e-2
    y = size * np.random.default_rng(1).normal(size=(N, 1)) + offset
    scaled = fit("standard", y).transform(y)
    rounding = N * float(resolution(y)[0] / np.ptp(y))
    assert scaled.mean() == pytest.approx(0, abs=1e-12 + rounding)
    assert scaled.std() == pytest.approx(1, abs=1e-12 + rounding)


def test_target_robust_is_standard_for_normal_targets_and_blind_to_outliers():
    y = 3 * np.random.default_rng(1).normal(size=(20_000, 1)) + 7
    robust, standard = (fit(kind, y) for kind in ("robust", "standard"))
    assert robust.location_ == pytest.approx(standard.location_, abs=0.1)
    assert robust.scale_ == pytest.approx(standard.scale_, rel=0.05)
    spoilt = np.r_[y, np.full((1000, 1), 1e9)]
    assert fit("robust", spoilt).scale_ == pytest.approx(robust.scale_, rel=0.2)


def test_target_robust_falls_back_where_the_middle_half_is_one_value():
    y = np.where(np.arange(N) % 10 == 0, RNG.uniform(size=N), 0.0)[:, None]
    robust, standard = (fit(kind, y) for kind in ("robust", "standard"))
    assert robust.scale_ == standard.scale_ > 0


def test_target_mean_keeps_zero_and_sign():
    y = np.exp(RNG.normal(size=N))[:, None] * np.array([1.0, 50.0])
    y[0] = 0
    scaled = fit("mean", y).transform(y)
    np.testing.assert_allclose(scaled.mean(axis=0), 1)
    assert (scaled[0] == 0).all()


@pytest.mark.parametrize("kind", ["standard", "robust", "mean"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e20])
def test_constant_target_stays_finite(kind, value):
    y = np.full((N, 1), value)
    scaler = fit(kind, y)
    scaled = scaler.transform(y)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= (1 if kind == "mean" else 16 * np.spacing(value))
    np.testing.assert_allclose(scaler.inverse_transform(scaled), y, rtol=1e-15)


@pytest.mark.parametrize("kind", ["standard", "robust", "mean"])
def test_target_weights_count_like_repeated_rows(kind):
    y = np.exp(np.random.default_rng(1).normal(size=(N, 2)))
    weight = np.random.default_rng(1).integers(1, 5, size=N)
    weighted = fit(kind, y, weight.astype(float))
    repeated = fit(kind, np.repeat(y, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(y), repeated.transform(y), rtol=1e-10, atol=1e-12)
