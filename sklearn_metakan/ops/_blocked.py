"""``edge_sum`` in bounded memory: features and weights are made, used and dropped in blocks.

Saved for the backward pass are the input and the parameters, nothing else. A block is some
inputs (their weights are generated once) times some rows (their features are evaluated).
Backward does the same again: ``dW = F' g`` and ``dF = g W'``, then on into prompts,
meta-learner and x.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._reference import edge_sum_reference

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource

# MiB. On a CPU, measured: less makes blocks too small, more does not fit into the caches.
DEFAULT_MEMORY = {"cpu": 16.0, "cuda": 64.0}
FEWEST_ROWS = 256  # of a block: below it, products and the calls around them are inefficient


def edge_sum_blocked(
    x: Tensor,
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    working_memory: float | None,
) -> Tensor:
    """See ``edge_sum``; ``working_memory`` in MiB bounds what a block takes."""
    x = x.to(basis.domain.dtype)
    by_input, shared = source.tensors()
    inputs, rows = block_sizes(x, basis, source, working_memory)
    plan = _Plan(basis, source, derivative, inputs, rows, len(by_input))
    return _EdgeSum.apply(x, plan, *by_input, *shared)


def block_sizes(
    x: Tensor, basis: Basis, source: "CoefficientSource", working_memory: float | None
) -> tuple[int, int]:
    """Inputs and rows of a block that fits into the memory, backward pass included.

    As many inputs as go with ``FEWEST_ROWS`` rows, then as many rows as still fit; where
    the memory is too small even for that, one input and ``FEWEST_ROWS`` rows.
    """
    if working_memory is None:
        working_memory = DEFAULT_MEMORY["cpu" if x.device.type == "cpu" else "cuda"]
    numbers = working_memory * 2**20 / x.element_size()
    n, in_features = x.shape
    a_value, an_input = basis.numbers_per_value, source.numbers_per_input
    rows = max(1, min(n, FEWEST_ROWS))
    inputs = _even(in_features, numbers / (an_input + rows * a_value))
    more = (numbers - inputs * an_input) / (inputs * a_value)
    return inputs, _even(max(1, n), max(rows, more))


def _even(total: int, most: float) -> int:
    """The size of the fewest equal blocks of at most so many."""
    blocks = -(-total // max(1, int(min(most, total))))
    return -(-total // blocks)


class _Plan(NamedTuple):
    """What a call computes, and the blocks it is cut into."""

    basis: Basis
    source: "CoefficientSource"
    derivative: int
    inputs: int
    rows: int
    n_by_input: int  # of the source's tensors, those with a leading axis of inputs

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
        by_input, shared = plan.split(tensors)
        dictionary = plan.source.dictionary(shared)
        y = x.new_empty(len(x), plan.source.out_features)
        for inputs in plan.input_blocks():
            weights = plan.source.generate([t[inputs] for t in by_input], shared).flatten(0, 1)
            for rows in plan.row_blocks(len(x)):
                with _full_precision(x):
                    features = plan.basis.values(x[rows, inputs], inputs.start, plan.derivative)
                combined = _combine(features, dictionary)
                _product(y[rows], combined.flatten(1), weights, add=inputs.start > 0)
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


def _full_precision(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _product(out: Tensor, left: Tensor, right: Tensor, add: bool) -> None:
    """``out = left @ right`` or ``+=``; inside autocast, factors are rounded, not the sum."""
    if not torch.is_autocast_enabled(out.device.type):
        out.addmm_(left, right, beta=1 if add else 0)
    elif add:
        out.add_(left @ right)
    else:
        out.copy_(left @ right)


def _combine(features: Tensor, dictionary: Tensor | None) -> Tensor:
    """(r, b, C) @ (C, p); turned round, as products of few columns are slow (CPU)."""
    if dictionary is None:
        return features
    combined = dictionary.T.contiguous() @ features.flatten(0, 1).T
    return combined.T.unflatten(0, features.shape[:2])


def _spread(combined_grad: Tensor, dictionary: Tensor | None) -> Tensor:
    """The way back, (r, b, p) @ (p, C)."""
    return combined_grad if dictionary is None else combined_grad @ dictionary.T.contiguous()


def _differentiable_gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Gradients with a graph of their own, for derivatives of derivatives: all materialised."""
    y = edge_sum_reference(x, plan.basis, plan.source, plan.derivative, *plan.split(tensors))
    wanted = [t for t, need in zip((x, *tensors), needed, strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    of_x, *of_tensors = needed
    leaves = [_leaf(t, need) for t, need in zip(tensors, of_tensors, strict=True)]
    return _Backward(plan, x, grad, of_x, *plan.split(leaves)).run()


def _leaf(tensor: Tensor, needs_grad: bool) -> Tensor:
    """The same numbers, cut off from the graph that they came with."""
    return tensor.detach().requires_grad_(needs_grad)


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
        self.plan, self.x, self.grad = plan, x, grad
        self.by_input, self.shared = by_input, shared
        with torch.enable_grad():
            self.dictionary = plan.source.dictionary(shared)
        self.x_grad = torch.empty_like(x) if of_x else None
        self.by_input_grads = [t.new_empty(t.shape) if t.requires_grad else None for t in by_input]
        self.dictionary_grad: Tensor | None = None
        if self.dictionary is not None and self.dictionary.requires_grad:
            self.dictionary_grad = x.new_zeros(self.dictionary.shape[::-1])  # (p, C)

    def run(self) -> list[Tensor | None]:
        for inputs in self.plan.input_blocks():
            self._block(inputs)
        if self.dictionary is not None and self.dictionary_grad is not None:
            self.dictionary.backward(self.dictionary_grad.T)
        return [self.x_grad, *self.by_input_grads, *(t.grad for t in self.shared)]

    def _block(self, inputs: slice) -> None:
        leaves = [_leaf(t[inputs], t.requires_grad) for t in self.by_input]
        with torch.enable_grad():
            weights = self.plan.source.generate(leaves, self.shared)  # (b, C or p, out)
        is_parameter = weights is leaves[0]
        weights_grad: Tensor | None = None
        if is_parameter and self.by_input_grads[0] is not None:
            weights_grad = self.by_input_grads[0][inputs]
        elif weights.requires_grad:
            weights_grad = self.x.new_empty(weights.shape)
        self._products(inputs, weights, weights_grad)
        if weights_grad is None or is_parameter:
            return
        weights.backward(weights_grad)
        for whole, leaf in zip(self.by_input_grads, leaves, strict=True):
            if whole is not None:
                whole[inputs] = 0.0 if leaf.grad is None else leaf.grad

    def _products(self, inputs: slice, weights: Tensor, weights_grad: Tensor | None) -> None:
        """From y into x and the dictionary, and as far as the weights."""
        flat = weights.flatten(0, 1)
        flat_grad = None if weights_grad is None else weights_grad.flatten(0, 1)
        for rows in self.plan.row_blocks(len(self.x)):
            self._rows(inputs, rows, flat, flat_grad)

    def _rows(
        self, inputs: slice, rows: slice, weights: Tensor, weights_grad: Tensor | None
    ) -> None:
        """The same for some rows; weights are (b * C or b * p, out)."""
        basis, start, derivative = self.plan.basis, inputs.start, self.plan.derivative
        x, grad, dictionary = self.x[rows, inputs], self.grad[rows], self.dictionary
        by_features = weights_grad is not None or self.dictionary_grad is not None
        if self.x_grad is not None or self.dictionary_grad is not None:
            combined_grad = (grad @ weights.T).unflatten(1, (x.shape[1], -1))
        if self.x_grad is None:
            with _full_precision(x):
                features = basis.values(x, start, derivative)  # (r, b, C)
        else:
            features_grad = _spread(combined_grad, dictionary).to(x.dtype)
            with _full_precision(x):
                if not by_features:
                    x_grad = basis.contract(features_grad, x, start, derivative + 1)
                else:
                    features, x_grad = basis.values_and_contract(
                        features_grad, x, start, derivative
                    )
            self.x_grad[rows, inputs] = x_grad
        if self.dictionary_grad is not None:
            left = combined_grad.flatten(0, 1).T
            _product(self.dictionary_grad, left, features.flatten(0, 1), add=True)
        if weights_grad is not None:
            left = _combine(features, dictionary).flatten(1).T
            _product(weights_grad, left, grad, add=rows.start > 0)
