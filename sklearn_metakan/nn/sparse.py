"""Layers of which only some edges are there."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sklearn_metakan.nn.layers import KANLinear
from sklearn_metakan.nn.sources import Coefficients, DirectCoefficients, MetaCoefficients

Edges = Sequence[tuple[int, int]]  # (input, output)


class SparseCoefficients(Coefficients):
    """``w_oi`` of the edges that are listed; all others are zero and have no numbers.

    Parameters
    ----------
    dense : DirectCoefficients or MetaCoefficients
        Of all edges of a dense layer; those that are listed are copied from it, a meta-learner is
        taken as it is.
    edges : sequence of (input, output)
        Each once.

    Attributes
    ----------
    listed : DirectCoefficients or MetaCoefficients
        Of one input and as many outputs as edges: an edge a column.
    places : Tensor of shape (in_features, out_features)
        Number of each edge in the list; of those that are not there, the length of the list.

    Raises
    ------
    ValueError
        For an edge that the layer does not have, or has twice.

    Examples
    --------
    >>> source = SparseCoefficients(DirectCoefficients(4, 2, n_functions=9), [(0, 0), (3, 1)])
    >>> source.block(0, 4).shape, sum(p.numel() for p in source.parameters())
    (torch.Size([4, 9, 2]), 18)
    """

    places: Tensor

    def __init__(self, dense: DirectCoefficients | MetaCoefficients, edges: Edges) -> None:
        super().__init__()
        self.in_shape, self.in_features = dense.in_shape, dense.in_features
        self.out_features = dense.out_features
        shape, n_edges = (self.in_features, self.out_features), len(edges)
        inputs, outputs = ([int(edge[side]) for edge in edges] for side in (0, 1))
        inside = all(0 <= i < shape[0] and 0 <= o < shape[1] for i, o in edges)
        if not inside or len({*zip(inputs, outputs, strict=True)}) < n_edges:
            raise ValueError(
                f"edges must be different pairs of an input below {shape[0]} and an output below "
                f"{shape[1]}, got {list(edges)}."
            )
        parameter = next(dense.parameters())
        places = torch.full(shape, n_edges, device=parameter.device)
        places[inputs, outputs] = torch.arange(n_edges, device=parameter.device)
        self.register_buffer("places", places, persistent=False)
        if isinstance(dense, DirectCoefficients):
            self.listed: DirectCoefficients | MetaCoefficients = DirectCoefficients(
                1, n_edges, dense.n_functions, dtype=parameter.dtype
            )
            self.listed.weight = nn.Parameter(_columns(dense.weight, inputs, outputs))
            return
        scaled = dense.edge_scale is not None
        self.listed = MetaCoefficients(
            1, n_edges, dense.meta_learner, scaled, dtype=parameter.dtype
        )
        self.listed.gain = dense.gain.clone()
        self.listed.prompts = nn.Parameter(_columns(dense.prompts, inputs, outputs))
        if dense.edge_scale is not None:
            self.listed.edge_scale = nn.Parameter(dense.edge_scale[inputs, outputs][None].detach())

    def dense(self) -> DirectCoefficients | MetaCoefficients:
        """A source of all edges, those that are not here zero."""
        listed = self.listed
        if isinstance(listed, DirectCoefficients):
            found: Any = DirectCoefficients(self.in_features, self.out_features, self.n_functions)
        else:
            scaled = listed.edge_scale is not None
            sizes = self.in_features, self.out_features
            found = MetaCoefficients(*sizes, listed.meta_learner, scaled)
            found.gain = listed.gain.clone()
        for name, parameter in listed.named_parameters(recurse=False):
            own = torch.cat(
                [parameter.detach()[0], parameter.new_zeros(*parameter.shape[1:-1], 1)], -1
            )
            setattr(found, name, nn.Parameter(own[..., self.places].movedim(-2, 0).clone()))
        return cast(DirectCoefficients | MetaCoefficients, found)

    @property
    def n_edges(self) -> int:
        return self.listed.out_features

    @property
    def n_functions(self) -> int:
        return self.listed.n_functions

    @property
    def numbers_per_input(self) -> int:
        return 2 * self.n_functions * self.out_features

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.n_edges} edges"

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Places by input; shared by all inputs are the numbers of the listed edges."""
        by_input, shared = self.listed.tensors()
        return (self.places,), (*by_input, *shared)

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        n_own = len(shared) - len(self.listed.tensors()[1])
        (listed,) = self.listed.coefficients(shared[:n_own], shared[n_own:])  # (C, edges)
        padded = torch.cat([listed, listed.new_zeros(len(listed), 1)], 1)
        (places,) = by_input
        return padded.T[places].movedim(-1, -2)  # (b, out, C) -> (b, C, out)

    def change_basis(self, matrices: Tensor) -> None:
        """``T_i w_oi`` in place of ``w_oi`` of direct coefficients; see ``DirectCoefficients``."""
        direct = cast(DirectCoefficients, self.listed)
        inputs = torch.empty(self.n_edges, dtype=torch.long)
        where = (self.places < self.n_edges).nonzero()
        inputs[self.places[where[:, 0], where[:, 1]].cpu()] = where[:, 0].cpu()
        own = matrices if len(matrices) == 1 else matrices[inputs]  # (1 or edges, C', C)
        weight = direct.weight.detach()[0].T[..., None].double()  # (edges, C, 1)
        changed = (own.to(weight.device) @ weight)[..., 0].T[None]
        direct.weight = nn.Parameter(changed.to(direct.weight.dtype))
        direct.n_functions = matrices.shape[-2]


def _columns(numbers: Tensor, inputs: list[int], outputs: list[int]) -> Tensor:
    """(in, numbers, out) -> (1, numbers, edges)."""
    return (
        numbers.detach()
        .movedim(1, -1)[inputs, outputs]
        .T[None]
        .clone(memory_format=torch.contiguous_format)
    )


def keep_edges(layers: Sequence[KANLinear], edges: Sequence[Edges]) -> None:
    """Leave only the listed edges of each layer, in place.

    Raises ValueError for lists that do not fit the layers.
    """
    if len(edges) != len(layers):
        raise ValueError(
            f"edges must have one list for each of the {len(layers)} layers, got {len(edges)}."
        )
    for layer, of_layer in zip(layers, edges, strict=True):
        if layer.groups > 1:
            raise ValueError("edges are for networks of one member; take one with member(m).")
        layer.source = SparseCoefficients(layer.source, of_layer)  # type: ignore[assignment]
