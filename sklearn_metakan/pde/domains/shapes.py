"""Intervals, boxes, balls and spheres; space and time, time being the last coordinate."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import exp, gamma, lgamma, log, pi
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import (
    CLOSED,
    Domain,
    Numbers,
    Pair,
    both,
    check_domain,
    numbers,
)
from sklearn_metakan.pde.domains.draws import METHODS, Draw, grid_points, place

MOST_FACTORS = 3  # dimensions of boxes whose sides are multiplied: of many, nothing would be left


@dataclass(frozen=True)
class Box(Domain):
    """The box of all x with ``low_i <= x_i <= high_i``.

    Parameters
    ----------
    low, high : sequence of d floats
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        If ends are not finite, or low is not below high; for anchors outside.

    Examples
    --------
    >>> import torch
    >>> box = Box([0, 0], [2, 1])
    >>> box.sample(4, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 2])
    >>> box == Box([0, 0], [2, 1]), box.bounds.tolist()
    (True, [[0.0, 2.0], [0.0, 1.0]])
    >>> box - Ball([0, 0], 0.5)
    Difference(Box(low=(0.0, 0.0), high=(2.0, 1.0)), Ball(center=(0.0, 0.0), radius=0.5))
    """

    low: Numbers | Sequence[float]
    high: Numbers | Sequence[float]

    def __post_init__(self) -> None:
        low, high = numbers("low", self.low), numbers("high", self.high)
        if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=True)):
            raise ValueError(
                f"low must be below high in every dimension, got low={low}, high={high}."
            )
        self._freeze(low=low, high=high)
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        return np.stack([self.low, self.high], 1)

    @property
    def volume(self) -> float:
        return exp(self._log_volume)

    @property
    def boundary_area(self) -> float:
        return 2 * float(self._face_areas().sum())

    def _face_areas(self) -> np.ndarray:
        sides = np.subtract(self.high, self.low)
        return np.array([np.delete(sides, i).prod() for i in range(len(sides))])

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        slack = margin * (high - low)
        return ((x >= low - slack) & (x <= high + slack)).all(1)

    def _sides(self, x: Tensor) -> tuple[Tensor, ...]:
        """For each dimension a parabola, zero at both ends, of slopes 1 and -1."""
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        return ((x - low) * (high - x) / (high - low)).unbind(1)

    def distance(self, x: Tensor) -> Tensor:
        if self.dim > MOST_FACTORS:
            return self._level(x)
        heights = np.subtract(self.high, self.low) / 4
        return reduce(torch.mul, self._sides(x)) * float(heights.min() / heights.prod())

    def _level(self, x: Tensor) -> Tensor:
        return reduce(both, self._sides(x))

    def _inside(self, n: int, draw: Draw) -> Tensor:
        if draw.method == "grid":
            return grid_points(self.bounds, n)[:n].to(draw.device)
        return self._stretched(draw.unit(self.dim)(n))

    def _stretched(self, unit: Tensor) -> Tensor:
        low, high = unit.new_tensor(self.low), unit.new_tensor(self.high)
        return low + (high - low) * unit

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        """The first unit coordinate chooses the face, the others the point on it."""
        if draw.method == "grid":
            points, normals = self._grid_boundary(n)
            return points.to(draw.device), normals.to(draw.device)
        unit = draw.unit(self.dim + 1)(n)
        face = place(unit[:, 0], np.repeat(self._face_areas(), 2).cumsum())
        return self._on_faces(self._stretched(unit[:, 1:]), face)

    def _on_faces(self, points: Tensor, face: Tensor) -> Pair:
        """Points moved onto faces 2 i (low) and 2 i + 1 (high) of axis i."""
        axis, is_high = face // 2, face % 2
        rows = torch.arange(len(points), device=points.device)
        ends = points.new_tensor(self.bounds)
        normals, points = torch.zeros_like(points), points.clone()
        points[rows, axis] = ends[axis, is_high]
        normals[rows, axis] = 2.0 * is_high.double() - 1.0
        return points, normals

    def _grid_counts(self, n: int) -> np.ndarray:
        """Points on each face: by area, at least one, n at most in all."""
        n_faces = 2 * self.dim
        if 0 < n < n_faces:
            raise ValueError(
                f'method="grid" needs n of at least {n_faces}, one point on each face of '
                f'{self!r}, got n={n}; use "sobol" for fewer.'
            )
        counts = (n * np.repeat(self._face_areas(), 2) / self.boundary_area).astype(int)
        counts = counts.clip(min(n, 1))
        while counts.sum() > n:
            counts[counts.argmax()] -= 1
        return counts

    def _grid_boundary(self, n: int) -> Pair:
        pieces, faces = [], []
        for face, count in enumerate(self._grid_counts(n)):
            axis, others = face // 2, np.delete(self.bounds, face // 2, 0)
            points = grid_points(others, count) if len(others) else torch.empty(1, 0)
            points = points[:count].double()  # the axis itself is filled in by _on_faces
            gap = points.new_zeros(len(points), 1)
            pieces.append(torch.cat([points[:, :axis], gap, points[:, axis:]], 1))
            faces += [face] * len(points)
        return self._on_faces(torch.cat(pieces), torch.tensor(faces, dtype=torch.long))


@dataclass(frozen=True, init=False)
class Interval(Box):
    """The interval ``low <= x <= high``, in one dimension; boundary points alternate its ends.

    Parameters
    ----------
    low, high : float
    anchors : array of shape (a, 1), optional

    Raises
    ------
    ValueError
        As ``Box``, and if low and high are not single numbers.

    Examples
    --------
    >>> points, normals = Interval(-1, 1).sample_boundary(3, method="sobol")
    >>> (points == normals).all().item()
    True
    """

    def __init__(self, low: float, high: float, *, anchors: Any = ()) -> None:
        self._freeze(low=np.atleast_1d(low), high=np.atleast_1d(high), anchors=anchors)
        self.__post_init__()
        if self.dim != 1:
            raise ValueError(
                f"low and high must be single numbers, got {low!r}, {high!r}; use Box."
            )

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        face = torch.arange(n, device=draw.device) % 2
        return self._on_faces(torch.empty(n, 1, dtype=torch.float64, device=draw.device), face)


@dataclass(frozen=True)
class _Round(Domain):
    center: Numbers | Sequence[float]
    radius: float = 1.0

    def __post_init__(self) -> None:
        center = numbers("center", self.center)
        (radius,) = numbers("radius", [self.radius])
        if radius <= 0:
            raise ValueError(f"radius must be positive, got {self.radius}.")
        self._freeze(center=center, radius=radius)
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        center = np.asarray(self.center)
        return np.stack([center - self.radius, center + self.radius], 1)

    @property
    def boundary_area(self) -> float:
        d = self.dim
        return 2 * pi ** (d / 2) / gamma(d / 2) * self.radius ** (d - 1)

    def _distance(self, x: Tensor) -> Tensor:
        return (x - x.new_tensor(self.center)).norm(dim=1)

    def _directions(self, unit: Tensor) -> Tensor:
        """Unit vectors from unit coordinates: normal numbers by their inverse law."""
        normal = torch.special.ndtri(unit.clamp(1e-12, 1 - 1e-12))
        length = normal.norm(dim=1, keepdim=True)
        first = torch.zeros_like(normal)
        first[:, 0] = 1.0
        return torch.where(length > 0, normal / length, first)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        if draw.method == "grid":
            raise ValueError(f'method="grid" knows no grid on a sphere; use "sobol" for {self!r}.')
        normals = self._directions(draw.unit(self.dim)(n))
        return normals.new_tensor(self.center) + self.radius * normals, normals


@dataclass(frozen=True)
class Ball(_Round):
    """The ball of all x with ``|x - center| <= radius``.

    Beside the common methods, which are uniform in volume, ``sample`` knows "radius":
    directions and radii uniform, the radii in [0, radius]. In many dimensions nearly all of
    the volume lies at the boundary; this law covers the inside too.

    Parameters
    ----------
    center : sequence of d floats
    radius : float, default=1.0
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        If numbers are not finite, or the radius is not positive; for anchors outside.

    Examples
    --------
    >>> import torch
    >>> ball = Ball([0.0] * 100)
    >>> generator = torch.Generator().manual_seed(0)
    >>> volume = ball.sample(1000, generator).norm(dim=1).mean()
    >>> radius = ball.sample(1000, generator, method="radius").norm(dim=1).mean()
    >>> volume > 0.98, 0.45 < radius < 0.55
    (tensor(True), tensor(True))
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @property
    def volume(self) -> float:
        return exp(self._log_volume)

    @property
    def _log_volume(self) -> float:
        half = self.dim / 2
        return half * log(pi) - lgamma(half + 1) + self.dim * log(self.radius)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self._distance(x) <= self.radius * (1 + margin)

    def _level(self, x: Tensor) -> Tensor:
        away = (x - x.new_tensor(self.center)).square().sum(1)
        return (self.radius**2 - away) / (2 * self.radius)

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        unit = draw.unit(self.dim + 1)(n)
        share = unit[:, :1] if draw.method == "radius" else unit[:, :1] ** (1 / self.dim)
        return unit.new_tensor(self.center) + self.radius * share * self._directions(unit[:, 1:])


@dataclass(frozen=True)
class Sphere(_Round):
    """The sphere of all x with ``|x - center| = radius``: the surface alone.

    As a domain its points are drawn by area. As a boundary it is its own, with the normals
    that point away from the center.

    Parameters
    ----------
    center : sequence of d floats
    radius : float, default=1.0
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        As ``Ball``.

    Examples
    --------
    >>> import torch
    >>> sphere = Sphere([0.0, 0.0], 2.0)
    >>> sphere.sample(3).norm(dim=1).allclose(torch.tensor(2.0))
    True
    """

    methods: ClassVar[tuple[str, ...]] = ("uniform", "sobol", "latin_hypercube")

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        # Points that were rounded to float32 still lie on the sphere.
        return (self._distance(x) - self.radius).abs() <= 1e-5 * self.radius

    def _inside(self, n: int, draw: Draw) -> Tensor:
        return self._on_boundary(n, draw)[0]


@dataclass(frozen=True)
class SpaceTime(Domain):
    """All (x, t) with x in ``space`` and ``t0 <= t <= t1``; time is the last column.

    Its boundary is the boundary of space at all times; normals have no component in time.
    ``sample_initial`` draws points at t0.

    Parameters
    ----------
    space : Domain
    t0, t1 : float, default=0.0 and 1.0
    anchors : array of shape (a, d + 1), optional
        Points always kept.

    Raises
    ------
    TypeError, ValueError
        If space is no domain, times are not finite, or t0 is not below t1.

    Examples
    --------
    >>> from sklearn_metakan.pde import Interval
    >>> domain = SpaceTime(Interval(-1, 1), 0, 2)
    >>> domain.bounds.tolist(), domain.sample_initial(3)[:, 1].tolist()
    ([[-1.0, 1.0], [0.0, 2.0]], [0.0, 0.0, 0.0])
    """

    space: Domain
    t0: float = 0.0
    t1: float = 1.0

    def __post_init__(self) -> None:
        check_domain("space", self.space)
        t0, t1 = numbers("t0 and t1", [self.t0, self.t1])
        if t0 >= t1:
            raise ValueError(f"t0 must be below t1, got t0={t0}, t1={t1}.")
        self._freeze(t0=t0, t1=t1)
        self._set_anchors()

    @property
    def methods(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.space.methods

    @property
    def knows_inside(self) -> bool:  # type: ignore[override]
        return self.space.knows_inside

    @property
    def n_parameters(self) -> int:
        return self.space.n_parameters

    @property
    def bounds(self) -> np.ndarray:
        return np.concatenate([self.space.bounds, [[self.t0, self.t1]]])

    @property
    def volume(self) -> float:
        return self.space.volume * (self.t1 - self.t0)

    @property
    def _log_volume(self) -> float:
        return self.space._log_volume + log(self.t1 - self.t0)

    def sample_initial(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        method: str = "uniform",
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """n points at the time t0; generator, method, dtype and errors are those of ``sample``."""
        x = self.space.sample(n, generator, method=method, dtype=dtype)
        return torch.cat([x, torch.full_like(x[:, :1], self.t0)], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        slack, t = margin * (self.t1 - self.t0), x[:, -1]
        in_time = (t >= self.t0 - slack) & (t <= self.t1 + slack)
        return self.space._contains(x[:, :-1], margin) & in_time

    def distance(self, x: Tensor) -> Tensor:
        """That of space: the boundary is that of space at all times."""
        return self.space.distance(x[:, :-1])

    def _times(self, n: int, draw: Draw) -> Tensor:
        """Shuffled, so that times are independent of places."""
        return self.t0 + (self.t1 - self.t0) * draw.unit(1)(n)[draw.shuffled(n)]

    def _inside(self, n: int, draw: Draw) -> Tensor:
        if draw.method == "grid":
            per_axis = max(1, int((n + 0.5) ** (1 / self.dim)))
            times = grid_points(np.array([[self.t0, self.t1]]), per_axis)
            places = self.space._inside(n // per_axis, draw)
            t = times.to(places).repeat_interleave(len(places), 0)
            return torch.cat([places.repeat(per_axis, 1), t], 1)[:n]
        x = self.space._inside(n, draw)
        return torch.cat([x, self._times(n, draw).to(x.device)], 1)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        x, normals = self.space._on_boundary(n, draw)
        method = "sobol" if draw.method == "grid" else draw.method
        t = self._times(len(x), Draw(method, draw.generator)).to(x)
        return torch.cat([x, t], 1), torch.cat([normals, torch.zeros_like(t)], 1)
