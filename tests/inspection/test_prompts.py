"""Prompts on a map, and the functions that they stand for."""

import pickle

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.inspection import PromptDisplay
from sklearn_metakan.nn import KAN, MetaLearner

X = np.random.default_rng(0).uniform(-1, 1, (100, 3))
Y = np.sin(3 * X[:, 0]) + X[:, 1]
SHORT = {"n_estimators": 2, "max_iter": 10, "random_state": 0}


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"prompt_dim": 1, "meta_hidden_dim": 8, "meta_activation": "relu"},
        {"prompt_dim": 2, "meta_hidden_dim": 8, "edge_scale": True, "n_meta_learners": "auto"},
    ],
    ids=["linear", "one number", "scaled"],
)
def test_a_map_of_every_source(source):
    model = MetaKANRegressor((5,), **SHORT | source).fit(X, Y)
    before = pickle.dumps(model)
    display = PromptDisplay.from_estimator(model, X, member=1, layer=0)
    assert pickle.dumps(model) == before
    assert display.places.shape == (15, 2) and display.functions.shape == (100, 15)
    assert 0 < display.shares.sum() <= 1 + 1e-9
    assert display.shares[1] > 0 or source["prompt_dim"] == 1
    np.testing.assert_allclose(display.functions.mean(0), 0, atol=1e-12)
    assert len(display.axes_) == 3
    with_more = PromptDisplay.from_estimator(model, layer=-1, n_groups=9)
    assert with_more.places.shape == (5, 2) and with_more.groups.max() <= 4


def test_functions_along_a_direction_are_those_of_the_prompts():
    """Of prompts of one number, an edge's function is that of its place."""
    learner = MetaLearner(1, 8, 9, "sin", dtype=torch.float64)
    network = KAN([4, 1], meta_learners=learner, dtype=torch.float64)
    prompts = network.layers[0].source.prompts
    with torch.no_grad():
        prompts[:, 0, 0] = torch.tensor([-1.0, 1.0, -1.0, 1.0])  # mean 0, deviation 1
    display = PromptDisplay.from_estimator(network)
    assert sorted(display.places[:, 0]) == pytest.approx([-1, -1, 1, 1])
    for place, function in zip(display.places[:, 0], display.functions.T, strict=True):
        step = 2 + 4 * (place > 0)  # of -2, -1.5, -1, ..., 1, ...
        np.testing.assert_allclose(display.along[:, step], function, atol=1e-9)
    assert (display.groups[[0, 1]] == display.groups[[2, 3]]).all()
    assert display.groups[0] != display.groups[1]


def test_the_most_important_group_is_the_first():
    model = MetaKANRegressor((8,), **SHORT).fit(X, Y)
    display = PromptDisplay.from_estimator(model, X)
    totals = np.bincount(display.groups, display.importances)
    assert (np.diff(totals) <= 0).all() and len(totals) == 4


def test_networks_without_prompts_and_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"no prompts.*MetaKANRegressor"):
        PromptDisplay.from_estimator(KANRegressor((), **SHORT).fit(X, Y))
    model = MetaKANRegressor((), **SHORT).fit(X, Y)
    with pytest.raises(ValueError, match="n_groups must be at least 1"):
        PromptDisplay.from_estimator(model, n_groups=0)
    with pytest.raises(ValueError, match="layer must be a whole number"):
        PromptDisplay.from_estimator(model, layer=3)
    with pytest.raises(ValueError, match="one Axes for each of the 3 plots"):
        PromptDisplay.from_estimator(model, ax=[plt.gca()])
