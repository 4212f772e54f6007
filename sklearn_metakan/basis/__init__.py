"""Families of univariate functions: values and derivatives of any order."""

from sklearn_metakan.basis._base import Basis
from sklearn_metakan.basis._bspline import BSplineBasis
from sklearn_metakan.basis._knots import quantile_knots

__all__ = ["BSplineBasis", "Basis", "quantile_knots"]
