"""Generated data: nothing is downloaded."""

from sklearn_metakan.datasets.feynman import (
    Equation,
    Variable,
    feynman_equation,
    feynman_names,
    make_feynman,
)

__all__ = ["Equation", "Variable", "feynman_equation", "feynman_names", "make_feynman"]
