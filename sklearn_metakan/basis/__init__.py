"""Families of univariate functions: values and derivatives of any order."""

from sklearn_metakan.basis._base import Basis, Extrapolation
from sklearn_metakan.basis._bspline import BSplineBasis
from sklearn_metakan.basis._families import BasisName, make_basis
from sklearn_metakan.basis._knots import quantile_knots
from sklearn_metakan.basis._polynomials import PolynomialBasis
from sklearn_metakan.basis._rbf import RBFBasis
from sklearn_metakan.basis._refit import refit_matrix
from sklearn_metakan.basis._wavelets import WaveletBasis

__all__ = [
    "BSplineBasis",
    "Basis",
    "BasisName",
    "Extrapolation",
    "PolynomialBasis",
    "RBFBasis",
    "WaveletBasis",
    "make_basis",
    "quantile_knots",
    "refit_matrix",
]
