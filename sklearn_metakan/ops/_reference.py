"""The truth: everything materialised, plain PyTorch, differentiable any number of times."""

from typing import TYPE_CHECKING

from torch import Tensor

from sklearn_metakan.basis import Basis

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_reference(
    x: Tensor, basis: Basis, source: "CoefficientSource", derivative: int
) -> Tensor:
    features = basis.evaluate(x, derivative=derivative)  # (n, in, C)
    if source.is_linear:
        return source.project(features, 0, source.in_features)
    weights = source.block(0, source.in_features)  # (in, C, out)
    return features.flatten(1) @ weights.flatten(0, 1)
