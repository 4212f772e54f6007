"""Fused kernels: B-splines and silu, the way back to x, and a dictionary's part in both.

A tile is some rows times some inputs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.ops._kernels import Features
from sklearn_metakan.ops._triton_basis import (
    HIGHEST_DEGREE,
    NUMBER_OF_TAILS,
    base_and_slope,
    locate,
    rotated,
    splines_and_slopes,
)
from sklearn_metakan.ops._triton_dictionary import (
    LAUNCH,
    MOST_SUMS,
    TILES_OF_A_PROGRAM,
    dictionary_gradient,
)

_TILE = {"ROWS": 16, "INPUTS": 32, "num_warps": 4}  # measured on an H200


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


def supports(basis: BSplineBasis, derivative: int) -> bool:
    """Whether the kernels here can evaluate it."""
    return (
        derivative == 0
        and basis.degree <= HIGHEST_DEGREE
        and basis.extrapolation in NUMBER_OF_TAILS
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
        sums_along_rows: bool,
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
            n, k = len(x), x.shape[1] * self.width
            by_rows = self.sums_along_rows
            out = x.new_empty((k, n) if by_rows else (n, k), dtype=self.dtype)
            out = out.T if by_rows else out
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
            "P": 0 if self.dictionary is None else self.width,
            "UNIFORM": basis.uniform,
            "TAILS": NUMBER_OF_TAILS[basis.extrapolation],
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
            programs = triton.cdiv(
                n * inputs, LAUNCH["ROWS"] * LAUNCH["INPUTS"] * TILES_OF_A_PROGRAM
            )
            self._partial = x.new_zeros(min(self.programs, programs), functions, width)
        parts = triton.cdiv(functions * width, MOST_SUMS)
        of_part = triton.cdiv(functions, parts)
        dictionary_gradient[len(self._partial), triton.cdiv(functions, of_part)](
            x, x.stride(0), grad, *self._strides(grad, inputs), *self._grid(start),
            self._partial, n, inputs, **self._constants(), FUNCTIONS=of_part, **LAUNCH,
        )  # fmt: skip
