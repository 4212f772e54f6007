"""A validated table on its way from the user to the network."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from sklearn_metakan.training import Execution


class Rows(NamedTuple):
    """Inputs (n, d), encoded target (n, ...), weights (n,) or None where all are one.

    ``unit`` is what weights were divided by.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    weight: NDArray[Any] | None
    unit: float = 1.0

    @classmethod
    def that_count(
        cls,
        X: NDArray[Any],
        y: NDArray[Any],
        weight: NDArray[Any] | None,
        unit: float | None = None,
    ) -> "Rows":
        """Rows of positive weight; weights in this unit, by default their mean."""
        if weight is None:
            if unit in (None, 1.0):
                return cls(X, y, None)
            weight = np.ones(len(X))
        kept = weight > 0
        if not kept.any():
            raise ValueError(
                "sample_weight, times class_weight where there is one, is zero for every row; "
                "at least one must count."
            )
        weight = weight[kept]
        if unit is None:
            largest = weight.max()
            unit = float(largest * (weight / largest).mean())  # a sum might overflow
        return cls(X[kept], y[kept], weight / unit, unit)

    def take(self, index: NDArray[Any]) -> "Rows":
        weight = None if self.weight is None else self.weight[index]
        return Rows(
            self.X[index], self.y[index], None if weight is None else weight / weight.mean()
        )

    def hold_out(
        self, fraction: float, seed: int, stratify: NDArray[Any] | None
    ) -> tuple["Rows", "Rows"]:
        """Training and validation rows; at least one of each."""
        index = np.arange(len(self.X))
        train, held_out = train_test_split(
            index,
            test_size=count_held_out(len(index), fraction),
            random_state=seed,
            stratify=stratify,
        )
        return self.take(train), self.take(held_out)


def count_held_out(n: int, fraction: float) -> int:
    return min(max(1, round(fraction * n)), n - 1)


def to_tensor(values: NDArray[Any], execution: Execution) -> Tensor:
    """On the device, numbers in the network's dtype; whole ones stay whole."""
    values = np.ascontiguousarray(values)
    if not values.flags.writeable:  # a mapped file: torch warns
        values = values.copy()
    tensor = torch.from_numpy(values).to(execution.device)
    return tensor.to(execution.dtype) if tensor.is_floating_point() else tensor
