"""``edge_sum`` in bounded memory: features and weights are made, used and dropped in blocks.

Saved for the backward pass are the input and the parameters, nothing else. A block is some
inputs (their weights are generated once) times some rows (their features are evaluated).
Backward does the same again: ``dW = F' g`` and ``dF = g W'``, then on into prompts,
meta-learner and x. What makes features and weights is exchangeable: plain PyTorch (``plain``)
or fused kernels (``triton``); so is what they are multiplied by (``products``): matrices, or
maps that are convolved.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.function import EdgeSum
from sklearn_metakan.ops.memory import block_sizes, default_memory, tile_memory
from sklearn_metakan.ops.plain.features import Features
from sklearn_metakan.ops.plain.piecewise import PiecewiseWeights, is_piecewise
from sklearn_metakan.ops.plain.weights import LinearWeights, MetaWeights, Weights, leaf
from sklearn_metakan.ops.products import Product, channels_last, pixel_rows, slices, written_out
from sklearn_metakan.ops.reference import edge_sum_reference
from sklearn_metakan.ops.source import CoefficientSource


def edge_sum_blocked(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int,
    working_memory: float | None,
    product: Product,
    fused: bool = False,
    widest: tuple[int, int] | None = None,
) -> Tensor:
    """See ``edge_sum``; ``working_memory`` in MiB bounds what a block takes."""
    x = x.to(basis.dtype)
    by_input, shared = source.tensors()
    if working_memory is None:
        numbers_of_y = prod(product.output_shape(len(x), source))
        working_memory = default_memory(x, numbers_of_y, source, widest)
    room = working_memory, tile_memory(x, working_memory)
    way = _Plan(basis, source, derivative, fused, product, len(by_input), *room)
    y: Tensor = EdgeSum.apply(x, way, *by_input, *shared)
    return y


class _Plan(NamedTuple):
    """What a call computes, with which kernels, and the blocks it is cut into."""

    basis: Basis
    source: CoefficientSource
    derivative: int
    fused: bool
    product: Product
    n_by_input: int  # of the source's tensors, those with a leading axis of inputs
    memory: float  # MiB that a block may take
    tile_bytes: int  # of it, for a tile of edges

    def block(self, x: Tensor, features: Features, weights: Weights, back: bool) -> tuple[int, int]:
        """Inputs and rows of one; forward less is held for each number than on the way back."""
        memory, product = self.memory, self.product
        if isinstance(weights, MetaWeights):
            memory -= self.tile_bytes / 2**20
        of_row, of_input = product.more_numbers(self.source, self.basis.n_functions)
        of_input += weights.numbers_per_input * product.positions
        of_value = features.numbers_per_value if back else features.numbers_forward
        k = self.basis.in_features * features.functions
        widened = product.padded(k) / k if self.fused else 1.0  # by channels of zeros
        numbers = ceil(of_value * widened), of_input, memory
        return block_sizes(x, *numbers, pixels=product.pixels, numbers_per_row=of_row)

    def kernels(
        self, by_input: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[Features, Weights]:
        """What makes features and weights."""
        basis, source, product = self.basis, self.source, self.product
        if self.fused:
            from sklearn_metakan.ops.triton import fused_kernels

            return fused_kernels(basis, source, self.derivative, by_input, shared, product)
        dictionary = source.dictionary(shared)
        rounded = torch.is_autocast_enabled(by_input[0].device.type)
        given = source, by_input, shared
        weights: Weights
        if dictionary is not None and product.orders_freely:
            weights = LinearWeights(*given)
        elif source.activation is None or rounded or not product.orders_freely:
            weights = Weights(*given, dictionary is None)
        else:
            kind = PiecewiseWeights if is_piecewise(source, by_input) else MetaWeights
            weights = kind(*given, self.tile_bytes)
        first = weights.functions_first or product.functions_first
        return Features(basis, self.derivative, dictionary, first), weights

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        return tensors[: self.n_by_input], tensors[self.n_by_input :]

    def input_blocks(self, size: int) -> Iterator[slice]:
        return self.product.input_blocks(self.basis.in_features, size)

    def reference(self, x: Tensor, *tensors: Tensor) -> Tensor:
        """The same sum, all at once, for what blocks cannot: derivatives of it are PyTorch's."""
        call = (self.basis, self.source, self.derivative, *self.split(tensors), self.product)
        return edge_sum_reference(x, *call)

    def compute(self, x: Tensor, *tensors: Tensor) -> Tensor:
        product = self.product
        features, weights = self.kernels(*self.split(tensors))
        y = channels_last(x, product.output_shape(len(x), self.source))
        size, size_of_rows = self.block(x, features, weights, back=False)
        for inputs in self.input_blocks(size):
            made = weights.make(product.edges(inputs))
            factor = product.factor(made, inputs, weights.functions_first)
            del made  # what of the block before is gone makes room for this one
            for rows in slices(max(1, len(x)), size_of_rows):  # of no rows: one empty block
                block = features.values(pixel_rows(x[rows, inputs]), inputs.start)
                product.add(y[rows], block, factor, inputs)
                del block
            del factor
        return y

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        """From y, block by block, into what needs a gradient: x, dictionary and weights."""
        of_x, *of_tensors = needed
        leaves = [leaf(t, need) for t, need in zip(tensors, of_tensors, strict=True)]
        by_input, shared = self.split(leaves)
        with torch.enable_grad():
            features, weights = self.kernels(by_input, shared)
        product, order, n = self.product, weights.functions_first, len(x)
        x_grad, grad = channels_last(x, x.shape) if of_x else None, written_out(grad)
        size, size_of_rows = self.block(x, features, weights, back=True)
        for inputs in self.input_blocks(size):
            edges, factor, weights_grad = product.edges(inputs), None, None
            if x_grad is not None or features.learns:
                factor = product.factor(weights.make(edges, way_back=True), inputs, order)
            for rows in slices(max(1, n), size_of_rows):
                points, part, features_grad = pixel_rows(x[rows, inputs]), grad[rows], None
                if factor is not None:
                    features_grad = product.to_features(part, factor, inputs, features.rows_last)
                if rows.stop >= n:
                    factor = None  # makes room for the gradient of its size
                into = None if x_grad is None else pixel_rows(x_grad[rows, inputs])
                block = features.backward(points, inputs.start, features_grad, into, weights.learns)
                if block is None:
                    continue
                features_grad = None
                new = partial(weights.new_gradient, edges, one_product=len(part) == n)
                weights_grad = product.to_weights(weights_grad, new, block, part, inputs)
                block = None  # makes room for the next
            if weights_grad is not None:
                weights.backward(edges, product.as_weights(weights_grad, new, inputs, order))
        features.finish()
        by_input_grads = weights.finish()
        return [x_grad, *by_input_grads, *(t.grad for t in shared)]
