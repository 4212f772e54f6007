"""What a case of the suite is, and how its references are computed."""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import pi
from textwrap import dedent
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import RectBivariateSpline

from sklearn_metakan.pde import Condition, problems

Array = NDArray[Any]
Reference = Callable[[Array], Array]  # points (n, d) -> values

POINTS, POINTS_SEED = 10_000, 1  # where errors are taken
RAISSI = "Raissi, Perdikaris, Karniadakis 2019"
# Fronts, waves: what the common setting has, and more of it.
LEAST_SQUARES: dict[str, Any] = {"hidden_layer_sizes": (16, 16), "degree": 4}
LEAST_SQUARES |= {"max_iter": 0, "lm_iter": 10_000}


class Case(NamedTuple):
    """A problem as parameters of a solver, what its answer is, and what must be reached.

    ``sources`` are "DeepXDE: name of the example", "PINNacle: name of the problem", or a paper;
    several where they state the same. ``seen`` gives observations (X, y); ``constants`` are what
    the equation's are in truth, whose relative errors are compared, the largest of them, in place
    of the solution's. ``compared`` is what of the outputs the error is of. ``tuned`` are settings
    that differ from the common ones.
    """

    settings: Mapping[str, Any]
    reference: Reference
    sources: tuple[str, ...]
    must: float | None = None
    aim: float | None = None
    compared: Callable[[Array], Array] = np.asarray
    seen: Callable[[], tuple[Array, Array]] | None = None
    constants: Mapping[str, float] = {}
    tuned: Mapping[str, Any] = {}


def by_name(*makers: Callable[[], Case]) -> dict[str, Callable[[], Case]]:
    """Functions that make cases, by their names with hyphens."""
    return {make.__name__.replace("_", "-"): make for make in makers}


def error_of(solver: Any, case: Case) -> float:
    """Relative L2, or the largest relative error of a constant."""
    if case.constants:
        found = solver.pde_params_
        return max(abs(found[name] / value - 1) for name, value in case.constants.items())
    generator = torch.Generator().manual_seed(POINTS_SEED)
    x = case.settings["domain"].sample(POINTS, generator, dtype=torch.float64).numpy()
    exact, found = (case.compared(each(x)) for each in (case.reference, solver.predict))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def of_torch(exact: Callable[[torch.Tensor], torch.Tensor]) -> Reference:
    """A closed form, which conditions take too, at NumPy's points."""
    return lambda x: exact(torch.as_tensor(x)).numpy()


def stacked(*columns: Any) -> torch.Tensor:
    """Outputs side by side, (n, k)."""
    return torch.stack(torch.broadcast_tensors(*columns), 1)


def first(count: int) -> Callable[[Array], Array]:
    """The outputs that are compared, where others are known up to a constant alone."""
    return lambda values: np.asarray(values)[:, :count]


def at(end: float, name: str, *orders: int) -> list[Condition]:
    """Derivatives of these orders vanish at an end of an interval; 0 is the value."""

    def made(order: int) -> Condition:
        def misfit(x: Any, u: Any, normal: Any) -> Any:
            return u.d(*[0] * order) if order else u.value

        return Condition(misfit, where=lambda x: x[:, 0] == end, name=f"{name}_{order}")

    return [made(order) for order in orders]


def shipped(
    problem: problems.Problem, *sources: str, must: float | None = None,
    aim: float | None = None, **tuned: Any,
) -> Case:  # fmt: skip
    """One of ``sklearn_metakan.pde.problems``."""
    settings = {name: value for name, value in problem.settings.items() if name != "solution"}
    exact = of_torch(problem.solution)
    return Case(settings, exact, sources, must, aim, tuned={**LEAST_SQUARES, **tuned})


def runge_kutta(
    rates: Callable[..., Any], start: Sequence[float], end: float
) -> Callable[[], Callable[[Any], Array]]:
    """``t -> (k, len(t))`` of ``du/dt = rates(t, u_1, ..., u_k)``, of order 8."""

    @cache
    def solved() -> Any:
        return solve_ivp(
            lambda t, y: rates(t, *y), (0, end), start, "DOP853", rtol=1e-12, atol=1e-13,
            dense_output=True,
        ).sol  # fmt: skip

    return solved


def waves(
    linear: Callable[..., Array], nonlinear: Callable[..., Array], start: Callable[..., Array],
    ends: Sequence[tuple[float, float]], last: float, cells: int, steps: int, kept: int = 200,
) -> Callable[[], tuple[Array, Array, Array]]:  # fmt: skip
    """Times, places of one axis and values of ``u_t = linear(k) u + nonlinear(u, k)``, periodic.

    Fourier modes in space, a fourth-order exponential integrator in time; values are
    (times, ..., cells + 1, ...), with the first place again at the end. ``...`` are outputs.

    Source: Cox, Matthews, "Exponential time differencing for stiff systems" (2002), with the means
    over circles of Kassam, Trefethen (2005).
    """

    @cache
    def solved() -> tuple[Array, Array, Array]:
        places = [np.linspace(*end, cells, endpoint=False) for end in ends]
        u = np.asarray(start(*np.meshgrid(*places, indexing="ij")))
        rates = [2 * pi * np.fft.fftfreq(cells, (b - a) / cells) for a, b in ends]
        k = np.meshgrid(*rates, indexing="ij")
        low = np.all([np.abs(each) < 2 / 3 * np.abs(each).max() for each in k], axis=0)
        axes, shape = tuple(range(-len(k), 0)), u.shape
        step = last / steps
        power = step * np.broadcast_to(linear(*k), shape).astype(complex)
        circle = power[..., None] + np.exp(2j * pi * (np.arange(32) + 0.5) / 32)
        e, whole, half = np.exp(circle), np.exp(power), np.exp(power / 2)
        to_half = step * ((np.exp(circle / 2) - 1) / circle).mean(-1)
        weights = [
            step * (part / circle**3).mean(-1)
            for part in (
                -4 - circle + e * (4 - 3 * circle + circle**2),
                2 + circle + e * (circle - 2),
                -4 - 3 * circle - circle**2 + e * (4 - circle),
            )
        ]

        def slope(v: Array) -> Array:
            u = np.fft.ifftn(v, axes=axes)
            return np.fft.fftn(nonlinear(u, *k), axes=axes) * low

        v, rows = np.fft.fftn(u.astype(complex), axes=axes), [u]
        for j in range(1, steps + 1):
            n = slope(v)
            a = half * v + to_half * n
            na = slope(a)
            nb = slope(half * v + to_half * na)
            nc = slope(half * a + to_half * (2 * nb - n))
            v = whole * v + weights[0] * n + 2 * weights[1] * (na + nb) + weights[2] * nc
            if j % (steps // kept) == 0:
                rows.append(np.fft.ifftn(v, axes=axes))
        values = np.pad(rows, [(0, 0)] * (np.ndim(rows) - len(k)) + [(0, 1)] * len(k), "wrap")
        return np.linspace(0, last, kept + 1), np.append(places[0], ends[0][1]), values

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


def statement_lines(make: Callable[..., Any]) -> int | None:
    """Lines that state the problem: ``settings`` and what they use of the function around them.

    Those of a function that makes several cases count for each. None for problems that the
    package itself has.
    """
    if make.__name__ == "<lambda>":
        return None
    body = ast.parse(dedent(inspect.getsource(make))).body[0]
    assert isinstance(body, ast.FunctionDef)
    parts: dict[str, list[ast.stmt]] = {}
    for part in body.body:
        for name in _named(part):
            parts.setdefault(name, []).append(part)
    if "settings" not in parts:
        makers = (
            make.__globals__.get(node.id) for node in ast.walk(body) if isinstance(node, ast.Name)
        )
        here = make.__module__
        shared = next(each for each in makers if getattr(each, "__module__", "") == here)
        first, last = body.body[1], body.body[-1]  # without the docstring
        own = (last.end_lineno or last.lineno) - first.lineno + 1
        return own + (statement_lines(shared) or 0)
    wanted, lines = ["settings"], set[int]()
    while wanted:
        for part in parts.pop(wanted.pop(), []):
            lines |= set(range(part.lineno, (part.end_lineno or part.lineno) + 1))
            wanted += [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
    return len(lines)


def _named(part: ast.stmt) -> list[str]:
    if isinstance(part, ast.FunctionDef):
        return [part.name]
    targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
    return [node.id for t in targets if t for node in ast.walk(t) if isinstance(node, ast.Name)]
