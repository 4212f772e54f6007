"""Meshes of triangles and tetrahedra as domains."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import factorial, pi
from os import PathLike
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
from sklearn_metakan.pde.domains.polygon import from_segments, joined_distance

_KINDS = {2: "triangle", 3: "tetra"}  # by dimension: cells, as meshio calls them
_FLAT = 1e-12  # of a mesh's size
_AT_ONCE = 2**22  # pairs of a point and a face


@dataclass(frozen=True)
class Mesh(Domain):
    """The union of triangles in the plane, or of tetrahedra in space.

    Points inside are drawn by area or volume, points of the boundary by length or area, on the
    faces that belong to one cell alone. ``distance`` is known in the plane.

    Parameters
    ----------
    vertices : array of shape (m, d)
        d is 2 or 3.
    cells : array of int of shape (c, d + 1)
        The corners of each cell, by their rows in ``vertices``, in any order.
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        For other shapes, rows that are none, cells without volume, and faces of three cells.

    Examples
    --------
    >>> square = Mesh([[0, 0], [1, 0], [1, 1], [0, 1]], [[0, 1, 2], [0, 2, 3]])
    >>> square.volume, square.boundary_area, square.contains([[0.2, 0.9], [1.2, 0.5]]).tolist()
    (1.0, 4.0, [True, False])
    """

    vertices: Any
    cells: Any

    def __post_init__(self) -> None:
        vertices, cells = checked_points(self.vertices, None, "vertices"), np.asarray(self.cells)
        d = vertices.shape[1]
        if d not in _KINDS or cells.ndim != 2 or cells.shape[1] != d + 1 or not len(cells):
            raise ValueError(
                "vertices must be (m, 2) with cells (c, 3), or (m, 3) with cells (c, 4), got "
                f"{tuple(vertices.shape)} and {cells.shape}."
            )
        if cells.dtype.kind not in "iu" or cells.min() < 0 or cells.max() >= len(vertices):
            raise ValueError(f"cells must be rows of the {len(vertices)} vertices, got others.")
        self._freeze(
            vertices=tuple(map(tuple, vertices.tolist())), cells=tuple(map(tuple, cells.tolist()))
        )
        size = float(np.ptp(self.bounds, 1).max())
        if (self._volumes <= _FLAT * size**d).any():
            row = int(self._volumes.argmin())
            raise ValueError(f"cells must have a volume, and cell {row} has none.")
        _ = self._faces  # checked there
        self._set_anchors()

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "Mesh":
        """The triangles or tetrahedra of a file that meshio reads: .msh, .vtk, .vtu, .xdmf, ...

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ImportError
            Without meshio.
        ValueError
            For a file without tetrahedra, or triangles in a plane.
        """
        try:
            import meshio
        except ImportError as error:
            raise ImportError("Mesh.read needs meshio: pip install meshio.") from error
        found = meshio.read(path)
        vertices = np.asarray(found.points, dtype=float)
        is_flat = vertices.shape[1] == 2 or not np.ptp(vertices[:, 2])
        d = 2 if is_flat else 3
        blocks = [block.data for block in found.cells if block.type == _KINDS[d]]
        if not blocks:
            kinds = sorted({block.type for block in found.cells})
            raise ValueError(f"{path} has no cells of the kind {_KINDS[d]!r}, but {kinds}.")
        return cls(vertices[:, :d], np.concatenate(blocks))

    def __repr__(self) -> str:
        return f"Mesh({len(self.vertices)} vertices, {len(self.cells)} cells)"

    @property
    def bounds(self) -> np.ndarray:
        used = self._corners.reshape(-1, len(self.vertices[0]))
        return np.stack([used.min(0), used.max(0)], 1)

    @cached_property
    def _corners(self) -> NDArray[Any]:
        """Of each cell, (c, d + 1, d)."""
        return np.array(self.vertices)[np.array(self.cells)]

    @cached_property
    def _volumes(self) -> NDArray[Any]:
        sides = self._corners[:, 1:] - self._corners[:, :1]
        return np.abs(np.linalg.det(sides)) / factorial(self._corners.shape[2])

    @property
    def volume(self) -> float:
        return float(self._volumes.sum())

    @cached_property
    def _faces(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Of the boundary: corners (f, d, d), unit normals (f, d) and areas (f)."""
        cells, vertices = np.array(self.cells), np.array(self.vertices)
        d = vertices.shape[1]
        rows = np.concatenate([np.delete(cells, k, 1) for k in range(d + 1)])
        opposite = np.concatenate([cells[:, k] for k in range(d + 1)])
        names = [tuple(row) for row in np.sort(rows, 1).tolist()]
        counts = Counter(names)
        if max(counts.values()) > 2:
            raise ValueError("cells must share each face with one other cell at most.")
        outer = np.array([counts[name] == 1 for name in names])
        corners, inner = vertices[rows[outer]], vertices[opposite[outer]]
        sides = corners[:, 1:] - corners[:, :1]
        if d == 2:
            normals = np.stack([sides[:, 0, 1], -sides[:, 0, 0]], 1)
        else:
            normals = np.cross(sides[:, 0], sides[:, 1]) / 2
        areas = np.linalg.norm(normals, axis=1)
        inwards = ((inner - corners[:, 0]) * normals).sum(1) > 0
        corners[inwards, :2] = corners[inwards, 1::-1]  # around the normal, as that points out
        normals[inwards] *= -1
        return corners, normals / areas[:, None], areas

    @property
    def boundary_area(self) -> float:
        return float(self._faces[2].sum())

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        corners, slack = (
            x.new_tensor(self._faces[0]),
            abs(margin) * float(np.ptp(self.bounds, 1).max()),
        )
        found = []
        for part in x.split(max(1, _AT_ONCE // len(corners))):
            inside = _winding(part, corners) > 0.5
            if margin:
                near = _away(part, corners) <= slack
                inside = inside | near if margin > 0 else inside & ~near
            found.append(inside)
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool, device=x.device)

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        unit = draw.unit(self.dim + 1)(n)
        return _within(unit, self._corners, self._volumes)[0]

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        refuse_grid(self, draw)
        corners, normals, areas = self._faces
        points, chosen = _within(draw.unit(self.dim)(n), corners, areas)
        return points, points.new_tensor(normals)[chosen]

    def distance(self, x: Tensor) -> Tensor:
        if self.dim != 2:
            return super()._level(x)
        return joined_distance(x, self._faces[0][:, 0], self._faces[0][:, 1])

    def _level(self, x: Tensor) -> Tensor:
        inside = self._contains(x.detach().double(), 0.0)
        return torch.where(inside, 1.0, -1.0).to(x) * self.distance(x)


def _within(unit: Tensor, corners: NDArray[Any], sizes: NDArray[Any]) -> Pair:
    """Points of simplices, uniform by size, from those of a cube; and which each is in.

    The first coordinate chooses; the spacings of the others, sorted, are barycentric coordinates.
    """
    chosen = place(unit[:, 0], sizes.cumsum())
    ordered = unit[:, 1:].sort(1).values
    ends = torch.nn.functional.pad(torch.nn.functional.pad(ordered, (1, 0)), (0, 1), value=1.0)
    return (ends.diff(dim=1)[..., None] * unit.new_tensor(corners)[chosen]).sum(1), chosen


def _winding(x: Tensor, corners: Tensor) -> Tensor:
    """How often the faces go around each point: 1 inside, 0 outside.

    Source: van Oosterom, Strackee, "The solid angle of a plane triangle" (1983).
    """
    to = corners[None] - x[:, None, None]  # (n, f, d, d)
    if x.shape[1] == 2:
        a, b = to[:, :, 0], to[:, :, 1]
        turn = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        return torch.atan2(turn, (a * b).sum(-1)).sum(1) / (2 * pi)
    lengths = to.norm(dim=-1)
    a, b, c = to.unbind(2)
    la, lb, lc = lengths.unbind(2)
    top = (a * torch.linalg.cross(b, c)).sum(-1)
    bottom = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return torch.atan2(top, bottom).sum(1) / (2 * pi)


def _away(x: Tensor, corners: Tensor) -> Tensor:
    """How far the nearest face is from each point: of its inside, or of its edges."""
    d = x.shape[1]
    edges = [(i, j) for i in range(d) for j in range(i + 1, d)]
    found = torch.stack([from_segments(x, corners[:, i], corners[:, j]) for i, j in edges])
    least = found.amin(0)
    if d == 3:
        first, sides = corners[:, 0], corners[:, 1:] - corners[:, :1]
        normal = torch.linalg.cross(sides[:, 0], sides[:, 1])
        normal = normal / normal.norm(dim=1, keepdim=True)
        to = x[:, None] - first
        height = (to * normal).sum(-1)
        flat = to - height[..., None] * normal
        shares = torch.einsum("nfd,fdk->nfk", flat, torch.linalg.pinv(sides))
        over = (shares >= 0).all(-1) & (shares.sum(-1) <= 1)
        least = torch.where(over, torch.minimum(least, height.abs()), least)
    return least.amin(1)
