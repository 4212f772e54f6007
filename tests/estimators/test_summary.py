"""A summary counts the numbers that there are."""

import re

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANImageClassifier,
    MetaKANRegressor,
)

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.arange(30) % 3
IMAGES = np.random.default_rng(0).normal(size=(30, 6, 6))
SHORT = {"max_iter": 1, "random_state": 0}


def number(pattern, text):
    return int(re.search(pattern, text)[1].replace(",", ""))


@pytest.mark.parametrize(
    "model",
    [
        KANRegressor((5, 4), **SHORT),
        MetaKANRegressor((5, 4), n_estimators=1, **SHORT),
        MetaKANRegressor((5, 4), n_estimators=3, **SHORT),
        MetaKANRegressor((), n_meta_learners="auto", meta_hidden_dim=4, **SHORT),
        KANClassifier(7, **SHORT),
        KANImageClassifier((2, 3), **SHORT),
        MetaKANImageClassifier((2, 3), **SHORT),
    ],
)
def test_numbers_of_the_layers_add_up(model):
    images = "Image" in type(model).__name__
    text = str(model.fit(IMAGES if images else X, Y).summary())
    assert repr(model.summary()) == text
    *table, total, alike = text.splitlines()
    rows = [[int(each.replace(",", "")) for each in line.split()] for line in table[1:]]
    assert table[0].split() == ["layer", "inputs", "outputs", "edges", "functions", "numbers"]
    n_edges, numbers = sum(row[3] for row in rows), sum(row[5] for row in rows)
    found = re.search(r"([\d,]+) of them the meta-learners'", total)
    learners = int(found[1].replace(",", "")) if found else 0
    assert number(r"([\d,]+) trainable", total) == model.n_parameters_
    assert number(r"on ([\d,]+) edges", total) == n_edges
    assert bool(learners) == ("Meta" in type(model).__name__)
    if not images:  # whose norms have numbers too
        assert numbers + learners == model.n_parameters_
        members = model.n_estimators
        assert all(row[1] * row[2] * members == row[3] for row in rows)
        assert number(r"an MLP ([\d,]+)", alike) == n_edges + members * sum(r[2] for r in rows)
    if not found:
        assert number(r"a KAN ([\d,]+)", alike) == model.n_parameters_


def test_a_kan_of_the_same_widths_is_counted():
    settings = {"hidden_layer_sizes": (5, 4), "n_estimators": 2, **SHORT}
    kan, meta = KANRegressor(**settings).fit(X, Y), MetaKANRegressor(**settings).fit(X, Y)
    assert number(r"a KAN ([\d,]+)", meta.summary()) == kan.n_parameters_
    with pytest.raises(NotFittedError):
        KANRegressor().summary()
