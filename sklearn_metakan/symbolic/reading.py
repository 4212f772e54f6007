"""``symbolic_formula``: reads a formula off a fitted estimator."""

from __future__ import annotations  # help() shows types as they are written here

import warnings
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sklearn_metakan.symbolic.formula import SymbolicFormula

STEP = 1e-3  # of the differences that give slopes, as a share of a column's range
MOST_ROWS = 2000  # that structures are looked for on
FEWEST_ROWS = 20  # to hold some out
CHOOSE, HELD_OUT = 0.2, 0.2  # shares of the rows
_SHORT_OF = 3.0  # times the estimator's error from which on a formula counts as not found
_SMALL = 1e-6


def symbolic_formula(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    library: str | Iterable[Any] = "default",
    tolerance: float = 0.05,
    output: int | None = None,
    time_limit: float = 60.0,
) -> SymbolicFormula:
    """A formula for what a fitted estimator has learnt, with constants fitted to (X, y).

    The network's values and slopes say how the columns work together: which power laws, sums
    and monomials they go through (``sklearn_metakan.symbolic.moves``), so that what is left is a
    small KAN, a sum or product of edges under a link. Its edges are fitted to (X, y), each is
    replaced by a function ``a f(b z + c) + d`` of the library, in the context of the others,
    and all constants are fitted together and put onto plain numbers where the data allow.

    Parameters
    ----------
    estimator : fitted regressor
        A KAN or MetaKAN, whole or pruned, or a Pipeline, search or TransformedTargetRegressor
        around one; what counts is its ``predict``, at X and close to it. Stays as it is.
    X : array-like of shape (n_samples, n_features)
        Numbers. The formula is in these columns, by their names where they have some.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    library : "default" or iterable of str, default="default"
        Names of functions that edges may be, of ``sklearn_metakan.symbolic.curves.LIBRARY``.
    tolerance : float, default=0.05
        The simplest expression is taken whose error is at most this share above the least.
    output : int, optional
        Which column of y, where it has several.
    time_limit : float, default=60.0
        Seconds after which no further structure is tried.

    Returns
    -------
    SymbolicFormula

    Raises
    ------
    ValueError
        For values out of range, X and y that do not fit each other or hold no finite numbers.
    TypeError
        For a classifier.
    ImportError
        Without sympy.
    NotFittedError
        Before fit.

    Warns
    -----
    UserWarning
        If the formula falls well short of the estimator: then ``unresolved`` says where.

    Notes
    -----
    Up to 2,000 rows are used for the search; a fifth of the rows is held out for ``r2``.

    Source: pruning and functions for edges are those of Liu et al., "KAN" (2024); reading
    symmetries off a network's derivatives is that of Udrescu et al., "AI Feynman 2.0" (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_metakan import KANRegressor
    >>> from sklearn_metakan.symbolic import symbolic_formula
    >>> X = np.random.default_rng(0).uniform(1, 3, size=(200, 2))
    >>> y = X[:, 0] / X[:, 1] ** 2
    >>> model = KANRegressor((8,), n_estimators=1, max_iter=100, random_state=0).fit(X, y)
    >>> symbolic_formula(model, X, y)
    SymbolicFormula(x0/x1**2, r2=1)
    """
    _check(estimator, tolerance, time_limit)
    try:
        from sympy import Symbol
    except ImportError as error:
        raise ImportError(
            "symbolic_formula needs sympy; install it with pip install sympy."
        ) from error
    from sklearn_metakan.symbolic.curves import chosen
    from sklearn_metakan.symbolic.search import EXACT, Search

    functions = chosen(library)
    table, target, names = _read(X, y, output)
    predict = _prediction(estimator, X, output)
    held_out, rows = _split(len(target))
    A, b = table[rows], target[rows]
    fit = np.ones(len(rows), dtype=bool)
    fit[: round(CHOOSE * len(rows))] = False
    columns = [
        Symbol(name, positive=True) if low > 0 else Symbol(name, real=True)
        for name, low in zip(names, table.min(0), strict=True)
    ]
    search = Search(columns, A, b, fit, functions, float(time_limit), table)
    search.run(predict(A), slopes(predict, A))
    front = search.front()
    least = min(each.error for each in front)
    best = next(each for each in front if each.error <= (1 + tolerance) * least + EXACT)
    finished = search.finished(best)
    plain = {symbol: Symbol(name) for symbol, name in zip(columns, names, strict=True)}
    shown = _front_with(finished, front, front.index(best), plain, float(np.var(b[~fit])))
    expression = finished.expression.xreplace(plain)
    formula = SymbolicFormula(expression, names, shown, 0.0, 0.0, [])
    formula.r2 = _r2(target[held_out], formula.predict(table[held_out]))
    formula.estimator_r2 = _r2(target[held_out], predict(table[held_out]))
    missed, by_estimator = 1 - formula.r2, 1 - formula.estimator_r2
    if missed > _SMALL and missed > _SHORT_OF * by_estimator:
        formula.unresolved = _unresolved(search, best)
        warnings.warn(
            f"The formula falls short of the estimator: R2 {formula.r2:.4f} and "
            f"{formula.estimator_r2:.4f} on held-out rows. Unresolved: "
            f"{', '.join(formula.unresolved)}. More rows, a closer fit or a larger "
            "library may help.",
            UserWarning,
            stacklevel=2,
        )
    return formula


def _split(n_rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that are held out, and those of the search; of few, all of them for both."""
    order = np.random.default_rng(0).permutation(n_rows)[: int(MOST_ROWS / (1 - HELD_OUT))]
    cut = round(HELD_OUT * len(order)) if len(order) >= FEWEST_ROWS else 0
    return (order[:cut], order[cut:]) if cut else (order, order)


def _front_with(
    finished: Any, front: list[Any], place: int, plain: Any, spread: float
) -> pd.DataFrame:
    """The front as a table, with what was made of the expression at this place in its stead."""
    simpler = [each for each in front[:place] if each.complexity < finished.complexity]
    longer = [each for each in front[place + 1 :] if each.complexity > finished.complexity]
    return pd.DataFrame(
        {
            "complexity": each.complexity,
            "mse": each.error * spread,
            "r2": 1 - each.error,
            "expression": each.expression.xreplace(plain),
            "structure": each.structure,
        }
        for each in (*simpler, finished, *longer)
    )


def slopes(predict: Callable[[Any], NDArray[np.float64]], X: NDArray[Any]) -> NDArray[np.float64]:
    """dy/dx by central differences, (n, d); zero for columns that are constant."""
    steps = STEP * np.ptp(X, axis=0)
    found = np.zeros(X.shape)
    for i in np.flatnonzero(steps):
        ahead, behind = X.copy(), X.copy()
        ahead[:, i] += steps[i]
        behind[:, i] -= steps[i]
        found[:, i] = (predict(ahead) - predict(behind)) / (ahead[:, i] - behind[:, i])
    return found


def _check(estimator: Any, tolerance: Any, time_limit: Any) -> None:
    check_is_fitted(estimator)
    if is_classifier(estimator):
        raise TypeError(
            "symbolic_formula is for regressors; of a classifier, fit a regressor to a class's "
            "log-odds or probability."
        )
    check_limits(tolerance, time_limit)


def check_limits(tolerance: Any, time_limit: Any) -> None:
    """Raise a ValueError unless they are numbers, of at least 0 and above it."""
    if not (is_real(tolerance) and 0 <= tolerance < np.inf):
        raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}.")
    if not (is_real(time_limit) and time_limit > 0):
        raise ValueError(f"time_limit must be a positive number of seconds, got {time_limit!r}.")


def is_real(value: Any) -> bool:
    """Whether it is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _read(X: Any, y: Any, output: Any) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Numbers of X and y, and names of the columns."""
    try:
        table, target = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"symbolic_formula reads numbers, but X or y holds something else: {error}. Leave such "
            "columns out, or encode them before fit."
        ) from error
    if table.ndim != 2 or len(table) != len(target) or len(table) < 2:
        raise ValueError(
            f"X must be a table and y have as many rows, at least 2; got shapes {table.shape} and "
            f"{target.shape}."
        )
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    elif target.ndim == 2:
        whole = isinstance(output, Integral) and 0 <= int(output) < target.shape[1]
        if not whole:
            raise ValueError(
                f"y has {target.shape[1]} columns: say which with output=0 to "
                f"{target.shape[1] - 1}, got output={output!r}."
            )
        target = target[:, int(output)]
    if not (np.isfinite(table).all() and np.isfinite(target).all()):
        raise ValueError("X and y must be finite: fill or leave out rows with gaps or infinity.")
    names = [str(name) for name in getattr(X, "columns", [])]
    return table, target, names or [f"x{i}" for i in range(table.shape[1])]


def _prediction(
    estimator: Any, X: Any, output: int | None
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """``predict`` of arrays, given to the estimator as it was given X."""

    def predict(table: NDArray[Any]) -> NDArray[np.float64]:
        rows: Any = table
        if hasattr(X, "columns"):
            rows = type(X)(dict(zip(X.columns, table.T, strict=True)))
        found = np.asarray(estimator.predict(rows), dtype=np.float64)
        if found.ndim == 1:
            return found
        return found[:, 0 if found.shape[1] == 1 or output is None else int(output)]

    return predict


def _r2(y: NDArray[Any], prediction: NDArray[Any]) -> float:
    """1 where nothing is to explain and nothing is missed; at least -1."""
    missed, total = np.mean((y - prediction) ** 2), np.var(y)
    if not np.isfinite(missed):
        return -1.0
    if total <= _SMALL**2 * np.mean(y**2):
        return 1.0 if missed <= 1e-12 * max(np.mean(y**2), 1e-300) else 0.0
    return float(max(-1.0, 1 - missed / total))


def _unresolved(search: Any, best: Any) -> list[str]:
    """Edges of the best structure that resist, or the columns that it did not take apart."""
    if best.unresolved:
        return list(best.unresolved)
    leaf = search.best_structure
    poor = [names for _, names in leaf.expressions() if names] if leaf.problem.names else []
    return poor[0] if poor else [f"F({', '.join(map(str, leaf.problem.names))})"]
