"""What is read off a trained solution: values and derivatives at many points, errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.pde._collocation import Batch
from sklearn_metakan.pde._physics import Physics
from sklearn_metakan.training import Execution, by_chunks

DEFAULT_MEMORY = 64.0  # MiB
_COPIES = 4  # of a row's channels that are alive at a time


def plain_tensor(array: NDArray[Any]) -> Tensor:
    """A copy: torch takes neither arrays that run backwards nor, silently, read-only ones."""
    return torch.from_numpy(np.array(array, order="C"))


def evaluate(
    physics: Physics,
    x: Any,
    execution: Execution,
    working_memory: float | None,
    channels: int,
    quantity: Callable[[Tensor], Tensor],
) -> NDArray[Any]:
    """``quantity(points)`` in x's dtype, a chunk of rows at a time, without a graph.

    ``channels`` is how many derivatives travel with a row, for the size of the chunks.
    """
    memory = (DEFAULT_MEMORY if working_memory is None else working_memory) * 2**20
    network: Any = physics.trial.network
    widest = max(layer.in_features for layer in network.kan_layers())
    rows = max(1, int(memory / (8 * _COPIES * (channels + 2) * widest)))
    found: dict[int, NDArray[Any]] = {}

    def compute(chunk: slice) -> None:
        points = plain_tensor(x[chunk]).to(execution.device, execution.dtype)
        found[chunk.start] = quantity(points).double().cpu().numpy()

    with torch.no_grad(), execution.active():
        by_chunks(len(x), rows, compute)
    return np.concatenate([found[start] for start in sorted(found)]).astype(x.dtype, copy=False)


def condition_misfits(physics: Physics, batch: Batch, execution: Execution) -> dict[str, float]:
    """The mean square of each condition's misfit at these points."""
    with torch.no_grad(), execution.active():
        return {
            name: float(physics.misfit(name, batch[name]).square().mean())
            for name in physics.conditions
        }


class RelativeError:
    """``|u - solution| / |solution|`` over fixed points.

    Parameters
    ----------
    points : Tensor of shape (n, d)
    solution : Tensor of shape (n,) or (n, k)
    """

    def __init__(self, points: Tensor, solution: Tensor) -> None:
        self.points, self.solution = points, solution

    def __call__(self, physics: Physics) -> float:
        with torch.no_grad():
            found = physics.trial(self.points)
        return float((found - self.solution).norm() / self.solution.norm())
