"""Captured steps of physics: new points are copied to where the graph reads them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde._collocation import Batch
from sklearn_metakan.training import CapturedStep


class CapturedPhysics(CapturedStep):
    """Steps on as many points as the first had; random directions have a generator of their own.

    Parameters
    ----------
    net : PDENet
    eager : callable
        A step without a graph, on points and a seed.
    """

    keeps = ("loss", "y_pred")

    def __init__(self, net: Any, eager: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__(net, None, eager)
        self.drawing = torch.Generator(self.device).manual_seed(net.shuffle_seed)
        self.loaded: Batch | None = None

    def fits(self, batch: Any) -> bool:
        points: Batch = batch[0]
        if self.batch is None:
            copies = {
                name: [tuple(None if t is None else t.clone() for t in pair) for pair in sets]
                for name, sets in points.items()
            }
            self.batch = copies, self.drawing
        shapes = [t.shape for t in _tensors(points)]
        return shapes == [t.shape for t in _tensors(self.batch[0])]

    def load(self, batch: Any) -> None:
        points: Batch = batch[0]
        if points is not self.loaded:
            self.loaded = points
            for room, tensor in zip(_tensors(self.batch[0]), _tensors(points), strict=True):
                room.copy_(tensor)

    def generators(self) -> list[torch.Generator]:
        return [*super().generators(), self.drawing]


def _tensors(points: Batch) -> Iterator[Tensor]:
    for sets in points.values():
        for pair in sets:
            yield from (t for t in pair if t is not None)
