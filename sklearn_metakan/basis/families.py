"""From a name to a basis."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike

from sklearn_metakan.basis.base import Basis, Extrapolation
from sklearn_metakan.basis.bspline import BSplineBasis
from sklearn_metakan.basis.polynomials import PolynomialBasis
from sklearn_metakan.basis.rbf import RBFBasis
from sklearn_metakan.basis.wavelets import WaveletBasis

BasisName = Literal[
    "bspline", "rbf", "mexican_hat", "morlet", "dog", "shannon", "chebyshev", "legendre", "gram"
]


def basis_family(
    name: BasisName, *, grid_size: int = 5, degree: int = 3, dtype: torch.dtype | None = None
) -> Callable[..., Basis]:
    """The family of this name: called with ``in_features``, ``knots``, ``extrapolation``, a basis.

    Parameters
    ----------
    name : str
        As for ``make_basis``.
    grid_size, degree, dtype
        As for the class of that name. Polynomials have no use for grid_size, others none for
        degree.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    match name:
        case "bspline":
            return partial(BSplineBasis, grid_size=grid_size, degree=degree, dtype=dtype)
        case "rbf":
            return partial(RBFBasis, grid_size=grid_size, dtype=dtype)
        case "mexican_hat" | "morlet" | "dog" | "shannon":
            return partial(WaveletBasis, mother=name, grid_size=grid_size, dtype=dtype)
        case "chebyshev" | "legendre" | "gram":
            return partial(PolynomialBasis, polynomials=name, degree=degree, dtype=dtype)
    raise ValueError(f"basis must be one of {get_args(BasisName)}, got {name!r}.")


def make_basis(
    name: BasisName,
    in_features: int,
    *,
    grid_size: int = 5,
    degree: int = 3,
    knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
    extrapolation: Extrapolation = "linear",
    dtype: torch.dtype | None = None,
) -> Basis:
    """The basis of this name; see ``basis_family``.

    Gaussians, wavelets and polynomials take the ends of their grid alone as knots.

    Parameters
    ----------
    name : str
        "bspline", "rbf", "mexican_hat", "morlet", "dog", "shannon", "chebyshev", "legendre" or
        "gram".
    in_features : int
    grid_size, degree, knots, extrapolation, dtype
        As for the class of that name.

    Returns
    -------
    Basis

    Raises
    ------
    ValueError
        If the name is unknown, or the class refuses what it is given.

    Examples
    --------
    >>> [make_basis(name, 1).n_functions for name in ("bspline", "rbf", "morlet", "chebyshev")]
    [9, 7, 13, 4]
    """
    family = basis_family(name, grid_size=grid_size, degree=degree, dtype=dtype)
    return family(in_features, knots=knots, extrapolation=extrapolation)
