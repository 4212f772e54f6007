"""Structures of monomials: a few of them under a link, and ratios of polynomials."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, product
from math import comb
from typing import Any

import numpy as np
import sympy

from sklearn_metakan.symbolic.problem import Array, Expr, Problem
from sklearn_metakan.symbolic.structure import (
    Link,
    Mask,
    Structure,
    linked,
    share_left,
    times,
    total,
)

MOST_TERMS = 4
MOST_VARIABLES = 4  # of a monomial
MOST_MONOMIALS = 1500  # that are chosen from
MOST_PAIRED = 400  # of which all pairs are looked at
MOST_COEFFICIENTS = 10  # of a ratio
DEGREES = (1, 2, 3)
_MOST_LISTED = 100_000
_BETTER = 0.7  # what one more term leaves at most of what was left
_DIVIDES = 1e-3  # share of a variable's largest size that the smallest has at least
_INDEPENDENT = 1e-9
_NEARLY = 1e-2  # ratio of singular values from which on there is no null vector
_ROUNDING = 1e-9
_TINY = 1e-300


def monomials(problem: Problem, link: Link, fit: Mask) -> Iterator[Structure]:
    """``l(t) = sum_m c_m prod_k z_k^p``: terms are added one by one, the earlier ones exchanged."""
    under = linked(problem, link)
    if under is None:
        return
    exponents = [(0.0,) * len(problem.names), *_exponents(problem.z)]
    columns = np.column_stack([_monomial(problem.z, powers) for powers in exponents])
    weighted = (columns * under.unit[:, None])[fit]
    norms = np.sqrt((weighted**2).sum(0))
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    columns, scaled, norms = columns[:, usable], weighted[:, usable] / norms[usable], norms[usable]
    target, least = (under.values * under.unit)[fit], np.inf
    chosen: list[int] = []
    for count in range(1, MOST_TERMS + 1):
        chosen.append(_next(scaled, target, chosen))
        if count == 2:
            chosen = _best_pair(scaled[:, :MOST_PAIRED], target)
        for place in range(len(chosen) - 1):
            others = chosen[:place] + chosen[place + 1 :]
            chosen = [*others, _next(scaled, target, others)]
        weights, *_ = np.linalg.lstsq(scaled[:, chosen], target, rcond=None)
        weights = weights / norms[chosen]
        left = under.left(columns[:, chosen] @ weights, ~fit)
        if not left < _BETTER * least:
            continue
        least = left
        terms = [exponents[usable[m]] for m in chosen]
        expression = under.wrap(_polynomial(weights, terms, problem.names))
        story = f"{link.name} is a sum of {len(chosen)} monomials"
        yield Structure(problem, story, left, partial(_alone, expression))


def _next(columns: Array, target: Array, chosen: list[int]) -> int:
    """The column, of norm 1, that leaves least of the target together with those chosen."""
    rest, outside = target, np.ones(columns.shape[1])
    if chosen:
        basis, _ = np.linalg.qr(columns[:, chosen])
        rest = target - basis @ (basis.T @ target)
        outside = 1 - ((basis.T @ columns) ** 2).sum(0)
    gain = (columns.T @ rest) ** 2 / np.maximum(outside, _INDEPENDENT)
    gain[outside <= _INDEPENDENT] = 0.0
    gain[chosen] = -1.0
    return int(gain.argmax())


def _best_pair(columns: Array, target: Array) -> list[int]:
    """The two columns, of norm 1, that leave least of the target; all pairs are looked at."""
    gram, parts = columns.T @ columns, columns.T @ target
    outside = 1 - gram**2
    squares = parts[:, None] ** 2 + parts**2 - 2 * parts[:, None] * parts * gram
    gain = np.where(outside > _INDEPENDENT, squares / np.maximum(outside, _INDEPENDENT), -1.0)
    first, second = np.unravel_index(gain.argmax(), gain.shape)
    return [int(first), int(second)]


def ratio_of_polynomials(problem: Problem, fit: Mask) -> Iterator[Structure]:
    """``t Q(z) = P(z)``: the null vector of one matrix, with as few coefficients as it can be."""
    for degree in DEGREES:
        above = _degrees(len(problem.names), degree)
        below = _degrees(len(problem.names), degree if degree > 2 else 1)
        if len(above) + len(below) > fit.sum() / 4:
            return
        top, bottom = (
            np.column_stack([_monomial(problem.z, powers) for powers in rows])
            for rows in (above, below)
        )
        design = np.hstack([top, -problem.t[:, None] * bottom])
        scale = np.sqrt((design[fit] ** 2).mean(0)) + _TINY
        weights = _sparse_null((design / scale)[fit]) / scale
        p, q = weights[: len(above)], weights[len(above) :]
        if not (p.any() and q.any()) or np.count_nonzero(weights) > MOST_COEFFICIENTS:
            continue
        error = (problem.t - (top @ p) / (bottom @ q)) * problem.unit
        first = q[np.flatnonzero(q)[0]]  # one of them may be 1
        numerator = _polynomial(p / first, above, problem.names)
        expression = problem.wrap(numerator / _polynomial(q / first, below, problem.names))
        story = f"a ratio of polynomials of degree {degree}"
        left = share_left(problem, error, ~fit)
        yield Structure(problem, story, left, partial(_alone, expression))


def _sparse_null(matrix: Array) -> Array:
    """A vector that the matrix nearly takes to zero; the weakest numbers go while it does.

    All zero where there is none.
    """
    columns, found = [*range(matrix.shape[1])], np.zeros(matrix.shape[1])
    vector, smallest = _null(matrix)
    if smallest > _NEARLY:
        return found
    limit = max(30 * smallest, _ROUNDING)
    while len(columns) > 2:
        for gone in np.argsort(np.abs(vector), kind="stable")[:3].tolist():
            fewer = columns[:gone] + columns[gone + 1 :]
            shorter, value = _null(matrix[:, fewer])
            if value < limit:
                columns, vector = fewer, shorter
                break
        else:
            break
    found[columns] = vector
    return found


def _null(matrix: Array) -> tuple[Array, float]:
    """The last right singular vector, and its singular value beside the largest."""
    _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
    return vectors[-1], float(values[-1] / (values[0] + _TINY))


def _exponents(z: Array) -> list[tuple[float, ...]]:
    """Exponents of monomials of few variables, low ones first."""
    size = np.abs(z)
    divides, positive = size.min(0) > _DIVIDES * size.max(0), z.min(0) > 0
    found = []
    for count in range(1, min(z.shape[1], MOST_VARIABLES) + 1):
        if count > 1 and comb(z.shape[1], count) * 5**count > _MOST_LISTED:
            break
        for where in combinations(range(z.shape[1]), count):
            choices = []
            for i in where:
                powers = [1.0, 2.0, -1.0, -2.0] if divides[i] else [1.0, 2.0]
                choices.append([*powers, 0.5] if positive[i] and count <= 2 else powers)
            for chosen in product(*choices):
                row = dict(zip(where, chosen, strict=True))
                found.append(tuple(row.get(i, 0.0) for i in range(z.shape[1])))
    found.sort(key=lambda powers: sum(map(abs, powers)))
    return found[:MOST_MONOMIALS]


def _degrees(count: int, degree: int) -> list[tuple[int, ...]]:
    """Exponents of all monomials of at most a degree."""
    return [p for p in product(range(degree + 1), repeat=count) if sum(p) <= degree]


def _monomial(z: Array, powers: Sequence[float]) -> Array:
    values = np.ones(len(z))
    for column, power in zip(z.T, powers, strict=True):
        values = values * column**power if power else values
    return values


def _polynomial(weights: Any, rows: Sequence[Sequence[float]], names: Sequence[Expr]) -> Expr:
    """``sum_m w_m prod_k z_k^p``, of weights that are not zero; 1 is exact."""
    terms = []
    for weight, powers in zip(map(float, weights), rows, strict=True):
        if weight:
            exact = [sympy.Rational(round(2 * power), 2) for power in powers]
            number = sympy.Integer(1) if weight == 1 else sympy.Float(weight)
            terms.append(times([number, *(n**p for n, p in zip(names, exact, strict=True))]))
    return total(terms)


def _alone(expression: Expr) -> list[tuple[Expr, list[str]]]:
    return [(expression, [])]
