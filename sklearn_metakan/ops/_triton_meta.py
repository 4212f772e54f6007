"""Fused kernels: weights from prompts through a meta-learner's hidden layer, and the way back.

``w = a (W_2 act(W_1 z + b_1) + b_2)`` for every edge; a is 1 without edge scale. A tile is
TILE edges; neither the hidden layer nor its gradient ever leaves the chip. Gradients of
the meta-learner are summed by every program on its own, then over programs: no atomics.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sklearn_metakan.ops._kernels import Weights

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource

MOST_HIDDEN, MOST_PROMPTS, MOST_FUNCTIONS = 128, 15, 64
# Launches, measured on an H200. Those that sum may not vary between runs: the order would.
_GENERATE = {"num_warps": 4}
_BY_INPUT, _BY_OUTPUT = (32, 4), (1, 256)  # inputs and outputs of a tile of edges
_GRADIENTS = {"num_warps": 2, "num_stages": 1}
_MOST_IN_TILE = 64  # edges; 86 us for 256 x 4096 edges, H = 32; with 128 and 4 warps 149 us
_ACTIVATIONS = {"relu": 0, "silu": 1, "tanh": 2, "sin": 3}


@triton.jit
def _sine(a):
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
        return _sine(a)


@triton.jit
def _hidden(z, edge, valid, w1, b1, H: tl.constexpr, HP: tl.constexpr, P: tl.constexpr,
            ACTIVATION: tl.constexpr):  # fmt: skip
    """act(W_1 z + b_1) and its slope, (TILE, HP); zero where there is no hidden unit."""
    h = tl.arange(0, HP)
    a = tl.zeros((1, HP), tl.float32) + tl.load(b1 + h, mask=h < H, other=0.0)[None, :]
    for p in tl.static_range(0, P):
        prompt = tl.load(z + edge * P + p, mask=valid, other=0.0)
        weight = tl.load(w1 + h * P + p, mask=h < H, other=0.0)
        a = a + prompt[:, None] * weight[None, :]
    return _activate(a, ACTIVATION)


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
    edge = i.to(tl.int64) * n_out + o
    hidden, _ = _hidden(z, edge, valid, w1, b1, H, HP, P, ACTIVATION)
    h = tl.arange(0, HP)[:, None]
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
def _gradients(
    z, scale, w1, b1, b2, w2, grad, function_of_grad, input_of_grad,
    z_grad, scale_grad, partial, n_in, n_out,
    P: tl.constexpr, H: tl.constexpr, C: tl.constexpr, HP: tl.constexpr, CP: tl.constexpr,
    PP: tl.constexpr, ACTIVATION: tl.constexpr, SCALED: tl.constexpr, PRECISION: tl.constexpr,
    OF_EDGES: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """From ``grad`` (functions, inputs, outputs) to prompts, scales and meta-learner.

    ``partial`` holds, a program: (CP, HP) of W_2, (HP, PP) of W_1 and, in column P, b_1,
    then (CP) of b_2.
    """
    h = tl.arange(0, HP)
    c = tl.arange(0, CP)
    columns = tl.arange(0, PP)
    there = (c[:, None] < C) & (h[None, :] < H)
    second = tl.load(w2 + c[:, None] * H + h[None, :], mask=there, other=0.0)
    of_w2 = tl.zeros((CP, HP), tl.float32)
    of_w1 = tl.zeros((HP, PP), tl.float32)
    of_b2 = tl.zeros((CP,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(n_in * n_out, TILE), tl.num_programs(0)):
        edge = tile * TILE + tl.arange(0, TILE).to(tl.int64)
        valid = edge < n_in * n_out
        at = (edge // n_out) * input_of_grad + edge % n_out
        hidden, slope = _hidden(z, edge, valid, w1, b1, H, HP, P, ACTIVATION)
        of_w = tl.load(
            grad + at[:, None] + c[None, :] * function_of_grad,
            mask=valid[:, None] & (c[None, :] < C), other=0.0,
        ).to(tl.float32)  # fmt: skip
        if SCALED:
            if OF_EDGES:
                w = tl.dot(hidden, tl.trans(second), input_precision=PRECISION)
                w += tl.load(b2 + c, mask=c < C, other=0.0)[None, :]
                tl.store(scale_grad + edge, tl.sum(of_w * w, axis=1), mask=valid)
            of_w *= tl.load(scale + edge, mask=valid, other=0.0)[:, None]
        of_b2 += tl.sum(of_w, axis=0)
        of_w2 = tl.dot(tl.trans(of_w), hidden, of_w2, input_precision=PRECISION)
        of_a = tl.dot(of_w, second, input_precision=PRECISION) * slope
        prompts = tl.load(
            z + edge[:, None] * P + columns[None, :],
            mask=valid[:, None] & (columns[None, :] < P), other=0.0,
        )  # fmt: skip
        prompts = tl.where(columns[None, :] == P, 1.0, prompts)
        of_w1 = tl.dot(tl.trans(of_a), prompts, of_w1, input_precision=PRECISION)
        if OF_EDGES:
            for p in tl.static_range(0, P):
                weight = tl.load(w1 + h * P + p, mask=h < H, other=0.0)
                of_z = tl.sum(of_a * weight[None, :], axis=1)
                tl.store(z_grad + edge * P + p, of_z, mask=valid)
    own = partial + tl.program_id(0) * (CP * HP + HP * PP + CP)
    at_w2 = own + c[:, None] * HP + h[None, :]
    tl.store(at_w2, tl.load(at_w2) + of_w2)
    at_w1 = own + CP * HP + h[:, None] * PP + columns[None, :]
    tl.store(at_w1, tl.load(at_w1) + of_w1)
    at_b2 = own + CP * HP + HP * PP + c
    tl.store(at_b2, tl.load(at_b2) + of_b2)


@triton.jit
def _copy(
    source, function_of_source, input_of_source, output_of_source,
    out, function_of_out, input_of_out, output_of_out, n_in, n_out,
    P: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """P functions of n_in times n_out edges from one layout and dtype into another."""
    i = (tl.program_id(0) * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[:, None]
    o = (tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)).to(tl.int64)[None, :]
    valid = (i < n_in) & (o < n_out)
    of = source + i * input_of_source + o * output_of_source
    to = out + i * input_of_out + o * output_of_out
    for p in tl.static_range(0, P):
        value = tl.load(of + p * function_of_source, mask=valid, other=0.0)
        tl.store(to + p * function_of_out, value.to(out.dtype.element_ty), mask=valid)


def _padded(size: int) -> int:
    """To a power of two, and what the matrix units take at least."""
    return max(16, triton.next_power_of_2(size))


class _FusedWeights(Weights):
    """Weights of a block in a layout of ours: K is (C or p, b)."""

    functions_first = True

    def __init__(
        self,
        source: "CoefficientSource",
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        functions: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(source, by_input, shared)
        self.functions, self.dtype = functions, dtype

    @property
    def numbers_per_input(self) -> int:
        return 2 * self.functions * self.source.out_features

    def make(self, inputs: slice) -> Tensor:
        """(K, out) with K contiguous: what products in TF32 on a card want of both factors."""
        k = (inputs.stop - inputs.start) * self.functions
        return self._write(inputs, self._new(self.source.out_features, k).T)

    def remake(self, inputs: slice) -> Tensor:
        """(K, out) with out contiguous, for products that sum over it."""
        k = (inputs.stop - inputs.start) * self.functions
        return self._write(inputs, self._new(k, self.source.out_features))

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        k = (inputs.stop - inputs.start) * self.functions
        dtype = self.dtype if one_product else torch.float32  # where products add up
        return self._new(k, self.source.out_features, dtype=dtype)

    def _new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return self.by_input[0].new_empty(shape, dtype=dtype or self.dtype)

    def _strides(self, weights: Tensor, inputs: slice) -> tuple[int, int, int]:
        """Of functions, inputs and outputs in (K, out)."""
        one, output = weights.stride()
        return (inputs.stop - inputs.start) * one, one, output

    def _write(self, inputs: slice, out: Tensor) -> Tensor:
        raise NotImplementedError


class LinearWeights(_FusedWeights):
    """Of a linear meta-learner: the prompts (in, out, p) themselves."""

    def _write(self, inputs: slice, out: Tensor) -> Tensor:
        prompts = self.by_input[0].detach()
        self._copy(prompts[inputs], _edge_strides(prompts), out, self._strides(out, inputs), inputs)
        return out

    def new_gradient(self, inputs: slice, one_product: bool) -> Tensor:
        if self.functions == 1:  # laid out as the prompts are: the gradient is written in place
            return self._grad(0)[inputs].flatten(1)
        return super().new_gradient(inputs, one_product)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        if self.functions > 1:
            into = self._grad(0)
            strides = self._strides(gradient, inputs)
            self._copy(gradient, strides, into[inputs], _edge_strides(into), inputs)

    def _copy(self, source: Tensor, its: Any, out: Tensor, strides: Any, inputs: slice) -> None:
        n_in, n_out = inputs.stop - inputs.start, self.source.out_features
        _copy[triton.cdiv(n_in, 32), triton.cdiv(n_out, 32)](
            source, *its, out, *strides, n_in, n_out, P=self.functions, INPUTS=32, OUTPUTS=32
        )


def _edge_strides(prompts: Tensor) -> tuple[int, int, int]:
    """Of functions, inputs and outputs in (in, out, p)."""
    inputs, outputs, functions = prompts.stride()
    return functions, inputs, outputs


class MetaWeights(_FusedWeights):
    """Of a meta-learner with a hidden layer: ``source.scaled(shared)`` = W_1, b_1, b_2, W_2."""

    def __init__(
        self,
        source: "CoefficientSource",
        by_input: Sequence[Tensor],
        shared: Sequence[Tensor],
        dtype: torch.dtype,
        precision: str,
        programs: int,
    ) -> None:
        self.scaled = source.scaled(shared)
        functions, self.hidden_dim = self.scaled[3].shape
        super().__init__(source, by_input, shared, functions, dtype)
        self.precision, self.programs = precision, programs
        self.own = [t.detach().contiguous() for t in self.scaled]
        self._partial: Tensor | None = None
        self._shared_learn = any(t.requires_grad for t in shared)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """CP, HP, PP: functions, hidden units and prompt, a one beside it, padded."""
        p = self.by_input[0].shape[2]
        return _padded(self.functions), _padded(self.hidden_dim), _padded(p + 1)

    def _constants(self) -> dict[str, Any]:
        functions, hidden, _ = self._sizes
        return {
            "P": self.by_input[0].shape[2], "H": self.hidden_dim, "C": self.functions,
            "HP": hidden, "CP": functions, "PRECISION": self.precision,
            "ACTIVATION": _ACTIVATIONS[str(self.source.activation)],
            "SCALED": len(self.by_input) > 1,
        }  # fmt: skip

    def _edges(self, inputs: slice) -> tuple[Tensor, Tensor]:
        blocks = [t.detach()[inputs].contiguous() for t in self.by_input]
        return blocks[0], blocks[-1]

    def _write(self, inputs: slice, out: Tensor) -> Tensor:
        n_in, n_out = inputs.stop - inputs.start, self.source.out_features
        side, other = _BY_INPUT if out.stride(0) == 1 else _BY_OUTPUT
        _generate[triton.cdiv(n_in, side), triton.cdiv(n_out, other)](
            *self._edges(inputs), *self.own, out, *self._strides(out, inputs), n_in, n_out,
            **self._constants(), INPUTS=side, OUTPUTS=other, **_GENERATE,
        )  # fmt: skip
        return out

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        functions, hidden, columns = self._sizes
        if self._partial is None:
            size = functions * hidden + hidden * columns + functions
            self._partial = self.by_input[0].new_zeros(self.programs, size)
        of_edges = any(t.requires_grad for t in self.by_input)
        into = [
            self._grad(k)[inputs] if of_edges else self._partial for k in range(len(self.by_input))
        ]
        strides = self._strides(gradient, inputs)
        _gradients[self.programs,](
            *self._edges(inputs), *self.own, gradient, *strides[:2],
            into[0], into[-1], self._partial, inputs.stop - inputs.start,
            self.source.out_features, **self._constants(), PP=columns, OF_EDGES=of_edges,
            TILE=max(16, min(_MOST_IN_TILE, 8192 // hidden)), **_GRADIENTS,
        )  # fmt: skip

    def finish(self) -> list[Tensor | None]:
        if self._partial is not None and self._shared_learn:
            totals = zip(self.scaled, self._totals(self._partial.sum(0)), strict=True)
            learning = [(t, total) for t, total in totals if t.requires_grad]
            torch.autograd.backward([t for t, _ in learning], [total for _, total in learning])
        pairs = zip(self.grads, self.by_input, strict=True)
        return [grad if t.requires_grad else None for grad, t in pairs]

    def _totals(self, total: Tensor) -> list[Tensor]:
        """Gradients of W_1, b_1, b_2 and W_2."""
        functions, hidden, columns = self._sizes
        c, h, p = self.functions, self.hidden_dim, self.by_input[0].shape[2]
        of_w2, of_w1, of_b2 = total.split([functions * hidden, hidden * columns, functions])
        first = of_w1.view(hidden, columns)[:h]
        second = of_w2.view(functions, hidden)[:c, :h]
        return [first[:, :p], first[:, p : p + 1], of_b2[:c, None], second]
