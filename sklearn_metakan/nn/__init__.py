"""Modules that work on their own in plain PyTorch."""

from sklearn_metakan.nn._augment import Augment, Augmentation
from sklearn_metakan.nn._build import build_conv_network, build_network
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._conv import KANConv1d, KANConv2d, KANConv3d
from sklearn_metakan.nn._conv_network import ConvKAN, Norm, spread_strides
from sklearn_metakan.nn._drawing import Drawing
from sklearn_metakan.nn._frozen import frozen, n_frozen
from sklearn_metakan.nn._grids import refine, update_grids
from sklearn_metakan.nn._importance import feature_importances
from sklearn_metakan.nn._linear import KANLinear
from sklearn_metakan.nn._meta_learner import MetaLearner
from sklearn_metakan.nn._network import KAN, KANNetwork

__all__ = [
    "KAN",
    "Augment",
    "Augmentation",
    "ConvKAN",
    "DirectCoefficients",
    "Drawing",
    "KANConv1d",
    "KANConv2d",
    "KANConv3d",
    "KANLinear",
    "KANNetwork",
    "MetaCoefficients",
    "MetaLearner",
    "Norm",
    "build_conv_network",
    "build_network",
    "feature_importances",
    "frozen",
    "n_frozen",
    "refine",
    "spread_strides",
    "update_grids",
]
