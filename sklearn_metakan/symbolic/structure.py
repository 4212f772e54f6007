"""What a structure is: a form for the rest of a problem, under a link, and what it leaves of y."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add, mul
from typing import NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray

from sklearn_metakan.symbolic.problem import Array, Expr, Problem

Mask = NDArray[np.bool_]
_TINY = 1e-300
_SMALL = 1e-9  # share of the largest |t| that the smallest has at least where a link divides
_MOST_EXPONENT = 12.0  # range of t up to which exp t is tried
_BEYOND = 0.2  # how far t may lie beyond the arcsine's values, for noise
_STEEPEST = 20.0  # how much a residual of sin t counts at most


class Structure(NamedTuple):
    """A form that was fitted to a problem.

    ``left`` is the share of y's variance that it leaves on rows that it was not fitted to;
    ``expressions()`` makes expressions of it, each with the edges that no function fits.
    """

    problem: Problem
    story: str
    left: float
    expressions: Callable[[], list[tuple[Expr, list[str]]]]


class Link(NamedTuple):
    """``l(t)``, |dl/dt|, and the inverse as sympy has it; "signed" ones take |t|, of one sign."""

    name: str
    of: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    back: Callable[[Expr], Expr]
    signed: bool = True


LINKS = (
    Link("t", lambda t: t, np.ones_like, lambda s: s, False),
    Link("1/t", lambda t: 1 / t, lambda t: t**-2.0, lambda s: 1 / s),
    Link("t^2", np.square, lambda t: 2 * t, sympy.sqrt),
    Link("1/t^2", lambda t: t**-2.0, lambda t: 2 * t**-3.0, lambda s: 1 / sympy.sqrt(s)),
    Link("log t", np.log, lambda t: 1 / t, sympy.exp),
    Link("sqrt t", np.sqrt, lambda t: 0.5 / np.sqrt(t), lambda s: s**2),
    Link("exp t", np.exp, np.exp, sympy.log, False),
    Link("sin t", np.sin, lambda t: np.abs(np.cos(t)), sympy.asin, False),
)


class Linked(NamedTuple):
    """A problem under a link: ``t = sign back(values)``; residuals times unit are in y's units."""

    problem: Problem
    link: Link
    values: Array
    unit: Array
    sign: int

    def left(self, prediction: Array, rows: Mask) -> float:
        """Share of y's variance that is left where l(t) is predicted like this."""
        return share_left(self.problem, (self.values - prediction) * self.unit, rows)

    def wrap(self, inner: Expr) -> Expr:
        """From an expression for l(t) to one for y."""
        return self.problem.wrap(self.sign * self.link.back(inner))


def linked(problem: Problem, link: Link) -> Linked | None:
    """The problem under a link; None where the link does not apply."""
    t, sign = problem.t, 1
    if link.signed:
        sign = 1 if t[0] > 0 else -1
        t = sign * t
        if t.min() <= _SMALL * t.max():
            return None
    if link.name == "exp t" and np.ptp(t) > _MOST_EXPONENT:
        return None
    if link.name == "sin t" and np.abs(t).max() > np.pi / 2 + _BEYOND:
        return None
    values, unit = link.of(t), problem.unit / (link.slope(t) + _TINY)
    if link.name == "sin t":
        unit = np.minimum(unit, _STEEPEST * problem.unit)
    if not (np.isfinite(values).all() and np.isfinite(unit).all() and np.ptp(values)):
        return None
    return Linked(problem, link, values, unit, sign)


def share_left(problem: Problem, error: Array, rows: Mask) -> float:
    """Share of y's variance that an error in y's units is, on these rows; infinity if none."""
    y = (problem.t * problem.unit)[rows]
    share = np.mean(error[rows] ** 2) / (np.var(y) + _TINY)
    return float(share) if np.isfinite(share) else np.inf


def total(terms: Sequence[Expr]) -> Expr:
    return reduce(add, terms, sympy.Integer(0))


def times(factors: Sequence[Expr]) -> Expr:
    return reduce(mul, factors, sympy.Integer(1))
