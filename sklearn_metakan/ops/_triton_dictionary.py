"""The gradient of a dictionary: features times the gradient of what they are combined to."""

import triton
import triton.language as tl

from sklearn_metakan.ops._triton_basis import base_and_slope, locate, rotated, splines_and_slopes

TILES_OF_A_PROGRAM = 4  # at least, where sums over values are shared out
LAUNCH = {"ROWS": 4, "INPUTS": 64, "num_warps": 2, "num_stages": 1}  # the order of sums is fixed
MOST_SUMS = 64  # of a place in a tile; they stay in registers


@triton.jit
def dictionary_gradient(
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
    for j in tl.static_range(0, FUNCTIONS):
        for p in tl.static_range(0, P):
            at = own + (j * P + p)
            total = tl.sum(tl.sum(totals[j * P + p], axis=1), axis=0)
            tl.store(at, tl.load(at, mask=first + j < C, other=0.0) + total, mask=first + j < C)
