"""Boundary, initial and other conditions: where they hold, and what is zero there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import MOST_TRIES, Domain
from sklearn_metakan.pde.domains.shapes import SpaceTime
from sklearn_metakan.pde.physics.field import Field

Place = Literal["boundary", "initial", "interior"]
PointSet = tuple[Tensor, Tensor | None]  # points (n, d), and their outward normals
DrawPoints = Callable[[int], PointSet]
Value = float | Callable[[Tensor], Any]


@dataclass(frozen=True, kw_only=True)
class BaseCondition:
    """What conditions share. They are values: immutable, picklable, comparable.

    Parameters
    ----------
    where : callable, optional
        ``where(x)`` for x (n, d) gives n booleans: the part on which the condition holds;
        all of it by default.
    output : int, optional
        Which output of a system it is about; all by default.
    name : str, optional
        Of its loss; by default the kind of condition, numbered where there are several.
    """

    where: Callable[[Tensor], Any] | None = None
    output: int | None = None
    name: str | None = None

    place: ClassVar[Place] = "boundary"
    is_mean: ClassVar[bool] = False  # whether the mean of its misfits is zero, not each of them

    def on_domain(self, domain: Domain) -> "BaseCondition":
        """The condition, knowing what it needs of the domain."""
        return self

    def points(self, n: int, draws: dict[str, DrawPoints], domain: Domain) -> list[PointSet]:
        """Points of float64 of the domain on which it holds, at most n; ``draws`` by place."""
        return [self._drawn_where(draws[self.place], n)]

    def misfit(self, x: Sequence[Tensor], u: Sequence[Field], normal: Tensor | None) -> Tensor:
        """What is zero where the condition holds; x, u and normal of each set of points."""
        return self._misfit(x[0], self._asked(u[0]), normal)

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _asked(self, u: Field) -> Field:
        return u if self.output is None else u[self.output]

    def _drawn_where(self, draw: DrawPoints, n: int) -> PointSet:
        """n points where it holds; fewer from a finite set."""
        if self.where is None:
            return draw(n)
        points: list[Tensor] = []
        normals: list[Tensor] = []
        have, size = 0, n
        for _ in range(MOST_TRIES):
            x, normal = draw(size)
            holds = torch.as_tensor(self.where(x))
            if holds.shape != (len(x),) or holds.dtype != torch.bool:
                raise ValueError(
                    f"{self!r}: where must return {len(x)} booleans for x of shape "
                    f"{tuple(x.shape)}, got {holds.dtype} of shape {tuple(holds.shape)}."
                )
            holds = holds.to(x.device)
            points.append(x[holds])
            normals += [] if normal is None else [normal[holds]]
            have += len(points[-1])
            if have >= n or (len(x) < size and have):
                break
            size = min(2 * size, 2**16)
        if not have:
            raise ValueError(f"{self!r}: where holds at none of {len(x)} and more points drawn.")
        return torch.cat(points)[:n], torch.cat(normals)[:n] if normals else None


@dataclass(frozen=True)
class Dirichlet(BaseCondition):
    """``u = value`` on the boundary.

    Parameters
    ----------
    value : float or callable, default=0.0
        A number, or ``value(x)``, torch, (n, d) -> (n,), for systems (n, k).
    where, output, name : optional
        The part of the boundary, a callable; the output; the name of the loss.

    Examples
    --------
    >>> Dirichlet(1.0, where=lambda x: x[:, 0] == 0, name="inflow").name
    'inflow'
    """

    value: Value = 0.0

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        return u.value - evaluated(self.value, x, u.value)


@dataclass(frozen=True)
class Neumann(BaseCondition):
    """``du/dn = value`` on the boundary, n the outward normal.

    Parameters
    ----------
    value, where, output, name : optional
        As for ``Dirichlet``.

    Examples
    --------
    >>> Neumann().value
    0.0
    """

    value: Value = 0.0

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        slope = u.normal_derivative()
        return slope - evaluated(self.value, x, slope)


@dataclass(frozen=True)
class Robin(BaseCondition):
    """``a u + b du/dn = value`` on the boundary.

    Parameters
    ----------
    a, b : float or callable
    value, where, output, name : optional
        As for ``Dirichlet``.

    Examples
    --------
    >>> Robin(1.0, 2.0).b
    2.0
    """

    a: Value
    b: Value
    value: Value = 0.0

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        slope = u.normal_derivative()
        a, b, value = (evaluated(each, x, slope) for each in (self.a, self.b, self.value))
        return a * u.value + b * slope - value


@dataclass(frozen=True)
class Initial(BaseCondition):
    """``u = value`` at the first time of a SpaceTime domain; order=1: ``du/dt = value``.

    Also at the lower end of an Interval with ``variables=("t",)``: for equations in time alone.

    Parameters
    ----------
    value : float or callable, default=0.0
        A number, or ``value(x)`` of points (x, t).
    order : {0, 1}, default=0
    where, output, name : optional
        As for ``Dirichlet``.

    Raises
    ------
    ValueError
        For another order.

    Examples
    --------
    >>> Initial(lambda x: x[:, 0].sin()).order
    0
    """

    value: Value = 0.0
    order: Literal[0, 1] = 0
    place = "initial"

    def __post_init__(self) -> None:
        if self.order not in (0, 1):
            raise ValueError(f"order must be 0 (u) or 1 (du/dt), got {self.order!r}.")

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        found = u.dt() if self.order else u.value
        return found - evaluated(self.value, x, found)


@dataclass(frozen=True)
class Periodic(BaseCondition):
    """u, and its derivatives across, agree at both ends of one coordinate of space.

    Parameters
    ----------
    axis : int, default=0
        The coordinate; the domain must reach from end to end of its bounds along it.
    order : int, default=1
        Highest derivative by this coordinate that agrees.
    where, output, name : optional
        As for ``Dirichlet``; ``where`` sees the points at the lower end.

    Raises
    ------
    ValueError
        For other numbers, and in ``fit`` for a domain that does not reach so far.

    Examples
    --------
    >>> Periodic(axis=0).order
    1
    """

    axis: int = 0
    order: int = 1

    def __post_init__(self) -> None:
        for name, value in (("axis", self.axis), ("order", self.order)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be an integer of at least 0, got {value!r}.")

    def points(self, n: int, draws: dict[str, DrawPoints], domain: Domain) -> list[PointSet]:
        space = domain.dim - isinstance(domain, SpaceTime) - domain.n_parameters
        if self.axis >= space:
            raise ValueError(f"{self!r}: axis must be below {space}, the dimensions of space.")
        ends = domain.bounds[self.axis]
        if not np.isfinite(ends).all():
            raise ValueError(f"{self!r}: {domain!r} has no ends along axis {self.axis}.")

        def moved(x: Tensor, end: float) -> Tensor:
            x = x.clone()
            x[:, self.axis] = end
            return x

        lower, _ = self._drawn_where(lambda k: (moved(draws["interior"](k)[0], ends[0]), None), n)
        upper = moved(lower, ends[1])
        if not all(bool(domain.contains(x).all()) for x in (lower, upper)):
            raise ValueError(
                f"{self!r}: {domain!r} does not reach from end to end along axis {self.axis}."
            )
        return [(lower, None), (upper, None)]

    def misfit(self, x: Sequence[Tensor], u: Sequence[Field], normal: Tensor | None) -> Tensor:
        low, high = map(self._asked, u)
        parts = [low.value - high.value]
        for m in range(1, self.order + 1):
            across = [self.axis] * m
            parts.append(low.d(*across) - high.d(*across))
        return torch.cat([part.reshape(len(part), -1) for part in parts], 1)


@dataclass(frozen=True)
class Condition(BaseCondition):
    """Any condition: ``fn(x, u, normal) = 0``.

    Parameters
    ----------
    fn : callable
        Of points (n, d), the field there, and outward normals (n, d), or None inside or
        where the boundary has none; gives (n,) or, for several conditions at once, (n, m).
    where : callable, optional
    on : {"boundary", "initial", "interior"}, default="boundary"
    output, name : optional
        As for ``Dirichlet``.

    Raises
    ------
    TypeError, ValueError
        If fn cannot be called, or for another place.

    Examples
    --------
    >>> slip = Condition(lambda x, u, normal: (u.value * normal).sum(1))
    >>> slip.place
    'boundary'
    """

    fn: Callable[[Tensor, Field, Tensor | None], Tensor]
    on: Place = field(default="boundary", kw_only=True)

    places: ClassVar[tuple[str, ...]] = get_args(Place)

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function of (x, u, normal), got {self.fn!r}.")
        if self.on not in self.places:
            raise ValueError(f"on must be one of {self.places}, got {self.on!r}.")

    @property
    def place(self) -> Place:  # type: ignore[override]
        return self.on

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        return self.fn(x, u, normal)


@dataclass(frozen=True)
class Integral(BaseCondition):
    """``integral fn(x, u) dx = value`` over the domain: one number, not one for each point.

    Solutions of eigenvalue problems are normalised by it, and kept from those that are known:
    ``Integral(lambda x, u: u.value**2, 1.0)``, ``Integral(lambda x, u: u.value * first(x), 0.0)``
    with ``first = solver.module_``, beside ``pde_params={"k": ...}``.

    The integral is the mean over points inside, times the domain's ``volume``: points of "sobol"
    or "grid", and many of them, make it exact. Its loss is that of a mean.

    Parameters
    ----------
    fn : callable
        Of points (n, d) and the field there; gives (n,).
    value : float, default=0.0
    where, output, name : optional
        As for ``Dirichlet``.
    volume : float, optional
        Of what is integrated over; by default that of the solver's domain. With ``where``, that of
        this part.

    Raises
    ------
    TypeError
        If fn cannot be called.

    Examples
    --------
    >>> Integral(lambda x, u: u.value**2, 1.0).place
    'interior'
    """

    fn: Callable[[Tensor, Field], Tensor]
    value: float = 0.0
    volume: float | None = field(default=None, kw_only=True, repr=False)
    place = "interior"
    is_mean = True

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function of (x, u), got {self.fn!r}.")

    def on_domain(self, domain: Domain) -> "Integral":
        return self if self.volume is not None else replace(self, volume=domain.volume)

    def _misfit(self, x: Tensor, u: Field, normal: Tensor | None) -> Tensor:
        assert self.volume is not None  # a solver has asked its domain
        return self.volume * self.fn(x, u) - self.value


def evaluated(value: Value, x: Tensor, like: Tensor) -> Tensor:
    """The number, or the function's values at x, of the shape that they are compared with."""
    if callable(value):
        found = _tensor_like(value(x), like)
        if found.shape != like.shape and found.ndim:
            raise ValueError(
                f"a condition's function must return the shape {tuple(like.shape)} for x of shape "
                f"{tuple(x.shape)}, got {tuple(found.shape)}."
            )
        return found.expand(like.shape)
    try:
        return _tensor_like(value, like).expand(like.shape)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"a condition's value must be a number or a function of x, got {value!r}."
        ) from error


def _tensor_like(value: Any, like: Tensor) -> Tensor:
    """Numbers are filled in on the device: a captured step may not copy from the host."""
    if isinstance(value, Real):
        return like.new_full((), float(value))
    return torch.as_tensor(value).to(like)
