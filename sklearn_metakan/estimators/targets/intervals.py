"""Prediction intervals from the errors of rows that a network did not train on."""

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.estimators.inputs.scaling import FittedModule

_MOST = 512  # errors that are kept: of more, evenly spaced ones in order of size
_ROWS = 2**14  # whose members' predictions exist at a time
_ROUNDED = 1 - 1e-12  # as sums of weights are


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

        Raises ValueError if there are too few held-out rows for such an alpha.
        """
        n = len(self.errors)
        if alpha / 2 * (n + 1) < 1:
            raise ValueError(
                f"alpha={alpha} needs at least {ceil(2 / alpha - 1)} held-out rows, but there were "
                f"{n}. Raise alpha or validation_fraction, or fit to more rows."
            )
        level = torch.tensor([(1 - alpha / 2) * (n + 1) / n], dtype=torch.float64)
        low = -_quantiles(-self.errors[..., 0], self.weight, level)[0]
        return low, _quantiles(self.errors[..., -1], self.weight, level)[0]


def _quantiles(errors: Tensor, weight: Tensor | None, levels: Tensor) -> Tensor:
    """The smallest of each column (n, m) up to which there are these shares of the weight."""
    found = []
    for column in errors.unbind(1):
        if weight is None:  # in half the memory
            wanted = levels * len(column) * _ROUNDED
            ordered = torch.from_numpy(np.sort(column.numpy()))
            found.append(ordered[wanted.ceil().long() - 1])
        else:
            order = column.argsort()
            sums = weight[order].cumsum(0)
            found.append(column[order[torch.searchsorted(sums, levels * weight.sum() * _ROUNDED)]])
    return torch.stack(found, 1)


def held_out_errors(
    y: Tensor,
    by_member: Callable[[slice], Tensor],
    held_out: Tensor | None = None,
    weight: Tensor | None = None,
) -> HeldOutErrors:
    """Errors of held-out rows.

    Parameters
    ----------
    y : float64 Tensor of shape (n, n_outputs)
    by_member : callable (rows) -> Tensor of shape (n_rows, n_members, n_outputs, 1 or 2)
        Predictions of some rows, or the lowest and the highest, in float64.
    held_out : bool Tensor of shape (n, n_members), optional
        Which members did not train on a row; by default all.
    weight : Tensor of shape (n,), optional
    """
    n, errors = len(y), torch.empty(0)
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        predicted = by_member(rows)
        chosen = predicted.new_ones(predicted.shape[:2])
        if held_out is not None:
            chosen = held_out[rows].to(predicted)
        means = torch.einsum("nmos,nm->nos", predicted, chosen / chosen.sum(1, keepdim=True))
        errors = errors if start else means.new_empty(n, *means.shape[1:])
        torch.sub(y[rows][:, :, None], means, out=errors[rows])
    weights = None if weight is None else weight.double()
    if n > _MOST:
        shares = (torch.arange(_MOST, dtype=torch.float64) + 0.5) / _MOST
        errors = _quantiles(errors.flatten(1), weights, shares).view(_MOST, *errors.shape[1:])
        weights = None
    return HeldOutErrors(errors, errors.new_ones(len(errors)) if weights is None else weights)
