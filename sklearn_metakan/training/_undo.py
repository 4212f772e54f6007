"""A net that trains on, and stays as it was if that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from skorch import NeuralNet


@contextmanager
def kept_on_error(net: NeuralNet) -> Iterator[None]:
    """Put weights, optimiser and history back if the block raises.

    A net that has no history yet is left as it is; nobody has used it.
    """
    epochs = len(net.history)
    if not epochs:
        yield
        return
    weights = deepcopy(net.module_.state_dict())
    optimizer = deepcopy(net.optimizer_.state_dict())
    try:
        yield
    except BaseException:
        net.module_.load_state_dict(weights)
        net.optimizer_.load_state_dict(optimizer)
        del net.history[epochs:]
        raise
