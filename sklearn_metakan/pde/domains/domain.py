"""What every domain offers: points inside, points on the boundary, membership, set operations."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.draws import METHODS, Draw, grid_points

Numbers = tuple[float, ...]
Pair = tuple[Tensor, Tensor]  # points and normals, both (n, d)
MOST_TRIES = 200  # batches of proposals before a domain counts as empty
CLOSED = 1e-6  # of the size of a domain: points so near, float32's rounding, count as inside
_FOR_VOLUME = 2**17  # points
_TINY = 1e-30  # roots have slopes above it
NUDGE = 1e-5  # of the shortest side: how far to either side of a boundary one looks


@dataclass(frozen=True, kw_only=True)
class Domain(ABC):
    """A set of points in d dimensions that can be drawn from: the base of all domains.

    Domains are values: immutable, equal where their settings are, picklable, hashable.
    ``|``, ``&`` and ``-`` join, intersect and subtract them.

    Attributes
    ----------
    dim : int
        d, the number of coordinates of a point.
    bounds : ndarray of shape (d, 2)
        Lower and upper end of each coordinate.
    anchors : tuple of tuples, from an array of shape (a, d)
        Points inside that are the first rows of every sample.

    Examples
    --------
    >>> from sklearn_metakan.pde import Ball, Box
    >>> domain = Box([0, 0], [1, 1]) - Ball([0, 0], 0.5)
    >>> domain.contains([[0.1, 0.1], [0.5, 0.5]]).tolist()
    [False, True]
    >>> points, normals = domain.sample_boundary(20)
    >>> points.shape, domain.contains(points).all().item()
    (torch.Size([20, 2]), True)
    """

    anchors: tuple[Numbers, ...] = field(default=(), repr=False)

    methods: ClassVar[tuple[str, ...]] = ("uniform", "sobol", "latin_hypercube", "grid")
    # Whether other points may be held against it: finite sets know their own alone.
    knows_inside: ClassVar[bool] = True

    @property
    @abstractmethod
    def bounds(self) -> np.ndarray: ...

    @abstractmethod
    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        """Membership of rows of x, float64.

        The margin, relative to the size of the domain, is added outside: positive, the
        boundary is included; negative, it is not.
        """

    def _inside(self, n: int, draw: Draw) -> Tensor:
        """n points (at most n with "grid"), float64, on the device of the draw."""
        return draw_in_box(self, n, draw) if draw.method == "grid" else self._drawn(n, draw)

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        """n points by a law, which "grid" is none of."""
        return draw_in_box(self, n, draw)

    @abstractmethod
    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        """n boundary points and normals, float64."""

    @property
    def dim(self) -> int:
        return len(self.bounds)

    @property
    def n_parameters(self) -> int:
        """How many of the last coordinates, but for time, are parameters of the equation."""
        return 0

    @property
    def volume(self) -> float:
        """In one dimension length, in two area; of combinations to about one in a thousand.

        Raises
        ------
        ValueError
            For domains whose inside is not known: points, and functions that draw them.
        """
        if not self.knows_inside or not np.isfinite(self.bounds).all():
            raise ValueError(f"the volume of {self!r} is not known.")
        unit = Draw("sobol", torch.Generator().manual_seed(0)).unit(self.dim)(_FOR_VOLUME)
        low, high = torch.as_tensor(self.bounds.T)
        share = self._contains(low + (high - low) * unit, 0.0).double().mean()
        return float((high - low).prod() * share)

    @property
    def _log_volume(self) -> float:
        """Of the set from which points inside are proposed: the bounding box, if not smaller."""
        with np.errstate(divide="ignore"):
            return float(np.log(np.ptp(self.bounds, 1)).sum())

    def _parts(self) -> "list[Domain]":
        """The domains that it is a combination of."""
        return [self]

    def _freeze(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_anchors(self) -> None:
        points: Any = self.anchors
        if len(points):
            points = checked_points(points, self.dim, "anchors", domain=self).tolist()
        self._freeze(anchors=tuple(map(tuple, points)))

    def contains(self, x: Any, margin: float = CLOSED) -> Any:
        """Which points lie in the domain, its boundary included.

        Parameters
        ----------
        x : Tensor or array of shape (n, d)
        margin : float
            So far outside, relative to the domain's size, is inside too: for rounding.

        Returns
        -------
        Boolean tensor or array of shape (n,), of the kind that x is.

        Raises
        ------
        ValueError
            If x has another shape.
        """
        points = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"x must have the shape (n, {self.dim}), got {tuple(points.shape)}.")
        inside = self._contains(points.detach().double(), margin)
        return inside if isinstance(x, Tensor) else inside.numpy()

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        method: str = "uniform",
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """n points of the domain; the anchors come first and count.

        Parameters
        ----------
        n : int
        generator : torch.Generator, optional
            Points are drawn on its device; the global generator and the CPU by default.
        method : {"uniform", "sobol", "latin_hypercube", "grid"}, default="uniform"
            "grid" gives at most n points, cells' midpoints of a regular grid. A ball also
            knows "radius".
        dtype : torch.dtype, default: torch's default

        Returns
        -------
        Tensor of shape (n, d)

        Raises
        ------
        ValueError
            If n is no count or below that of the anchors, for a method that the domain does not
            know, and where next to no points can be found.
        """
        count = self._checked_count(n, method) - len(self.anchors)
        if count < 0:
            raise ValueError(
                f"n must be at least the number of anchors, {len(self.anchors)}; got {n}."
            )
        points = self._inside(count, Draw(method, generator))
        if self.anchors:
            points = torch.cat([points.new_tensor(self.anchors), points])
        return points.to(dtype or torch.get_default_dtype())

    def sample_boundary(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        method: str = "uniform",
        dtype: torch.dtype | None = None,
    ) -> Pair:
        """n points of the boundary, by area, and the outward unit normals there.

        Parameters (n, generator, method, dtype) are those of ``sample``. "grid" gives at most n
        points; a box has at least one on each of its 2 d faces.

        Returns
        -------
        points, normals : Tensor of shape (n, d)

        Raises
        ------
        ValueError
            As ``sample``, and where the boundary cannot be drawn in this way.
        """
        found = self._on_boundary(self._checked_count(n, method), Draw(method, generator))
        points, normals = (each.to(dtype or torch.get_default_dtype()) for each in found)
        return points, normals

    def distance(self, x: Tensor) -> Tensor:
        """A smooth function that is zero on the boundary alone and positive inside.

        Near the boundary it is about the distance to it, or in boxes of up to three dimensions
        in proportion to it; corners apart, any derivative exists. Combinations take R-functions:
        of a and b both, ``a + b - sqrt(a^2 + b^2)``.

        Parameters
        ----------
        x : Tensor of shape (n, d)

        Returns
        -------
        Tensor of shape (n,)

        Raises
        ------
        ValueError
            For domains without one: points, samplers, spheres.

        Source: Rvachev, Sheiko, "R-functions in boundary value problems in mechanics" (1995);
        Sukumar, Srivastava, "Exact imposition of boundary conditions with distance functions in
        physics-informed deep neural networks" (2022).

        Examples
        --------
        >>> import torch
        >>> from sklearn_metakan.pde import Ball, Box
        >>> Ball([0, 0]).distance(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        tensor([0.0000, 0.5000])
        """
        return self._level(x)

    def _level(self, x: Tensor) -> Tensor:
        """As ``distance``, and negative outside."""
        raise ValueError(f"{self!r} has no distance to its boundary; hold its conditions softly.")

    def _checked_count(self, n: int, method: str) -> int:
        if method not in self.methods:
            known = f"{type(self).__name__} knows {self.methods}"
            hint = known if method in METHODS else f"must be one of {METHODS}; {known}"
            raise ValueError(f"method {hint}, got {method!r}.")
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"n must be an integer of at least 0, got {n!r}.")
        return int(n)

    def __or__(self, other: "Domain") -> "Union":
        return Union(self, other)

    def __and__(self, other: "Domain") -> "Intersection":
        return Intersection(self, other)

    def __sub__(self, other: "Domain") -> "Difference":
        return Difference(self, other)


def check_domain(name: str, value: Any) -> None:
    """Raise a TypeError unless a part of a domain is a domain itself."""
    if not isinstance(value, Domain):
        raise TypeError(f"{name} must be a domain (see as_domain), got {shown(value)}.")


def shown(value: Any) -> str:
    """What was given in place of an object; of its class, how an object is made of it."""
    return f"the class: write {value.__name__}(...)" if isinstance(value, type) else repr(value)


def checked_points(points: Any, dim: int | None, name: str, domain: Domain | None = None) -> Tensor:
    """Points as a float64 tensor (n, d), or a ValueError that names them."""
    try:
        found = torch.as_tensor(points if isinstance(points, Tensor) else np.array(points))
        if found.is_complex():
            raise TypeError("they are complex")
        found = found.detach().double()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} must be numbers of shape (n, d): {error}") from error
    if found.ndim != 2 or dim not in (None, found.shape[1]):
        shape = f"(n, {'d' if dim is None else dim})"
        raise ValueError(f"{name} must have the shape {shape}, got {tuple(found.shape)}.")
    wrong, rule = found.isfinite().all(1).logical_not().cpu(), "be finite"
    if not wrong.any() and domain is not None:
        wrong = torch.as_tensor(domain.contains(found)).logical_not().cpu()
        rule = f"lie in the domain {domain!r}"
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must {rule}, got {found[row].tolist()} in row {row}.")
    return found


def points_inside(domain: Domain, points: Any, name: str) -> Tensor:
    """The same for points that must lie in the domain, if it knows its inside."""
    return checked_points(points, domain.dim, name, domain if domain.knows_inside else None)


def numbers(name: str, value: Any) -> Numbers:
    """A tuple of finite floats from a sequence of numbers."""
    array = np.asarray(value, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers, one for each dimension, got {value!r}.")
    return tuple(array.tolist())


def refuse_grid(domain: Domain, draw: Draw) -> None:
    """Raise a ValueError for boundary points of a domain on which no grid is known."""
    if draw.method == "grid":
        raise ValueError(f'method="grid" knows no grid on {domain!r}; use "sobol" instead.')


def by_rejection(
    n: int,
    propose: Callable[[int], Tensor],
    name: str,
    accept: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """n rows of what is proposed, those that are accepted, or all."""
    found: list[Tensor] = []
    have, size = 0, max(64, 2 * n)
    for _ in range(MOST_TRIES):
        rows = propose(size)
        rows = rows if accept is None else rows[accept(rows)]
        found.append(rows)
        have += len(rows)
        if have >= n:
            return torch.cat(found)[:n]
        size = min(2 * size, 2**18)
    raise ValueError(
        f"{name} has (nearly) no points to draw: its parts may not overlap, or hide it."
    )


def draw_in_box(domain: Domain, n: int, draw: Draw) -> Tensor:
    """Points of a domain from those of its bounding box.

    "grid" is the finest grid, among some, of which at most n points lie inside.
    """
    if draw.method != "grid":
        unit, (low, high) = draw.unit(domain.dim), torch.as_tensor(domain.bounds.T).to(draw.device)
        propose = lambda count: low + (high - low) * unit(count)  # noqa: E731
        return by_rejection(n, propose, repr(domain), domain._contains)
    best, size = torch.empty(0, domain.dim, dtype=torch.float64), max(n, 1)
    while size <= 1000 * max(n, 100):
        points = grid_points(domain.bounds, size)
        points = points[domain._contains(points)]
        if len(points) > n:
            break
        best, size = points, max(size + 1, int(1.2 * size))
    if n and not len(best):
        raise ValueError(
            f'method="grid" finds no points of {domain!r} for n={n}; use "sobol" instead.'
        )
    return best.to(draw.device)


def both(a: Tensor, b: Tensor) -> Tensor:
    """R-conjunction: positive where a and b are, zero where one of them becomes so."""
    return a + b - (a.square() + b.square()).clamp_min(_TINY).sqrt()


@dataclass(frozen=True, repr=False)
class _Combined(Domain):
    """Two domains of the same dimension; anchors of both that lie in the result are kept.

    Points inside are drawn in the bounding box or in a part around the result, whichever is
    smaller; points of the boundary from the boundaries of all parts by their area. What does
    not belong to the result is drawn again.
    """

    left: Domain
    right: Domain

    surround: ClassVar[tuple[str, ...]] = ()  # parts that have all points of the result

    def __post_init__(self) -> None:
        for part in (self.left, self.right):
            check_domain("what a domain is combined with", part)
        if self.left.dim != self.right.dim:
            raise ValueError(
                "domains must have the same number of dimensions to be combined, got "
                f"{self.left.dim} and {self.right.dim}."
            )
        both = [*dict.fromkeys((*self.left.anchors, *self.right.anchors))]
        if both and not self.anchors:
            kept = self.contains(np.array(both))
            self._freeze(anchors=tuple(a for a, keep in zip(both, kept, strict=True) if keep))
        self._set_anchors()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.left!r}, {self.right!r})"

    @property
    def _around(self) -> list[Domain]:
        return [getattr(self, name) for name in self.surround]

    @property
    def n_parameters(self) -> int:
        return self.left.n_parameters

    def _parts(self) -> list[Domain]:
        return self.left._parts() + self.right._parts()

    @property
    def _log_volume(self) -> float:
        return min([super()._log_volume, *(part._log_volume for part in self._around)])

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        part = min(self._around, key=lambda part: part._log_volume, default=None)
        if part is None or part._log_volume >= super()._log_volume:
            return draw_in_box(self, n, draw)
        return by_rejection(n, partial(part._inside, draw=draw), repr(self), self._contains)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        """Each part's boundary in proportion to its area; a point stays if one side is inside.

        Where boundaries of several parts coincide, the points of the first of them stay.
        """
        if draw.method == "grid":
            raise ValueError(f'method="grid" knows no grid on the boundary of {self!r}.')
        parts = self._parts()
        known = [getattr(part, "boundary_area", None) for part in parts]
        if None in known:
            raise ValueError(
                f"the boundary of a combination with {parts[known.index(None)]!r} cannot be drawn "
                "by area: its boundary_area is not known."
            )
        areas = torch.tensor(known, dtype=torch.float64, device=draw.device)
        step = NUDGE * min(float(np.ptp(each.bounds, 1).min()) for each in (self, *parts))

        def propose(count: int) -> Tensor:
            chosen = areas.multinomial(count, replacement=True, generator=draw.generator)
            pieces = []
            for number, part in enumerate(parts):
                of_part = int((chosen == number).sum())
                rows = torch.cat(part._on_boundary(of_part, draw), 1)
                for earlier in parts[:number]:
                    rows = rows[~_crosses(earlier, rows, step)]
                pieces.append(rows)
            rows = torch.cat(pieces)
            return rows[draw.shuffled(len(rows))]

        def accept(rows: Tensor) -> Tensor:
            # Where parts touch, a step may cross a boundary that is beside the point.
            return _crosses(self, rows, step) & self._contains(rows.chunk(2, 1)[0])

        rows = by_rejection(n, propose, f"the boundary of {self!r}", accept)
        points, normals = rows.chunk(2, 1)
        return points, torch.where(_sides(self, rows, step)[1][:, None], -normals, normals)


def _sides(domain: Domain, rows: Tensor, step: float) -> Pair:
    """Whether one is in the domain a step behind, and a step ahead of points with normals."""
    points, normals = rows.chunk(2, 1)
    behind, ahead = points - step * normals, points + step * normals
    # No margin: that of a large part may exceed the step.
    return domain._contains(behind, 0.0), domain._contains(ahead, 0.0)


def _crosses(domain: Domain, rows: Tensor, step: float) -> Tensor:
    """Whether one enters or leaves the domain there."""
    behind, ahead = _sides(domain, rows, step)
    return behind != ahead


@dataclass(frozen=True, repr=False)
class Union(_Combined):
    """``A | B``: the points of A or B."""

    @property
    def bounds(self) -> np.ndarray:
        left, right = self.left.bounds, self.right.bounds
        return np.stack([np.minimum(left, right)[:, 0], np.maximum(left, right)[:, 1]], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) | self.right._contains(x, margin)

    def _level(self, x: Tensor) -> Tensor:
        return -both(-self.left._level(x), -self.right._level(x))


@dataclass(frozen=True, repr=False)
class Intersection(_Combined):
    """``A & B``: the points of both A and B."""

    surround = ("left", "right")

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

    def _level(self, x: Tensor) -> Tensor:
        return both(self.left._level(x), self.right._level(x))


@dataclass(frozen=True, repr=False)
class Difference(_Combined):
    """``A - B``: the points of A outside B, with their boundary."""

    surround = ("left",)

    @property
    def bounds(self) -> np.ndarray:
        return self.left.bounds

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.left._contains(x, margin) & ~self.right._contains(x, -margin)

    def _level(self, x: Tensor) -> Tensor:
        return both(self.left._level(x), -self.right._level(x))
