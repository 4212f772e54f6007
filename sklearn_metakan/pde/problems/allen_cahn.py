"""The Allen-Cahn equation on an interval, with its reference solution."""

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dst
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from sklearn_metakan.pde.domains import Interval, SpaceTime
from sklearn_metakan.pde.physics import Field
from sklearn_metakan.pde.problems.problem import Problem

DIFFUSION, REACTION = 0.001, 5.0
CELLS, STEPS, KEPT = 1024, 1000, 200  # of the reference: in space, in time, times kept
CIRCLE = 32  # points of the contour integrals


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

    variables: ClassVar[tuple[str, ...]] = ("x", "t")

    @property
    def domain(self) -> SpaceTime:
        return SpaceTime(Interval(-1.0, 1.0), 0.0, 1.0)

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

    Sines in space, so that ``u + 1`` vanishes at both ends; exponential time differencing
    of order four, with its functions of ``h L`` as means over circles around it. ``kept``
    must divide ``steps``.

    Source: Cox, Matthews, "Exponential time differencing for stiff systems" (2002); Kassam,
    Trefethen, "Fourth-order time-stepping for stiff PDEs" (2005).
    """
    x = np.linspace(-1, 1, cells + 1)
    u = x**2 * np.cos(pi * x)
    sines = dst(u[1:-1] + 1, 1) / cells
    rows = [u]
    advance = _Advance(-DIFFUSION * (pi / 2 * np.arange(1, cells)) ** 2, 1 / steps)
    for _ in range(kept):
        for _ in range(steps // kept):
            sines = advance(sines)
        rows.append(np.pad(dst(sines, 1) / 2, 1) - 1)
    return RectBivariateSpline(x, np.linspace(0, 1, kept + 1), np.array(rows).T, kx=5, ky=5)


class _Advance:
    """One step of size h for ``c' = L c + reaction``, c the coefficients of sines."""

    def __init__(self, linear: NDArray[Any], h: float) -> None:
        z = h * linear[:, None] + np.exp(2j * pi * (np.arange(CIRCLE) + 0.5) / CIRCLE)

        def mean(values: NDArray[np.complex128]) -> NDArray[np.float64]:
            return h * values.real.mean(1)

        self.whole, self.half = np.exp(h * linear), np.exp(h / 2 * linear)
        self.first = mean((np.exp(z / 2) - 1) / z)
        self.start = mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3)
        self.middle = mean((2 + z + np.exp(z) * (z - 2)) / z**3)
        self.end = mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3)

    def __call__(self, c: NDArray[np.float64]) -> NDArray[np.float64]:
        at_start = self.reaction(c)
        a = self.half * c + self.first * at_start
        at_a = self.reaction(a)
        at_b = self.reaction(self.half * c + self.first * at_a)
        d = self.half * a + self.first * (2 * at_b - at_start)
        steps = self.start * at_start + 2 * self.middle * (at_a + at_b)
        return self.whole * c + steps + self.end * self.reaction(d)

    @staticmethod
    def reaction(c: NDArray[np.float64]) -> NDArray[np.float64]:
        u = dst(c, 1) / 2 - 1
        return dst(REACTION * (u - u**3), 1) / (len(c) + 1)
