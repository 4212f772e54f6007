"""``net_params``: skorch parameters that a user adds, and the names that are taken."""

from fnmatch import fnmatch
from typing import Any

from sklearn_metakan.training._capturable import check_cuda_graph

# skorch parameter -> the constructor parameter that sets it.
_TAKEN = {
    "lr": "learning_rate",
    "max_epochs": "max_iter",
    "batch_size": "batch_size",
    "device": "device",
    "verbose": "verbose",
    "warm_start": "warm_start",
    "optimizer": "solver",
    "optimizer__lr": "learning_rate",
    "optimizer__weight_decay": "weight_decay",
    "shuffle_seed": "random_state",
    "penalty": "weight_decay",
    "score": "early_stopping",
    "module__seed": "random_state",
    "module__dtype": "precision",
    "module__working_memory": "working_memory",
    "module__layer_sizes": "hidden_layer_sizes",
}
_CLOSED = {
    "module": "the estimator builds its own; use sklearn_metakan.nn for others",
    "criterion": "use loss",
    "dataset": "tables become tensors that batches are sliced from",
    "iterator_train": "batches are sliced from tensors; use batch_size",
    "iterator_valid": "batches are sliced from tensors; use working_memory",
    "history": "each fit starts a new one; it is kept in net_.history",
    "predict_nonlinearity": "predict and predict_proba apply it",
    "train_split": "use early_stopping and validation_fraction, or X_val and y_val in fit",
    "callbacks": "give the parameter callbacks objects that have their settings",
}


def check_net_params(net_params: dict[str, Any] | None, module_settings: dict[str, Any]) -> None:
    """Raise for keys that a constructor parameter sets, naming that parameter.

    ``module_settings`` are the network's settings that the estimator fills in.
    """
    if net_params is None:
        return
    if not isinstance(net_params, dict):
        raise ValueError(f"net_params must be a dict of skorch parameters, got {net_params!r}.")
    for key in net_params:
        if not isinstance(key, str):
            raise ValueError(f"net_params must have names as keys, got {key!r}.")
        part = key.partition("__")[0]  # "module__..." are settings of the network
        if part in _CLOSED and (part != "module" or key == "module"):
            raise ValueError(f"net_params cannot hold {key!r}: {_CLOSED[part]}.")
        setting = key.removeprefix("module__")
        taken = _TAKEN.get(key) or (
            setting if key != setting and setting in module_settings else None
        )
        if taken:
            raise ValueError(
                f"net_params cannot hold {key!r}: the parameter {taken!r} sets it. Use "
                f"{taken}=... instead."
            )
    check_cuda_graph(net_params.get("cuda_graph", "auto"))


def check_param_groups(net_params: dict[str, Any], parameter_names: list[str]) -> None:
    """Raise if a pattern of the user's parameter groups matches no parameter."""
    for pattern, _ in net_params.get("optimizer__param_groups", []):
        if not any(fnmatch(name, pattern) for name in parameter_names):
            raise ValueError(
                f"optimizer__param_groups: the pattern {pattern!r} matches no parameter. "
                f"There are: {', '.join(parameter_names)}."
            )
