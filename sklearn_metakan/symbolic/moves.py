"""Steps to a simpler problem that the network's slopes suggest.

With elasticities ``e_i = z_i F_i / F``, F_i the slope along z_i:

- ``e_i = p`` everywhere: F is z_i^p times a function of the others;
- ``e_i = p - k e_j``: after division by z_i^p, F depends on z_i and z_j through one monomial;
- ``F_i`` constant: F is F_i z_i plus a function of the others;
- ``(F_i / u'(z_i)) / (F_j / v'(z_j)) = k`` constant: F depends on z_i and z_j through the sum
  ``k u(z_i) + v(z_j)`` alone; with logarithms, through the monomial ``z_i^k z_j``.

Slopes of a network are good to a few percent, and so are the tests: what they suggest is
judged later, by what it leaves unexplained of the data.

Source: the symmetries are those of Udrescu et al., "AI Feynman 2.0" (2020).
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from sympy import Float, Integer, Rational

from sklearn_metakan.symbolic.problem import Array, Expr, Problem

CLOSE = 0.12  # relative spread up to which slopes count as in proportion
SILENT = 0.02  # share of t's spread below which a variable counts as without effect
MOST_PAIRED = 12  # variables
MOST_MOVES = 4  # that are followed from a problem
_FEW = 1e-300


class Term(NamedTuple):
    """A function u of one variable that sums are made of."""

    name: str
    of: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    cost: float  # the more, the better it has to be


TERMS = (
    Term("linear", lambda z: z, np.ones_like, 1.0),
    Term("square", lambda z: z**2, lambda z: 2 * z, 1.3),
    Term("reciprocal", lambda z: 1 / z, lambda z: -1 / z**2, 1.5),
    Term("inverse square", lambda z: z**-2.0, lambda z: -2 * z**-3.0, 1.8),
)


def moves(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """Simpler problems, each with how far the slopes are from what it asks, closest first."""
    problem = without_silent(problem)
    if not problem.names:
        return
    found: list[tuple[float, Problem]] = [*_divisions(problem), *_differences(problem)]
    if len(problem.names) > 1:
        found += [*_groups(problem), *_joints(problem), *_scalings(problem)]
    found.sort(key=lambda pair: pair[0])
    for distance, each in found[:MOST_MOVES]:
        yield distance, without_silent(each)


def without_silent(problem: Problem) -> Problem:
    """Without the variables that hardly move t."""
    if len(problem.names) < 1:
        return problem
    spread = problem.z.std(0) + _FEW
    effects = np.sqrt(np.mean((problem.slopes * spread) ** 2 * problem.unit[:, None] ** 2, 0))
    total = np.std(problem.smooth * np.median(problem.unit)) + np.linalg.norm(effects)
    return problem.only([i for i, effect in enumerate(effects) if effect > SILENT * total])


def _half(value: float) -> float:
    return round(2 * value) / 2


def _symbol(value: float) -> Expr:
    """Halves exactly, all else as it is."""
    return Rational(round(2 * value), 2) if value == _half(value) else Float(value)


def _spread(values: Array, scale: Array) -> float:
    """Median of |values| against that of the scale."""
    return float(np.median(np.abs(values)) / (np.median(np.abs(scale)) + _FEW))


def _may_divide(z: Array, power: float) -> bool:
    """Whether z^power is a number in every row, and not too large in any."""
    if power != int(power) and z.min() <= 0:
        return False
    size = np.abs(z)
    return bool(power > 0 and size.min() > 1e-6 * size.max()) or bool(
        size.min() > 1e-3 * size.max()
    )


def _divisions(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """Constant elasticities: all of them at once."""
    powers, worst = np.zeros(len(problem.names)), 0.0
    for i, z in enumerate(problem.z.T):
        parts = z * problem.slopes[:, i]
        ratio = float((parts * problem.smooth).sum() / ((problem.smooth**2).sum() + _FEW))
        power = _half(ratio)
        spread = _spread(parts - power * problem.smooth, problem.smooth * max(abs(power), 1.0))
        if power and abs(power) <= 6 and spread < CLOSE and _may_divide(z, power):
            powers[i], worst = power, max(worst, spread)
    if powers.any():
        divided = problem.divided(powers.tolist(), [_symbol(p) for p in powers])
        yield worst * 0.5, divided.only(np.flatnonzero(powers == 0).tolist())


def _differences(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """Constant slopes."""
    for i in range(len(problem.names)):
        slope = float(np.median(problem.slopes[:, i]))
        spread = _spread(problem.slopes[:, i] - slope, problem.slopes[:, i])
        if spread < CLOSE / 2 and len(problem.names) > 1:
            yield spread, problem.less(i, slope, Float(slope))


def _strongest(problem: Problem) -> list[int]:
    """The variables that move y most, which pairs are made of."""
    effects = np.abs(problem.slopes * problem.unit[:, None]).mean(0) * problem.z.std(0)
    return sorted(np.argsort(-effects, kind="stable")[:MOST_PAIRED].tolist())


def _ratio(over: Array, under: Array) -> tuple[float, float]:
    """k with over = k under, and how far that is from true, by median."""
    norms = np.hypot(over, under) + _FEW
    one, other = over / norms, under / norms
    angle = 0.5 * np.arctan2(2 * (one * other).sum(), (other**2 - one**2).sum())
    # The axis through the cloud of (under, over) directions.
    across = np.abs(one * np.cos(angle) - other * np.sin(angle))
    share = min(abs(np.cos(angle)), abs(np.sin(angle)))
    if share < 1e-3:
        return 0.0, np.inf
    return float(np.tan(angle)), float(np.median(across) / share)


def _groups(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """Three or more variables that act through one monomial: as ``_joints``, all at once."""
    parts = problem.z * problem.slopes
    first = int(np.abs(parts).mean(0).argmax())
    powers, worst = np.zeros(len(problem.names)), 0.0
    powers[first] = 1.0
    for i in range(len(problem.names)):
        k, spread = _ratio(parts[:, i], parts[:, first])
        near = i != first and spread < CLOSE and abs(_half(k) - k) < CLOSE * abs(k)
        if near and _may_divide(problem.z[:, i], _half(k)):
            powers[i], worst = _half(k), max(worst, spread)
    group = np.flatnonzero(powers).tolist()
    if len(group) < 3:
        return
    scale = 2.0 if (powers != powers.round()).any() else 1.0  # whole exponents
    values, name = np.ones(len(problem.t)), Integer(1)
    for i in group:
        values = values * problem.z[:, i] ** (scale * powers[i])
        name = name * problem.names[i] ** _symbol(scale * powers[i])
    slope = scale * values / problem.z[:, first]
    yield worst * 0.5, problem.joined([*group, first], name, values, slope)


def _joints(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """Pairs that act through a monomial or a sum."""
    for i, j in combinations(_strongest(problem), 2):
        zi, zj = problem.z[:, i], problem.z[:, j]
        gi, gj = problem.slopes[:, i], problem.slopes[:, j]
        found = [*_monomials(problem, i, j, *_ratio(zi * gi, zj * gj))]
        for u in TERMS:
            for v in TERMS:
                if (u.name, v.name).count("linear") < 2 and min(map(_least, (zi, zj))) < 1e-3:
                    continue
                k, spread = _ratio(gi / u.slope(zi), gj / v.slope(zj))
                if spread < CLOSE:
                    cost = u.cost * v.cost
                    found.append((spread * cost + 0.01 * cost, _sum(problem, i, j, u, v, k)))
        found.sort(key=lambda pair: pair[0])
        yield from found[:2]


def _least(z: Array) -> float:
    size = np.abs(z)
    return float(size.min() / (size.max() + _FEW))


def _monomials(
    problem: Problem, i: int, j: int, k: float, spread: float
) -> Iterator[tuple[float, Problem]]:
    if not spread < CLOSE or not k:
        return
    if abs(k) < 0.9:
        i, j, k = j, i, 1 / k
    power = _half(k)
    if abs(power - k) > CLOSE * abs(k) or not _may_divide(problem.z[:, i], power):
        return
    zi, zj = problem.z[:, i], problem.z[:, j]
    name = problem.names[i] ** _symbol(power) * problem.names[j]
    yield spread, problem.joined((i, j), name, zi**power * zj, zi**power)


def _sum(problem: Problem, i: int, j: int, u: Term, v: Term, k: float) -> Problem:
    """Through ``k u(z_i) + v(z_j)``; k is 1 or -1 where it nearly is."""
    zi, zj = problem.z[:, i], problem.z[:, j]
    near = abs(abs(k) - 1) < CLOSE / 2
    k = float(np.sign(k)) if near else k
    values = k * u.of(zi) + v.of(zj)
    factor = _symbol(k) if near else Float(k)
    name = factor * u.of(problem.names[i]) + v.of(problem.names[j])
    return problem.joined((i, j), name, values, v.slope(zj))


def _scalings(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """``e_i = p - k e_j`` with p not zero: one division makes a monomial of the two."""
    f = problem.smooth
    for i, j in combinations(_strongest(problem), 2):
        parts = [problem.z[:, m] * problem.slopes[:, m] for m in (i, j)]
        design = np.column_stack([f, parts[1]])
        (p, k), *_ = np.linalg.lstsq(design, parts[0], rcond=None)
        k = -k
        if abs(k) < 0.2 or abs(_half(k) - k) > CLOSE * max(abs(k), 1.0):
            continue
        k = _half(k)
        if k == 0:
            continue
        p = float(((parts[0] + k * parts[1]) * f).sum() / ((f**2).sum() + _FEW))
        power = _half(p)
        spread = _spread(parts[0] + k * parts[1] - power * f, np.abs(parts[0]) + np.abs(f))
        # The same symmetry by division through either variable.
        for m, own in ((i, power), (j, power / k)):
            if own and own == _half(own) and spread < CLOSE / 2 and abs(own) <= 4:
                powers = np.zeros(len(problem.names))
                powers[m] = own
                if _may_divide(problem.z[:, m], own):
                    symbols = [_symbol(each) for each in powers]
                    yield spread + 0.02, problem.divided(powers.tolist(), symbols)
