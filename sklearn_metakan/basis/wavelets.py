"""Wavelets, as in WavKAN: translates and scales of a mother wavelet over the grid."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable
from functools import partial
from math import factorial, pi, sqrt
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis.base import Extrapolation, put
from sklearn_metakan.basis.grid import GridBasis, coordinate, empty_features
from sklearn_metakan.basis.rbf import gaussian

Mother = Literal["mexican_hat", "morlet", "dog", "shannon"]
_Derivatives = Callable[[Tensor, int, int], list[Tensor]]  # z, first and last order

MORLET_FREQUENCY = 5.0


class WaveletBasis(GridBasis):
    r"""``B(t) = [silu(t), 1, psi((u - c_1) / a_1), ..., psi((u - c_m) / a_m)]``.

    u is t with the grid mapped onto [-1, 1]. The wavelets come in levels of G, G/2, G/4, ..., 1
    cells (rounded up), each an even division of the grid, with one wavelet centred in every
    cell and scaled to its width. At every point of the grid, coarse and fine wavelets are
    therefore of order one from the start; WavKAN's one scale and translation an edge, which
    have to be trained or generated, are replaced by the choice among them, linear in the
    coefficients. As a wavelet has mean zero, silu and the constant carry what is left.

    ========================  ====================================================
    mother                    psi(z)
    ========================  ====================================================
    "mexican_hat"             2 / (sqrt(3) pi^(1/4)) (1 - z^2) exp(-z^2 / 2)
    "morlet"                  cos(5 z) exp(-z^2 / 2)
    "dog"                     -z exp(-z^2 / 2), the derivative of a Gaussian
    "shannon"                 sinc(z / 2) cos(3 pi z / 2) = 2 sinc(2 z) - sinc(z)
    ========================  ====================================================

    with sinc(z) = sin(pi z) / (pi z).

    Parameters
    ----------
    in_features : int
    mother : {"mexican_hat", "morlet", "dog", "shannon"}, default="mexican_hat"
    grid_size : int, default=5
        G, the cells of the finest level, at least 1.
    knots : (float, float) or array of shape (in_features, 2), default=(-1, 1)
        Ends of the grid, for all inputs or for each.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Outside the grid: value and slope of the edge continued; the wavelets' own tails,
        then silu and the constant alone; the value at the end; a ValueError.
    dtype : torch.dtype, default: torch's default
        Of the knots.

    Raises
    ------
    ValueError
        If a size is below 1, or mother, extrapolation or knots are not as described.

    Shape
    -----
    ``evaluate``: (n, in_features) -> (n, in_features, 2 + m), m the sum of the levels' cells.

    Source: Bozorgasl and Chen, "Wav-KAN" (2024), arXiv 2405.12832; Daubechies, "Ten lectures
    on wavelets" (1992), on frames of translates and dyadic scales.

    Examples
    --------
    >>> import torch
    >>> WaveletBasis(2, "morlet", grid_size=4).evaluate(torch.zeros(1, 2)).shape  # 4 + 2 + 1
    torch.Size([1, 2, 9])
    """

    places: Tensor  # centres and scales, (2, C)

    settings = ("in_features", "mother", "grid_size", "extrapolation")

    def __init__(
        self,
        in_features: int,
        mother: Mother = "mexican_hat",
        grid_size: int = 5,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        dtype: torch.dtype | None = None,
    ) -> None:
        if min(in_features, grid_size) < 1:
            raise ValueError(
                f"in_features and grid_size must be at least 1, got {in_features} and {grid_size}."
            )
        if mother not in get_args(Mother):
            raise ValueError(f"mother must be one of {get_args(Mother)}, got {mother!r}.")
        places = [(0.0, 1.0)] * 2 + _places(grid_size)  # silu and 1 are put in later
        super().__init__(in_features, len(places), knots, extrapolation, True, dtype)
        self.mother, self.grid_size = mother, grid_size
        stored = torch.tensor(places, dtype=torch.float64).T.to(self.ends.dtype).contiguous()
        self.register_buffer("places", stored, persistent=False)

    @property
    def numbers_per_value(self) -> int:
        return (12 if self.mother == "shannon" else 7) * self.n_functions + 8  # measured

    def _family(self, x: Tensor, low: Tensor, high: Tensor, first: int, last: int) -> list[Tensor]:
        u, rate = coordinate(x, low, high)
        centres, scales = self.places
        z = put(empty_features(x, self.n_functions), torch.sub, u[..., None], centres).div_(scales)
        derivatives = _MOTHERS[self.mother](z, first, last)
        for order, values in enumerate(derivatives, first):
            if order:
                values.mul_((rate[:, None] / scales) ** order)
            values[..., 1] = 0.0 if order else 1.0
        return derivatives


def _places(grid_size: int) -> list[tuple[float, float]]:
    """Centre and scale of every wavelet on [-1, 1], finest level first."""
    levels = [grid_size]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] // 2))
    return [((2 * k + 1) / n - 1, 2 / n) for n in levels for k in range(n)]


def _gaussian_derivative(
    order: int, factor: float, z: Tensor, first: int, last: int
) -> list[Tensor]:
    return [g.mul_(factor) for g in gaussian(z, first + order, last + order)]


def _morlet(z: Tensor, first: int, last: int) -> list[Tensor]:
    """The real part of ``exp(-z^2 / 2 + i w z)``.

    Its derivatives h_k follow ``h_(k+1) = (-z + i w) h_k - k h_(k-1)``, here in real and
    imaginary parts.
    """
    w = MORLET_FREQUENCY
    (g,) = gaussian(z, 0, 0)
    real, imaginary = [torch.cos(w * z).mul_(g)], [torch.sin(w * z).mul_(g)]
    for k in range(last):
        a = (z * real[k]).add_(imaginary[k], alpha=w).neg_()
        b = (z * imaginary[k]).sub_(real[k], alpha=w).neg_()
        if k:
            a.sub_(real[k - 1], alpha=k)
            b.sub_(imaginary[k - 1], alpha=k)
        real.append(a)
        imaginary.append(b)
    return real[first:]


def _shannon(z: Tensor, first: int, last: int) -> list[Tensor]:
    orders = range(first, last + 1)
    return [
        _sinc(2 * pi * z, k).mul_(2 * (2 * pi) ** k).sub_(_sinc(pi * z, k), alpha=pi**k)
        for k in orders
    ]


def _sinc(y: Tensor, order: int) -> Tensor:
    """The derivative of this order, m, of ``S(y) = sin(y) / y``.

    From ``y S = sin y``: ``y S^(m) = sin^(m)(y) - m S^(m-1)(y)``, which keeps its digits for
    |y| >= m; below, the Taylor series, sum over j of (-1)^((j+m)/2) y^j / ((j + m + 1) j!) for
    j of the parity of m.
    """
    edge = max(1.0, float(order))
    safe = torch.where(y.abs() < edge, edge, y)
    far = torch.sin(safe).div_(safe)
    for m in range(1, order + 1):
        far = torch.sin(safe + m * pi / 2).sub_(far, alpha=m).div_(safe)
    near = y.clamp(-edge, edge)
    square = near * near
    series = torch.zeros_like(y)
    for coefficient in reversed(_sinc_series(order, edge)):
        series.mul_(square).add_(coefficient)
    if order % 2:
        series.mul_(near)
    return torch.where(y.abs() < edge, series, far)


def _sinc_series(order: int, edge: float) -> list[float]:
    """Coefficients of every second power of y, as many as count below the edge."""
    coefficients, j = [], order % 2
    while True:
        coefficient = (-1) ** ((j + order) // 2) / ((j + order + 1) * factorial(j))
        coefficients.append(coefficient)
        if abs(coefficient) * edge**j < 1e-18:
            return coefficients
        j += 2


_MOTHERS: dict[Mother, _Derivatives] = {
    "mexican_hat": partial(_gaussian_derivative, 2, -2 / (sqrt(3) * pi**0.25)),
    "morlet": _morlet,
    "dog": partial(_gaussian_derivative, 1, 1.0),
    "shannon": _shannon,
}
