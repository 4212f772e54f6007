"""Generated data: nothing is downloaded."""

from sklearn_metakan.datasets._equations import Equation, Variable
from sklearn_metakan.datasets._feynman import feynman_equation, feynman_names, make_feynman

__all__ = ["Equation", "Variable", "feynman_equation", "feynman_names", "make_feynman"]
