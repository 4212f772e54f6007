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
from sklearn_metakan.ops.source import CoefficientSource, factors


def edge_sum_kept(x: Tensor, basis: Basis, source: CoefficientSource, groups: int) -> Tensor:
    """See ``edge_sum``."""
    tensors = factors(source)
    x = x.to(tensors[0].dtype)
    way = Kept(basis, groups, torch.is_grad_enabled() and x.requires_grad)
    if torch.is_inference_mode_enabled():
        return way.compute(x, *tensors)
    y: Tensor = EdgeSum.apply(x, way, *tensors)
    return y


def grouped(in_features: int, groups: int) -> Product:
    """The product whose outputs sum over their group's inputs alone, for x (n, in, 1)."""
    geometry = (1,), (1,), (1,), (0,), (1,)  # images of one pixel
    return Convolution(in_features, *geometry, groups)


class Kept:
    """One call: weights (in, C or p, out) and perhaps a dictionary (C, p); see ``Way``.

    What is large is kept until the way back has used it, as PyTorch keeps what it saves.
    """

    def __init__(self, basis: Basis, groups: int, of_x: bool) -> None:
        self.basis, self.groups, self.of_x = basis, groups, of_x
        self.slopes: Any = None
        self.features: Any = None
        self.basic: Any = None

    def compute(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        # With a dictionary, functions first: then it is one product for all inputs.
        features, matrix, self.slopes = self.basis.linearize(x, bool(dictionary), self.of_x)
        self.matrix = matrix
        if matrix is not None:  # numbers of an edge are fewer than those of rows
            dictionary = tuple(matrix.T @ each for each in dictionary)
            weights = weights if dictionary else _transformed(matrix.T, weights)
        groups, n = self.groups, x.shape[0]  # len(x) goes through Python
        inputs, functions, outputs = weights.shape
        inputs //= groups
        if dictionary:
            (self.dictionary,) = dictionary
            self.basic = features.flatten(1)  # (C, in * n)
            mixed = (self.dictionary.T @ self.basic).view(functions, groups, inputs, n)
            features = mixed.transpose(0, 1)
            weights = weights.view(groups, inputs, functions, outputs).transpose(1, 2)
        self.features = features.reshape(groups, inputs * functions, n)
        self.weights = weights.reshape(groups, inputs * functions, outputs)
        return torch.bmm(self.weights.mT, self.features).view(groups * outputs, n).T

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        weights, *dictionary = tensors
        if self.features is None:  # a second pass: a graph that was kept
            self.compute(x, *tensors)
        features, self.features = self.features, None
        groups, n = self.groups, x.shape[0]
        inputs, functions, outputs = weights.shape
        inputs //= groups
        found: list[Tensor | None] = [None] * len(needed)
        grad = grad.T.contiguous().view(groups, outputs, n)
        if needed[1]:
            of_weights = torch.bmm(features, grad.mT)
            del features
            if dictionary:
                opened = of_weights.view(groups, functions, inputs, outputs)
                of_weights = opened.transpose(1, 2).reshape(weights.shape)
            of_weights = of_weights.view(weights.shape)
            if not dictionary and self.matrix is not None:
                of_weights = _transformed(self.matrix, of_weights)
            found[1] = of_weights
        if needed[0] or (dictionary and needed[2]):
            of_features = torch.bmm(self.weights, grad)
            if dictionary:
                mixed = of_features.view(groups, functions, inputs, n).transpose(0, 1)
                of_features = mixed.reshape(functions, groups * inputs * n)
                basic, self.basic = self.basic, None
                if needed[2]:
                    of_mixing = basic @ of_features.T
                    found[2] = of_mixing if self.matrix is None else self.matrix @ of_mixing
                del basic
                if needed[0]:
                    of_features = self.dictionary @ of_features
            if needed[0]:
                sides = [groups * inputs, self.basis.n_functions]
                of_features = of_features.view(*(sides[::-1] if dictionary else sides), n)
                slopes, self.slopes = self.slopes, None
                found[0] = self.basis.pull(of_features, slopes)
        return found

    def reference(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        factors = weights, dictionary[0] if dictionary else None
        if self.groups == 1:
            return sum_of_products(x, self.basis, 0, *factors, Product())
        product = grouped(x.shape[1], self.groups)
        return sum_of_products(x[..., None], self.basis, 0, *factors, product)[..., 0]


def _transformed(matrix: Tensor, tensors: Tensor) -> Tensor:
    """``matrix @`` each of these (b, C, n), into memory of its own, or autocast would round it."""
    inputs, _, outputs = tensors.shape
    room = tensors.new_empty(inputs, matrix.shape[0], outputs)
    return torch.bmm(matrix.expand(inputs, -1, -1), tensors, out=room)
