"""Estimators in files: which parts are stored, which are given again, and what is checked."""

import os
import platform
import sys
import warnings
from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from torch.overrides import TorchFunctionMode

from sklearn_metakan.files import (
    Codec,
    FileError,
    Opened,
    UnstorableError,
    check_attributes,
    write,
)
from sklearn_metakan.training.execution import choose_device
from sklearn_metakan.training.pickles import plain_state, set_plain, unpacked_net

# Packages by module; what is on the path alone has no metadata.
_PACKAGES = {"sklearn_metakan": "sklearn_metakan", "torch": "torch", "sklearn": "scikit-learn"}
_PACKAGES |= {name: name for name in ("skorch", "numpy", "safetensors")}
# Estimators that an estimator consists of, one after the other.
PARTS = ("windows_", "modes_")
_LAYERS = {"layer_sizes", "hidden_channels"}
_SIZES = {"grid_size", "degree", "kernel_size", "prompt_dim", "meta_hidden_dim"}  # have bounds
# Parameters that hold what is no value, and what to do about them.
_REMEDIES = {
    "callbacks": "set_params(callbacks=None) before, and set them again after loading",
    "random_state": "set_params(random_state=0), or another whole number, before",
    "scoring": "set_params(scoring=None) before: predictions do not need it",
    "validation_split": "set_params(validation_split=None) before: predictions do not need it",
}


def save(self: Any, path: str | os.PathLike[str]) -> None:
    """Write the estimator to a file that ``sklearn_metakan.load`` reads.

    The file is one of safetensors: arrays, and a JSON header with everything else, both with
    checksums. It holds no code, and none is run in loading. It is written at once: after a crash
    or on a full disk, what was there before is still there. Like a pickle it holds no optimiser:
    training that goes on starts with a fresh one.

    Parameters
    ----------
    path : str or path-like
        Overwritten if it is there. ".safetensors" is a good ending.

    Raises
    ------
    ValueError
        For a parameter that a file cannot hold, naming it: callbacks, generators, functions.
        Functions that say what an equation is, ``augment`` and ``loss``, are left out and given
        again: ``load(path, residual=...)``.
    OSError
        If the file cannot be written.
    """
    kind = type(self)
    if not kind.__module__.startswith("sklearn_metakan."):
        raise ValueError(
            f"save knows the estimators of sklearn_metakan alone, and {kind.__name__} is another "
            "class. Use pickle or joblib."
        )
    left_out = _left_out(self)
    kept = next((name for name in PARTS if name in vars(self)), PARTS[0])
    parts = vars(self).get(kept, [])
    codec = Codec(kind._stored_types, left_out | {kept: parts})
    try:
        state, *of_parts = [
            {
                name: codec.encode(value, f"{start}{name}")
                for name, value in plain_state(each).items()
                if name != kept
            }
            for start, each in [("", self), *((f"{kept}.{i}.", p) for i, p in enumerate(parts))]
        ]
    except UnstorableError as error:
        raise ValueError(_refusal(kind, str(error))) from error
    header = {"class": kind.__name__, "versions": _versions(), "given": [*left_out], "state": state}
    more = {"parts": of_parts, "parts_are": kept} if parts else {}
    write(path, header | more, codec.arrays)


def restore(
    kind: type[Any],
    opened: Opened,
    device: str | torch.device | None,
    functions: Mapping[str, Any],
) -> Any:
    """An estimator of this class from an opened file, checked before and tried after."""
    header = opened.header
    wanted, state = header.get("given"), header.get("state")
    if not isinstance(wanted, list) or not isinstance(state, dict):
        raise FileError(f"{opened.path} is damaged: its header has no state.")
    _check_functions(kind, opened.path, wanted, functions)
    if device is not None:
        choose_device(device)  # a wrong one is no damage of the file
    of_parts, parts = header.get("parts", []), list[Any]()
    kept = header.get("parts_are", PARTS[0])
    fine = isinstance(of_parts, list) and all(isinstance(each, dict) for each in of_parts)
    if not fine or kept not in PARTS:
        raise FileError(f"{opened.path} is damaged: its parts are no states.")
    codec = Codec(kind._stored_types, {**functions, kept: parts})
    for each in [*of_parts, state]:  # each may refer to those before
        decoded = {name: codec.decode(value, opened.take) for name, value in each.items()}
        parts.append(_made(kind, opened.path, decoded, device))
    opened.close()
    made = parts.pop()
    if parts:
        vars(made)[kept] = parts
    return made


def _made(
    kind: type[Any], path: str, decoded: dict[str, Any], device: str | torch.device | None
) -> Any:
    """An estimator of what was decoded, tried out."""
    _check_names(kind, path, decoded)
    made: Any = object.__new__(kind)
    try:
        if device is not None:
            decoded["device"] = device
            if "_net" in decoded:
                decoded["_net"]["execution"]["device"] = str(choose_device(device))
        packed = set_plain(made, decoded)
        if packed is not None:
            _check_network(made, packed["parameters"])
            made.net_ = unpacked_net(packed, made._unpacked_module(), kind._net_type)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made._try_out()
    except Exception as error:  # whatever contradictory parts lead to
        raise FileError(
            f"{path} is damaged: its parts make no {kind.__name__} ({error})."
        ) from error
    return made


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for module, name in _PACKAGES.items():
        if module in sys.modules:
            versions[name] = str(sys.modules[module].__version__)
    return versions


def _left_out(estimator: Any) -> dict[str, Any]:
    """Parameters that are functions, or have some inside, of those that may be given again."""
    found = {}
    for name in type(estimator)._given_again:
        value = getattr(estimator, name, None)
        try:
            Codec(type(estimator)._stored_types).encode(value)
        except UnstorableError:
            found[name] = value
    return found


def _refusal(kind: type[Any], reason: str) -> str:
    name = reason.replace("[", " ").replace(".", " ").split()[0]
    remedy = _REMEDIES.get(name, "use pickle or joblib")
    if name in kind._given_again or name.startswith("_"):
        remedy = f"pass it to {kind.__name__}(...), from where it can be given again to load"
    return f"{kind.__name__} cannot be saved: {reason}, which a file cannot hold; {remedy}."


def _check_functions(
    kind: type[Any], path: str, wanted: list[str], functions: Mapping[str, Any]
) -> None:
    for name in wanted:
        if name not in kind._given_again:
            raise FileError(f"{path} is damaged: {kind.__name__} stores its {name!r}.")
    missing = [name for name in wanted if name not in functions]
    if missing:
        needed = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(
            f"{path} does not hold everything of the {kind.__name__}: {', '.join(missing)} of it "
            "are functions, or have some inside. Give what the constructor was given: "
            f"load({path!r}, {needed})."
        )
    for name in functions:
        if name not in wanted:
            raise ValueError(f"{path} holds {name!r} itself, or has none; load takes {wanted}.")


def _check_names(kind: type[Any], path: str, state: dict[str, Any]) -> None:
    parameters = signature(kind).parameters
    fitted = [name for name in state if name not in parameters and name != "_net"]
    check_attributes(kind, fitted)
    for name in fitted:
        fits = name.startswith("_") or name.endswith("_")
        if not fits or name == "_by_value":  # of pickles
            raise FileError(f"{path} is damaged, or newer: {kind.__name__} has no {name!r}.")
    for name, parameter in parameters.items():
        if name not in state:
            if parameter.default is parameter.empty:
                raise FileError(f"{path} is damaged: it lacks the parameter {name!r}.")
            state[name] = parameter.default


class _NoMemory(TorchFunctionMode):
    """Within it, what modules make for their parameters has shape and dtype alone."""

    makers = (torch.empty, torch.empty_like, torch.ones, torch.zeros)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "meta"} if func in self.makers else kwargs))


def _check_network(estimator: Any, parameters: Mapping[str, NDArray[Any]]) -> None:
    """Raise unless names, shapes and dtypes of the numbers are those of the network."""
    kind, settings = type(estimator), estimator._network
    known = kind._parameter_constraints
    ranges = {k: [r for r in known[k] if isinstance(r, Interval)] for k in _SIZES & {*settings}}
    sizes = {name: settings[name] for name in ranges}
    for name in _LAYERS & {*settings}:  # before modules are made of them
        if len(settings[name]) > len(parameters) + 2:
            raise ValueError(f"it has numbers for fewer layers than {name} says")
    validate_parameter_constraints(ranges, sizes, caller_name=kind.__name__)
    with _NoMemory():
        network = kind._make_network(**settings | {"init": None})
    wanted = {f"{kind._of_network}{name}": value for name, value in network.state_dict().items()}
    found = {name for name in parameters if name.startswith(kind._of_network)}
    for name in wanted.keys() ^ found:
        raise ValueError(f"its network and its numbers differ in {name!r}")
    for name, value in wanted.items():
        asked = [*value.shape], str(value.dtype).removeprefix("torch.")
        if asked != ([*parameters[name].shape], str(parameters[name].dtype)):
            raise ValueError(f"{name!r} should have the shape and dtype {asked}")
