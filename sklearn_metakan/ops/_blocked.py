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

# Measured (docs/performance.md): about the second-level cache of a core; on a card, products
# large enough to keep it busy.
DEFAULT_MEMORY = {"cpu": 16.0, "cuda": 64.0}
_FEWEST_ROWS = 256


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
    inputs, rows = block_sizes(x, basis.n_functions, source.numbers_per_input, working_memory)
    plan = _Plan(basis, source, derivative, inputs, rows, len(by_input))
    return _EdgeSum.apply(x, plan, *by_input, *shared)


def block_sizes(
    x: Tensor, n_functions: int, numbers_per_input: int, working_memory: float | None
) -> tuple[int, int]:
    """Inputs and rows of a block: half the memory for weights, half for features.

    Both count twice, since the backward pass holds their gradients too.
    """
    if working_memory is None:
        working_memory = DEFAULT_MEMORY["cpu" if x.device.type == "cpu" else "cuda"]
    n, in_features = x.shape
    numbers = working_memory * 2**20 / x.element_size() / 4
    inputs = min(
        in_features,
        numbers // max(1, numbers_per_input),
        numbers // max(1, n_functions * min(n, _FEWEST_ROWS)),
    )
    inputs = max(1, int(inputs))
    return inputs, max(1, min(n, int(numbers // (n_functions * inputs))))


class _Plan(NamedTuple):
    """What a call computes, and the blocks it is cut into."""

    basis: Basis
    source: "CoefficientSource"
    derivative: int
    inputs: int
    rows: int
    n_by_input: int  # of the source's tensors, those with a leading axis of inputs

    def input_blocks(self) -> Iterator[slice]:
        total = self.source.in_features
        for start in range(0, total, self.inputs):
            yield slice(start, min(start + self.inputs, total))

    def row_blocks(self, n: int) -> Iterator[slice]:
        for start in range(0, n, self.rows):
            yield slice(start, min(start + self.rows, n))

    def features(self, x: Tensor, start: int) -> Tensor:
        """(r, b, C)"""
        with torch.autocast(x.device.type, enabled=False):
            return self.basis.values(x, start, self.derivative)

    def gradient_of_x(self, grad: Tensor, x: Tensor, start: int) -> Tensor:
        """(r, b), from that of the features (r, b, C)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.basis.contract(grad.to(x.dtype), x, start, self.derivative + 1)


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.plan = plan
        by_input, shared = tensors[: plan.n_by_input], tensors[plan.n_by_input :]
        dictionary = plan.source.dictionary(shared)
        y = x.new_zeros(len(x), plan.source.out_features)
        for inputs in plan.input_blocks():
            weights = plan.source.generate([t[inputs] for t in by_input], shared).flatten(0, 1)
            for rows in plan.row_blocks(len(x)):
                features = plan.features(x[rows, inputs], inputs.start)
                if dictionary is not None:
                    features = features @ dictionary  # (r, b, p)
                _add_product(y[rows], features.flatten(1), weights)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _differentiable_gradients(ctx.plan, x, tensors, grad)
        else:
            gradients = _Gradients(ctx.plan, x, tensors, ctx.needs_input_grad[0]).of(grad)
        return gradients[0], None, *gradients[1:]


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """``out += left @ right``; inside autocast, of rounded factors into out's precision."""
    if torch.is_autocast_enabled(out.device.type):
        out.add_(left @ right)
    else:
        out.addmm_(left, right)


def _differentiable_gradients(
    plan: _Plan, x: Tensor, tensors: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """Gradients with a graph of their own, for derivatives of derivatives: all materialised."""
    y = edge_sum_reference(x, plan.basis, plan.source, plan.derivative)
    wanted = [t for t in (x, *tensors) if t.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in (x, *tensors)]


class _Gradients:
    """The backward pass of one call, block by block."""

    def __init__(self, plan: _Plan, x: Tensor, tensors: Sequence[Tensor], of_x: bool) -> None:
        self.plan, self.x = plan, x
        self.by_input = tensors[: plan.n_by_input]
        self.shared = [t.detach().requires_grad_() for t in tensors[plan.n_by_input :]]
        self.x_grad = torch.empty_like(x) if of_x else None
        self.by_input_grads = [torch.empty_like(t) for t in self.by_input]
        self.shared_grads = [torch.zeros_like(t) for t in self.shared]

    def of(self, grad: Tensor) -> list[Tensor | None]:
        with torch.enable_grad():
            dictionary = self.plan.source.dictionary(self.shared)
        dictionary_grad = None if dictionary is None else torch.zeros_like(dictionary)
        for inputs in self.plan.input_blocks():
            self._block(inputs, grad, dictionary, dictionary_grad)
        if dictionary is not None:
            self._add_shared(torch.autograd.grad(dictionary, self.shared, dictionary_grad))
        return [self.x_grad, *self.by_input_grads, *self.shared_grads]

    def _block(
        self,
        inputs: slice,
        grad: Tensor,
        dictionary: Tensor | None,
        dictionary_grad: Tensor | None,
    ) -> None:
        leaves = [t[inputs].detach().requires_grad_() for t in self.by_input]
        with torch.enable_grad():
            weights = self.plan.source.generate(leaves, self.shared)
        flat = weights.detach().flatten(0, 1)
        weights_grad = torch.zeros_like(flat, dtype=self.x.dtype)
        for rows in self.plan.row_blocks(len(self.x)):
            x, g = self.x[rows, inputs], grad[rows]
            features = self.plan.features(x, inputs.start)
            combined = features if dictionary is None else features @ dictionary.detach()
            _add_product(weights_grad, combined.flatten(1).T, g)
            if self.x_grad is None and dictionary is None:
                continue
            back = (g @ flat.T).view_as(combined)
            if dictionary is not None:
                _add_product(dictionary_grad, features.flatten(0, 1).T, back.flatten(0, 1))
                back = back @ dictionary.detach().T
            if self.x_grad is not None:
                self.x_grad[rows, inputs] = self.plan.gradient_of_x(back, x, inputs.start)
        self._into_source(inputs, weights, weights_grad.view_as(weights), leaves)

    def _into_source(
        self, inputs: slice, weights: Tensor, weights_grad: Tensor, leaves: list[Tensor]
    ) -> None:
        """From the weights of a block on into what they were generated from."""
        wanted = [*leaves, *self.shared]
        found = torch.autograd.grad(weights, wanted, weights_grad, allow_unused=True)
        for whole, part in zip(self.by_input_grads, found[: len(leaves)], strict=True):
            whole[inputs] = part
        self._add_shared(found[len(leaves) :])

    def _add_shared(self, parts: Sequence[Tensor | None]) -> None:
        for whole, part in zip(self.shared_grads, parts, strict=True):
            if part is not None:
                whole.add_(part)
