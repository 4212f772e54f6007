"""Modules that work on their own in plain PyTorch."""

from sklearn_metakan.nn._build import build_network
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._frozen import frozen, n_frozen
from sklearn_metakan.nn._importance import feature_importances
from sklearn_metakan.nn._linear import KANLinear
from sklearn_metakan.nn._meta_learner import MetaLearner
from sklearn_metakan.nn._network import KAN

__all__ = [
    "KAN",
    "DirectCoefficients",
    "KANLinear",
    "MetaCoefficients",
    "MetaLearner",
    "build_network",
    "feature_importances",
    "frozen",
    "n_frozen",
]
