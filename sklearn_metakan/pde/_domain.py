"""What every domain offers: points inside, points on the boundary, membership."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde._draws import METHODS, grid_points, unit_points

if TYPE_CHECKING:
    from sklearn_metakan.pde._combined import Difference, Intersection, Union

Numbers = tuple[float, ...]
MOST_TRIES = 200  # batches of proposals before a domain counts as empty
CLOSED = 1e-6  # of the size of a domain: points so near, float32's rounding, count as inside


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

    @property
    @abstractmethod
    def bounds(self) -> np.ndarray: ...

    @abstractmethod
    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        """Membership of rows of x, float64.

        The margin, relative to the size of the domain, is added outside: positive, the
        boundary is included; negative, it is not.
        """

    @abstractmethod
    def _inside(self, n: int, method: str, generator: torch.Generator | None) -> Tensor:
        """n points (at most n with "grid"), float64, on the generator's device."""

    @abstractmethod
    def _on_boundary(
        self, n: int, method: str, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """n boundary points and normals, float64."""

    @property
    def dim(self) -> int:
        return len(self.bounds)

    @property
    def knows_inside(self) -> bool:
        """Whether other points may be held against it: finite sets know their own alone."""
        return True

    @property
    def _log_volume(self) -> float:
        """Of the set from which points inside are proposed: the bounding box, if not smaller."""
        with np.errstate(divide="ignore"):
            return float(np.log(np.ptp(self.bounds, 1)).sum())

    def _leaves(self) -> list["Domain"]:
        """The domains that it is a combination of."""
        return [self]

    def _freeze(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_anchors(self) -> None:
        if not len(self.anchors):
            self._freeze(anchors=())
            return
        points = checked_points(self.anchors, self.dim, "anchors", domain=self)
        self._freeze(anchors=tuple(tuple(row) for row in points.tolist()))

    def contains(self, x: Any) -> Any:
        """Which points lie in the domain, its boundary included.

        Parameters
        ----------
        x : Tensor or array of shape (n, d)

        Returns
        -------
        Boolean tensor or array of shape (n,), of the kind that x is.
        """
        points = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"x must have the shape (n, {self.dim}), got {tuple(points.shape)}.")
        inside = self._contains(points.detach().double())
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
        """
        count = self._checked_count(n, method) - len(self.anchors)
        if count < 0:
            raise ValueError(
                f"n must be at least the number of anchors, {len(self.anchors)}; got {n}."
            )
        points = self._inside(count, method, generator)
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
    ) -> tuple[Tensor, Tensor]:
        """n points of the boundary, by area, and the outward unit normals there.

        "grid" gives at most n points; a box has at least one on each of its 2 d faces.

        Returns
        -------
        points, normals : Tensor of shape (n, d)
        """
        points, normals = self._on_boundary(self._checked_count(n, method), method, generator)
        dtype = dtype or torch.get_default_dtype()
        return points.to(dtype), normals.to(dtype)

    def _checked_count(self, n: int, method: str) -> int:
        if method not in self.methods:
            known = f"{type(self).__name__} knows {self.methods}"
            hint = known if method in METHODS else f"must be one of {METHODS}; {known}"
            raise ValueError(f"method {hint}, got {method!r}.")
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"n must be an integer of at least 0, got {n!r}.")
        return int(n)

    def __or__(self, other: "Domain") -> "Union":
        from sklearn_metakan.pde._combined import Union

        return Union(self, other) if isinstance(other, Domain) else NotImplemented

    def __and__(self, other: "Domain") -> "Intersection":
        from sklearn_metakan.pde._combined import Intersection

        return Intersection(self, other) if isinstance(other, Domain) else NotImplemented

    def __sub__(self, other: "Domain") -> "Difference":
        from sklearn_metakan.pde._combined import Difference

        return Difference(self, other) if isinstance(other, Domain) else NotImplemented


def checked_points(points: Any, dim: int | None, name: str, domain: Any = None) -> Tensor:
    """Points as a float64 tensor (n, d), or a ValueError that names them."""
    try:
        found = torch.as_tensor(points if isinstance(points, Tensor) else np.array(points))
        if found.is_complex():
            raise TypeError("they are complex")
        found = found.detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers of shape (n, d): {error}") from error
    if found.ndim != 2 or dim not in (None, found.shape[1]):
        shape = f"(n, {'d' if dim is None else dim})"
        raise ValueError(f"{name} must have the shape {shape}, got {tuple(found.shape)}.")
    if not found.isfinite().all():
        row = int(found.isfinite().all(1).logical_not().nonzero()[0])
        raise ValueError(f"{name} must be finite, got {found[row].tolist()} in row {row}.")
    if domain is not None:
        outside = torch.as_tensor(domain.contains(found)).logical_not().cpu()
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(
                f"{name} must lie in the domain {domain!r}, got {found[row].tolist()} in row {row}."
            )
    return found


def numbers(name: str, value: Any) -> Numbers:
    """A tuple of finite floats from a sequence of numbers."""
    array = np.asarray(value, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers, one for each dimension, got {value!r}.")
    return tuple(array.tolist())


def by_rejection(
    n: int, propose: Callable[[int], Tensor], accept: Callable[[Tensor], Tensor], name: str
) -> Tensor:
    """n rows of what is proposed, those that are accepted."""
    found: list[Tensor] = []
    have, size = 0, max(64, 2 * n)
    for _ in range(MOST_TRIES):
        rows = propose(size)
        rows = rows[accept(rows)]
        found.append(rows)
        have += len(rows)
        if have >= n:
            return torch.cat(found)[:n]
        size = min(2 * size, 2**18)
    raise ValueError(
        f"{name} has (nearly) no points to draw: its parts may not overlap, or hide it."
    )


def draw_in_box(domain: Domain, n: int, method: str, generator: torch.Generator | None) -> Tensor:
    """Points of a domain from those of its bounding box."""
    bounds = domain.bounds
    if method == "grid":
        return _grid_inside(domain, n, "cpu" if generator is None else generator.device)
    draw = unit_points(domain.dim, method, generator)
    low, high = torch.as_tensor(bounds.T)

    def propose(count: int) -> Tensor:
        unit = draw(count)
        return low.to(unit) + (high - low).to(unit) * unit

    return by_rejection(n, propose, domain._contains, repr(domain))


def _grid_inside(domain: Domain, n: int, device: Any) -> Tensor:
    """The finest grid, among some, of which at most n points lie inside."""
    best = torch.empty(0, domain.dim, dtype=torch.float64)
    size = max(n, 1)
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
    return best.to(device)
