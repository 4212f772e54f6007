"""The base function silu(t) = t * sigmoid(t) and its derivatives."""

from functools import cache

import torch
from numpy.polynomial import Polynomial
from torch import Tensor


@cache
def _sigmoid_factor(order: int) -> tuple[float, ...]:
    """Coefficients, lowest first, of Q with s^(order) = s (1 - s) Q(s), order at least 1.

    The factor s (1 - s) stays outside, where ``sigmoid(t) sigmoid(-t)`` keeps its digits.
    """
    slope = Polynomial([0.0, 1.0, -1.0])
    factor = Polynomial([1.0])
    for _ in range(order - 1):
        factor = slope.deriv() * factor + slope * factor.deriv()
    return tuple(factor.coef)


def _sigmoid_derivative(sigmoid: Tensor, slope: Tensor, order: int) -> Tensor:
    """s^(order) from s and s'."""
    if order < 2:
        return slope if order else sigmoid
    *lower, highest = _sigmoid_factor(order)
    result = torch.full_like(sigmoid, highest)
    for coefficient in reversed(lower):
        result = result * sigmoid + coefficient
    return result * slope


def silu(t: Tensor, derivative: int = 0) -> Tensor:
    """The m-th derivative of silu: ``t s^(m)(t) + m s^(m-1)(t)`` with s = sigmoid."""
    if derivative == 0:
        return torch.nn.functional.silu(t)
    sigmoid = torch.sigmoid(t)
    slope = torch.sigmoid(-t).mul_(sigmoid)
    lower = derivative * _sigmoid_derivative(sigmoid, slope, derivative - 1)
    return lower.addcmul_(t, _sigmoid_derivative(sigmoid, slope, derivative))
