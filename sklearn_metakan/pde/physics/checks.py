"""What is looked at before training starts: shapes, finite values, degrees, what is missing."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde.derivatives.ansatz import CROSSED
from sklearn_metakan.pde.domains.domain import shown
from sklearn_metakan.pde.physics.conditions import BaseCondition
from sklearn_metakan.pde.physics.physics import DATA, EQUATION, Batch, Physics, named_residuals

_NUMPY = ("numpy", "array")
_MOST_AT_ONCE = 16  # conditions in one function
_TAKEN = {DATA, "step", "error"}  # other keys of loss_terms_


def check_physics(physics: Physics, batch: Batch, loss_weights: Any = None) -> None:
    """Probe every term on a step's points, so that it is known what it asks for.

    Raises
    ------
    TypeError
        For a residual or condition that uses numpy, or returns no tensors.
    ValueError
        For wrong shapes, or values that are not finite.
    """
    for name in (EQUATION, *physics.conditions):
        title = physics.title(name)
        try:
            with torch.enable_grad():
                found = physics.probe(name, batch[name])
        except (TypeError, RuntimeError) as error:
            if any(word in str(error) for word in _NUMPY):
                raise TypeError(
                    f"{title} must use torch, not numpy: its arguments are tensors ({error})."
                ) from error
            if isinstance(error, TypeError) and "Field" in str(error):
                raise TypeError(
                    f"{title} takes u for numbers: they are u.value ({error})."
                ) from error
            raise
        n = len(batch[name][0][0])
        if name == EQUATION:
            for key, value in _checked_names(found, physics.conditions).items():
                _check_values(value, n, f"{title} ({key})" if key != EQUATION else title)
                _check_depends(value, title)
        else:
            _check_misfit(found, n, title)
            _check_depends(found, title)
    mode = physics.trial.derivatives
    random = mode != "exact" and "laplacian" in physics.requests[EQUATION]
    if random and not physics.is_linear_in_laplacian(batch[EQUATION][0][0]):
        raise ValueError(
            f"residual(x, u) must be linear in u.laplacian() with derivatives={mode!r}: the "
            "squared loss of an estimate would have a bias. Set derivatives='exact'."
        )
    terms = [*physics(batch)]
    for name in loss_weights if isinstance(loss_weights, dict) else ():
        if name not in terms:
            raise ValueError(f"loss_weights must name losses, of {terms}, got {name!r}.")


def listed_conditions(conditions: Any) -> list[BaseCondition]:
    """Conditions as users give them: one, several, or None; a TypeError for anything else."""
    found = [conditions] if isinstance(conditions, BaseCondition) else conditions or []
    listed = list(found) if isinstance(found, Iterable) else [found]
    for each in listed:
        if not isinstance(each, BaseCondition):
            raise TypeError(
                "conditions must hold Dirichlet, Neumann, Robin, Periodic, Initial or Condition "
                f"objects, got {shown(each)}."
            )
    return listed


def check_conditions(conditions: Any, determined: bool) -> dict[str, BaseCondition]:
    """Conditions by the names of their losses.

    Without any, a UserWarning, unless ansatz or data determine the solution.
    """
    named: dict[str, BaseCondition] = {}
    for condition in listed_conditions(conditions):
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
            hint = CROSSED
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
    if crossed or value.ndim not in (1, 2) or len(value) != n:
        raise ValueError(
            f"{title} must give the shape (n,) or (n, m), here n = {n}, got {tuple(value.shape)}."
            + CROSSED * crossed
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
