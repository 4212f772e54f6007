"""How much each input, and each edge, matters to a network's outputs."""

from collections.abc import Iterator, Sequence

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
    if isinstance(network, KAN):
        return _shares(_totals(_linear(network), network.n_members, x, other))
    was_training = network.training
    network.eval()
    outputs, changes = network(x), []
    for i in range(x.shape[1]):
        exchanged = x.clone()
        exchanged[:, i] = other[:, i]
        changes.append((outputs - network(exchanged)).pow(2).mean(0).sum() / 2)
    network.train(was_training)
    return _shares(torch.stack(changes))


def edge_importances(network: KAN | KANLinear, x: Tensor, other: Tensor) -> list[Tensor]:
    """Shares of the outputs' spread that each edge passes on through all later layers.

    An input of a layer has the share ``T_i`` that ``feature_importances`` gives it in the network
    from that layer on, and its edges have parts of it: ``T_i V_oi / sum_o V_oi``, where
    ``V_oi = E[(phi_oi(x_i') - phi_oi(x_i))^2 (df/dy_o)^2] / 2`` is the spread of the outputs, to
    first order, if the edge alone is exchanged. Edges of one input often cancel one another, so
    that V alone would rank inputs that do not matter.

    Parameters
    ----------
    network : KAN or KANLinear
    x, other : Tensor of shape (n, in_features)
        As for ``feature_importances``.

    Returns
    -------
    list of Tensor of shape (n_members, in_features, out_features), one a layer
        Those of a layer sum to one over members, inputs and outputs. Those of the first
        sum over members and outputs to ``feature_importances``.
    """
    members: list[KAN | KANLinear] = [network]
    if isinstance(network, KAN) and network.n_members > 1:
        members = [*map(network.member, range(network.n_members))]
    by_member: list[list[tuple[Tensor, Tensor]]] = []
    for layers in map(_linear, members):
        reached, exchanged = _reaching(layers, x), _reaching(layers, other)
        squares = _squared_slopes(layers, x)
        with torch.no_grad():
            by_member.append(
                [
                    (_totals(layers[k:], 1, reached[k], exchanged[k]), _alone(*each))
                    for k, each in enumerate(zip(layers, reached, exchanged, squares, strict=True))
                ]
            )
    found = []
    for k, of_layer in enumerate(zip(*by_member, strict=True)):
        totals, alone = (torch.stack(each) for each in zip(*of_layer, strict=True))
        whole = alone.sum(2, keepdim=True)
        if k == 0 and len(members) > 1:  # an input of the network is that of all its members
            totals, whole = feature_importances(network, x, other), whole.sum(0)
        found.append(_shares(totals[..., None] * alone / whole.clamp_min(_tiny(whole))))
    return found


def _linear(network: KAN | KANLinear) -> list[KANLinear]:
    return [*network._layers] if isinstance(network, KAN) else [network]


def _totals(layers: Sequence[KANLinear], n_members: int, x: Tensor, other: Tensor) -> Tensor:
    """T_i (in,) of these layers, one after the other, whose outputs are the members' mean."""
    first, *later = layers

    def outputs(h: Tensor) -> Tensor:
        for layer in later:
            h = layer(h)
        return h.unflatten(1, (n_members, -1)).mean(1)

    sums, found = first(x), []
    before = outputs(sums)
    widest = max(layer.source.out_features for layer in layers)
    for changes in _changes(first, x, other, widest, with_pairs=True):
        after = outputs((sums[:, None] + changes).flatten(0, 1)).unflatten(0, (len(x), -1))
        found.append((before[:, None] - after).pow(2).mean(0).sum(1) / 2)
    return torch.cat(found)


def _alone(layer: KANLinear, x: Tensor, other: Tensor, squares: Tensor) -> Tensor:
    """V_oi (in, out) of a layer."""
    changes = _changes(layer, x, other, layer.out_features)
    return torch.cat([(each.square() * squares[:, None]).mean(0) / 2 for each in changes])


def _changes(
    layer: KANLinear, x: Tensor, other: Tensor, widest: int, with_pairs: bool = False
) -> Iterator[Tensor]:
    """``phi_oi(other_i) - phi_oi(x_i)`` for blocks of inputs, (n, inputs, out)."""
    size = max(1, _NUMBERS // (len(x) * max(layer.basis.n_functions, widest)))
    for start in range(0, x.shape[1], size):
        stop = min(start + size, x.shape[1])
        block = 0, start, stop
        changes = layer.edge_functions(other, *block) - layer.edge_functions(x, *block)
        if with_pairs and layer.pairs is not None:
            changes = changes + layer.pairs.changes(x, other, start, stop)
        yield changes


@torch.no_grad()
def _reaching(layers: Sequence[KANLinear], x: Tensor) -> list[Tensor]:
    """What reaches each layer."""
    found = [x]
    for layer in layers[:-1]:
        found.append(layer(found[-1]))
    return found


@torch.enable_grad()
def _squared_slopes(layers: Sequence[KANLinear], x: Tensor) -> list[Tensor]:
    """``sum_f (df/dy_o)^2`` over the network's outputs f, (n, out) for each layer's outputs y."""
    h, outputs = x.detach(), []
    for layer in layers:
        h = layer(h)
        outputs.append(h if h.requires_grad else h.requires_grad_())
    squares = [torch.zeros_like(each) for each in outputs]
    for output in range(h.shape[1]):
        slopes = torch.autograd.grad(h[:, output].sum(), outputs, retain_graph=True)
        squares = [a + b.square() for a, b in zip(squares, slopes, strict=True)]
    return [each.detach() for each in squares]


def _shares(spreads: Tensor) -> Tensor:
    return spreads / spreads.sum().clamp_min(_tiny(spreads))


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
