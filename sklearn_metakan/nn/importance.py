"""How much each input matters to a network's outputs."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from sklearn_metakan.nn.layers import KANLinear
from sklearn_metakan.nn.network import KAN

_NUMBERS = 2**22  # of the widest tensor, for several inputs at a time


@torch.no_grad()
def feature_importances(network: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """Total Sobol indices, normalised to sum to one.

    ``T_i = E[(f(x) - f(x with x_i exchanged))^2] / 2``, the spread of the outputs that
    vanishes if x_i is known, interactions included; Jansen's estimator, summed over
    outputs. A KAN's cost grows with the number of inputs, any other network's with its
    square: its first layer adds up what each input gives, and only that of x_i is exchanged.

    Parameters
    ----------
    network : Module, (n, in_features) -> (n, out_features)
        Of a KAN of several members, their mean counts.
    x, other : Tensor of shape (n, in_features)
        Two independent samples; ``other`` gives the exchanged values.

    Returns
    -------
    Tensor of shape (in_features,), non-negative; all zero for a constant network

    Source: Jansen, "Analysis of variance designs for model output" (1999).
    """
    was_training = network.training
    network.eval()
    outputs = network(x)
    if isinstance(network, KAN):
        outputs = outputs.mean(1) if network.n_members > 1 else outputs
        exchanged = _exchanged_in_kan(network, x, other)
    else:
        exchanged = _exchanged(network, x, other)
    changes = [(outputs[:, None] - each).pow(2).mean(0).sum(1) / 2 for each in exchanged]
    network.train(was_training)
    importances = torch.cat(changes)
    return importances / importances.sum().clamp_min(torch.finfo(importances.dtype).tiny)


def _exchanged(network: nn.Module, x: Tensor, other: Tensor) -> Iterator[Tensor]:
    """f with x_i exchanged, (n, 1, out) for each input."""
    for i in range(x.shape[1]):
        exchanged = x.clone()
        exchanged[:, i] = other[:, i]
        yield network(exchanged)[:, None]


def _exchanged_in_kan(network: KAN, x: Tensor, other: Tensor) -> Iterator[Tensor]:
    """The same for blocks of inputs, (n, inputs, out)."""
    first, *later = layers = cast(list[KANLinear], [*network.kan_layers()])
    sums = first(x)
    widest = max(first.basis.n_functions, *(layer.source.out_features for layer in layers))
    size = max(1, _NUMBERS // (len(x) * widest))
    for start in range(0, x.shape[1], size):
        stop = min(start + size, x.shape[1])
        block = 0, start, stop
        change = first.edge_functions(other, *block) - first.edge_functions(x, *block)
        h = (sums[:, None] + change).flatten(0, 1)
        for layer in later:
            h = layer(h)
        h = network.by_member(h)
        yield (h.mean(1) if h.dim() == 3 else h).unflatten(0, (len(x), -1))
