"""Change of basis: coefficients of the same functions on another grid."""

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis.base import Basis

RIDGE = 1e-8  # root of the ridge, for functions of norm one
_NODES, _BLOCK = 6, 2**22  # Gauss points of a cell; numbers held at once


@torch.no_grad()
def refit_matrix(old: Basis, new: Basis) -> Tensor:
    r"""T with ``T w`` the new coefficients of the function with old coefficients w.

    Where both have silu, its coefficient stays. The others minimise, in float64,

    ``integral of (B_new(t) T w - B_old(t) w)^2 dt + ridge |T w|^2``

    over the new grid and, where edges are continued beyond it ("linear", "constant"), its C-th
    part more on either side. The ridge is at the level of rounding (1e-16, functions of norm
    one): splines whose knots are among the new ones are the same functions again, and T is
    finite for functions that depend on each other.

    With "base", what lies beyond the new grid is not compared: there the tails of finer splines
    are shorter.

    Parameters
    ----------
    old, new : Basis
        Of as many inputs each.

    Returns
    -------
    Tensor of shape (1 or in_features, C_new, C_old), float64 on the CPU
        One matrix where all inputs have the same grids.

    Raises
    ------
    ValueError
        If the numbers of inputs differ.

    Examples
    --------
    >>> from sklearn_metakan.basis import BSplineBasis
    >>> coarse = BSplineBasis(1, grid_size=1, degree=1)
    >>> refit_matrix(coarse, coarse.refined(2))[0].abs().round(decimals=6)
    tensor([[1.0000, 0.0000, 0.0000],
            [0.0000, 1.0000, 0.0000],
            [0.0000, 0.5000, 0.5000],
            [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    if old.in_features != new.in_features:
        raise ValueError(
            f"Both bases must have as many inputs, got {old.in_features} and {new.in_features}."
        )
    old, new = _in_double(old), _in_double(new)
    points, weights = _quadrature(old, new)
    step = max(1, _BLOCK // (points.shape[1] * (old.n_functions + new.n_functions)))
    matrices = []
    for start in range(0, len(points), step):
        block = slice(start, start + step)
        before = old.values(points[block].T, start, 0).transpose(0, 1)  # (b, n, C)
        after = new.values(points[block].T, start, 0).transpose(0, 1)
        matrices.append(_least_squares(before, after, weights[block], old, new))
    return torch.cat(matrices)


def _in_double(basis: Basis) -> Basis:
    """In float64 on the CPU, and defined beyond its grid."""
    made = basis.with_grid(dtype=torch.float64).cpu()
    if made.extrapolation == "error":
        made.extrapolation = "linear"
    return made


def _quadrature(old: Basis, new: Basis) -> tuple[Tensor, Tensor]:
    """Gauss points between all breakpoints, and weights of sum one: (1 or in, n) each."""
    count = max(old.n_functions, new.n_functions)
    domain, kinks = new.domain, [old.breakpoints, new.breakpoints]
    if all(bool((k == k[0]).all()) for k in kinks):
        domain, kinks = domain[:1], [k[:1] for k in kinks]
    low, high = domain.split(1, dim=1)
    margin = (high - low) * (0.0 if new.extrapolation == "base" else 1 / new.n_functions)
    low, high = low - margin, high + margin
    even = low + (high - low) * torch.linspace(0, 1, count + 1, dtype=torch.float64)
    ends = torch.cat([even, *(k.expand(len(even), -1) for k in kinks)], dim=1)
    ends = ends.clamp(low, high).sort(dim=1).values
    width = ends.diff(dim=1)[..., None]
    nodes, shares = map(torch.from_numpy, np.polynomial.legendre.leggauss(_NODES))
    points = ends[:, :-1, None] + width * (nodes + 1) / 2
    weights = width / (high - low)[..., None] * shares / 2
    return points.flatten(1), weights.flatten(1)


def _least_squares(
    before: Tensor, after: Tensor, weights: Tensor, old: Basis, new: Basis
) -> Tensor:
    """(b, C_new, C_old) from values (b, n, C) at points of these weights (b, n)."""
    kept = int(old.has_silu and new.has_silu)
    result = before.new_zeros(len(before), new.n_functions, old.n_functions)
    if kept:
        before = before.clone()
        before[..., 0] -= after[..., 0]
        result[:, 0, 0] = 1.0
    root = weights.sqrt()[..., None]
    target, design = root * before, root * after[..., kept:]
    norms = torch.linalg.vector_norm(design, dim=1, keepdim=True)
    norms = norms.clamp_min(torch.finfo(norms.dtype).tiny)
    ridge = RIDGE * torch.eye(design.shape[2], dtype=design.dtype).expand(len(design), -1, -1)
    design = torch.cat([design / norms, ridge], dim=1)
    target = torch.cat([target, target.new_zeros(len(ridge), ridge.shape[1], target.shape[2])], 1)
    result[:, kept:] = torch.linalg.lstsq(design, target).solution / norms.transpose(1, 2)
    return result
