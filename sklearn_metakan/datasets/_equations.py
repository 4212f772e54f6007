"""The Feynman table: formulas with the names, units and ranges of their variables."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FUNCTIONS = ("arcsin", "cos", "cosh", "exp", "expm1", "hypot", "log", "sin", "sinc", "sqrt")
# What a formula may use: as in numpy, so that sinc(x) is sin(pi x) / (pi x).
_NAMES = {"pi": np.pi, "tanh": np.tanh} | {name: getattr(np, name) for name in _FUNCTIONS}
# name [unit], low and high of the table, (low and high of the papers)
_VARIABLE = re.compile(r"(\w+) \[([^]]*)\](?: (\S+ \S+)(?: \((\S+ \S+)\))?)?")


@dataclass(frozen=True)
class Variable:
    """A symbol, its SI unit ("kg m s-2"; "" has none), and where it lies.

    ``limits`` (low, high) are those of the table, ``paper_limits`` those of the KAN papers,
    where they fit this equation.
    """

    name: str
    unit: str
    limits: tuple[float, float]
    paper_limits: tuple[float, float] | None


@dataclass(frozen=True)
class Equation:
    """A row of the Feynman table: ``output = formula(*variables)``.

    Calling it with an array of shape (n_samples, len(variables)), columns in the order of
    ``variables``, gives the values, shape (n_samples,).

    Parameters
    ----------
    name : str
        Volume, chapter and number in the Feynman Lectures, as the table spells it.
    aliases : tuple of str
        Other names, of the papers and of the Lectures.
    output, unit : str
        What the formula gives, and its SI unit.
    formula : str
        A Python expression with numpy's functions.
    variables : tuple of Variable
    """

    name: str
    aliases: tuple[str, ...]
    output: str
    unit: str
    formula: str
    variables: tuple[Variable, ...]

    def __call__(self, X: NDArray[Any]) -> NDArray[Any]:
        columns = {variable.name: X[:, i] for i, variable in enumerate(self.variables)}
        return np.asarray(eval(self.formula, {"__builtins__": {}} | _NAMES, columns))


@cache
def equations() -> tuple[Equation, ...]:
    """All rows of the table, in its order."""
    text = files("sklearn_metakan.datasets").joinpath("feynman_equations.txt").read_text("utf-8")
    return tuple(_equation(line) for line in text.splitlines() if not line.startswith("#"))


def _equation(line: str) -> Equation:
    name, aliases, output, formula, variables = (cell.strip() for cell in line.split("|"))
    symbol, unit, _, _ = _cells(output)
    symbols = tuple(map(_variable, variables.split(", ")))
    return Equation(name, tuple(aliases.split()), symbol, unit, formula, symbols)


def _variable(text: str) -> Variable:
    name, unit, table, paper = _cells(text)
    return Variable(name, unit, _limits(table), _limits(paper) if paper else None)


def _cells(text: str) -> tuple[str, ...]:
    match = _VARIABLE.fullmatch(text)
    if match is None:
        raise ValueError(f"A symbol must read 'name [unit] low high (low high)', got {text!r}.")
    return match.groups()


def _limits(text: str) -> tuple[float, float]:
    low, high = map(_number, text.split())
    return low, high


def _number(text: str) -> float:
    """Also multiples of pi, such as 2pi."""
    return float(text.removesuffix("pi")) * (np.pi if text.endswith("pi") else 1.0)
