"""A network of splines for a few rows: fewer calls than ``forward``, and weights made once."""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn.layers import KANLinear
from sklearn_metakan.nn.network import KAN

MOST_MEMORY = 8.0  # MiB


class _Layer(NamedTuple):
    basis: BSplineBasis
    ends: tuple[NDArray[Any], NDArray[Any]]  # of the grid, (in,)
    table: NDArray[Any]  # (in * cells, m * out)
    first: NDArray[np.intp]  # (in,), where the cells of an input begin
    groups: int
    bias: NDArray[Any] | None

    def outputs(self, x: NDArray[Any]) -> NDArray[Any]:
        """(n, in) -> (n, groups * out)"""
        features, cells = self.basis.at_cells(x, *self.ends)
        n, n_sums = len(x), len(x) * self.groups
        weights = self.table.take((cells + self.first).ravel(), 0)
        rows = features.reshape(n_sums, 1, -1)
        y = np.matmul(rows, weights.reshape(n_sums, rows.shape[2], -1)).reshape(n, -1)
        return y if self.bias is None else y + self.bias


class FewRows:
    """``network(x)`` for a few rows, without gradients, while its numbers stay as they are.

    In a cell of its grid an edge is one polynomial, beside silu: a row needs those of its cells
    alone. All of them are (degree + 3) grid_size numbers an edge.

    Parameters
    ----------
    network : KAN
        One that it ``suits``.

    Shape
    -----
    (n, in) -> what the network gives; meant for n up to ``most``.
    """

    most = 4  # of more rows, the network's features are worth their calls

    def __init__(self, network: KAN) -> None:
        self.network, self.layers = network, list[_Layer]()
        self._parts, self._hooks = [], []
        for module in network.modules():
            for parts in (module._modules, module._parameters, module._buffers):
                self._parts += [(parts, name, part) for name, part in parts.items()]
            self._hooks += [module._forward_hooks, module._forward_pre_hooks]
        tensors = [part for _, _, part in self._parts if isinstance(part, Tensor)]
        self._numbers = []
        for tensor in tensors:
            bits = _bits(tensor)
            self._numbers.append((tensor, tensor.data_ptr(), bits, bits.copy()))
        with torch.no_grad():
            for layer in network._layers:
                source, basis = layer.source, cast(BSplineBasis, layer.basis)
                table = basis.in_cells(source.block(0, source.in_features)).flatten(2)
                first = np.arange(len(table)) * basis.grid_size
                bias = None if layer.bias is None else layer.bias.detach().numpy()
                low, high = basis.domain.clone().numpy().T
                rows = table.flatten(0, 1).numpy()
                self.layers.append(_Layer(basis, (low, high), rows, first, layer.groups, bias))

    @staticmethod
    def suits(network: nn.Module) -> bool:
        """Whether it is a KAN of splines on uniform grids alone, on a CPU and small enough."""
        if type(network) is not KAN:
            return False
        size = 0
        for layer in network._layers:
            basis, source = layer.basis, layer.source
            plain = type(layer) is KANLinear and layer.levels is None and layer.pairs is None
            if not (plain and isinstance(basis, BSplineBasis) and basis.breaks.is_cpu):
                return False
            if not basis.uniform or basis.grid_size == 1:
                return False
            if basis.extrapolation in ("base", "error"):
                return False
            numbers = basis.grid_size * (basis.degree + 3) * basis.breaks.element_size()
            size += source.in_features * source.out_features * numbers
        return size <= MOST_MEMORY * 2**20

    def is_of(self, network: nn.Module) -> bool:
        """Whether it was made of this network, in which nothing changed since.

        Every number is compared, as what is written through ``.data`` or NumPy leaves no other
        trace.
        """
        return (
            network is self.network
            and not (network.training or any(self._hooks))
            and all(parts.get(name) is part for parts, name, part in self._parts)
            and all(t.data_ptr() == p and (now == then).all() for t, p, now, then in self._numbers)
        )

    def __call__(self, x: Tensor) -> Tensor:
        numbers: NDArray[Any] = x.numpy()
        with np.errstate(all="ignore"):  # who predicts says what is not finite
            for layer in self.layers:
                numbers = layer.outputs(numbers)
        return self.network.by_member(torch.from_numpy(numbers))


def _bits(tensor: Tensor) -> NDArray[Any]:
    """Its numbers as integers, of which NaN are equal too, in the same memory."""
    numbers: NDArray[Any] = tensor.detach().numpy()
    return numbers.view(f"i{numbers.itemsize}")
