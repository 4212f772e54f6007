"""What is looked at before training starts: shapes, finite values, degrees, what is missing."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde._collocation import DATA, EQUATION, Batch
from sklearn_metakan.pde._conditions import BaseCondition, PointSet
from sklearn_metakan.pde._levenberg_marquardt import MOST_PARAMETERS
from sklearn_metakan.pde._physics import Physics, named_residuals
from sklearn_metakan.pde._push import steps
from sklearn_metakan.pde._trial import check_degree, order_of

_NUMPY = ("numpy", "array")
_MOST_AT_ONCE = 16  # conditions in one function
_TAKEN = {DATA, "step", "error"}  # other keys of loss_terms_


def check_physics(physics: Physics, batch: Batch, loss_weights: Any = None) -> None:
    """Try every term on a step's points, remember what it asks for, raise for what is wrong.

    Raises
    ------
    TypeError
        For a residual or condition that uses numpy, or returns no tensors.
    ValueError
        For wrong shapes, values that are not finite, or splines of too low a degree.
    """
    orders = 0
    for name in (EQUATION, *physics.conditions):
        sets = batch[name]
        title = physics.title(name)
        try:
            with torch.enable_grad():
                found, request = physics.try_out(name, sets)
        except (TypeError, RuntimeError) as error:
            if any(word in str(error) for word in _NUMPY):
                raise TypeError(
                    f"{title} must use torch, not numpy: its arguments are tensors ({error})."
                ) from error
            raise
        n = len(sets[0][0])
        if name == EQUATION:
            for key, value in _checked_names(found, physics.conditions).items():
                _check_values(value, n, f"{title} ({key})" if key != EQUATION else title)
                _check_depends(value, title)
        else:
            _check_misfit(found, n, title)
            _check_depends(found, title)
        physics.requests[name] = request
        orders = max(orders, order_of(request))
    check_degree(physics, orders)
    mode = physics.trial.derivatives
    random = mode != "exact" and "laplacian" in physics.requests[EQUATION]
    if random and physics.bends(batch[EQUATION][0][0]):
        raise ValueError(
            f"residual(x, u) must be linear in u.laplacian() with derivatives={mode!r}: the "
            "squared loss of an estimate would have a bias. Set derivatives='exact'."
        )
    terms = [*physics(batch)]
    for name in loss_weights if isinstance(loss_weights, dict) else ():
        if name not in terms:
            raise ValueError(f"loss_weights must name losses, of {terms}, got {name!r}.")


def check_least_squares(physics: Physics, batch: Batch) -> None:
    """Raise where Levenberg-Marquardt cannot solve: it needs every point's own gradients."""
    for name, sets in batch.items():
        if _couples(physics, name, sets):
            raise ValueError(
                "lm_iter needs misfits of each point by itself, but those of "
                f"{physics.title(name)} change with the other points, as with a mean over them. "
                "Set lm_iter=0 and lbfgs_iter."
            )
    if physics.calls_u:
        raise ValueError(
            "lm_iter needs derivatives from the field, u.d(...): a residual or condition calls u "
            "and differentiates itself. Set lm_iter=0, or take them from the field."
        )
    if steps(physics.trial.network) is None:
        raise ValueError("lm_iter knows KAN and linear layers alone. Set lm_iter=0.")
    size = sum(p.numel() for p in physics.parameters() if p.requires_grad)
    if size > MOST_PARAMETERS:
        raise ValueError(
            f"lm_iter solves for all parameters at once, at most {MOST_PARAMETERS:,}; the network "
            f"has {size:,}. Lower hidden_layer_sizes, or set lm_iter=0 and lbfgs_iter."
        )


@torch.no_grad()
def _couples(physics: Physics, name: str, sets: Sequence[PointSet]) -> bool:
    """Whether misfits of the first half of a term's points depend on the second half."""
    half = slice(0, (len(sets[0][0]) + 1) // 2)
    whole, part = physics.misfits(name, sets), physics.misfits(name, sets, half)
    for key, found in whole.items():
        away, size = (found[half] - part[key]).abs().max(), found.abs().max()
        if away > torch.finfo(found.dtype).eps ** 0.5 * size:
            return True
    return False


def check_conditions(conditions: Any, determined: bool) -> dict[str, BaseCondition]:
    """Conditions by the names of their losses.

    Without any, a UserWarning, unless ansatz or data determine the solution.
    """
    listed = [conditions] if isinstance(conditions, BaseCondition) else conditions or []
    if not isinstance(listed, Iterable):
        listed = [listed]
    named: dict[str, BaseCondition] = {}
    for condition in listed:
        if not isinstance(condition, BaseCondition):
            raise TypeError(
                "conditions must hold Dirichlet, Neumann, Robin, Periodic, Initial or Condition "
                f"objects, got {condition!r}."
            )
        base = condition.name or type(condition).__name__.lower()
        if base in _TAKEN:
            raise ValueError(f"conditions must not have the name {base!r}; it is taken.")
        name, number = base, 2
        while name in named:
            if condition.name:
                raise ValueError(f"conditions must have names of their own, got {base!r} twice.")
            name, number = f"{base}_{number}", number + 1
        named[name] = condition
    if not named and not determined:
        warnings.warn(
            "There are no conditions and no ansatz: the equation alone has many solutions. Pass "
            "conditions=[Dirichlet(...)] or ansatz=.",
            UserWarning,
            stacklevel=4,
        )
    return named


def _checked_names(found: Any, conditions: Mapping[str, Any]) -> dict[str, Any]:
    named = named_residuals(found)
    if not named:
        raise ValueError("residual(x, u) must return at least one residual, got none.")
    for name in named:
        if name in conditions:
            raise ValueError(f"residual(x, u) names a residual {name!r}, as a condition does.")
        if name in _TAKEN:
            raise ValueError(f"residual(x, u) must not name a residual {name!r}; that is taken.")
    return named


def _check_values(value: Any, n: int, title: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{title} must return a tensor of shape (n,), or a tuple or dict of such, got "
            f"{type(value).__name__}."
        )
    if value.shape != (n,):
        hint = ""
        if value.shape == (n, 1):
            hint = " Field quantities are (n,) for one output: drop the axis, as in f(x)[:, 0]."
        elif value.shape == (n, n):
            hint = " A term of shape (n, 1) met one of shape (n,): drop the axis of the former."
        elif value.ndim == 2:
            hint = " Return a tuple of residuals, each (n,), such as tuple(r.unbind(1))."
        raise ValueError(
            f"{title} must return the shape (n,), here ({n},), got {tuple(value.shape)}.{hint}"
        )
    _check_finite(value, title)


def _check_misfit(value: Any, n: int, title: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{title} must give a tensor, got {type(value).__name__}.")
    crossed = value.shape == (n, n) and n > _MOST_AT_ONCE
    fits = value.ndim in (1, 2) and len(value) == n
    if not fits or crossed:
        hint = " A term of shape (n, 1) met one of shape (n,): drop the axis of the former."
        raise ValueError(
            f"{title} must give the shape (n,) or (n, m), here n = {n}, got {tuple(value.shape)}."
            + hint * crossed
        )
    _check_finite(value, title)


def _check_finite(value: Tensor, title: str) -> None:
    if value.is_complex():
        raise ValueError(f"{title} must be real, got {value.dtype}.")
    bad = value.isfinite().logical_not()
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"{title} must be finite, got {value[bad][0].item()} at point {row} of "
            f"{len(value)}; check its functions of x over the whole domain."
        )


def _check_depends(value: Tensor, title: str) -> None:
    if not value.requires_grad:
        raise ValueError(f"{title} does not depend on u; use u.value, u.d(...), u.laplacian().")
