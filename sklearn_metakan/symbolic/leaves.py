"""Structures that end a search: what the rest of a problem may be, fitted to the data.

- a constant;
- *sums of edges*: ``l(t) = sum_k h_k(z_k)``, an additive KAN under a link l, by least squares;
- *products of edges*: ``t = d + prod_k g_k(z_k)``, splines by alternating least squares;
- *sums of monomials*: ``l(t) = sum_m c_m prod_k z_k^p``, chosen one by one from a list;
- *ratios of polynomials*: ``t Q(z) = P(z)``, the null vector of one matrix.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import sympy

from sklearn_metakan.symbolic.curves import Function
from sklearn_metakan.symbolic.edges import product_of_edges, sum_of_edges
from sklearn_metakan.symbolic.problem import Problem
from sklearn_metakan.symbolic.structure import LINKS, Mask, Structure, share_left
from sklearn_metakan.symbolic.terms import monomials, ratio_of_polynomials

MOST_FACTORS = 4  # of a product of edges, and variables of a ratio
CONSTANT = "a constant"
_TINY = 1e-300


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
    level = float(np.average(problem.t[fit], weights=problem.unit[fit] ** 2 + _TINY))
    left = share_left(problem, (problem.t - level) * problem.unit, ~fit)
    expression = problem.wrap(sympy.Float(level))
    return Structure(problem, CONSTANT, left, lambda: [(expression, [])])
