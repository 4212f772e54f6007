"""LabelTarget: accuracy of validation rows, probabilities, and the way back to labels."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, log_loss

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.targets.labels import (
    LabelTarget,
    best_sharpness,
    weighted_accuracy,
)

RNG = np.random.default_rng(0)
WEIGHT = RNG.uniform(0.1, 3, size=50)
CPU, F64 = torch.device("cpu"), torch.float64


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_accuracy_equals_scikit_learn_s(weight):
    given = None if weight is None else torch.from_numpy(weight)
    target, label = RNG.integers(0, 3, size=(2, 50))
    expected = accuracy_score(target, label, sample_weight=weight)
    found = weighted_accuracy(torch.from_numpy(target), torch.from_numpy(label), given)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c"]])
def test_labels_become_targets_and_outputs_become_labels(classes):
    target, y = LabelTarget(), RNG.choice(classes, size=50)
    positions = target.encode(y)
    assert target.classes_.tolist() == classes
    tensor = target.tensor(Rows(np.zeros((50, 1)), None, positions, None), CPU, F64)
    np.testing.assert_array_equal(target.decode(tensor.numpy()), y)
    outputs = torch.randn(50, 1 if len(classes) == 2 else 3, dtype=F64)
    probabilities, predicted = target(outputs), target.predictions(outputs)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(50, dtype=F64))
    np.testing.assert_array_equal(predicted, target.classes_[probabilities.argmax(1)])
    score = target.score(tensor, outputs, None)
    assert score == pytest.approx(accuracy_score(y, predicted))
    assert target.criterion()(outputs, tensor).flatten().shape == (50,)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_sharpness_of_each_member_is_the_best_one(n_classes, scale, weighted):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, n_classes, size=60)
    logits = scale * (rng.normal(size=(60, 3, n_classes)) + np.eye(n_classes)[labels][:, None])
    weight = rng.uniform(0.5, 2, size=(60, 3)) if weighted else np.ones((60, 3))
    given = torch.from_numpy(weight) if weighted else None
    found, losses = best_sharpness(torch.from_numpy(logits), torch.from_numpy(labels), given)
    for member in range(3):

        def penalised(s, member=member):
            z = s * logits[:, member]
            p = np.exp(z - z.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            options = {"sample_weight": weight[:, member], "labels": np.arange(n_classes)}
            return log_loss(labels, p, normalize=False, **options) + (s - 1) ** 2 / 0.5

        bounds = {"bounds": (1 / 16, 16), "method": "bounded", "options": {"xatol": 1e-9}}
        best = minimize_scalar(penalised, **bounds).x
        assert found[member].item() == pytest.approx(best, rel=1e-4)
        mean = (penalised(best) - (best - 1) ** 2 / 0.5) / 60
        assert losses[member].item() == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_members", [1, 2])
def test_calibrated_probabilities(n_outputs, n_members):
    target = LabelTarget()
    target.encode(np.array(["a", "b", "c"][: max(2, n_outputs)]))
    shape = (400, n_members, n_outputs) if n_members > 1 else (400, n_outputs)
    outputs = 8 * torch.from_numpy(RNG.normal(size=shape))
    first = outputs if n_members == 1 else outputs[:, 0]
    noisy = first + 8 * torch.from_numpy(RNG.normal(size=first.shape))
    y = (noisy > 0).double() if n_outputs == 1 else noisy.argmax(1)
    before = target(outputs), target.predictions(outputs[:, :1] if n_members > 1 else outputs)
    target.calibrate(y, outputs, None)
    labels = y[:, 0] if n_outputs == 1 else y
    after = target(outputs)
    assert log_loss(labels, after) < log_loss(labels, before[0])  # logits were far too sure
    expected = after.log().diff(dim=1) if n_outputs == 1 else after.log()
    found = target.logits(outputs)
    torch.testing.assert_close(
        found - found[:, :1] * (n_outputs > 1), expected - expected[:, :1] * (n_outputs > 1)
    )
    if n_members == 1:
        assert (target.predictions(outputs) == before[1]).all()
    again = target.follow(None)
    torch.testing.assert_close(again(outputs), before[0])
