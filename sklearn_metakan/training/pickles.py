"""Nets in pickles: arrays, plain lists and names, with a format and a checksum."""

import pickle
from collections.abc import Callable
from typing import Any
from zlib import crc32

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import nn

from sklearn_metakan.training.callbacks import warn_caller
from sklearn_metakan.training.execution import Execution, dtype_of
from sklearn_metakan.training.net import KANNet
from sklearn_metakan.training.optimisers import AdamW

_FORMAT = 2  # of pickles


def packed_net(net: KANNet) -> dict[str, Any]:
    """A net as arrays, plain lists and names, without torch's types, for a pickle."""
    numbers = net.module_.state_dict()
    parameters = {name: value.detach().cpu().numpy() for name, value in numbers.items()}
    return {
        "format": _FORMAT,
        "parameters": parameters,
        "checksum": _checksum(parameters),
        "history": history_rows(net),
        "execution": net.execution_.packed(),
    }


def unpacked_net(packed: dict[str, Any], module: nn.Module, net_type: type = KANNet) -> Any:
    """A net over a module of the same shape, without an optimiser that could go on.

    Raises ValueError for a pickle of another format, or one whose numbers were altered.
    """
    if packed["format"] != _FORMAT:
        raise ValueError(
            f"The pickle has format {packed['format']}, but this version reads {_FORMAT}; load it "
            "with the version that wrote it."
        )
    if _checksum(packed["parameters"]) != packed["checksum"]:
        raise ValueError("The pickle is damaged: its numbers have another checksum.")
    execution = Execution.unpacked(packed["execution"])
    made_with = {"criterion": nn.MSELoss, "optimizer": AdamW, "device": execution.device}
    net = net_type(module, **made_with, verbose=0)
    net.initialize()
    net.module_.load_state_dict({k: torch.tensor(v) for k, v in packed["parameters"].items()})
    net.module_.eval()
    extend_history(net, packed["history"])
    net.execution_, net.asked_ = execution, {}
    return net


def history_rows(net: KANNet) -> list[dict[str, Any]]:
    """What was recorded of each epoch, without that of batches."""
    return [{k: v for k, v in row.items() if k != "batches"} for row in net.history]


def extend_history(net: KANNet, rows: list[dict[str, Any]]) -> None:
    """The inverse."""
    for row in rows:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)


def getstate(self: Any) -> dict[str, Any]:
    """``__getstate__`` of the estimators: a state that pickle can take."""
    return _portable(plain_state(self), type(self).__name__)


def plain_state(self: Any) -> dict[str, Any]:
    """All of an estimator, with ``net_`` as arrays and names."""
    state = dict(BaseEstimator.__getstate__(self))
    state.pop("callbacks_", None)  # they may hold anything, such as the data
    if "net_" in state:
        net = state.pop("net_")
        state["_net"] = packed_net(net)
        state["_network"] = self._network | {"dtype": str(net.execution_.dtype)}
    return state


def setstate(self: Any, state: dict[str, Any]) -> None:
    """``__setstate__`` of the estimators, which make their module by ``_unpacked_module``.

    The net is good for predictions; training again makes a new one first (see Trainer.asked).
    """
    packed = set_plain(self, state)
    if packed is not None:
        self.net_ = unpacked_net(packed, self._unpacked_module(), self._net_type)


def set_plain(self: Any, state: dict[str, Any]) -> Any:
    """Set all but the net, which is returned as it was packed, or None."""
    state = dict(state)
    given = state.pop("_by_value", {})
    state |= given.held if isinstance(given, _ByValue) else given
    packed = state.pop("_net", None)
    if packed is not None:
        state["_network"] = state["_network"] | {"dtype": dtype_of(state["_network"]["dtype"])}
    BaseEstimator.__setstate__(self, state)
    return packed


class _ByValue:
    """What pickle takes by name alone, such as lambdas; in pickles it is what cloudpickle makes."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.held = held

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (cloudpickle.dumps(self.held),)


def _portable(state: dict[str, Any], name: str) -> dict[str, Any]:
    """A state that pickle can take, whatever callbacks and parameters hold.

    Callbacks that cannot be pickled in any way are left out of a fitted estimator, with a warning.

    Raises PicklingError for other parameters of that kind, naming them.
    """
    given = {key: value for key, value in state.items() if key != "_net"}
    if _fault(pickle.dumps, given) is None:
        return state
    for key, value in given.items():
        fault = _fault(cloudpickle.dumps, value)
        if fault is None:
            continue
        if key != "callbacks" or "_net" not in state:
            raise pickle.PicklingError(
                f"{name} cannot be pickled with its {key}: {fault}. Set another value before, "
                f"such as set_params({key}=None)."
            ) from fault
        given[key] = None
        warn_caller(f"The copy of {name} has callbacks=None: {fault}.", UserWarning)
    return {k: v for k, v in state.items() if k == "_net"} | {"_by_value": _ByValue(given)}


def _fault(dump: Callable[[Any], bytes], value: Any) -> Exception | None:
    """Why a value cannot be pickled, if so."""
    try:
        dump(value)
    except Exception as error:
        return error
    return None


def _checksum(parameters: dict[str, NDArray[Any]]) -> int:
    found = 0
    for name, value in sorted(parameters.items()):
        found = crc32(np.ascontiguousarray(value).tobytes(), crc32(name.encode(), found))
    return found
