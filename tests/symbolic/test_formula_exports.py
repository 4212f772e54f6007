"""A formula in Python, NumPy, SQL and LaTeX has the same values."""

import math
import sqlite3

import numpy as np
import pytest
import sympy

from sklearn_metakan.symbolic import SymbolicFormula

NAMES = ["x", "the y", "lambda"]
X, Y, Z = map(sympy.Symbol, NAMES)
EXPRESSIONS = {
    "powers": X**3 * Y**-2 + sympy.sqrt(Z) - X ** sympy.Rational(3, 2) + (X * Y) ** 2,
    "signs": -(X - Y) * (-2 * Z) ** 2 / (3 - 4 * X / (Y + Z)) - sympy.Rational(-1, 3),
    "functions": sympy.exp(-X) * sympy.sin(sympy.pi * Y) + sympy.log(Z) - sympy.cos(X) / 3,
    "others": sympy.Abs(X - 2) + sympy.tanh(Y) + sympy.asin(Z / 4) + 1.5e-7 * X ** sympy.Float(0.7),
    "constant": sympy.pi / 2,
    "nested": 1 / (1 / X + Y / (Z * (1 - X / 7))),
}
each = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
ROWS = np.random.default_rng(0).uniform(0.5, 1.5, size=(20, 3))


def formula_of(expression):
    return SymbolicFormula(expression, NAMES, None, 1.0, 1.0, [])


def values(expression):
    numbers = [dict(zip((X, Y, Z), row, strict=True)) for row in ROWS]
    return np.array([float(expression.subs(each).evalf()) for each in numbers])


@each
def test_numpy(expression):
    formula = formula_of(expression)
    np.testing.assert_allclose(formula.predict(ROWS), values(expression), rtol=1e-12)
    with pytest.raises(ValueError, match="3 columns"):
        formula.predict(ROWS[:, :2])


@each
def test_python(expression):
    session = {"math": math}
    exec(formula_of(expression).to_python("rule"), session)
    found = [session["rule"](*row) for row in ROWS.tolist()]
    np.testing.assert_allclose(found, values(expression), rtol=1e-12)


@each
def test_sql(expression):
    base = sqlite3.connect(":memory:")
    functions = {"LN": "log"} | {
        n: n.lower() for n in ("EXP", "SIN", "COS", "TANH", "ASIN", "SQRT")
    }
    for name, function in functions.items():
        base.create_function(name, 1, getattr(math, function))
    base.create_function("POWER", 2, math.pow)
    base.execute('CREATE TABLE t ("x" REAL, "the y" REAL, "lambda" REAL)')
    base.executemany("INSERT INTO t VALUES (?, ?, ?)", ROWS.tolist())
    query = f"SELECT {formula_of(expression).to_sql()} FROM t ORDER BY rowid"
    found = [row[0] for row in base.execute(query)]
    np.testing.assert_allclose(found, values(expression), rtol=1e-12)


@each
def test_latex_is_balanced_and_names_the_columns(expression):
    latex = formula_of(expression).to_latex()
    assert latex.count("{") == latex.count("}")
    assert (r"\text{the y}" in latex) == (Y in expression.free_symbols)
    assert f"${latex}$" == formula_of(expression)._repr_latex_()


def test_values_that_there_are_not():
    formula = formula_of(sympy.log(X) + sympy.sqrt(Y))
    found = formula.predict([[-1.0, 1.0, 1.0], [1.0, 4.0, 1.0]])
    assert np.isnan(found[0]) and found[1] == 2.0
