"""The scikit-learn classes: validate, scale, build, train, predict."""

from sklearn_metakan.estimators._classifiers import KANClassifier, MetaKANClassifier
from sklearn_metakan.estimators._image_classifiers import (
    KANImageClassifier,
    MetaKANImageClassifier,
)
from sklearn_metakan.estimators._regressors import KANRegressor, MetaKANRegressor

__all__ = [
    "KANClassifier",
    "KANImageClassifier",
    "KANRegressor",
    "MetaKANClassifier",
    "MetaKANImageClassifier",
    "MetaKANRegressor",
]
