"""Fused kernels: B-splines and silu, the way back to x, and a dictionary's part in both.

A tile is some rows times some inputs. The k + 1 splines that do not vanish at an x are
polynomials in its local coordinate u, from the tables of ``BSplineBasis``; see there for
the formulas, which are the same.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.ops._kernels import Features

HIGHEST_DEGREE = 5
_TAILS = {"linear": 0, "base": 1, "constant": 2}
# Launches, measured on an H200; the order of sums may not vary between runs.
_TILE = {"ROWS": 16, "INPUTS": 32, "num_warps": 4}
TILES_OF_A_PROGRAM = 4  # at least, where sums over values are shared out
_SUMS = {"ROWS": 4, "INPUTS": 64, "num_warps": 2, "num_stages": 1}
_MOST_SUMS = 64  # of a place in a tile; they stay in registers


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
    clamped = x if TAILS == 1 else tl.where(x < low, low, tl.where(x > high, high, x))
    return cell, inside, u - inside, 1.0 / width, clamped, table


@triton.jit
def _base(x, clamped, TAILS: tl.constexpr):
    """silu and its derivative, continued like the splines."""
    sigmoid = tl.sigmoid(clamped)
    slope = sigmoid + clamped * sigmoid * tl.sigmoid(-clamped)
    value = clamped * sigmoid
    if TAILS == 0:
        value += (x - clamped) * slope
    if TAILS == 2:
        slope = tl.where(x == clamped, slope, 0.0)
    return value, slope


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
def _splines(cell, u, beyond, per_width, table, valid, K: tl.constexpr, C: tl.constexpr,
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
def _features(
    x, row_of_x, out, row_of_out, input_of_out, function_of_out,
    grad, row_of_grad, input_of_grad, function_of_grad, x_grad, row_of_x_grad,
    ends, row_of_ends, tables, row_of_tables, dictionary, n, b,
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
    cell, u, beyond, per_width, clamped, table = _locate(
        t, ends, tables, i_or_0, valid, row_of_ends, row_of_tables, K, G, UNIFORM, TAILS
    )
    base, base_slope = _base(t, clamped, TAILS)
    to = out + r * row_of_out + i * input_of_out
    of = grad + r * row_of_grad + i * input_of_grad
    result = tl.zeros_like(t)
    splines, slopes = _splines(cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
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
        values = values + (value.to(out.dtype.element_ty),)  # type: ignore[assignment]
        if VALUES and not PAIRED:
            tl.store(to + p * function_of_out, values[p + 1], mask=valid)
        if WAY_BACK:
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            result += g.to(tl.float32) * slope
    if VALUES and PAIRED:  # written apart, each would fill half of what memory takes at once
        column = (tl.program_id(1) * (2 * INPUTS) + tl.arange(0, 2 * INPUTS)).to(tl.int64)[None, :]
        pairs = tl.interleave(values[1], values[2])  # type: ignore[misc]
        tl.store(out + r * row_of_out + column, pairs, mask=(r < n) & (column < 2 * b))
    if WAY_BACK:
        tl.store(x_grad + r * row_of_x_grad + i, result, mask=valid)


@triton.jit
def _dictionary_gradient(
    x, row_of_x, grad, row_of_grad, input_of_grad, function_of_grad,
    ends, row_of_ends, tables, row_of_tables, partial, n, b,
    K: tl.constexpr, G: tl.constexpr, P: tl.constexpr, UNIFORM: tl.constexpr,
    TAILS: tl.constexpr, FUNCTIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """``sum_ni B_c(x_ni) grad_nip``: a program adds its tiles to its own (C, P).

    It does so for FUNCTIONS of the c, each place of a tile on its own until the last tile.
    """
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
        cell, u, beyond, per_width, clamped, table = _locate(
            t, ends, tables, tl.where(valid, i, 0), valid, row_of_ends, row_of_tables,
            K, G, UNIFORM, TAILS,
        )  # fmt: skip
        base = _base(t, clamped, TAILS)[0]
        splines = _splines(cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)[0]
        start = cell + 1 - first
        splines = _rotated(splines, start, K, C)
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
    for j in tl.static_range(0, FUNCTIONS):
        for p in tl.static_range(0, P):
            at = own + (j * P + p)
            total = tl.sum(tl.sum(totals[j * P + p], axis=1), axis=0)
            tl.store(at, tl.load(at, mask=first + j < C, other=0.0) + total, mask=first + j < C)


def supports(basis: BSplineBasis, derivative: int) -> bool:
    """Whether the kernels here can evaluate it."""
    return (
        derivative == 0
        and basis.degree <= HIGHEST_DEGREE
        and basis.extrapolation in _TAILS
        and basis.breaks.dtype == torch.float32
    )


class SplineFeatures(Features):
    """``Features`` of a ``BSplineBasis`` in one kernel each way, values in ``dtype``."""

    rows_last = False
    basis: BSplineBasis

    def __init__(
        self,
        basis: BSplineBasis,
        dictionary: Tensor | None,
        functions_first: bool,
        dtype: torch.dtype,
        programs: int,
        sums_along_rows: bool = True,
    ) -> None:
        super().__init__(basis, 0, dictionary, functions_first)
        self.dtype, self.programs, self.sums_along_rows = dtype, programs, sums_along_rows
        self._partial: Tensor | None = None
        self._dictionary = None if dictionary is None else dictionary.detach().contiguous()

    @property
    def width(self) -> int:
        """Features of an input: C, or the functions of the dictionary."""
        return self.basis.n_functions if self.dictionary is None else self.dictionary.shape[1]

    @property
    def numbers_per_value(self) -> int:
        return 2 * self.width

    def values(self, x: Tensor, start: int) -> Tensor:
        out = x.new_empty(len(x), x.shape[1] * self.width, dtype=self.dtype)
        self._launch(x, start, out, None, None)
        return out

    def backward(
        self,
        x: Tensor,
        start: int,
        grad: Tensor | None,
        x_grad: Tensor | None,
        wants_values: bool,
    ) -> Tensor | None:
        out = None
        if wants_values:
            k = x.shape[1] * self.width
            shape = (k, len(x)) if self.sums_along_rows else (len(x), k)
            out = x.new_empty(shape, dtype=self.dtype)
            out = out.T if self.sums_along_rows else out
        if wants_values or x_grad is not None:
            self._launch(x, start, out, grad, x_grad)
        if self.learns and grad is not None:
            self._learn(x, start, grad)
        return out

    def finish(self) -> None:
        if self._partial is not None and self.dictionary is not None:
            self.dictionary.backward(self._partial.sum(0))

    def _strides(self, features: Tensor, inputs: int) -> tuple[int, int, int]:
        """Of rows, inputs and functions in (r, K)."""
        row, one = features.stride()
        return (row, one, inputs * one) if self.functions_first else (row, self.width * one, one)

    def _grid(self, start: int) -> tuple[Tensor, int, Tensor, int]:
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
            "P": 0 if self.dictionary is None else self.dictionary.shape[1],
            "UNIFORM": basis.uniform,
            "TAILS": _TAILS[basis.extrapolation],
        }

    def _launch(
        self, x: Tensor, start: int, out: Tensor | None, grad: Tensor | None, x_grad: Tensor | None
    ) -> None:
        n, inputs = x.shape
        x = x if x.stride(1) == 1 else x.contiguous()
        way_back = x_grad is not None
        out_or_x = x if out is None else out
        grad_or_x = x if grad is None or not way_back else grad
        found = x if x_grad is None else x_grad
        strides = self._strides(out_or_x, inputs)
        _features[triton.cdiv(n, _TILE["ROWS"]), triton.cdiv(inputs, _TILE["INPUTS"])](
            x, x.stride(0),
            out_or_x, *strides,
            grad_or_x, *self._strides(grad_or_x, inputs),
            found, found.stride(0),
            *self._grid(start),
            x if self._dictionary is None else self._dictionary,
            n, inputs, **self._constants(),
            VALUES=out is not None, WAY_BACK=way_back,
            PAIRED=self.width == strides[1] == 2 and strides[2] == 1, **_TILE,
        )  # fmt: skip

    def _learn(self, x: Tensor, start: int, grad: Tensor) -> None:
        n, inputs = x.shape
        x = x if x.stride(1) == 1 else x.contiguous()
        functions, width = self.basis.n_functions, self.width
        if self._partial is None:
            programs = triton.cdiv(n * inputs, _SUMS["ROWS"] * _SUMS["INPUTS"] * TILES_OF_A_PROGRAM)
            self._partial = x.new_zeros(min(self.programs, programs), functions, width)
        parts = triton.cdiv(functions * width, _MOST_SUMS)
        of_part = triton.cdiv(functions, parts)
        _dictionary_gradient[len(self._partial), triton.cdiv(functions, of_part)](
            x, x.stride(0), grad, *self._strides(grad, inputs), *self._grid(start),
            self._partial, n, inputs, **self._constants(), FUNCTIONS=of_part, **_SUMS,
        )  # fmt: skip
