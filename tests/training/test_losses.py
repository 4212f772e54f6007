"""Losses by row, their weighted mean, and the scores of validation rows."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    mean_absolute_error,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_squared_error,
    r2_score,
)

from sklearn_metakan.training import REGRESSION_LOSSES, weighted_accuracy, weighted_r2
from sklearn_metakan.training._losses import PinballLoss, weighted_mean

RNG = np.random.default_rng(0)
TARGET, OUTPUT = RNG.normal(size=(2, 50, 2))
WEIGHT = RNG.uniform(0.1, 3, size=50)
WEIGHT /= WEIGHT.mean()


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def loss_of(name, output, target, weight=None, quantile=0.5):
    losses = REGRESSION_LOSSES[name](quantile)(*tensors(output, target))
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
    losses = torch.stack([PinballLoss(level)(c, target).mean() for c in candidates])
    best = candidates[losses.argmin()].item()
    assert (target.numpy() <= best).mean() == pytest.approx(level, abs=0.005)


@pytest.mark.parametrize("shape", [(50,), (50, 2)])
def test_weighted_mean_counts_rows(shape):
    losses = torch.from_numpy(RNG.uniform(size=shape))
    counts = RNG.integers(1, 4, size=50)
    repeated = losses[torch.from_numpy(np.repeat(np.arange(50), counts))]
    weighted = weighted_mean(losses, torch.from_numpy(counts / counts.mean()))
    torch.testing.assert_close(weighted, weighted_mean(repeated, None))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_scores_equal_scikit_learn_s(weight):
    given = None if weight is None else torch.from_numpy(weight)
    for target, output in ((TARGET, OUTPUT), (TARGET[:, 0], OUTPUT[:, 0])):
        expected = r2_score(target, output, sample_weight=weight)
        assert weighted_r2(*tensors(target, output), given) == pytest.approx(expected)
    target, label = RNG.integers(0, 3, size=(2, 50))
    expected = accuracy_score(target, label, sample_weight=weight)
    assert weighted_accuracy(*tensors(target, label), given) == pytest.approx(expected)


def test_r2_of_a_constant_target_is_zero():
    constant = torch.full((5, 1), 2.0)
    assert weighted_r2(constant, constant + 1, None) == 0
    assert weighted_r2(constant, constant, None) == 0
