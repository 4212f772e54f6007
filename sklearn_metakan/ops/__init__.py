"""The sum over a layer's edges, dense or as a convolution, and the ways to compute it."""

from sklearn_metakan.ops.chain import Layer, edge_sums
from sklearn_metakan.ops.convolution import Convolution, aligned_channels, size_after
from sklearn_metakan.ops.edge_sum import BACKENDS, edge_conv, edge_sum
from sklearn_metakan.ops.memory import hand_back_freed_memory
from sklearn_metakan.ops.plain.features import combine_features
from sklearn_metakan.ops.plain.weights import ACTIVATIONS
from sklearn_metakan.ops.products import slices
from sklearn_metakan.ops.source import CoefficientSource

__all__ = [
    "ACTIVATIONS",
    "BACKENDS",
    "CoefficientSource",
    "Convolution",
    "Layer",
    "aligned_channels",
    "combine_features",
    "edge_conv",
    "edge_sum",
    "edge_sums",
    "hand_back_freed_memory",
    "size_after",
    "slices",
]
