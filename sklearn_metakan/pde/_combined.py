"""Unions, intersections and differences of domains."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde._domain import CLOSED, Domain, by_rejection, draw_in_box

NUDGE = 1e-5  # of the shortest side: how far to either side of the boundary one looks


@dataclass(frozen=True, repr=False)
class _Combined(Domain):
    """Two domains of the same dimension; anchors of both that lie in the result are kept.

    Points inside are drawn in the bounding box or in a part around the result, whichever is
    smaller; points of the boundary from the boundaries of all parts by their area. What does
    not belong to the result is drawn again.
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
            found += part._leaves()
        return found

    def _around(self) -> tuple[Domain, ...]:
        """Parts that have all points of the result."""
        return ()

    @property
    def _log_volume(self) -> float:
        return min([super()._log_volume, *(part._log_volume for part in self._around())])

    def _inside(self, n: int, method: str, generator: torch.Generator | None) -> Tensor:
        part = min(self._around(), key=lambda part: part._log_volume, default=None)
        if method == "grid" or part is None or part._log_volume >= super()._log_volume:
            return draw_in_box(self, n, method, generator)
        propose = partial(part._inside, method=method, generator=generator)
        return by_rejection(n, propose, self._contains, repr(self))

    def _on_boundary(
        self, n: int, method: str, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Each part's boundary in proportion to its area; a point stays if one side is inside.

        Where boundaries of several parts coincide, the points of the first of them stay.
        """
        if method == "grid":
            raise ValueError(f'method="grid" knows no grid on the boundary of {self!r}.')
        leaves = self._leaves()
        areas = torch.tensor([_area(leaf) for leaf in leaves], dtype=torch.float64)
        device = torch.device("cpu") if generator is None else generator.device
        step = NUDGE * min(float(np.ptp(each.bounds, 1).min()) for each in (self, *leaves))

        def propose(count: int) -> Tensor:
            chosen = torch.multinomial(
                areas.to(device), count, replacement=True, generator=generator
            )
            pieces = []
            for number, leaf in enumerate(leaves):
                of_leaf = int((chosen == number).sum())
                rows = torch.cat(leaf._on_boundary(of_leaf, method, generator), 1)
                for earlier in leaves[:number]:
                    rows = rows[~_crosses(earlier, rows, step)]
                pieces.append(rows)
            rows = torch.cat(pieces)
            return rows[torch.randperm(len(rows), generator=generator, device=device)]

        def accept(rows: Tensor) -> Tensor:
            # Where parts touch, a step may cross a boundary that is beside the point.
            return _crosses(self, rows, step) & self._contains(rows.chunk(2, 1)[0])

        rows = by_rejection(n, propose, accept, f"the boundary of {self!r}")
        points, normals = rows.chunk(2, 1)
        outward = torch.where(_sides(self, rows, step)[1][:, None], -normals, normals)
        return points, outward


def _sides(domain: Domain, rows: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Whether one is in the domain a step behind, and a step ahead of points with normals."""
    points, normals = rows.chunk(2, 1)
    behind, ahead = points - step * normals, points + step * normals
    # No margin: that of a large part may exceed the step.
    return domain._contains(behind, 0.0), domain._contains(ahead, 0.0)


def _crosses(domain: Domain, rows: Tensor, step: float) -> Tensor:
    """Whether one enters or leaves the domain there."""
    behind, ahead = _sides(domain, rows, step)
    return behind != ahead


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

    def _around(self) -> tuple[Domain, ...]:
        return self.left, self.right

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) & self.right._contains(x, margin)


@dataclass(frozen=True, repr=False)
class Difference(_Combined):
    """``A - B``: the points of A outside B, with their boundary."""

    @property
    def bounds(self) -> np.ndarray:
        return self.left.bounds

    def _around(self) -> tuple[Domain, ...]:
        return (self.left,)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) & ~self.right._contains(x, -margin)
