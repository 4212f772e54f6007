"""Derivatives through one KAN layer: contracted to per-sample Jacobians, in blocks of samples.

Only the inputs of the layer are saved; features and Jacobians are made again, block by block,
on the way back.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sklearn_metakan.basis import Basis
from sklearn_metakan.nn import KANLinear
from sklearn_metakan.ops import combine_features

# MiB that features and Jacobians of a block may take; on a CPU, measured.
BLOCK_MEMORY = {"cpu": 16.0, "cuda": 256.0}
FEW = 2  # up to so many channels, products with features beat Jacobians (measured)


def edge_jet(layer: KANLinear, x: Tensor, products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Value (n, out) of ``y_o = sum_i phi_oi(x_i)``, without bias, and derivatives (n, K_1, out).

    ``T_ko = sum_m sum_i phi_oi^(m)(x_i) P_mki``: the channels k of the outputs, for x (n, in) and
    ``P_m`` (n, K_m, in), m = 1, 2, ..., from ``bell``, of the last K_m of the K_1 channels.
    """
    weights, dictionary = weights_of(layer)
    x = x.to(layer.basis.domain.dtype)
    return _EdgeJet.apply(x, layer.basis, dictionary, weights.contiguous(), *products)


def weights_of(layer: KANLinear) -> tuple[Tensor, Tensor | None]:
    """What is multiplied with features, or with those that a dictionary combines."""
    by_input, shared = layer.source.tensors()
    return layer.source.generate(by_input, shared), layer.source.dictionary(shared)


class _EdgeJet(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        basis: Basis,
        dictionary: Tensor | None,
        weights: Tensor,
        *products: Any,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, dictionary, weights, *products)
        ctx.basis = basis
        y = x.new_empty(len(x), weights.shape[2])
        out = x.new_empty(len(x), products[0].shape[1], weights.shape[2])
        for rows in blocks(x, weights):
            at = x[rows]
            y[rows] = edges_summed(combined(basis.values(at, 0, 0), dictionary), weights)
            for m, product in enumerate(products, 1):
                part = product[rows]
                features = combined(basis.values(at, 0, m), dictionary)
                if part.shape[1] > FEW:
                    term = part @ _jacobian(features, weights)
                else:
                    term = (features[:, None] * part[..., None]).flatten(2) @ weights.flatten(0, 1)
                if m == 1:
                    out[rows] = term
                else:
                    out[rows, -part.shape[1] :] += term
        return y, out

    @staticmethod
    def backward(ctx: Any, y_grad: Tensor, out_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, dictionary, weights, *products = ctx.saved_tensors
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
        if torch.is_grad_enabled():
            # Views, for gradients that do not run on from one input into another.
            inputs: list[Any] = [None if t is None else t.view_as(t) for t in ctx.saved_tensors]
            point, table, weight, *rest = inputs
            both = edge_jet_plain(point, ctx.basis, table, weight, rest)
            wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
            found = iter(torch.autograd.grad(both, wanted, (y_grad, out_grad), create_graph=True))
            of_x, *others = (next(found) if need else None for need in needed)
            return of_x, None, *others
        # Sums over blocks begin at zero; products get their own rows from each.
        x_grad, dictionary_grad, weights_grad = (
            torch.zeros_like(t, memory_format=torch.contiguous_format) if need else None
            for t, need in zip((x, dictionary, weights), needed, strict=False)
        )
        products_grad = [
            torch.empty_like(p) if need else None
            for p, need in zip(products, needed[3:], strict=True)
        ]
        for rows in blocks(x, weights):
            at = x[rows]
            for m, product in enumerate([None, *products]):
                raw = ctx.basis.values(at, 0, m)
                features = combined(raw, dictionary)
                if product is None:
                    features_grad = _from_value(y_grad[rows], features, weights, weights_grad)
                else:
                    part, whole = product[rows], products_grad[m - 1]
                    step = _from_many if part.shape[1] > FEW else _from_few
                    part_grad, features_grad = step(
                        out_grad[rows, -part.shape[1] :], part, features, weights, weights_grad
                    )
                    if whole is not None:
                        whole[rows] = part_grad
                if dictionary is not None:
                    if dictionary_grad is not None:
                        dictionary_grad += raw.flatten(0, 1).T @ features_grad.flatten(0, 1)
                    features_grad = combined(features_grad, dictionary.T)
                if x_grad is not None:
                    x_grad[rows] += ctx.basis.contract(features_grad, at, 0, m + 1)
        return x_grad, None, dictionary_grad, weights_grad, *products_grad


def edge_jet_plain(
    x: Tensor, basis: Basis, dictionary: Tensor | None, weights: Tensor, products: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, all at once; differentiable any number of times.

    Weights may be those of each sample, (n, in, C, out).
    """
    y = edges_summed(combined(basis.evaluate(x), dictionary), weights)
    out = x.new_zeros(len(x), products[0].shape[1], weights.shape[-1])
    for m, product in enumerate(products, 1):
        features = combined(basis.evaluate(x, derivative=m), dictionary)
        term = product @ _jacobian(features, weights)
        out = out + torch.nn.functional.pad(term, (0, 0, out.shape[1] - term.shape[1], 0))
    return y, out


def edges_summed(features: Tensor, weights: Tensor) -> Tensor:
    """``sum_ic F_nic V_ico``, or with weights of each sample ``V_nico``: (n, out).

    Features of each sample may be several rows, one after the other.
    """
    if weights.ndim == 4:
        return _Shared.apply(features, weights, edges_summed)
    return features.flatten(1) @ weights.flatten(0, 1)


class _Shared(torch.autograd.Function):
    """A product with weights of each sample that are all the same, as views of one tensor.

    Forward it is one product with that tensor; on the way back the weights get the gradient of
    each sample, the product of its features and of what comes back.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor, product: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(features, weights)
        return product(features, weights[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        features, weights = ctx.saved_tensors
        of_value = grad.ndim == 2  # else of the Jacobian, (n, in, out)
        of_features = None
        if ctx.needs_input_grad[0] and of_value:
            of_features = _from_value(grad, features, weights[0], None)
        elif ctx.needs_input_grad[0]:
            of_features = (grad.transpose(0, 1) @ weights[0].transpose(1, 2)).transpose(0, 1)
        if of_value and len(features) > (n := len(weights)):
            rows = features.flatten(1).unflatten(0, (n, -1)).transpose(1, 2)
            summed = rows @ grad.unflatten(0, (n, -1))
            return of_features, summed.unflatten(1, weights.shape[1:3]), None
        by_edge = grad[:, None] if of_value else grad
        return of_features, features[..., None] * by_edge[:, :, None], None


def blocks(x: Tensor, weights: Tensor) -> Iterator[slice]:
    """Rows of samples whose Jacobians (b, in, out) fit into the memory of a block."""
    memory = BLOCK_MEMORY["cpu" if x.device.type == "cpu" else "cuda"] * 2**20
    a_sample = weights.shape[0] * (weights.shape[1] + weights.shape[2]) * x.element_size()
    size = max(1, int(memory / a_sample))
    return (slice(start, start + size) for start in range(0, max(1, len(x)), size))


def combined(features: Tensor, dictionary: Tensor | None) -> Tensor:
    """``F_nic D_cp``, or F without a dictionary."""
    return combine_features(features, dictionary)


def _jacobian(features: Tensor, weights: Tensor) -> Tensor:
    """``phi_oi^(m)(x_i)`` of each sample: (b, in, C) and (in, C, out) -> (b, in, out)."""
    if weights.ndim == 4:
        return _Shared.apply(features, weights, _jacobian)
    return (features.transpose(0, 1) @ weights).transpose(0, 1)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a b``, of matrices or batches; inside autocast factors have other types."""
    if a.dtype != b.dtype or a.dtype != total.dtype:
        total.add_(a @ b)
    elif total.ndim == 2:
        total.addmm_(a, b)
    else:
        total.baddbmm_(a, b)


def _from_value(
    grad: Tensor, features: Tensor, weights: Tensor, weights_grad: Tensor | None
) -> Tensor:
    """The way back of ``F V``, (b, out) -> (b, in, C); adds to the weights' gradient."""
    if weights_grad is not None:
        _add_product(weights_grad.flatten(0, 1), features.flatten(1).T, grad)
    return (grad @ weights.flatten(0, 1).T).unflatten(1, weights.shape[:2])


def _from_few(
    grad: Tensor, part: Tensor, features: Tensor, weights: Tensor, weights_grad: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The way back of ``(F * P_k) V`` for each channel: grad (b, K, out), part (b, K, in)."""
    if weights_grad is not None:
        scaled = (features[:, None] * part[..., None]).flatten(2).flatten(0, 1)
        _add_product(weights_grad.flatten(0, 1), scaled.T, grad.flatten(0, 1))
    scaled_grad = (grad @ weights.flatten(0, 1).T).unflatten(2, weights.shape[:2])
    part_grad = (scaled_grad * features[:, None]).sum(-1)
    return part_grad, (scaled_grad * part[..., None]).sum(1)


def _from_many(
    grad: Tensor, part: Tensor, features: Tensor, weights: Tensor, weights_grad: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The way back of ``P Phi``, Phi = F V for each input."""
    part_grad = grad @ _jacobian(features, weights).transpose(1, 2)
    by_input = (part.transpose(1, 2) @ grad).transpose(0, 1)  # of Phi: (in, b, out)
    if weights_grad is not None:
        _add_product(weights_grad, features.permute(1, 2, 0), by_input)
    return part_grad, (by_input @ weights.transpose(1, 2)).transpose(0, 1)
