"""The estimators conform to scikit-learn: every check, none skipped or expected to fail.

Settings that contradict a check are not here. Rows held out and dropout draw other numbers for
repeated rows than for weighted ones, float32 and long runs of L-BFGS amplify rounding beyond
the check's 1e-7, and warm_start goes on where a check fits other data.
"""

import numpy as np
import pandas as pd
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
from sklearn_metakan.estimators.inputs.table import TableInputs


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
# Under AdamW rounding of wavelets' steps grows: equal weights and repeated rows differ by 6e-7 of
# predictions after 60 iterations with mexican_hat, by less than 1e-9 after 40.
BASES = [
    {"basis": name, "max_iter": 30}
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


# Of each pair one has its turn here, the other in the slow part: with these it takes minutes.
@parametrize_with_checks([of(random_state=0) for of in (MetaKANRegressor, KANClassifier)])
def test_defaults(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([of(random_state=0) for of in (KANRegressor, MetaKANClassifier)])
def test_defaults_of_the_others(estimator, check):
    check(estimator)


@no_squares
@parametrize_with_checks(
    [MetaKANImageClassifier((4,), max_iter=40, learning_rate=0.05, random_state=0)]
)
def test_small_image_classifier(estimator, check):
    check(estimator)


class OfLevelsAndGaps(TableInputs):
    """Takes a table's first column for levels, and every tenth number of the others for missing.

    Both follow from the number, so that rows stay what they are however a check deals them.
    """

    def as_table(self, X, name, reset=False):
        self.reader.categorical = []
        X = super().as_table(X, name, reset)
        if hasattr(X, "__array__") and not isinstance(X, pd.DataFrame):
            X = np.asarray(X)
        is_array = isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.ndim == 2
        if not (is_array or isinstance(X, pd.DataFrame)) or X.shape[1] < 2:
            return X
        table = np.array(X, dtype=np.result_type(X, np.float32) if is_array else np.float64)
        with np.errstate(invalid="ignore"):
            levels = np.clip(np.floor(2 * table[:, 0]) + 8, 0, 15)
            table[:, 0] = np.where(np.isfinite(table[:, 0]), levels, table[:, 0])
            few = np.floor(1e3 * np.abs(table[:, 1:])) % 10 == 7
        table[:, 1:][few] = np.nan
        self.reader.categorical, self.reader.levels = [0], {0: [*range(16)]}
        return table if is_array else pd.DataFrame(table, columns=X.columns)


class KANRegressorOfLevels(KANRegressor):
    _inputs_type = OfLevelsAndGaps


class MetaKANRegressorOfLevels(MetaKANRegressor):
    _inputs_type = OfLevelsAndGaps


class KANClassifierOfLevels(KANClassifier):
    _inputs_type = OfLevelsAndGaps


class MetaKANClassifierOfLevels(MetaKANClassifier):
    _inputs_type = OfLevelsAndGaps


OF_LEVELS = [KANRegressorOfLevels, MetaKANRegressorOfLevels]
OF_LEVELS += [KANClassifierOfLevels, MetaKANClassifierOfLevels]


@parametrize_with_checks([of(**SHORT, n_estimators=1) for of in OF_LEVELS])
def test_levels_and_gaps_among_the_data(estimator, check):
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
