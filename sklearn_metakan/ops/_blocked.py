"""``edge_sum`` in bounded memory: features and weights are made, used and dropped in blocks.

Saved for the backward pass are the input and the parameters, nothing else. A block is some
inputs (their weights are generated once) times some rows (their features are evaluated).
Backward does the same again: ``dW = F' g`` and ``dF = g W'``, then on into prompts,
meta-learner and x. What makes features and weights is exchangeable: plain PyTorch
(``_kernels``) or fused kernels (``_triton``).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._generated import LinearWeights, MetaWeights
from sklearn_metakan.ops._kernels import Features, Weights, leaf
from sklearn_metakan.ops._memory import block_sizes, default_memory, tile_memory
from sklearn_metakan.ops._piecewise import PiecewiseWeights, is_piecewise
from sklearn_metakan.ops._reference import edge_sum_reference

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def edge_sum_blocked(
    x: Tensor,
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    working_memory: float | None,
    fused: bool = False,
) -> Tensor:
    """See ``edge_sum``; ``working_memory`` in MiB bounds what a block takes."""
    x = x.to(basis.domain.dtype)
    by_input, shared = source.tensors()
    memory = default_memory(x, source) if working_memory is None else working_memory
    room = tile_memory(x, memory)
    plan = _Plan(basis, source, derivative, fused, len(by_input), room)
    features, weights = plan.kernels(by_input, shared)
    if isinstance(weights, MetaWeights):
        memory -= room / 2**20
    inputs, rows = block_sizes(x, features.numbers_per_value, weights.numbers_per_input, memory)
    return _EdgeSum.apply(x, plan._replace(inputs=inputs, rows=rows), *by_input, *shared)


class _Plan(NamedTuple):
    """What a call computes, with which kernels, and the blocks it is cut into."""

    basis: Basis
    source: "CoefficientSource"
    derivative: int
    fused: bool
    n_by_input: int  # of the source's tensors, those with a leading axis of inputs
    room: int  # bytes for a tile of edges
    inputs: int = 0
    rows: int = 0

    def kernels(
        self, by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[Features, Weights]:
        if self.fused:
            from sklearn_metakan.ops._triton import fused_kernels

            return fused_kernels(self.basis, self.source, self.derivative, by_input, shared)
        weights = self._weights(by_input, shared)
        dictionary = self.source.dictionary(shared)
        return Features(self.basis, self.derivative, dictionary, weights.functions_first), weights

    def _weights(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Weights:
        if self.source.dictionary(shared) is not None:
            return LinearWeights(self.source, by_input, shared)
        rounded = torch.is_autocast_enabled(by_input[0].device.type)
        if self.source.activation is None or rounded:
            return Weights(self.source, by_input, shared)
        kind = PiecewiseWeights if is_piecewise(self.source, by_input) else MetaWeights
        return kind(self.source, by_input, shared, self.room)

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        return tensors[: self.n_by_input], tensors[self.n_by_input :]

    def input_blocks(self) -> Iterator[slice]:
        return _slices(self.source.in_features, self.inputs)

    def row_blocks(self, n: int) -> Iterator[slice]:
        return _slices(max(1, n), self.rows)  # of no rows: one empty block


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.plan, ctx.precision = plan, _present_precision(x.device.type)
        features, weights = plan.kernels(*plan.split(tensors))
        y = x.new_empty(len(x), plan.source.out_features)
        for inputs in plan.input_blocks():
            made = weights.make(inputs)
            for rows in plan.row_blocks(len(x)):
                block = features.values(x[rows, inputs], inputs.start)
                _product(y[rows], block, made, add=inputs.start > 0)
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


def _product(out: Tensor, left: Tensor, right: Tensor, add: bool) -> None:
    """``out = left @ right`` or ``+=``; factors may be rounded, the sum is not."""
    if left.dtype != out.dtype and out.is_cuda:
        right = right.to(left.dtype)
        if add:
            torch.addmm(out, left, right, out_dtype=out.dtype, out=out)
        else:
            torch.mm(left, right, out_dtype=out.dtype, out=out)
    elif left.dtype == right.dtype == out.dtype and not torch.is_autocast_enabled(out.device.type):
        out.addmm_(left, right, beta=1 if add else 0)
    elif add:
        out.add_(left @ right.to(left.dtype))
    else:
        out.copy_(left @ right.to(left.dtype))


def _differentiable_gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Gradients with a graph of their own, for derivatives of derivatives: all materialised.

    Of views: a tensor that x itself came from must not be reached through x.
    """
    x, tensors = x.view_as(x), [t.view_as(t) for t in tensors]
    y = edge_sum_reference(x, plan.basis, plan.source, plan.derivative, *plan.split(tensors))
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
        self.plan, self.x, self.grad, self.shared = plan, x, grad, shared
        with torch.enable_grad():
            self.features, self.weights = plan.kernels(by_input, shared)
        self.x_grad = torch.empty_like(x) if of_x else None

    def run(self) -> list[Tensor | None]:
        for inputs in self.plan.input_blocks():
            self._block(inputs)
        self.features.finish()
        by_input_grads = self.weights.finish()
        return [self.x_grad, *by_input_grads, *(t.grad for t in self.shared)]

    def _block(self, inputs: slice) -> None:
        """From y into x and the dictionary, and into the weights, row block by row block."""
        features, weights = self.features, self.weights
        by_weights = self.x_grad is not None or features.learns
        made = weights.remake(inputs) if by_weights else None
        weights_grad: Tensor | None = None
        for rows in self.plan.row_blocks(len(self.x)):
            x, grad = self.x[rows, inputs], self.grad[rows]
            features_grad = None if made is None else self._features_grad(grad, made)
            if rows.stop >= len(self.x):
                made = None  # makes room for the gradient of its size
            x_grad = None if self.x_grad is None else self.x_grad[rows, inputs]
            block = features.backward(x, inputs.start, features_grad, x_grad, weights.learns)
            if block is None:
                continue
            features_grad = None
            if weights_grad is None:
                weights_grad = weights.new_gradient(inputs, one_product=len(grad) == len(self.x))
            _product(weights_grad, block.T, grad.to(block.dtype), add=rows.start > 0)
        if weights_grad is not None:
            weights.backward(inputs, weights_grad)

    def _features_grad(self, grad: Tensor, made: Tensor) -> Tensor:
        """g W', (r, K)."""
        grad = grad.to(made.dtype)
        return (made @ grad.T).T if self.features.rows_last else grad @ made.T
