"""The one operation of a KAN layer, ``edge_sum``, and the ways to compute it."""

from sklearn_metakan.ops._activations import ACTIVATIONS
from sklearn_metakan.ops._edge_sum import BACKENDS, CoefficientSource, edge_sum

__all__ = ["ACTIVATIONS", "BACKENDS", "CoefficientSource", "edge_sum"]
