"""``edge_sum`` of small layers: features are made once and kept for the way back.

A small layer on a CPU costs calls, not numbers: this is the way with the fewest. Numbers lie
with rows last in memory, features (in, C, n) or (C, in, n), so that nothing is copied from layer
to layer. Weights come with a graph of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.convolution import Convolution
from sklearn_metakan.ops.function import EdgeSum
from sklearn_metakan.ops.products import Product
from sklearn_metakan.ops.reference import sum_of_products
from sklearn_metakan.ops.source import CoefficientSource


def edge_sum_kept(x: Tensor, basis: Basis, source: CoefficientSource, groups: int) -> Tensor:
    """See ``edge_sum``."""
    by_input, shared = source.tensors()
    weights, dictionary = source.generate(by_input, shared), source.dictionary(shared)
    x = x.to(weights.dtype)
    way = _Kept(basis, groups, torch.is_grad_enabled() and x.requires_grad)
    tensors = (weights,) if dictionary is None else (weights, dictionary)
    y: Tensor = EdgeSum.apply(x, way, *tensors)
    return y


def grouped(in_features: int, groups: int) -> Product:
    """The product whose outputs sum over their group's inputs alone, for x (n, in, 1)."""
    geometry = (1,), (1,), (1,), (0,), (1,)  # images of one pixel
    return Convolution(in_features, *geometry, groups)


class _Kept:
    """One call: weights (in, C or p, out) and perhaps a dictionary (C, p); see ``Way``."""

    def __init__(self, basis: Basis, groups: int, of_x: bool) -> None:
        self.basis, self.groups, self.of_x = basis, groups, of_x
        self.slopes: Any = None

    def compute(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        # With a dictionary, functions first: then it is one product for all inputs.
        features, self.slopes = self.basis.linearize(x, bool(dictionary), self.of_x)
        if dictionary:
            self.basic = features.flatten(1)  # (C, in * n)
            features = (dictionary[0].T @ self.basic).view(-1, *features.shape[1:])
        self.features, self.weights = self._by_group(features, weights, bool(dictionary))
        return torch.bmm(self.weights.mT, self.features).flatten(0, 1).T

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        weights, *dictionary = tensors
        found: list[Tensor | None] = [None] * len(needed)
        grad = grad.T.contiguous().view(self.groups, -1, len(x))
        if needed[1]:
            found[1] = self._like(torch.bmm(self.features, grad.mT), weights, bool(dictionary))
        if not (needed[0] or dictionary):
            return found
        of_features = torch.bmm(self.weights, grad)
        n_inputs, n_functions = weights.shape[:2]
        if not dictionary:
            of_features = of_features.view(n_inputs, n_functions, len(x))
        else:
            opened = of_features.unflatten(1, (n_functions, -1)).transpose(0, 1)
            by_function = opened.reshape(n_functions, -1)
            if needed[2]:
                found[2] = self.basic @ by_function.T
            of_features = dictionary[0] @ by_function
            of_features = of_features.view(-1, n_inputs, len(x))
        if needed[0]:
            found[0] = self.basis.pull(of_features, self.slopes)
        return found

    def reference(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        factors = weights, dictionary[0] if dictionary else None
        if self.groups == 1:
            return sum_of_products(x, self.basis, 0, *factors, Product())
        product = grouped(x.shape[1], self.groups)
        return sum_of_products(x[..., None], self.basis, 0, *factors, product)[..., 0]

    def _by_group(
        self, features: Tensor, weights: Tensor, functions_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Features (groups, K, n) and weights (groups, K, out)."""
        if functions_first:  # (p, in, n) and (in, p, out)
            features = features.unflatten(1, (self.groups, -1)).transpose(0, 1)
            weights = weights.unflatten(0, (self.groups, -1)).transpose(1, 2)
            return features.flatten(1, 2), weights.flatten(1, 2)
        out = weights.shape[-1]
        rows = features.shape[-1]
        return features.view(self.groups, -1, rows), weights.reshape(self.groups, -1, out)

    def _like(self, gradient: Tensor, weights: Tensor, functions_first: bool) -> Tensor:
        """From (groups, K, out) to the shape of the weights."""
        if not functions_first:
            return gradient.view(weights.shape)
        opened = gradient.unflatten(1, (weights.shape[1], -1)).transpose(1, 2)
        return opened.reshape(weights.shape)
