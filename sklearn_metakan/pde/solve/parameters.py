"""Which values the constructor parameters of the PDE solvers may take."""

from collections.abc import Callable, Iterable
from inspect import signature
from numbers import Integral, Real
from sys import float_info
from typing import Any, get_args

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.pde.domains.draws import METHODS
from sklearn_metakan.pde.physics.constants import Constants, Held, Positive
from sklearn_metakan.pde.physics.trial import Derivatives
from sklearn_metakan.pde.solve.stages import SECOND_ORDER
from sklearn_metakan.pde.solve.weights import BY_POINT, RENEWED
from sklearn_metakan.training import (
    COUNT,
    META_CONSTRAINTS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARED_CONSTRAINTS,
    WIDTHS,
)

_NOT_NEGATIVE_COUNT = Interval(Integral, 0, None, closed="left")

CONSTRAINTS: dict[str, Any] = {
    **SHARED_CONSTRAINTS,
    **META_CONSTRAINTS,
    "residual": [callable],
    "domain": "no_validation",
    "boundary": "no_validation",
    "conditions": "no_validation",
    "ansatz": [callable, None],
    "features": [callable, None],
    "hard": ["boolean"],
    "n_outputs": [COUNT],
    "variables": ["array-like", None],
    "pde_params": [dict, None],
    "eigenvalue": [str, None],
    "n_modes": [COUNT],
    "solution": [callable, None],
    "hidden_layer_sizes": WIDTHS,
    "max_iter": [StrOptions({"auto"}), _NOT_NEGATIVE_COUNT],
    "solver": [StrOptions({"auto"}), None],
    **{name: [_NOT_NEGATIVE_COUNT] for name in SECOND_ORDER},
    "tol": [NOT_NEGATIVE],
    "time_limit": [Interval(Real, 0, 1e9, closed="neither"), None],
    "derivatives": [StrOptions(set(get_args(Derivatives)))],
    "n_directions": [COUNT],
    "n_interior": [COUNT],
    "n_boundary": [COUNT],
    "n_initial": [COUNT],
    "sampling": [StrOptions({*METHODS, "rad"})],
    "resample_every": [COUNT, None],
    "degree": [StrOptions({"auto"}), *SHARED_CONSTRAINTS["degree"]],
    "loss_weights": [dict, StrOptions({"auto", *RENEWED, *BY_POINT}), None],
    "n_observations": [COUNT, None],
    "outside": [StrOptions({"warn", "error", "ignore"})],
    "causal": [POSITIVE, None],
    "windows": [COUNT],
}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_takes(residual: Callable[..., Any], constants: Iterable[str]) -> None:
    try:
        takes = signature(residual)
    except ValueError:  # some callables have none
        return
    try:
        takes.bind(None, None, **dict.fromkeys(constants))
    except TypeError as error:
        wanted = ", ".join(["x", "u", *constants])
        raise TypeError(
            f"residual must be a function of ({wanted}), x, u and what pde_params names: {error}."
        ) from error


def check_settings(solver: Any) -> None:
    """What no single range can say."""
    if solver.max_iter == 0 and not any(getattr(solver, name) for name in SECOND_ORDER):
        none = " and ".join(f"{name}=0" for name in ("max_iter", *SECOND_ORDER))
        raise ValueError(f"{none} leave nothing to train; raise one of them.")
    for name, value in (solver.pde_params or {}).items():
        if isinstance(value, Positive | Held):
            value = value.value
        if not isinstance(name, str) or not _is_number(value):
            raise ValueError(
                "pde_params must map names to numbers, or to Positive(number), got "
                f"{name!r}: {value!r}."
            )
        if not abs(value) <= float_info.max:  # NaN, infinity, and whole numbers of any size
            raise ValueError(f"pde_params must be finite, got {name!r}: {value!r}.")
        if not name.isidentifier() or hasattr(Constants, name):
            raise ValueError(f"pde_params cannot have a constant called {name!r}; rename it.")
    if solver.eigenvalue is None and solver.n_modes > 1:
        raise ValueError(f"n_modes={solver.n_modes} needs eigenvalue=, the name of a constant.")
    _check_takes(solver.residual, solver.pde_params or {})
    if isinstance(solver.loss_weights, dict):
        for name, value in solver.loss_weights.items():
            if not isinstance(value, Real) or value not in NOT_NEGATIVE:
                raise ValueError(
                    f"loss_weights must be numbers of at least 0, got {name!r}: {value!r}."
                )
    if solver.causal is not None and solver.derivatives != "exact":
        raise ValueError(
            f"causal={solver.causal} contradicts derivatives={solver.derivatives!r}: causal "
            "weights need squared residuals. Set derivatives='exact' or causal=None."
        )
    for name in SECOND_ORDER:
        if solver.derivatives != "exact" and getattr(solver, name):
            raise ValueError(
                f"{name}={getattr(solver, name)} contradicts derivatives={solver.derivatives!r}: "
                f"it compares exact losses. Set {name}=0 or derivatives='exact'."
            )
