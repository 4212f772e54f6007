"""Domains made of others: moved, stretched balls, products, and where a function is positive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import (
    CLOSED,
    Domain,
    Numbers,
    Pair,
    both,
    by_rejection,
    check_domain,
    numbers,
    refuse_grid,
)
from sklearn_metakan.pde.domains.draws import Draw
from sklearn_metakan.pde.domains.shapes import Ball, Box, SpaceTime

_DIRECTIONS = 2**15  # that an area is averaged over
_CHORD, _HALVINGS = 128, 40  # points on a line, and steps to where it leaves a domain


@dataclass(frozen=True)
class Moved(Domain):
    """A domain turned about the origin and then shifted: all ``R x + shift``.

    Parameters
    ----------
    domain : Domain
    shift : sequence of d floats, default=None
        None: by nothing.
    rotation : float or array of shape (d, d), default=None
        In the plane an angle, counterclockwise; else an orthogonal matrix R. None: none.
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        If the matrix is not orthogonal, or shapes do not fit the domain.

    Examples
    --------
    >>> from math import pi
    >>> diamond = Moved(Box([-1, -1], [1, 1]), rotation=pi / 4)
    >>> diamond.contains([[1.4, 0.0], [0.9, 0.9]]).tolist()
    [True, False]
    """

    domain: Domain
    shift: Any = None
    rotation: Any = None

    def __post_init__(self) -> None:
        check_domain("domain", self.domain)
        d = self.domain.dim
        shift = numbers("shift", np.zeros(d) if self.shift is None else self.shift)
        turn = np.eye(d) if self.rotation is None else np.asarray(self.rotation, dtype=float)
        if turn.ndim == 0 and d == 2:
            turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        if len(shift) != d or turn.shape != (d, d) or not np.allclose(turn @ turn.T, np.eye(d)):
            raise ValueError(
                f"shift must be {d} numbers and rotation an orthogonal matrix ({d}, {d}), or an "
                f"angle in the plane, got {self.shift!r} and {self.rotation!r}."
            )
        self._freeze(shift=shift, rotation=tuple(map(tuple, turn.tolist())))
        self._set_anchors()

    def _there(self, x: Tensor) -> Tensor:
        return x @ x.new_tensor(self.rotation).T + x.new_tensor(self.shift)

    def _back(self, x: Tensor) -> Tensor:
        return (x - x.new_tensor(self.shift)) @ x.new_tensor(self.rotation)

    @property
    def bounds(self) -> np.ndarray:
        low, high = self.domain.bounds.T
        middle = np.array(self.rotation) @ (low + high) / 2 + self.shift
        reach = np.abs(self.rotation) @ (high - low) / 2
        return np.stack([middle - reach, middle + reach], 1)

    @property
    def volume(self) -> float:
        return self.domain.volume

    @property
    def boundary_area(self) -> float:
        return float(getattr(self.domain, "boundary_area"))  # noqa: B009, where it is known

    @property
    def _log_volume(self) -> float:
        return self.domain._log_volume

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self.domain._contains(self._back(x), margin)

    def _inside(self, n: int, draw: Draw) -> Tensor:
        return self._there(self.domain._inside(n, draw))

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        x, normals = self.domain._on_boundary(n, draw)
        return self._there(x), normals @ x.new_tensor(self.rotation).T

    def distance(self, x: Tensor) -> Tensor:
        return self.domain.distance(self._back(x))

    def _level(self, x: Tensor) -> Tensor:
        return self.domain._level(self._back(x))


@dataclass(frozen=True)
class Ellipsoid(Domain):
    """All x with ``sum_i ((x_i - center_i) / semi_axes_i)^2 <= 1``; in the plane an ellipse.

    Parameters
    ----------
    center, semi_axes : sequence of d floats
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        If numbers are not finite, or an axis is not positive.

    Examples
    --------
    >>> ellipse = Ellipsoid([0, 0], [2, 1])
    >>> round(ellipse.volume, 3), round(ellipse.boundary_area, 2)
    (6.283, 9.69)
    """

    center: Numbers | Sequence[float]
    semi_axes: Numbers | Sequence[float]

    def __post_init__(self) -> None:
        center, axes = numbers("center", self.center), numbers("semi_axes", self.semi_axes)
        if len(center) != len(axes) or min(axes) <= 0:
            raise ValueError(
                f"semi_axes must be positive, one for each of {len(center)} dimensions, got "
                f"{self.semi_axes!r}."
            )
        self._freeze(center=center, semi_axes=axes)
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        center, axes = np.array(self.center), np.array(self.semi_axes)
        return np.stack([center - axes, center + axes], 1)

    @property
    def _unit(self) -> Ball:
        return Ball(np.zeros(len(self.center)).tolist())

    @property
    def volume(self) -> float:
        return self._unit.volume * float(np.prod(self.semi_axes))

    @property
    def _log_volume(self) -> float:
        return self._unit._log_volume + float(np.log(self.semi_axes).sum())

    @cached_property
    def boundary_area(self) -> float:
        draw = Draw("sobol", torch.Generator().manual_seed(0))
        normals = self._unit._on_boundary(_DIRECTIONS, draw)[1]
        stretched = (normals / normals.new_tensor(self.semi_axes)).norm(dim=1).mean()
        return self._unit.boundary_area * float(np.prod(self.semi_axes)) * float(stretched)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - x.new_tensor(self.center)) / x.new_tensor(self.semi_axes)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        return self._scaled(x).norm(dim=1) <= 1 + margin

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        unit = self._unit._inside(n, draw)
        return unit.new_tensor(self.center) + unit.new_tensor(self.semi_axes) * unit

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        """Points of a sphere, kept in proportion to how much the surface is stretched there."""
        axes = torch.tensor(self.semi_axes, dtype=torch.float64, device=draw.device)
        directions = draw.unit(self.dim + 1)

        def propose(count: int) -> Tensor:
            unit = directions(count)
            normals = self._unit._directions(unit[:, 1:])
            stretched = (normals / axes).norm(dim=1) * axes.min()
            return normals[unit[:, 0] <= stretched]

        on_sphere = by_rejection(n, propose, repr(self))
        normals = on_sphere / axes
        x = on_sphere.new_tensor(self.center) + axes * on_sphere
        return x, normals / normals.norm(dim=1, keepdim=True)

    def _level(self, x: Tensor) -> Tensor:
        away, axes = self._scaled(x), x.new_tensor(self.semi_axes)
        f = (1 - away.square().sum(1)) / 2
        slope = (away / axes).square().sum(1)
        return f / (slope + (f / min(self.semi_axes)).square()).sqrt()


@dataclass(frozen=True)
class Product(Domain):
    """All (x, y) with x in one domain and y in another: a cylinder is a disc times an interval.

    Parameters
    ----------
    left, right : Domain
        Of the first coordinates, and of the others.
    anchors : array of shape (a, d), optional
        Points always kept.

    Its boundary is that of either times the other, by area.

    Examples
    --------
    >>> from sklearn_metakan.pde import Interval
    >>> can = Product(Ball([0, 0], 2.0), Interval(0, 1))
    >>> can.dim, round(can.volume, 2), round(can.boundary_area, 2)
    (3, 12.57, 37.7)
    """

    left: Domain
    right: Domain

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            check_domain(name, getattr(self, name))
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        return np.concatenate([self.left.bounds, self.right.bounds])

    @property
    def volume(self) -> float:
        return self.left.volume * self.right.volume

    @property
    def _log_volume(self) -> float:
        return self.left._log_volume + self.right._log_volume

    @property
    def _areas(self) -> tuple[float, float]:
        parts: Any = self.left, self.right
        return parts[0].boundary_area * parts[1].volume, parts[0].volume * parts[1].boundary_area

    @property
    def boundary_area(self) -> float:
        return sum(self._areas)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.left.dim], x[:, self.left.dim :]

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        a, b = self._split(x)
        return self.left._contains(a, margin) & self.right._contains(b, margin)

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        right = self.right._inside(n, draw)
        return torch.cat([self.left._inside(n, draw), right[draw.shuffled(n)]], 1)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        refuse_grid(self, draw)
        shares = torch.tensor(self._areas, dtype=torch.float64, device=draw.device)
        first = int((shares.multinomial(n, True, generator=draw.generator) == 0).sum()) if n else 0
        around, its = self.left._on_boundary(first, draw)
        beside = self.right._inside(first, draw)
        on_left = torch.cat([around, beside[draw.shuffled(first)], its, 0 * beside], 1)
        caps, theirs = self.right._on_boundary(n - first, draw)
        within = self.left._inside(n - first, draw)[draw.shuffled(n - first)]
        on_right = torch.cat([within, caps, 0 * within, theirs], 1)
        x, normals = torch.cat([on_left, on_right])[draw.shuffled(n)].chunk(2, 1)
        return x, normals

    def _level(self, x: Tensor) -> Tensor:
        a, b = self._split(x)
        return both(self.left._level(a), self.right._level(b))


@dataclass(frozen=True)
class ParametricDomain(Domain):
    """A domain, and ranges of parameters of the equation: a family of equations in one fit.

    Points are (x, p): coordinates of the domain first, then the parameters. Gradient, divergence
    and Laplacian are by x alone, and the boundary is that of the domain, for all parameters.
    With time it is the space: ``SpaceTime(ParametricDomain(...), t0, t1)``, points (x, p, t).

    Parameters
    ----------
    domain : Domain or None
        Of x; None for equations in time alone.
    parameters : mapping of str to (low, high)
        Ranges by name.
    anchors : array of shape (a, d), optional
        Points always kept.

    Raises
    ------
    ValueError
        For ranges that are empty or not finite, and for a domain with a time of its own.

    Examples
    --------
    >>> from sklearn_metakan.pde import Interval
    >>> family = ParametricDomain(Interval(0, 1), {"load": (1.0, 3.0)})
    >>> family.dim, family.n_parameters, family.bounds.tolist()
    (2, 1, [[0.0, 1.0], [1.0, 3.0]])
    """

    domain: Domain | None
    parameters: Any

    def __post_init__(self) -> None:
        pairs = self.parameters
        if isinstance(pairs, Mapping):
            pairs = tuple((str(name), *map(float, ends)) for name, ends in pairs.items())
        if not pairs or any(len(each) != 3 for each in pairs):
            raise ValueError(f"parameters must map names to (low, high), got {self.parameters!r}.")
        self._freeze(parameters=pairs)
        if self.domain is not None:
            check_domain("domain", self.domain)
        if self.domain is not None and any(isinstance(p, SpaceTime) for p in self.domain._parts()):
            raise ValueError(
                "a ParametricDomain is a space: put it into the time, as in "
                "SpaceTime(ParametricDomain(space, parameters), t0, t1)."
            )
        _ = self._ranges  # checked there
        self._set_anchors()

    @property
    def _ranges(self) -> Box:
        _, low, high = zip(*self.parameters, strict=True)
        return Box(low, high)

    @property
    def n_parameters(self) -> int:
        """How many of the last coordinates of space are parameters."""
        return len(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(name for name, _, _ in self.parameters)

    @property
    def methods(self) -> tuple[str, ...]:  # type: ignore[override]
        return Domain.methods if self.domain is None else self.domain.methods

    @property
    def knows_inside(self) -> bool:  # type: ignore[override]
        return self.domain is None or self.domain.knows_inside

    @property
    def bounds(self) -> np.ndarray:
        own = self._ranges.bounds
        return own if self.domain is None else np.concatenate([self.domain.bounds, own])

    @property
    def volume(self) -> float:
        return self._ranges.volume * (1.0 if self.domain is None else self.domain.volume)

    @property
    def _log_volume(self) -> float:
        own = self._ranges._log_volume
        return own if self.domain is None else own + self.domain._log_volume

    @property
    def boundary_area(self) -> float:
        return float(getattr(self.domain, "boundary_area")) * self._ranges.volume  # noqa: B009

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        split = x.shape[1] - self.n_parameters
        inside = self._ranges._contains(x[:, split:], margin)
        if self.domain is not None:
            inside &= self.domain._contains(x[:, :split], margin)
        return inside

    def _values(self, n: int, draw: Draw) -> Tensor:
        """Of the parameters, shuffled: independent of places."""
        method = "sobol" if draw.method in ("grid", "radius") else draw.method
        return self._ranges._inside(n, Draw(method, draw.generator))[draw.shuffled(n)]

    def _drawn(self, n: int, draw: Draw) -> Tensor:
        if self.domain is None:
            return self._values(n, draw)
        return torch.cat([self.domain._inside(n, draw), self._values(n, draw)], 1)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        if self.domain is None:
            raise ValueError(f"{self!r} has no boundary: its parameters have no conditions.")
        x, normals = self.domain._on_boundary(n, draw)
        values = self._values(len(x), draw)
        return torch.cat([x, values], 1), torch.cat([normals, torch.zeros_like(values)], 1)

    def distance(self, x: Tensor) -> Tensor:
        if self.domain is None:
            return super().distance(x)
        return self.domain.distance(x[:, : self.domain.dim])

    def _level(self, x: Tensor) -> Tensor:
        if self.domain is None:
            return super()._level(x)
        return self.domain._level(x[:, : self.domain.dim])


@dataclass(frozen=True)
class LevelSet(Domain):
    """All x of a box with ``fn(x) >= 0``, the set being within the box.

    Parameters
    ----------
    fn : callable
        Torch, (n, d) -> (n), positive inside, zero on the boundary, with a gradient there.
    low, high : sequence of d floats
        Ends of the box.
    anchors : array of shape (a, d), optional
        Points always kept.

    Points of the boundary are those where random straight lines leave the set: uniform by area
    (Crofton's formula), as far as fn changes its sign at most once in a 128th of the box.
    ``distance`` is fn itself.

    Raises
    ------
    TypeError
        If fn cannot be called.

    Examples
    --------
    >>> heart = LevelSet(lambda x: 1 - x.square().sum(1) + 0.5 * x[:, 1], [-2, -2], [2, 2])
    >>> heart.contains([[0.0, 1.2], [0.0, -1.0]]).tolist()
    [True, False]
    """

    fn: Callable[[Tensor], Tensor]
    low: Numbers | Sequence[float]
    high: Numbers | Sequence[float]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function of points, got {self.fn!r}.")
        box = Box(self.low, self.high)
        self._freeze(low=box.low, high=box.high)
        self._set_anchors()

    @property
    def bounds(self) -> np.ndarray:
        return np.stack([self.low, self.high], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        level = self.fn(x)
        if margin:  # along the gradient, to first order
            step = margin * float(np.ptp(self.bounds, 1).min())
            level = level + step * self._gradient(x).norm(dim=1)
        return (level >= 0) & Box(self.low, self.high)._contains(x, margin)

    def _gradient(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().clone().requires_grad_()
            return torch.autograd.grad(self.fn(at).sum(), at)[0]

    def _lines(self, count: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """Ends of random lines through the ball around the box, (count, d) each."""
        low, high = torch.as_tensor(self.bounds.T).to(draw.device)
        ball = Ball([0.0] * self.dim, float((high - low).norm()) / 2)
        along = ball._on_boundary(count, Draw("uniform", draw.generator))[1]
        # A point of the disc across, from one of the ball of its dimension.
        flat = Ball([0.0] * (self.dim - 1), ball.radius) if self.dim > 1 else None
        across = torch.zeros_like(along)
        if flat is not None:
            across[:, 1:] = flat._inside(count, Draw("uniform", draw.generator))
        first = torch.zeros_like(along)
        first[:, 0] = 1.0
        mirror = along - first  # the reflection that takes the first axis to the line's direction
        size = mirror.square().sum(1, keepdim=True).clamp_min(1e-300)
        across = across - 2 * (across * mirror).sum(1, keepdim=True) / size * mirror
        middle = (low + high) / 2 + across
        return middle - ball.radius * along, middle + ball.radius * along

    def _leaving(self, count: int, draw: Draw) -> Tensor:
        """Where so many lines cross the boundary."""
        a, b = self._lines(count, draw)
        shares = torch.linspace(0, 1, _CHORD + 1, dtype=a.dtype, device=a.device)[:, None, None]
        places = a + shares * (b - a)
        inside = self._contains(places.flatten(0, 1), 0.0).unflatten(0, places.shape[:2])
        step, line = (inside[1:] != inside[:-1]).nonzero(as_tuple=True)
        low, high, was = places[step, line], places[step + 1, line], inside[step, line]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            same = (self._contains(middle, 0.0) == was)[:, None]
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        return torch.where(was[:, None], low, high)

    @cached_property
    def boundary_area(self) -> float:
        """To about one in a hundred."""
        draw = Draw("uniform", torch.Generator().manual_seed(0))
        crossings = len(self._leaving(_DIRECTIONS, draw)) / _DIRECTIONS
        ball = Ball([0.0] * self.dim, float(np.linalg.norm(np.ptp(self.bounds, 1))) / 2)
        # A convex set is crossed twice by a line that meets it.
        return crossings / 2 * ball.boundary_area

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        refuse_grid(self, draw)
        x = by_rejection(n, partial(self._leaving, draw=draw), repr(self))
        slope = self._gradient(x)
        return x, -slope / slope.norm(dim=1, keepdim=True)

    def _level(self, x: Tensor) -> Tensor:
        return self.fn(x)
