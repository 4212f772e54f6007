"""Features and weights of a block and the ways back, in plain PyTorch.

With an optional dictionary D (C, p), the features of a block are F D; K is b C, or b p.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


def leaf(tensor: Tensor, needs_grad: bool) -> Tensor:
    """The same numbers, cut off from the graph that they came with."""
    return tensor.detach().requires_grad_(needs_grad)


def flat(features: Tensor) -> Tensor:
    """(r, b, C) -> (r, b * C); what lies with rows last in memory stays so."""
    if features.stride(0) < features.stride(2):
        return features.permute(1, 2, 0).flatten(0, 1).T
    return features.flatten(1)


class Features:
    """Features of blocks (r, K), and their gradient's way into x and the dictionary.

    Attributes
    ----------
    learns : bool
        Whether the dictionary needs a gradient.
    functions_first : bool
        Order of the K features: (C, b) instead of (b, C); that of the weights.
    rows_last : bool
        Whether the gradient of the features is wanted as (K, r) in memory, not as (r, K).
    """

    rows_last = True

    def __init__(
        self,
        basis: Basis,
        derivative: int,
        dictionary: Tensor | None,
        functions_first: bool = False,
    ) -> None:
        self.basis, self.derivative = basis, derivative
        self.dictionary, self.functions_first = dictionary, functions_first
        self.learns = dictionary is not None and dictionary.requires_grad
        self._detached_dictionary = None if dictionary is None else dictionary.detach()
        self._dictionary_grad: Tensor | None = None  # (p, C)

    @property
    def width(self) -> int:
        """Features of an input: C, or the functions of the dictionary."""
        return self.basis.n_functions if self.dictionary is None else self.dictionary.shape[1]

    @property
    def numbers_per_value(self) -> int:
        """Numbers held for one x, on the way back."""
        return self.basis.numbers_per_value

    @property
    def numbers_forward(self) -> int:
        """The same while features alone are made."""
        return self.numbers_per_value

    def values(self, x: Tensor, start: int) -> Tensor:
        """Features of x (r, b), whose first column is the input ``start``: (r, K)."""
        if True:
            features = self.basis.values(x, start, self.derivative)
        return self._flat(_combine(features, self._detached_dictionary))

    def backward(
        self,
        x: Tensor,
        start: int,
        grad: Tensor | None,
        x_grad: Tensor | None,
        wants_values: bool,
    ) -> Tensor | None:
        """Gradient of x, from that of the features (r, K), into ``x_grad``, if there is one.

        Returns the features, if they are wanted: both share work.
        """
        features: Tensor | None = None
        combined_grad = None if grad is None else self._by_input(grad, x.shape[1])
        if x_grad is None:
            if True:
                features = self.basis.values(x, start, self.derivative)
        else:
            assert combined_grad is not None
            features_grad = _spread(combined_grad, self._detached_dictionary).to(x.dtype)
            if True:
                if wants_values or self.learns:
                    features, found = self.basis.values_and_contract(
                        features_grad, x, start, self.derivative
                    )
                else:
                    found = self.basis.contract(features_grad, x, start, self.derivative + 1)
            x_grad.copy_(found)
        if self.learns and combined_grad is not None and features is not None:
            self._add(_rows_last(combined_grad) @ _rows_last(features).T)
        if features is None or not wants_values:
            return None
        return self._flat(_combine(features, self._detached_dictionary))

    def finish(self) -> None:
        """Pass the dictionary's gradient on, once all blocks are done."""
        if self._dictionary_grad is not None and self.dictionary is not None:
            self.dictionary.backward(self._dictionary_grad.T)

    def _add(self, gradient: Tensor) -> None:
        assert self.dictionary is not None
        gradient = gradient.to(self.dictionary.dtype)
        so_far = self._dictionary_grad
        self._dictionary_grad = gradient if so_far is None else so_far.add_(gradient)

    def _flat(self, features: Tensor) -> Tensor:
        return flat(features.transpose(1, 2) if self.functions_first else features)

    def _by_input(self, grad: Tensor, inputs: int) -> Tensor:
        """(r, K) -> (r, b, C or p)."""
        if self.functions_first:
            return grad.unflatten(1, (-1, inputs)).transpose(1, 2)
        return grad.unflatten(1, (inputs, -1))


def _rows_last(features: Tensor) -> Tensor:
    """(r, b, C) -> (C, b * r): splines and their gradients lie like that in memory."""
    return features.permute(2, 1, 0).flatten(1)


def _combine(features: Tensor, dictionary: Tensor | None) -> Tensor:
    """(r, b, C) @ (C, p)."""
    if dictionary is None:
        return features
    return times(dictionary.T, features)


def _spread(combined_grad: Tensor, dictionary: Tensor | None) -> Tensor:
    """The way back, (r, b, p) @ (p, C)."""
    if dictionary is None:
        return combined_grad
    return times(dictionary, combined_grad)


def times(matrix: Tensor, features: Tensor) -> Tensor:
    """One product for all rows and inputs; of few columns it would be slow (CPU)."""
    product = matrix.contiguous() @ _rows_last(features)
    return product.unflatten(1, (features.shape[1], len(features))).permute(2, 1, 0)


class Weights:
    """Weights of blocks (K, out), and their gradient's way into a source's tensors.

    Attributes
    ----------
    learns : bool
        Whether any tensor behind the weights needs a gradient.
    """

    functions_first = False

    def __init__(
        self, source: "CoefficientSource", by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> None:
        self.source, self.by_input, self.shared = source, by_input, shared
        behind = by_input if source.dictionary(shared) is not None else (*by_input, *shared)
        self.learns = any(t.requires_grad for t in behind)
        self.grads: list[Tensor | None] = [None for _ in by_input]
        self._made: tuple[Sequence[Tensor], Tensor] | None = None

    @property
    def numbers_per_input(self) -> int:
        """Numbers held for one input."""
        return self.source.numbers_per_input

    def make(self, inputs: slice) -> Tensor:
        """Weights of these inputs, as the forward product wants them."""
        blocks = [t.detach()[inputs] for t in self.by_input]
        return self.source.generate(blocks, [t.detach() for t in self.shared]).flatten(0, 1)

    def remake(self, inputs: slice) -> Tensor:
        """The same, for the way back."""
        self._made = None
        return self._with_graph(inputs)[1].detach().flatten(0, 1)

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        """Uninitialised room for the gradient of the weights (K, out)."""
        leaves, weights = self._with_graph(inputs)
        if weights is leaves[0]:  # a parameter: the gradient is written in its place
            return self._grad(0)[inputs].flatten(0, 1)
        return weights.new_empty(weights.shape).flatten(0, 1)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
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
        return self.grads

    def _grad(self, index: int) -> Tensor:
        found = self.grads[index]
        if found is None:
            found = self.grads[index] = self.by_input[index].new_empty(self.by_input[index].shape)
        return found

    def _with_graph(self, inputs: slice) -> tuple[Sequence[Tensor], Tensor]:
        if self._made is None:
            leaves = [leaf(t[inputs], t.requires_grad) for t in self.by_input]
            with torch.enable_grad():
                self._made = leaves, self.source.generate(leaves, self.shared)
        return self._made
