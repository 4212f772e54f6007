"""From the network's values and slopes to expressions: hypotheses, fits, a front, one formula."""

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray

from sklearn_metakan.symbolic.constants import Parametric, normalised, snapped
from sklearn_metakan.symbolic.curves import Function
from sklearn_metakan.symbolic.leaves import Leaf, leaves
from sklearn_metakan.symbolic.moves import moves, without_silent
from sklearn_metakan.symbolic.problem import Array, Expr, Problem

MOST_CONSTANTS = 12
MOST_PROBLEMS = 40
MOST_LEAVES = 14
EXACT = 1e-22  # share of y's variance that counts as rounding
_LIKELY = 1e-11  # a structure that leaves no more is looked at at once
_SIMPLIFIED = 80  # nodes of an expression up to which sympy simplifies it


class Candidate(NamedTuple):
    """An expression with fitted constants, and its error as a share of y's variance."""

    expression: Expr
    error: float
    structure: str
    unresolved: list[str]

    @property
    def complexity(self) -> int:
        """Nodes of the expression."""
        return sum(1 for _ in sympy.preorder_traversal(self.expression))


class Search:
    """A search for expressions of y in the columns of X.

    Parameters
    ----------
    columns : list of sympy symbols
    X, y : ndarrays of shape (n, d) and (n,)
    fit : ndarray of bool, shape (n,)
        Rows that constants are fitted to; the others choose between expressions.
    library : list of Function
    seconds : float
        After which no new hypothesis is looked at.

    Attributes
    ----------
    candidates : list of Candidate
    best_structure : Leaf or None
        That which leaves least, its edges still splines.
    """

    def __init__(
        self,
        columns: list[Any],
        X: Array,
        y: Array,
        fit: NDArray[np.bool_],
        library: list[Function],
        seconds: float,
    ) -> None:
        self.columns, self.X, self.y, self.fit = columns, X, y, fit
        self.library, self.end = library, perf_counter() + seconds
        self.candidates: list[Candidate] = []
        self.best_structure: Leaf | None = None
        self._seen: set[str] = set()

    @property
    def over(self) -> bool:
        return perf_counter() > self.end

    def run(self, smooth: Array, slopes: Array) -> "Search":
        """From the network's values (n,) and slopes (n, d) at the rows of X."""
        whole = Problem(
            tuple(self.columns), self.X, self.y, smooth, slopes, np.ones(len(self.y)), lambda t: t
        )
        waiting, exact = [whole, without_silent(whole)], False
        seen: set[str] = set()
        found: list[Leaf] = []
        while waiting and len(seen) < MOST_PROBLEMS and not (self.over and found):
            problem = waiting.pop(0)
            if problem.key in seen:
                continue
            seen.add(problem.key)
            exact = False
            for leaf in leaves(problem, self.fit, self.library):
                found.append(leaf)
                if leaf.left < _LIKELY:
                    exact |= self._try(leaf) < EXACT
            if exact:
                break
            waiting += moves(problem)
        found.sort(key=lambda leaf: leaf.left)
        self.best_structure = found[0]
        if not exact:
            for leaf in [*found[:MOST_LEAVES], *_simplest(found)]:
                if self._try(leaf) < EXACT or (self.over and self.candidates):
                    break
        return self

    def _try(self, leaf: Leaf) -> float:
        """Fit the constants of a structure's expressions; the least error."""
        best = np.inf
        for expression, unresolved in leaf.expressions():
            expression = normalised(expression)
            if expression.has(sympy.nan, sympy.zoo, sympy.oo, sympy.I):
                continue
            parametric = Parametric(expression, self.columns)
            form = str(parametric.form)
            usable = len(parametric.values) <= MOST_CONSTANTS
            if form in self._seen or not usable or not np.isfinite(parametric.values).all():
                continue
            self._seen.add(form)
            parametric.fitted(self.X[self.fit], self.y[self.fit])
            error = parametric.error(self.X[~self.fit], self.y[~self.fit])
            if np.isfinite(error):
                best = min(best, error)
                structure = "; ".join([*leaf.problem.story, leaf.story])
                filled = parametric.filled()
                self.candidates.append(Candidate(filled, error, structure, unresolved))
            if self.over and self.candidates:
                break
        return best

    def front(self) -> list[Candidate]:
        """Candidates that are more exact than all that are simpler, simplest first."""
        ranked = sorted(self.candidates, key=lambda each: (each.complexity, each.error))
        found: list[Candidate] = []
        for each in ranked:
            if not found or each.error < 0.99 * found[-1].error - EXACT:
                found.append(each)
        return found

    def finished(self, candidate: Candidate) -> Candidate:
        """With constants fitted to all rows, put onto plain numbers, and simplified."""
        expression = snapped(candidate.expression, self.columns, self.X, self.y)
        before = Parametric(expression, self.columns).error(self.X, self.y)
        forms = [expression, sympy.factor_terms(expression)]
        if candidate.complexity <= _SIMPLIFIED:
            forms += [sympy.simplify(expression), sympy.factor(expression)]
        known = [
            form
            for form in forms
            if Parametric(form, self.columns).error(self.X, self.y) <= 1.01 * before + EXACT
        ]
        named = candidate._replace(expression=expression)
        options = [candidate._replace(expression=form) for form in known] or [named]
        return min(options, key=lambda each: each.complexity)


def _simplest(found: list[Leaf]) -> list[Leaf]:
    """What a front begins with."""
    return [leaf for leaf in found if leaf.story == "constant"][:1]
