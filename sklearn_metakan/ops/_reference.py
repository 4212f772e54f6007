"""The truth: everything materialised, plain PyTorch, differentiable any number of times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._kernels import flat, times

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_reference(
    x: Tensor,
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    by_input: Sequence[Tensor],
    shared: Sequence[Tensor],
) -> Tensor:
    """See ``edge_sum``; the last two are ``source.tensors()``, or others in their place."""
    features = basis.evaluate(x, derivative=derivative)  # (n, in, C)
    precision = features.dtype
    dictionary = source.dictionary(shared)
    if dictionary is not None:
        features = times(dictionary.T, features)  # (n, in, p)
    weights = source.generate(by_input, shared)
    if features.stride(0) < features.stride(2):  # rows last in memory: the same sum, (C, in)
        features, weights = features.transpose(1, 2), weights.transpose(0, 1)
    y = flat(features) @ weights.flatten(0, 1)
    return y.to(precision)  # also inside autocast
