"""Which values the constructor parameters of the estimators for tables and images may take."""

from numbers import Real
from typing import Any, get_args

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.nn import Augmentation, Norm
from sklearn_metakan.training import COUNT, NOT_NEGATIVE, SHARED_CONSTRAINTS, WIDTHS

_COMMON: dict[str, list[Any]] = {
    **SHARED_CONSTRAINTS,
    "max_iter": [StrOptions({"auto"}), COUNT],
    "knots": [StrOptions({"uniform", "quantile"})],
    "extrapolation": [StrOptions({"linear", "base", "constant", "error"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions({"adamw", "lbfgs"})],
    "batch_size": [COUNT],
    "tol": [NOT_NEGATIVE],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [StrOptions({"auto"}), COUNT],
}

TABULAR_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": WIDTHS,
    "scale_inputs": [StrOptions({"auto", "minmax", "standard", "quantile"}), None],
    **_COMMON,
}

IMAGE_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_channels": WIDTHS,
    "strides": [COUNT, "array-like"],
    "kernel_size": [COUNT],
    "norm": [StrOptions(set(get_args(Norm))), None],
    "augment": [StrOptions(set(get_args(Augmentation))), callable, None],
    "image_shape": ["array-like", None],
    "channels_last": ["boolean"],
    "scale_inputs": [StrOptions({"auto", "minmax", "standard"}), None],
    **_COMMON,
}

REGRESSOR_CONSTRAINTS: dict[str, list[Any]] = {
    "loss": [StrOptions({"squared_error", "absolute_error", "huber", "quantile", "poisson"})],
    "quantile": [Interval(Real, 0, 1, closed="neither")],
    "scale_target": ["boolean"],
}

CLASSIFIER_CONSTRAINTS: dict[str, list[Any]] = {
    "class_weight": [dict, StrOptions({"balanced"}), None],
}
