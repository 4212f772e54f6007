"""The sum over a layer's edges, dense or as a convolution, and the ways to compute it."""

from sklearn_metakan.ops._edge_sum import BACKENDS, CoefficientSource, edge_conv, edge_sum
from sklearn_metakan.ops._products import size_after

__all__ = ["BACKENDS", "CoefficientSource", "edge_conv", "edge_sum", "size_after"]
