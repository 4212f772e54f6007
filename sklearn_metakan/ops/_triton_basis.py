"""B-splines at an x, for the kernels that use them; see ``BSplineBasis`` for formulas.

The k + 1 splines that do not vanish at an x are polynomials in its local coordinate u, from the
tables of ``BSplineBasis``.
"""

import triton
import triton.language as tl

HIGHEST_DEGREE = 5


@triton.jit
def locate(x, ends, tables, i, valid, row_of_ends, row_of_tables, K: tl.constexpr,
            G: tl.constexpr, UNIFORM: tl.constexpr, TAILS: tl.constexpr):  # fmt: skip
    """Cell, local coordinate, what lies beyond, 1 / width, clamped x, pointer to the table."""
    knots = ends + i * row_of_ends
    low = tl.load(knots + K, mask=valid, other=0.0)
    high = tl.load(knots + K + G, mask=valid, other=1.0)
    first: tl.constexpr = -K if TAILS == 1 else 0
    last: tl.constexpr = G + K - 1 if TAILS == 1 else G - 1
    if UNIFORM:
        width = (high - low) / G
        position = (x - low) / width
        floor = tl.floor(position)
        floor = tl.where(floor < first, first, tl.where(floor > last, last, floor))
        u = position - floor
        cell = floor.to(tl.int32)
        cell = tl.where(cell < first, first, tl.where(cell > last, last, cell))  # NaN
        table = tables
    else:
        cell = tl.full(x.shape, first, tl.int32)
        for j in tl.static_range(first + 1, last + 1):
            cell += (x >= tl.load(knots + (j + K), mask=valid, other=1.0)).to(tl.int32)
        left = tl.load(knots + K + cell, mask=valid, other=0.0)
        width = tl.load(knots + K + 1 + cell, mask=valid, other=1.0) - left
        u = (x - left) / width
        table = tables + i * row_of_tables + (cell + K) * ((K + 1) * (K + 1))
    inside = tl.where(u < 0.0, 0.0, tl.where(u > 1.0, 1.0, u))
    clamped = x if TAILS == 1 else tl.where(x < low, low, tl.where(x > high, high, x))
    return cell, inside, u - inside, 1.0 / width, clamped, table


@triton.jit
def _spline(A: tl.constexpr, cell, u, beyond, per_width, table, valid, K: tl.constexpr,
            C: tl.constexpr, UNIFORM: tl.constexpr, TAILS: tl.constexpr):  # fmt: skip
    """Spline A of the k + 1 on the cell, and its derivative; zero where it does not exist."""
    value = tl.zeros_like(u)
    slope = tl.zeros_like(u)
    for down in tl.static_range(0, K + 1):
        if UNIFORM:
            coefficient = tl.load(table + (A * (K + 1) + K - down))
        else:
            coefficient = tl.load(table + (A * (K + 1) + K - down), mask=valid, other=0.0)
        slope = slope * u + value
        value = value * u + coefficient
    if TAILS == 0:
        value += beyond * slope
    slope = slope * per_width
    if TAILS == 1:
        exists = (cell + A >= 0) & (cell + A + 1 < C) & (beyond == 0.0)
        value = tl.where(exists, value, 0.0)
        slope = tl.where(exists, slope, 0.0)
    if TAILS == 2:
        slope = tl.where(beyond == 0.0, slope, 0.0)
    return value, slope


@triton.jit
def splines_and_slopes(cell, u, beyond, per_width, table, valid, K: tl.constexpr, C: tl.constexpr,
                       UNIFORM: tl.constexpr, TAILS: tl.constexpr):  # fmt: skip
    """All k + 1 of them, and their derivatives."""
    value, slope = _spline(0, cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
    splines = (value,)
    slopes = (slope,)
    for a in tl.static_range(1, K + 1):
        value, slope = _spline(a, cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
        splines = splines + (value,)  # type: ignore[assignment]
        slopes = slopes + (slope,)  # type: ignore[assignment]
    return splines, slopes


@triton.jit
def rotated(splines, start, K: tl.constexpr, C: tl.constexpr):
    """The k + 1 splines, that of index ``start + a`` at the place ``(start + a) mod (k + 1)``.

    So whoever looks for the one of an index has one place to look.
    """
    turn = (start + C * (K + 1)) % (K + 1)
    places = splines
    for m in tl.static_range(0, K + 1):
        spline = splines[m]
        for t in tl.static_range(1, K + 1):
            spline = tl.where(turn == t, splines[(m + K + 1 - t) % (K + 1)], spline)
        places = places + (spline,)
    return places[K + 1 :]
