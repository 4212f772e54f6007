"""Structures that end a search: what the rest of a problem may be, fitted to the data.

- a constant;
- *sums of edges*: ``l(t) = sum_k h_k(z_k)``, an additive KAN under a link l, by least squares;
- *products of edges*: ``t = d + prod_k g_k(z_k)``, splines by alternating least squares;
- *sums of monomials*: ``l(t) = sum_m c_m prod_k z_k^p``, chosen one by one from a list;
- *ratios of polynomials*: ``t Q(z) = P(z)``, the null vector of one matrix.

Each says what share of y's variance it leaves on rows that it was not fitted to; edges still are
splines, which ``expressions`` replaces by functions of the library.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray
from sklearn.preprocessing import SplineTransformer

from sklearn_metakan.symbolic.curves import Fit, Function, fits
from sklearn_metakan.symbolic.problem import Array, Expr, Problem

CELLS = 10  # of the splines of an edge
KEPT = 3  # functions of the library that are tried for an edge, in context
MOST_COMBINED = 12
MOST_TERMS = 4
_RIDGE = 1e-10
_TINY = 1e-300
_MOST_EXPONENT = 12
_MOST_COEFFICIENTS = 10


class Link(NamedTuple):
    """``l(t)``, its inverse as sympy has it, and |dl/dt|; "signed" ones need t of one sign."""

    name: str
    of: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    back: Callable[[Expr], Expr]
    signed: bool


LINKS = (
    Link("t", lambda t: t, np.ones_like, lambda s: s, False),
    Link("1/t", lambda t: 1 / t, lambda t: t**-2.0, lambda s: 1 / s, True),
    Link("t^2", np.square, lambda t: 2 * np.abs(t), lambda s: sympy.sqrt(s), True),
    Link(
        "1/t^2",
        lambda t: t**-2.0,
        lambda t: 2 * np.abs(t) ** -3.0,
        lambda s: 1 / sympy.sqrt(s),
        True,
    ),
    Link("log t", np.log, lambda t: 1 / np.abs(t), lambda s: sympy.exp(s), True),
    Link("sqrt t", np.sqrt, lambda t: 0.5 / np.sqrt(t), lambda s: s**2, True),
    Link("exp t", np.exp, np.exp, lambda s: sympy.log(s), False),
    Link("sin t", np.sin, lambda t: np.abs(np.cos(t)), lambda s: sympy.asin(s), False),
)


class Leaf(NamedTuple):
    """A structure for a problem: what it leaves of y, and what makes expressions of it."""

    problem: Problem
    story: str
    left: float
    expressions: Callable[[], list[tuple[Expr, list[str]]]]


def leaves(problem: Problem, fit: NDArray[np.bool_], library: Sequence[Function]) -> Iterator[Leaf]:
    """All structures for a problem, with what each leaves; ``fit`` marks the rows to fit to."""
    with np.errstate(all="ignore"):
        yield _constant(problem, fit)
        if not problem.names:
            return
        for link in LINKS:
            yield from _sum_of_edges(problem, link, fit, library)
            if len(problem.names) > 1:
                yield from _monomials(problem, link, fit)
        if 2 <= len(problem.names) <= 4:
            yield from _product_of_edges(problem, fit, library)
            yield from _ratio_of_polynomials(problem, fit)


def _alone(expression: Expr) -> list[tuple[Expr, list[str]]]:
    return [(expression, [])]


def _left(problem: Problem, residual: Array, rows: NDArray[np.bool_]) -> float:
    """Share of y's variance that a residual of t is, on these rows."""
    error = (residual * problem.unit)[rows]
    y = (problem.t * problem.unit)[rows]
    total = np.mean((y - y.mean()) ** 2) if np.ptp(y) else 0.0
    share = np.mean(error**2) / (total + _TINY)
    return float(share) if np.isfinite(share) else np.inf


def _constant(problem: Problem, fit: NDArray[np.bool_]) -> Leaf:
    weight = problem.unit[fit] ** 2
    level = float(np.average(problem.t[fit], weights=weight + _TINY))
    expression = problem.wrap(sympy.Float(level))
    left = _left(problem, problem.t - level, ~fit)
    return Leaf(problem, "constant", left, partial(_alone, expression))


def _linked(problem: Problem, link: Link) -> tuple[Array, Array, float] | None:
    """l(|t|), its unit, and the sign of t; None where the link does not apply."""
    t, sign = problem.t, 1.0
    if link.signed:
        size = np.abs(t)
        if not (np.all(t > 0) or np.all(t < 0)) or size.min() < 1e-9 * size.max():
            return None
        sign = float(np.sign(t[0]))
        t = size
    elif (link.name == "exp t" and np.ptp(t) > 12) or (
        link.name == "sin t" and np.abs(t).max() > np.pi / 2 + 0.2
    ):
        return None
    values, unit = link.of(t), problem.unit / (link.slope(t) + _TINY)
    if link.name == "sin t":
        unit = np.minimum(unit, 20 * problem.unit)
    if not (np.isfinite(values).all() and np.isfinite(unit).all()) or not np.ptp(values):
        return None
    return values, unit, sign


def _splines(z: Array, fit: NDArray[np.bool_]) -> list[Array]:
    """Cubic splines of each variable, centred, without the one that the others determine."""
    found = []
    for column in z.T:
        cells = min(CELLS, max(1, len(np.unique(column)) - 1))
        splines = SplineTransformer(cells + 1, degree=3, knots="uniform", extrapolation="linear")
        values = splines.fit(column[:, None]).transform(column[:, None])[:, 1:]
        found.append(values - values[fit].mean(0))
    return found


def _solve(design: Array, target: Array) -> Array:
    scale = np.sqrt((design**2).sum(0)) + _TINY
    scaled = design / scale
    gram = scaled.T @ scaled
    gram[np.diag_indices_from(gram)] += _RIDGE
    solution: Array = np.linalg.solve(gram, scaled.T @ target) / scale
    return solution


def _sum_of_edges(
    problem: Problem, link: Link, fit: NDArray[np.bool_], library: Sequence[Function]
) -> Iterator[Leaf]:
    linked = _linked(problem, link)
    if linked is None:
        return
    values, unit, sign = linked
    blocks = _splines(problem.z, fit)
    design = np.column_stack([np.ones(len(values)), *blocks])
    if design.shape[1] > fit.sum() / 2:
        return
    weights = _solve(design[fit] * unit[fit, None], values[fit] * unit[fit])
    residual = values - design @ weights
    error = (residual * unit)[~fit]
    y = (problem.t * problem.unit)[~fit]
    left = float(np.mean(error**2) / (np.var(y) + _TINY))
    if not np.isfinite(left):
        return
    starts = np.cumsum([1, *(block.shape[1] for block in blocks)])
    edges = [
        block @ weights[start : start + block.shape[1]]
        for block, start in zip(blocks, starts, strict=False)
    ]

    def expressions() -> list[tuple[Expr, list[str]]]:
        found = []
        # In context: each edge also takes what the others leave.
        options = [
            fits(problem.z[:, k], edge + residual, unit, library) for k, edge in enumerate(edges)
        ]
        for fitted, unresolved in _combinations(options, problem.names):
            inner = sum(
                (
                    each.expression(name, constant=False)
                    for each, name in zip(fitted, problem.names, strict=True)
                ),
                sympy.Float(weights[0] + sum(each.d for each in fitted)),
            )
            found.append((problem.wrap(sign * link.back(inner)), unresolved))
        if link.name == "log t" and len(edges) > 1:
            curves = [np.exp(edge - edge.mean()) for edge in edges]
            options = [
                fits(problem.z[:, k], curve, unit / curve, library)
                for k, curve in enumerate(curves)
            ]
            level = float(np.exp(weights[0] + sum(edge.mean() for edge in edges)))
            for fitted, unresolved in _combinations(options, problem.names):
                inner = sympy.Float(level)
                for each, name in zip(fitted, problem.names, strict=True):
                    inner = inner * each.expression(name)
                found.append((problem.wrap(sign * inner), unresolved))
        return found

    yield Leaf(problem, f"{link.name} is a sum of edges", left, expressions)


def _combinations(
    options: Sequence[Sequence[Fit]], names: Sequence[Expr]
) -> Iterator[tuple[tuple[Fit, ...], list[str]]]:
    """The best functions of each edge with those of the others, and the edges that have none."""
    if not all(options):
        return
    many = max(1, int(MOST_COMBINED ** (1 / len(options))))
    kept = [each[: min(max(KEPT, many), len(each))] for each in options]
    if len(options) == 1:
        kept = [options[0][: 2 * KEPT]]
    ranked = sorted(product(*kept), key=lambda fitted: sum(each.rank for each in fitted))
    for fitted in ranked[:MOST_COMBINED]:
        poor = [str(n) for each, n in zip(fitted, names, strict=True) if each.left > 1e-2]
        yield fitted, poor


def _product_of_edges(
    problem: Problem, fit: NDArray[np.bool_], library: Sequence[Function]
) -> Iterator[Leaf]:
    """Alternating: with all factors but one, the sum d + g_k(z_k) * others is linear in g_k."""
    blocks = [
        np.column_stack([np.ones(len(problem.t)), block]) for block in _splines(problem.z, fit)
    ]
    t, unit = problem.t, problem.unit
    k = len(blocks)
    if sum(block.shape[1] for block in blocks) > fit.sum() / 2:
        return
    factors = [np.ones(len(t)) for _ in blocks]
    offset, before = 0.0, np.inf
    for sweep in range(25):
        for j in range(k):
            others = np.prod([factors[m] for m in range(k) if m != j], axis=0)
            design = blocks[j] * others[:, None]
            if sweep > 2:
                design = np.column_stack([design, np.ones(len(t))])
            weights = _solve(design[fit] * unit[fit, None], t[fit] * unit[fit])
            own = weights[: blocks[j].shape[1]]
            offset = float(weights[-1]) if sweep > 2 else 0.0
            factors[j] = blocks[j] @ own
            size = np.sqrt(np.mean(factors[j] ** 2)) + _TINY
            factors[j] = factors[j] / size if j < k - 1 else factors[j]
        residual = t - offset - np.prod(factors, axis=0)
        left = _left(problem, residual, ~fit)
        if sweep > 5 and not left < 0.9 * before:
            break
        before = left
    if not np.isfinite(left):
        return

    def expressions() -> list[tuple[Expr, list[str]]]:
        found = []
        options = []
        for j in range(k):
            others = np.prod([factors[m] for m in range(k) if m != j], axis=0)
            options.append(fits(problem.z[:, j], factors[j], unit * np.abs(others), library))
        for fitted, unresolved in _combinations(options, problem.names):
            inner = sympy.Float(1.0)
            for each, name in zip(fitted, problem.names, strict=True):
                inner = inner * each.expression(name)
            found.append((problem.wrap(inner), unresolved))
            found.append((problem.wrap(sympy.Float(offset) + inner), unresolved))
        return found

    yield Leaf(problem, "a product of edges", left, expressions)


def _exponents(z: Array, most_variables: int = 4, most: int = 1500) -> list[tuple[float, ...]]:
    """Exponents of monomials of few variables, low ones first."""
    k = z.shape[1]
    size = np.abs(z)
    divides = size.min(0) > 1e-3 * size.max(0)
    found = []
    for count in range(1, min(k, most_variables) + 1):
        for where in combinations(range(k), count):
            choices = []
            for i in where:
                low = [1.0, 2.0, -1.0, -2.0] if divides[i] else [1.0, 2.0]
                low += [0.5] if z[:, i].min() > 0 and count <= 2 else []
                choices.append(low)
            for powers in product(*choices):
                row = [0.0] * k
                for i, p in zip(where, powers, strict=True):
                    row[i] = p
                found.append((sum(map(abs, row)), tuple(row)))
    found.sort(key=lambda pair: pair[0])
    return [row for _, row in found[:most]]


def _monomial(z: Array, powers: Sequence[float]) -> Array:
    values: Array = np.prod([z[:, i] ** p for i, p in enumerate(powers) if p], axis=0)
    return values * np.ones(len(z))


def _named(names: Sequence[Expr], powers: Sequence[float]) -> Expr:
    rational = sympy.Rational
    found = sympy.Integer(1)
    for name, p in zip(names, powers, strict=True):
        found = found * name ** rational(round(2 * p), 2)
    return found


def _monomials(problem: Problem, link: Link, fit: NDArray[np.bool_]) -> Iterator[Leaf]:
    """Orthogonal matching pursuit, with an exchange after each step."""
    linked = _linked(problem, link)
    if linked is None:
        return
    values, unit, sign = linked
    exponents = _exponents(problem.z)
    columns = np.column_stack([_monomial(problem.z, p) for p in exponents])
    usable = np.flatnonzero(np.isfinite(columns).all(0))
    columns, exponents = (
        columns[:, usable],
        [exponents[m] for m in usable],
    )
    columns = np.column_stack([np.ones(len(values)), columns])
    exponents = [(0.0,) * len(problem.names), *exponents]
    weighted = columns * unit[:, None]
    weighted_fit, target = weighted[fit], (values * unit)[fit]
    norms = np.sqrt((weighted_fit**2).sum(0)) + _TINY
    unit_columns = weighted_fit / norms
    selected: list[int] = []

    def residual_of(chosen: list[int]) -> Array:
        if not chosen:
            return target
        basis, _ = np.linalg.qr(unit_columns[:, chosen])
        rest: Array = target - basis @ (basis.T @ target)
        return rest

    def best_next(chosen: list[int]) -> int:
        """The column that leaves least together with these."""
        rest, left_over = residual_of(chosen), unit_columns
        squares = np.ones(unit_columns.shape[1])
        if chosen:
            basis, _ = np.linalg.qr(unit_columns[:, chosen])
            inside = basis.T @ left_over
            squares = 1 - (inside**2).sum(0)
        gain = np.where(squares > 1e-9, (unit_columns.T @ rest) ** 2 / np.maximum(squares, 1e-9), 0)
        gain[chosen] = -1
        return int(gain.argmax())

    y = (problem.t * problem.unit)[~fit]
    total, last = np.var(y) + _TINY, np.inf
    for _ in range(MOST_TERMS):
        selected = [*selected, best_next(selected)]
        for position in range(len(selected) - 1):  # exchange
            others = selected[:position] + selected[position + 1 :]
            selected = [*others, best_next(others)]
        weights, *_ = np.linalg.lstsq(unit_columns[:, selected], target, rcond=None)
        weights = weights / norms[selected]
        error = ((values - columns[:, selected] @ weights) * unit)[~fit]
        left = float(np.mean(error**2) / total)
        if not np.isfinite(left) or left > 0.7 * last:
            continue
        last = left
        inner = sum(
            (
                sympy.Float(float(w)) * _named(problem.names, exponents[m])
                for w, m in zip(weights, selected, strict=True)
            ),
            sympy.Integer(0),
        )
        expression = problem.wrap(sign * link.back(inner))
        yield Leaf(
            problem,
            f"{link.name} is a sum of {len(selected)} monomials",
            left,
            partial(_alone, expression),
        )
        if left < 1e-20:
            return


def _ratio_of_polynomials(problem: Problem, fit: NDArray[np.bool_]) -> Iterator[Leaf]:
    """``sum_m p_m z^m - t sum_m q_m z^m = 0`` for monomials of at most a degree."""
    k = len(problem.names)
    for degree in (1, 2, 3):
        powers = [p for p in product(range(degree + 1), repeat=k) if sum(p) <= degree]
        below = [p for p in powers if sum(p) <= (degree if degree > 2 else max(1, degree - 1))]
        if len(powers) + len(below) > fit.sum() / 4:
            return
        top = np.column_stack([_monomial(problem.z, p) for p in powers])
        bottom = np.column_stack([_monomial(problem.z, p) for p in below])
        design = np.column_stack([top, -problem.t[:, None] * bottom])
        scale = np.sqrt((design[fit] ** 2).mean(0)) + _TINY
        scaled = design / scale
        kept = _sparse_null(scaled[fit])
        if kept is None:
            continue
        columns, vector = kept
        weights = np.zeros(design.shape[1])
        weights[columns] = vector / scale[columns]
        if len(columns) > _MOST_COEFFICIENTS:
            continue
        p, q = weights[: len(powers)], weights[len(powers) :]
        if not q.any() or not p.any():
            continue
        prediction = (top @ p) / (bottom @ q)
        left = _left(problem, problem.t - prediction, ~fit)
        if not np.isfinite(left):
            continue
        unit = q[np.abs(q) > 0][0]

        def polynomial(weights: Array, rows: Any, unit: float = unit) -> Expr:
            return sum(
                (
                    sympy.Float(float(w / unit)) * _named(problem.names, row)
                    for w, row in zip(weights, rows, strict=True)
                    if w
                ),
                sympy.Integer(0),
            )

        expression = problem.wrap(polynomial(p, powers) / polynomial(q, below))
        yield Leaf(
            problem,
            f"a ratio of polynomials of degree {degree}",
            left,
            partial(_alone, expression),
        )
        if left < 1e-16:
            return


def _sparse_null(matrix: Array) -> tuple[list[int], Array] | None:
    """A vector of few numbers that the matrix nearly takes to zero: columns go one by one."""
    columns = [*range(matrix.shape[1])]
    _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
    floor = values[-1] / values[0]
    if floor > 1e-2:
        return None
    best = columns, vectors[-1]
    limit = max(30 * floor, 1e-9)
    while len(columns) > 2:
        weakest = [int(i) for i in np.argsort(np.abs(best[1]))[:3]]
        for gone in weakest:
            fewer = [c for m, c in enumerate(best[0]) if m != gone]
            _, values, vectors = np.linalg.svd(matrix[:, fewer], full_matrices=False)
            if values[-1] / values[0] < limit:
                columns, best = fewer, (fewer, vectors[-1])
                break
        else:
            break
    return best[0], best[1]
