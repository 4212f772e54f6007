"""Rows that were read, and parts of estimators that are fitted to them."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Rows(NamedTuple):
    """Rows of a validated table, without a copy of it.

    Attributes
    ----------
    X : ndarray of shape (n_table, d)
        The whole table.
    index : ndarray of shape (n,) or None
        Which of its rows count; None: all of them.
    y : ndarray of shape (n, ...)
        Their encoded targets.
    weight : ndarray of shape (n,) or None
        Their weights; None: one each.
    unit : float
        What the weights were divided by.
    counts : bool ndarray of shape (n, n_members) or None
        Which rows count for which member of a network; None: all for all.
    within : ndarray of shape (n,) or None
        Which of the training rows these are, if they are among them.
    """

    X: NDArray[Any]
    index: NDArray[np.intp] | None  # type: ignore[assignment]
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    unit: float = 1.0
    counts: NDArray[np.bool_] | None = None
    within: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def chosen(self, rows: slice = slice(None)) -> NDArray[Any]:
        """Some of the rows of X, by default all that count."""
        return self.X[rows] if self.index is None else self.X[self.index[rows]]

    def facts(self, ending: str) -> dict[str, Any]:
        """Its arrays by their names in ``fit``."""
        found = {"X": self.X, "y": self.y, "sample_weight": self.weight, "rows of": self.index}
        return {f"{name}{ending}": array for name, array in found.items()}

    def column(self, j: int) -> NDArray[np.float64]:
        """One column of the rows that count."""
        column = self.X[:, j] if self.index is None else self.X[self.index, j]
        return column.astype(np.float64)

    def take(self, rows: NDArray[np.intp]) -> "Rows":
        """Some of them; weights have mean one again."""
        weight = None if self.weight is None else self.weight[rows]
        weight = None if weight is None else weight / weight.mean()
        index = rows if self.index is None else self.index[rows]
        return Rows(self.X, index, self.y[rows], weight, self.unit)

    def split_by(
        self, splits: Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]], n_members: int
    ) -> tuple["Rows", "Rows"]:
        """All rows, with which of them each member trains on, and those held out by some.

        ``splits`` has each member's rows of training and of validation.
        """
        trains = np.zeros((len(self), n_members), dtype=bool)
        out = np.zeros_like(trains)
        for member, (train, held_out) in enumerate(splits):
            trains[train, member] = True
            out[held_out, member] = True
        some = np.flatnonzero(out.any(1))
        return Rows(*self[:5], trains), Rows(*self.take(some)[:5], out[some], some)


def rows_that_count(
    X: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None, unit: float | None = None
) -> Rows:
    """Rows of positive weight; weights in this unit, by default their mean.

    Raises
    ------
    ValueError
        If no row counts, or weights in this unit cannot be held.
    """
    if weight is None:
        if unit in (None, 1.0):
            return Rows(X, None, y, None)
        weight = np.ones(len(y))
    index = np.flatnonzero(weight)
    if not len(index):
        raise ValueError(
            "sample_weight, times class_weight where there is one, is zero for every row; "
            "at least one must count."
        )
    weight = weight[index]
    if unit is None:
        largest = weight.max()
        unit = float(largest * (weight / largest).mean())  # a sum might overflow
    with np.errstate(over="ignore"):
        weight = weight / unit
    if not np.isfinite(weight).all():
        raise ValueError("sample_weight is too large beside the weights of the first call.")
    every = len(index) == len(y)
    return Rows(X, None if every else index, y[index], weight, unit)


class FittedModule(nn.Module):
    """A part of an estimator: a torch module whose buffers ``fit`` sets; pickled as arrays."""

    def set_buffers(self, **arrays: Any) -> None:
        """Arrays under these names, numbers in float64."""
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def __getstate__(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in vars(nn.Module())}
        return own | {"buffers": {k: v.cpu().numpy() for k, v in self.named_buffers()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__init__(self)
        buffers = state["buffers"]
        vars(self).update({k: v for k, v in state.items() if k != "buffers"})
        self.set_buffers(**buffers)

    def fit(self, rows: Rows) -> Self:
        raise NotImplementedError
