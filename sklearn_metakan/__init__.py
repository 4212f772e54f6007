"""Kolmogorov-Arnold networks with scikit-learn's fit and predict, in the memory of an MLP."""

from sklearn_metakan.estimators import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
    StoredTable,
)
from sklearn_metakan.loading import load
from sklearn_metakan.training import data_parallel

__version__ = "0.1.0"

__all__ = [
    "KANClassifier",
    "KANImageClassifier",
    "KANRegressor",
    "MetaKANClassifier",
    "MetaKANImageClassifier",
    "MetaKANRegressor",
    "StoredTable",
    "data_parallel",
    "load",
]
