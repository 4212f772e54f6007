"""Prediction intervals from the errors of rows that a network did not train on."""

from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.estimators.inputs.rows import FittedModule

Array = NDArray[np.float64]
_HALVINGS = 60  # of the range in which a bound is sought
_MOST_GROUPS = 256  # of rows that the same members did not train on
_MOST = 512  # errors that are kept: of more, evenly spaced ones in order of size


class HeldOutErrors(FittedModule):
    """Signed errors of held-out rows, and the intervals that they give: jackknife+.

    Row i, which the members S_i of an ensemble did not train on, has the error
    ``e_i = y_i - f_i(x_i)``, f_i being the mean of those members. The interval of x is from the
    alpha / 2 quantile of ``f_i(x) + e_i`` over all held-out rows to the 1 - alpha / 2 quantile.
    For a single network that is split conformal prediction. Of more than 512 errors as many are
    kept that represent them, so that alpha is at least 0.004. Where f is several quantiles, the
    lowest and the highest of them take its place: conformalised quantile regression.

    If rows are exchangeable, a new row lies within in at least 1 - 2 alpha of cases (1 - alpha
    for a single network); in practice in about 1 - alpha.

    Parameters
    ----------
    members : Tensor of bool, shape (n_groups, n_members)
        The members that did not train on the rows of a group.
    errors : Tensor of shape (n, n_outputs, 1 or 2)
        Of the predictions, or of the lowest and of the highest.
    group : Tensor of int, shape (n,)
    weight : Tensor of shape (n,)
        Of the rows; only their ratios count.

    Source: Barber, Candes, Ramdas, Tibshirani, "Predictive inference with the jackknife+"
    (2021); Romano, Patterson, Candes, "Conformalized quantile regression" (2019).
    """

    members: Tensor
    errors: Tensor
    group: Tensor
    weight: Tensor

    def __init__(self, members: Tensor, errors: Tensor, group: Tensor, weight: Tensor) -> None:
        super().__init__()
        parts = {"members": members, "errors": errors.double(), "group": group.short()}
        parts["weight"] = weight / weight.mean()
        self.set_buffers(**{name: part.numpy() for name, part in parts.items()})

    def __len__(self) -> int:
        return len(self.errors)

    def bounds(self, predictions: Tensor, alpha: float) -> Array:
        """Lower and upper ends.

        Parameters
        ----------
        predictions : Tensor of shape (n_rows, n_members, n_outputs, 1 or 2)
            Of each member.
        alpha : float in (0, 1)

        Returns
        -------
        ndarray of shape (n_rows, n_outputs, 2)

        Raises
        ------
        ValueError
            If there are too few held-out rows for such an alpha.
        """
        n = len(self)
        if alpha / 2 * (n + 1) < 1:
            raise ValueError(
                f"alpha={alpha} needs at least {ceil(2 / alpha - 1)} held-out rows, but there were "
                f"{n}. Raise alpha or validation_fraction, or fit to more rows."
            )
        level = (1 - alpha / 2) * (n + 1) / n  # the new row counts as one more, beyond all
        share = self.members.double() / self.members.sum(1, keepdim=True)
        f = torch.einsum("nmos,gm->gnos", predictions, share).numpy()
        found: Array = np.empty((*f.shape[1:3], 2))
        errors, group, weight = self.errors.numpy(), self.group.numpy(), self.weight.numpy()
        for output in range(predictions.shape[2]):
            for side, sign in ((0, -1), (-1, 1)):
                parts = []
                for g, of_group in enumerate(f):
                    rows = group == g
                    ends = of_group[:, output, side], errors[rows, output, side]
                    parts.append((sign * ends[0], sign * ends[1], weight[rows]))
                found[:, output, side] = sign * _quantile_of_sums(parts, level)
        return found


def _quantile_of_sums(parts: list[tuple[Array, Array, Array]], level: float) -> Array:
    """The smallest t by row at which the ``f + e <= t`` have this share of the weight.

    Of parts with ``f`` by row, and errors ``e`` with their weights.
    """
    sums, total = [], 0.0
    for f, errors, weight in parts:
        order = np.argsort(errors)
        sums.append((f, errors[order], np.r_[0.0, np.cumsum(weight[order])]))
        total += float(weight.sum())
    wanted = level * total * (1 - 1e-12)  # sums of weights are rounded
    if len(sums) == 1:
        ((f, errors, summed),) = sums
        return f + errors[np.searchsorted(summed, wanted) - 1]
    low = np.min([f + errors[0] for f, errors, _ in sums], axis=0)
    high = np.max([f + errors[-1] for f, errors, _ in sums], axis=0)
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        below = sum(
            summed[np.searchsorted(errors, middle - f, "right")] for f, errors, summed in sums
        )
        enough = below >= wanted
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    return high


def held_out_errors(
    y: NDArray[np.float64], by_member: Tensor, held_out: Tensor | None, weight: Array | None
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
    if held_out is None:
        held_out = torch.ones(n, n_members, dtype=torch.bool)
    members, group = held_out.unique(dim=0, return_inverse=True)
    if len(members) > max(_MOST_GROUPS, n_members):  # of each row only the first member then
        held_out = held_out & (held_out.cumsum(1) == 1)
        members, group = held_out.unique(dim=0, return_inverse=True)
    share = held_out.to(by_member) / held_out.sum(1, keepdim=True)
    predicted = torch.einsum("nmos,nm->nos", by_member, share)
    errors = torch.from_numpy(y)[:, :, None] - predicted
    weights = torch.ones(n, dtype=torch.float64) if weight is None else torch.from_numpy(weight)
    if n > _MOST:
        thinned = []
        for g in range(len(members)):
            own = group == g
            errors_g, weights_g = _fewer(errors[own], weights[own], -(-_MOST * int(own.sum()) // n))
            thinned.append((errors_g, torch.full((len(errors_g),), g), weights_g))
        errors, group, weights = (torch.cat(parts) for parts in zip(*thinned, strict=True))
    return HeldOutErrors(members, errors, group, weights)


def _fewer(errors: Tensor, weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """So many errors of equal weight: for each output those in the middle of as many shares."""
    ordered, order = errors.sort(0)
    sums, total = weight[order].cumsum(0), weight.sum()
    middles = (torch.arange(count) + 0.5) / count * total
    wanted = middles[:, None].expand(-1, errors[0].numel()).T.contiguous()
    columns = sums.flatten(1).T.contiguous()
    rows = torch.searchsorted(columns, wanted).clamp(max=len(errors) - 1).T
    found = ordered.flatten(1).gather(0, rows).view(count, *errors.shape[1:])
    return found, (total / count).expand(count)
