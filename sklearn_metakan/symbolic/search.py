"""From the network's values and slopes to expressions: hypotheses, fits, a front, one formula.

Structures that end a search, what the rest of a problem may be, fitted to the data:

- a constant;
- *sums of edges*: ``l(t) = sum_k h_k(z_k)``, an additive KAN under a link l, by least squares;
- *products of edges*: ``t = d + prod_k g_k(z_k)``, splines by alternating least squares;
- *sums of monomials*: ``l(t) = sum_m c_m prod_k z_k^p``, chosen one by one from a list;
- *ratios of polynomials*: ``t Q(z) = P(z)``, the null vector of one matrix.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray

from sklearn_metakan.symbolic.constants import Parametric, normalised, snapped
from sklearn_metakan.symbolic.curves import Function
from sklearn_metakan.symbolic.edges import product_of_edges, sum_of_edges
from sklearn_metakan.symbolic.moves import moves, without_silent
from sklearn_metakan.symbolic.problem import Array, Expr, Problem
from sklearn_metakan.symbolic.structure import LINKS, Mask, Structure, share_left
from sklearn_metakan.symbolic.terms import monomials, ratio_of_polynomials

MOST_FACTORS = 4  # of a product of edges, and variables of a ratio
CONSTANT = "a constant"
MOST_CONSTANTS = 12
MOST_PROBLEMS, FEWEST_PROBLEMS = 40, 10
MOST_LEAVES = 14
EXACT = 1e-22  # share of y's variance that counts as rounding
_LIKELY = 1e-5  # a structure that leaves no more, and no more than the network, is tried at once
_ROUNDING = 1e-18
_NOISE = 0.2  # of the network's error, which a formula has where it is noise
_STEP = 0.02  # what a step costs, beside how far slopes are from what it asks
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
    everywhere : ndarray of shape (m, d), optional
        Where expressions need to have values; by default X.

    Attributes
    ----------
    candidates : list of Candidate
    best_structure : Structure or None
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
        everywhere: Array | None = None,
    ) -> None:
        self.columns, self.X, self.y, self.fit = columns, X, y, fit
        self.everywhere = X if everywhere is None else everywhere
        self.library, self.end = library, perf_counter() + seconds
        self.candidates: list[Candidate] = []
        self.best_structure: Structure | None = None
        self._seen: set[str] = set()

    @property
    def over(self) -> bool:
        return perf_counter() > self.end

    def run(self, smooth: Array, slopes: Array) -> "Search":
        """From the network's values (n,) and slopes (n, d) at the rows of X."""
        whole = Problem(
            tuple(self.columns), self.X, self.y, smooth, slopes, np.ones(len(self.y)), lambda t: t
        )
        missed = ((smooth - self.y)[~self.fit] ** 2).mean() / (np.var(self.y[~self.fit]) or 1.0)
        waiting, count = [(0.0, 0, whole), (0.0, 1, without_silent(whole))], 2
        seen: set[str] = set()
        found: list[Structure] = []
        least = np.inf
        while waiting and len(seen) < MOST_PROBLEMS and not (self.over and found):
            distance, _, problem = heappop(waiting)
            if problem.key in seen:
                continue
            seen.add(problem.key)
            own = sorted(leaves(problem, self.fit, self.library), key=lambda leaf: leaf.left)
            found += own
            for leaf in own:
                exact = least < EXACT  # then only what is as simple to look at
                if leaf.left < (_ROUNDING if exact else min(_LIKELY, missed)):
                    least = min(least, self._try(leaf))
            noisy = _NOISE * missed < least < missed  # as exact as rows can show
            if least < EXACT or (noisy and len(seen) >= FEWEST_PROBLEMS):
                break
            for further, simpler in moves(problem):
                heappush(waiting, (distance + further + _STEP, count, simpler))
                count += 1
        found.sort(key=lambda leaf: leaf.left)
        self.best_structure = found[0]
        for leaf in [*found[:MOST_LEAVES], *_simplest(found)] if least >= EXACT else ():
            if self._try(leaf) < EXACT or (self.over and self.candidates):
                break
        return self

    def _try(self, leaf: Structure) -> float:
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
            if np.isfinite(error) and np.isfinite(parametric(self.everywhere)).all():
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


def leaves(problem: Problem, fit: Mask, library: Sequence[Function]) -> Iterator[Structure]:
    """All structures for a problem, fitted to the rows that ``fit`` marks."""
    with np.errstate(all="ignore"):
        yield _constant(problem, fit)
        if not problem.names:
            return
        for link in LINKS:
            yield from sum_of_edges(problem, link, fit, library)
            if len(problem.names) > 1:
                yield from monomials(problem, link, fit)
        if 2 <= len(problem.names) <= MOST_FACTORS:
            yield from product_of_edges(problem, fit, library)
            yield from ratio_of_polynomials(problem, fit)


def _constant(problem: Problem, fit: Mask) -> Structure:
    level = float(np.average(problem.t[fit], weights=problem.unit[fit] ** 2 + 1e-300))
    left = share_left(problem, (problem.t - level) * problem.unit, ~fit)
    expression = problem.wrap(sympy.Float(level))
    return Structure(problem, CONSTANT, left, lambda: [(expression, [])])


def _simplest(found: list[Structure]) -> list[Structure]:
    """What a front begins with: the mean of y."""
    return [leaf for leaf in found if leaf.story == CONSTANT and not leaf.problem.story][:1]
