"""The truth: everything materialised, plain PyTorch, differentiable any number of times."""

from collections.abc import Sequence

from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.plain.features import combine_features, flat
from sklearn_metakan.ops.products import Product, pixel_rows
from sklearn_metakan.ops.source import CoefficientSource


def edge_sum_reference(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int,
    by_input: Sequence[Tensor],
    shared: Sequence[Tensor],
    product: Product,
) -> Tensor:
    """See ``edge_sum``; tensors are ``source.tensors()``, or others in their place."""
    weights, dictionary = source.generate(by_input, shared), source.dictionary(shared)
    return sum_of_products(x, basis, derivative, weights, dictionary, product)


def edge_sum_by_group(
    x: Tensor, basis: Basis, source: CoefficientSource, derivative: int, groups: int
) -> Tensor:
    """``edge_sum`` of groups by products of matrices, which exporters know in every dtype."""
    by_input, shared = source.tensors()
    weights, dictionary = source.generate(by_input, shared), source.dictionary(shared)
    features = combine_features(basis.evaluate(x, derivative=derivative), dictionary).flatten(1)
    of_groups = features.unflatten(1, (groups, -1)).transpose(0, 1)  # (groups, n, K)
    y = of_groups @ weights.flatten(0, 1).unflatten(0, (groups, -1))
    return y.transpose(0, 1).flatten(1)


def sum_of_products(
    x: Tensor,
    basis: Basis,
    derivative: int,
    weights: Tensor,
    dictionary: Tensor | None,
    product: Product,
) -> Tensor:
    """``y = F D V``, once: the other backends are to give these numbers.

    Where somebody asks for more than they can (derivatives of derivatives, ``torch.func``), it is
    this that answers. ``weights`` are V, (in, C or p, out).
    """
    points = x if x.dim() == 2 else pixel_rows(x)
    features = basis.evaluate(points, derivative=derivative)  # (rows, in, C)
    precision = features.dtype
    features = combine_features(features, dictionary)  # (rows, in, C or p)
    # Rows last in memory: the same sum, functions first.
    turned = product.orders_freely and features.stride(0) < features.stride(2)
    if turned or product.functions_first:
        features = features.transpose(1, 2)
    if turned:
        weights = weights.transpose(0, 1)
    y = product.whole(flat(features), weights.flatten(0, 1), turned)
    return y.to(precision)  # also inside autocast
