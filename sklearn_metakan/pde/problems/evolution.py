"""Problems that evolve in time."""

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dst, idst
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from sklearn_metakan.pde.domains.shapes import Box, Interval, SpaceTime
from sklearn_metakan.pde.physics.conditions import BaseCondition, Dirichlet, Initial
from sklearn_metakan.pde.physics.field import Field
from sklearn_metakan.pde.problems.problem import InDimensions, Problem

HERMITE_NODES = 120  # of Burgers' solution
DIFFUSION, REACTION = 0.001, 5.0  # of AllenCahn1D
CELLS, STEPS, KEPT = 1024, 1000, 200  # of its reference: in space, in time, times kept


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

    domain = SpaceTime(Interval(0.0, 1.0), 0.0, 1.0)
    variables = ("x", "t")

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
    domain = SpaceTime(Interval(-1.0, 1.0), 0.0, 1.0)
    variables = ("x", "t")

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


@dataclass(frozen=True)
class AllenCahn1D(Problem):
    """``du/dt = 0.001 d^2 u / dx^2 + 5 (u - u^3)`` on [-1, 1] for 0 < t < 1.

    ``u = x^2 cos(pi x)`` at t = 0 and u = -1 at both ends, which the ansatz fulfils. There is no
    closed form: the solution is computed when it is first asked for (under a second), to
    1e-8, and is a spline; it has no gradients.

    Source: Raissi, Perdikaris, Karniadakis, "Physics-informed neural networks" (2019), with
    other coefficients and ends.

    Examples
    --------
    >>> import torch
    >>> AllenCahn1D().solution(torch.tensor([[1.0, 0.5]]))
    tensor([-1.])
    """

    domain = SpaceTime(Interval(-1.0, 1.0), 0.0, 1.0)
    variables = ("x", "t")

    @staticmethod
    def ansatz(x: Tensor, net: Tensor) -> Tensor:
        """``x^2 cos(pi x) + t (1 - x^2) net``."""
        place, time = x.unbind(1)
        return place**2 * (pi * place).cos() + time * (1 - place**2) * net

    def residual(self, x: Tensor, u: Field) -> Tensor:
        return u.dt() - DIFFUSION * u.d("x", "x") - REACTION * (u.value - u.value**3)

    def solution(self, x: Tensor) -> Tensor:
        place, time = x.detach().cpu().double().numpy().T
        return torch.as_tensor(reference(CELLS, STEPS, KEPT).ev(place, time)).to(x)


@cache
def reference(cells: int, steps: int, kept: int) -> RectBivariateSpline:
    """The solution as a spline of degree 5 in (x, t).

    Strang's splitting, extrapolated from ``steps`` and twice as many to order four. ``kept``
    must divide ``steps``.

    Source: Strang, "On the construction and comparison of difference schemes" (1968).
    """
    x = np.linspace(-1, 1, cells + 1)
    once, twice = (_split_steps(x, n, kept) for n in (steps, 2 * steps))
    u = (4 * twice - once) / 3
    return RectBivariateSpline(x, np.linspace(0, 1, kept + 1), u.T, kx=5, ky=5)


def _split_steps(x: NDArray[Any], steps: int, kept: int) -> NDArray[np.float64]:
    """Half a step of diffusion, in sines, one of the reaction, in closed form, and another half."""
    decay = np.exp(-DIFFUSION * (pi / 2 * np.arange(1, len(x) - 1)) ** 2 / (2 * steps))
    shrinks = np.exp(-2 * REACTION / steps)

    def diffused(u: NDArray[Any]) -> NDArray[np.float64]:
        return np.pad(idst(decay * dst(u[1:-1] + 1, 1), 1), 1) - 1  # u + 1 is 0 at both ends

    rows = [x**2 * np.cos(pi * x)]
    for _ in range(kept):
        u = rows[-1]
        for _ in range(steps // kept):
            u = diffused(u)
            u = diffused(u / np.sqrt(u**2 + (1 - u**2) * shrinks))
        rows.append(u)
    return np.array(rows)
