"""The truth: everything materialised, plain PyTorch, differentiable any number of times."""

from typing import TYPE_CHECKING

from torch import Tensor

from sklearn_metakan.basis import Basis

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_reference(
    x: Tensor, basis: Basis, source: "CoefficientSource", derivative: int
) -> Tensor:
    by_input, shared = source.tensors()
    features = basis.evaluate(x, derivative=derivative)  # (n, in, C)
    dictionary = source.dictionary(shared)
    if dictionary is not None:
        features = features @ dictionary  # (n, in, p)
    return features.flatten(1) @ source.generate(by_input, shared).flatten(0, 1)
