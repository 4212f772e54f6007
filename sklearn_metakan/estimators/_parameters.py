"""Which values the constructor parameters may take."""

from numbers import Integral, Real
from typing import Any, get_args

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.basis import BasisName
from sklearn_metakan.nn import Augmentation, Norm

_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")

_COMMON: dict[str, list[Any]] = {
    "grid_size": [_COUNT],
    "learning_rate": [str, _POSITIVE],  # BaseKANEstimator explains other strings than "auto"
    "max_iter": [StrOptions({"auto"}), _COUNT],
    "weight_decay": [StrOptions({"auto"}), _NOT_NEGATIVE],
    "basis": [StrOptions(set(get_args(BasisName)))],
    "degree": [_COUNT],
    "knots": [StrOptions({"uniform", "quantile"})],
    "extrapolation": [StrOptions({"linear", "base", "constant", "error"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions({"adamw", "lbfgs"})],
    "learning_rate_schedule": [StrOptions({"constant", "cosine", "exponential", "onecycle"})],
    "batch_size": [_COUNT],
    "tol": [_NOT_NEGATIVE],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [StrOptions({"auto"}), _COUNT],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float64", "float32", "tf32", "bf16"})],
    "working_memory": [_POSITIVE, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
    "net_params": [dict, None],
}

TABULAR_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like"],
    "scale_inputs": [StrOptions({"auto", "minmax", "standard", "quantile"}), None],
    **_COMMON,
}

IMAGE_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_channels": ["array-like"],
    "strides": [_COUNT, "array-like"],
    "kernel_size": [_COUNT],
    "norm": [StrOptions(set(get_args(Norm))), None],
    "augment": [StrOptions(set(get_args(Augmentation))), callable, None],
    "image_shape": ["array-like", None],
    "channels_last": ["boolean"],
    "scale_inputs": [StrOptions({"auto", "minmax", "standard"}), None],
    **_COMMON,
}

META_CONSTRAINTS: dict[str, list[Any]] = {
    "prompt_dim": [_COUNT],
    "meta_hidden_dim": [Interval(Integral, 0, None, closed="left")],
    "meta_activation": [StrOptions({"relu", "silu", "tanh", "sin"})],
    "edge_scale": ["boolean"],
    "n_meta_learners": [StrOptions({"auto", "layer"}), _COUNT],
    "prompt_learning_rate": [_POSITIVE, None],
    "meta_learning_rate": [_POSITIVE, None],
}

REGRESSOR_CONSTRAINTS: dict[str, list[Any]] = {
    "loss": [StrOptions({"squared_error", "absolute_error", "huber", "quantile", "poisson"})],
    "quantile": [Interval(Real, 0, 1, closed="neither")],
    "scale_target": ["boolean"],
}

CLASSIFIER_CONSTRAINTS: dict[str, list[Any]] = {
    "class_weight": [dict, StrOptions({"balanced"}), None],
}


def check_widths(name: str, widths: Any) -> None:
    """Raise unless all are whole numbers of at least 1."""
    for width in widths:
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"{name} must hold whole numbers of at least 1, got {width!r} in {widths!r}."
            )
