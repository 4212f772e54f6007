"""Fused kernels of the smooth families: Gaussians, wavelets, polynomials, with silu."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.basis import Basis, PolynomialBasis, RBFBasis, WaveletBasis
from sklearn_metakan.ops.triton.features import (
    NUMBER_OF_TAILS,
    FusedFeatures,
    base_and_slope,
    store_combined,
    store_sums,
)
from sklearn_metakan.ops.triton.meta import sine

MOST_FUNCTIONS = 64  # written out in a kernel one by one
FAMILIES = {  # as the kernels know them; polynomials are the last
    "gaussian": 0,
    "mexican_hat": 1,
    "morlet": 2,
    "dog": 3,
    "shannon": 4,
    "legendre": 5,
    "chebyshev": 6,
    "gram": 7,
}


@triton.jit
def _place(x, ends, i, valid, row_of_ends, TAILS: tl.constexpr):
    """Clamped x, what lies beyond, u, which is -1 and 1 at the ends of the grid, and du/dx."""
    low = tl.load(ends + i * row_of_ends, mask=valid, other=-1.0)
    high = tl.load(ends + i * row_of_ends + 1, mask=valid, other=1.0)
    clamped = x if TAILS == 1 else tl.where(x < low, low, tl.where(x > high, high, x))
    rate = 2.0 / (high - low)
    return clamped, x - clamped, (clamped - (0.5 * low + 0.5 * high)) * rate, rate


@triton.jit
def _sinc(y):
    """``sin(y) / y`` and its derivative: quotients, and series where |y| < 1.

    Beyond 1e4, where sine has no digits left, both are off by at most twice their envelope 1/|y|.
    """
    near = tl.abs(y) < 1.0
    safe = tl.where(near, 1.0, y)
    within = tl.where(y < -1.0e4, -1.0e4, tl.where(y > 1.0e4, 1.0e4, y))
    s, c = sine(within)
    value = s / safe
    slope = (c - value) / safe
    q = y * y
    series = (((-1 / 39916800 * q + 1 / 362880) * q - 1 / 5040) * q + 1 / 120) * q - 1 / 6
    of_slope = (((-1 / 3991680 * q + 1 / 45360) * q - 1 / 840) * q + 1 / 30) * q - 1 / 3
    return tl.where(near, series * q + 1.0, value), tl.where(near, of_slope * y, slope)


@triton.jit
def _mother(z, FAMILY: tl.constexpr):
    """psi and its derivative, by ``RBFBasis`` (z = sqrt(2) (t - c_k) / h) and ``WaveletBasis``."""
    if FAMILY == 4:
        outer, outer_slope = _sinc(6.283185307179586 * z)
        inner, inner_slope = _sinc(3.141592653589793 * z)
        value = 2.0 * outer - inner
        slope = 12.566370614359172 * outer_slope - 3.141592653589793 * inner_slope
    else:
        z = tl.where(z < -40.0, -40.0, tl.where(z > 40.0, 40.0, z))  # beyond, g is 0
        g = tl.exp(-0.5 * z * z)
        if FAMILY == 0:
            value = g
            slope = -z * g
        elif FAMILY == 1:  # 2 / (sqrt(3) pi^(1/4))
            value = 0.8673250705840776 * (1.0 - z * z) * g
            slope = 0.8673250705840776 * (z * z - 3.0) * z * g
        elif FAMILY == 2:
            s, c = sine(5.0 * z)  # MORLET_FREQUENCY
            value = c * g
            slope = -(z * c + 5.0 * s) * g
        else:
            value = -z * g
            slope = (z * z - 1.0) * g
    return value, slope


@triton.jit
def _polynomials(u, rate, recurrence, D: tl.constexpr, FAMILY: tl.constexpr):
    """P_0 to P_D and their derivatives by x, by the recurrence in ``PolynomialBasis``."""
    if FAMILY == 5:
        t = u
        t_slope = rate + tl.zeros_like(u)
    else:  # tanh, with a series where 2 s - 1 would lose digits
        s = tl.sigmoid(2.0 * u)
        q = u * u
        series = (((-17 / 315 * q + 2 / 15) * q - 1 / 3) * q + 1.0) * u
        t = tl.where(tl.abs(u) < 0.2, series, 2.0 * s - 1.0)
        t_slope = 4.0 * rate * s * tl.sigmoid(-2.0 * u)
    before = tl.zeros_like(u)
    before_slope = tl.zeros_like(u)
    present = before + 1.0
    slope = tl.zeros_like(u)
    values = (present,)
    slopes = (slope,)
    for n in tl.static_range(0, D):
        a = tl.load(recurrence + 2 * n)
        c = tl.load(recurrence + 2 * n + 1)
        following = a * (t * present) - c * before
        following_slope = a * (t_slope * present + t * slope) - c * before_slope
        before, before_slope = present, slope
        present, slope = following, following_slope
        values = values + (present,)  # type: ignore[assignment]
        slopes = slopes + (slope,)  # type: ignore[assignment]
    return values, slopes


@triton.jit
def _function(c: tl.constexpr, x, clamped, beyond, u, rate, polynomials, slopes, table,
              C: tl.constexpr, G: tl.constexpr, FAMILY: tl.constexpr, SILU: tl.constexpr,
              TAILS: tl.constexpr):  # fmt: skip
    """Function c at x and its derivative, continued beyond the grid."""
    if SILU and c == 0:
        value, slope = base_and_slope(x, clamped, TAILS)
    else:
        if FAMILY >= 5:
            value = polynomials[c - SILU]
            slope = slopes[c - SILU]
        elif FAMILY == 0:
            per_u = G / 1.4142135623730951
            value, slope = _mother((u + 1.0) * per_u - 1.4142135623730951 * (c - SILU), FAMILY)
            slope = slope * (per_u * rate)
        elif c == SILU:  # the constant
            value = tl.zeros_like(u) + 1.0
            slope = tl.zeros_like(u)
        else:
            scale = tl.load(table + C + c)
            value, slope = _mother((u - tl.load(table + c)) / scale, FAMILY)
            slope = slope * (rate / scale)
        if TAILS == 0:
            value += beyond * slope
        if TAILS == 2:
            slope = tl.where((beyond < 0.0) | (beyond > 0.0), 0.0, slope)  # NaN stays
    return value, slope


@triton.jit
def _make(
    x, row_of_x, out, row_of_out, input_of_out, function_of_out,
    grad, row_of_grad, input_of_grad, function_of_grad, x_grad, row_of_x_grad,
    dictionary, ends, row_of_ends, table, n, b,
    C: tl.constexpr, G: tl.constexpr, P: tl.constexpr, FAMILY: tl.constexpr, SILU: tl.constexpr,
    TAILS: tl.constexpr, VALUES: tl.constexpr, WAY_BACK: tl.constexpr, PAIRED: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Features into ``out`` (VALUES), and x's gradient from theirs (WAY_BACK).

    P is 0, or the functions of a dictionary (C, P), which then are the features.
    """
    function_of_out = tl.cast(function_of_out, tl.int64)  # times c it may exceed 32 bits
    function_of_grad = tl.cast(function_of_grad, tl.int64)
    r = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    i = (tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
    valid = (r < n) & (i < b)
    t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
    clamped, beyond, u, rate = _place(t, ends, tl.where(valid, i, 0), valid, row_of_ends, TAILS)
    D: tl.constexpr = C - 1 - SILU if FAMILY >= 5 else 0
    polynomials, slopes = _polynomials(u, rate, table, D, FAMILY)
    to = out + r * row_of_out + i * input_of_out
    of = grad + r * row_of_grad + i * input_of_grad
    zero = tl.zeros_like(t)
    result = zero
    values = (zero,)  # and the features of a dictionary behind it
    grads = (zero,)
    for p in tl.static_range(0, P):
        values = values + (zero,)  # type: ignore[assignment]
        if WAY_BACK:
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            grads = grads + (g.to(tl.float32),)  # type: ignore[assignment]
    for c in tl.static_range(0, C):
        value, slope = _function(
            c, t, clamped, beyond, u, rate, polynomials, slopes, table, C, G, FAMILY, SILU, TAILS
        )
        g = zero
        if P == 0:
            if VALUES:
                tl.store(to + c * function_of_out, value.to(out.dtype.element_ty), mask=valid)
            if WAY_BACK:
                g = tl.load(of + c * function_of_grad, mask=valid, other=0.0).to(tl.float32)
        more = (zero,)
        for p in tl.static_range(0, P):
            weight = tl.load(dictionary + c * P + p)
            more = more + (values[p + 1] + weight * value,)  # type: ignore[assignment]
            if WAY_BACK:
                g += weight * grads[p + 1]
        values = more
        result += g * slope
    if VALUES and P > 0:
        store_combined(
            values, out, row_of_out, r, n, b, to, function_of_out, valid, P, PAIRED, INPUTS
        )
    if WAY_BACK:
        tl.store(x_grad + r * row_of_x_grad + i, result, mask=valid)


@triton.jit
def _learn(
    x, row_of_x, grad, row_of_grad, input_of_grad, function_of_grad,
    partial, ends, row_of_ends, table, n, b,
    C: tl.constexpr, G: tl.constexpr, P: tl.constexpr, FAMILY: tl.constexpr, SILU: tl.constexpr,
    TAILS: tl.constexpr, FUNCTIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """The dictionary's gradient, for FUNCTIONS of the c; places of a tile stay apart to the end."""
    part = tl.program_id(1)
    function_of_grad = tl.cast(function_of_grad, tl.int64)
    across = tl.cdiv(b, INPUTS)
    zero = tl.zeros((ROWS, INPUTS), tl.float32)
    totals = (zero,)
    for _ in tl.static_range(1, FUNCTIONS * P):
        totals = totals + (zero,)  # type: ignore[assignment]
    D: tl.constexpr = C - 1 - SILU if FAMILY >= 5 else 0
    for tile in range(tl.program_id(0), across * tl.cdiv(n, ROWS), tl.num_programs(0)):
        r = (tile // across * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        i = (tile % across * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
        valid = (r < n) & (i < b)
        t = tl.load(x + r * row_of_x + i, mask=valid, other=0.0)
        clamped, beyond, u, rate = _place(t, ends, tl.where(valid, i, 0), valid, row_of_ends, TAILS)
        polynomials, slopes = _polynomials(u, rate, table, D, FAMILY)
        of = grad + r * row_of_grad + i * input_of_grad
        grads = (tl.load(of, mask=valid, other=0.0).to(tl.float32),)
        for p in tl.static_range(1, P):
            g = tl.load(of + p * function_of_grad, mask=valid, other=0.0)
            grads = grads + (g.to(tl.float32),)  # type: ignore[assignment]
        more = (zero,)  # and the new totals behind it
        for j in tl.static_range(0, FUNCTIONS):
            value = zero
            # Only functions that are known in advance can be evaluated: one of each part.
            for q in tl.static_range(0, (C + FUNCTIONS - 1) // FUNCTIONS):
                if q * FUNCTIONS + j < C:
                    found = _function(
                        q * FUNCTIONS + j, t, clamped, beyond, u, rate, polynomials, slopes, table,
                        C, G, FAMILY, SILU, TAILS,
                    )  # fmt: skip
                    value = tl.where(part == q, found[0], value)
            for p in tl.static_range(0, P):
                more = more + (totals[j * P + p] + value * grads[p],)  # type: ignore[assignment]
        totals = more[1:]  # type: ignore[assignment]
    first = part * FUNCTIONS
    own = partial + tl.program_id(0) * (C * P) + first * P
    store_sums(totals, own, first, C, P, FUNCTIONS)


class SmoothFeatures(FusedFeatures):
    """Of an ``RBFBasis``, a ``WaveletBasis`` or a ``PolynomialBasis``."""

    make, learn = _make, _learn
    basis: RBFBasis | WaveletBasis | PolynomialBasis

    @staticmethod
    def supports(basis: Basis) -> bool:
        smooth = isinstance(basis, RBFBasis | WaveletBasis | PolynomialBasis)
        return smooth and basis.n_functions <= MOST_FUNCTIONS

    def _grid(self, start: int) -> tuple[Tensor | int, ...]:
        ends = self.basis.ends.contiguous()
        own = len(ends) > 1
        return ends[start:] if own else ends, 2 if own else 0, self._family[1]

    def _constants(self) -> dict[str, Any]:
        basis = self.basis
        return {
            "C": basis.n_functions,
            "G": basis.grid_size if isinstance(basis, RBFBasis) else 0,
            "FAMILY": FAMILIES[self._family[0]],
            "SILU": int(basis.has_silu),
            "TAILS": NUMBER_OF_TAILS[basis.extrapolation],
        }

    @property
    def _family(self) -> tuple[str, Tensor]:
        """Its name, and the table that its functions need, or any tensor."""
        match self.basis:
            case WaveletBasis() as basis:
                return basis.mother, basis.places
            case PolynomialBasis() as basis:
                return basis.polynomials, basis.recurrence
        return "gaussian", self.basis.ends
