"""Steady problems: in the plane, in the unit cube, in the unit ball."""

from dataclasses import dataclass
from functools import cache
from math import pi, sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.derivatives.channels import constant
from sklearn_metakan.pde.domains.shapes import Ball, Box
from sklearn_metakan.pde.physics.conditions import BaseCondition, Dirichlet
from sklearn_metakan.pde.physics.field import Field
from sklearn_metakan.pde.problems.problem import InDimensions, Problem


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
    domain = Box([-1.0, -1.0], [1.0, 1.0])
    variables = ("x", "y")

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
    domain = Box([-0.5, -0.5], [1.0, 1.5])
    variables = ("x", "y")
    n_outputs = 3

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


@dataclass(frozen=True)
class PoissonCube(InDimensions):
    """``laplace(u) = f`` in the unit cube, with ``u = sum_i sin(pi x_i / 2)``.

    The solution is the data on the faces, by one condition: a solver's ``n_boundary`` counts
    the points of all 2 d faces together, which all have the same share. For 100 a face on
    average set ``n_boundary=200 * dim``; ``sampling="sobol"`` shares them out nearly equally.

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

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return (Dirichlet(self.solution),)

    def solution(self, x: Tensor) -> Tensor:
        return (pi / 2 * x).sin().sum(1)

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.laplacian() - self.source(x)

    def source(self, x: Tensor) -> Tensor:
        """f, from the solution."""
        return -((pi / 2) ** 2) * self.solution(x)


@cache
def _coefficients(count: int) -> tuple[float, ...]:
    """The ball problems' own numbers: numpy's legacy generator, seed 0."""
    return tuple(np.random.RandomState(0).standard_normal(count).tolist())


@dataclass(frozen=True)
class _BallProblem(InDimensions):
    least: ClassVar[int] = 2

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
        return constant(_coefficients(self.dim - 1), x.dtype, x.device)


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

    Source: as for ``PoissonBall``.

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
