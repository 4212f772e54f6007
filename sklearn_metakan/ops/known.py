"""The sum over edges of a layer whose inputs are the same in every step, of what is known of them.

Splines on few cells are sums of terms, one of which is 1 for every input: that one needs no
product, and a row has a fifth fewer numbers to be copied and multiplied.
"""

from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.ops.source import CoefficientSource


def known_sum(terms: Tensor, matrix: Tensor, source: CoefficientSource) -> Tensor:
    """``y_o = sum_i phi_oi(x_i)`` from the terms of x.

    Parameters
    ----------
    terms : Tensor of shape (n, (C - 1) * in)
        All but 1, term by term.
    matrix : Tensor of shape (C, C)
        The basis' functions are ``matrix @`` terms, of which 1 is the last.
    source : CoefficientSource
        Of the coefficients of the functions.

    Returns
    -------
    Tensor of shape (n, out)
    """
    by_input, shared = source.tensors()
    weights, dictionary = source.generate(by_input, shared), source.dictionary(shared)
    mixing = matrix.T if dictionary is None else matrix.T @ dictionary
    y: Tensor = _KnownSum.apply(terms, mixing, weights)
    return y


class _KnownSum(torch.autograd.Function):
    """``F (A V)`` with terms F (n, (C - 1) * in), A (C, K) and weights V (in, K, out).

    Products of A are over all edges at once, with V as (K, in * out).
    """

    @staticmethod
    def forward(ctx: Any, terms: Tensor, mixing: Tensor, weights: Tensor) -> Tensor:
        inputs, functions, outputs = weights.shape
        by_function = weights.transpose(0, 1).reshape(functions, inputs * outputs)
        mixed = mixing @ by_function
        ctx.save_for_backward(terms, mixing, by_function)
        ctx.shape = weights.shape
        constant = mixed[-1].view(inputs, outputs).sum(0)
        return torch.addmm(constant, terms, mixed[:-1].view(-1, outputs))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        terms, mixing, by_function = ctx.saved_tensors
        inputs, functions, outputs = ctx.shape
        of_mixed = by_function.new_empty(len(mixing), inputs * outputs)
        torch.mm(terms.T, grad, out=of_mixed[:-1].view(-1, outputs))
        of_mixed[-1].view(inputs, outputs).copy_(grad.sum(0))
        of_mixing = of_mixed @ by_function.T if ctx.needs_input_grad[1] else None
        of_weights = None
        if ctx.needs_input_grad[2]:
            of_functions = mixing.T @ of_mixed
            of_weights = of_functions.view(functions, inputs, outputs).transpose(0, 1)
        return None, of_mixing, of_weights
