"""Polygons of any shape, with distances by R-functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.pde.domains.domain import (
    CLOSED,
    Domain,
    Pair,
    checked_points,
    refuse_grid,
)
from sklearn_metakan.pde.domains.draws import Draw, place

_SMALL = 1e-12  # of a polygon's size


@dataclass(frozen=True)
class Polygon(Domain):
    """The inside of a closed line through these corners, convex or not, in the plane.

    Holes and islands are made of several, by ``-`` and ``|``. A triangle has three corners.

    Parameters
    ----------
    corners : array of shape (m, 2)
        In order, either way around; the last is joined to the first.
    anchors : array of shape (a, 2), optional
        Points always kept.

    Raises
    ------
    ValueError
        For fewer than three corners, sides of no length, or lines that cross.

    Examples
    --------
    >>> house = Polygon([[0, 0], [2, 0], [2, 1], [1, 2], [0, 1]])
    >>> house.volume, house.contains([[1, 1.5], [0.1, 1.9]]).tolist()
    (3.0, [True, False])
    """

    corners: Any

    def __post_init__(self) -> None:
        corners = checked_points(self.corners, 2, "corners").cpu().numpy()
        if len(corners) < 3:
            raise ValueError(f"corners must be at least three points, got {len(corners)}.")
        if _signed_area(corners) < 0:
            corners = corners[::-1]
        self._freeze(corners=tuple(map(tuple, corners.tolist())))
        self._check()
        self._set_anchors()

    def _check(self) -> None:
        starts, ends = self._sides
        size = float(np.ptp(self.bounds, 1).max())
        if (np.linalg.norm(ends - starts, axis=1) <= _SMALL * size).any():
            raise ValueError("corners must differ from their neighbours.")
        if self.volume <= _SMALL * size**2 or _crosses_itself(starts, ends):
            raise ValueError("corners must be those of a line that does not cross itself.")

    @property
    def _sides(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Their first and last points, (m, 2) each, the inside to the left."""
        corners = np.array(self.corners)
        return corners, np.roll(corners, -1, 0)

    @property
    def bounds(self) -> np.ndarray:
        corners = np.array(self.corners)
        return np.stack([corners.min(0), corners.max(0)], 1)

    @property
    def volume(self) -> float:
        return _signed_area(np.array(self.corners))

    @property
    def boundary_area(self) -> float:
        starts, ends = self._sides
        return float(np.linalg.norm(ends - starts, axis=1).sum())

    @cached_property
    def _triangles(self) -> NDArray[Any]:
        """That it is made of, (m - 2, 3, 2)."""
        corners = np.array(self.corners)
        return corners[_ears(corners)]

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        starts, ends = (x.new_tensor(each) for each in self._sides)
        inside = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for a, b in zip(starts, ends, strict=True):  # sides that a ray to the right crosses
            between = (a[1] > x[:, 1]) != (b[1] > x[:, 1])
            rise = torch.where(b[1] == a[1], 1.0, b[1] - a[1])
            inside ^= between & (x[:, 0] < a[0] + (x[:, 1] - a[1]) / rise * (b[0] - a[0]))
        if margin:
            near = self._away(x).amin(1) <= abs(margin) * float(np.ptp(self.bounds, 1).max())
            inside = inside | near if margin > 0 else inside & ~near
        return inside

    def _away(self, x: Tensor) -> Tensor:
        """How far from each side, (n, m)."""
        starts, ends = (x.new_tensor(each) for each in self._sides)
        return from_segments(x, starts, ends)

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        triangles = self._triangles
        sides = triangles[:, 1:] - triangles[:, :1]
        share = np.abs(np.linalg.det(sides)).cumsum()
        unit = draw.unit(3)(n)
        chosen = place(unit[:, 0], share)
        root = unit[:, 1:2].sqrt()
        parts = torch.cat([1 - root, root * (1 - unit[:, 2:]), root * unit[:, 2:]], 1)
        return (parts[..., None] * unit.new_tensor(triangles)[chosen]).sum(1)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        refuse_grid(self, draw)
        starts, ends = self._sides
        lengths = np.linalg.norm(ends - starts, axis=1)
        unit = draw.unit(2)(n)
        chosen = place(unit[:, 0], lengths.cumsum())
        first, along = unit.new_tensor(starts)[chosen], unit.new_tensor(ends - starts)[chosen]
        normals = torch.stack([along[:, 1], -along[:, 0]], 1) / along.norm(dim=1, keepdim=True)
        return first + unit[:, 1:] * along, normals

    def distance(self, x: Tensor) -> Tensor:
        return joined_distance(x, *self._sides)

    def _level(self, x: Tensor) -> Tensor:
        inside = self._contains(x.detach().double(), 0.0)
        return torch.where(inside, 1.0, -1.0).to(x) * joined_distance(x, *self._sides)


def from_segments(x: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """How far points are from each of m segments, (n, m)."""
    along = ends - starts
    share = ((x[:, None] - starts) * along).sum(-1) / along.square().sum(-1)
    return (x[:, None] - starts - share.clamp(0, 1)[..., None] * along).norm(dim=-1)


def joined_distance(x: Tensor, first: NDArray[Any], last: NDArray[Any]) -> Tensor:
    """Distances to m sides, given by their ends, by R-equivalence, ``1 / sum_i 1 / phi_i``.

    Of a side of length L with f the distance to its line and
    ``t = ((L / 2)^2 - |x - middle|^2) / L``, it is ``(f^2 + (h - t)^2 / 4)^(1/2)`` with
    ``h = (t^2 + f^4)^(1/2)``.
    """
    starts, ends = x.new_tensor(first), x.new_tensor(last)
    along = ends - starts
    length = along.norm(dim=1)
    away = x[:, None] - starts
    f = (away[..., 0] * along[:, 1] - away[..., 1] * along[:, 0]) / length
    t = ((length / 2) ** 2 - (x[:, None] - (starts + ends) / 2).square().sum(-1)) / length
    least = (_SMALL * length) ** 2
    h = (t.square() + f**4 + least**2).sqrt()
    phi = (f.square() + (h - t).square() / 4 + least).sqrt()
    return 1 / (1 / phi).sum(1)


def _signed_area(corners: NDArray[Any]) -> float:
    x, y = corners.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _turn(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    """Positive where a, b, c turn left."""
    u, v = b - a, c - a
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])


def _crosses_itself(starts: NDArray[Any], ends: NDArray[Any]) -> bool:
    a, b, c, d = starts[:, None], ends[:, None], starts[None], ends[None]
    meets = (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)
    return bool(meets.any())


def _ears(corners: NDArray[Any]) -> NDArray[Any]:
    """Triangles as numbers of corners, (m - 2, 3), of a polygon given counterclockwise.

    Source: Meisters, "Polygons have ears" (1975).
    """
    left, found = [*range(len(corners))], []
    while len(left) > 3:
        triples = [(left[k - 1], left[k], left[(k + 1) % len(left)]) for k in range(len(left))]
        areas = _turn(*np.moveaxis(corners[np.array(triples)], 1, 0))
        # The largest first; where all are flat, any will do.
        order = np.argsort(-areas)
        ears = (k for k in order if areas[k] > 0 and not _holds(corners, triples[k], left))
        k = int(next(ears, np.abs(areas).argmin()))
        found.append(triples[k])
        left.pop(k)
    return np.array([*found, tuple(left)])


def _holds(corners: NDArray[Any], triple: tuple[int, int, int], left: Sequence[int]) -> bool:
    """Whether any of the other corners is within a triangle, or on its edge."""
    a, b, c = corners[list(triple)]
    others = corners[[p for p in left if p not in triple]]
    turns = np.stack([_turn(a, b, others), _turn(b, c, others), _turn(c, a, others)])
    return bool((turns >= 0).all(0).any())
