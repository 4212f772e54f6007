"""Chebyshev, Legendre and Gram polynomials, all by one three-term recurrence."""

from __future__ import annotations  # help() shows types as they are written here

from functools import cache
from math import factorial
from typing import Literal, Self, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis.base import Extrapolation, put
from sklearn_metakan.basis.grid import GridBasis, coordinate, empty_features

Polynomials = Literal["chebyshev", "legendre", "gram"]


class PolynomialBasis(GridBasis):
    r"""``B(x) = [silu(x), P_0(t), ..., P_d(t)]``; Chebyshev has no silu.

    ``P_0 = 1, P_(n+1) = a_n t P_n - c_n P_(n-1)``, and u is x with the grid mapped onto
    [-1, 1].

    ============  =============  =================  ==============  ======
    polynomials   a_n            c_n                t               silu
    ============  =============  =================  ==============  ======
    "chebyshev"   2 (a_0 = 1)    1                  tanh(u)         no
    "legendre"    (2n+1)/(n+1)   n/(n+1)            u               yes
    "gram"        1/s_(n+1)      s_n/s_(n+1)        tanh(u)         yes
    ============  =============  =================  ==============  ======

    Gram polynomials are orthonormal over m = (d + 1)^2 evenly spaced points,
    ``t_j = (2 j + 1 - m) / m``: ``s_n^2 = n^2 (m^2 - n^2) / (m^2 (4 n^2 - 1))``. Their
    coefficients are fixed: to train them, as KAGN does, is a triangular change of basis, which
    the coefficients of an edge or the last layer of its meta-learner make as well.

    The papers' tanh(x) is ``knots=(-1, 1), extrapolation="base"``. KALN maps the smallest and
    the largest number of a batch onto -1 and 1; here these are the ends of the grid, so that a
    row's output does not depend on the others.

    Parameters
    ----------
    in_features : int
    polynomials : {"chebyshev", "legendre", "gram"}, default="chebyshev"
    degree : int, default=3
        d, at least 1.
    knots : (float, float) or array of shape (in_features, 2), default=(-1, 1)
        Ends of the grid, for all inputs or for each.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Outside the grid: value and slope of the edge continued; the functions as they are
        there, bounded by tanh but for silu (not for "legendre", which would grow as x^d); the
        value at the end; a ValueError.
    dtype : torch.dtype, default: torch's default
        Of the knots.

    Raises
    ------
    ValueError
        If a size is below 1, polynomials, extrapolation or knots are not as described, or
        extrapolation is "base" for "legendre".

    Shape
    -----
    ``evaluate``: (n, in_features) -> (n, in_features, d + 2), for Chebyshev d + 1.

    Source: Drokin, "Kolmogorov-Arnold Convolutions" (2024), arXiv 2407.01092 (KACN, KALN,
    KAGN); SS et al., "Chebyshev Polynomial-Based Kolmogorov-Arnold Networks" (2024), arXiv
    2405.07200; Barnard et al., "Gram polynomials and the Kummer function" (1998).

    Examples
    --------
    >>> import torch
    >>> basis = PolynomialBasis(1, "legendre", degree=2)
    >>> basis.evaluate(torch.tensor([[0.5]]))[..., 1:]
    tensor([[[ 1.0000,  0.5000, -0.1250]]])
    """

    recurrence: Tensor  # a_n and c_n, (d, 2)

    settings = ("in_features", "polynomials", "degree", "extrapolation")

    def __init__(
        self,
        in_features: int,
        polynomials: Polynomials = "chebyshev",
        degree: int = 3,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        dtype: torch.dtype | None = None,
    ) -> None:
        if min(in_features, degree) < 1:
            raise ValueError(
                f"in_features and degree must be at least 1, got {in_features} and {degree}."
            )
        if polynomials not in get_args(Polynomials):
            raise ValueError(
                f"polynomials must be one of {get_args(Polynomials)}, got {polynomials!r}."
            )
        if polynomials == "legendre" and extrapolation == "base":
            raise ValueError(
                'extrapolation="base" contradicts Legendre polynomials, which grow without '
                'bound beyond the grid. Use "linear", "constant" or "error", or Chebyshev or '
                "Gram polynomials, which tanh keeps bounded."
            )
        has_silu = polynomials != "chebyshev"
        n_functions = degree + 1 + has_silu
        super().__init__(in_features, n_functions, knots, extrapolation, has_silu, dtype)
        self.polynomials, self.degree = polynomials, degree
        stored = torch.tensor(_recurrence(polynomials, degree), dtype=self.ends.dtype)
        self.register_buffer("recurrence", stored, persistent=False)

    def refined(self, grid_size: int) -> Self:
        """Polynomials have a range alone; grid_size is without effect."""
        return self.with_grid()

    @property
    def numbers_per_value(self) -> int:
        return 3 * self.n_functions + 12  # measured

    def _family(self, x: Tensor, low: Tensor, high: Tensor, first: int, last: int) -> list[Tensor]:
        """Taylor coefficients of t, carried through the recurrence; order k is k! times one."""
        t = self._taylor(x, low, high, last)
        out = [empty_features(x, self.n_functions) for _ in range(first, last + 1)]
        before, present = torch.zeros_like(t), torch.zeros_like(t)
        present[0] = 1.0
        recurrence = _recurrence(self.polynomials, self.degree)
        for n in range(self.degree + 1):
            if n:
                a, c = recurrence[n - 1]
                before, present = present, _product(t, present).mul_(a).sub_(before, alpha=c)
            for order, values in enumerate(out, first):
                put(values[..., n + self.has_silu], torch.mul, present[order], factorial(order))
        return out

    def _taylor(self, x: Tensor, low: Tensor, high: Tensor, order: int) -> Tensor:
        """Taylor coefficients by x of t, orders 0 to the last, (order + 1, n, b)."""
        u, rate = coordinate(x, low, high)
        t = torch.zeros_like(x.expand(order + 1, *x.shape))
        if self.polynomials == "legendre":
            t[0] = u
            if order:
                t[1] = rate
            return t
        put(t[0], torch.tanh, u)
        if order:  # 1 - tanh(u)^2, with all its digits
            u.mul_(2)
            put(t[1], torch.sigmoid, u).mul_(torch.sigmoid(-u)).mul_(4 * rate)
        for k in range(1, order):  # t' = rate (1 - t^2)
            for j in range(k + 1):
                t[k + 1].addcmul_(t[j], t[k - j])
            t[k + 1].mul_(-rate / (k + 1))
        return t


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Of two Taylor series as far as they go, (orders, n, b)."""
    product = left[0] * right
    for k in range(1, len(left)):
        for j in range(1, k + 1):
            product[k].addcmul_(left[j], right[k - j])
    return product


@cache
def _recurrence(polynomials: Polynomials, degree: int) -> list[tuple[float, float]]:
    """(a_n, c_n) for n from 0 to degree - 1."""
    orders = range(degree)
    match polynomials:
        case "chebyshev":
            return [(2.0 if n else 1.0, 1.0) for n in orders]
        case "legendre":
            return [((2 * n + 1) / (n + 1), n / (n + 1)) for n in orders]
        case "gram":
            m = (degree + 1) ** 2
            ratios = [(m * m - n * n) / (4 * n * n - 1) for n in range(1, degree + 1)]
            s = [0.0, *(n / m * ratio**0.5 for n, ratio in enumerate(ratios, 1))]
            return [(1 / s[n + 1], s[n] / s[n + 1]) for n in orders]
