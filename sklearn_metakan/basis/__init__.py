"""Families of univariate functions: values and derivatives of any order."""

from sklearn_metakan.basis.base import Basis, Extrapolation, is_traced
from sklearn_metakan.basis.bspline import BSplineBasis
from sklearn_metakan.basis.families import BasisName, basis_family, make_basis
from sklearn_metakan.basis.knots import quantile_knots
from sklearn_metakan.basis.polynomials import PolynomialBasis
from sklearn_metakan.basis.rbf import RBFBasis
from sklearn_metakan.basis.refit import refit_matrix
from sklearn_metakan.basis.wavelets import WaveletBasis

__all__ = [
    "BSplineBasis",
    "Basis",
    "BasisName",
    "Extrapolation",
    "PolynomialBasis",
    "RBFBasis",
    "WaveletBasis",
    "basis_family",
    "is_traced",
    "make_basis",
    "quantile_knots",
    "refit_matrix",
]
