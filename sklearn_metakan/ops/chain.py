"""Sums over edges of layers one after the other, with one way back for all of them.

What PyTorch does around an operation of its own takes as long as a small layer's numbers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis, is_traced
from sklearn_metakan.ops.edge_sum import edge_sum, keeps_features
from sklearn_metakan.ops.function import EdgeSum
from sklearn_metakan.ops.kept import Kept
from sklearn_metakan.ops.known import Known
from sklearn_metakan.ops.memory import keep_freed_memory
from sklearn_metakan.ops.source import CoefficientSource, factors


class Layer(NamedTuple):
    """What ``edge_sum`` is told of a layer, and explains.

    Parameters
    ----------
    basis : Basis
    source : CoefficientSource
    backend : str, default="auto"
    working_memory : float, optional
    widest : (int, int), optional
    groups : int, default=1
    """

    basis: Basis
    source: CoefficientSource
    backend: str = "auto"
    working_memory: float | None = None
    widest: tuple[int, int] | None = None
    groups: int = 1


def edge_sums(x: Tensor, layers: Sequence[Layer], matrix: Tensor | None = None) -> Tensor:
    """``edge_sum`` by each layer of what the one before gives; one operation where that is quicker.

    That is in training, of layers whose features are small enough to be kept.

    Parameters
    ----------
    x : Tensor of shape (n, in_features)
        Or terms of it, all but 1: (n, (C - 1) * in_features), if there is a ``matrix``.
    layers : sequence of Layer
    matrix : Tensor of shape (C, C), optional
        By which the first basis' functions are sums of terms.

    Returns
    -------
    Tensor of shape (n, out_features)
    """
    known = matrix is not None
    together = torch.is_grad_enabled() and not is_traced()
    if not (together and all(_is_kept(x, layer) for layer in layers[known:])):
        if known:
            x, layers = _at_once(x, layers[:1], matrix), layers[1:]
        for layer in layers:
            how = layer.backend, layer.working_memory, layer.widest, layer.groups
            x = edge_sum(x, layer.basis, layer.source, 0, *how)
        return x
    return _at_once(x, layers, matrix)


def _is_kept(x: Tensor, layer: Layer) -> bool:
    how = layer.backend, layer.working_memory, layer.groups
    return keeps_features(x, layer.basis, layer.source, *how)


def _at_once(x: Tensor, layers: Sequence[Layer], matrix: Tensor | None) -> Tensor:
    if x.is_cpu:
        keep_freed_memory()
    ways: list[Known | Kept] = [] if matrix is None else [Known(matrix)]
    for layer in layers[len(ways) :]:
        ways.append(Kept(layer.basis, layer.groups, bool(ways) or x.requires_grad))
    tensors = [factors(layer.source) for layer in layers]
    chain = ways[0] if len(ways) == 1 else Chain(ways, [*map(len, tensors)])
    given = [each for of_layer in tensors for each in of_layer]
    y: Tensor = EdgeSum.apply(x.to(given[0].dtype), chain, *given)
    return y


class Chain:
    """Ways one after the other, the first of which take so many of the tensors each; a ``Way``."""

    def __init__(self, ways: Sequence[Known | Kept], sizes: Sequence[int]) -> None:
        self.ways, self.sizes = ways, sizes

    def _shares(self, tensors: Sequence[Tensor]) -> Iterator[tuple[Known | Kept, Sequence[Tensor]]]:
        start = 0
        for way, size in zip(self.ways, self.sizes, strict=True):
            yield way, tensors[start : start + size]
            start += size

    def compute(self, x: Tensor, *tensors: Tensor) -> Tensor:
        self.inputs = []
        for way, own in self._shares(tensors):
            self.inputs.append(x)
            x = way.compute(x, *own)
        return x

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        stop, of_x = len(tensors), None
        if not self.inputs:  # a second pass: a graph that was kept
            self.compute(x, *tensors)
        for way, own in reversed([*self._shares(tensors)]):
            given = self.inputs.pop()
            start = stop - len(own)
            wanted = [bool(start) or needed[0], *needed[1 + start : 1 + stop]]
            of_x, *of_own = way.gradients(given, own, wanted, grad)
            found, stop = [*of_own, *found], start
            if of_x is not None:
                grad = of_x
        return [of_x, *found]

    def reference(self, x: Tensor, *tensors: Tensor) -> Tensor:
        for way, own in self._shares(tensors):
            x = way.reference(x, *own)
        return x
