"""Fused kernels: B-splines and silu, the way back to x, and a dictionary's part in both."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.ops._triton_basis import HIGHEST_DEGREE, locate, rotated, splines_and_slopes
from sklearn_metakan.ops._triton_features import (
    NUMBER_OF_TAILS,
    FusedFeatures,
    base_and_slope,
    store_combined,
    store_sums,
)


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
    r = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    i = (tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
    valid = (r < n) & (i < b)
    t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
    i_or_0 = tl.where(valid, i, 0)
    cell, u, beyond, per_width, clamped, table = locate(
        t, ends, tables, i_or_0, valid, row_of_ends, row_of_tables, K, G, UNIFORM, TAILS
    )
    base, base_slope = base_and_slope(t, clamped, TAILS)
    to = out + r * row_of_out + i * input_of_out
    of = grad + r * row_of_grad + i * input_of_grad
    result = tl.zeros_like(t)
    splines, slopes = splines_and_slopes(
        cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS
    )
    if P == 0:
        if WAY_BACK:
            result += tl.load(of, mask=valid, other=0.0).to(tl.float32) * base_slope
        if VALUES:
            tl.store(to, base.to(out.dtype.element_ty), mask=valid)
        splines = rotated(splines, cell + 1, K, C)
        slopes = rotated(slopes, cell + 1, K, C)
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
        cell, u, beyond, per_width, clamped, table = locate(
            t, ends, tables, tl.where(valid, i, 0), valid, row_of_ends, row_of_tables,
            K, G, UNIFORM, TAILS,
        )  # fmt: skip
        base = base_and_slope(t, clamped, TAILS)[0]
        found = splines_and_slopes(cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
        start = cell + 1 - first
        splines = rotated(found[0], start, K, C)
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


def supports(basis: BSplineBasis) -> bool:
    """Whether the kernels here can evaluate it."""
    return basis.degree <= HIGHEST_DEGREE


class SplineFeatures(FusedFeatures):
    """Of a ``BSplineBasis``."""

    make, learn = _make, _learn
    basis: BSplineBasis

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
