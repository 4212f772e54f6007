"""Families of univariate functions: values and derivatives of any order."""

from sklearn_metakan.basis._base import Basis
from sklearn_metakan.basis._bspline import BSplineBasis, Extrapolation
from sklearn_metakan.basis._knots import quantile_knots

__all__ = ["BSplineBasis", "Basis", "Extrapolation", "quantile_knots"]
