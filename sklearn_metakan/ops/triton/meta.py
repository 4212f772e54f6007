"""Fused kernels: weights from prompts through a meta-learner's hidden layer, and the way back.

``w = a (W_2 act(W_1 z + b_1) + b_2)`` for every edge; a is 1 without edge scale. A tile is
TILE edges; neither the hidden layer nor its gradient ever leaves the chip. Gradients of
the meta-learner are summed by every program on its own, then over programs: no atomics.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.ops.plain.weights import (
    GeneratedWeights,
    copy_edges,
    edges_last,
    new_edges_last,
)
from sklearn_metakan.ops.source import CoefficientSource

# As the kernels know them.
ACTIVATION_NUMBERS = {"relu": 0, "silu": 1, "tanh": 2, "sin": 3}
MOST_HIDDEN, MOST_PROMPTS, MOST_FUNCTIONS = 128, 15, 64
# Launches, measured on an H200. Those that sum may not vary between runs: the order would.
# Inputs and outputs of a tile of edges, and warps, for weights with inputs or outputs next to
# each other. 512 x 4096 edges, H = 32, relu: 36 and 31 us, as for others 45 and 37.
_OF_RELU = ((64, 4), (1, 256), 2)
_OF_OTHERS = ((32, 4), (1, 256), 4)
_MOST_HIDDEN_OF_RELU = 32
# Of the gradients: 256 x 4096 edges, H = 32, p = 1: relu 56 us (two stages 120), sine 191.
_MOST_IN_TILE, _NUMBERS_IN_TILE = 32, 2048  # edges; numbers of their hidden layer
_NUMBERS_OF_A_WARP = 512
_MOST_BY_COLUMN = 1  # prompt dimensions; with p = 2 the sums of tiles take 92 us, else 142


@triton.jit
def sine(a):
    """sin and cos together, to 1e-7 for |a| < 1e4: the library's two take ten times as long.

    a less a multiple of pi / 2, which is split in three, then polynomials on [-pi/4, pi/4];
    Cody and Waite, "Software Manual for the Elementary Functions" (1980).
    """
    turns = tl.floor(a * 0.6366197723675814 + 0.5)
    r = ((a - turns * 1.5703125) - turns * 4.8375129699707031e-4) - turns * 7.5497899548918822e-8
    z = r * r
    sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r
    cosine = (2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2
    cosine = cosine * z * z - 0.5 * z + 1.0
    quarter = turns.to(tl.int32) & 3
    swapped = (quarter & 1) != 0
    first = tl.where(swapped, cosine, sine)
    second = tl.where(swapped, sine, cosine)
    first = tl.where((quarter & 2) != 0, -first, first)
    second = tl.where(((quarter + 1) & 2) != 0, -second, second)
    return first, second


@triton.jit
def _activate(a, ACTIVATION: tl.constexpr):
    """The activation and its derivative."""
    if ACTIVATION == 0:
        return tl.where(a > 0.0, a, 0.0 * a), tl.where(a > 0.0, 1.0, 0.0)
    elif ACTIVATION == 1:
        sigmoid = tl.sigmoid(a)
        return a * sigmoid, sigmoid + a * sigmoid * tl.sigmoid(-a)
    elif ACTIVATION == 2:
        tanh = 2.0 * tl.sigmoid(2.0 * a) - 1.0
        return tanh, 1.0 - tanh * tanh
    else:
        return sine(a)


@triton.jit
def _vectors(start, apart, mask, P: tl.constexpr):
    """P numbers, so far ``apart``, from every address on, as a tuple; zero where masked."""
    numbers = (tl.load(start, mask=mask, other=0.0),)
    for p in tl.static_range(1, P):
        numbers = numbers + (tl.load(start + p * apart, mask=mask, other=0.0),)  # type: ignore[assignment]
    return numbers


@triton.jit
def _generate(
    z, scale, w1, b1, b2, w2, out, function_of_out, input_of_out, output_of_out, n_in, n_out,
    P: tl.constexpr, H: tl.constexpr, C: tl.constexpr, HP: tl.constexpr, CP: tl.constexpr,
    ACTIVATION: tl.constexpr, SCALED: tl.constexpr, PRECISION: tl.constexpr,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Weights of n_in times n_out edges into ``out``; its inputs lie next to each other."""
    e = tl.arange(0, INPUTS * OUTPUTS)
    i = tl.program_id(0) * INPUTS + e % INPUTS
    o = tl.program_id(1) * OUTPUTS + e // INPUTS
    valid = (i < n_in) & (o < n_out)
    outputs = tl.cast(n_out, tl.int64)
    edge = i * outputs + o
    prompts = z + (i * (P * outputs) + o)
    h = tl.arange(0, HP)
    a = tl.zeros((1, HP), tl.float32) + tl.load(b1 + h, mask=h < H, other=0.0)[None, :]
    for p in tl.static_range(0, P):  # loads along one axis: half as long again with two
        prompt = tl.load(prompts + p * outputs, mask=valid, other=0.0)
        weight = tl.load(w1 + h * P + p, mask=h < H, other=0.0)
        a = a + prompt[:, None] * weight[None, :]
    hidden, _ = _activate(a, ACTIVATION)
    h = h[:, None]
    c = tl.arange(0, CP)[None, :]
    second = tl.load(w2 + c * H + h, mask=(h < H) & (c < C), other=0.0)
    w = tl.dot(hidden, second, input_precision=PRECISION)
    w += tl.load(b2 + c, mask=c < C, other=0.0)
    if SCALED:
        w *= tl.load(scale + edge, mask=valid, other=0.0)[:, None]
    at = i.to(tl.int64) * input_of_out + o.to(tl.int64) * output_of_out
    to = out + at[:, None] + c.to(tl.int64) * function_of_out
    tl.store(to, w.to(out.dtype.element_ty), mask=valid[:, None] & (c < C))


@triton.jit
def _add(total, tile, BY_COLUMN: tl.constexpr):
    """A tile added to the total: its columns one by one, or their sum."""
    if BY_COLUMN:
        return total + tile
    return total + tl.sum(tile, axis=1, keep_dims=True)


@triton.jit
def _gradients(
    z, scale, w1, b1, b2, w2, grad, z_grad, scale_grad, partial, n,
    P: tl.constexpr, H: tl.constexpr, C: tl.constexpr, HP: tl.constexpr, CP: tl.constexpr,
    ACTIVATION: tl.constexpr, SCALED: tl.constexpr, PRECISION: tl.constexpr,
    OF_EDGES: tl.constexpr, BY_COLUMN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """From ``grad`` (functions, n edges) to prompts, scales and meta-learner.

    Edges are columns, as they lie in ``grad``. ``partial`` holds, a program: (CP, HP) of W_2,
    P rows (HP) of W_1, one of b_1, (CP) of b_2. W_1 and b_1 are summed tile by tile, or
    BY_COLUMN until the end, which needs (HP, TILE) numbers for each of their columns.
    """
    column = tl.arange(0, TILE).to(tl.int64)[None, :]
    edges = tl.cast(n, tl.int64)
    h = tl.arange(0, HP)[:, None]
    c = tl.arange(0, CP)[:, None]
    weights = _vectors(w1 + h * P, 1, h < H, P)
    bias = tl.load(b1 + h, mask=h < H, other=0.0)
    of_first = tl.arange(0, CP)[None, :]
    second = tl.load(w2 + of_first * H + h, mask=(of_first < C) & (h < H), other=0.0)
    last_bias = tl.load(b2 + c, mask=c < C, other=0.0)
    of_w2 = tl.zeros((CP, HP), tl.float32)
    of_b2 = tl.zeros((CP, TILE), tl.float32)
    width: tl.constexpr = TILE if BY_COLUMN else 1
    sums = (tl.zeros((HP, width), tl.float32),)
    for _ in tl.static_range(0, P):
        sums = sums + (tl.zeros((HP, width), tl.float32),)  # type: ignore[assignment]
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        edge = tile * TILE + column
        valid = edge < n
        prompts = _vectors(z + edge, edges, valid, P)
        at = c * edges + edge
        of_w = tl.load(grad + at, mask=valid & (c < C), other=0.0).to(tl.float32)
        a = bias + prompts[0] * weights[0]
        for p in tl.static_range(1, P):
            a = a + prompts[p] * weights[p]
        hidden, slope = _activate(a, ACTIVATION)
        of_hidden = tl.dot(second, of_w, input_precision=PRECISION)
        if SCALED:
            if OF_EDGES:
                of_scale = tl.sum(of_hidden * hidden, axis=0, keep_dims=True)
                of_scale += tl.sum(of_w * last_bias, axis=0, keep_dims=True)
                tl.store(scale_grad + edge, of_scale, mask=valid)
            factor = tl.load(scale + edge, mask=valid, other=0.0)
            of_w *= factor
            of_hidden *= factor
        of_b2 += of_w
        of_w2 = tl.dot(of_w, tl.trans(hidden), of_w2, input_precision=PRECISION)
        of_a = of_hidden * slope
        more = (_add(sums[0], of_a * prompts[0], BY_COLUMN),)
        for p in tl.static_range(1, P):
            more = more + (_add(sums[p], of_a * prompts[p], BY_COLUMN),)  # type: ignore[assignment]
        sums = more + (_add(sums[P], of_a, BY_COLUMN),)  # type: ignore[assignment]
        if OF_EDGES:
            for p in tl.static_range(0, P):
                of_z = tl.sum(of_a * weights[p], axis=0, keep_dims=True)
                tl.store(z_grad + (p * edges + edge), of_z, mask=valid)
    own = partial + tl.program_id(0) * (CP * HP + (P + 1) * HP + CP)
    to = own + c * HP + tl.arange(0, HP)[None, :]
    tl.store(to, tl.load(to) + of_w2)
    own += CP * HP
    for p in tl.static_range(0, P + 1):
        to = own + p * HP + h
        tl.store(to, tl.load(to) + tl.sum(sums[p], axis=1, keep_dims=True))
    to = own + (P + 1) * HP + c
    tl.store(to, tl.load(to) + tl.sum(of_b2, axis=1, keep_dims=True))


def _padded(size: int) -> int:
    """To a power of two, and what the matrix units take at least."""
    return max(16, triton.next_power_of_2(size))


def fits(by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> bool:
    """Whether the meta-learner is small enough to stay on the chip."""
    (functions, hidden), p = shared[-1].shape, by_input[0].shape[1]
    return hidden <= MOST_HIDDEN and functions <= MOST_FUNCTIONS and p <= MOST_PROMPTS


class FusedMetaWeights(GeneratedWeights):
    """Weights of a block in a layout of ours: K is (C, b)."""

    def __init__(
        self,
        source: CoefficientSource,
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        dtype: torch.dtype,
        precision: str,
        programs: int,
    ) -> None:
        super().__init__(source, by_input, shared)
        self.dtype, self.precision, self.programs = dtype, precision, programs
        self._partial: Tensor | None = None

    def make(self, inputs: slice, way_back: bool = False) -> Tensor:
        """(K, out) with K contiguous: what products in TF32 on a card want of both factors.

        On the way back with out contiguous, for products that sum over it.
        """
        n_in, n_out = inputs.stop - inputs.start, self.source.out_features
        k = n_in * self.functions
        out = self._new(k, n_out) if way_back else self._new(n_out, k).T
        small = self.source.activation == "relu" and self.hidden_dim <= _MOST_HIDDEN_OF_RELU
        by_input, by_output, warps = _OF_RELU if small else _OF_OTHERS
        side, other = by_input if out.stride(0) == 1 else by_output
        one, output_of_out = out.stride()
        _generate[triton.cdiv(n_in, side), triton.cdiv(n_out, other)](
            *self._edges(inputs), *self.detached, out, n_in * one, one, output_of_out, n_in, n_out,
            **self._constants(), INPUTS=side, OUTPUTS=other, num_warps=warps,
        )  # fmt: skip
        return out

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        k = (inputs.stop - inputs.start) * self.functions
        dtype = self.dtype if one_product else torch.float32  # where products add up
        return self._new(k, self.source.out_features, dtype=dtype)

    def _new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return self.by_input[0].new_empty(shape, dtype=dtype or self.dtype)

    @property
    def _sizes(self) -> list[int]:
        """Of W_2's, W_1's, b_1's and b_2's gradients in what a program sums."""
        functions, hidden = _padded(self.functions), _padded(self.hidden_dim)
        return [functions * hidden, self.prompt_dim * hidden, hidden, functions]

    def _constants(self) -> dict[str, Any]:
        return {
            "P": self.prompt_dim, "H": self.hidden_dim, "C": self.functions,
            "HP": _padded(self.hidden_dim), "CP": _padded(self.functions),
            "PRECISION": self.precision,
            "ACTIVATION": ACTIVATION_NUMBERS[str(self.source.activation)],
            "SCALED": len(self.by_input) > 1,
        }  # fmt: skip

    def _edges(self, inputs: slice) -> tuple[Tensor, Tensor]:
        blocks = [t.detach()[inputs].contiguous() for t in self.by_input]
        return blocks[0], blocks[-1]

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        if self._partial is None:
            self._partial = self.by_input[0].new_zeros(self.programs, sum(self._sizes))
        of_edges = self.edges_learn
        into = [
            self._grad(k)[inputs] if of_edges else self._partial for k in range(len(self.by_input))
        ]
        of_prompts = new_edges_last(into[0]) if of_edges else into[0]
        n = (inputs.stop - inputs.start) * self.source.out_features
        prompts, scale = self._edges(inputs)
        _gradients[self.programs,](
            edges_last(prompts), scale, *self.detached, gradient.contiguous(), of_prompts, into[-1],
            self._partial, n, **self._constants(), OF_EDGES=of_edges, **self._launch(),
        )  # fmt: skip
        if of_edges:
            copy_edges(of_prompts, into[0])

    def _launch(self) -> dict[str, Any]:
        """How ``_gradients`` sums: always the same, or else the order of sums would vary."""
        largest = max(_padded(self.functions), _padded(self.hidden_dim))
        tile = max(16, min(_MOST_IN_TILE, _NUMBERS_IN_TILE // largest))
        return {
            "BY_COLUMN": self.prompt_dim <= _MOST_BY_COLUMN,
            "TILE": tile,
            "num_warps": max(2, min(4, tile * largest // _NUMBERS_OF_A_WARP)),
            "num_stages": 1,
        }

    def finish(self) -> list[Tensor | None]:
        if self._partial is not None and self.shared_learn:
            functions, hidden = _padded(self.functions), _padded(self.hidden_dim)
            c, h = self.functions, self.hidden_dim
            of_w2, of_w1, of_b1, of_b2 = self._partial.sum(0).split(self._sizes)
            second = of_w2.view(functions, hidden)[:c, :h]
            first = of_w1.view(-1, hidden).T[:h]
            self.pass_on([first, of_b1[:h, None], of_b2[:c, None], second])
        return super().finish()
