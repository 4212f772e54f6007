"""``edge_sum`` in bounded memory: features and weights are made, used and dropped in blocks.

Saved for the backward pass are the input and the parameters, nothing else. A block is some
inputs (their weights are generated once) times some rows (their features are evaluated).
Backward does the same again: ``dW = F' g`` and ``dF = g W'``, then on into prompts,
meta-learner and x. What makes features and weights is exchangeable: plain PyTorch
(``_kernels``) or fused kernels (``_triton``); so is what they are multiplied by
(``_products``): matrices, or maps that are convolved.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._generated import LinearWeights, MetaWeights
from sklearn_metakan.ops._kernels import Features, Weights, leaf
from sklearn_metakan.ops._memory import block_sizes, default_memory, tile_memory
from sklearn_metakan.ops._piecewise import PiecewiseWeights, is_piecewise
from sklearn_metakan.ops._products import (
    Product,
    columns,
    columns_of_room,
    room_for_columns,
    settled,
    slices,
)
from sklearn_metakan.ops._reference import edge_sum_reference

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_blocked(
    x: Tensor,
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    working_memory: float | None,
    product: Product,
    fused: bool = False,
    widest: tuple[int, int] | None = None,
) -> Tensor:
    """See ``edge_sum``; ``working_memory`` in MiB bounds what a block takes."""
    x = x.to(basis.domain.dtype)
    by_input, shared = source.tensors()
    if working_memory is None:
        numbers_of_y = prod(product.shape(len(x), source))
        working_memory = default_memory(x, numbers_of_y, source, widest)
    room = tile_memory(x, working_memory)
    plan = _Plan(basis, source, derivative, fused, product, len(by_input), room)
    forward, back = plan.blocks(x, working_memory)
    return _EdgeSum.apply(x, plan._replace(forward=forward, back=back), *by_input, *shared)


class _Blocks(NamedTuple):
    """How many inputs and rows each block has."""

    inputs: int
    rows: int

    def of_inputs(self, plan: "_Plan") -> Iterator[slice]:
        return plan.product.input_blocks(plan.basis.in_features, self.inputs)

    def of_rows(self, n: int) -> Iterator[slice]:
        return slices(max(1, n), self.rows)  # of no rows: one empty block


class _Plan(NamedTuple):
    """What a call computes, with which kernels, and the blocks it is cut into."""

    basis: Basis
    source: "CoefficientSource"
    derivative: int
    fused: bool
    product: Product
    n_by_input: int  # of the source's tensors, those with a leading axis of inputs
    room: int  # bytes for a tile of edges
    forward: _Blocks = _Blocks(0, 0)
    back: _Blocks = _Blocks(0, 0)

    @torch.no_grad()
    def blocks(self, x: Tensor, memory: float) -> tuple[_Blocks, _Blocks]:
        """Of the forward pass, where less may be held for each number, and of the way back."""
        features, weights = self.kernels(*self.source.tensors())
        product = self.product
        if isinstance(weights, MetaWeights):
            memory -= self.room / 2**20
        edges = product.edges(slice(0, 1)).stop
        for_row, for_input = product.numbers(self.source, self.basis.n_functions)
        sizes = partial(block_sizes, x, pixels=product.pixels, numbers_per_row=for_row)
        of_input = weights.numbers_per_input * edges + for_input
        k = self.basis.in_features * features.width
        widened = product.width(k) / k if self.fused else 1.0  # by channels of zeros
        forward, back = (
            _Blocks(*sizes(ceil(of_value * widened), of_input, memory))
            for of_value in (features.numbers_forward, features.numbers_per_value)
        )
        return forward, back

    def kernels(
        self, by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[Features, Weights]:
        if self.fused:
            from sklearn_metakan.ops._triton import fused_kernels

            call = (self.basis, self.source, self.derivative, by_input, shared, self.product)
            return fused_kernels(*call)
        weights = self._weights(by_input, shared)
        dictionary = self.source.dictionary(shared)
        first = self.product.features_first(weights.functions_first)
        return Features(self.basis, self.derivative, dictionary, first), weights

    def _weights(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Weights:
        rounded = torch.is_autocast_enabled(by_input[0].device.type)
        if not self.product.orders_freely:
            return Weights(self.source, by_input, shared)
        if self.source.dictionary(shared) is not None:
            return LinearWeights(self.source, by_input, shared)
        if self.source.activation is None or rounded:
            return Weights(self.source, by_input, shared)
        kind = PiecewiseWeights if is_piecewise(self.source, by_input) else MetaWeights
        return kind(self.source, by_input, shared, self.room)

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        return tensors[: self.n_by_input], tensors[self.n_by_input :]


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.plan, ctx.precision = plan, _present_precision(x.device.type)
        product = plan.product
        features, weights = plan.kernels(*plan.split(tensors))
        y = product.output(x, plan.source)
        for inputs in plan.forward.of_inputs(plan):
            made = weights.make(product.edges(inputs))
            factor = product.factor(made, inputs, weights.functions_first)
            del made  # what of the block before is gone makes room for this one
            for rows in plan.forward.of_rows(len(x)):
                block = features.values(columns(x[rows, inputs]), inputs.start)
                product.add(y[rows], block, factor, inputs)
                del block
            del factor
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
        differentiable = torch.is_grad_enabled()
        compute = _differentiable_gradients if differentiable else _gradients
        with ctx.precision:
            of_x, *of_tensors = compute(ctx.plan, x, tensors, needed, grad)
        return of_x, None, *of_tensors


def _present_precision(device_type: str) -> torch.autocast:
    """The autocast region of the forward pass, for the backward pass to enter again."""
    return torch.autocast(
        device_type,
        torch.get_autocast_dtype(device_type),
        torch.is_autocast_enabled(device_type),
        cache_enabled=False,
    )


def _differentiable_gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Gradients with a graph of their own, for derivatives of derivatives: all materialised.

    Of views: a tensor that x itself came from must not be reached through x.
    """
    x, tensors = x.view_as(x), [t.view_as(t) for t in tensors]
    call = (plan.basis, plan.source, plan.derivative, *plan.split(tensors), plan.product)
    y = edge_sum_reference(x, *call)
    wanted = [t for t, need in zip((x, *tensors), needed, strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    of_x, *of_tensors = needed
    leaves = [leaf(t, need) for t, need in zip(tensors, of_tensors, strict=True)]
    return _Backward(plan, x, grad, of_x, *plan.split(leaves)).run()


class _Backward:
    """The backward pass of one call, block by block, into what needs a gradient."""

    def __init__(
        self,
        plan: _Plan,
        x: Tensor,
        grad: Tensor,
        of_x: bool,
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
    ) -> None:
        self.plan, self.x, self.grad, self.shared = plan, x, settled(grad), shared
        with torch.enable_grad():
            self.features, self.weights = plan.kernels(by_input, shared)
        self.x_grad = room_for_columns(x) if of_x else None

    def run(self) -> list[Tensor | None]:
        for inputs in self.plan.back.of_inputs(self.plan):
            self._block(inputs)
        self.features.finish()
        by_input_grads = self.weights.finish()
        return [self.x_grad, *by_input_grads, *(t.grad for t in self.shared)]

    def _block(self, inputs: slice) -> None:
        """From y into x and the dictionary, and into the weights, row block by row block."""
        features, weights, product = self.features, self.weights, self.plan.product
        edges, order = product.edges(inputs), weights.functions_first
        by_weights = self.x_grad is not None or features.learns
        factor = product.factor(weights.remake(edges), inputs, order) if by_weights else None
        weights_grad: Tensor | None = None
        for rows in self.plan.back.of_rows(len(self.x)):
            x, grad = columns(self.x[rows, inputs]), self.grad[rows]
            features_grad = None
            if factor is not None:
                features_grad = product.to_features(grad, factor, inputs, features.rows_last)
            if rows.stop >= len(self.x):
                factor = None  # makes room for the gradient of its size
            x_grad = None if self.x_grad is None else columns_of_room(self.x_grad[rows, inputs])
            block = features.backward(x, inputs.start, features_grad, x_grad, weights.learns)
            if block is None:
                continue
            features_grad = None
            new = partial(weights.new_gradient, edges, one_product=len(grad) == len(self.x))
            weights_grad = product.to_weights(weights_grad, new, block, grad, inputs)
            block = None  # makes room for the next
        if weights_grad is not None:
            weights.backward(edges, product.as_weights(weights_grad, new, inputs, order))
