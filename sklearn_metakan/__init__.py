"""Kolmogorov-Arnold networks with scikit-learn's fit and predict, in the memory of an MLP."""

from sklearn_metakan.estimators import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)
from sklearn_metakan.loading import load

__version__ = "0.1.0"

__all__ = [
    "KANClassifier",
    "KANImageClassifier",
    "KANRegressor",
    "MetaKANClassifier",
    "MetaKANImageClassifier",
    "MetaKANRegressor",
    "load",
]
