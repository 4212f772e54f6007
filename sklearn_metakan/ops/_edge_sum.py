"""``edge_sum``: y_o = sum_i sum_c B_c(x_i) w_oic, and the choice of how to compute it."""

from typing import Protocol

from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._reference import edge_sum_reference

BACKENDS = {"reference": edge_sum_reference}


class CoefficientSource(Protocol):
    """Where the coefficients w_oic come from. Storage is input-major.

    Attributes
    ----------
    in_features : int
    is_linear : bool
        Whether ``project`` is available: the source factors through p functions.
    """

    in_features: int

    @property
    def is_linear(self) -> bool: ...

    def block(self, start: int, stop: int) -> Tensor:
        """Coefficients of inputs start to stop, shape (stop - start, C, out_features)."""
        ...

    def project(self, features: Tensor, start: int, stop: int) -> Tensor:
        """``features`` (n, stop - start, C) times these coefficients: (n, out_features)."""
        ...


def edge_sum(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int = 0,
    backend: str = "auto",
) -> Tensor:
    """Sum of univariate functions over the edges of a layer.

    ``y_o = sum_i phi_oi^(m)(x_i)`` with ``phi_oi(t) = sum_c w_oic B_c(t)``.

    Parameters
    ----------
    x : Tensor of shape (n, in_features)
    basis : Basis
        Gives B_c; has ``in_features`` inputs and C functions.
    source : CoefficientSource
        Gives w_oic, or the product with it.
    derivative : int, default=0
        m, the order of the derivative of every phi_oi.
    backend : {"auto", "reference"}, default="auto"
        How it is computed; the results are the same to rounding.

    Returns
    -------
    Tensor of shape (n, out_features)
    """
    if backend == "auto":
        backend = "reference"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be 'auto' or one of {sorted(BACKENDS)}, got {backend!r}.")
    if x.dim() != 2 or x.shape[1] != source.in_features:
        raise ValueError(
            f"x must have the shape (n, in_features = {source.in_features}), got {tuple(x.shape)}."
        )
    return BACKENDS[backend](x, basis, source, derivative)
