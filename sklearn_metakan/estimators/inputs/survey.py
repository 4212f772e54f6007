"""Stored tables in estimators: what one pass tells of them, and their rows as numbers."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.estimators.inputs.columns import ColumnReader
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.stored import StoredTable, joined, take
from sklearn_metakan.training import PRESENT, StoredData

MOST_SAMPLED = 2**16  # rows


class StoredRows:
    """A stored table as validated numbers: what stands for X where X is an array otherwise.

    Parameters
    ----------
    table : StoredTable
    estimator : KANEstimator
        Whose inputs know columns and levels.
    sample : Rows, optional
        Rows that stand for all in what is fitted to them.
    """

    def __init__(self, table: StoredTable, estimator: Any, sample: Rows | None = None) -> None:
        self.table, self.estimator, self.sample = table, estimator, sample
        self.shape = len(table), table.n_columns
        self._held = -1, np.empty((0, 0))  # the block that was read last
        first = int(np.diff(table.starts).argmax())
        self.dtype = self._block(first).dtype if sample is None else sample.X.dtype

    def __len__(self) -> int:
        return len(self.table)

    def _block(self, i: int) -> NDArray[Any]:
        number, block = self._held
        if number != i:
            block = self.estimator._validated(self.table.block(i))
            self._held = i, block
        return block

    def __getitem__(self, rows: slice | int | NDArray[np.intp]) -> NDArray[Any]:
        """Rows in rising order; one as (d,)."""
        if isinstance(rows, int | np.integer):
            return self[slice(int(rows), int(rows) + 1)][0]
        places = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        starts = self.table.starts
        ends = np.searchsorted(places, starts)
        found = [
            self._block(i)[places[a:b] - starts[i]]
            for i, (a, b) in enumerate(pairwise(ends))
            if a < b
        ]
        return np.concatenate(found) if found else np.empty((0, self.shape[1]), self.dtype)

    def data(
        self, rows: Rows, tensor: Any, y: Tensor, weight: Tensor | None, counts: Tensor | None
    ) -> StoredData:
        """Of these rows, for training: ``tensor(rows)`` are the network's inputs."""

        starts = self.table.starts
        if rows.index is not None:
            starts = np.searchsorted(rows.index, starts)
        blocks = [slice(a, b) for a, b in pairwise(starts) if a < b]
        held = int(self.table.memory * 2**20 / 2)
        return StoredData(rows.made_by(tensor), blocks, held, y, weight, counts, PRESENT.get())


def check_can_be_read_by_parts(estimator: Any) -> None:
    """Raise a TypeError or a ValueError for what cannot be trained on a stored table."""
    if estimator._inputs_type.of_images:
        raise TypeError(
            f"{type(estimator).__name__} takes no StoredTable; pass a numpy.memmap of images, "
            "which is read as batches need it."
        )
    if estimator.solver != "adamw":
        raise ValueError(
            f"solver={estimator.solver!r} needs all rows at once, which a StoredTable does not "
            "hold. Set solver='adamw', or fit to table.read() of some rows."
        )


def by_parts(estimator: Any, rows: Rows, reset: bool) -> Rows:
    """Rows whose X is a stored table, which is not read as a whole, as validated numbers.

    With ``reset``, one pass over the table finds what scaling and levels are fitted to.
    """
    whole: Any = rows.X
    table: StoredTable = whole
    sample = None
    if reset:
        counting = table if rows.index is None else table[rows.index]
        columns, name = estimator.categorical_features, type(estimator).__name__
        positions, shares, raw = _survey(counting, columns, name)
        X = estimator._validated(raw, reset=True)
        of_rows = shares if rows.weight is None else shares * rows.weight[positions]
        mean = of_rows.mean()
        sample = Rows(X, None, rows.y[positions], of_rows / mean, rows.unit * mean)
    stands_for_x: Any = StoredRows(table, estimator, sample)
    return Rows(stands_for_x, *rows[1:])


def _survey(
    table: StoredTable, categorical_features: Any, name: str
) -> tuple[NDArray[np.intp], Any, Any]:
    """Rows that show a table: some at random, and those with extremes, gaps and levels.

    One pass, in which each of the processes that train together reads some of the blocks.
    Returned are their positions, of how many rows each speaks, and they themselves.
    """
    n, d = table.shape
    most = min(MOST_SAMPLED, max(256, int(table.memory * 2**20 / 4 / (8 * d))))
    drawn = np.arange(n)
    if n > most:
        drawn = np.sort(np.random.default_rng(0).choice(n, most, replace=False))
    reader = ColumnReader(categorical_features)
    bounds = _Bounds(d)
    kept: list[tuple[NDArray[np.intp], Any]] = []
    ranks, starts = PRESENT.get(), table.starts
    blocks = np.flatnonzero(np.diff(starts))
    for i in blocks if ranks is None else blocks[ranks.span(len(blocks))]:
        start, stop = starts[i : i + 2]
        raw = table.block(i)
        X = np.asarray(reader.read(raw, name, reset=not kept), dtype=np.float64)
        told = bounds.look(X, start, raw, reader)
        own = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, stop)]
        chosen = np.union1d(own, told).astype(np.intp)
        kept.append((chosen, take(raw, chosen - start)))
    if ranks is not None:
        (kept, bounds), *others = ranks.gathered((kept, bounds))
        for more, theirs in others:
            kept.extend(more)
            bounds.join(theirs)
    speaking = np.union1d(drawn, bounds.rows())
    found = [(p[m], take(raw, m)) for p, raw in kept if (m := np.isin(p, speaking)).any()]
    positions = np.concatenate([p for p, _ in found])
    whole = joined([raw for _, raw in found])
    at_random = np.isin(positions, drawn)
    shares = np.where(at_random, (n - np.count_nonzero(~at_random)) / len(drawn), 1.0)
    return positions, shares, whole


class _Bounds:
    """Rows that hold the smallest and the largest number of each column, a gap, each level."""

    def __init__(self, d: int) -> None:
        self.least, self.most = np.full(d, np.inf), np.full(d, -np.inf)
        self.where = np.full((3, d), -1, dtype=np.intp)  # smallest, largest, missing
        self.levels: dict[int, dict[Any, int]] = {}

    def look(
        self, X: NDArray[np.float64], start: int, raw: Any, reader: ColumnReader
    ) -> NDArray[np.intp]:
        """Positions of those rows of a block that begins at ``start``."""
        before = self.where.copy()
        missing = np.isnan(X)
        columns = np.arange(X.shape[1])
        for which, (bound, fill, find) in enumerate(
            [(self.least, np.inf, np.argmin), (self.most, -np.inf, np.argmax)]
        ):
            filled = np.where(missing, fill, X)
            rows = find(filled, axis=0)
            values = filled[rows, columns]
            better = values < bound if which == 0 else values > bound
            bound[better], self.where[which, better] = values[better], start + rows[better]
        gap = missing.any(0) & (self.where[2] < 0)
        self.where[2, gap] = start + missing.argmax(0)[gap]
        told = [*self.where[self.where != before]]
        for j in reader.categorical:
            values = raw.iloc[:, j] if isinstance(raw, pd.DataFrame) else raw[:, j]
            codes, levels = pd.factorize(np.asarray(values, dtype=object))
            known = self.levels.setdefault(j, {})
            first = np.flatnonzero(~pd.Series(codes).duplicated().to_numpy() & (codes >= 0))
            for row in first.tolist():
                if levels[codes[row]] not in known:
                    known[levels[codes[row]]] = start + row
                    told.append(start + row)
        return np.array(told, dtype=np.intp)

    def join(self, later: "_Bounds") -> None:
        """Know what rows further down in the table taught, too."""
        better = np.stack([later.least < self.least, later.most > self.most, self.where[2] < 0])
        self.where = np.where(better, later.where, self.where)
        np.minimum(self.least, later.least, out=self.least)
        np.maximum(self.most, later.most, out=self.most)
        for j, levels in later.levels.items():
            self.levels[j] = levels | self.levels.get(j, {})

    def rows(self) -> NDArray[np.intp]:
        """All of them."""
        of_levels = [row for known in self.levels.values() for row in known.values()]
        return np.array([*self.where[self.where >= 0], *of_levels], dtype=np.intp)


def sampled(rows: Rows) -> Rows:
    """Those rows of a stored table that stand for all; of one in memory all."""
    X: Any = rows.X
    if not isinstance(X, StoredRows):
        return rows
    if X.sample is not None:
        return X.sample
    some = np.linspace(0, len(rows) - 1, min(len(rows), 4096)).astype(np.intp)
    part = rows.take(some)
    return Rows(part.chosen(), None, *part[2:])
