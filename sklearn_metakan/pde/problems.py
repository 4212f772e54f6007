"""Equations with known solutions, to try solvers on.

Each problem is a value (immutable, comparable, picklable) with

- ``domain``, and ``variables``, the names of its coordinates, or None;
- ``residual(x, u)``, zero for the solution; in torch, as every solver takes it;
- ``solution(x)``, (n,) or (n, k), also the data of boundary and initial conditions;
- ``ansatz``, a function of (x, net) that fulfils the boundary conditions, or None;
- ``n_outputs``, the number k of unknown functions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from math import pi, sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde._domain import Domain
from sklearn_metakan.pde._field import Field
from sklearn_metakan.pde._shapes import Ball, Box, Interval
from sklearn_metakan.pde._spacetime import SpaceTime

__all__ = [
    "AllenCahnBall",
    "HeatCube",
    "Helmholtz",
    "Kovasznay",
    "PoissonBall",
    "PoissonCube",
    "Wave",
]


@dataclass(frozen=True)
class Problem(ABC):
    """What problems share; see the module's page."""

    n_outputs: ClassVar[int] = 1
    variables: ClassVar[tuple[str, ...] | None] = None
    ansatz: ClassVar[Any] = None  # or a function (x, net)

    @property
    @abstractmethod
    def domain(self) -> Domain: ...

    @abstractmethod
    def residual(self, x: Tensor, u: Field) -> Any: ...

    @abstractmethod
    def solution(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class _InDimensions(Problem):
    dim: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < self._least:
            raise ValueError(f"dim must be an integer of at least {self._least}, got {self.dim!r}.")

    _least: ClassVar[int] = 1


@cache
def _coefficients(count: int) -> np.ndarray:
    """The problem's own numbers: numpy's legacy generator, seed 0."""
    return np.random.RandomState(0).standard_normal(count)


@dataclass(frozen=True)
class _BallProblem(_InDimensions):
    _least: ClassVar[int] = 2

    @property
    def domain(self) -> Ball:
        return Ball([0.0] * self.dim)

    @staticmethod
    def ansatz(x: Tensor, net: Tensor) -> Tensor:
        """``(1 - |x|^2) net``: zero on the sphere."""
        return (1 - x.square().sum(1)) * net

    def solution(self, x: Tensor) -> Tensor:
        """``(1 - |x|^2) sum_i c_i sin(x_i + cos(x_(i+1)) + x_(i+1) cos(x_i))``, i < d."""
        a, b = x[:, :-1], x[:, 1:]
        return (1 - x.square().sum(1)) * ((a + b.cos() + b * a.cos()).sin() @ self._c(x))

    def solution_laplacian(self, x: Tensor) -> Tensor:
        """The Laplacian of the solution, in closed form."""
        a, b, c = x[:, :-1], x[:, 1:], self._c(x)
        angle = a + b.cos() + b * a.cos()
        sin, cos = angle.sin(), angle.cos()
        by_a, by_b = 1 - b * a.sin(), a.cos() - b.sin()  # slopes of the angle
        curved = cos * (-b * a.cos() - b.cos()) - sin * (by_a.square() + by_b.square())
        radial = cos * (a * by_a + b * by_b)
        bump = 1 - x.square().sum(1)
        return bump * (curved @ c) - 4 * (radial @ c) - 2 * self.dim * (sin @ c)

    def _c(self, x: Tensor) -> Tensor:
        return torch.as_tensor(_coefficients(self.dim - 1)).to(x)


@dataclass(frozen=True)
class PoissonBall(_BallProblem):
    """``laplace(u) = f`` in the unit ball, u = 0 on its surface.

    Parameters
    ----------
    dim : int, default=2

    Source: Hu et al., "Tackling the curse of dimensionality with PINNs" (2024).

    Examples
    --------
    >>> import torch
    >>> problem = PoissonBall(5)
    >>> x = problem.domain.sample(4, method="radius")
    >>> problem.solution(x).shape
    torch.Size([4])
    """

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.laplacian() - self.source(x)

    def source(self, x: Tensor) -> Tensor:
        """f, from the solution."""
        return self.solution_laplacian(x)


@dataclass(frozen=True)
class AllenCahnBall(_BallProblem):
    """``laplace(u) + u - u^3 = f`` in the unit ball, u = 0 on its surface.

    Parameters
    ----------
    dim : int, default=2

    Source: Hu et al., "Tackling the curse of dimensionality with PINNs" (2024).

    Examples
    --------
    >>> AllenCahnBall(20).domain.dim
    20
    """

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.laplacian() + u.value - u.value**3 - self.source(x)

    def source(self, x: Tensor) -> Tensor:
        """f, from the solution."""
        u = self.solution(x)
        return self.solution_laplacian(x) + u - u**3


@dataclass(frozen=True)
class PoissonCube(_InDimensions):
    """``laplace(u) = f`` in the unit cube, with ``u = sum_i sin(pi x_i / 2)``.

    Parameters
    ----------
    dim : int, default=2

    Source: Zang et al., "Weak adversarial networks" (2020).

    Examples
    --------
    >>> PoissonCube(3).domain
    Box(low=(0.0, 0.0, 0.0), high=(1.0, 1.0, 1.0))
    """

    @property
    def domain(self) -> Box:
        return Box([0.0] * self.dim, [1.0] * self.dim)

    def solution(self, x: Tensor) -> Tensor:
        return (pi / 2 * x).sin().sum(1)

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.laplacian() - self.source(x)

    def source(self, x: Tensor) -> Tensor:
        """f, from the solution."""
        return -((pi / 2) ** 2) * self.solution(x)


@dataclass(frozen=True)
class HeatCube(_InDimensions):
    """``pi^2 du/dt = laplace(u)`` in the unit cube for 0 < t < 1.

    The solution is ``exp(-t) mean_i sin(pi x_i)``; it is also the data at t = 0 and on the
    faces.

    Parameters
    ----------
    dim : int, default=2
        Of space.

    Examples
    --------
    >>> HeatCube(2).domain.bounds.tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """

    @property
    def domain(self) -> SpaceTime:
        return SpaceTime(Box([0.0] * self.dim, [1.0] * self.dim), 0.0, 1.0)

    def solution(self, x: Tensor) -> Tensor:
        return (-x[:, -1]).exp() * (pi * x[:, :-1]).sin().mean(1)

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.dt() - u.laplacian() / pi**2


@dataclass(frozen=True)
class Helmholtz(Problem):
    """``laplace(u) + wavenumber^2 u = f`` in [-1, 1]^2, u = 0 on the sides.

    The solution is ``sin(a pi x) sin(b pi y)`` for whole numbers a and b.

    Parameters
    ----------
    wavenumber : float, default=1.0
    a, b : int, default=1 and 4

    Source: Wang, Teng, Perdikaris, "Understanding and mitigating gradient pathologies in
    PINNs" (2021).

    Examples
    --------
    >>> Helmholtz().variables
    ('x', 'y')
    """

    wavenumber: float = 1.0
    a: int = 1
    b: int = 4
    variables: ClassVar[tuple[str, ...]] = ("x", "y")

    @property
    def domain(self) -> Box:
        return Box([-1.0, -1.0], [1.0, 1.0])

    @staticmethod
    def ansatz(x: Tensor, net: Tensor) -> Tensor:
        """``(1 - x^2) (1 - y^2) net``: zero on the sides."""
        return (1 - x[:, 0] ** 2) * (1 - x[:, 1] ** 2) * net

    def solution(self, x: Tensor) -> Tensor:
        return (self.a * pi * x[:, 0]).sin() * (self.b * pi * x[:, 1]).sin()

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.laplacian() + self.wavenumber**2 * u.value - self.source(x)

    def source(self, x: Tensor) -> Tensor:
        """f, from the solution."""
        return (self.wavenumber**2 - pi**2 * (self.a**2 + self.b**2)) * self.solution(x)


@dataclass(frozen=True)
class Wave(Problem):
    """``d^2 u / dt^2 = 4 d^2 u / dx^2`` on [0, 1] for 0 < t < 1, u = 0 at both ends.

    The solution is ``sin(pi x) cos(2 pi t) + sin(4 pi x) cos(8 pi t) / 2``; at t = 0 its
    derivative by time is zero.

    Source: Wang, Yu, Perdikaris, "When and why PINNs fail to train" (2022).

    Examples
    --------
    >>> Wave().domain
    SpaceTime(space=Interval(low=(0.0,), high=(1.0,)), t0=0.0, t1=1.0)
    """

    variables: ClassVar[tuple[str, ...]] = ("x", "t")

    @property
    def domain(self) -> SpaceTime:
        return SpaceTime(Interval(0.0, 1.0), 0.0, 1.0)

    def solution(self, x: Tensor) -> Tensor:
        place, time = pi * x[:, 0], pi * x[:, 1]
        return place.sin() * (2 * time).cos() + 0.5 * (4 * place).sin() * (8 * time).cos()

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.d("t", "t") - 4 * u.d("x", "x")


@dataclass(frozen=True)
class Kovasznay(Problem):
    """Steady Navier-Stokes flow behind a grid: velocities u, v and pressure p.

    ``(w . grad) w + grad p = laplace(w) / reynolds``, ``div w = 0`` with w = (u, v) in
    [-0.5, 1] x [-0.5, 1.5]; the pressure is fixed by its values on the boundary.

    Parameters
    ----------
    reynolds : float, default=40.0

    Source: Kovasznay, "Laminar flow behind a two-dimensional grid" (1948).

    Examples
    --------
    >>> import torch
    >>> Kovasznay().solution(torch.zeros(4, 2)).shape
    torch.Size([4, 3])
    """

    reynolds: float = 40.0
    variables: ClassVar[tuple[str, ...]] = ("x", "y")
    n_outputs: ClassVar[int] = 3

    @property
    def domain(self) -> Box:
        return Box([-0.5, -0.5], [1.0, 1.5])

    def solution(self, x: Tensor) -> Tensor:
        rate = self.reynolds / 2 - sqrt(self.reynolds**2 / 4 + 4 * pi**2)
        growth, angle = (rate * x[:, 0]).exp(), 2 * pi * x[:, 1]
        across = rate / (2 * pi) * growth * angle.sin()
        return torch.stack([1 - growth * angle.cos(), across, (1 - growth**2) / 2], 1)

    def residual(self, x: Tensor, u: Field) -> dict[str, Tensor]:
        along, across, _ = u.value.unbind(1)
        convected = along[:, None] * u.d("x") + across[:, None] * u.d("y")
        viscous = u.laplacian() / self.reynolds
        return {
            "momentum_x": convected[:, 0] + u[2].d("x") - viscous[:, 0],
            "momentum_y": convected[:, 1] + u[2].d("y") - viscous[:, 1],
            "mass": u[:2].divergence(),
        }
