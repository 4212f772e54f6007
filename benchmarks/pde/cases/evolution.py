"""Equations in space and time."""

from collections.abc import Callable, Sequence
from functools import cache
from math import pi
from typing import Any

import numpy as np
import torch
from scipy.fft import dctn, dstn, idctn, idstn
from scipy.interpolate import BSpline, RectBivariateSpline, make_interp_spline
from scipy.linalg import solve_banded
from scipy.ndimage import map_coordinates, spline_filter1d
from scipy.special import ndtr

from benchmarks.pde.cases.case import (
    LEAST_SQUARES,
    RAISSI,
    Array,
    Case,
    Reference,
    by_name,
    first,
    of_torch,
    shipped,
    spline,
    stacked,
    waves,
)
from sklearn_metakan.pde import (
    Ball,
    Box,
    Dirichlet,
    Initial,
    Interval,
    Neumann,
    Periodic,
    SpaceTime,
    problems,
)


def schroedinger() -> Case:
    """``i h_t + h_xx / 2 + |h|^2 h = 0``, periodic, from 2 sech x; the error is that of |h|."""

    def residual(x: Any, h: Any) -> tuple[Any, Any]:
        u, v = h
        squares = u.value**2 + v.value**2
        return (
            u.dt() + 0.5 * v.d("x", "x") + squares * v.value,
            v.dt() - 0.5 * u.d("x", "x") - squares * u.value,
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
    solved = waves(
        lambda k: -0.5j * k**2,
        lambda h, k: 1j * np.abs(h) ** 2 * h,
        lambda x: 2 / np.cosh(x),
        [(-5.0, 5.0)],
        pi / 2,
        256,
        steps=4000,
    )

    def exact(x: Array) -> Array:
        return np.stack([part(x) for part in parts], 1)

    parts = [spline(solved, part) for part in (np.real, np.imag)]
    tuned = {"n_interior": 8000, "n_initial": 1000, **LEAST_SQUARES}
    sources = (RAISSI, "DeepXDE: Schrodinger")
    return Case(settings, exact, sources, 2e-3, 1e-4, compared=modulus, tuned=tuned)


def modulus(values: Array) -> Array:
    """Of a complex number, from its real and imaginary part."""
    return np.hypot(*values.T)


def even(x: Any) -> Any:
    """``x^2`` and t, for solutions that are even in x."""
    return torch.stack([x[:, 0].square(), x[:, 1]], 1)


def kdv() -> Case:
    """``u_t + u u_x + 0.0025 u_xxx = 0``, periodic, from cos(pi x)."""
    settings = {
        "residual": lambda x, u: u.dt() + u.value * u.d("x") + 0.0025 * u.d("x", "x", "x"),
        "domain": SpaceTime(Interval(-1, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: (pi * x[:, 0]).cos()), Periodic(0, order=2)],
        "variables": ("x", "t"),
    }
    solved = waves(
        lambda k: 0.0025j * k**3,
        lambda u, k: -np.fft.ifft(0.5j * k * np.fft.fft(u.real**2)),
        lambda x: np.cos(pi * x),
        [(-1.0, 1.0)],
        1.0,
        256,
        steps=5000,
    )
    tuned = {"n_interior": 10_000, **LEAST_SQUARES}
    return Case(settings, spline(solved, np.real), (RAISSI,), 5e-4, 5e-6, tuned=tuned)


def kuramoto_sivashinsky() -> Case:
    """``u_t + a u u_x + b u_xx + c u_xxxx = 0``, periodic: waves that become chaos."""
    a, b, c = 100 / 16, 100 / 16**2, 100 / 16**4

    def residual(x: Any, u: Any) -> Any:
        return u.dt() + a * u.value * u.d("x") + b * u.d("x", "x") + c * u.d("x", "x", "x", "x")

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(0, 2 * pi), 0.0, 1.0),
        "conditions": [
            Initial(lambda x: x[:, 0].cos() * (1 + x[:, 0].sin())),
            Periodic(0, order=3),
        ],
        "variables": ("x", "t"),
    }
    solved = waves(
        lambda k: b * k**2 - c * k**4,
        lambda u, k: -np.fft.ifft(a / 2 * 1j * k * np.fft.fft(u.real**2)),
        lambda x: np.cos(x) * (1 + np.sin(x)),
        [(0.0, 2 * pi)],
        1.0,
        512,
        steps=4000,
        kept=1000,
    )
    tuned = {"windows": 2}
    return Case(settings, spline(solved, np.real), ("PINNacle: KS",), tuned=tuned)


def decaying_sine() -> Case:
    """``u_t = u_xx + f``: sin(pi x) exp(-t)."""

    def residual(x: Any, u: Any) -> Any:
        return u.dt() - u.d("x", "x") - (pi**2 - 1) * (-x[:, 1]).exp() * (pi * x[:, 0]).sin()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(-1, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: (pi * x[:, 0]).sin()), Dirichlet(0.0)],
        "variables": ("x", "t"),
    }
    exact = of_torch(lambda x: (pi * x[:, 0]).sin() * (-x[:, 1]).exp())
    names = ("diffusion_1d", "diffusion_1d_exactBC", "diffusion_1d_resample")
    return Case(settings, exact, tuple(f"DeepXDE: {name}" for name in names))


def diffusion_reaction() -> Case:
    """``u_t = u_xx + f``, five waves that decay together."""
    waves = {1: 1.0, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4, 8: 1 / 8}

    def modes(x: Any, weights: dict[int, float]) -> Any:
        return sum(weight * (k * x[:, 0]).sin() for k, weight in weights.items())

    def residual(x: Any, u: Any) -> Any:
        source = {k: (k**2 - 1) * weight for k, weight in waves.items()}
        return u.dt() - u.d("x", "x") - (-x[:, 1]).exp() * modes(x, source)

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(-pi, pi), 0.0, 1.0),
        "conditions": [Initial(lambda x: modes(x, waves)), Dirichlet(0.0)],
        "variables": ("x", "t"),
    }
    exact = of_torch(lambda x: modes(x, waves) * (-x[:, 1]).exp())
    return Case(settings, exact, ("DeepXDE: diffusion_reaction",))


def heat() -> Case:
    """``u_t = 0.4 u_xx``, one wave that decays."""
    settings = {
        "residual": lambda x, u: u.dt() - 0.4 * u.d("x", "x"),
        "domain": SpaceTime(Interval(0, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: (pi * x[:, 0]).sin()), Dirichlet(0.0)],
        "variables": ("x", "t"),
    }
    exact = of_torch(lambda x: (pi * x[:, 0]).sin() * (-0.4 * pi**2 * x[:, 1]).exp())
    return Case(settings, exact, ("DeepXDE: heat", "DeepXDE: heat_resample"))


def klein_gordon() -> Case:
    """``u_tt - u_xx + u^2 = f`` for t up to 10: x cos t."""

    def residual(x: Any, u: Any) -> Any:
        place, time = x.unbind(1)
        source = place**2 * time.cos() ** 2 - place * time.cos()
        return u.d("t", "t") - u.d("x", "x") + u.value**2 - source

    def exact(x: Any) -> Any:
        return x[:, 0] * x[:, 1].cos()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(-1, 1), 0.0, 10.0),
        "conditions": [Initial(exact), Initial(0.0, order=1), Dirichlet(exact)],
        "variables": ("x", "t"),
    }
    return Case(settings, of_torch(exact), ("DeepXDE: Klein_Gordon",))


def fast_wave() -> Case:
    """``u_tt = 100 u_xx``: five and ten cycles."""
    settings = {
        "residual": lambda x, u: u.d("t", "t") - 100 * u.d("x", "x"),
        "domain": SpaceTime(Interval(0, 1), 0.0, 1.0),
        "conditions": [
            Initial(lambda x: (pi * x[:, 0]).sin() + (2 * pi * x[:, 0]).sin()),
            Initial(0.0, order=1),
            Dirichlet(0.0),
        ],
        "variables": ("x", "t"),
    }

    def exact(x: Any) -> Any:
        place, time = pi * x.T
        return place.sin() * (10 * time).cos() + (2 * place).sin() * (20 * time).cos()

    return Case(settings, of_torch(exact), ("DeepXDE: wave_1d",))


def black_scholes() -> Case:
    """A call's price by the stock's, up to 150, and the time that is left; strike 50."""
    strike, rate, volatility = 50.0, 0.05, 0.2

    def residual(x: Any, u: Any) -> Any:
        s = x[:, 0]
        spread = 0.5 * volatility**2 * s**2 * u.d("s", "s")
        return u.dt() - spread - rate * s * u.d("s") + rate * u.value

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(0, 150), 0.0, 1.0),
        "conditions": [
            Initial(lambda x: (x[:, 0] - strike).relu()),
            Dirichlet(0.0, where=lambda x: x[:, 0] == 0, name="worthless"),
            Dirichlet(
                lambda x: x[:, 0] - strike * (-rate * x[:, 1]).exp(),
                where=lambda x: x[:, 0] == 150,
                name="high",
            ),
        ],
        "variables": ("s", "t"),
    }

    def exact(x: Array) -> Array:
        s, t = np.maximum(x, 1e-10).T
        spread = volatility * np.sqrt(t)
        d = (np.log(s / strike) + (rate + volatility**2 / 2) * t) / spread
        return s * ndtr(d) - strike * np.exp(-rate * t) * ndtr(d - spread)

    return Case(settings, exact, ("DeepXDE: black_scholes_call",))


def american_put() -> Case:
    """A put that may be exercised at any time: the equation, or the payoff, whichever holds."""
    rate, volatility = 0.05, 0.2

    def residual(x: Any, u: Any) -> tuple[Any, Any, Any]:
        s = x[:, 0]
        spread = 0.5 * volatility**2 * s**2 * u.d("s", "s")
        drift = spread + rate * s * u.d("s") - rate * u.value - u.dt()
        above = u.value - (1 - s).relu()
        either = (above**2 + drift**2 + 1e-8).sqrt() - above + drift
        return drift.relu(), (-above).relu(), either

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(0, 4), 0.0, 1.0),
        "conditions": [
            Initial(lambda x: (1 - x[:, 0]).relu()),
            Dirichlet(1.0, where=lambda x: x[:, 0] == 0, name="low"),
            Dirichlet(0.0, where=lambda x: x[:, 0] == 4, name="high"),
        ],
        "variables": ("s", "t"),
    }

    @cache
    def solved() -> RectBivariateSpline:
        """Implicit steps; where the payoff is more, it is taken, until this set stays."""
        s, steps = np.linspace(0, 4, 2001), 1000
        payoff, h = np.maximum(1 - s, 0), s[1]
        spread, drift = 0.5 * (volatility * s / h) ** 2, rate * s / (2 * h)
        bands = np.stack([-spread - drift, steps + 2 * spread + rate, drift - spread])
        rows, u = [payoff], payoff
        for _ in range(steps):
            taken = u <= payoff
            for _ in range(20):
                held = taken | (s == 0) | (s == 4)
                right = np.where(held, payoff, steps * rows[-1])
                a = np.where(held, np.array([[0.0], [1.0], [0.0]]), bands)
                u = solve_banded((1, 1), [np.roll(a[0], 1), a[1], np.roll(a[2], -1)], right)
                moved = bands[1] * u + bands[0] * np.roll(u, -1) + bands[2] * np.roll(u, 1)
                new = np.where(taken, moved > steps * rows[-1], u < payoff)
                if (new == taken).all():
                    break
                taken = new
            rows.append(u)
        return RectBivariateSpline(s, np.linspace(0, 1, steps + 1), np.array(rows).T, kx=1, ky=1)

    return Case(settings, lambda x: solved().ev(x[:, 0], x[:, 1]), ("DeepXDE: american_put",))


def beltrami() -> Case:
    """Navier-Stokes in three dimensions and time; pressure is known up to a constant."""

    def residual(x: Any, u: Any) -> tuple[Any, ...]:
        speed, gradient = u[:3].value, u[:3].grad()
        carried = (gradient * speed[:, None]).sum(2)
        forces = u[:3].dt() + carried + u[3].grad() - u[:3].laplacian()
        return *forces.unbind(1), u[:3].divergence()

    def exact(x: Any) -> Any:
        *places, t = x.unbind(1)
        speeds, pressure = [], torch.zeros_like(t)
        for i in range(3):
            a, b, c = places[i:] + places[:i]
            speeds.append(-(a.exp() * (b + c).sin() + c.exp() * (a + b).cos()) * (-t).exp())
            twisted = (a + b).sin() * (c + a).cos() * (b + c).exp()
            pressure = pressure - 0.5 * ((2 * a).exp() + 2 * twisted) * (-2 * t).exp()
        return stacked(*speeds, pressure)

    settings = {
        "residual": residual,
        "domain": SpaceTime(Box([-1, -1, -1], [1, 1, 1]), 0.0, 1.0),
        "conditions": [
            kind(lambda x, j=j: exact(x)[:, j], output=j, name=f"{kind.__name__}_{j}".lower())
            for kind in (Initial, Dirichlet)
            for j in range(3)
        ],
        "n_outputs": 4,
        "variables": ("x", "y", "z", "t"),
    }
    source = ("DeepXDE: Beltrami_flow",)
    return Case(settings, of_torch(exact), source, compared=first(3))


def heat_multiscale() -> Case:
    """``u_t = u_xx / (500 pi)^2 + u_yy / pi^2``, twenty waves along x and one along y."""

    def residual(x: Any, u: Any) -> Any:
        return u.dt() - u.d("x", "x") / (500 * pi) ** 2 - u.d("y", "y") / pi**2

    def start(x: Any) -> Any:
        return (20 * pi * x[:, 0]).sin() * (pi * x[:, 1]).sin()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Box([0, 0], [1, 1]), 0.0, 5.0),
        "conditions": [Initial(start), Dirichlet(0.0)],
        "variables": ("x", "y", "t"),
    }
    exact = of_torch(lambda x: start(x) * (-(1 + 0.04**2) * x[:, 2]).exp())
    tuned = {"features": beside_waves(20)}
    return Case(settings, exact, ("PINNacle: Heat2d-MS",), tuned=tuned)


def beside_waves(count: float) -> Callable[[Any], Any]:
    """Coordinates, and a wave along the first of them, of so many half lengths in [0, 1]."""

    def features(x: Any) -> Any:
        angle = count * pi * x[:, :1]
        return torch.cat([angle.sin(), angle.cos(), x], 1)

    return features


def half_circle(x: Any) -> Any:
    """The first coordinate, in [0, 1], as a place on half a circle."""
    angle = pi * x[:, :1]
    return torch.cat([angle.cos(), angle.sin(), x[:, 1:]], 1)


def heat_in_ball() -> Case:
    """``u_t = laplace(u) / 5 + f`` in the ball of five dimensions, its flow given on the sphere."""

    def residual(x: Any, u: Any) -> Any:
        squares = x[:, :5].square().sum(1)
        return u.dt() - u.laplacian() / 5 + squares / 5 * (squares / 2 + x[:, 5]).exp()

    def exact(x: Any) -> Any:
        return (x[:, :5].square().sum(1) / 2 + x[:, 5]).exp()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Ball([0.0] * 5, 1.0), 0.0, 1.0),
        "conditions": [Initial(exact), Neumann(exact)],
        "variables": (*(f"x{i}" for i in range(1, 6)), "t"),
    }
    tuned = {"hidden_layer_sizes": (8, 8), "features": radial}
    return Case(settings, of_torch(exact), ("PINNacle: HNd",), tuned=tuned)


def radial(x: Any) -> Any:
    """``|x|^2`` and t, for solutions that are the same in all directions."""
    return torch.stack([x[:, :-1].square().sum(1), x[:, -1]], 1)


_AROUND = 20  # cells beyond the edge, for splines


def on_square(
    start: Callable[[Array, Array], Array], rates: Callable[[float, Array], Array],
    spread: Sequence[float], ends: tuple[float, float], last: float, cells: int, steps: int,
    kept: int, odd: bool,
) -> Reference:  # fmt: skip
    """``u_t = spread laplace(u) + rates(t, u)`` on a square, 0 at its edge if odd, else no flow.

    Cosines, or sines, in space; Strang's splitting in time, its reactions by Runge and Kutta.
    Between places and times are splines; u is (k, ...).
    """
    forward, back = (dstn, idstn) if odd else (dctn, idctn)
    inner = slice(1, -1) if odd else slice(None)

    @cache
    def solved() -> BSpline:
        places = np.linspace(*ends, cells + 1)
        u = start(*np.meshgrid(places, places, indexing="ij"))
        squares = (pi * np.arange(cells + 1)[inner] / (ends[1] - ends[0])) ** 2
        step = last / steps
        rate = np.multiply.outer(np.array(spread), np.add.outer(squares, squares))
        decay = np.exp(-rate * step / 2)

        def diffused(u: Array) -> Array:
            found = u.copy()
            its = forward(u[:, inner, inner], 1, axes=(1, 2)) * decay
            found[:, inner, inner] = back(its, 1, axes=(1, 2))
            return found

        rows = [u]
        for j in range(steps):
            t, u = j * step, diffused(u)
            a = rates(t, u)
            b = rates(t + step / 2, u + step / 2 * a)
            c = rates(t + step / 2, u + step / 2 * b)
            u = diffused(u + step / 6 * (a + 2 * b + 2 * c + rates(t + step, u + step * c)))
            if (j + 1) % (steps // kept) == 0:
                rows.append(u)
        around = [(0, 0), (0, 0), (_AROUND, _AROUND), (_AROUND, _AROUND)]
        wide = np.pad(np.stack(rows), around, "reflect", reflect_type="odd" if odd else "even")
        for axis in (2, 3):
            wide = spline_filter1d(wide, 5, axis)
        return make_interp_spline(np.linspace(0, last, kept + 1), wide, 5)

    def exact(x: Array) -> Array:
        x, spline = np.asarray(x), solved()
        where = _AROUND + cells * (x[:, :2].T - ends[0]) / (ends[1] - ends[0])
        shares = BSpline.design_matrix(x[:, 2], spline.t, spline.k).tocsc()
        found = np.zeros((len(x), len(spread)))
        for j, frame in enumerate(spline.c):
            span = slice(*shares.indptr[j : j + 2])
            at = shares.indices[span]
            for part, values in zip(found.T, frame, strict=True):
                smooth = map_coordinates(values, where[:, at], order=5, prefilter=False)
                part[at] += shares.data[span] * smooth
        return found if len(spread) > 1 else found[:, 0]

    return exact


def heat_long() -> Case:
    """``u_t = u_xx / 1000 + u_yy / 1000 + 5 sin(u^2) (1 + 2 sin(pi t / 4)) w`` for t up to 100."""

    def residual(x: Any, u: Any) -> Any:
        forced = 5 * (1 + 2 * (pi / 4 * x[:, 2]).sin()) * waves_of(x, 4, 2)
        return u.dt() - 0.001 * u.laplacian() - (u.value**2).sin() * forced

    def waves_of(x: Any, along: int, up: int) -> Any:
        return (along * pi * x[:, 0]).sin() * (up * pi * x[:, 1]).sin()

    settings = {
        "residual": residual,
        "domain": SpaceTime(Box([0, 0], [1, 1]), 0.0, 100.0),
        "conditions": [Initial(lambda x: waves_of(x, 4, 3)), Dirichlet(0.0)],
        "variables": ("x", "y", "t"),
    }
    return Case(settings, forced_heat(100.0, 4000, 400), ("PINNacle: Heat2d-LT",))


def forced_heat(last: float, steps: int, kept: int) -> Reference:
    """The solution of ``heat_long`` up to a time."""
    s = np.linspace(0, 1, 129)
    wave = np.multiply.outer(np.sin(4 * pi * s), np.sin(2 * pi * s))
    return on_square(
        lambda x, y: (np.sin(4 * pi * x) * np.sin(3 * pi * y))[None],
        lambda t, u: 5 * np.sin(u**2) * (1 + 2 * np.sin(pi / 4 * t)) * wave,
        [1e-3], (0.0, 1.0), last, 128, steps, kept, odd=True,
    )  # fmt: skip


def gray_scott() -> Case:
    """Two substances that react, u v^2, and spots of one that grow in the other, t up to 200."""
    feed, decay, spread = 0.04, 0.1, (1e-5, 5e-6)

    def residual(x: Any, w: Any) -> tuple[Any, Any]:
        u, v = w
        taken = u.value * v.value**2
        return (
            u.dt() - spread[0] * u.laplacian() - feed * (1 - u.value) + taken,
            v.dt() - spread[1] * v.laplacian() + decay * v.value - taken,
        )

    def spot(x: Any, y: Any, sign: int) -> Any:
        return -80 * ((x + 0.05 * sign) ** 2 + (y + 0.02 * sign) ** 2)

    settings = {
        "residual": residual,
        "domain": SpaceTime(Box([-1, -1], [1, 1]), 0.0, 200.0),
        "conditions": [
            Initial(lambda x: 1 - spot(x[:, 0], x[:, 1], 1).exp(), output=0, name="start_u"),
            Initial(lambda x: spot(x[:, 0], x[:, 1], -1).exp(), output=1, name="start_v"),
        ],
        "n_outputs": 2,
        "variables": ("x", "y", "t"),
    }

    def rates(t: float, w: Array) -> Array:
        u, v = w
        taken = u * v**2
        return np.stack([feed * (1 - u) - taken, taken - decay * v])

    exact = on_square(
        lambda x, y: np.stack([1 - np.exp(spot(x, y, 1)), np.exp(spot(x, y, -1))]),
        rates, spread, (-1.0, 1.0), 200.0, 192, 800, 100, odd=False,
    )  # fmt: skip

    def spots(x: Any) -> Any:
        """Where the spots were, and the middle of the square stretched."""
        first, other = (spot(x[:, :1], x[:, 1:2], sign).exp() for sign in (1, -1))
        return torch.cat([first, other, (4 * x[:, :2]).tanh(), x[:, 2:]], 1)

    return Case(settings, exact, ("PINNacle: GS",), tuned={"features": spots})


EVOLUTION = by_name(
    schroedinger, kdv, decaying_sine, diffusion_reaction, heat, klein_gordon, fast_wave,
    black_scholes, american_put, beltrami, kuramoto_sivashinsky, heat_multiscale, heat_in_ball,
    heat_long, gray_scott,
) | {
    "burgers": lambda: shipped(
        problems.Burgers(), RAISSI, "DeepXDE: Burgers", "DeepXDE: Burgers_RAR",
        "PINNacle: Burgers1d-C", must=1e-4, aim=1e-7, n_interior=10_000, degree=3,
    ),
    "allen-cahn": lambda: shipped(
        problems.AllenCahn1D(), RAISSI, "DeepXDE: Allen_Cahn", must=2e-5, aim=2e-6,
        n_interior=24_000, hidden_layer_sizes=(12, 12, 12), degree=5, resample_every=20,
        features=even, working_memory=16_000,
    ),
    "wave": lambda: shipped(problems.Wave(), "PINNacle: Wave1d-C")._replace(
        tuned={"windows": 2, "features": half_circle}
    ),
}  # fmt: skip
