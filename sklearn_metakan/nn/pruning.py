"""What each edge does for a network's outputs, and the network without some of them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_metakan.nn.layers import KANLinear
from sklearn_metakan.nn.network import KAN
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn.sparse import SparseCoefficients

Pair = tuple[int, int]

_NUMBERS = 2**22  # of the widest tensor, for several edges at a time


@torch.no_grad()
def edge_effects(network: KAN, x: Tensor) -> list[Tensor]:
    """How much the outputs change when an edge is replaced by its mean.

    ``E[|f(x) - f(x with phi_oi = its mean over x)|^2] / E[|f(x) - E f|^2]`` for one edge at a
    time: what removing it costs before the others make up for it. Zero for an edge that does
    nothing, or whose output nothing takes up.

    Parameters
    ----------
    network : KAN of one member
    x : Tensor of shape (n, in_features)

    Returns
    -------
    list of Tensor of shape (in, out), one for each layer
    """
    layers = network._layers
    found, reached = [], [x]
    for layer in layers:
        reached.append(layer(reached[-1]))
    outputs = reached[-1]
    spread = (outputs - outputs.mean(0)).square().mean(0).sum()
    spread = spread.clamp_min(torch.finfo(spread.dtype).tiny)
    for k, layer in enumerate(layers):
        effects = []
        for values in _edge_values(layer, reached[k]):  # (n, inputs, out)
            deviations = values - values.mean(0)
            n, inputs, out = deviations.shape
            if k == len(layers) - 1:
                effects.append(deviations.square().mean(0))
                continue
            block = []
            size = max(1, _NUMBERS // (n * max(each.out_features for each in layers[k:]) * 8))
            pairs = [(i, o) for i in range(inputs) for o in range(out)]
            for start in range(0, len(pairs), size):
                block.append(
                    _ablated(
                        layers[k + 1 :],
                        reached[k + 1],
                        deviations,
                        pairs[start : start + size],
                        outputs,
                    )
                )
            effects.append(torch.cat(block).view(inputs, out))
        found.append(torch.cat(effects) / spread)
    return found


def _ablated(
    later: Sequence[Any],
    sums: Tensor,
    deviations: Tensor,
    pairs: list[tuple[int, int]],
    outputs: Tensor,
) -> Tensor:
    """The squared change of the outputs without each of these edges, (len(pairs),)."""
    h = sums.repeat(len(pairs), 1, 1)  # (edges, n, out)
    for m, (i, o) in enumerate(pairs):
        h[m, :, o] -= deviations[:, i, o]
    h = h.flatten(0, 1)
    for layer in later:
        h = layer(h)
    change = h.view(len(pairs), *outputs.shape) - outputs
    return change.square().mean(1).sum(1)


@torch.no_grad()
def without_edges(network: KAN, kept: Sequence[Tensor], x: Tensor) -> tuple[KAN, list[list[Pair]]]:
    """A network without some edges, each replaced by its mean over x in the output's bias.

    Units that nothing reaches, or that nothing takes up, go too; at least one stays in each layer.
    Inputs of the network all stay.

    Parameters
    ----------
    network : KAN of one member
    kept : list of bool Tensor (in, out), one for each layer
    x : Tensor of shape (n, in_features)

    Returns
    -------
    network, edges : KAN, list of list of (input, output)
        What ``KAN(layer_sizes, edges=edges, bias=True, ...)`` makes, with its numbers; a copy.
    """
    pruned = deepcopy(network)
    masks = [mask.clone().cpu() for mask in kept]
    units, h, edges = _connected(masks), x, []
    for k, layer in enumerate(pruned._layers):
        mask = masks[k].to(h.device)
        values = torch.cat([*_edge_values(layer, h)], 1)  # (n, in, out)
        constant = (values.mean(0) * ~mask).sum(0)
        constant = constant if layer.bias is None else constant + layer.bias
        h = (values * mask).sum(1) + constant
        rows, columns = ([*range(x.shape[1])] if k == 0 else units[k]), units[k + 1]
        old = [(i, o) for i in rows for o in columns if mask[i, o]]
        edges.append([(rows.index(i), columns.index(o)) for i, o in old])
        layer.source = _part(layer.source, rows, columns)
        layer.source = SparseCoefficients(layer.source, edges[k])  # type: ignore[assignment]
        layer.bias = nn.Parameter(constant[columns].clone())
        layer.in_features, layer.out_features = len(rows), len(columns)
        layer.fan_in = len(rows)
        if k:
            layer.basis = layer.basis.with_grid(in_features=len(rows))
    layers = pruned._layers
    sides = [(layer.in_features, layer.out_features) for layer in layers]
    for layer in layers:
        layer.widest = max(sides, key=prod)
    pruned.widest_layer = max(map(sum, sides))
    pruned.widest_features = max(n_in for n_in, _ in sides) * layers[0].basis.n_functions
    return pruned, edges


def _edge_values(layer: KANLinear, x: Tensor) -> Iterator[Tensor]:
    """Edge functions for blocks of inputs, (n, inputs, out)."""
    size = max(1, _NUMBERS // (len(x) * layer.out_features * layer.basis.n_functions))
    for start in range(0, layer.in_features, size):
        yield layer.edge_functions(x, 0, start, min(start + size, layer.in_features))


def _connected(masks: list[Tensor]) -> list[list[int]]:
    """Units of each layer that lie on a path; edges of others are struck off, in place."""
    for _ in masks:
        for before, after in pairwise(masks):
            through = before.any(0) & after.any(1)
            before &= through
            after &= through[:, None]
    inner = [before.any(0).nonzero()[:, 0].tolist() or [0] for before in masks[:-1]]
    return [[*range(len(masks[0]))], *inner, [*range(masks[-1].shape[1])]]


def _part(
    source: Any, rows: list[int], columns: list[int]
) -> DirectCoefficients | MetaCoefficients:
    """Of some inputs and outputs: a dense source, from a dense or a sparse one."""
    if isinstance(source, SparseCoefficients):
        source = source.dense()
    shared = getattr(source, "meta_learner", None)
    part = deepcopy(source, {id(shared): shared})
    part.in_shape, part.in_features, part.out_features = (len(rows),), len(rows), len(columns)
    for name, parameter in source.named_parameters(recurse=False):
        own = parameter.detach()[rows][..., columns].clone()
        setattr(part, name, nn.Parameter(own))
    return part
