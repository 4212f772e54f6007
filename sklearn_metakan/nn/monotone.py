"""Coefficients whose functions rise or fall, whatever the numbers that they come from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.nn.sources import Coefficients, DirectCoefficients, MetaCoefficients


def ordered(weights: Tensor, signs: Tensor) -> Tensor:
    """Coefficients of functions that rise (sign 1) or fall (-1); others (0) as they are.

    Splines whose coefficients rise, rise, and so do their ends if these are continued with value
    and slope, or as constants. Each step from one coefficient to the next becomes its absolute
    value, times the sign; the mean of the coefficients stays. silu, which does neither, has none.

    Parameters
    ----------
    weights : Tensor of shape (in, C, out)
        Of silu and splines.
    signs : Tensor of shape (in,)

    Examples
    --------
    >>> weights = torch.tensor([5.0, 1.0, 0.0, 2.0, 1.0])
    >>> ordered(weights.view(1, -1, 1), torch.tensor([1])).flatten().tolist()
    [0.0, -1.0, 0.0, 2.0, 3.0]
    """
    signs, splines = signs[:, None, None], weights[:, 1:]
    climbed = (splines.diff(dim=1).abs() * signs).cumsum(1)
    climbed = torch.cat([torch.zeros_like(splines[:, :1]), climbed], 1)
    climbed = climbed + (splines - climbed).mean(1, keepdim=True)
    climbed = torch.cat([torch.zeros_like(weights[:, :1]), climbed], 1)
    return torch.where(signs == 0, weights, climbed)


class MonotoneCoefficients(Coefficients):
    """``w_oi`` of another source, ``ordered`` by a sign for each input.

    Parameters
    ----------
    inner : DirectCoefficients or MetaCoefficients
        Of a dense layer of splines.
    signs : sequence of int
        1 for inputs whose functions must not fall, -1 for those that must not rise, 0.

    Raises
    ------
    ValueError
        For another number of signs than inputs.
    """

    signs: Tensor

    def __init__(self, inner: DirectCoefficients | MetaCoefficients, signs: Sequence[int]) -> None:
        super().__init__()
        if len(signs) != inner.in_features:
            raise ValueError(
                f"monotone must have a sign for each of the {inner.in_features} inputs, got "
                f"{len(signs)}."
            )
        self.inner = inner
        self.in_shape, self.in_features = inner.in_shape, inner.in_features
        self.out_features = inner.out_features
        self.register_buffer("signs", torch.tensor([*map(int, signs)]), persistent=False)

    @property
    def n_functions(self) -> int:
        return self.inner.n_functions

    @property
    def numbers_per_input(self) -> int:
        return self.inner.numbers_per_input + 4 * self.n_functions * self.out_features

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        by_input, shared = self.inner.tensors()
        return (*by_input, self.signs), shared

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        *own, signs = by_input
        return ordered(self.inner.coefficients(own, shared), signs)

    @torch.no_grad()
    def change_basis(self, matrices: Tensor) -> None:
        """``T_i w_oi`` in place of ``w_oi``, of direct coefficients."""
        if not isinstance(self.inner, DirectCoefficients):
            raise ValueError(
                "The grid of a monotone model with generated coefficients stays as it is: no "
                "meta-learner makes the same functions on another one."
            )
        self.inner.weight = nn.Parameter(self.block(0, self.in_features))
        self.inner.change_basis(matrices)

    def cut(self, in_features: int, out_features: int) -> None:
        """Take the sizes of one member's part of the numbers."""
        for source in (self, self.inner):
            source.in_shape, source.in_features = (in_features,), in_features
            source.out_features = out_features
        self.signs = self.signs[:in_features]


def check_can_be_monotone(basis: Basis) -> None:
    """Raise a ValueError for functions that ordered coefficients do not order."""
    if not isinstance(basis, BSplineBasis):
        raise ValueError(
            "monotone needs splines, whose order is that of their coefficients; set "
            "basis='bspline'."
        )
    if basis.extrapolation == "base":
        raise ValueError(
            "monotone contradicts extrapolation='base', with which splines end beyond the grid; "
            "set extrapolation to 'linear', 'constant' or 'error'."
        )
