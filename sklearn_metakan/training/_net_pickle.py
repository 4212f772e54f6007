"""A net as arrays and plain lists, and back."""

from typing import Any

import torch
from skorch import NeuralNet


def packed_net(net: NeuralNet) -> dict[str, Any]:
    """Numbers of the module and the history of epochs, without torch's types."""
    numbers = net.module_.state_dict()
    return {
        "parameters": {name: value.detach().cpu().numpy() for name, value in numbers.items()},
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
    }


def unpack_into(net: NeuralNet, state: dict[str, Any]) -> None:
    """Put them into a net of the same shape."""
    parameters = {name: torch.tensor(value) for name, value in state["parameters"].items()}
    net.module_.load_state_dict(parameters)
    for row in state["history"]:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)
