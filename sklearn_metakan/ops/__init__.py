"""The sum over a layer's edges, dense or as a convolution, and the ways to compute it."""

from sklearn_metakan.ops._activations import ACTIVATIONS
from sklearn_metakan.ops._convolution import size_after
from sklearn_metakan.ops._edge_sum import BACKENDS, CoefficientSource, edge_conv, edge_sum

__all__ = ["ACTIVATIONS", "BACKENDS", "CoefficientSource", "edge_conv", "edge_sum", "size_after"]
