"""The estimators conform to scikit-learn: every check, none skipped or expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import EpochTimer

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

REGRESSORS = [KANRegressor, MetaKANRegressor]
CLASSIFIERS = [KANClassifier, MetaKANClassifier]
META = [MetaKANRegressor, MetaKANClassifier]
ALL = REGRESSORS + CLASSIFIERS

SOURCES = [
    {"edge_scale": True, "meta_hidden_dim": 16},
    {"edge_scale": False, "meta_hidden_dim": 16, "prompt_dim": 1, "meta_activation": "relu"},
    {"edge_scale": False, "meta_hidden_dim": 0},
    {"n_meta_learners": "layer"},
]
NETWORKS = [
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (8, 8)},
    {"knots": "quantile"},
    {"degree": 1, "extrapolation": "base"},
]
SCALINGS = [{"scale_inputs": kind} for kind in ("minmax", "standard", "quantile", None)]
LOSSES = [{"loss": loss} for loss in ("absolute_error", "huber", "quantile", "poisson")]
TRAINING = [
    {"solver": "lbfgs"},
    {"learning_rate_schedule": "constant"},
    {"learning_rate_schedule": "cosine"},
    {"warm_start": True},
    {"callbacks": [EpochTimer()], "net_params": {"optimizer__betas": (0.9, 0.95)}},
]


def each(estimators, variants):
    return [estimator(random_state=0, **kw) for estimator in estimators for kw in variants]


def alternating(estimators, variants):
    """Every variant with one of the estimators."""
    pairs = zip(variants, estimators * len(variants), strict=False)
    return [estimator(random_state=0, **variant) for variant, estimator in pairs]


@parametrize_with_checks(each(ALL, [{}]))
def test_defaults(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    each(ALL, [{"early_stopping":True},{"precision":"float32"},{"dropout":.2},{"warm_start":True},{"batch_size":32},{"scale_inputs":None},{"learning_rate_schedule":"constant"}])
)
def test_variants(estimator, check):
    check(estimator)
