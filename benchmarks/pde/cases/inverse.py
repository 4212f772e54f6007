"""Constants and fields of equations, from observations of their solutions."""

from collections.abc import Callable
from functools import cache
from math import pi
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_bvp, solve_ivp
from scipy.interpolate import RectBivariateSpline

from benchmarks.pde.cases.case import Array, Case, by_name, of_torch, runge_kutta, stacked
from sklearn_metakan.pde import Box, Dirichlet, Initial, Interval, Positive, SpaceTime

NOISE, SEED = 0.1, 0


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
    sources = ("DeepXDE: brinkman_forchheimer",)
    return Case(settings, exact, sources, 0.05, 0.005, seen=seen, constants=truth)


def diffusivity() -> Case:
    """``u_t = C u_xx + f``: C = 1 from ten values at the end, start and boundary."""

    def residual(x: Any, u: Any, C: Any) -> Any:
        source = (-x[:, 1]).exp() * (pi * x[:, 0]).sin() * (pi**2 - 1)
        return u.dt() - C * u.d("x", "x") - source

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(-1, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: (pi * x[:, 0]).sin()), Dirichlet(0.0)],
        "pde_params": {"C": 2.0},
        "variables": ("x", "t"),
    }
    exact = of_torch(lambda x: (pi * x[:, 0]).sin() * (-x[:, 1]).exp())

    def seen() -> tuple[Array, Array]:
        x = np.stack([np.linspace(-1, 1, 10), np.ones(10)], 1)
        return x, exact(x)

    sources = ("DeepXDE: diffusion_1d_inverse",)
    return Case(settings, exact, sources, seen=seen, constants={"C": 1.0})


def reaction_rate() -> Case:
    """``0.01 u'' - k(x) u = sin(2 pi x)``: the field k from u at 100 points."""
    settings = {
        "residual": lambda x, u: (
            0.01 * u[0].d(0, 0) - u[1].value * u[0].value - (2 * pi * x[:, 0]).sin()
        ),
        "domain": Interval(0, 1),
        "conditions": [Dirichlet(0.0, output=0)],
        "n_outputs": 2,
    }

    def rate(x: Array) -> Array:
        return 0.1 + np.exp(-0.5 * ((x - 0.5) / 0.15) ** 2)

    @cache
    def solved() -> Any:
        x = np.linspace(0, 1, 400)
        return solve_bvp(
            lambda x, y: np.stack([y[1], (rate(x) * y[0] + np.sin(2 * pi * x)) / 0.01]),
            lambda a, b: np.array([a[0], b[0]]),
            x,
            np.zeros((2, len(x))),
            tol=1e-8,
            max_nodes=50_000,
        ).sol

    def exact(x: Array) -> Array:
        return np.stack([solved()(x[:, 0])[0], rate(x[:, 0])], 1)

    def seen() -> tuple[Array, Array]:
        x = np.linspace(0, 1, 100)[:, None]
        return x, exact(x) * [1, np.nan]

    sources = ("DeepXDE: diffusion_reaction_rate",)
    return Case(settings, exact, sources, compared=second, seen=seen)


def second(values: Array) -> Array:
    """The field that nobody saw."""
    return np.asarray(values)[:, 1]


def source_field() -> Case:
    """``u'' = q(x)``: the field q from u at 100 points."""
    settings = {
        "residual": lambda x, u: u[0].d(0, 0) - u[1].value,
        "domain": Interval(-1, 1),
        "conditions": [Dirichlet(0.0, output=0)],
        "n_outputs": 2,
    }

    def wave(x: torch.Tensor) -> torch.Tensor:
        return stacked((pi * x[:, 0]).sin(), -(pi**2) * (pi * x[:, 0]).sin())

    exact = of_torch(wave)

    def seen() -> tuple[Array, Array]:
        x = np.linspace(-1, 1, 100)[:, None]
        return x, exact(x) * [1, np.nan]

    names = ("elliptic_inverse_field", "elliptic_inverse_field_batch")
    sources = tuple(f"DeepXDE: {name}" for name in names)
    return Case(settings, exact, sources, compared=second, seen=seen)


def lorenz_constants(force: Callable[[Any], Any], count: int, source: str) -> Case:
    """Three constants of Lorenz's equations from values at ``count`` times up to 3."""

    def rates(t: Any, x: Any, y: Any, z: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
        return a * (y - x), x * (b - z) - y, x * y - c * z + force(t)

    def residual(x: Any, u: Any, a: Any, b: Any, c: Any) -> tuple[Any, ...]:
        slopes = rates(x[:, 0], *(part.value for part in u), a, b, c)
        return tuple(part.dt() - slope for part, slope in zip(u, slopes, strict=True))

    start = (-8.0, 7.0, 27.0)
    settings = {
        "residual": residual,
        "domain": Interval(0, 3),
        "conditions": [Initial(v, output=j, name=f"start_{j}") for j, v in enumerate(start)],
        "n_outputs": 3,
        "pde_params": {"a": 1.0, "b": 1.0, "c": 1.0},
        "variables": ("t",),
    }
    truth = {"a": 10.0, "b": 15.0, "c": 8 / 3}
    solved = runge_kutta(lambda t, *u: rates(t, *u, *truth.values()), start, 3.0)

    def exact(x: Array) -> Array:
        return solved()(x[:, 0]).T

    def seen() -> tuple[Array, Array]:
        x = np.linspace(0, 3, count)[:, None]
        return x, exact(x)

    return Case(settings, exact, (source,), seen=seen, constants=truth)


def lorenz_free() -> Case:
    """From 25 values."""
    return lorenz_constants(lambda t: 0.0, 25, "DeepXDE: Lorenz_inverse")


def lorenz_forced() -> Case:
    """With a force that is known, from 200 values."""

    def force(t: Any) -> Any:
        return 10 * (torch.sin if isinstance(t, torch.Tensor) else np.sin)(2 * pi * t)

    return lorenz_constants(force, 200, "DeepXDE: Lorenz_inverse_forced")


def reaction() -> Case:
    """``a_t = D a_xx / 1000 - k a b^2``, ``b_t`` with twice the rate: D and k from a and b."""
    truth = {"D": 2.0, "k": 0.1}

    def residual(x: Any, u: Any, D: Any, k: Any) -> tuple[Any, Any]:
        a, b = u
        rate = k * a.value * b.value**2
        return (
            a.dt() - 1e-3 * D * a.d("x", "x") + rate,
            b.dt() - 1e-3 * D * b.d("x", "x") + 2 * rate,
        )

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(0, 1), 0.0, 10.0),
        "conditions": [
            Initial(lambda x: (-20 * x[:, :1]).exp().expand(-1, 2)),
            Dirichlet(lambda x: (1 - x[:, :1]).expand(-1, 2)),
        ],
        "n_outputs": 2,
        "pde_params": {"D": 1.0, "k": 0.05},
        "variables": ("x", "t"),
    }

    @cache
    def solved() -> list[RectBivariateSpline]:
        """Differences of second order on 400 cells, backward differentiation in time."""
        x, times = np.linspace(0, 1, 401), np.linspace(0, 10, 201)
        h2 = x[1] ** 2

        def slope(t: float, y: Array) -> Array:
            u = y.reshape(2, -1)
            moved = np.zeros_like(u)
            moved[:, 1:-1] = 1e-3 * truth["D"] * np.diff(u, 2) / h2
            rate = truth["k"] * u[0] * u[1] ** 2
            moved[:, 1:-1] -= np.stack([rate, 2 * rate])[:, 1:-1]
            return moved.ravel()

        start = np.exp(-20 * x)
        start[-1] = 0.0
        near = np.abs(np.subtract.outer(np.arange(401), np.arange(401))) <= 1
        y = solve_ivp(
            slope, (0, 10), np.tile(start, 2), "BDF", times, rtol=1e-8, atol=1e-8,
            jac_sparsity=np.tile(near, (2, 2)),
        ).y  # fmt: skip
        return [RectBivariateSpline(x, times, part) for part in y.reshape(2, 401, 201)]

    def exact(x: Array) -> Array:
        return np.stack([part.ev(*x.T) for part in solved()], 1)

    def seen() -> tuple[Array, Array]:
        axes = np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 10, 41), indexing="ij")
        x = np.stack([axis.ravel() for axis in axes], 1)
        return x, exact(x)

    sources = ("DeepXDE: reaction_inverse",)
    return Case(settings, exact, sources, seen=seen, constants=truth)


def conductivity() -> Case:
    """``div(a grad u) = f`` in the square: a(x, y) from u with noise, and a on the edge."""

    def solution(x: Any) -> Any:
        return stacked(
            (pi * x).sin().prod(1), 1 / (1 + x.square().sum(1) + (x - 1).square().sum(1))
        )

    def source(x: Any) -> Any:
        a, s, c = solution(x)[:, 1], (pi * x).sin(), (pi * x).cos()
        bent = -2 * pi**2 * s.prod(1) * a
        return bent - 2 * pi * ((2 * x - 1) * c * s.flip(1)).sum(1) * a**2

    def residual(x: Any, u: Any) -> Any:
        state, a = u
        flow = a.value * state.laplacian() + (a.grad() * state.grad()).sum(1)
        return flow - source(x)

    settings = {
        "residual": residual,
        "domain": Box([0, 0], [1, 1]),
        "conditions": [Dirichlet(lambda x: solution(x)[:, 1], output=1, name="edge")],
        "n_outputs": 2,
    }
    exact = of_torch(solution)

    def seen() -> tuple[Array, Array]:
        axes = np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50))
        x = np.stack([axis.ravel() for axis in axes], 1)
        return x, noisy(exact(x))

    # Noise has the size 0.1: an equation that counts little follows it.
    tuned = {"hidden_layer_sizes": (6, 6), "loss_weights": {"data": 0.1}}
    return Case(settings, exact, ("PINNacle: PInv",), seen=seen, tuned=tuned)


def noisy(values: Array) -> Array:
    """The first of two outputs with normal noise; the second is not seen."""
    noise = NOISE * np.random.default_rng(SEED).standard_normal(len(values))
    return np.stack([values[:, 0] + noise, np.full(len(values), np.nan)], 1)


def heat_conductivity() -> Case:
    """``u_t = div(a grad u) + f`` in the square: a(x, y) from u with noise, and a on the edge."""

    def solution(x: Any) -> Any:
        wave = (pi * x[:, :2]).sin().prod(1)
        return stacked((-x[:, 2]).exp() * wave, 2 + wave)

    def source(x: Any) -> Any:
        s, c = (pi * x[:, :2]).sin(), (pi * x[:, :2]).cos()
        wave, slopes = s.prod(1), (c * s.flip(1)).square().sum(1)
        return (-x[:, 2]).exp() * (2 * pi**2 * wave * (2 + wave) - wave - pi**2 * slopes)

    def residual(x: Any, u: Any) -> tuple[Any, Any]:
        state, a = u
        flow = a.value * state.laplacian() + (a.grad() * state.grad()).sum(1)
        return state.dt() - flow - source(x), a.dt()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Box([-1, -1], [1, 1]), 0.0, 1.0),
        "conditions": [Dirichlet(lambda x: solution(x)[:, 1], output=1, name="edge")],
        "n_outputs": 2,
        "variables": ("x", "y", "t"),
    }
    exact = of_torch(solution)

    def seen() -> tuple[Array, Array]:
        x = np.random.default_rng(SEED + 1).uniform([-1, -1, 0], 1, (2500, 3))
        return x, noisy(exact(x))

    tuned = {"hidden_layer_sizes": (8, 8)}
    return Case(settings, exact, ("PINNacle: HInv",), seen=seen, tuned=tuned)


INVERSE = by_name(
    brinkman_forchheimer, diffusivity, reaction_rate, source_field, lorenz_forced, reaction,
    conductivity, heat_conductivity,
) | {"lorenz-constants": lorenz_free}  # fmt: skip
