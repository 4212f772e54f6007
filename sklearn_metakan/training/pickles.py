"""Nets in pickles: arrays, plain lists and names, with a format and a checksum."""

from inspect import signature
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import nn

from sklearn_metakan.training.execution import Execution
from sklearn_metakan.training.net import KANNet

_FORMAT = 1  # of pickles
# Parameters that there were not when the first ones of this format were written.
_YOUNGER: dict[str, Any] = {"n_estimators": 1, "time_limit": None}
_YOUNGER |= {"solver": "auto", "ssbfgs_iter": 0, "ssbroyden_iter": 0, "tol": 0.0, "windows": 1}


def packed_net(net: KANNet) -> dict[str, Any]:
    """A net as arrays, plain lists and names, without torch's types, for a pickle."""
    numbers = net.module_.state_dict()
    parameters = {name: value.detach().cpu().numpy() for name, value in numbers.items()}
    return {
        "format": _FORMAT,
        "parameters": parameters,
        "checksum": _checksum(parameters),
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
        "execution": net.execution_.packed(),
    }


def unpacked_net(packed: dict[str, Any], module: nn.Module, net_type: type = KANNet) -> Any:
    """A net over a module of the same shape, without an optimiser that could go on.

    Raises
    ------
    ValueError
        For a pickle of another format, or one whose numbers were altered.
    """
    if packed["format"] != _FORMAT:
        raise ValueError(
            f"The pickle has format {packed['format']}, but this version reads {_FORMAT}; load it "
            "with the version that wrote it."
        )
    if _checksum(packed["parameters"]) != packed["checksum"]:
        raise ValueError("The pickle is damaged: its numbers have another checksum.")
    execution = Execution.unpacked(packed["execution"])
    net = net_type(module, criterion=nn.MSELoss, device=execution.device, verbose=0)
    net.initialize()
    net.module_.load_state_dict({k: torch.tensor(v) for k, v in packed["parameters"].items()})
    net.module_.eval()
    for row in packed["history"]:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)
    net.execution_, net.asked_ = execution, {}
    return net


def getstate(self: Any) -> dict[str, Any]:
    """``__getstate__`` of the estimators, with ``net_`` as arrays and names."""
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
    state = dict(state)
    packed = state.pop("_net", None)
    if packed is not None:
        dtype = getattr(torch, state["_network"]["dtype"].removeprefix("torch."))
        state["_network"] = state["_network"] | {"dtype": dtype}
    younger = {k: v for k, v in _YOUNGER.items() if k in signature(type(self)).parameters}
    if "n_estimators" in younger and "_fixed" in state:
        state["_fixed"] = {"n_estimators": 1} | state["_fixed"]
    BaseEstimator.__setstate__(self, younger | state)
    if packed is not None:
        self.net_ = unpacked_net(packed, self._unpacked_module(), self._net_type)


def _checksum(parameters: dict[str, NDArray[Any]]) -> int:
    found = 0
    for name, value in sorted(parameters.items()):
        found = crc32(np.ascontiguousarray(value).tobytes(), crc32(name.encode(), found))
    return found
