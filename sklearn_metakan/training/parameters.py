"""Constructor parameters that all estimators share: ranges, ``net_params``, docstrings.

The methods that estimators of data and of equations have in common are functions here.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatch
from inspect import cleandoc, signature
from numbers import Integral, Real
from os import PathLike
from textwrap import dedent
from typing import Any, get_args

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.basis import BasisName
from sklearn_metakan.training.execution import LARGE_TABLE

POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
COUNT = Interval(Integral, 1, None, closed="left")
DECAY = Interval(Real, 0, 1e4, closed="both")

WIDTHS: list[Any] = ["array-like", Integral, set, dict]  # check_widths explains what is wrong

SHARED_CONSTRAINTS: dict[str, list[Any]] = {
    "grid_size": [Interval(Integral, 1, 1_000, closed="both")],
    "learning_rate": [str, POSITIVE],  # Trainer explains other strings than "auto"
    "weight_decay": [StrOptions({"auto"}), DECAY],
    "basis": [StrOptions(set(get_args(BasisName)))],
    "degree": [Interval(Integral, 1, 20, closed="both")],
    "learning_rate_schedule": [StrOptions({"constant", "cosine", "exponential", "onecycle"})],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float64", "float32", "tf32", "bf16"})],
    "working_memory": [POSITIVE, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
    "checkpoint_dir": [str, PathLike, None],
    "checkpoint_every": [list, tuple],
    "net_params": [dict, None],
}

META_CONSTRAINTS: dict[str, list[Any]] = {
    "prompt_dim": [Interval(Integral, 1, 10_000, closed="both")],
    "meta_hidden_dim": [Interval(Integral, 0, 10_000, closed="both")],
    "meta_activation": [StrOptions({"relu", "silu", "tanh", "sin"})],
    "edge_scale": ["boolean"],
    "n_meta_learners": [StrOptions({"auto", "layer"}), COUNT],
    "prompt_learning_rate": [POSITIVE, None],
    "meta_learning_rate": [POSITIVE, None],
}

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
    "sparsity": "sparsity",
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

# Our names for what other libraries call otherwise.
_ELSEWHERE = {
    "basis": "activation base_fun kernel",
    "batch_size": "batch minibatch_size",
    "degree": "k order spline_degree spline_order",
    "device": "gpu use_cuda",
    "grid_size": "grid grid_intervals n_grid n_knots num num_grids num_knots",
    "hidden_channels": "channels filters n_filters",
    "hidden_layer_sizes": "hidden hidden_dim hidden_dims hidden_layers hidden_size hidden_sizes "
    "hidden_units layer_sizes layers n_hidden neurons units width widths",
    "learning_rate": "eta learning_rate_init lr step_size",
    "learning_rate_schedule": "lr_schedule lr_scheduler schedule scheduler",
    "loss": "criterion loss_fn objective",
    "max_iter": "epochs iterations max_epochs n_epochs n_iter num_epochs steps",
    "n_iter_no_change": "early_stopping_rounds patience",
    "net_params": "net_kwargs skorch_params",
    "precision": "dtype",
    "random_state": "random_seed seed",
    "scale_inputs": "normalize scaler standardize",
    "solver": "opt optim optimizer",
    "validation_fraction": "val_fraction val_split",
    "sparsity": "l1 lamb sparsity_penalty",
    "weight_decay": "alpha l2 regularization",
}


def refuse_misspelt(cls: type, *args: Any, **params: Any) -> Any:
    """``__new__`` of the estimators: a TypeError for a parameter that there is not."""
    known = signature(cls).parameters
    for name in params.keys() - known.keys():
        if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
            raise TypeError(f"{cls.__name__} has no parameter {name!r}.{suggestion(name, known)}")
    return object.__new__(cls)


def get_params(self: Any, deep: bool = True) -> dict[str, Any]:
    """Parameters by name, those in ``net_params`` as ``net__...`` too if ``deep``."""
    params = BaseEstimator.get_params(self, deep=deep)
    if deep and isinstance(params.get("net_params"), dict):
        params |= {f"net__{key}": value for key, value in params["net_params"].items()}
    return params


def set_params(self: Any, **params: Any) -> Any:
    """Set parameters by name, ``set_params(**params)``; ``net__...`` go into ``net_params``."""
    added = {k.removeprefix("net__"): v for k, v in params.items() if k.startswith("net__")}
    own = {k: v for k, v in params.items() if not k.startswith("net__")}
    known = self.get_params(deep=False)
    for name in own:
        if name.partition("__")[0] not in known:
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {type(self).__name__}."
                f"{suggestion(name, known)} Valid parameters are: {[*known]}."
            )
    BaseEstimator.set_params(self, **own)
    if added:
        self.net_params = (self.net_params or {}) | added
    return self


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'max_iter'?`` for "epochs", or nothing where no known name is like it."""
    names = [*known]
    meant = [ours for ours, others in _ELSEWHERE.items() if name in others.split()]
    close = [ours for ours in meant if ours in names] or get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def module_options(net_params: dict[str, Any] | None) -> dict[str, Any]:
    """The network's settings in net_params, without their prefix."""
    given = (net_params or {}).items()
    return {k[8:]: v for k, v in given if str(k).startswith("module__")}


def check_net_params(net_params: Any, settings: Mapping[str, Any], known: set[str]) -> None:
    """Check the keys of ``net_params``.

    Raises ValueError for keys that a constructor parameter sets, naming that parameter, and for
    unknown ones.

    Parameters
    ----------
    net_params : dict
    settings : mapping
        The network's settings that the estimator fills in.
    known : set of str
        Parameters of the net itself; others must be of its parts, such as ``optimizer__eps``.
    """
    for key in net_params:
        if not isinstance(key, str):
            raise ValueError(f"net_params must have names as keys, got {key!r}.")
        part, _, rest = key.partition("__")  # "module__..." are settings of the network
        if part in _CLOSED and (part != "module" or not rest):
            raise ValueError(f"net_params cannot hold {key!r}: {_CLOSED[part]}.")
        taken = _TAKEN.get(key) or (rest if part == "module" and rest in settings else None)
        if taken:
            raise ValueError(
                f"net_params cannot hold {key!r}: the parameter {taken!r} sets it. Use "
                f"{taken}=... instead."
            )
        if part not in ("module", "optimizer") and key not in known:
            raise ValueError(
                f"net_params cannot hold {key!r}: the net has no such parameter."
                f"{suggestion(key, known)}"
            )


def check_param_groups(net_params: dict[str, Any], parameter_names: list[str]) -> None:
    """Raise a ValueError if a pattern of the user's parameter groups matches no parameter."""
    for pattern, _ in net_params.get("optimizer__param_groups", []):
        if not any(fnmatch(name, pattern) for name in parameter_names):
            raise ValueError(
                f"optimizer__param_groups: the pattern {pattern!r} matches no parameter. "
                f"There are: {', '.join(parameter_names)}."
            )


META = """\
    prompt_dim : int, default=<prompt_dim>
        p, the numbers in an edge's prompt.
    meta_hidden_dim : int, default=<meta_hidden_dim>
        H, hidden units of the meta-learner. 0 is the linear meta-learner: all edges are
        combinations of p learned functions; ``edge_scale`` must then be False.
    meta_activation : {"relu", "silu", "tanh", "sin"}, default="<meta_activation>"
    edge_scale : bool, default=<edge_scale>
        Whether each edge also has a trainable factor.
    n_meta_learners : "auto", "layer" or int, default="<n_meta_learners>"
        One meta-learner for each layer, or so many for clusters of layers of similar output
        width; "auto" is one for the network.
    prompt_learning_rate, meta_learning_rate : float, default=None
        Of prompts (and edge factors) and of meta-learners; None: learning_rate<prompt_rate>."""

META_DECAY = """ A prompt pulled to zero makes its
        edge the meta-learner's default function ``M(0)``."""

PAPER = """\
    Zhao, Shu, Meng, Xu, "Improving Memory Efficiency for Training KANs via Meta Learning",
    ICML 2025, arXiv 2506.07549."""

_TEXTS = {"META": META, "PAPER": PAPER}


def fill_docstring(cls: Any, texts: Mapping[str, str], **values: Any) -> None:
    """Put texts in place of {NAME} in a class's docstring, and values in place of <name> in them.

    Defaults of the constructor, and what "auto" means for the class (its ``_defaults``), are
    such values, so that text and code agree.
    """
    arguments = {name: parameter.default for name, parameter in signature(cls).parameters.items()}
    measured = cls._defaults
    rate = measured.prompt_learning_rate

    def value(of: Callable[[Any], Any]) -> str:
        small, large = (f"{of(each)}" for each in (measured, measured.large or measured))
        return small if small == large else f"{small} (beyond {LARGE_TABLE:,} rows, {large})"

    fewest, most = measured.batch
    of_batch = f' "auto" is {most}'
    if fewest < most:
        of_batch += f""", but on small tables the
        power of two from {fewest} on that makes 16 steps a pass at most; ``partial_fit``: {most}"""
    of_prompts = f',\n        but {rate} for prompts of a linear meta-learner where that is "auto"'
    values = {
        **arguments,
        "widths": value(lambda each: each.widths),
        "adamw_learning_rate": value(lambda each: each.learning_rate),
        "adamw_weight_decay": value(lambda each: each.weight_decay),
        "passes": value("{0.steps:,} steps, from {0.passes[0]} to {0.passes[1]} passes".format),
        "auto_batch": f"{of_batch}.",
        "meta_decay": META_DECAY if "prompt_dim" in arguments else "",
        "prompt_rate": "" if rate is None else of_prompts,
        **values,
    }
    filled = cleandoc(cls.__doc__ or "")  # as Python 3.13 and later have it anyway
    for name, text in (_TEXTS | dict(texts)).items():
        if f"{{{name}}}" in filled:
            for key, value in values.items():
                text = text.replace(f"<{key}>", str(value))
            filled = filled.replace(f"{{{name}}}", dedent(text))
    cls.__doc__ = filled
