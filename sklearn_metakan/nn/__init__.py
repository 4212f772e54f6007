"""Modules that work on their own in plain PyTorch."""

from sklearn_metakan.nn.conv import KANConv1d, KANConv2d, KANConv3d
from sklearn_metakan.nn.conv_network import ConvKAN, Norm, build_conv_network, spread_strides
from sklearn_metakan.nn.few_rows import FewRows
from sklearn_metakan.nn.frozen import frozen, n_frozen
from sklearn_metakan.nn.grids import refine, update_grids
from sklearn_metakan.nn.importance import edge_importances, feature_importances
from sklearn_metakan.nn.layers import KANLinear
from sklearn_metakan.nn.levels import Columns, Levels
from sklearn_metakan.nn.monotone import MonotoneCoefficients
from sklearn_metakan.nn.network import KAN, KANNetwork, build_network
from sklearn_metakan.nn.pairs import PairInputs, Pairs, group_levels, pair_functions
from sklearn_metakan.nn.pruning import edge_effects, without_edges
from sklearn_metakan.nn.random import Augment, Augmentation, Drawing, Dropout
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients, MetaLearner
from sklearn_metakan.nn.sparse import SparseCoefficients
from sklearn_metakan.nn.sparsity import Sparsity
from sklearn_metakan.nn.terms import Term, additive_terms, set_coefficients

__all__ = [
    "KAN",
    "Augment",
    "Augmentation",
    "Columns",
    "ConvKAN",
    "DirectCoefficients",
    "Drawing",
    "Dropout",
    "FewRows",
    "KANConv1d",
    "KANConv2d",
    "KANConv3d",
    "KANLinear",
    "KANNetwork",
    "Levels",
    "MetaCoefficients",
    "MetaLearner",
    "MonotoneCoefficients",
    "Norm",
    "PairInputs",
    "Pairs",
    "SparseCoefficients",
    "Sparsity",
    "Term",
    "additive_terms",
    "build_conv_network",
    "build_network",
    "edge_effects",
    "edge_importances",
    "feature_importances",
    "frozen",
    "group_levels",
    "n_frozen",
    "pair_functions",
    "refine",
    "set_coefficients",
    "spread_strides",
    "update_grids",
    "without_edges",
]
