"""Derivatives of a network: pushed forward module by module, or by nested autograd."""

from collections.abc import Callable, Iterator
from math import pi

import torch
from torch import Tensor, nn

from sklearn_metakan.nn import KAN, Dropout, KANLinear
from sklearn_metakan.pde.derivatives.ansatz import jvp
from sklearn_metakan.pde.derivatives.channels import Channels, Index, bell, places_on
from sklearn_metakan.pde.derivatives.edge_jet import combined, edge_jet, weights_of
from sklearn_metakan.pde.derivatives.per_sample import PerSample


class Sine(nn.Module):
    """``sin x``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()

    def derivatives(self, x: Tensor, order: int) -> tuple[Tensor, ...]:
        return tuple((x + m * pi / 2).sin() for m in range(order + 1))


_ELEMENTWISE = (nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus, Sine)


def modules_in_order(network: nn.Module) -> list[nn.Module] | None:
    """The modules that a network applies one after the other; None if one is not known."""
    found = [*_flat(network)]
    known = (KANLinear, nn.Linear, PerSample, *_ELEMENTWISE)
    return found if all(isinstance(module, known) for module in found) else None


def _flat(network: nn.Module) -> Iterator[nn.Module]:
    if isinstance(network, KAN):
        for dropout, layer in zip(network.dropouts, network.layers, strict=True):
            yield from _flat(dropout)
            yield layer
    elif isinstance(network, nn.Sequential):
        for module in network:
            yield from _flat(module)
    elif isinstance(network, Dropout | nn.Dropout):
        if network.p and network.training:
            yield network
    elif not isinstance(network, nn.Identity):
        yield network


def push(
    modules: list[nn.Module], x: Tensor, values: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """Value (n, k) and channels (n, K, k) of a network's ``modules_in_order`` at x (n, d).

    values (n, K, d) are the channels of x itself: first derivatives are the directions, all
    others zero.
    """
    for module in modules:
        x, values = _through(module, x, values, plan)
    return x, values


def push_coordinates(
    modules: list[nn.Module], x: Tensor, scale: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """As ``push``, where direction k is coordinate k, scaled: ``scale[k] e_k``, scale (d).

    Edges of the first layer are univariate, so a derivative there is either phi^(m) itself
    or, if mixed, zero: no product with directions is needed.
    """
    first, *rest = modules
    if isinstance(first, KANLinear):
        y, values = _first_layer(first, x, scale, plan)
        return push(rest, y, values, plan)
    values = x.new_zeros(plan.n_channels, x.shape[1])
    for place, (coordinate,) in enumerate(plan.of_order(1)):
        values[place, coordinate] = scale[coordinate]
    return push(modules, x, values.expand(len(x), -1, -1), plan)


def _through(module: nn.Module, x: Tensor, values: Tensor, plan: Channels) -> tuple[Tensor, Tensor]:
    if isinstance(module, nn.Linear):
        return module(x), values @ module.weight.T
    products = bell(values, plan)
    if isinstance(module, PerSample):
        return module.push(x, products)
    if isinstance(module, KANLinear):
        y, values = edge_jet(module, x, products)
        return y if module.bias is None else y + module.bias, values
    y, *slopes = _elementwise(module, x, plan.order)
    total = products[0] * slopes[0][:, None]
    for product, slope in zip(products[1:], slopes[1:], strict=True):
        term = product * slope[:, None]
        total = total + nn.functional.pad(term, (0, 0, total.shape[1] - term.shape[1], 0))
    return y, total


def _elementwise(module: nn.Module, x: Tensor, order: int) -> tuple[Tensor, ...]:
    """The function and its derivatives up to an order, each of x's shape."""
    if isinstance(module, Sine):
        return module.derivatives(x, order)
    if order == 0:
        return (module(x),)
    both = jvp(lambda t: _elementwise(module, t, order - 1), (x,), (torch.ones_like(x),))
    return (*both[0], both[1][-1])


def _first_layer(
    layer: KANLinear, x: Tensor, scale: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """Value (n, out) and channels (n, K, out) behind the first layer."""
    weights, dictionary = weights_of(layer)

    def features(m: int) -> Tensor:
        return combined(layer.basis.evaluate(x, derivative=m), dictionary)

    y = features(0).flatten(1) @ weights.flatten(0, 1)
    pieces: dict[int, Tensor] = {}  # by place: whole runs of channels
    for m in range(1, plan.order + 1):
        slopes = features(m)
        pure = [index for index in plan.of_order(m) if len({*index}) == 1]
        if pure:
            inputs = places_on([index[0] for index in pure], x.device)
            scaled = slopes[:, inputs] * (scale[inputs] ** m)[:, None]
            jacobian = (scaled.transpose(0, 1) @ weights[inputs]).transpose(0, 1)
            places = [plan.position(index) for index in pure]
            if places == [*range(places[0], places[0] + len(places))]:
                pieces[places[0]] = jacobian
            else:
                pieces |= {p: jacobian[:, i : i + 1] for i, p in enumerate(places)}
        for number, (directions, weight) in enumerate(plan.sums if m == 2 else ()):
            where = places_on(directions, x.device)
            factor = torch.zeros_like(scale).index_add(0, where, weight * scale[where] ** 2)
            total = (slopes * factor[:, None]).flatten(1) @ weights.flatten(0, 1)
            pieces[plan.sum_position(number)] = total[:, None]
    filled, place = [], 0
    while place < plan.n_channels:  # mixed derivatives are zero
        piece = pieces.get(place)
        filled.append(y.new_zeros(len(y), 1, y.shape[1]) if piece is None else piece)
        place += filled[-1].shape[1]
    bias = 0.0 if layer.bias is None else layer.bias
    return y + bias, torch.cat(filled, 1) if len(filled) > 1 else filled[0]


def nested_derivatives(
    u: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """As ``push`` for any u, (n, d) -> (n, k): each channel by as many backward passes as its
    order.

    ``directions`` (n, K_1, d) are those of the first-order channels, in their order.
    """
    x = x.detach().requires_grad_()

    def gradient(value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)[0]

    def along(gradients: Tensor, k: int) -> Tensor:
        return (gradients * directions[:, plan.position((k,))]).sum(1)

    with torch.enable_grad():
        value = u(x)
        outputs = []
        for column in value.unbind(1):
            known: dict[Index, Tensor] = {(): column}
            gradients: dict[Index, Tensor] = {}
            for index in plan.indices:
                lower = index[:-1]
                if lower not in gradients:
                    gradients[lower] = gradient(known[lower])
                known[index] = along(gradients[lower], index[-1])
            sums = []
            for several, weight in plan.sums:
                seconds = [along(gradient(known[(k,)]), k) for k in several]
                sums.append(weight * torch.stack(seconds).sum(0))
            parts = [known[index] for index in plan.indices]
            outputs.append(torch.stack(parts[: plan.n_first] + sums + parts[plan.n_first :], 1))
        return value, torch.stack(outputs, 2)
