"""The scikit-learn classes: validate, scale, build, train, predict."""

from sklearn_metakan.estimators.classifiers import KANClassifier, MetaKANClassifier
from sklearn_metakan.estimators.image_classifiers import (
    KANImageClassifier,
    MetaKANImageClassifier,
)
from sklearn_metakan.estimators.reading import network_inputs, responses, typical_inputs
from sklearn_metakan.estimators.regressors import KANRegressor, MetaKANRegressor

__all__ = [
    "KANClassifier",
    "KANImageClassifier",
    "KANRegressor",
    "MetaKANClassifier",
    "MetaKANImageClassifier",
    "MetaKANRegressor",
    "network_inputs",
    "responses",
    "typical_inputs",
]
