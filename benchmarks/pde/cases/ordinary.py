"""Equations in one coordinate: boundary values, integral terms, systems in time."""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np

from benchmarks.pde.cases.case import (
    Array,
    Case,
    at,
    by_name,
    of_torch,
    runge_kutta,
    stacked,
)
from sklearn_metakan.pde import Dirichlet, Initial, Interval, Neumann, Periodic, Robin

AT_LEFT, AT_RIGHT = (lambda x: x[:, 0] == -1), (lambda x: x[:, 0] == 1)


def beam() -> Case:
    """Euler's beam, clamped at 0 and free at 1, under an even load."""

    def exact(x: Array) -> Array:
        x = x[:, 0]
        return -(x**4) / 24 + x**3 / 6 - x**2 / 4

    settings = {
        "residual": lambda x, u: u.d(0, 0, 0, 0) + 1,
        "domain": Interval(0, 1),
        "conditions": [*at(0.0, "clamped", 0, 1), *at(1.0, "free", 2, 3)],
    }
    tuned = {"hidden_layer_sizes": (8,), "basis": "bspline", "n_interior": 300, "n_boundary": 1}
    tuned |= {"max_iter": 0, "lm_iter": 1000, "sampling": "uniform"}
    return Case(settings, exact, ("DeepXDE: Euler_beam",), 1e-5, 1e-8, tuned=tuned)


def poisson_sine() -> Case:
    """``-u'' = pi^2 sin(pi x)``, u = 0 at both ends."""
    settings = {
        "residual": lambda x, u: u.d(0, 0) + pi**2 * (pi * x[:, 0]).sin(),
        "domain": Interval(-1, 1),
        "conditions": [Dirichlet(0.0)],
    }
    exact = of_torch(lambda x: (pi * x[:, 0]).sin())
    return Case(settings, exact, ("DeepXDE: Poisson_Dirichlet_1d",))


def poisson_modes() -> Case:
    """``-u'' = sin x + 2 sin 2x + 3 sin 3x + 4 sin 4x + 8 sin 8x``, from 0 to pi."""
    modes = (1, 2, 3, 4, 8)
    settings = {
        "residual": lambda x, u: u.d(0, 0) + sum(k * (k * x[:, 0]).sin() for k in modes),
        "domain": Interval(0, pi),
        "conditions": [Dirichlet(lambda x: x[:, 0])],
    }
    exact = of_torch(lambda x: x[:, 0] + sum((k * x[:, 0]).sin() / k for k in modes))
    return Case(settings, exact, ("DeepXDE: Poisson_Dirichlet_1d_exactBC",))


def parabola(right: Any, *sources: str) -> Case:
    """``u'' = 2``, u(-1) = 0, and a condition at 1: (x + 1)^2."""
    settings = {
        "residual": lambda x, u: u.d(0, 0) - 2,
        "domain": Interval(-1, 1),
        "conditions": [Dirichlet(0.0, where=AT_LEFT, name="left"), right],
    }
    return Case(settings, of_torch(lambda x: (x[:, 0] + 1) ** 2), sources)


def poisson_neumann() -> Case:
    """The parabola with u'(1) = 4."""
    right = Neumann(4.0, where=AT_RIGHT, name="right")
    return parabola(right, "DeepXDE: Poisson_Neumann_1d", "DeepXDE: Poisson_PointSetOperator_1d")


def poisson_robin() -> Case:
    """The parabola with u'(1) = u(1)."""
    return parabola(Robin(-1.0, 1.0, where=AT_RIGHT, name="right"), "DeepXDE: Poisson_Robin_1d")


def poisson_periodic() -> Case:
    """``-u'' = pi^2 sin(pi x)``, u(-1) = 0, u(1) = u(-1)."""
    settings = {
        "residual": lambda x, u: u.d(0, 0) + pi**2 * (pi * x[:, 0]).sin(),
        "domain": Interval(-1, 1),
        "conditions": [Dirichlet(0.0, where=AT_LEFT, name="left"), Periodic(0, order=0)],
    }
    exact = of_torch(lambda x: (pi * x[:, 0]).sin())
    return Case(settings, exact, ("DeepXDE: Poisson_periodic_1d",))


def poisson_multiscale() -> Case:
    """One wave of length 1, and 25 of a tenth of its height."""

    def residual(x: Any, u: Any) -> Any:
        slow, fast = 2 * pi, 50 * pi
        waves = slow**2 * (slow * x[:, 0]).sin() + 0.1 * fast**2 * (fast * x[:, 0]).sin()
        return u.d(0, 0) + waves

    settings = {
        "residual": residual,
        "domain": Interval(0, 1),
        "conditions": [Dirichlet(0.0)],
    }
    exact = of_torch(lambda x: (2 * pi * x[:, 0]).sin() + 0.1 * (50 * pi * x[:, 0]).sin())
    return Case(settings, exact, ("DeepXDE: Poisson_multiscale_1d",))


def integro_differential() -> Case:
    """``u' + integral of u from 0 to x = 2 pi cos(2 pi x) + sin(pi x)^2 / pi``, u(0) = 0."""

    def residual(x: Any, u: Any) -> Any:
        s = x[:, 0]
        return (
            u.dt() + u.integral("t", 0.0) - 2 * pi * (2 * pi * s).cos() - (pi * s).sin() ** 2 / pi
        )

    settings = {
        "residual": residual,
        "domain": Interval(0, 1),
        "conditions": [Initial(0.0)],
        "variables": ("t",),
    }
    return Case(settings, of_torch(lambda x: (2 * pi * x[:, 0]).sin()), ("DeepXDE: ide",))


def volterra() -> Case:
    """``u' + u = integral of exp(s - x) u(s) from 0 to x``, u(0) = 1: exp(-x) cosh(x)."""

    def residual(x: Any, u: Any) -> Any:
        return u.dt() + u.value - u.integral("t", 0.0, kernel=lambda x, s: (s - x[:, 0]).exp())

    settings = {
        "residual": residual,
        "domain": Interval(0, 5),
        "conditions": [Initial(1.0)],
        "variables": ("t",),
    }
    exact = of_torch(lambda x: (1 + (-2 * x[:, 0]).exp()) / 2)
    return Case(settings, exact, ("DeepXDE: Volterra_IDE",))


def second_order() -> Case:
    """``u'' - 10 u' + 9 u = 5 t``, u(0) = -1, u'(0) = 2."""
    settings = {
        "residual": lambda x, u: u.d(0, 0) - 10 * u.dt() + 9 * u.value - 5 * x[:, 0],
        "domain": Interval(0, 0.25),
        "conditions": [Initial(-1.0), Initial(2.0, order=1)],
        "variables": ("t",),
    }

    def exact(x: Array) -> Array:
        t = x[:, 0]
        return 50 / 81 + 5 / 9 * t - 2 * np.exp(t) + 31 / 81 * np.exp(9 * t)

    return Case(settings, exact, ("DeepXDE: ode_2nd",))


def rotation() -> Case:
    """``u' = v, v' = -u`` for t up to 10."""
    settings = {
        "residual": lambda x, u: (u[0].dt() - u[1].value, u[1].dt() + u[0].value),
        "domain": Interval(0, 10),
        "conditions": [Initial(0.0, output=0, name="u"), Initial(1.0, output=1, name="v")],
        "n_outputs": 2,
        "variables": ("t",),
    }
    exact = of_torch(lambda x: stacked(x[:, 0].sin(), x[:, 0].cos()))
    return Case(settings, exact, ("DeepXDE: ode_system",))


def system(
    rates: Callable[..., tuple[Any, ...]], start: tuple[float, ...], end: float, *sources: str,
    must: float, aim: float, **tuned: Any,
) -> Case:  # fmt: skip
    """``du/dt = rates(u_1, ..., u_k)`` from a start at t = 0."""

    def residual(x: Any, u: Any) -> tuple[Any, ...]:
        each = [*u]
        slopes = rates(*(part.value for part in each))
        return tuple(part.d(0) - slope for part, slope in zip(each, slopes, strict=True))

    settings = {
        "residual": residual,
        "domain": Interval(0, end),
        "conditions": [Initial(v, output=j, name=f"start_{j}") for j, v in enumerate(start)],
        "n_outputs": len(start),
        "variables": ("t",),
    }
    solved = runge_kutta(lambda t, *u: rates(*u), start, end)
    return Case(settings, lambda x: solved()(x[:, 0]).T, sources, must, aim, tuned=tuned)


def lotka_volterra() -> Case:
    """Hares and foxes, in units of 200, over 20 years in units of 20."""

    def rates(hares: Any, foxes: Any) -> tuple[Any, Any]:
        return 20 * (2 * hares - 8 * hares * foxes), 20 * (4 * hares * foxes - 1.06 * foxes)

    tuned = {"windows": 10, "hidden_layer_sizes": (10,), "degree": 6, "n_interior": 300}
    tuned |= {"max_iter": 0, "lm_iter": 100, "sampling": "sobol", "hard": False}
    limits = {"must": 1e-3, "aim": 1e-5}
    return system(rates, (0.5, 0.075), 1.0, "DeepXDE: Lotka_Volterra", **limits, **tuned)


def lorenz() -> Case:
    """Lorenz's equations at rho = 15."""

    def rates(x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        return 10 * (y - x), x * (15 - z) - y, x * y - 8 / 3 * z

    tuned = {"windows": 20, "hidden_layer_sizes": (8,), "degree": 5, "n_interior": 200}
    tuned |= {"basis": "bspline", "hard": False, "max_iter": 0, "lm_iter": 60}
    tuned |= {"sampling": "uniform"}
    limits = {"must": 1e-3, "aim": 1e-5}
    return system(rates, (-8.0, 7.0, 27.0), 3.0, "Lorenz, forward", **limits, **tuned)


ORDINARY = by_name(
    beam, poisson_sine, poisson_modes, poisson_neumann, poisson_robin, poisson_periodic,
    poisson_multiscale, integro_differential, volterra, second_order, rotation, lotka_volterra,
    lorenz,
)  # fmt: skip
