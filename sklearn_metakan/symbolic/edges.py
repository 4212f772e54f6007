"""Small KANs fitted to a problem: a sum of edges under a link, and a product of edges.

Edges are cubic splines; expressions have functions of the library in their place, chosen in
the context of the others: each is fitted to what the others leave, and the best few of all edges
are tried together.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
import sympy
import torch

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.symbolic.curves import Fit, Function, fits
from sklearn_metakan.symbolic.problem import Array, Expr, Problem
from sklearn_metakan.symbolic.structure import (
    Link,
    Linked,
    Mask,
    Structure,
    linked,
    share_left,
    times,
    total,
)

Found = list[tuple[Expr, list[str]]]
FitCurve = Callable[[Array, Array, Array], list[Fit]]

CELLS = 10  # of the grid of an edge
KEPT = 3  # functions that are tried for an edge, together with those of the others
MOST_COMBINED = 12
SWEEPS = 25  # over the factors of a product
_WITHOUT_OFFSET = 3  # of these sweeps
_POOR = 1e-2  # share of an edge's variance above which no function fits it
_RIDGE = 1e-10
_TINY = 1e-300


def sum_of_edges(
    problem: Problem, link: Link, fit: Mask, library: Sequence[Function]
) -> Iterator[Structure]:
    """``l(t) = c + sum_k h_k(z_k)``: an additive KAN under a link, by least squares."""
    under, blocks = linked(problem, link), _splines(problem.z, fit)
    if under is None or 1 + sum(block.shape[1] for block in blocks) > fit.sum() / 2:
        return
    design = np.column_stack([np.ones(len(problem.t)), *blocks])
    weights = _solve(design[fit] * under.unit[fit, None], (under.values * under.unit)[fit])
    ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
    parts = np.split(weights[1:], ends)
    edges = [block @ part for block, part in zip(blocks, parts, strict=True)]
    left = under.left(design @ weights, ~fit)
    curves = partial(fits, library=library)
    make = partial(_sums, under, float(weights[0]), edges, curves)
    yield Structure(problem, f"{link.name} is a sum of edges", left, make)


def _sums(under: Linked, constant: float, edges: list[Array], curves: FitCurve) -> Found:
    """Functions in place of the edges of a sum; of a sum of logarithms also of a product."""
    names, z = under.problem.names, under.problem.z.T
    rest = under.values - constant - np.sum(edges, axis=0)
    options = [curves(own, edge + rest, under.unit) for own, edge in zip(z, edges, strict=True)]
    found = []
    for fitted, unresolved in _combinations(options, names):
        level = sympy.Float(constant + sum(each.d for each in fitted))
        pairs = zip(fitted, names, strict=True)
        inner = total([level, *(each.expression(name, constant=False) for each, name in pairs)])
        found.append((under.wrap(inner), unresolved))
    if under.link.name != "log t" or len(edges) < 2:
        return found
    factors = [np.exp(edge) for edge in edges]
    options = [curves(own, g, under.unit / g) for own, g in zip(z, factors, strict=True)]
    for fitted, unresolved in _combinations(options, names):
        level = sympy.Float(under.sign * float(np.exp(constant)))
        inner = times([level, *map(Fit.expression, fitted, names)])
        found.append((under.problem.wrap(inner), unresolved))
    return found


def product_of_edges(
    problem: Problem, fit: Mask, library: Sequence[Function]
) -> Iterator[Structure]:
    """``t = d + prod_k g_k(z_k)``: with all factors but one, linear in that one; alternating.

    With d from the beginning, and from the fourth sweep on: either may end in a worse minimum.
    """
    ones = np.ones((len(problem.t), 1))
    blocks = [np.hstack([ones, block]) for block in _splines(problem.z, fit)]
    if sum(block.shape[1] for block in blocks) > fit.sum() / 2:
        return
    ways = [_alternated(problem, fit, blocks, first) for first in (0, _WITHOUT_OFFSET)]
    left, offset, factors = min(ways, key=lambda way: way[0])
    if np.isfinite(factors).all() and np.isfinite(left):
        make = partial(_products, problem, offset, factors, partial(fits, library=library))
        yield Structure(problem, "a product of edges", left, make)


def _alternated(
    problem: Problem, fit: Mask, blocks: list[Array], first: int
) -> tuple[float, float, list[Array]]:
    """What is left, d and the factors at the rows; d is fitted from the sweep ``first`` on."""
    ones = np.ones((len(problem.t), 1))
    factors, offset, left, least = [ones[:, 0] for _ in blocks], 0.0, np.inf, np.inf
    for sweep in range(SWEEPS):
        for k, block in enumerate(blocks):
            design = block * _others(factors, k)[:, None]
            if sweep >= first:
                design = np.hstack([design, ones])
            target = (problem.t * problem.unit)[fit]
            weights = _solve(design[fit] * problem.unit[fit, None], target)
            offset = float(weights[-1]) if sweep >= first else 0.0
            factors[k] = block @ weights[: block.shape[1]]
            if k < len(blocks) - 1:
                factors[k] = factors[k] / (np.sqrt(np.mean(factors[k] ** 2)) + _TINY)
        error = (problem.t - offset - np.prod(factors, axis=0)) * problem.unit
        left = share_left(problem, error, ~fit)
        if sweep > 2 * _WITHOUT_OFFSET and not left < 0.9 * least:
            break
        least = left
    return left, offset, factors


def _products(problem: Problem, offset: float, factors: list[Array], curves: FitCurve) -> Found:
    """Functions in place of the factors of a product, with and without its offset."""
    options, found = [], []
    for k, factor in enumerate(factors):
        unit = problem.unit * np.abs(_others(factors, k))
        options.append(curves(problem.z[:, k], factor, unit))
    for fitted, unresolved in _combinations(options, problem.names):
        inner = times([*map(Fit.expression, fitted, problem.names)])
        found.append((problem.wrap(inner), unresolved))
        found.append((problem.wrap(sympy.Float(offset) + inner), unresolved))
    return found


def _others(factors: Sequence[Array], k: int) -> Array:
    found: Array = np.prod([each for m, each in enumerate(factors) if m != k], axis=0)
    return found * np.ones(len(factors[k]))


def _combinations(
    options: Sequence[Sequence[Fit]], names: Sequence[Expr]
) -> Iterator[tuple[tuple[Fit, ...], list[str]]]:
    """The best functions of each edge with those of the others, and the edges that have none."""
    kept = [each[: KEPT if len(options) > 1 else 2 * KEPT] for each in options]
    ranked = sorted(product(*kept), key=lambda fitted: sum(each.rank for each in fitted))
    for fitted in ranked[:MOST_COMBINED]:
        yield fitted, [str(n) for each, n in zip(fitted, names, strict=True) if each.left > _POOR]


def _splines(z: Array, fit: Mask) -> list[Array]:
    """Cubic splines of each variable, centred, without the one that the others determine."""
    low, high = z.min(0), z.max(0)
    knots = np.column_stack([low, np.where(high > low, high, low + 1)])
    basis = BSplineBasis(z.shape[1], grid_size=CELLS, knots=knots, dtype=torch.float64)
    values = basis.evaluate(torch.from_numpy(np.ascontiguousarray(z))).numpy()[..., 2:]  # no silu
    return [own - own[fit].mean(0) for own in values.swapaxes(0, 1)]


def _solve(design: Array, target: Array) -> Array:
    """Least squares, with a little ridge for columns that others determine."""
    scale = np.sqrt((design**2).sum(0)) + _TINY
    scaled = design / scale
    gram = scaled.T @ scaled + _RIDGE * np.eye(len(scale))
    return np.linalg.solve(gram, scaled.T @ target) / scale
