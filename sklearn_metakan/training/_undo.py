"""What stays as it was if training fails: a net that trains on, an estimator's attributes."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

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


@contextmanager
def attributes_kept_on_error(thing: Any) -> Iterator[None]:
    """Put back every attribute of an object if the block raises."""
    before = thing.__dict__.copy()
    try:
        yield
    except BaseException:
        thing.__dict__.clear()
        thing.__dict__.update(before)
        raise
