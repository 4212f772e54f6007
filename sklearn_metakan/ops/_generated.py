"""Weights of blocks from prompts, and the way back without autograd, in plain PyTorch.

``w = a (W_2 act(W_1 z + b_1) + b_2)``, a is 1 without edge scale; or ``w = z`` under a linear
meta-learner, whose dictionary belongs to the features. K is (C or p, b).

The hidden layer, H numbers an edge, is made and differentiated for a tile of edges at a time,
which stays in the processor's cache from the first product to the last. The naive twin is
``_kernels.Weights``, which leaves both to autograd.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sklearn_metakan.ops._activations import ACTIVATIONS
from sklearn_metakan.ops._kernels import Weights
from sklearn_metakan.ops._products import slices

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource

FEWEST_EDGES = 64  # of a tile, where the memory is too small for more


class LinearWeights(Weights):
    """Of a linear meta-learner: the prompts (in, p, out) themselves, as (p, b, out)."""

    functions_first = True

    @property
    def numbers_per_input(self) -> int:
        return 2 * self.by_input[0][0].numel()

    def make(self, inputs: slice) -> Tensor:
        return by_number(self.by_input[0].detach()[inputs]).view(-1, self.source.out_features)

    def remake(self, inputs: slice) -> Tensor:
        return self.make(inputs)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        return room_by_number(self._grad(0)[inputs]).view(-1, self.source.out_features)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        into = self._grad(0)[inputs]
        keep(gradient.view(into.shape[1], -1), into)


class MetaWeights(Weights):
    """Of a meta-learner with a hidden layer, whose tiles take ``room`` bytes at most."""

    functions_first = True

    def __init__(
        self,
        source: "CoefficientSource",
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        room: int,
    ) -> None:
        super().__init__(source, by_input, shared)
        self.scaled = source.scaled(shared)
        self._own = [t.detach() for t in self.scaled]
        self._activation = ACTIVATIONS[str(source.activation)]
        (self.functions, hidden), p = self._own[3].shape, by_input[0].shape[1]
        edge = self.numbers_per_edge * by_input[0].element_size()
        self._tile = max(FEWEST_EDGES, room // edge)
        self._edges_learn = any(t.requires_grad for t in by_input)
        self._totals: list[Tensor] = []  # gradients of [W_1, b_1], b_2 and W_2
        if any(t.requires_grad for t in shared):
            new = by_input[0].new_zeros
            self._totals = [new(hidden, p + 1), new(self.functions, 1), new(self.functions, hidden)]

    @property
    def numbers_per_input(self) -> int:
        return 2 * self.functions * self.source.out_features

    @property
    def numbers_per_edge(self) -> int:
        """Numbers held for one edge of a tile."""
        (functions, hidden), p = self._own[3].shape, self.by_input[0].shape[1]
        return 3 * hidden + 2 * functions + p + 1

    def make(self, inputs: slice) -> Tensor:
        prompts, scale = self._edges(inputs)
        made = prompts.new_empty(self.functions, prompts.shape[1])
        for edges in self._tiles(prompts):
            _, hidden = self._hidden(self._columns(prompts[:, edges]))
            weights = self._coefficients(hidden, made[:, edges])
            if scale is not None:
                weights.mul_(scale[edges])
        return made.view(-1, self.source.out_features)

    def remake(self, inputs: slice) -> Tensor:
        return self.make(inputs)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        k = (inputs.stop - inputs.start) * self.functions
        return self.by_input[0].new_empty(k, self.source.out_features)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        prompts, scale = self._edges(inputs)
        gradient = gradient.view(self.functions, -1)
        of_prompts, of_scale = self._edges_grad(inputs)
        for edges in self._tiles(prompts):
            columns = self._columns(prompts[:, edges])
            before, hidden = self._hidden(columns)
            grad = gradient[:, edges]
            if scale is not None:
                product = self._coefficients(hidden).mul_(grad)
                torch.sum(product, 0, out=of_scale[edges])
                grad = torch.mul(grad, scale[edges], out=product)
            hidden_grad = self._own[3].T @ grad
            self._activation.backward(hidden_grad, before, hidden)
            if self._totals:
                self._totals[0].addmm_(hidden_grad, columns.T)
                self._totals[1].add_(grad.sum(1, keepdim=True))
                self._totals[2].addmm_(grad, hidden.T)
            if self._edges_learn:
                torch.mm(self._own[0].T, hidden_grad, out=of_prompts[:, edges])
        if self._edges_learn:
            keep(of_prompts, self._grad(0)[inputs])

    def finish(self) -> list[Tensor | None]:
        if self._totals:
            first, b2, w2 = self._totals
            totals = zip(self.scaled, (first[:, :-1], first[:, -1:], b2, w2), strict=True)
            learning = [(t, total) for t, total in totals if t.requires_grad]
            torch.autograd.backward([t for t, _ in learning], [total for _, total in learning])
        pairs = zip(self.grads, self.by_input, strict=True)
        return [grad if t.requires_grad else None for grad, t in pairs]

    def _edges(self, inputs: slice) -> tuple[Tensor, Tensor | None]:
        """Prompts (p, edges) and scales (edges)."""
        prompts, *scale = (t.detach()[inputs] for t in self.by_input)
        return by_number(prompts), scale[0].flatten() if scale else None

    def _edges_grad(self, inputs: slice) -> tuple[Tensor, Tensor]:
        """Uninitialised room for the gradients of both; of scales only if there are some."""
        into = [self._grad(k)[inputs] for k in range(len(self.by_input))]
        return room_by_number(into[0]), into[-1].flatten()

    def _tiles(self, prompts: Tensor) -> Iterator[slice]:
        return slices(prompts.shape[1], self._tile)

    def _columns(self, prompts: Tensor) -> Tensor:
        """z and a one below it, (p + 1, edges)."""
        p, edges = prompts.shape
        columns = prompts.new_ones(p + 1, edges)
        columns[:p] = prompts
        return columns

    def _hidden(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """``a = W_1 z + b_1`` and act(a), (H, edges); perhaps the same memory."""
        prompts, w1 = columns[:-1], self._own[0]
        before = w1 * prompts if len(prompts) == 1 else w1 @ prompts  # as a product it is slower
        before.add_(self._own[1])
        return before, self._activation.overwriting(before)

    def _coefficients(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """``W_2 act(a) + b_2``, (C, edges)."""
        return torch.addmm(self._own[2], self._own[3], hidden, out=out)


def by_number(prompts: Tensor) -> Tensor:
    """(in, p, out) -> (p, edges), contiguous; a view for p = 1."""
    return prompts.transpose(0, 1).flatten(1).contiguous()  # of one output flat ones are a view


def room_by_number(prompts: Tensor) -> Tensor:
    """Uninitialised (p, edges), to be given to ``keep``: for p = 1 the prompts' own memory."""
    b, p, out = prompts.shape
    return prompts.view(1, b * out) if p == 1 else prompts.new_empty(p, b * out)


def keep(numbers: Tensor, prompts: Tensor) -> None:
    """The way back from ``by_number``, into ``prompts``; for p = 1 they are there already."""
    if len(numbers) > 1:
        prompts.copy_(numbers.view(len(numbers), len(prompts), -1).transpose(0, 1))
