"""Equations in space alone: Poisson, Helmholtz, elasticity, steady flow."""

from collections.abc import Callable, Sequence
from functools import cache
from math import pi
from typing import Any

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from scipy.special import h1vp, hankel1, jvp

from benchmarks.pde.cases.case import (
    Array,
    Case,
    Reference,
    by_name,
    of_torch,
    shipped,
    stacked,
)
from sklearn_metakan.pde import (
    Ball,
    Box,
    Condition,
    Dirichlet,
    problems,
)


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
    return Case(settings, l_solution, ("DeepXDE: Poisson_Lshape",), 2e-3, 2e-4, tuned=tuned)


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


def helmholtz() -> Case:
    """``-laplace(u) - k^2 u = k^2 sin(k x) sin(k y)``, k = 4 pi, u = 0 on the square's edge."""
    k = 4 * pi

    def exact(x: Any) -> Any:
        return (k * x[:, 0]).sin() * (k * x[:, 1]).sin()

    settings = {
        "residual": lambda x, u: u.laplacian() / k**2 + u.value + exact(x),
        "domain": Box([0, 0], [1, 1]),
        "conditions": [Dirichlet(0.0)],
    }
    names = ("Helmholtz_Dirichlet_2d", "Helmholtz_Dirichlet_2d_HPO")
    return Case(settings, of_torch(exact), tuple(f"DeepXDE: {name}" for name in names))


def on_circle(radius: float) -> Callable[[Any], Any]:
    """Whether points of the boundary are on the circle around 0, no more than so far away."""
    return lambda x: x.square().sum(1) < (1.01 * radius) ** 2


def off_circle(radius: float) -> Callable[[Any], Any]:
    """Whether they are on what is around it."""
    return lambda x: ~on_circle(radius)(x)


def helmholtz_hole() -> Case:
    """The same with k = 2 pi and a hole, where the slope is given."""
    k = 2 * pi

    def exact(x: Any) -> Any:
        return (k * x[:, 0]).sin() * (k * x[:, 1]).sin()

    def slope(x: Any, u: Any, normal: Any) -> Any:
        s, c = (k * x).sin(), (k * x).cos()
        return u.normal_derivative() - k * (c * s.flip(1) * normal).sum(1)

    settings = {
        "residual": lambda x, u: u.laplacian() / k**2 + u.value + exact(x),
        "domain": Box([-0.5, -0.5], [0.5, 0.5]) - Ball([0.0, 0.0], 0.25),
        "conditions": [
            Dirichlet(0.0, where=off_circle(0.25), name="square"),
            Condition(slope, where=on_circle(0.25), name="hole"),
        ],
    }
    return Case(settings, of_torch(exact), ("DeepXDE: Helmholtz_Neumann_2d_hole",))


def sound_hard() -> Case:
    """A plane wave, k = 2, scattered by a hard disc; its outer edge lets waves out, roughly.

    The reference is of the whole plane, as the example's is, and its outer condition holds
    for waves that leave straight alone: the two differ by the size of a few per cent.
    """
    k, radius = 2.0, pi / 4

    def slope(x: Any, u: Any, normal: Any) -> Any:
        wave = k * x[:, 0]
        inflow = k * normal[:, 0] * torch.stack([-wave.sin(), wave.cos()])
        return u.normal_derivative() + inflow.T

    def leaves(x: Any, u: Any, normal: Any) -> Any:
        return u.normal_derivative() - k * torch.stack([-u[1].value, u[0].value], 1)

    settings = {
        "residual": lambda x, u: (u.laplacian() / k**2 + u.value).unbind(1),
        "domain": Box([-pi, -pi], [pi, pi]) - Ball([0.0, 0.0], radius),
        "conditions": [
            Condition(slope, where=on_circle(radius), name="disc"),
            Condition(leaves, where=off_circle(radius), name="edge"),
        ],
        "n_outputs": 2,
    }

    def exact(x: Array) -> Array:
        orders = np.arange(-30, 31)
        r, angle = np.hypot(*x.T)[:, None], np.arctan2(x[:, 1], x[:, 0])[:, None]
        sizes = -(1j**orders) * jvp(orders, k * radius) / h1vp(orders, k * radius)
        wave = (sizes * hankel1(orders, k * r) * np.exp(1j * orders * angle)).sum(1)
        return np.stack([wave.real, wave.imag], 1)

    return Case(settings, exact, ("DeepXDE: Helmholtz_Sound_hard_ABC_2d",))


def laplace_disk() -> Case:
    """Laplace's equation in the unit disc in polar coordinates, cos(angle) on its edge."""

    def round_again(x: Any) -> Any:
        return torch.stack([x[:, 0] * x[:, 1].sin(), x[:, 0] * x[:, 1].cos()], 1)

    def residual(x: Any, u: Any) -> Any:
        r = x[:, 0]
        return r * u.d("r") + r**2 * u.d("r", "r") + u.d("angle", "angle")

    settings = {
        "residual": residual,
        "domain": Box([0, 0], [1, 2 * pi]),
        "conditions": [
            Dirichlet(lambda x: x[:, 1].cos(), where=lambda x: x[:, 0] == 1, name="edge")
        ],
        "features": round_again,
        "variables": ("r", "angle"),
    }
    exact = of_torch(lambda x: x[:, 0] * x[:, 1].cos())
    return Case(settings, exact, ("DeepXDE: Laplace_disk",))


def elasticity() -> Case:
    """A plate in plane strain: two displacements, three stresses, forces inside."""
    first_lame, shear, load = 1.0, 0.5, 4.0
    stiff = first_lame + 2 * shear

    def waves(x: Any) -> tuple[Any, ...]:
        along, up = (pi * x).unbind(1)
        return along.sin(), along.cos(), up.sin(), up.cos()

    def residual(x: Any, u: Any) -> tuple[Any, ...]:
        sx, cx, sy, cy = waves(x)
        y = x[:, 1]
        s2, c2 = 2 * sx * cx, 1 - 2 * sx**2
        pull_x = (
            -(4 * stiff + shear) * pi**2 * c2 * sy + (first_lame + shear) * load * y**3 * pi * cx
        )
        pull_y = stiff * 3 * load * y**2 * sx - shear * load * y**4 / 4 * pi**2 * sx
        pull_y = pull_y - (first_lame + shear) * 2 * pi**2 * cy * s2
        ux, uy, xx, yy, xy = u
        ex, ey, bent = ux.d(0), uy.d(1), ux.d(1) + uy.d(0)
        return (
            xx.d(0) + xy.d(1) - pull_x,
            xy.d(0) + yy.d(1) - pull_y,
            stiff * ex + first_lame * ey - xx.value,
            stiff * ey + first_lame * ex - yy.value,
            shear * bent - xy.value,
        )

    def side(axis: int, *ends: float) -> Callable[[Any], Any]:
        return lambda x: torch.isin(x[:, axis], x.new_tensor(ends))

    settings = {
        "residual": residual,
        "domain": Box([0, 0], [1, 1]),
        "conditions": [
            Dirichlet(0.0, output=0, where=side(1, 0.0, 1.0), name="ux"),
            Dirichlet(0.0, output=1, where=lambda x: x[:, 1] != 1, name="uy"),
            Dirichlet(0.0, output=2, where=side(0, 0.0, 1.0), name="xx"),
            Dirichlet(
                lambda x: stiff * load * (pi * x[:, 0]).sin(),
                output=3,
                where=side(1, 1.0),
                name="yy",
            ),
        ],
        "n_outputs": 5,
    }

    def exact(x: Any) -> Any:
        sx, cx, sy, cy = waves(x)
        y, c2 = x[:, 1], 1 - 2 * sx**2
        ex, ey = -4 * pi * sx * cx * sy, load * sx * y**3
        bent = pi * c2 * cy + pi * cx * load * y**4 / 4
        xx, yy = stiff * ex + first_lame * ey, stiff * ey + first_lame * ex
        return stacked(c2 * sy, load * sx * y**4 / 4, xx, yy, shear * bent)

    return Case(settings, of_torch(exact), ("DeepXDE: elasticity_plate",))


def around_discs(
    size: float, discs: Sequence[tuple[float, float, float]], edge: float, rim: float,
    squared: float, source: Callable[[Array], Array], cells: int = 400,
) -> Reference:  # fmt: skip
    """``-laplace(u) + squared u = source`` in [-size, size]^2 without discs (x, y, radius).

    u = ``edge`` on the square, ``rim`` on the circles. Differences of second order, cut where a
    circle crosses a line of the grid (Shortley, Weller 1938).
    """

    def hole(x: Array) -> Array:
        """Negative in discs, in units of length squared."""
        parts = [(x[..., 0] - a) ** 2 + (x[..., 1] - b) ** 2 - r**2 for a, b, r in discs]
        return np.min(parts, 0)

    @cache
    def solved() -> RectBivariateSpline:
        h = 2 * size / cells
        places = np.linspace(-size, size, cells + 1)
        x = np.stack(np.meshgrid(places, places, indexing="ij"), -1)
        outside = hole(x) > 1e-9 * size
        free = outside.copy()
        free[[0, -1]] = free[:, [0, -1]] = False
        number = np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)
        inside = x[free]
        right, diagonal = source(inside), np.full(len(inside), squared)
        rows, columns, entries = [np.arange(len(inside))], [np.arange(len(inside))], []
        for axis in range(2):
            arms, values, ends = [], [], []
            for sign in (1, -1):
                step = np.zeros(2)
                step[axis] = sign * h
                arm = np.ones(len(inside))
                for a, b, r in discs:  # the part of the step up to the circle
                    away = inside - (a, b)
                    half, apart = away @ step / h**2, (np.sum(away**2, 1) - r**2) / h**2
                    root = half**2 - apart
                    cut = -half - np.sqrt(np.where(root > 0, root, np.inf))
                    arm = np.where((cut > 0) & (cut < arm), np.maximum(cut, 1e-6), arm)
                next_to = np.roll(number, -sign, axis)[free]
                on_rim = (arm < 1) | ~np.roll(outside, -sign, axis)[free]
                arms.append(arm * h)
                values.append(np.where(on_rim, rim, edge))
                ends.append(np.where(arm < 1, -1, next_to))
            for j in range(2):
                weight = 2 / (arms[j] * (arms[0] + arms[1]))
                diagonal += weight
                known = ends[j] < 0
                right += np.where(known, weight * values[j], 0)
                rows.append(np.flatnonzero(~known))
                columns.append(ends[j][~known])
                entries.append(-weight[~known])
        where = (np.concatenate(rows), np.concatenate(columns))
        matrix = coo_array((np.concatenate([diagonal, *entries]), where))
        u = np.where(outside, edge, rim)
        u[free] = spsolve(matrix.tocsc(), right, permc_spec="MMD_AT_PLUS_A")
        return RectBivariateSpline(places, places, u, kx=1, ky=1)

    return lambda x: solved().ev(x[:, 0], x[:, 1])


def around(size: float, *discs: tuple[float, float, float]) -> tuple[Any, Callable[[Any], Any]]:
    """The square without discs, and whether points of its boundary are on a circle."""
    domain: Any = Box([-size, -size], [size, size])
    for a, b, radius in discs:
        domain = domain - Ball([a, b], radius)
    return domain, lambda x: (x.abs() < 0.999 * size).all(1)


def logarithms(discs: Sequence[tuple[float, float, float]]) -> Callable[[Any], Any]:
    """x, and log |x - c| of the middle of each disc: how solutions behave around a hole."""

    def features(x: Any) -> Any:
        away = [(x - x.new_tensor(middle)).norm(dim=1, keepdim=True) for *middle, _ in discs]
        return torch.cat([x, *(each.log() for each in away)], 1)

    return features


def four_holes() -> Case:
    """Laplace's equation, 1 on the square, 0 on four circles."""
    discs = [(a, b, 0.1) for a in (0.3, -0.3) for b in (0.3, -0.3)]
    domain, on_circles = around(0.5, *discs)
    settings = {
        "residual": lambda x, u: u.laplacian(),
        "domain": domain,
        "conditions": [
            Dirichlet(1.0, where=lambda x: ~on_circles(x), name="square"),
            Dirichlet(0.0, where=on_circles, name="circles"),
        ],
    }
    exact = around_discs(0.5, discs, 1.0, 0.0, 0.0, lambda x: np.zeros(len(x)))
    tuned = {"hidden_layer_sizes": (8, 8), "n_boundary": 1000, "features": logarithms(discs)}
    return Case(settings, exact, ("PINNacle: Poisson2d-C",), tuned=tuned)


def screened_holes() -> Case:
    """``-laplace(u) + 64 u = f``, 0.2 on the square, 1 on four circles of different size."""
    discs = [(0.5, 0.5, 0.2), (0.4, -0.4, 0.4), (-0.2, -0.7, 0.1), (-0.6, 0.5, 0.3)]
    domain, on_circles = around(1.0, *discs)

    def source(x: Any) -> Any:
        squares = 17 + x[:, 0] ** 2 + x[:, 1] ** 2
        return 10 * squares * torch.sin(pi * x[:, 0]) * torch.sin(4 * pi * x[:, 1])

    settings = {
        "residual": lambda x, u: 64 * u.value - u.laplacian() - source(x),
        "domain": domain,
        "conditions": [
            Dirichlet(0.2, where=lambda x: ~on_circles(x), name="square"),
            Dirichlet(1.0, where=on_circles, name="circles"),
        ],
    }
    exact = around_discs(1.0, discs, 0.2, 1.0, 64.0, of_torch(source))
    tuned = {"degree": 4, "features": logarithms(discs)}
    return Case(settings, exact, ("PINNacle: Poisson2d-CG",), tuned=tuned)


def lid_driven() -> Case:
    """Steady flow in a square whose lid moves at 4 x (1 - x), viscosity 0.01."""

    def residual(x: Any, u: Any) -> tuple[Any, ...]:
        speed = u[:2]
        carried = (speed.grad() * speed.value[:, None]).sum(2)
        forces = carried + u[2].grad() - 0.01 * speed.laplacian()
        return *forces.unbind(1), speed.divergence()

    def lid(x: Any) -> Any:
        return x[:, 1] == 1

    settings = {
        "residual": residual,
        "domain": Box([0, 0], [1, 1]),
        "conditions": [
            Dirichlet(lambda x: 4 * x[:, 0] * (1 - x[:, 0]), where=lid, output=0, name="lid"),
            Dirichlet(0.0, where=lambda x: ~lid(x), output=0, name="walls"),
            Dirichlet(0.0, output=1, name="across"),
        ],
        "n_outputs": 3,
    }

    def seen() -> tuple[Array, Array]:
        """No pressure in one corner; it is known up to a constant."""
        return np.zeros((1, 2)), np.array([[np.nan, np.nan, 0.0]])

    return Case(settings, lambda x: _cavity()(x), ("PINNacle: NS2d-C",), seen=seen)


@cache
def _cavity(n: int = 28) -> Reference:
    """Speeds and pressure by Chebyshev's points, Newton's method on the stream function."""
    k = np.arange(n + 1)
    s = (1 - np.cos(pi * k / n)) / 2
    signs = np.where((k == 0) | (k == n), 2.0, 1.0) * (-1.0) ** k
    apart = s[:, None] - s + np.eye(n + 1)
    d = signs[:, None] / signs / apart
    d -= np.diag(d.sum(1))
    one = np.eye(n + 1)
    dx, dy = np.kron(d, one), np.kron(one, d)
    laplace = dx @ dx + dy @ dy
    x, y = (each.ravel() for each in np.meshgrid(s, s, indexing="ij"))
    edge = (x == 0) | (x == 1) | (y == 0) | (y == 1)
    # Slopes are asked at the next row of points.
    next_x = ((k == 1) | (k == n - 1))[:, None] & ((k > 0) & (k < n))
    next_y = ((k == 1) | (k == n - 1)) & ((k > 1) & (k < n - 1))[:, None]
    near, psi = (next_x | next_y).ravel(), np.zeros((n + 1) ** 2)
    slopes = np.where(next_x.ravel()[:, None], dx, dy).reshape(n + 1, n + 1, -1)
    wanted = np.where(y == 1, 4 * x * (1 - x), 0.0).reshape(n + 1, n + 1)
    rows, values = slopes.copy(), np.zeros((n + 1, n + 1))
    for near_end, end in ((1, 0), (n - 1, n)):
        rows[:, near_end] = dy.reshape(n + 1, n + 1, -1)[:, end]
        values[:, near_end] = wanted[:, end]
    for near_end, end in ((1, 0), (n - 1, n)):
        rows[near_end, 1:-1] = dx.reshape(n + 1, n + 1, -1)[end, 1:-1]
        values[near_end, 1:-1] = 0.0
    fixed = np.where(edge[:, None], np.eye((n + 1) ** 2), rows.reshape((n + 1) ** 2, -1))
    asked = np.where(edge, 0.0, values.ravel())
    held, smooth = edge | near, 0.01 * laplace @ laplace
    for _ in range(20):
        u, v, spin = dy @ psi, -dx @ psi, laplace @ psi
        misfit = u * (dx @ spin) + v * (dy @ spin) - smooth @ psi
        slope = u[:, None] * (dx @ laplace) + v[:, None] * (dy @ laplace) - smooth
        slope += (dx @ spin)[:, None] * dy - (dy @ spin)[:, None] * dx
        matrix = np.where(held[:, None], fixed, slope)
        step = np.linalg.solve(matrix, np.where(held, fixed @ psi - asked, misfit))
        psi = psi - step
        if np.abs(step).max() < 1e-10:
            break
    u, v = dy @ psi, -dx @ psi
    force = [0.01 * laplace @ w - u * (dx @ w) - v * (dy @ w) for w in (u, v)]
    p = np.linalg.lstsq(np.concatenate([dx, dy]), np.concatenate(force), rcond=1e-12)[0]
    parts = [w.reshape(n + 1, n + 1) for w in (u, v, p - p[0])]

    def exact(points: Array) -> Array:
        weights = [_barycentric(s, points[:, axis]) for axis in range(2)]
        found = [np.einsum("pi,ij,pj->p", weights[0], w, weights[1]) for w in parts]
        return np.stack(found, 1)

    return exact


def _barycentric(s: Array, x: Array) -> Array:
    """Weights (len(x), len(s)) of values at Chebyshev's points in the polynomial at x."""
    k = np.arange(len(s))
    signs = (-1.0) ** k * np.where((k == 0) | (k == k[-1]), 0.5, 1.0)
    apart = x[:, None] - s
    shares = signs / np.where(apart == 0, 1e-300, apart)
    return shares / shares.sum(1, keepdims=True)


STEADY = by_name(
    l_shape, helmholtz, helmholtz_hole, sound_hard, laplace_disk, elasticity, four_holes,
    screened_holes, lid_driven,
) | {
    "kovasznay": lambda: shipped(problems.Kovasznay(), "DeepXDE: Kovasznay_flow"),
    "poisson-five": lambda: shipped(problems.PoissonCube(5), "PINNacle: PNd"),
}  # fmt: skip
