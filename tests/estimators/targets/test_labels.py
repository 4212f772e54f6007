"""LabelTarget: accuracy of validation rows, probabilities, and the way back to labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.targets.labels import LabelTarget, weighted_accuracy

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
