"""Problems in the unit ball, of any dimension."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from torch import Tensor

from sklearn_metakan.pde.derivatives import constant
from sklearn_metakan.pde.domains import Ball
from sklearn_metakan.pde.physics import Field
from sklearn_metakan.pde.problems.problem import InDimensions


@cache
def _coefficients(count: int) -> tuple[float, ...]:
    """The problem's own numbers: numpy's legacy generator, seed 0."""
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
