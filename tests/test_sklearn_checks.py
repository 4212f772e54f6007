"""The estimators conform to scikit-learn: every check, none skipped or expected to fail.

Settings that contradict a check are not here. Rows held out and dropout draw other numbers for
repeated rows than for weighted ones, float32 and long runs of L-BFGS amplify rounding beyond
the check's 1e-7, and warm_start goes on where a check fits other data.
"""

import numpy as np
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import EpochTimer

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)


class Timer(EpochTimer):
    """A callback whose name in a test does not change from process to process."""

    def __repr__(self):
        return "Timer()"


REGRESSORS = [KANRegressor, MetaKANRegressor]
CLASSIFIERS = [KANClassifier, MetaKANClassifier]
META = [MetaKANRegressor, MetaKANClassifier]
ALL = REGRESSORS + CLASSIFIERS
IMAGES = [KANImageClassifier, MetaKANImageClassifier]  # of columns: as images of one row
no_squares = pytest.mark.filterwarnings("ignore:X has .* columns, which is no square")

SHORT = {"max_iter": 60, "learning_rate": 0.03, "weight_decay": 1e-2, "random_state": 0}
# Rounding grows tenfold with every other line search: 4e-15 of the weights after 12 iterations,
# 4e-11 after 20. That one iteration keeps to it is a test of its own, in training/test_solvers.py.
LBFGS = {"solver": "lbfgs", "learning_rate": "auto", "max_iter": 15, "weight_decay": 1e-4}
SOURCES = [
    {"edge_scale": True, "meta_hidden_dim": 16},
    {"edge_scale": False, "meta_hidden_dim": 16, "prompt_dim": 1, "meta_activation": "relu"},
    {"edge_scale": False, "meta_hidden_dim": 0, "prompt_dim": 2},
    {"n_meta_learners": "layer"},
]
LOSSES = [
    {"loss": loss} for loss in ("squared_error", "absolute_error", "huber", "quantile", "poisson")
]
NETWORKS = [
    {"hidden_layer_sizes": (), "learning_rate": 0.1},
    {"hidden_layer_sizes": (8, 8)},
    {"knots": "quantile"},
    {"degree": 1, "extrapolation": "base"},
]
BASES = [
    {"basis": name}
    for name in ("rbf", "mexican_hat", "morlet", "dog", "shannon", "chebyshev", "legendre", "gram")
]
SCALINGS = [{"scale_inputs": kind} for kind in ("minmax", "standard", "quantile", None)]
OF_IMAGES = [
    {"norm": "layer", "hidden_channels": (8,), "strides": 1},
    {"knots": "quantile", "scale_inputs": "standard", "hidden_channels": (8,)},
]
TRAINING = [
    {"learning_rate_schedule": "constant"},
    {"learning_rate_schedule": "cosine"},
    {"n_estimators": 3},
    {"callbacks": [Timer()]},
    {"net_params": {"optimizer__betas": (0.9, 0.99)}},
]


def settings(estimator, variant):
    """One network, which is quicker; the defaults are checked with several."""
    return ({} if estimator in IMAGES else {"n_estimators": 1}) | SHORT | variant


def each(estimators, variants):
    return [
        estimator(**settings(estimator, variant))
        for estimator in estimators
        for variant in variants
    ]


def in_turn(estimators, variants):
    """Every variant once, with the estimators taking turns."""
    turns = estimators * len(variants)
    return [turns[i](**settings(turns[i], variant)) for i, variant in enumerate(variants)]


@parametrize_with_checks([estimator(random_state=0) for estimator in ALL])
def test_defaults(estimator, check):
    check(estimator)


@no_squares
@parametrize_with_checks(
    [MetaKANImageClassifier((4,), max_iter=40, learning_rate=0.05, random_state=0)]
)
def test_small_image_classifier(estimator, check):
    check(estimator)


@pytest.mark.slow
@no_squares
@parametrize_with_checks([estimator(random_state=0) for estimator in IMAGES])
def test_defaults_of_image_classifiers(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
@no_squares
@parametrize_with_checks(
    each(ALL, [LBFGS])
    + each(META, SOURCES)
    + in_turn(REGRESSORS, LOSSES)
    + in_turn(META, BASES)
    + in_turn([KANClassifier, KANRegressor], BASES)
    + in_turn(REGRESSORS, NETWORKS + SCALINGS + TRAINING)
    + in_turn(CLASSIFIERS[::-1], NETWORKS + SCALINGS + TRAINING)
    + in_turn(IMAGES, OF_IMAGES)
    + in_turn(IMAGES[::-1], BASES[::3])
)
def test_variants(estimator, check, monkeypatch):
    if getattr(estimator, "loss", None) == "poisson":
        # Tagged positive_only, which check_regressor_multioutput overlooks when it draws targets.
        monkeypatch.setattr(estimator_checks, "make_regression", make_positive_regression)
    check(estimator)


def make_positive_regression(*args, make_regression=estimator_checks.make_regression, **kwargs):
    X, y = make_regression(*args, **kwargs)
    return X, np.exp(y / np.abs(y).max())
