"""Constants of an expression: found by least squares on the data, and put onto plain numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
from scipy.optimize import least_squares

from sklearn_metakan.symbolic.problem import Array, Expr

_BAD = 1e3  # residual, in standard deviations of y, where an expression has no value
_ERRORS = 3.0  # standard errors within which a plain number is taken
_WORSE = 1.01  # how much a plain number may raise the error
_CHANCE = 0.05  # how likely a plain number may be by chance, about
_EXACT = 1e-21  # error, as a share of y's variance, that is rounding


def normalised(expression: Expr) -> Expr:
    """The same with one constant where there were several that cannot be told apart.

    Constants inside exponentials and in front of sums that are factors, go in front.
    """
    return _unit_sums(sympy.expand_power_exp(expression))


def _unit_sums(expression: Expr) -> Expr:
    if expression.is_Atom:
        return expression
    args = [_unit_sums(arg) for arg in expression.args]
    if expression.is_Mul:
        found = sympy.Integer(1)
        for arg in args:
            found = found * (_unit(arg) if arg.is_Add else arg)
        return found
    if expression.is_Pow and args[0].is_Add:
        factor, rest = _factor(args[0])
        if factor.is_negative and not args[1].is_Integer:
            factor, rest = -factor, -rest
        return factor ** args[1] * rest ** args[1]
    if isinstance(expression, sympy.log) and (args[0].is_Add or args[0].is_Mul):
        factor, rest = _factor(args[0])
        if factor.is_positive:
            return sympy.log(factor) + sympy.log(rest)
    return expression.func(*args)


def _factor(total: Expr) -> tuple[Expr, Expr]:
    """A float and what it multiplies, whose first term that is no constant then has none."""
    terms = sympy.Add.make_args(total)
    for term in sorted(terms, key=str):
        if term.is_number:
            continue
        number, _ = term.as_coeff_Mul()
        if not number.is_Float:
            return sympy.Integer(1), total
        rest = []
        for each in terms:
            coefficient, symbols = each.as_coeff_Mul()
            ratio = sympy.Integer(1) if each is term else coefficient / number
            rest.append(ratio * symbols)
        return number, sympy.Add(*rest)
    return sympy.Integer(1), total


def _unit(total: Expr) -> Expr:
    factor, rest = _factor(total)
    return sympy.Mul(factor, rest, evaluate=factor == 1)


@dataclass
class Parametric:
    """An expression with its floats as parameters.

    Parameters
    ----------
    expression : sympy expression in the columns' symbols, with floats
    columns : sequence of sympy symbols
        In the order of the columns of X.

    Attributes
    ----------
    form : sympy expression in ``columns`` and ``symbols``
    symbols, values : list, ndarray
    errors : ndarray
        Standard errors of the values, once they are fitted.
    """

    expression: Expr
    columns: Sequence[Any]
    form: Expr = field(init=False)
    symbols: list[Any] = field(init=False)
    values: Array = field(init=False)
    errors: Array = field(init=False)

    def __post_init__(self) -> None:
        self.symbols = []
        values: list[float] = []

        def named(node: Expr) -> Expr:
            if node.is_Float:
                self.symbols.append(sympy.Symbol(f"_c{len(values)}", real=True))
                values.append(float(node))
                return self.symbols[-1]
            return node.func(*map(named, node.args)) if node.args else node

        self.form = named(self.expression)
        self.values, self.errors = np.array(values), np.full(len(values), np.inf)
        self._function = self._compiled(self.form)
        slopes = [self._compiled(sympy.diff(self.form, s)) for s in self.symbols]
        self._slopes: list[Callable[..., Any]] = slopes

    def _compiled(self, form: Expr) -> Callable[..., Any]:
        return sympy.lambdify([*self.columns, *self.symbols], form, "numpy")

    def __call__(self, X: Array, values: Array | None = None) -> Array:
        """Values at the rows of X; NaN where there are none."""
        return self._evaluated(self._function, X, self.values if values is None else values)

    def _evaluated(self, function: Callable[..., Any], X: Array, values: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                found = np.asarray(function(*X.T, *values))
            except (OverflowError, ZeroDivisionError, ValueError, TypeError, AttributeError):
                return np.full(len(X), np.nan)
        if np.iscomplexobj(found):
            return np.full(len(X), np.nan)
        return np.broadcast_to(found.astype(np.float64), (len(X),))

    def fitted(self, X: Array, y: Array) -> "Parametric":
        """With the constants of least squares, from the present ones; in place."""
        if not len(self.values):
            return self
        scale = np.std(y) or 1.0

        def residuals(values: Array) -> Array:
            found = (self(X, values) - y) / scale
            return np.clip(np.where(np.isfinite(found), found, _BAD), -_BAD, _BAD)

        def slopes(values: Array) -> Array:
            table = [self._evaluated(each, X, values) / scale for each in self._slopes]
            found = np.column_stack(table)
            return np.where(np.isfinite(found), found, 0.0)

        sizes = np.abs(self.values) + 1e-8
        exact = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
        with np.errstate(all="ignore"):
            solution = least_squares(
                residuals, self.values, slopes, x_scale=sizes, max_nfev=100, **exact
            )
        if np.isfinite(solution.x).all():
            self.values = solution.x
            self.errors = _standard_errors(slopes(solution.x), residuals(solution.x))
        return self

    def error(self, X: Array, y: Array) -> float:
        """Mean squared error as a share of y's variance; infinity where there is no value."""
        found = float(np.mean((self(X) - y) ** 2) / (np.var(y) or 1.0))
        return found if np.isfinite(found) else np.inf

    def filled(self) -> Expr:
        """The expression with the present numbers."""
        numbers = {s: sympy.Float(v) for s, v in zip(self.symbols, self.values, strict=True)}
        return self.form.xreplace(numbers)


def _standard_errors(jacobian: Array, residuals: Array) -> Array:
    """Of least squares; infinite for what the data do not determine."""
    with np.errstate(all="ignore"):
        scale = np.sqrt((jacobian**2).sum(0))
        gram = (jacobian / scale).T @ (jacobian / scale)
        if not np.isfinite(gram).all():
            return np.full(len(scale), np.inf)
        inverse = np.diag(np.linalg.pinv(gram, rcond=1e-12, hermitian=True)) / scale**2
        found: Array = np.sqrt(np.abs(inverse) * np.mean(residuals**2))
    return found


def snapped(expression: Expr, columns: Sequence[Any], X: Array, y: Array) -> Expr:
    """Constants put onto plain numbers one by one, the others fitted again after each.

    A number is plain if it is a ratio of small whole numbers, or one times pi, 1 / pi or a
    square root; it is taken if it lies within three standard errors and does not raise the
    error on these rows by more than a hundredth.
    """
    current = Parametric(expression, columns).fitted(X, y)
    for _ in range(len(current.values)):
        best = current.error(X, y)
        for position in _order(current):
            for plain in _plain(current.values[position], current.errors[position]):
                tried = current.form.xreplace({current.symbols[position]: plain})
                others = [s for s in current.symbols if s != current.symbols[position]]
                numbers = dict(zip(current.symbols, map(sympy.Float, current.values), strict=True))
                candidate = Parametric(
                    tried.xreplace({s: numbers[s] for s in others}), columns
                ).fitted(X, y)
                if candidate.error(X, y) <= max(_WORSE * best, _EXACT):
                    break
            else:
                continue
            current = candidate
            break
        else:
            break
    return current.filled()


def _order(current: Parametric) -> list[int]:
    """Constants that lie closest to plain numbers first."""
    gaps = []
    for value, error in zip(current.values, current.errors, strict=True):
        near = [abs(float(p) - value) for p in _plain(value, error)]
        gaps.append(min(near, default=np.inf) / (abs(value) + 1e-12))
    return [int(i) for i in np.argsort(gaps) if np.isfinite(gaps[i])]


def _plain(value: float, error: float) -> list[Any]:
    """Plain numbers within the error, plainest first."""
    if not np.isfinite(error):
        return []
    width = _ERRORS * error + 1e-9 * abs(value)
    found = [(0.0, sympy.Integer(0))] if abs(value) <= max(width, 1e-12) else []
    pi = sympy.pi
    units = [
        (0, sympy.Integer(1)),
        (2, pi),
        (2, 1 / pi),
        (3, 1 / sympy.sqrt(2 * pi)),
        (3, sympy.sqrt(2)),
        (3, sympy.sqrt(pi)),
        (4, pi**2),
        (4, pi**-2),
        (4, pi**-3),
    ]
    for cost, unit in units:
        for below in range(1, 25):
            ratio = value / float(unit) * below
            above = round(ratio)
            if not above or abs(above) > 1000 or np.gcd(above, below) > 1:
                continue
            if abs(above / below * float(unit) - value) > width:
                continue
            # A number may be plain by chance: the wider the error, the plainer it has to be.
            size = cost + np.log2(abs(above)) + 1.5 * np.log2(below)
            if width * 2**size < _CHANCE * abs(value):
                found.append((size, sympy.Rational(above, below) * unit))
    found.sort(key=lambda pair: pair[0])
    return [number for _, number in found[:3]]
