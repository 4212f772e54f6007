"""Problems on an interval that evolve in time."""

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains import Interval, SpaceTime
from sklearn_metakan.pde.physics import BaseCondition, Dirichlet, Field, Initial
from sklearn_metakan.pde.problems.problem import Problem

HERMITE_NODES = 120


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

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return Dirichlet(0.0), Initial(self.solution), Initial(0.0, order=1)

    def solution(self, x: Tensor) -> Tensor:
        place, time = pi * x[:, 0], pi * x[:, 1]
        return place.sin() * (2 * time).cos() + 0.5 * (4 * place).sin() * (8 * time).cos()

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.d("t", "t") - 4 * u.d("x", "x")


@dataclass(frozen=True)
class Burgers(Problem):
    """``du/dt + u du/dx = viscosity d^2 u / dx^2`` on [-1, 1] for 0 < t < 1.

    ``u = -sin(pi x)`` at t = 0, and u = 0 at both ends. A shock forms at x = 0. The solution is
    the Cole-Hopf formula, its integrals by Gauss-Hermite quadrature: 1e-12 at the default
    viscosity, and less exact at smaller ones.

    Parameters
    ----------
    viscosity : float, default=0.01 / pi

    Source: Basdevant et al., "Spectral and finite difference solutions of the Burgers
    equation" (1986).

    Examples
    --------
    >>> import torch
    >>> Burgers().solution(torch.tensor([[0.5, 0.0]]))
    tensor([-1.])
    """

    viscosity: float = 0.01 / pi
    variables: ClassVar[tuple[str, ...]] = ("x", "t")

    @property
    def domain(self) -> SpaceTime:
        return SpaceTime(Interval(-1.0, 1.0), 0.0, 1.0)

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return Dirichlet(0.0), Initial(self.initial)

    @staticmethod
    def initial(x: Tensor) -> Tensor:
        """u at t = 0."""
        return -(pi * x[:, 0]).sin()

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.dt() + u.value * u.d("x") - self.viscosity * u.d("x", "x")

    def solution(self, x: Tensor) -> Tensor:
        """``-E[sin(pi y) w(y)] / E[w(y)]``.

        ``w(y) = exp(-cos(pi y) / (2 pi nu))``, y normal around x with variance 2 nu t.
        """
        places, weights = (torch.as_tensor(each).to(x.device) for each in _hermite())
        place, time = x.double().unbind(1)
        y = place[:, None] - 2 * (self.viscosity * time[:, None]).sqrt() * places
        share = (weights.log() - (pi * y).cos() / (2 * pi * self.viscosity)).softmax(1)
        return -(share * (pi * y).sin()).sum(1).to(x)


@cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.hermite.hermgauss(HERMITE_NODES)
