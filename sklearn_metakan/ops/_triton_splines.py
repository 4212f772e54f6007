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
_SUMS = {"TILE": 128, "num_warps": 4, "num_stages": 1}


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
def _features(
    x, row_of_x, out, row_of_out, input_of_out, function_of_out,
    grad, row_of_grad, input_of_grad, function_of_grad, x_grad, row_of_x_grad,
    ends, row_of_ends, tables, row_of_tables, dictionary, n, b,
    K: tl.constexpr, G: tl.constexpr, P: tl.constexpr, UNIFORM: tl.constexpr,
    TAILS: tl.constexpr, VALUES: tl.constexpr, WAY_BACK: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Features into ``out`` (VALUES), and x's gradient from theirs (WAY_BACK).

    P is 0, or the functions of a dictionary (C, P), which then are the features.
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
        for c in tl.static_range(1, C):
            value = tl.zeros_like(t)
            slope = tl.zeros_like(t)
            for a in tl.static_range(0, K + 1):
                here = cell == c - 1 - a
                value = tl.where(here, splines[a], value)
                slope = tl.where(here, slopes[a], slope)
            if VALUES:
                tl.store(to + c * function_of_out, value.to(out.dtype.element_ty), mask=valid)
            if WAY_BACK:
                g = tl.load(of + c * function_of_grad, mask=valid, other=0.0)
                result += g.to(tl.float32) * slope
    for p in tl.static_range(0, P):
        weight = tl.load(dictionary + p)
        value = weight * base
        slope = weight * base_slope
        for a in tl.static_range(0, K + 1):
            c = tl.where((cell + a >= 0) & (cell + a + 1 < C), cell + a + 1, 0)
            weights = tl.load(dictionary + c * P + p)
            value += weights * splines[a]
            slope += weights * slopes[a]
        if VALUES:
            tl.store(to + p * function_of_out, value.to(out.dtype.element_ty), mask=valid)
        if WAY_BACK:
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            result += g.to(tl.float32) * slope
    if WAY_BACK:
        tl.store(x_grad + r * row_of_x_grad + i, result, mask=valid)


@triton.jit
def _dictionary_gradient(
    x, row_of_x, grad, row_of_grad, input_of_grad, function_of_grad,
    ends, row_of_ends, tables, row_of_tables, partial, n, b,
    K: tl.constexpr, G: tl.constexpr, P: tl.constexpr, UNIFORM: tl.constexpr,
    TAILS: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, CP: tl.constexpr, PP: tl.constexpr,
):  # fmt: skip
    """``sum_ni B_c(x_ni) grad_nip``: every program adds its tiles to its own (CP, PP)."""
    C: tl.constexpr = 1 + G + K
    functions = tl.arange(0, CP)[None, :]
    columns = tl.arange(0, PP)[None, :]
    total = tl.zeros((CP, PP), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(n * b, TILE), tl.num_programs(0)):
        e = tile * TILE + tl.arange(0, TILE).to(tl.int64)
        valid = e < n * b
        r = tl.where(valid, e // b, 0)
        i = tl.where(valid, e % b, 0)
        t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
        cell, u, beyond, per_width, clamped, table = _locate(
            t, ends, tables, i, valid, row_of_ends, row_of_tables, K, G, UNIFORM, TAILS
        )
        base, _ = _base(t, clamped, TAILS)
        values = tl.where(functions == 0, base[:, None], 0.0)
        splines, _ = _splines(cell, u, beyond, per_width, table, valid, K, C, UNIFORM, TAILS)
        for a in tl.static_range(0, K + 1):
            here = (functions == (cell + a + 1)[:, None]) & (functions > 0)
            values = tl.where(here, splines[a][:, None], values)
        at = (r * row_of_grad + i * input_of_grad)[:, None] + columns * function_of_grad
        g = tl.load(grad + at, mask=valid[:, None] & (columns < P), other=0.0)
        total = tl.dot(tl.trans(values), g.to(tl.float32), total, input_precision=PRECISION)
    at = partial + tl.program_id(0) * (CP * PP) + tl.arange(0, CP)[:, None] * PP + columns
    tl.store(at, tl.load(at) + total)


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
        precision: str,
        programs: int,
    ) -> None:
        super().__init__(basis, 0, dictionary, functions_first)
        self.dtype, self.precision, self.programs = dtype, precision, programs
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
        if wants_values:  # rows last: the next product sums over them
            out = x.new_empty(x.shape[1] * self.width, len(x), dtype=self.dtype).T
        if wants_values or x_grad is not None:
            self._launch(x, start, out, grad, x_grad)
        if self.learns and grad is not None:
            self._learn(x, start, grad)
        return out

    def finish(self) -> None:
        if self._partial is not None and self.dictionary is not None:
            width = self.dictionary.shape[1]
            total = self._partial.sum(0)[: self.basis.n_functions, :width]
            self.dictionary.backward(total)

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
        _features[triton.cdiv(n, _TILE["ROWS"]), triton.cdiv(inputs, _TILE["INPUTS"])](
            x, x.stride(0),
            out_or_x, *self._strides(out_or_x, inputs),
            grad_or_x, *self._strides(grad_or_x, inputs),
            found, found.stride(0),
            *self._grid(start),
            x if self._dictionary is None else self._dictionary,
            n, inputs, **self._constants(),
            VALUES=out is not None, WAY_BACK=way_back, **_TILE,
        )  # fmt: skip

    def _learn(self, x: Tensor, start: int, grad: Tensor) -> None:
        n, inputs = x.shape
        x = x if x.stride(1) == 1 else x.contiguous()
        rows, columns = (max(16, triton.next_power_of_2(k)) for k in (
            self.basis.n_functions, self.width))  # fmt: skip
        if self._partial is None:
            programs = triton.cdiv(n * inputs, _SUMS["TILE"] * TILES_OF_A_PROGRAM)
            self._partial = x.new_zeros(min(self.programs, programs), rows, columns)
        _dictionary_gradient[len(self._partial),](
            x, x.stride(0), grad, *self._strides(grad, inputs), *self._grid(start),
            self._partial, n, inputs, **self._constants(), PRECISION=self.precision,
            CP=rows, PP=columns, **_SUMS,
        )  # fmt: skip
