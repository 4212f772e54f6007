"""A solver's quantities at points, in blocks of rows, of one network or of several."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_metakan.pde.solve.problem import in_order
from sklearn_metakan.training import by_chunks, memory_for_rows

_COPIES = 4  # of a row's channels that are alive at a time

Quantity = Callable[[Any, Tensor], Tensor]


def evaluated(solver: Any, X: Any, channels: int, quantity: Quantity) -> NDArray[Any]:
    """``quantity(solver, points)`` in X's dtype, a chunk of rows at a time, without a graph.

    ``channels`` is how many derivatives travel with a row, for the size of the chunks. Of parts of
    time each row has that of its own; of several modes the last axis has all of them.
    """
    check_is_fitted(solver)
    memory = memory_for_rows(solver)
    X = in_order(X, solver._problem.variables)
    X = validate_data(solver, X, reset=False, dtype=[np.float64, np.float32])
    if len(modes := vars(solver).get("modes_", [])) > 1:
        return np.stack([evaluated(mode, X, channels, quantity) for mode in modes], -1)
    if windows := vars(solver).get("windows_"):
        return _by_window(X, windows, solver.working_memory, channels, quantity)
    network: Any = solver.module_.network
    widest = max(layer.in_features for layer in network.kan_layers())
    rows = max(1, int(memory / (8 * _COPIES * (channels + 2) * widest)))
    chunks: dict[int, NDArray[Any]] = {}

    def compute(chunk: slice) -> None:
        found = quantity(solver, solver._points(X[chunk]))
        chunks[chunk.start] = found.double().cpu().numpy()

    with torch.no_grad(), solver._execution.active():
        by_chunks(len(X), rows, compute)
    with np.errstate(over="ignore"):
        found = np.concatenate([chunks[start] for start in sorted(chunks)]).astype(X.dtype)
    _check_finite(solver, X, found)
    return found


def _by_window(
    X: NDArray[Any], windows: Sequence[Any], memory: float | None, channels: int, quantity: Quantity
) -> NDArray[Any]:
    ends = [part.domain_.bounds[-1, 1] for part in windows[:-1]]
    places, found = np.searchsorted(ends, X[:, -1]), None
    for number, part in enumerate(windows):
        rows = places == number
        if rows.any():
            part.working_memory = memory
            its = evaluated(part, X[rows], channels, quantity)
            found = np.empty((len(X), *its.shape[1:]), X.dtype) if found is None else found
            found[rows] = its
    assert found is not None
    return found


def _check_finite(solver: Any, X: NDArray[Any], found: NDArray[Any]) -> None:
    """Raise for points so far outside that the network has no value there."""
    bad = ~np.isfinite(found.reshape(len(X), -1)).all(1)
    if bad.any():
        low, high = solver._problem.bounds.T
        bad &= ((low > X) | (high < X)).any(1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"X must lie in the domain or near it: at {X[row].tolist()}, row {row}, the result "
            f"is no finite number of {str(solver._execution.dtype).removeprefix('torch.')}."
        )
