"""Tables as tensors, and batches that slice them instead of collating rows."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = tuple[Tensor, tuple[Tensor, Tensor | None]]


class TensorData(Dataset):
    """Inputs (n, d), targets (n, ...) and optional row weights (n,), on one device."""

    def __init__(self, X: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        self.X, self.y, self.weight = X, y, weight

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Tensor | slice | int) -> Batch:
        weight = None if self.weight is None else self.weight[rows]
        return self.X[rows], (self.y[rows], weight)

    def room_for(self, n: int) -> Batch:
        """Uninitialised tensors for a batch of n rows; for all rows, the table's own."""
        if n == len(self):
            return self[slice(0, n)]
        weight = None if self.weight is None else _like(self.weight, n)
        return _like(self.X, n), (_like(self.y, n), weight)

    def copy_rows(self, rows: Tensor, room: Batch) -> Batch:
        """``self[rows]``, written into ``room``."""
        X, (y, weight) = room
        torch.index_select(self.X, 0, rows, out=X)
        torch.index_select(self.y, 0, rows, out=y)
        if self.weight is not None:
            torch.index_select(self.weight, 0, rows, out=weight)
        return room


def _like(table: Tensor, n: int) -> Tensor:
    return table.new_empty(n, *table.shape[1:])


class BatchIterator:
    """Batches of at most ``batch_size`` rows, shuffled anew on each pass if a generator is given.

    One batch that holds all rows is passed on as it is. Shuffled batches of ``batch_size``
    rows are written into ``room`` if it is given, one after the other.
    """

    def __init__(
        self,
        data: TensorData,
        batch_size: int,
        generator: torch.Generator | None = None,
        room: Batch | None = None,
    ) -> None:
        self.data, self.batch_size, self.generator = data, batch_size, generator
        self.room = room

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.data)
        if self.batch_size >= n or self.generator is None:
            for start in range(0, n, self.batch_size):
                yield self.data[slice(start, start + self.batch_size)]
            return
        order = torch.randperm(n, generator=self.generator).to(self.data.X.device)
        for rows in order.split(self.batch_size):
            if self.room is not None and len(rows) == self.batch_size:
                yield self.data.copy_rows(rows, self.room)
            else:
                yield self.data[rows]
