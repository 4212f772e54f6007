"""The base function silu(t) = t * sigmoid(t) and its derivatives."""

from functools import cache

import torch
from numpy.polynomial import Polynomial
from torch import Tensor


@cache
def _sigmoid_polynomial(order: int) -> tuple[float, ...]:
    """Coefficients, lowest first, of P with sigmoid^(order) = P(sigmoid)."""
    polynomial = Polynomial([0.0, 1.0])
    for _ in range(order):
        polynomial = polynomial.deriv() * Polynomial([0.0, 1.0, -1.0])
    return tuple(polynomial.coef)


def _sigmoid_derivative(sigmoid: Tensor, order: int) -> Tensor:
    *lower, highest = _sigmoid_polynomial(order)
    result = torch.full_like(sigmoid, highest)
    for coefficient in reversed(lower):
        result = result * sigmoid + coefficient
    return result


def silu(t: Tensor, derivative: int = 0) -> Tensor:
    """The m-th derivative of silu: ``t s^(m)(t) + m s^(m-1)(t)`` with s = sigmoid."""
    if derivative == 0:
        return torch.nn.functional.silu(t)
    sigmoid = torch.sigmoid(t)
    return t * _sigmoid_derivative(sigmoid, derivative) + derivative * _sigmoid_derivative(
        sigmoid, derivative - 1
    )
