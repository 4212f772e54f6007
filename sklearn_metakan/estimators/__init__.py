"""The scikit-learn classes: validate, scale, build, train, predict."""

from sklearn_metakan.estimators.classifiers import KANClassifier, MetaKANClassifier
from sklearn_metakan.estimators.estimator import KANEstimator
from sklearn_metakan.estimators.image_classifiers import (
    KANImageClassifier,
    MetaKANImageClassifier,
)
from sklearn_metakan.estimators.inputs.stored import StoredTable
from sklearn_metakan.estimators.reading import network_inputs, responses, typical_inputs
from sklearn_metakan.estimators.rebuilt import loss_on, trained_on, with_network, with_pairs
from sklearn_metakan.estimators.regressors import KANRegressor, MetaKANRegressor

__all__ = [
    "KANClassifier",
    "KANEstimator",
    "KANImageClassifier",
    "KANRegressor",
    "MetaKANClassifier",
    "MetaKANImageClassifier",
    "MetaKANRegressor",
    "StoredTable",
    "loss_on",
    "network_inputs",
    "responses",
    "trained_on",
    "typical_inputs",
    "with_network",
    "with_pairs",
]
