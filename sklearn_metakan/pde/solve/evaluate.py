"""A solver's quantities at points, in blocks of rows, of one network or of several."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_metakan.pde.domains.domain import CLOSED, Domain
from sklearn_metakan.pde.physics.physics import Physics
from sklearn_metakan.pde.solve.problem import in_order
from sklearn_metakan.training import by_chunks, memory_for_rows, warn_caller

_COPIES = 4  # of a row's channels that are alive at a time

Quantity = Callable[[Any, Tensor], Tensor]


def evaluated(solver: Any, X: Any, channels: int, quantity: Quantity) -> NDArray[Any]:
    """``quantity(solver, points)`` in X's dtype, a chunk of rows at a time, without a graph.

    ``channels`` is how many derivatives travel with a row, for the size of the chunks. Of parts of
    time each row has that of its own; of several modes the last axis has all of them.
    """
    check_is_fitted(solver)
    X = in_order(X, solver._problem.variables)
    with np.errstate(over="ignore", invalid="ignore"):  # of a sum of large numbers
        X = validate_data(solver, X, reset=False, dtype=[np.float64, np.float32])
    if solver.outside != "ignore":
        report_outside(solver.domain_, X, solver.outside == "error")
    return _evaluated(solver, X, channels, quantity)


def _evaluated(solver: Any, X: NDArray[Any], channels: int, quantity: Quantity) -> NDArray[Any]:
    memory = memory_for_rows(solver)
    if len(modes := vars(solver).get("modes_", [])) > 1:
        return np.stack([_evaluated(mode, X, channels, quantity) for mode in modes], -1)
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
            its = _evaluated(part, X[rows], channels, quantity)
            found = np.empty((len(X), *its.shape[1:]), X.dtype) if found is None else found
            found[rows] = its
    assert found is not None
    return found


def report_outside(domain: Domain, X: NDArray[Any], refuse: bool) -> None:
    """Warn of points outside a domain, or raise: how many they are, and which is the farthest.

    Far is relative to the widths of the domain's bounds; in holes all are as far.
    """
    if not domain.knows_inside or not len(X):
        return
    low, high = np.asarray(domain.bounds, dtype=float).T
    width = np.where(high > low, high - low, 1.0)
    rounding = np.finfo(X.dtype).eps * (np.maximum(abs(low), abs(high)) / width).max()
    points = torch.as_tensor(np.array(X, dtype=np.float64))
    out = ~domain.contains(points, max(CLOSED, float(rounding))).numpy()
    if not out.any():
        return
    beyond = np.maximum(np.maximum(low - X, X - high), 0) / width
    far = np.where(out, beyond.max(1), -1.0)
    row = int(far.argmax())
    where = "within its bounds"
    if far[row] > 0:
        where = f"{far[row]:.2g} of its width beyond its bounds"
    text = (
        f"{out.sum()} of {len(X)} points lie outside the domain, the farthest, {X[row].tolist()} "
        f"in row {row}, {where}. Nothing was solved there"
    )
    if refuse:
        raise ValueError(f"{text}: outside='error' forbids them.")
    warn_caller(f"{text}; outside='ignore' says nothing.", UserWarning)


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


def relative_error(points: Tensor, known: Tensor, physics: Physics) -> float:
    """``|u - known| / |known|``."""
    with torch.no_grad():
        found = physics.trial(points)
    return float((found - known).norm() / known.norm())
