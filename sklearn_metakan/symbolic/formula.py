"""A formula that was found, and what it can be written as."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd


class SymbolicFormula:
    """What ``symbolic_formula`` found: an expression for y in the columns of X.

    Parameters
    ----------
    expression : sympy expression
        In symbols that have the columns' names, in the units of X and y.
    names : sequence of str
        All columns of X, in their order; without names x0, x1 and so on.
    front : DataFrame
        The best expression of each complexity, as long as more complexity lowers the error:
        ``complexity`` (nodes of the expression), ``mse`` and ``r2`` on rows that chose between
        them, ``expression``, and ``structure``, in words.
    r2 : float
        On held-out rows, which took no part in finding it.
    estimator_r2 : float
        Of the estimator's predictions, on the same rows.
    unresolved : list of str
        Edges that no function of the library fits, by what goes into them; empty where the
        formula is about as exact as the estimator.

    Examples
    --------
    >>> import sympy
    >>> formula = SymbolicFormula(sympy.sympify("2*exp(x)/3"), ["x"], None, 1.0, 1.0, [])
    >>> formula.to_latex()
    '\\\\frac{2 e^{x}}{3}'
    >>> print(formula.to_python())
    def formula(x):
        return (2/3)*math.exp(x)
    >>> formula.to_sql()
    '2.0*EXP("x")/3.0'
    >>> formula.predict([[0.0]]).round(3)
    array([0.667])
    """

    def __init__(
        self,
        expression: Any,
        names: Sequence[str],
        front: pd.DataFrame,
        r2: float,
        estimator_r2: float,
        unresolved: Sequence[str],
    ) -> None:
        self.expression, self.names, self.front = expression, list(names), front
        self.r2, self.estimator_r2, self.unresolved = r2, estimator_r2, list(unresolved)

    def __repr__(self) -> str:
        return f"SymbolicFormula({self.expression}, r2={self.r2:.6g})"

    def _repr_latex_(self) -> str:
        return f"${self.to_latex()}$"

    def to_latex(self) -> str:
        """The expression in LaTeX; names that are no symbols are set as text."""
        from sympy import Symbol, latex

        plain = {}
        for name in self.names:
            if not name.replace("_", "").isalnum():
                escaped = "".join("\\" + c if c in "#$%&_{}" else c for c in name)
                plain[Symbol(name)] = rf"\text{{{escaped}}}"
        return str(latex(self.expression, symbol_names=plain))

    def to_python(self, name: str = "formula") -> str:
        """The text of a function of the columns, by name, that needs ``import math`` alone.

        Columns whose names are no Python names are spelt with underscores.
        """
        from sympy import Symbol, pycode

        arguments = self._arguments()
        symbols = {Symbol(old): Symbol(new) for old, new in zip(self.names, arguments, strict=True)}
        body = pycode(self.expression.xreplace(symbols), fully_qualified_modules=True)
        return f"def {name}({', '.join(arguments)}):\n    return {body}"

    def to_numpy(self) -> Callable[[ArrayLike], NDArray[np.float64]]:
        """A function of a table (n, n_columns) that gives (n,), NaN where there is no value."""
        from sympy import Dummy, Symbol, lambdify

        stand_ins = [Dummy() for _ in self.names]
        renamed = dict(zip(map(Symbol, self.names), stand_ins, strict=True))
        compiled = lambdify(stand_ins, self.expression.xreplace(renamed), "numpy")

        def formula(X: ArrayLike) -> NDArray[np.float64]:
            table = np.asarray(X, dtype=np.float64)
            if table.ndim != 2 or table.shape[1] != len(self.names):
                raise ValueError(
                    f"X must have {len(self.names)} columns, {self.names}, got shape {table.shape}."
                )
            with np.errstate(all="ignore"):
                found = np.asarray(compiled(*table.T), dtype=np.float64)
            return np.broadcast_to(found, (len(table),)).copy()

        return formula

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Values of the formula at rows of X, (n,)."""
        return self.to_numpy()(X)

    def to_sql(self) -> str:
        """An expression of SQL in the columns, quoted, with the functions of SQL's mathematics."""
        return _sql(self.expression)

    def _arguments(self) -> list[str]:
        found: list[str] = []
        for name in self.names:
            plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
            plain = f"_{plain}" if not plain[:1].isidentifier() or iskeyword(plain) else plain
            while plain in found or plain == "math":
                plain += "_"
            found.append(plain)
        return found


_SQL_FUNCTIONS = {"Abs": "ABS", "log": "LN"}


def _sql(node: Any, inside: bool = False) -> str:
    """SQL of an expression; in brackets where it stands ``inside`` a product."""
    if node.is_Symbol:
        return '"' + str(node).replace('"', '""') + '"'
    if (node.is_number and not node.args) or (node.is_Rational and node.q == 1):
        text = repr(float(node))
        return f"({text})" if float(node) < 0 and inside else text
    if node.is_Add:
        text = " + ".join(_sql(term) for term in node.as_ordered_terms())
        return f"({text})" if inside else text
    if node.is_Mul or node.is_Rational:
        above, below = node.as_numer_denom()
        if below != 1:
            return f"{_sql(above, True)}/{_bracketed(below)}"
        return "*".join(_sql(factor, True) for factor in node.as_ordered_factors())
    if node.is_Pow:
        base, power = node.args
        if power.is_number and power.is_negative:
            return f"1.0/{_bracketed(base**-power)}"
        if power.is_Integer and power <= 4:
            return "*".join(
                [_sql(base, True) if not base.is_Mul else f"({_sql(base)})"] * int(power)
            )
        if power.is_Rational and power.q == 2 and power.p == 1:
            return f"SQRT({_sql(base)})"
        return f"POWER({_sql(base)}, {_sql(power)})"
    name = type(node).__name__
    arguments = ", ".join(map(_sql, node.args))
    return f"{_SQL_FUNCTIONS.get(name, name.upper())}({arguments})"


def _bracketed(node: Any) -> str:
    text = _sql(node)
    return text if node.is_Symbol or not node.args else f"({text})"
