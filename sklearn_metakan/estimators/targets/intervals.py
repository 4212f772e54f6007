"""Prediction intervals from the errors of rows that a network did not train on."""

from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.estimators.inputs.rows import FittedModule

_MOST = 512  # errors that are kept: of more, evenly spaced ones in order of size


class HeldOutErrors(FittedModule):
    """Signed errors of held-out rows, and the intervals that they give: conformal prediction.

    A row that the members S_i of an ensemble did not train on has the error
    ``e_i = y_i - f_i(x_i)``, f_i being the mean of those members. The interval of x is from
    ``f(x)`` plus the alpha / 2 quantile of the e_i to ``f(x)`` plus their 1 - alpha / 2 quantile, a
    row more being counted beyond either end. Where f is several quantiles, the lowest and the
    highest of them take its place: conformalised quantile regression.

    If rows are exchangeable, a new one lies within in at least 1 - alpha of cases for a single
    network. The mean of several errs less than each, so that in practice it is as many or more.

    Attributes
    ----------
    errors : Tensor of shape (n, n_outputs, 1 or 2)
        Of predictions, or of the lowest and the highest. Of more than 512 rows as many numbers
        that represent them, so that alpha is at least 0.004.
    weight : Tensor of shape (n,)

    Source: Lei et al., "Distribution-free predictive inference for regression" (2018); Romano,
    Patterson, Candes, "Conformalized quantile regression" (2019).
    """

    errors: Tensor
    weight: Tensor

    def __init__(self, errors: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.set_buffers(errors=errors.numpy(), weight=weight.numpy())

    def ends(self, alpha: float) -> tuple[Tensor, Tensor]:
        """What to add to predictions for the lower and the upper end, (n_outputs,) each.

        Raises
        ------
        ValueError
            If there are too few held-out rows for such an alpha.
        """
        n = len(self.errors)
        if alpha / 2 * (n + 1) < 1:
            raise ValueError(
                f"alpha={alpha} needs at least {ceil(2 / alpha - 1)} held-out rows, but there were "
                f"{n}. Raise alpha or validation_fraction, or fit to more rows."
            )
        level = (1 - alpha / 2) * (n + 1) / n
        low = -_quantile(-self.errors[..., 0], self.weight, level)
        return low, _quantile(self.errors[..., -1], self.weight, level)


def _quantile(errors: Tensor, weight: Tensor, level: float) -> Tensor:
    """The smallest of each column (n, n_outputs) up to which there is this share of the weight."""
    ordered, order = errors.sort(0)
    sums = weight[order].cumsum(0)
    wanted = level * weight.sum() * (1 - 1e-12)  # sums are rounded
    return ordered.gather(0, (sums < wanted).sum(0, keepdim=True))[0]


def held_out_errors(
    y: NDArray[np.float64],
    by_member: Tensor,
    held_out: Tensor | None,
    weight: NDArray[np.float64] | None,
) -> HeldOutErrors:
    """Errors of held-out rows.

    Parameters
    ----------
    y : ndarray of shape (n, n_outputs)
    by_member : Tensor of shape (n, n_members, n_outputs, 1 or 2)
        Predictions, or the lowest and the highest.
    held_out : Tensor of bool, shape (n, n_members), optional
        Which members did not train on a row; by default all.
    weight : ndarray of shape (n,), optional
    """
    n, n_members = by_member.shape[:2]
    chosen = by_member.new_ones(n, n_members) if held_out is None else held_out.to(by_member)
    predicted = torch.einsum("nmos,nm->nos", by_member, chosen / chosen.sum(1, keepdim=True))
    errors = torch.from_numpy(y)[:, :, None] - predicted
    weights = errors.new_ones(n) if weight is None else torch.from_numpy(weight)
    if n > _MOST:
        shares = (torch.arange(_MOST) + 0.5) / _MOST
        errors = torch.stack([_quantile(errors.flatten(1), weights, s) for s in shares.tolist()])
        errors, weights = errors.view(_MOST, *predicted.shape[1:]), weights.new_ones(_MOST)
    return HeldOutErrors(errors, weights)
