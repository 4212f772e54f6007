"""Sums over edges of layers one after the other, with one way back for all of them.

What PyTorch does around an operation of its own takes as long as a small layer's numbers.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.function import EdgeSum
from sklearn_metakan.ops.kept import Kept
from sklearn_metakan.ops.known import Known
from sklearn_metakan.ops.memory import keep_freed_memory
from sklearn_metakan.ops.source import CoefficientSource, factors

Layer = tuple[Basis, CoefficientSource, int]  # with groups


def edge_sums(x: Tensor, layers: Sequence[Layer], matrix: Tensor | None = None) -> Tensor:
    """``edge_sum`` by each layer of what the one before gives.

    Parameters
    ----------
    x : Tensor of shape (n, in_features)
        Or terms of it, all but 1: (n, (C - 1) * in_features), if there is a ``matrix``.
    layers : sequence of (basis, source, groups)
        Whose features are small enough to be kept; see ``keeps_features``.
    matrix : Tensor of shape (C, C), optional
        By which the first basis' functions are sums of terms.

    Returns
    -------
    Tensor of shape (n, out_features)
    """
    if x.is_cpu:
        keep_freed_memory()
    ways: list[Known | Kept] = []
    for basis, _, groups in layers:
        ways.append(Kept(basis, groups, bool(ways) or x.requires_grad))
    if matrix is not None:
        ways[0] = Known(matrix)
    tensors = [factors(source) for _, source, _ in layers]
    chain = ways[0] if len(ways) == 1 else Chain(ways, [*map(len, tensors)])
    given = [each for of_layer in tensors for each in of_layer]
    y: Tensor = EdgeSum.apply(x, chain, *given)
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
        for (way, own), given in zip(
            reversed([*self._shares(tensors)]), reversed(self.inputs), strict=True
        ):
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
