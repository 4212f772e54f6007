"""Weights of blocks (K, out) and their ways back into a source's tensors, in plain PyTorch.

``Weights`` leaves both to a source and to autograd. Without autograd, K is (C or p, b) and

- ``LinearWeights``: ``w = z`` under a linear meta-learner, whose dictionary belongs to the
  features;
- ``MetaWeights``: ``w = a (W_2 act(W_1 z + b_1) + b_2)``, a is 1 without edge scale. The hidden
  layer, H numbers an edge, is made and differentiated for a tile of edges at a time, which stays
  in the processor's cache from the first product to the last.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.ops.products import slices
from sklearn_metakan.ops.source import CoefficientSource

FEWEST_EDGES = 64  # of a tile, where the memory is too small for more


class Activation(NamedTuple):
    """``act``, once for autograd and once for memory that is reused.

    ``overwriting(a)`` is act(a), in place where the way back needs no a;
    ``backward(grad, a, act)`` overwrites grad by grad * act'(a).
    """

    plain: Callable[[Tensor], Tensor]
    overwriting: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], object]


_aten = torch.ops.aten
ACTIVATIONS = {
    "relu": Activation(
        torch.relu,
        torch.relu_,
        lambda grad, a, act: _aten.threshold_backward.grad_input(grad, act, 0, grad_input=grad),
    ),
    "silu": Activation(
        torch.nn.functional.silu,
        torch.nn.functional.silu,
        lambda grad, a, act: _aten.silu_backward.grad_input(grad, a, grad_input=grad),
    ),
    "tanh": Activation(
        torch.tanh,
        torch.tanh_,
        lambda grad, a, act: _aten.tanh_backward.grad_input(grad, act, grad_input=grad),
    ),
    "sin": Activation(torch.sin, torch.sin, lambda grad, a, act: grad.mul_(a.cos_())),
}


def leaf(tensor: Tensor, needs_grad: bool) -> Tensor:
    """The same numbers, cut off from the graph that they came with."""
    return tensor.detach().requires_grad_(needs_grad)


class Weights:
    """Weights of blocks (K, out), and their gradient's way into a source's tensors.

    ``of_shared``: whether the shared tensors are behind the weights, not a dictionary's.

    Attributes
    ----------
    learns : bool
        Whether any tensor behind the weights needs a gradient.
    functions_first : bool
        Order of K: (C or p, b) instead of (b, C or p).
    numbers_per_input : int
        Numbers held for one input.
    """

    functions_first = False

    def __init__(
        self,
        source: CoefficientSource,
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        of_shared: bool,
    ) -> None:
        self.source, self.by_input, self.shared = source, by_input, shared
        behind = (*by_input, *shared) if of_shared else by_input
        self.learns = any(t.requires_grad for t in behind)
        self.numbers_per_input = source.numbers_per_input
        self._grads: list[Tensor | None] = [None for _ in by_input]
        self._made: tuple[Sequence[Tensor], Tensor] | None = None

    def make(self, inputs: slice, way_back: bool = False) -> Tensor:
        """Weights of these inputs, as the forward product wants them or those of the way back."""
        if way_back:
            self._made = None
            return self._with_graph(inputs)[1].detach().flatten(0, 1)
        blocks = [t.detach()[inputs] for t in self.by_input]
        return self.source.generate(blocks, [t.detach() for t in self.shared]).flatten(0, 1)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        """Uninitialised room for the gradient of the weights (K, out)."""
        leaves, weights = self._with_graph(inputs)
        if weights is leaves[0]:  # a parameter: the gradient is written in its place
            return self._grad(0)[inputs].flatten(0, 1)
        return weights.new_empty(weights.shape).flatten(0, 1)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        """From the gradient of these inputs' weights, all rows summed, to the tensors'."""
        leaves, weights = self._with_graph(inputs)
        self._made = None
        if weights is leaves[0]:
            return
        weights.backward(gradient.view(weights.shape))
        for index, block in enumerate(leaves):
            if block.requires_grad:
                self._grad(index)[inputs] = 0.0 if block.grad is None else block.grad

    def finish(self) -> list[Tensor | None]:
        """Gradients of the tensors with an axis of inputs; the shared ones hold theirs."""
        pairs = zip(self._grads, self.by_input, strict=True)
        return [grad if t.requires_grad else None for grad, t in pairs]

    def _grad(self, index: int) -> Tensor:
        found = self._grads[index]
        if found is None:
            found = self._grads[index] = self.by_input[index].new_empty(self.by_input[index].shape)
        return found

    def _with_graph(self, inputs: slice) -> tuple[Sequence[Tensor], Tensor]:
        if self._made is None:
            leaves = [leaf(t[inputs], t.requires_grad) for t in self.by_input]
            with torch.enable_grad():
                self._made = leaves, self.source.generate(leaves, self.shared)
        return self._made


class LinearWeights(Weights):
    """Of a linear meta-learner: the prompts (in, p, out) themselves, as (p, b, out)."""

    functions_first = True

    def __init__(
        self, source: CoefficientSource, by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> None:
        super().__init__(source, by_input, shared, of_shared=False)
        self.numbers_per_input = 2 * by_input[0][0].numel()

    def make(self, inputs: slice, way_back: bool = False) -> Tensor:
        return edges_last(self.by_input[0].detach()[inputs]).view(-1, self.source.out_features)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        return new_edges_last(self._grad(0)[inputs]).view(-1, self.source.out_features)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        into = self._grad(0)[inputs]
        copy_edges(gradient.view(into.shape[1], -1), into)


class GeneratedWeights(Weights):
    """What is common to meta-learners with a hidden layer, here and in fused kernels.

    ``scaled`` are W_1, b_1, b_2 and W_2 with the graph to the shared tensors.
    """

    functions_first = True

    def __init__(
        self, source: CoefficientSource, by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> None:
        super().__init__(source, by_input, shared, of_shared=True)
        self.scaled = source.scaled(shared)
        self.detached = [t.detach().contiguous() for t in self.scaled]
        (self.functions, self.hidden_dim), self.prompt_dim = shared[-1].shape, by_input[0].shape[1]
        self.numbers_per_input = 2 * self.functions * source.out_features
        self.edges_learn = any(t.requires_grad for t in by_input)
        self.shared_learn = any(t.requires_grad for t in shared)

    def pass_on(self, totals: Sequence[Tensor]) -> None:
        """Gradients of the four, summed over all edges, to the shared tensors."""
        pairs = [(t, total) for t, total in zip(self.scaled, totals, strict=True)]
        learning = [(t, total) for t, total in pairs if t.requires_grad]
        torch.autograd.backward([t for t, _ in learning], [total for _, total in learning])


class MetaWeights(GeneratedWeights):
    """Of a meta-learner with a hidden layer, whose tiles take ``tile_bytes`` at most."""

    def __init__(
        self,
        source: CoefficientSource,
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        tile_bytes: int,
    ) -> None:
        super().__init__(source, by_input, shared)
        self._activation = ACTIVATIONS[str(source.activation)]
        edge = self.numbers_per_edge * by_input[0].element_size()
        self._tile = max(FEWEST_EDGES, tile_bytes // edge)
        new, functions, hidden = by_input[0].new_zeros, self.functions, self.hidden_dim
        shapes = [(hidden, self.prompt_dim + 1), (functions, 1), (functions, hidden)]
        # Gradients of [W_1, b_1], b_2 and W_2.
        self._totals = [new(shape) for shape in shapes] if self.shared_learn else []

    @property
    def numbers_per_edge(self) -> int:
        """Numbers held for one edge of a tile."""
        return 3 * self.hidden_dim + 2 * self.functions + self.prompt_dim + 1

    def make(self, inputs: slice, way_back: bool = False) -> Tensor:
        prompts, scale = self._edges(inputs)
        made = prompts.new_empty(self.functions, prompts.shape[1])
        for edges in slices(prompts.shape[1], self._tile):
            _, hidden = self._hidden(self._with_ones(prompts[:, edges]))
            weights = self._coefficients(hidden, made[:, edges])
            if scale is not None:
                weights.mul_(scale[edges])
        return made.view(-1, self.source.out_features)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        k = (inputs.stop - inputs.start) * self.functions
        return self.by_input[0].new_empty(k, self.source.out_features)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        prompts, scale = self._edges(inputs)
        gradient = gradient.view(self.functions, -1)
        of_prompts, of_scale = self._edges_grad(inputs)
        for edges in slices(prompts.shape[1], self._tile):
            augmented = self._with_ones(prompts[:, edges])
            before, hidden = self._hidden(augmented)
            grad = gradient[:, edges]
            if scale is not None:
                product = self._coefficients(hidden).mul_(grad)
                torch.sum(product, 0, out=of_scale[edges])
                grad = torch.mul(grad, scale[edges], out=product)
            hidden_grad = self.detached[3].T @ grad
            self._activation.backward(hidden_grad, before, hidden)
            if self._totals:
                self._totals[0].addmm_(hidden_grad, augmented.T)
                self._totals[1].add_(grad.sum(1, keepdim=True))
                self._totals[2].addmm_(grad, hidden.T)
            if self.edges_learn:
                torch.mm(self.detached[0].T, hidden_grad, out=of_prompts[:, edges])
        if self.edges_learn:
            copy_edges(of_prompts, self._grad(0)[inputs])

    def finish(self) -> list[Tensor | None]:
        if self._totals:
            first, b2, w2 = self._totals
            self.pass_on([first[:, :-1], first[:, -1:], b2, w2])
        return super().finish()

    def _edges(self, inputs: slice) -> tuple[Tensor, Tensor | None]:
        """Prompts (p, edges) and scales (edges)."""
        prompts, *scale = (t.detach()[inputs] for t in self.by_input)
        return edges_last(prompts), scale[0].flatten() if scale else None

    def _edges_grad(self, inputs: slice) -> tuple[Tensor, Tensor]:
        """Uninitialised room for the gradients of both; of scales only if there are some."""
        into = [self._grad(k)[inputs] for k in range(len(self.by_input))]
        return new_edges_last(into[0]), into[-1].flatten()

    def _with_ones(self, prompts: Tensor) -> Tensor:
        """z and a one below it, (p + 1, edges)."""
        p, edges = prompts.shape
        augmented = prompts.new_ones(p + 1, edges)
        augmented[:p] = prompts
        return augmented

    def _hidden(self, augmented: Tensor) -> tuple[Tensor, Tensor]:
        """``a = W_1 z + b_1`` and act(a), (H, edges); perhaps the same memory."""
        prompts, w1 = augmented[:-1], self.detached[0]
        before = w1 * prompts if len(prompts) == 1 else w1 @ prompts  # as a product it is slower
        before.add_(self.detached[1])
        return before, self._activation.overwriting(before)

    def _coefficients(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """``W_2 act(a) + b_2``, (C, edges)."""
        return torch.addmm(self.detached[2], self.detached[3], hidden, out=out)


def edges_last(prompts: Tensor) -> Tensor:
    """(in, p, out) -> (p, edges), contiguous; a view for p = 1."""
    return prompts.transpose(0, 1).flatten(1).contiguous()  # of one output flat ones are a view


def new_edges_last(prompts: Tensor) -> Tensor:
    """Uninitialised (p, edges), for ``copy_edges``: for p = 1 the prompts' own memory."""
    b, p, out = prompts.shape
    return prompts.view(1, b * out) if p == 1 else prompts.new_empty(p, b * out)


def copy_edges(edges: Tensor, prompts: Tensor) -> None:
    """The way back from ``edges_last``, into ``prompts``; for p = 1 they are there already."""
    if len(edges) > 1:
        prompts.copy_(edges.view(len(edges), len(prompts), -1).transpose(0, 1))
