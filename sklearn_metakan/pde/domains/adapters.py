"""Arrays, functions and other libraries' geometries as domains."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.pde.domains.domain import CLOSED, Domain, Pair, checked_points, shown
from sklearn_metakan.pde.domains.draws import METHODS, Draw

_NORMAL_ROUNDING = 1e-3  # of half precision
_DEEPXDE = ("random_points", "random_boundary_points", "boundary_normal", "inside", "bbox")


@dataclass(frozen=True, eq=False)
class Points(Domain):
    """A finite set of points.

    ``sample(n)`` gives all of them, in their order, where n is at least their number, and
    otherwise a random subset of n. As a boundary it gives the normals with them, or NaN
    where there are none.

    Parameters
    ----------
    X : array of shape (n, d)
    normals : array of shape (n, d), optional
        Outward unit normals, where the points are a boundary.
    anchors : array of shape (a, d), optional
        Of the points, those always kept.

    Raises
    ------
    ValueError
        For other shapes, numbers that are not finite, no points, normals of another length
        than 1, and anchors that are none of the points.

    Examples
    --------
    >>> points = Points([[0.0], [0.5], [1.0]])
    >>> points.sample(3).flatten(), points.bounds.tolist()
    (tensor([0.0000, 0.5000, 1.0000]), [[0.0, 1.0]])
    """

    X: Any
    normals: Any = None

    methods: ClassVar[tuple[str, ...]] = METHODS
    knows_inside: ClassVar[bool] = False

    def __post_init__(self) -> None:
        points, normals = checked_points(self.X, None, "X"), self.normals
        if not points.numel():
            raise ValueError(f"X must have at least one point, got shape {tuple(points.shape)}.")
        if normals is not None:
            normals = checked_points(normals, points.shape[1], "normals")
            _check_normals(normals, len(points), "normals")
        self._freeze(X=_read_only(points), normals=None if normals is None else _read_only(normals))
        self._set_anchors()

    def __repr__(self) -> str:
        return f"Points({len(self.X)} x {self.X.shape[1]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Points) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        normals = b"" if self.normals is None else self.normals.tobytes()
        return self.X.shape, self.anchors, hashlib.sha256(self.X.tobytes()).digest(), normals

    @property
    def bounds(self) -> np.ndarray:
        return np.stack([self.X.min(0), self.X.max(0)], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        # By their extent, not by how far from zero they lie; of a single point, that is known.
        size = float(np.ptp(self.X, 0).max()) or max(1.0, float(np.abs(self.X).max()))
        step = 2**16  # rows at a time, so that distances stay small
        known, middle = torch.as_tensor(self.X.copy()).to(x.device), x.new_tensor(self.X.mean(0))
        parts = [torch.cdist(p - middle, known - middle).min(1).values for p in x.split(step)]
        return torch.cat(parts) <= CLOSED * size

    def _chosen(self, n: int, draw: Draw, table: NDArray[Any]) -> Tensor:
        """Rows of a table with a row for each point."""
        count = len(self.X)
        rows = torch.arange(count, device=draw.device) if n >= count else draw.shuffled(count)[:n]
        return torch.as_tensor(table.copy()).to(draw.device)[rows]

    def _inside(self, n: int, draw: Draw) -> Tensor:
        return self._chosen(n, draw, self.X)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        normals = np.full_like(self.X, np.nan) if self.normals is None else self.normals
        points, normals = self._chosen(n, draw, np.stack([self.X, normals], 1)).unbind(1)
        return points, normals


def _read_only(points: Tensor) -> NDArray[np.float64]:
    array = points.cpu().numpy().copy()
    array.setflags(write=False)
    return array


def _check_normals(normals: Tensor, count: int, name: str) -> None:
    lengths = normals.norm(dim=1)
    wrong = (lengths - 1).abs() > _NORMAL_ROUNDING
    if len(normals) != count or wrong.any():
        found = f"{len(normals)} of them"
        if wrong.any():
            found = f"a length of {lengths[wrong][0].item():.6g}"
        raise ValueError(
            f"{name} must be unit vectors, one for each of the {count} points, got {found}."
        )


@dataclass(frozen=True)
class _Foreign(Domain):
    """What adapted samplers share: their points are checked when they are drawn."""

    methods: ClassVar[tuple[str, ...]] = METHODS

    def _checked(self, points: Any, name: str, draw: Draw) -> Tensor:
        found = checked_points(points, self.dim, f"points of {name}")
        if not len(found):
            raise ValueError(f"points of {name} must be at least one, got none.")
        return found.to(draw.device)


@dataclass(frozen=True)
class Sampler(_Foreign):
    """A domain from a function, or from an object with some of a domain's methods.

    Parameters
    ----------
    source : callable or object
        ``source(n, generator)`` gives points (n, d), an array or a tensor; for a boundary
        either points or (points, normals). Or an object with ``sample(n, generator)`` and
        perhaps ``sample_boundary(n, generator)``, ``contains(x)`` and ``bounds``; what it does
        not know counts as everything. The generator is a ``torch.Generator``. Far from zero give
        points of float64: they are taken as they are.
    width : int
        d.
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    TypeError
        If source is neither.
    ValueError
        When points are drawn that have the wrong width, are not finite, or lie outside.

    Examples
    --------
    >>> import torch
    >>> def disc(n, generator):
    ...     return Ball([0.0, 0.0]).sample(n, generator)
    >>> from sklearn_metakan.pde import Ball
    >>> Sampler(disc, 2).sample(5).shape
    torch.Size([5, 2])
    """

    source: Any
    width: int

    def __post_init__(self) -> None:
        if not callable(self.source) and not callable(getattr(self.source, "sample", None)):
            raise TypeError(
                "a sampler must be a function of (n, generator), or an object with a method "
                f"sample(n, generator), got {self.source!r}."
            )
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        bounds = getattr(self.source, "bounds", None)
        if bounds is None:
            return np.tile([-np.inf, np.inf], (self.width, 1))
        return np.asarray(bounds() if callable(bounds) else bounds, dtype=float)

    @property
    def dim(self) -> int:
        return self.width

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        contains = getattr(self.source, "contains", None)
        if contains is None:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return torch.as_tensor(contains(x)).to(x.device).reshape(-1).bool()

    def _inside(self, n: int, draw: Draw) -> Tensor:
        sample: Callable[..., Any] = getattr(self.source, "sample", self.source)
        points = self._checked(sample(n, draw.generator), repr(self.source), draw)
        outside = ~self._contains(points)
        if outside.any():
            row = points[outside][0].tolist()
            raise ValueError(f"points of {self.source!r} must lie in its domain, got {row}.")
        return points

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        sample: Callable[..., Any] | None = getattr(self.source, "sample_boundary", None)
        if sample is None and callable(self.source):
            sample = self.source
        if sample is None:
            raise ValueError(f"{self.source!r} has no sample_boundary(n, generator).")
        found = sample(n, draw.generator)
        points, normals = found if isinstance(found, tuple) else (found, None)
        points = self._checked(points, repr(self.source), draw)
        if normals is None:
            return points, torch.full_like(points, torch.nan)
        name = f"{self.source!r} (normals)"
        normals = self._checked(normals, name, draw)
        _check_normals(normals, len(points), name)
        return points, normals


@dataclass(frozen=True)
class DeepXDEGeometry(_Foreign):
    """A geometry of DeepXDE, or any object with its methods, as a domain.

    Used are ``random_points(n)``, ``random_boundary_points(n)``, ``boundary_normal(x)``,
    ``inside(x)`` and ``bbox``, all numpy. DeepXDE draws from numpy's global generator: it is
    seeded from the generator given here for the call, and put back after it.

    Parameters
    ----------
    geometry : object
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    TypeError
        If the geometry lacks one of the methods.
    ValueError
        When points are drawn that have the wrong width or are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> class Segment:
    ...     bbox = ([0.0], [1.0])
    ...     def random_points(self, n): return np.random.rand(n, 1)
    ...     def random_boundary_points(self, n): return np.random.randint(2, size=(n, 1))
    ...     def boundary_normal(self, x): return 2.0 * x - 1.0
    ...     def inside(self, x): return ((x >= 0) & (x <= 1)).all(1)
    >>> DeepXDEGeometry(Segment()).sample(5).shape
    torch.Size([5, 1])
    """

    geometry: Any

    def __post_init__(self) -> None:
        missing = [name for name in _DEEPXDE if not hasattr(self.geometry, name)]
        if missing:
            raise TypeError(f"a DeepXDE geometry needs {missing}, got {self.geometry!r}.")
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        return np.array([np.ravel(end) for end in self.geometry.bbox], dtype=float).T

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        inside = np.asarray(self.geometry.inside(x.cpu().numpy())).reshape(-1)
        return torch.as_tensor(inside.astype(bool)).to(x.device)

    def _seeded(self, method: str, n: int, draw: Draw) -> NDArray[Any]:
        seed, state = draw.seed(), np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            return np.asarray(getattr(self.geometry, method)(n))
        finally:
            np.random.set_state(state)  # noqa: NPY002

    def _inside(self, n: int, draw: Draw) -> Tensor:
        points = self._seeded("random_points", n, draw)
        return self._checked(points, repr(self.geometry), draw)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        points = self._seeded("random_boundary_points", n, draw)
        name, normals = repr(self.geometry), np.asarray(self.geometry.boundary_normal(points))
        return self._checked(points, name, draw), self._checked(normals, name, draw)


def as_domain(source: Any, dim: int | None = None) -> Domain:
    """Whatever may stand for a domain or a boundary, as a Domain.

    Parameters
    ----------
    source : Domain, DeepXDE geometry, sampler, callable or array
        An object with ``sample(n, generator)``, a function of (n, generator), an array of
        points (n, d); see ``Sampler``, ``DeepXDEGeometry`` and ``Points``.
    dim : int, optional
        d. Needed for functions and objects without ``bounds``, of which one point is drawn
        if it is not given; others are checked against it.

    Raises
    ------
    TypeError
        If it is a class, such as Interval in place of Interval(0, 1).
    ValueError
        If it is none of these, or has another number of dimensions than d.

    Examples
    --------
    >>> as_domain([[0.0, 1.0], [2.0, 3.0]])
    Points(2 x 2)
    """
    if isinstance(source, type):
        raise TypeError(f"a domain must be an object, got {shown(source)}.")
    sample: Any = getattr(source, "sample", source)
    domain: Domain
    if isinstance(source, Domain):
        domain = source
    elif all(hasattr(source, name) for name in _DEEPXDE):
        domain = DeepXDEGeometry(source)
    elif hasattr(source, "__array__") or not callable(sample):  # DataFrames have a sample as well
        try:
            domain = Points(source)
        except ValueError as error:
            others = " Or give a domain, such as Interval(0, 1) or Box([0, 0], [1, 1])."
            raise ValueError(f"{error}{others}") from error
    else:
        width = dim
        if width is None:
            drawn = sample(1, torch.Generator().manual_seed(0))
            points = drawn[0] if isinstance(drawn, tuple) else drawn
            width = checked_points(points, None, f"points of {source!r}").shape[1]
        domain = Sampler(source, width)
    if dim is not None and domain.dim != dim:
        raise ValueError(f"{domain!r} must have {dim} dimensions, got {domain.dim}.")
    return domain
