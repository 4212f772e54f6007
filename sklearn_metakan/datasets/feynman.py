"""The equations of the Feynman Lectures on Physics, as a table and as data to learn from."""

import ast
import operator
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from math import inf
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ranges = Literal["table", "paper"] | Mapping[str, tuple[float, float]]
RandomState = int | np.random.RandomState | np.random.Generator | None

# The functions that the KAN and MetaKAN papers fit, by their names.
_PAPER = (
    *("I.6.20a", "I.6.20b", "I.8.4", "I.9.18", "I.12.5", "I.12.11", "I.13.12", "I.15.3x"),
    *("I.16.6", "I.18.4", "I.26.2", "I.27.6", "I.29.16", "I.30.3", "I.37.4", "I.40.1"),
    *("I.44.4", "I.50.26"),
)

_NAMES = ("arcsin", "cos", "cosh", "exp", "expm1", "hypot", "log", "sin", "sinc", "sqrt", "tanh")
_FUNCTIONS = {name: getattr(np, name) for name in _NAMES}  # sinc(x) is sin(pi x) / (pi x)
_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
# name [unit], low and high of the table, (low and high of the papers)
_SYMBOL = re.compile(r"(\w+) \[([^]]*)\](?: (\S+ [^\s,]+)(?: \((\S+ \S+)\))?)?")


@dataclass(frozen=True)
class Variable:
    """A symbol of an equation.

    Parameters
    ----------
    name : str
    unit : str
        In SI units, "kg m s-2"; "" has none.
    limits : (float, float)
        Where it lies: low and high, of the Feynman table.
    paper_limits : (float, float) or None
        Those of the KAN papers, where they fit this equation.
    """

    name: str
    unit: str
    limits: tuple[float, float]
    paper_limits: tuple[float, float] | None


@dataclass(frozen=True)
class Equation:
    """A row of the Feynman table: ``output = formula(*variables)``.

    Calling it with an array of shape (n_samples, len(variables)), columns in the order of
    ``variables``, gives the values, shape (n_samples,). It raises ValueError for a formula
    that is no arithmetic.

    Parameters
    ----------
    name : str
        Volume, chapter and number in the Feynman Lectures, as the table spells it.
    aliases : tuple of str
        Other names, of the papers and of the Lectures.
    output, unit : str
        What the formula gives, and its SI unit.
    formula : str
        Arithmetic as Python writes it: numbers, pi, variables, ``+ - * / **``, and numpy's
        arcsin, cos, cosh, exp, expm1, hypot, log, sin, sinc, sqrt and tanh.
    variables : tuple of Variable
    """

    name: str
    aliases: tuple[str, ...]
    output: str
    unit: str
    formula: str
    variables: tuple[Variable, ...]

    def __call__(self, X: NDArray[Any]) -> NDArray[Any]:
        known = {"pi": np.pi} | {v.name: X[:, i] for i, v in enumerate(self.variables)}
        try:
            tree = ast.parse(self.formula.strip(), mode="eval")
        except SyntaxError as error:
            raise ValueError(f"{self.formula!r} is no arithmetic: {error}.") from error
        return np.asarray(_value(tree.body, known))


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Of a syntax tree of arithmetic, the only code that is ever run."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand, known))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, known), _value(right, known))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*[_value(argument, known) for argument in args])
    raise ValueError(f"A formula may not hold {ast.unparse(node)!r}; it knows {sorted(known)}.")


@cache
def equations() -> tuple[Equation, ...]:
    """All rows of the table, in its order."""
    text = files("sklearn_metakan.datasets").joinpath("feynman_equations.txt").read_text("utf-8")
    return tuple(_equation(line) for line in text.splitlines() if not line.startswith("#"))


def _equation(line: str) -> Equation:
    name, aliases, output, formula, symbols = map(str.strip, line.split("|"))
    variables = tuple(
        Variable(symbol, unit, _limits(table), _limits(paper) if paper else None)
        for symbol, unit, table, paper in _SYMBOL.findall(symbols)
    )
    ((symbol, unit, *_),) = _SYMBOL.findall(output)
    return Equation(name, tuple(aliases.split()), symbol, unit, formula, variables)


def _limits(text: str) -> tuple[float, float]:
    """Low and high; also multiples of pi, such as 2pi."""
    low, high = (np.pi * float(n[:-2]) if n.endswith("pi") else float(n) for n in text.split())
    return low, high


def feynman_names(ranges: Literal["table", "paper"] = "table") -> list[str]:
    """Names that ``make_feynman`` knows.

    Parameters
    ----------
    ranges : {"table", "paper"}, default="table"
        "table": the 100 equations of the AI Feynman table. "paper": the eighteen that the
        KAN and MetaKAN papers fit, as those papers name them.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        For other ranges.

    Examples
    --------
    >>> from sklearn_metakan.datasets import feynman_names
    >>> len(feynman_names())
    100
    >>> feynman_names("paper")[:3]
    ['I.6.20a', 'I.6.20b', 'I.8.4']
    """
    if ranges not in ("table", "paper"):
        raise ValueError(f"ranges must be 'table' or 'paper', got {ranges!r}.")
    return list(_PAPER) if ranges == "paper" else [equation.name for equation in equations()]


def feynman_equation(name: str) -> Equation:
    """The equation itself: formula, variables with units and ranges, and a function to call.

    Parameters
    ----------
    name : str
        One of ``feynman_names()``, or a name from the papers or the Lectures: "I.6.20a" is
        "I.6.2a" of the table, "I.8.4" is "I.8.14", "I.15.10" is "I.15.1".

    Returns
    -------
    Equation

    Raises
    ------
    ValueError
        For an unknown name, with the closest ones.

    Examples
    --------
    >>> from sklearn_metakan.datasets import feynman_equation
    >>> equation = feynman_equation("I.12.5")
    >>> equation.formula, equation.unit
    ('q2*Ef', 'kg m s-2')
    >>> [variable.name for variable in equation.variables]
    ['q2', 'Ef']
    """
    by_name = {alias: row for row in equations() for alias in (row.name, *row.aliases)}
    if name not in by_name:
        close = get_close_matches(str(name), by_name, n=3)
        hint = f"Close: {', '.join(close)}." if close else "feynman_names() lists the equations."
        raise ValueError(f"There is no Feynman equation {name!r}. {hint}")
    return by_name[name]


def make_feynman(
    name: str,
    n_samples: int = 1000,
    noise: float = 0.0,
    random_state: RandomState = None,
    *,
    ranges: Ranges = "table",
    as_frame: bool = False,
) -> tuple[Any, Any]:
    """Sample an equation of the Feynman Lectures: ``y = formula(X) + noise * N(0, 1)``.

    Each variable is uniform in its range, independent of the others.

    Parameters
    ----------
    name : str
        One of ``feynman_names()`` or of ``feynman_names("paper")``.
    n_samples : int, default=1000
    noise : float, default=0.0
        Standard deviation of the noise on y, in units of y.
    random_state : int, RandomState, Generator or None, default=None
        None draws other rows every time; numpy's global generator is never used.
    ranges : {"table", "paper"} or dict, default="table"
        Where the variables lie: as in the AI Feynman table, or as in the code of the KAN
        papers, which has them for the eighteen equations of ``feynman_names("paper")``. A
        dict, name of a variable -> (low, high), changes those of the table.
    as_frame : bool, default=False
        Whether to return a DataFrame with the variables' names and a Series.

    Returns
    -------
    X : ndarray of shape (n_samples, n_variables), or DataFrame
        Columns in the order of ``feynman_equation(name).variables``.
    y : ndarray of shape (n_samples,), or Series

    Raises
    ------
    ValueError
        For an unknown name (with the closest ones), values out of range, or ranges in which
        the formula is not finite.

    References
    ----------
    Udrescu and Tegmark, "AI Feynman: a physics-inspired method for symbolic regression",
    Science Advances 6, 2020.

    Examples
    --------
    >>> from sklearn_metakan.datasets import make_feynman
    >>> X, y = make_feynman("I.12.5", 500, random_state=0)
    >>> X.shape, bool((y == X[:, 0] * X[:, 1]).all())
    ((500, 2), True)
    """
    equation = feynman_equation(name)
    if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
        raise ValueError(f"n_samples must be a whole number of at least 1, got {n_samples!r}.")
    if not isinstance(noise, Real) or not 0 <= float(noise) < inf:
        raise ValueError(f"noise must be a finite number of at least 0, got {noise!r}.")
    low, high = np.transpose(_ranges_of(equation, ranges))
    generator = _generator(random_state)
    X = generator.uniform(low, high, size=(n_samples, len(low)))
    with np.errstate(all="ignore"):
        y = equation(X)
    if not np.isfinite(y).all():
        raise ValueError(
            f"{equation.name} is not finite in {(~np.isfinite(y)).sum()} of {n_samples} rows: "
            f"ranges={ranges!r} leaves the domain of {equation.formula}. Narrow the ranges."
        )
    y = y + noise * generator.standard_normal(n_samples)
    if not as_frame:
        return X, y
    import pandas as pd

    columns = [variable.name for variable in equation.variables]
    return pd.DataFrame(X, columns=columns), pd.Series(y, name=equation.output)


def _generator(random_state: RandomState) -> np.random.RandomState | np.random.Generator:
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    if random_state is None or (isinstance(random_state, Integral) and random_state >= 0):
        return np.random.RandomState(random_state)
    raise ValueError(
        "random_state must be a non-negative int, a RandomState, a Generator or None, got "
        f"{random_state!r}."
    )


def _ranges_of(equation: Equation, ranges: Ranges) -> list[tuple[float, float]]:
    """Low and high of each variable."""
    if ranges == "table":
        return [variable.limits for variable in equation.variables]
    if ranges == "paper":
        known = [variable.paper_limits for variable in equation.variables]
        if None in known:
            raise ValueError(
                f"ranges='paper' is known for {', '.join(_PAPER)}, not for {equation.name}. Use "
                "ranges='table' or a dict of ranges."
            )
        return [pair for pair in known if pair is not None]
    if not isinstance(ranges, Mapping):
        raise ValueError(f"ranges must be 'table', 'paper' or a dict, got {ranges!r}.")
    names = [variable.name for variable in equation.variables]
    for name, pair in ranges.items():
        if name not in names:
            raise ValueError(f"{equation.name} has no variable {name!r}; it has {names}.")
        with suppress(TypeError, ValueError):
            low, high = map(float, pair)
            if -inf < low < high < inf:
                continue
        raise ValueError(f"ranges[{name!r}] must be (low, high) with low < high, got {pair!r}.")
    return [ranges.get(variable.name, variable.limits) for variable in equation.variables]
