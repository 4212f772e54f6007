"""Equations that others use as examples, stated in our form, with references computed here."""

from collections.abc import Callable, Mapping
from functools import cache
from math import pi
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import RectBivariateSpline

from sklearn_metakan.pde import (
    Box,
    Condition,
    Dirichlet,
    Initial,
    Interval,
    Periodic,
    Positive,
    SpaceTime,
    problems,
)

Array = NDArray[Any]
Reference = Callable[[Array], Array]  # points (n, d) -> values


RAISSI = "Raissi, Perdikaris, Karniadakis 2019"
# Fronts, waves: what the common setting has, and more of it.
LEAST_SQUARES: dict[str, Any] = {"hidden_layer_sizes": (16, 16), "degree": 4}
LEAST_SQUARES |= {"max_iter": 0, "lm_iter": 10_000}


class Case(NamedTuple):
    """A problem as parameters of a solver, what its answer is, and what must be reached.

    ``seen`` gives observations (X, y); ``constants`` are what the equation's are in truth, whose
    relative errors are compared, the largest of them, in place of the solution's. ``compared``
    is what of the outputs the error is of. ``tuned`` are settings that differ from the common ones.
    """

    settings: Mapping[str, Any]
    reference: Reference
    must: float
    aim: float
    source: str
    compared: Callable[[Array], Array] = np.asarray
    seen: Callable[[], tuple[Array, Array]] | None = None
    constants: Mapping[str, float] = {}
    tuned: Mapping[str, Any] = {}


def beam() -> Case:
    """Euler's beam, clamped at 0 and free at 1, under an even load."""

    def at(end: float, name: str, *orders: int) -> list[Condition]:
        def made(order: int) -> Condition:
            def misfit(x: Any, u: Any, normal: Any) -> Any:
                return u.d(*[0] * order) if order else u.value

            return Condition(misfit, where=lambda x: x[:, 0] == end, name=f"{name}_{order}")

        return [made(order) for order in orders]

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
    return Case(settings, exact, 1e-5, 1e-8, "DeepXDE, Euler_beam", tuned=tuned)


def system(
    rates: Callable[..., tuple[Any, ...]], start: tuple[float, ...], end: float, source: str,
    must: float, aim: float, **tuned: Any,
) -> Case:  # fmt: skip
    """``du/dt = rates(u_1, ..., u_k)`` from a start at t = 0."""

    def residual(x: Any, u: Any) -> tuple[Any, ...]:
        each = [*u]
        slopes = rates(*(part.value for part in each))
        return tuple(part.d(0) - slope for part, slope in zip(each, slopes, strict=True))

    @cache
    def solved() -> Any:
        return solve_ivp(
            lambda t, y: rates(*y), (0, end), start, "DOP853", rtol=1e-12, atol=1e-13,
            dense_output=True,
        ).sol  # fmt: skip

    conditions = [Initial(value, output=j, name=f"start_{j}") for j, value in enumerate(start)]
    settings = {
        "residual": residual,
        "domain": Interval(0, end),
        "conditions": conditions,
        "n_outputs": len(start),
        "variables": ("t",),
    }
    return Case(settings, lambda x: solved()(x[:, 0]).T, must, aim, source, tuned=tuned)


def lotka_volterra() -> Case:
    """Hares and foxes, in units of 200, over 20 years in units of 20."""

    def rates(hares: Any, foxes: Any) -> tuple[Any, Any]:
        return 20 * (2 * hares - 8 * hares * foxes), 20 * (4 * hares * foxes - 1.06 * foxes)

    tuned = {"windows": 10, "hidden_layer_sizes": (10,), "degree": 6, "n_interior": 300}
    tuned |= {"max_iter": 0, "lm_iter": 100, "sampling": "uniform", "hard": False}
    return system(rates, (0.5, 0.075), 1.0, "DeepXDE, Lotka_Volterra", 1e-3, 1e-5, **tuned)


def lorenz() -> Case:
    """Lorenz's equations at rho = 15."""

    def rates(x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        return 10 * (y - x), x * (15 - z) - y, x * y - 8 / 3 * z

    tuned = {"windows": 20, "hidden_layer_sizes": (8,), "degree": 5, "n_interior": 200}
    tuned |= {
        "basis": "bspline",
        "hard": False,
        "max_iter": 0,
        "lm_iter": 60,
        "sampling": "uniform",
    }
    start, source = (-8.0, 7.0, 27.0), "DeepXDE, Lorenz_inverse"
    return system(rates, start, 3.0, source, 1e-3, 1e-5, **tuned)


def periodic_reference(
    linear: Callable[[Array], Array], nonlinear: Callable[[Array, Array], Array],
    start: Callable[[Array], Array], ends: tuple[float, float], last: float, cells: int,
) -> Callable[[], tuple[Array, Array, Array]]:  # fmt: skip
    """Times, places and values (times, cells + 1) of ``u_t = linear(k) u + nonlinear(u, k)``.

    Fourier modes in space, with an integrating factor for the linear part; Runge-Kutta of order
    8 in time.
    """

    @cache
    def solved() -> tuple[Array, Array, Array]:
        x = np.linspace(*ends, cells, endpoint=False)
        k = 2 * pi * np.fft.fftfreq(cells, (ends[1] - ends[0]) / cells)
        kept = np.abs(k) < 2 / 3 * np.abs(k).max()

        def slope(t: float, v: Array) -> Array:
            u = np.fft.ifft(np.exp(linear(k) * t) * v)
            return np.exp(-linear(k) * t) * np.fft.fft(nonlinear(u, k)) * kept

        times = np.linspace(0, last, 201)
        first = np.fft.fft(start(x)).astype(complex)
        v = solve_ivp(slope, (0, last), first, "DOP853", times, rtol=1e-9, atol=1e-9).y.T
        u = np.fft.ifft(np.exp(linear(k) * times[:, None]) * v, axis=1)
        return times, np.append(x, ends[1]), np.concatenate([u, u[:, :1]], 1)

    return solved


def spline(
    solved: Callable[[], tuple[Array, Array, Array]], part: Callable[[Array], Array]
) -> Reference:
    """A part of such values at points (x, t)."""

    @cache
    def made() -> RectBivariateSpline:
        times, places, values = solved()
        return RectBivariateSpline(places, times, part(values).T, kx=5, ky=5)

    return lambda x: made().ev(x[:, 0], x[:, 1])


def schroedinger() -> Case:
    """``i h_t + h_xx / 2 + |h|^2 h = 0``, periodic, from 2 sech x; the error is that of |h|."""

    def residual(x: Any, h: Any) -> tuple[Any, Any]:
        u, v = h
        squares = u.value**2 + v.value**2
        return (
            u.dt() + 0.5 * v.d("x", "x") + squares * v.value,
            v.dt() - 0.5 * u.d("x", "x") - squares * u.value,
        )

    solved = periodic_reference(
        lambda k: -0.5j * k**2,
        lambda h, k: 1j * np.abs(h) ** 2 * h,
        lambda x: 2 / np.cosh(x),
        (-5.0, 5.0),
        pi / 2,
        256,
    )
    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(-5, 5), 0.0, pi / 2),
        "conditions": [
            Initial(lambda x: 2 / x[:, 0].cosh(), output=0, name="start_u"),
            Initial(0.0, output=1, name="start_v"),
            Periodic(0, order=1),
        ],
        "n_outputs": 2,
        "variables": ("x", "t"),
    }

    def modulus(values: Array) -> Array:
        return np.hypot(*values.T) if values.ndim == 2 else values

    tuned = {"n_interior": 8000, "n_initial": 1000, **LEAST_SQUARES}
    return Case(settings, spline(solved, np.abs), 2e-3, 1e-4, RAISSI, compared=modulus, tuned=tuned)


def kdv() -> Case:
    """``u_t + u u_x + 0.0025 u_xxx = 0``, periodic, from cos(pi x)."""
    solved = periodic_reference(
        lambda k: 0.0025j * k**3,
        lambda u, k: -np.fft.ifft(0.5j * k * np.fft.fft(u.real**2)),
        lambda x: np.cos(pi * x),
        (-1.0, 1.0),
        1.0,
        256,
    )
    settings = {
        "residual": lambda x, u: u.dt() + u.value * u.d("x") + 0.0025 * u.d("x", "x", "x"),
        "domain": SpaceTime(Interval(-1, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: (pi * x[:, 0]).cos()), Periodic(0, order=2)],
        "variables": ("x", "t"),
    }
    tuned = {"n_interior": 10_000, **LEAST_SQUARES}
    return Case(settings, spline(solved, np.real), 5e-4, 5e-6, RAISSI, tuned=tuned)


def shipped(problem: problems.Problem, must: float, aim: float, **tuned: Any) -> Case:
    """One of ``sklearn_metakan.pde.problems``, as Raissi et al. have it."""
    settings = {name: value for name, value in problem.settings.items() if name != "solution"}
    tuned = {**LEAST_SQUARES, **tuned}

    def exact(x: Array) -> Array:
        return problem.solution(torch.as_tensor(x)).numpy()

    return Case(settings, exact, must, aim, RAISSI, tuned=tuned)


def l_shape() -> Case:
    """``-laplace(u) = 1`` on [-1, 1]^2 without [0, 1]^2, u = 0 on its edge."""
    settings = {
        "residual": lambda x, u: u.laplacian() + 1,
        "domain": Box([-1, -1], [1, 1]) - Box([0, 0], [1, 1]),
        "conditions": [Dirichlet(0.0)],
    }
    tuned = {"hidden_layer_sizes": (8, 8), "basis": "bspline", "features": corner, "hard": False}
    tuned |= {"sampling": "uniform", "resample_every": 10, "n_boundary": 200}
    tuned |= {"max_iter": 0, "lm_iter": 2000}
    return Case(settings, l_solution, 2e-3, 2e-4, "DeepXDE, Poisson_Lshape", tuned=tuned)


def corner(x: torch.Tensor) -> torch.Tensor:
    """x, and how solutions behave at a corner of 3 pi / 2, whatever the source."""
    r = x.square().sum(1).clamp_min(1e-30).sqrt()
    angle = torch.remainder(torch.atan2(x[:, 1], x[:, 0]) - pi / 2, 2 * pi)
    return torch.cat([x, (r ** (2 / 3) * (2 / 3 * angle).sin())[:, None]], 1)


@cache
def _l_coefficients(count: int = 80) -> Array:
    """Of ``r^(2k/3) sin(2k theta / 3)``, fitted to the four sides away from the corner."""
    s = np.cos(pi * (np.arange(400) + 0.5) / 400)  # denser at the ends
    half, one = (s + 1) / 2, np.ones_like(s)
    edges = [(s, -one), (-one, s), (half - 1, one), (one, half - 1)]
    x = np.concatenate([np.stack(edge, 1) for edge in edges])
    return np.linalg.lstsq(_l_functions(x, count), -_l_particular(x), rcond=1e-14)[0]


def _l_polar(x: Array) -> tuple[Array, Array]:
    """Around the corner: the angle is 0 and 3 pi / 2 on its two sides."""
    return np.hypot(*x.T), np.mod(np.arctan2(x[:, 1], x[:, 0]) - pi / 2, 2 * pi)


def _l_functions(x: Array, count: int) -> Array:
    r, angle = _l_polar(x)
    k = 2 / 3 * np.arange(1, count + 1)
    return r[:, None] ** k / 2 ** (k / 2) * np.sin(k * angle[:, None])


def _l_particular(x: Array) -> Array:
    """Zero on both sides of the corner, with Laplacian -1."""
    r, angle = _l_polar(x)
    log = np.log(np.where(r > 0, r, 1))
    singular = (log * np.sin(2 * angle) + angle * np.cos(2 * angle)) / (3 * pi)
    return r**2 * (np.cos(2 * angle) / 4 - 0.25 - singular)


def l_solution(x: Array) -> Array:
    """By functions that are singular as the solution is (Fox, Henrici, Moler 1967)."""
    coefficients = _l_coefficients()
    return _l_particular(x) + _l_functions(x, len(coefficients)) @ coefficients


def brinkman_forchheimer() -> Case:
    """``-v_e / 0.4 u'' + 0.001 u / K = 1``, u = 0 at both ends: K and v_e from five values."""
    truth = {"v_e": 1e-3, "K": 1e-3}
    rate = (1e-3 * 0.4 / (truth["v_e"] * truth["K"])) ** 0.5

    def exact(x: Array) -> Array:
        return truth["K"] / 1e-3 * (1 - np.cosh(rate * (x[:, 0] - 0.5)) / np.cosh(rate / 2))

    def seen() -> tuple[Array, Array]:
        x = np.linspace(1 / 6, 1, 5, endpoint=False)[:, None]
        return x, exact(x)

    settings = {
        "residual": lambda x, u, v_e, K: -v_e / 0.4 * u.d(0, 0) + 1e-3 * u.value / K - 1,
        "domain": Interval(0, 1),
        "conditions": [Dirichlet(0.0)],
        "pde_params": {"v_e": Positive(0.1), "K": Positive(0.1)},
    }
    source = "DeepXDE, Brinkman_Forchheimer"
    return Case(settings, exact, 0.05, 0.005, source, seen=seen, constants=truth)


CASES: dict[str, Callable[[], Case]] = {
    "beam": beam,
    "lotka-volterra": lotka_volterra,
    "lorenz": lorenz,
    "schroedinger": schroedinger,
    "kdv": kdv,
    "burgers": lambda: shipped(problems.Burgers(), 1e-4, 1e-7, n_interior=10_000, degree=3),
    "allen-cahn": lambda: shipped(
        problems.AllenCahn1D(),
        2e-5,
        2e-6,
        n_interior=16_000,
        hidden_layer_sizes=(16, 16, 16),
    ),
    "l-shape": l_shape,
    "brinkman-forchheimer": brinkman_forchheimer,
}
