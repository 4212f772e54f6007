"""What kernels of features share: their tiles, how they are launched, what they write.

A tile is some rows times some inputs.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.plain.features import Features
from sklearn_metakan.ops.products import Product

# Numbers of a tile, the most inputs of it, and launches, measured on an H100. Those that sum may
# not vary between runs: the order would.
_TILE, _MOST_INPUTS, _LAUNCH = 512, 64, {"num_warps": 4}
_TILE_OF_SUMS, _LAUNCH_OF_SUMS = 256, {"num_warps": 2, "num_stages": 1}
TILES_OF_A_PROGRAM = 4  # at least, where sums over values are shared out
MOST_SUMS = 64  # of a place in a tile; they stay in registers
NUMBER_OF_TAILS = {"linear": 0, "base": 1, "constant": 2}


@triton.jit
def base_and_slope(x, clamped, TAILS: tl.constexpr):
    """silu and its derivative, continued like the other functions."""
    sigmoid = tl.sigmoid(clamped)
    slope = sigmoid + clamped * sigmoid * tl.sigmoid(-clamped)
    value = clamped * sigmoid
    if TAILS == 0:
        value += (x - clamped) * slope
    if TAILS == 2:
        slope = tl.where(x == clamped, slope, 0.0)
    return value, slope


@triton.jit
def store_combined(values, out, row_of_out, r, n, b, to, function_of_out, valid,
                   P: tl.constexpr, PAIRED: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    """The P features of a dictionary, which are ``values[1:]``."""
    if PAIRED:  # written apart, each would fill half of what memory takes at once
        k = (tl.program_id(1) * (2 * INPUTS) + tl.arange(0, 2 * INPUTS)).to(tl.int64)[None, :]
        pairs = tl.interleave(values[1], values[2]).to(out.dtype.element_ty)
        tl.store(out + r * row_of_out + k, pairs, mask=(r < n) & (k < 2 * b))
    else:
        for p in tl.static_range(0, P):
            value = values[p + 1].to(out.dtype.element_ty)
            tl.store(to + p * function_of_out, value, mask=valid)


@triton.jit
def store_sums(totals, own, first, C: tl.constexpr, P: tl.constexpr, FUNCTIONS: tl.constexpr):
    """Add a program's sums for FUNCTIONS functions to what it has, (C, P)."""
    for j in tl.static_range(0, FUNCTIONS):
        for p in tl.static_range(0, P):
            at = own + (j * P + p)
            total = tl.sum(tl.sum(totals[j * P + p], axis=1), axis=0)
            tl.store(at, tl.load(at, mask=first + j < C, other=0.0) + total, mask=first + j < C)


def _tile(numbers: int, inputs: int) -> dict[str, int]:
    """Its sides: no wider than a block of so few inputs needs."""
    side = min(_MOST_INPUTS, max(4, triton.next_power_of_2(inputs)))
    return {"ROWS": numbers // side, "INPUTS": side}


class FusedFeatures(Features, ABC):
    """``Features`` in one kernel each way, values in ``dtype``.

    A subclass names its two kernels. Both take x, then ``_grid``, the sizes n and b and
    ``_constants``: ``make`` values and x's gradient, ``learn`` the dictionary's gradient,
    ``sum_ni B_c(x_ni) grad_nip``, to which every program adds its tiles in its own (C, P).
    """

    rows_last = False
    make: Any
    learn: Any

    def __init__(
        self,
        basis: Basis,
        dictionary: Tensor | None,
        functions_first: bool,
        dtype: torch.dtype,
        programs: int,
        product: Product,
    ) -> None:
        super().__init__(basis, 0, dictionary, functions_first)
        self.dtype, self.programs, self.product = dtype, programs, product
        self.numbers_per_value, self.numbers_forward = 2 * self.functions, self.functions
        self._partial: Tensor | None = None

    @staticmethod
    @abstractmethod
    def supports(basis: Basis) -> bool:
        """Whether the kernels can evaluate it."""

    @abstractmethod
    def _grid(self, start: int) -> tuple[Tensor | int, ...]:
        """What the kernels need of the basis, for inputs from this one on."""

    @abstractmethod
    def _constants(self) -> dict[str, Any]:
        """Of the kernels: what the basis fixes."""

    def values(self, x: Tensor, start: int) -> Tensor:
        out = self._new(x)
        self._make(x, start, out, None, None)
        return out

    def backward(
        self, x: Tensor, start: int, grad: Tensor | None, x_grad: Tensor | None, wants_values: bool
    ) -> Tensor | None:
        out = self._new(x, self.product.sums_along_rows) if wants_values else None
        if wants_values or x_grad is not None:
            self._make(x, start, out, grad, x_grad)
        if self.learns and grad is not None:
            self._learn(x, start, grad)
        return out

    def finish(self) -> None:
        if self._partial is not None and self.dictionary is not None:
            self.dictionary.backward(self._partial.sum(0))

    def _new(self, x: Tensor, along_rows: bool = False) -> Tensor:
        """Room for features (r, K), zeros beyond K."""
        n, k = len(x), x.shape[1] * self.functions
        padded = self.product.padded(k)
        new = x.new_empty if padded == k else x.new_zeros
        made = new((padded, n) if along_rows else (n, padded), dtype=self.dtype)
        return made.T if along_rows else made

    def _strides(self, features: Tensor, inputs: int) -> tuple[int, int, int]:
        """Of rows, inputs and functions in (r, K)."""
        row, one = features.stride()
        apart = (one, inputs * one) if self.functions_first else (self.functions * one, one)
        return row, *apart

    def _make(
        self, x: Tensor, start: int, out: Tensor | None, grad: Tensor | None, x_grad: Tensor | None
    ) -> None:
        n, inputs = x.shape
        x = x if x.stride(1) == 1 else x.contiguous()
        way_back, combines = x_grad is not None, self._dictionary is not None
        out_or_x = x if out is None else out
        grad_or_x = x if grad is None or not way_back else grad
        found = x if x_grad is None else x_grad
        strides, tile = self._strides(out_or_x, inputs), _tile(_TILE, inputs)
        self.make[triton.cdiv(n, tile["ROWS"]), triton.cdiv(inputs, tile["INPUTS"])](
            x, x.stride(0),
            out_or_x, *strides,
            grad_or_x, *self._strides(grad_or_x, inputs),
            found, found.stride(0),
            x if self._dictionary is None else self._dictionary,
            *self._grid(start),
            n, inputs, **self._constants(), P=self.functions if combines else 0,
            VALUES=out is not None, WAY_BACK=way_back,
            PAIRED=combines and strides[1:] == (2, 1), **tile, **_LAUNCH,
        )  # fmt: skip

    def _learn(self, x: Tensor, start: int, grad: Tensor) -> None:
        n, inputs = x.shape
        x = x if x.stride(1) == 1 else x.contiguous()
        functions, width = self.basis.n_functions, self.functions
        if self._partial is None:
            programs = triton.cdiv(n * inputs, _TILE_OF_SUMS * TILES_OF_A_PROGRAM)
            programs = min(self.programs, programs)
            self._partial = x.new_zeros(programs, functions, width)
        parts = triton.cdiv(functions * width, MOST_SUMS)
        of_part = triton.cdiv(functions, parts)
        self.learn[len(self._partial), triton.cdiv(functions, of_part)](
            x, x.stride(0), grad, *self._strides(grad, inputs), self._partial,
            *self._grid(start),
            n, inputs, **self._constants(), P=width, FUNCTIONS=of_part,
            **_tile(_TILE_OF_SUMS, inputs), **_LAUNCH_OF_SUMS,
        )  # fmt: skip
