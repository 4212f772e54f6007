"""The sum over edges of a layer whose inputs are the same in every step, of what is known of them.

Splines on few cells are sums of terms, one of which is 1 for every input: that one needs no
product, and a row has a fifth fewer numbers to be copied and multiplied.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Known:
    """``y_o = sum_i phi_oi(x_i)`` from the terms of x; see ``Way``.

    x is terms (n, (C - 1) * in), all but 1, term by term; weights are (in, C or p, out), with a
    dictionary (C, p). Products of the matrix are over all edges at once; weights that lie function
    by function in memory need not be turned for them.

    Parameters
    ----------
    matrix : Tensor of shape (C, C)
        The basis' functions are ``matrix @`` terms, of which 1 is the last.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def compute(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        mixing = self.matrix.T
        for each in dictionary:
            mixing = mixing @ each
        inputs, functions, outputs = weights.shape
        self.mixing = mixing
        self.by_function = weights.transpose(0, 1).reshape(functions, inputs * outputs)
        mixed = mixing @ self.by_function
        constant = mixed[-1].view(inputs, outputs).sum(0)
        return torch.addmm(constant, x, mixed[:-1].view(-1, outputs))

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        inputs, _, outputs = tensors[0].shape
        of_mixed = grad.new_empty(self.matrix.shape[0], inputs * outputs)
        torch.mm(x.T, grad, out=of_mixed[:-1].view(-1, outputs))
        ones = grad.new_ones(inputs, 1)  # quicker than a copy
        torch.mm(ones, grad.sum(0, True), out=of_mixed[-1].view(inputs, outputs))
        found: list[Tensor | None] = [None] * len(needed)
        if needed[1]:
            room = grad.new_empty(self.mixing.shape[1], inputs * outputs)  # autocast would round
            by_function = torch.mm(self.mixing.T, of_mixed, out=room)
            found[1] = by_function.view(-1, inputs, outputs).transpose(0, 1)
        if len(tensors) > 1 and needed[2]:
            found[2] = self.matrix @ (of_mixed @ self.by_function.T)
        return found

    def reference(self, x: Tensor, weights: Tensor, *dictionary: Tensor) -> Tensor:
        for each in dictionary:
            weights = each @ weights
        mixed = self.matrix.T @ weights
        terms = x.unflatten(1, (len(self.matrix) - 1, -1))
        return torch.einsum("nci,ico->no", terms, mixed[:, :-1]) + mixed[:, -1].sum(0)
