"""The truth: everything materialised, plain PyTorch, differentiable any number of times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._kernels import flat, times
from sklearn_metakan.ops._products import Product, columns

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_reference(
    x: Tensor,
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    by_input: Sequence[Tensor],
    shared: Sequence[Tensor],
    product: Product,
) -> Tensor:
    """See ``edge_sum``; tensors are ``source.tensors()``, or others in their place."""
    features = basis.evaluate(columns(x), derivative=derivative)  # (rows, in, C)
    precision = features.dtype
    dictionary = source.dictionary(shared)
    if dictionary is not None:
        features = times(dictionary.T, features)  # (rows, in, p)
    weights = source.generate(by_input, shared)
    # Rows last in memory: the same sum, functions first.
    turned = product.orders_freely and features.stride(0) < features.stride(2)
    if product.features_first(turned):
        features = features.transpose(1, 2)
    if turned:
        weights = weights.transpose(0, 1)
    y = product.whole(flat(features), weights.flatten(0, 1), turned)
    return y.to(precision)  # also inside autocast
