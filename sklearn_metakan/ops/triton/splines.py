"""Fused kernels: B-splines and silu, the way back to x, and a dictionary's part in both.

The k + 1 splines that do not vanish at an x are polynomials in its local coordinate u, from the
tables of ``BSplineBasis``; see there for formulas.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.ops.triton.features import (
    NUMBER_OF_TAILS,
    FusedFeatures,
    base_and_slope,
    store_combined,
    store_sums,
)

HIGHEST_DEGREE = 5


@triton.jit
def _locate(x, ends, tables, i, valid, row_of_ends, row_of_tables, K: tl.constexpr,
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
    beyond = u - inside  # infinity times a slope of zero would be NaN
    beyond = tl.where(beyond < -3.4e38, -3.4e38, tl.where(beyond > 3.4e38, 3.4e38, beyond))
    clamped = x if TAILS == 1 else tl.where(x < low, low, tl.where(x > high, high, x))
    return cell, inside, beyond, 1.0 / width, clamped, table


@triton.jit
def _splines_and_slopes(cell, u, beyond, per_width, table, valid, K: tl.constexpr, C: tl.constexpr,
                        UNIFORM: tl.constexpr, TAILS: tl.constexpr):  # fmt: skip
    """The k + 1 splines on the cell, and their derivatives; zero where one does not exist."""
    splines = (u,)  # and what is looked for behind it
    slopes = (u,)
    for a in tl.static_range(0, K + 1):
        value = tl.zeros_like(u)
        slope = tl.zeros_like(u)
        for down in tl.static_range(0, K + 1):
            if UNIFORM:
                coefficient = tl.load(table + (a * (K + 1) + K - down))
            else:
                coefficient = tl.load(table + (a * (K + 1) + K - down), mask=valid, other=0.0)
            slope = slope * u + value
            value = value * u + coefficient
        if TAILS == 0:
            value += beyond * slope
        slope = slope * per_width
        if TAILS == 1:
            exists = (cell + a >= 0) & (cell + a + 1 < C) & (beyond == 0.0)
            value = tl.where(exists, value, 0.0)
            slope = tl.where(exists, slope, 0.0)
        if TAILS == 2:
            slope = tl.where(beyond == 0.0, slope, 0.0)
        splines = splines + (value,)  # type: ignore[assignment]
        slopes = slopes + (slope,)  # type: ignore[assignment]
    return splines[1:], slopes[1:]


@triton.jit
def _rotated(splines, start, K: tl.constexpr, C: tl.constexpr):
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


@triton.jit
def _make(
    x, row_of_x, out, row_of_out, input_of_out, function_of_out,
    grad, row_of_grad, input_of_grad, function_of_grad, x_grad, row_of_x_grad,
    dictionary, ends, row_of_ends, tables, row_of_tables, n, b,
    K: tl.constexpr, G: tl.constexpr, P: tl.constexpr, UNIFORM: tl.constexpr,
    TAILS: tl.constexpr, VALUES: tl.constexpr, WAY_BACK: tl.constexpr, PAIRED: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Features into ``out`` (VALUES), and x's gradient from theirs (WAY_BACK).

    P is 0, or the functions of a dictionary (C, P), which then are the features; PAIRED says
    that they are two and lie next to each other in ``out``.
    """
    C: tl.constexpr = 1 + G + K
    function_of_out = tl.cast(function_of_out, tl.int64)  # times c it may exceed 32 bits
    function_of_grad = tl.cast(function_of_grad, tl.int64)
    r = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    i = (tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
    valid = (r < n) & (i < b)
    t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
    i_or_0 = tl.where(valid, i, 0)
    cell, u, beyond, per_width, clamped, table = _locate(
        t, ends, tables, i_or_0, valid, row_of_ends, row_of_tables, K, G, UNIFORM, TAILS
    )
    base, base_slope = base_and_slope(t, clamped, TAILS)
    to = out + r * row_of_out + i * input_of_out
    of = grad + r * row_of_grad + i * input_of_grad
    result = tl.zeros_like(t)
    splines, slopes = _splines_and_slopes(
        cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS
    )
    if P == 0:
        if WAY_BACK:
            result += tl.load(of, mask=valid, other=0.0).to(tl.float32) * base_slope
        if VALUES:
            tl.store(to, base.to(out.dtype.element_ty), mask=valid)
        splines = _rotated(splines, cell + 1, K, C)
        slopes = _rotated(slopes, cell + 1, K, C)
        for c in tl.static_range(1, C):
            here = (cell < c) & (cell >= c - 1 - K)
            if VALUES:
                value = tl.where(here, splines[c % (K + 1)], 0.0)
                tl.store(to + c * function_of_out, value.to(out.dtype.element_ty), mask=valid)
            if WAY_BACK:
                g = tl.load(of + c * function_of_grad, mask=valid, other=0.0)
                result += g.to(tl.float32) * tl.where(here, slopes[c % (K + 1)], 0.0)
    values = (base,)  # and the features behind it
    for p in tl.static_range(0, P):
        weight = tl.load(dictionary + p)
        value = weight * base
        slope = weight * base_slope
        for a in tl.static_range(0, K + 1):
            c = tl.where((cell + a >= 0) & (cell + a + 1 < C), cell + a + 1, 0)
            weights = tl.load(dictionary + c * P + p)
            value += weights * splines[a]
            slope += weights * slopes[a]
        values = values + (value,)  # type: ignore[assignment]
        if WAY_BACK:
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            result += g.to(tl.float32) * slope
    if VALUES and P > 0:
        store_combined(
            values, out, row_of_out, r, n, b, to, function_of_out, valid, P, PAIRED, INPUTS
        )
    if WAY_BACK:
        tl.store(x_grad + r * row_of_x_grad + i, result, mask=valid)


@triton.jit
def _learn(
    x, row_of_x, grad, row_of_grad, input_of_grad, function_of_grad,
    partial, ends, row_of_ends, tables, row_of_tables, n, b,
    K: tl.constexpr, G: tl.constexpr, P: tl.constexpr, UNIFORM: tl.constexpr,
    TAILS: tl.constexpr, FUNCTIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """The dictionary's gradient, for FUNCTIONS of the c; places of a tile stay apart to the end."""
    C: tl.constexpr = 1 + G + K
    first = tl.program_id(1) * FUNCTIONS
    function_of_grad = tl.cast(function_of_grad, tl.int64)
    across = tl.cdiv(b, INPUTS)
    zero = tl.zeros((ROWS, INPUTS), tl.float32)
    totals = (zero,)
    for _ in tl.static_range(1, FUNCTIONS * P):
        totals = totals + (zero,)  # type: ignore[assignment]
    for tile in range(tl.program_id(0), across * tl.cdiv(n, ROWS), tl.num_programs(0)):
        r = (tile // across * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        i = (tile % across * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
        valid = (r < n) & (i < b)
        t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
        of = grad + r * row_of_grad + i * input_of_grad
        grads = (tl.load(of, mask=valid, other=0.0).to(tl.float32),)
        for p in tl.static_range(1, P):
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            grads = grads + (g.to(tl.float32),)  # type: ignore[assignment]
        cell, u, beyond, per_width, clamped, table = _locate(
            t, ends, tables, tl.where(valid, i, 0), valid, row_of_ends, row_of_tables,
            K, G, UNIFORM, TAILS,
        )  # fmt: skip
        base = base_and_slope(t, clamped, TAILS)[0]
        found = _splines_and_slopes(cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
        start = cell + 1 - first
        splines = _rotated(found[0], start, K, C)
        more = (zero,)  # and the new totals behind it
        for j in tl.static_range(0, FUNCTIONS):
            here = (start <= j) & (start >= j - K)
            value = tl.where(here, splines[j % (K + 1)], 0.0)
            if j == 0:
                value = tl.where(first == 0, base, value)
            for p in tl.static_range(0, P):
                more = more + (totals[j * P + p] + value * grads[p],)  # type: ignore[assignment]
        totals = more[1:]  # type: ignore[assignment]
    own = partial + tl.program_id(0) * (C * P) + first * P
    store_sums(totals, own, first, C, P, FUNCTIONS)


class SplineFeatures(FusedFeatures):
    """Of a ``BSplineBasis``."""

    make, learn = _make, _learn
    basis: BSplineBasis

    @staticmethod
    def supports(basis: Basis) -> bool:
        return isinstance(basis, BSplineBasis) and basis.degree <= HIGHEST_DEGREE

    def _grid(self, start: int) -> tuple[Tensor | int, ...]:
        basis = self.basis
        ends, tables = basis.breaks.contiguous(), basis.polynomials.contiguous()
        own_ends = len(ends) > 1
        own_tables = not basis.uniform
        return (
            ends[start:] if own_ends else ends,
            ends.shape[1] if own_ends else 0,
            tables[start:] if own_tables else tables,
            tables[0].numel() if own_tables else 0,
        )

    def _constants(self) -> dict[str, Any]:
        basis = self.basis
        return {
            "K": basis.degree,
            "G": basis.grid_size,
            "UNIFORM": basis.uniform,
            "TAILS": NUMBER_OF_TAILS[basis.extrapolation],
        }
