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


class BatchIterator:
    """Batches of at most ``batch_size`` rows, shuffled anew on each pass if a generator is given.

    One batch that holds all rows is passed on as it is.
    """

    def __init__(
        self, data: TensorData, batch_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.data, self.batch_size, self.generator = data, batch_size, generator

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
            yield self.data[rows]
