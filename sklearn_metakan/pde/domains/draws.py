"""Points of the unit cube: independent, Sobol, Latin hypercube; and regular grids."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

METHODS = ("uniform", "sobol", "latin_hypercube", "grid", "radius")


@dataclass(frozen=True)
class Draw:
    """How points are drawn: one of METHODS, and the generator, on whose device they lie."""

    method: str
    generator: torch.Generator | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.generator is None else self.generator.device

    def seed(self) -> int:
        """For generators of other libraries."""
        return int(torch.randint(2**31, (), generator=self.generator, device=self.device))

    def shuffled(self, n: int) -> Tensor:
        """The numbers below n in a random order."""
        return torch.randperm(n, generator=self.generator, device=self.device)

    def unit(self, dim: int) -> Callable[[int], Tensor]:
        """A function that gives the next n points of [0, 1)^dim, float64.

        Independent points come from the generator on its device; Sobol points and Latin
        hypercubes from ``scipy.stats.qmc``, scrambled by a seed that the generator gives.
        """
        if self.method not in ("sobol", "latin_hypercube"):
            own: Any = {"generator": self.generator, "device": self.device}
            return lambda n: torch.rand(n, dim, dtype=torch.float64, **own)
        make = qmc.Sobol if self.method == "sobol" else qmc.LatinHypercube
        engine = make(dim, rng=self.seed())

        def low_discrepancy(n: int) -> Tensor:
            with warnings.catch_warnings():  # Sobol's balance wants powers of two; n is the user's
                warnings.filterwarnings("ignore", "The balance properties", UserWarning)
                return torch.from_numpy(engine.random(n)).to(self.device)

        return low_discrepancy


def place(unit: Tensor, shares: np.ndarray) -> Tensor:
    """Which part each number of [0, 1) falls into; shares are summed up."""
    ends = unit.new_tensor(shares / shares[-1])
    return torch.bucketize(unit.contiguous(), ends, right=True).clamp_(max=len(ends) - 1)


def grid_points(bounds: np.ndarray, n: int) -> Tensor:
    """Midpoints of the cells of the finest nearly cubic grid of at most n cells, float64.

    bounds is (d, 2); the longest cells are halved, thirded, ... first.
    """
    sides = bounds[:, 1] - bounds[:, 0]
    cells = np.ones(len(sides), dtype=int)
    while True:
        # Refine the axis with the longest cells that still fits.
        for axis in np.argsort(-sides / cells, kind="stable"):
            if cells.prod() // cells[axis] * (cells[axis] + 1) <= n:
                cells[axis] += 1
                break
        else:
            break
    axes = [
        torch.as_tensor(low + side * (np.arange(count) + 0.5) / count)
        for (low, _), side, count in zip(bounds, sides, cells, strict=True)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, len(sides))
