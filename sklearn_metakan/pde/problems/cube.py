"""Problems in the unit cube, of any dimension."""

from dataclasses import dataclass
from math import pi

from torch import Tensor

from sklearn_metakan.pde.domains import Box, SpaceTime
from sklearn_metakan.pde.physics import BaseCondition, Dirichlet, Field, Initial
from sklearn_metakan.pde.problems.problem import InDimensions


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


@dataclass(frozen=True)
class HeatCube(InDimensions):
    """``pi^2 du/dt = laplace(u)`` in the unit cube for 0 < t < 1.

    The solution is ``exp(-t) mean_i sin(pi x_i)``; it is also the data at t = 0 and on the
    faces, by one condition each; ``n_boundary`` counts as in ``PoissonCube``.

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

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return Dirichlet(self.solution), Initial(self.solution)

    def solution(self, x: Tensor) -> Tensor:
        return (-x[:, -1]).exp() * (pi * x[:, :-1]).sin().mean(1)

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.dt() - u.laplacian() / pi**2
