"""Steady problems in the plane."""

from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_metakan.pde.domains import Box
from sklearn_metakan.pde.physics import BaseCondition, Dirichlet, Field
from sklearn_metakan.pde.problems.problem import Problem


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

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return (Dirichlet(self.solution),)

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
