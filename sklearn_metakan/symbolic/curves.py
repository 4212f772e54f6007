"""Functions of one variable that an edge may be: ``a f(b z + c) + d``."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from scipy.optimize import least_squares

from sklearn_metakan.symbolic.problem import Array, Expr

_POINTS = 100  # of a curve that constants are searched on
_GRID = 24  # values of b, and of c, that are tried
_STARTS = 2  # of them that may be followed
_FOLLOWED = 14  # of all functions together
_CANCELLING = 100.0  # times the curve that a term may be, which d then takes back
_FLOOR = 1e-7
_ROUNDED = 5e-4  # share of a curve's size that three digits do not show


class Function(NamedTuple):
    """A member of the library.

    ``inner``: which of b and c are free beside a and d: "" for ``a f(z) + d``, "b" for
    ``a f(b z) + d``, "c" for ``a f(z + c) + d``, "bc". ``waves``: b up to several periods.
    """

    name: str
    of: Any  # array -> array
    expression: Any  # sympy -> sympy
    inner: str = ""
    waves: bool = False


def _power(power: float, inner: str = "") -> Function:
    exact = Fraction(power).limit_denominator(6)
    text = f"z^{exact}" if not inner else f"(z + c)^{exact}"
    return Function(
        text,
        lambda z: z ** float(power),
        lambda z: z ** sympy.Rational(exact.numerator, exact.denominator),
        inner,
    )


LIBRARY: dict[str, Function] = {
    each.name: each
    for each in (
        *(_power(p) for p in (1, 2, 3, 4, -1, -2, -3, 0.5, -0.5, 1.5)),
        *(_power(p, "c") for p in (2, 3, -1, -2, 0.5, -0.5)),
        Function("log", np.log, lambda z: sympy.log(z)),
        Function("log(z + c)", np.log, lambda z: sympy.log(z), "c"),
        Function("exp", np.exp, lambda z: sympy.exp(z), "b"),
        Function("gaussian", lambda z: np.exp(-(z**2)), lambda z: sympy.exp(-(z**2)), "b"),
        Function("shifted gaussian", lambda z: np.exp(-(z**2)), lambda z: sympy.exp(-(z**2)), "bc"),
        Function("sin", np.sin, lambda z: sympy.sin(z), "b", True),
        Function("cos", np.cos, lambda z: sympy.cos(z), "b", True),
        Function("shifted sin", np.sin, lambda z: sympy.sin(z), "bc", True),
        Function("tan", np.tan, lambda z: sympy.tan(z), "b"),
        Function("tanh", np.tanh, lambda z: sympy.tanh(z), "b"),
        Function("shifted tanh", np.tanh, lambda z: sympy.tanh(z), "bc"),
        Function("cosh", np.cosh, lambda z: sympy.cosh(z), "b"),
        Function("sinh", np.sinh, lambda z: sympy.sinh(z), "b"),
        Function("arcsin", np.arcsin, lambda z: sympy.asin(z), "b"),
        Function("arctan", np.arctan, lambda z: sympy.atan(z), "b"),
        Function("abs", np.abs, lambda z: sympy.Abs(z), "c"),
    )
}


def chosen(library: str | Iterable[str | Function]) -> list[Function]:
    """The functions of a library that is named, or listed.

    Raises ValueError for a name that is not in the library, or an empty one.
    """
    if isinstance(library, str):
        library = LIBRARY if library == "default" else [library]
    found = []
    for each in library:
        if isinstance(each, str) and each not in LIBRARY:
            raise ValueError(
                f"library must be 'default' or name functions among {[*LIBRARY]}, got {each!r}."
            )
        found.append(LIBRARY[each] if isinstance(each, str) else each)
    if not found:
        raise ValueError("library must name at least one function, got none.")
    return found


class Fit(NamedTuple):
    """``h = a f(b z + c) + d`` with numbers; ``left`` is the share of h's square not explained."""

    function: Function
    a: float
    b: float
    c: float
    d: float
    left: float

    @property
    def rank(self) -> float:
        """Digits that it leaves; a free constant inside has to gain half a digit."""
        return float(np.log10(self.left + _FLOOR) + 0.5 * len(self.function.inner))

    def expression(self, name: Expr, constant: bool = True) -> Expr:
        """With sympy's floats for what was fitted, and whole numbers for what was not."""
        number = sympy.Float
        inner = self.function.inner
        inside = name * number(self.b) if "b" in inner else name
        inside = inside + number(self.c) if "c" in inner else inside
        found = number(self.a) * self.function.expression(inside)
        return found + number(self.d) if constant else found


def fits(z: Array, h: Array, weight: Array, library: Sequence[Function]) -> list[Fit]:
    """Every function of the library fitted to a curve by weighted least squares, best first."""
    order = np.argsort(z, kind="stable")
    few = order[np.unique(np.linspace(0, len(z) - 1, _POINTS).astype(int))]
    curve = z[few], h[few], weight[few] / (weight[few].max() + 1e-300)
    with np.errstate(all="ignore"):
        starts = [(function, *start) for function in library for start in _starts(function, *curve)]
        starts.sort(key=lambda each: each[1])
        found = [_refined(function, b, c, *curve) for function, _, b, c in starts[:_FOLLOWED]]
    best: dict[str, Fit] = {}
    for fit in sorted(filter(None, found), key=lambda each: each.rank):
        best.setdefault(fit.function.name, fit)
    return [*best.values()]


def edge_candidates(
    z: Array, h: Array, *, most: int = 3, library: str | Iterable[str | Function] = "default"
) -> list[tuple[str, float]]:
    """What an edge may be: formulas ``a f(b x + c) + d`` fitted to its curve, best first.

    Parameters
    ----------
    z, h : ndarray of shape (n_points,)
        The curve. Constants are looked for on at most 100 of its points.
    most : int, default=3
    library : "default" or iterable of names
        See ``symbolic_formula``.

    Returns
    -------
    list of (str, float)
        Formulas of x with constants of three digits, and their R2 on the curve.

    Raises
    ------
    ValueError
        For a library that is empty or unknown.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 50)
    >>> edge_candidates(x, np.sin(3 * x), most=1)
    [('1.0*sin(3.0*x)', 1.0)]
    """
    x, found = sympy.Symbol("x"), []
    for fit in fits(z, h, np.ones_like(z), chosen(library))[:most]:
        formula = fit.expression(x, constant=abs(fit.d) > _ROUNDED * np.abs(h).max())
        short = {number: sympy.Float(number, 3) for number in formula.atoms(sympy.Float)}
        found.append((str(formula.xreplace(short)), round(1 - fit.left, 6)))
    return found


def _solved(function: Function, b: Any, c: Any, z: Array, h: Array, w: Array) -> Any:
    """a, d and the share left, for arrays of b and c."""
    f = function.of(np.multiply.outer(b, z) + np.asarray(c)[..., None])
    w2 = w**2 / (w**2).sum()
    f_mean, h_mean = (f * w2).sum(-1), (h * w2).sum()
    df, dh = f - f_mean[..., None], h - h_mean
    variance = (df**2 * w2).sum(-1)
    a = (df * dh * w2).sum(-1) / variance
    total = (dh**2 * w2).sum() + 1e-300
    left = ((dh - a[..., None] * df) ** 2 * w2).sum(-1) / total
    flat = variance <= 1e-20 * (f**2 * w2).sum(-1)
    return a, h_mean - a * f_mean, np.where(np.isfinite(left) & ~flat, left, np.inf)


def _starts(
    function: Function, z: Array, h: Array, w: Array
) -> Iterator[tuple[float, float, float]]:
    """The best b and c on a grid, each after what it leaves."""
    low, high = z.min(), z.max()
    width = high - low + 1e-300
    size = max(abs(low), abs(high)) + 1e-300
    bs = cs = np.array([0.0])
    if "b" in function.inner:
        largest = 40 / width if function.waves else 12 / width
        steps = (
            np.linspace(0.3 / width, largest, 8 * _GRID)
            if function.waves
            else (np.geomspace(0.01 / size, 20 / size, 3 * _GRID))
        )
        bs = steps if function.name in ("sin", "cos", "gaussian", "cosh") else np.r_[-steps, steps]
    if function.inner == "c":
        gaps = width * np.geomspace(1e-3, 10, 2 * _GRID)
        cs = np.r_[-low + gaps, -high - gaps, -(low + (high - low) * np.linspace(0, 1, _GRID))]
    elif "c" in function.inner:
        cs = np.linspace(0, 1, _GRID)
    b, c = (each.ravel() for each in np.meshgrid(bs, cs, indexing="ij"))
    if "b" not in function.inner:
        b = np.ones_like(c)
    elif "c" in function.inner:
        c = 2 * np.pi * c if function.waves else -b * (low + width * (2 * c - 0.5))
    _, _, left = _solved(function, b, c, z, h, w)
    for k in np.argsort(left, kind="stable")[: _STARTS if function.inner else 1]:
        if np.isfinite(left[k]):
            yield float(left[k]), float(b[k]), float(c[k])


def _refined(function: Function, b: float, c: float, z: Array, h: Array, w: Array) -> Fit | None:
    """From a start to the nearest minimum in b and c, with a and d eliminated."""
    free = [name in function.inner for name in "bc"]

    def both(values: Array) -> tuple[float, float]:
        given = iter(values)
        return next(given) if free[0] else b, next(given) if free[1] else c

    def residuals(values: Array) -> Array:
        a, d, left = _solved(function, *both(values), z, h, w)
        if not np.isfinite(left):
            return np.full(len(z), 1e6)
        b_, c_ = both(values)
        return (a * function.of(b_ * z + c_) + d - h) * w / total

    total = np.sqrt((w**2 * (h - np.average(h, weights=w**2)) ** 2).sum()) + 1e-300
    if any(free):
        start = np.array([value for value, is_free in zip((b, c), free, strict=True) if is_free])
        scale = np.abs(start) + 1e-3 * np.abs(start).max() + 1e-12
        solution = least_squares(residuals, start, x_scale=scale, max_nfev=60, xtol=1e-14)
        b, c = both(solution.x)
    a, d, left = _solved(function, b, c, z, h, w)
    if not (np.isfinite(left) and np.isfinite([a, b, c, d]).all()):
        return None
    if any(free) and np.abs(a * function.of(b * z + c)).max() > _CANCELLING * np.ptp(h):
        return None
    return Fit(function, float(a), float(b), float(c), float(d), float(left))
