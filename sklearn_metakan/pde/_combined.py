"""Unions, intersections and differences of domains."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde._domain import CLOSED, Domain, by_rejection, draw_in_box

NUDGE = 1e-5  # of the size of the domain: how far to either side of the boundary one looks


@dataclass(frozen=True, repr=False)
class _Combined(Domain):
    """Two domains of the same dimension; anchors of both that lie in the result are kept.

    Points inside are drawn in the bounding box, points of the boundary from the boundaries
    of all parts by their area; what does not belong to the result is drawn again.
    """

    left: Domain
    right: Domain

    def __post_init__(self) -> None:
        if self.left.dim != self.right.dim:
            raise ValueError(
                "domains must have the same number of dimensions to be combined, got "
                f"{self.left.dim} and {self.right.dim}."
            )
        if not self.anchors:
            both = [*dict.fromkeys((*self.left.anchors, *self.right.anchors))]
            if both:
                kept = self.contains(np.array(both))
                self._freeze(anchors=tuple(a for a, keep in zip(both, kept, strict=True) if keep))
        self._set_anchors()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.left!r}, {self.right!r})"

    def _leaves(self) -> list[Domain]:
        found: list[Domain] = []
        for part in (self.left, self.right):
            found += part._leaves() if isinstance(part, _Combined) else [part]
        return found

    def _inside(self, n: int, method: str, generator: torch.Generator | None) -> Tensor:
        return draw_in_box(self, n, method, generator)

    def _on_boundary(
        self, n: int, method: str, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Each part's boundary in proportion to its area; a point stays if one side is inside."""
        if method == "grid":
            raise ValueError(f'method="grid" knows no grid on the boundary of {self!r}.')
        leaves = self._leaves()
        areas = torch.tensor([_area(leaf) for leaf in leaves], dtype=torch.float64)
        device = torch.device("cpu") if generator is None else generator.device
        step = NUDGE * float(np.ptp(self.bounds, 1).max())

        def propose(count: int) -> Tensor:
            chosen = torch.multinomial(
                areas.to(device), count, replacement=True, generator=generator
            )
            pieces = []
            for number, leaf in enumerate(leaves):
                of_leaf = int((chosen == number).sum())
                pieces.append(torch.cat(leaf._on_boundary(of_leaf, method, generator), 1))
            rows = torch.cat(pieces)
            return rows[torch.randperm(count, generator=generator, device=device)]

        def sides(rows: Tensor) -> tuple[Tensor, Tensor]:
            points, normals = rows.chunk(2, 1)
            return self._contains(points - step * normals), self._contains(points + step * normals)

        def accept(rows: Tensor) -> Tensor:
            behind, ahead = sides(rows)
            return behind != ahead

        rows = by_rejection(n, propose, accept, f"the boundary of {self!r}")
        points, normals = rows.chunk(2, 1)
        outward = torch.where(sides(rows)[1][:, None], -normals, normals)
        return points, outward


def _area(leaf: Domain) -> float:
    area: Any = getattr(leaf, "boundary_area", None)
    if area is None:
        raise ValueError(
            f"the boundary of a combination with {leaf!r} cannot be drawn by area: its "
            "boundary_area is not known."
        )
    return area


@dataclass(frozen=True, repr=False)
class Union(_Combined):
    """``A | B``: the points of A or B."""

    @property
    def bounds(self) -> np.ndarray:
        left, right = self.left.bounds, self.right.bounds
        return np.stack([np.minimum(left, right)[:, 0], np.maximum(left, right)[:, 1]], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) | self.right._contains(x, margin)


@dataclass(frozen=True, repr=False)
class Intersection(_Combined):
    """``A & B``: the points of both A and B."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.bounds[:, 0] >= self.bounds[:, 1]).any():
            raise ValueError(f"the domains of an intersection must overlap, got {self!r}.")

    @property
    def bounds(self) -> np.ndarray:
        left, right = self.left.bounds, self.right.bounds
        return np.stack([np.maximum(left, right)[:, 0], np.minimum(left, right)[:, 1]], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) & self.right._contains(x, margin)


@dataclass(frozen=True, repr=False)
class Difference(_Combined):
    """``A - B``: the points of A outside B, with their boundary."""

    @property
    def bounds(self) -> np.ndarray:
        return self.left.bounds

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) & ~self.right._contains(x, -margin)
