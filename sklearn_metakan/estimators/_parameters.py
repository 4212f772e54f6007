"""Which values the constructor parameters of the tabular estimators may take."""

from numbers import Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.training import COUNT, NOT_NEGATIVE, SHARED_CONSTRAINTS, WIDTHS

TABULAR_CONSTRAINTS: dict[str, list[Any]] = {
    **SHARED_CONSTRAINTS,
    "hidden_layer_sizes": WIDTHS,
    "max_iter": [StrOptions({"auto"}), COUNT],
    "knots": [StrOptions({"uniform", "quantile"})],
    "extrapolation": [StrOptions({"linear", "base", "constant", "error"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "scale_inputs": [StrOptions({"auto", "minmax", "standard", "quantile"}), None],
    "solver": [StrOptions({"adamw", "lbfgs"})],
    "batch_size": [COUNT],
    "tol": [NOT_NEGATIVE],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [StrOptions({"auto"}), COUNT],
}

REGRESSOR_CONSTRAINTS: dict[str, list[Any]] = {
    "loss": [StrOptions({"squared_error", "absolute_error", "huber", "quantile", "poisson"})],
    "quantile": [Interval(Real, 0, 1, closed="neither")],
    "scale_target": ["boolean"],
}

CLASSIFIER_CONSTRAINTS: dict[str, list[Any]] = {
    "class_weight": [dict, StrOptions({"balanced"}), None],
}
