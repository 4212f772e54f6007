"""Training that goes on needs the network that it began with."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import nn

from sklearn_metakan.nn import KANNetwork

_FREE = {"backend", "init"}  # options of the module that may change at any time


def check_unchanged(settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise a ValueError for the first setting whose values then and now differ."""
    for name, (then, now) in settings.items():
        if then != now:
            raise ValueError(
                f"Training that goes on (warm_start, partial_fit) cannot change {name} from "
                f"{then!r} to {now!r}; call fit with warm_start=False."
            )


def module_options(
    module: nn.Module, then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Values then and now of options in net_params, by name; those not given are the defaults."""
    network = next(part for part in module.modules() if isinstance(part, KANNetwork))
    known = signature(type(network)).parameters
    defaults = {name: parameter.default for name, parameter in known.items()}
    return {
        f"net_params['module__{name}']": tuple(
            given.get(name, defaults.get(name)) for given in (then, now)
        )
        for name in sorted(({*then} | {*now}) - _FREE)
    }
