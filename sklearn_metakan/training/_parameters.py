"""Which values the constructor parameters that all estimators share may take."""

from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
import torch
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from sklearn_metakan.basis import BasisName

POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
COUNT = Interval(Integral, 1, None, closed="left")

WIDTHS: list[Any] = ["array-like", Integral]  # check_widths explains single numbers

SHARED_CONSTRAINTS: dict[str, list[Any]] = {
    "grid_size": [COUNT],
    "learning_rate": [str, POSITIVE],  # BaseKANEstimator explains other strings than "auto"
    "weight_decay": [StrOptions({"auto"}), NOT_NEGATIVE],
    "basis": [StrOptions(set(get_args(BasisName)))],
    "degree": [COUNT],
    "learning_rate_schedule": [StrOptions({"constant", "cosine", "exponential", "onecycle"})],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float64", "float32", "tf32", "bf16"})],
    "working_memory": [POSITIVE, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
    "net_params": [dict, None],
}

META_CONSTRAINTS: dict[str, list[Any]] = {
    "prompt_dim": [COUNT],
    "meta_hidden_dim": [Interval(Integral, 0, None, closed="left")],
    "meta_activation": [StrOptions({"relu", "silu", "tanh", "sin"})],
    "edge_scale": ["boolean"],
    "n_meta_learners": [StrOptions({"auto", "layer"}), COUNT],
    "prompt_learning_rate": [POSITIVE, None],
    "meta_learning_rate": [POSITIVE, None],
}


_LISTS = {
    "hidden_layer_sizes": " One layer of 64 is (64,), none is ().",
    "hidden_channels": " One layer of 64 is (64,).",
}


def check_working_memory(estimator: Any) -> None:
    """Where a fitted estimator reads it: it may have been set after the fit."""
    given = {"working_memory": estimator.working_memory}
    name = type(estimator).__name__
    validate_parameter_constraints(SHARED_CONSTRAINTS, given, caller_name=name)


def check_widths(name: str, widths: Any) -> None:
    """Raise unless they are whole numbers of at least 1, in a list of some kind."""
    if isinstance(widths, Real) or (isinstance(widths, np.ndarray) and not widths.ndim):
        raise ValueError(
            f"{name} must be a list of whole numbers, got {widths!r}.{_LISTS.get(name, '')}"
        )
    for width in widths if np.iterable(widths) and not isinstance(widths, str) else ():
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"{name} must hold whole numbers of at least 1, got {width!r} in {widths!r}."
            )
