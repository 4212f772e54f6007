"""Weights under a ReLU meta-learner of one prompt: read from a table of lines, on a CPU.

For p = 1, ``M(z) = W_2 relu(W_1 z + b_1) + b_2`` is linear in z between its H kinks
``-b_1h / W_1h``. So ``M_c(z) = A_c[k] + B_c[k] z`` with k the number of kinks below z: exact, and
2 C numbers an edge are read from a small table instead of H made and C H multiplied. On the way
back the gradient is summed into the table over the edges of each piece, and passed on to the
meta-learner once. The time does not depend on H. The naive twin is ``MetaWeights``.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sklearn_metakan.ops.plain.weights import MetaWeights
from sklearn_metakan.ops.products import slices
from sklearn_metakan.ops.source import CoefficientSource

LEAST_EDGES = 2**14  # of a layer: below, the table takes longer than it saves
CELLS = 2**11  # of the index to the kinks
MOST_STEPS = 6  # kinks in one cell of the index; where there are more, a binary search


def is_piecewise(source: CoefficientSource, by_input: Sequence[Tensor]) -> bool:
    """Whether weights may be read from a table of lines, and are so many that it pays."""
    inputs, p, outputs = by_input[0].shape
    on_cpu = by_input[0].device.type == "cpu"
    return source.activation == "relu" and p == 1 and on_cpu and inputs * outputs >= LEAST_EDGES


class PiecewiseWeights(MetaWeights):
    """``MetaWeights`` where ``is_piecewise``; the index is made anew for every block."""

    @property
    def numbers_per_edge(self) -> int:
        return 2 * self.functions + 8

    def make(self, inputs: slice, way_back: bool = False) -> Tensor:
        prompts, scale = self._edges(inputs)
        made = prompts.new_empty(self.functions, prompts.shape[1])
        pieces = _Pieces(self._lines[0], prompts)
        for edges in slices(prompts.shape[1], self._tile):
            z = prompts[0, edges]
            weights = self._on_lines(pieces.of(z), z, made[:, edges])
            if scale is not None:
                weights.mul_(scale[edges])
        return made.view(-1, self.source.out_features)

    def backward(self, inputs: slice, gradient: Tensor) -> None:
        prompts, scale = self._edges(inputs)
        gradient = gradient.view(self.functions, -1)
        of_prompts, of_scale = self._edges_grad(inputs)
        pieces = _Pieces(self._lines[0], prompts)
        for edges in slices(prompts.shape[1], self._tile):
            z, grad = prompts[0, edges], gradient[:, edges]
            piece = pieces.of(z)
            if scale is not None:
                product = self._on_lines(piece, z, torch.empty_like(grad)).mul_(grad)
                torch.sum(product, 0, out=of_scale[edges])
                grad = torch.mul(grad, scale[edges], out=product)
            if self.edges_learn:
                self._of_prompts(piece, grad, of_prompts[0, edges])
            if self.shared_learn:
                where = piece.expand(self.functions, -1)
                found = torch.zeros_like(self._lines_grad)  # a tile's own: many small sums
                found[: self.functions].scatter_add_(1, where, grad)
                found[self.functions :].scatter_add_(1, where, grad * z)
                self._lines_grad += found

    def finish(self) -> list[Tensor | None]:
        if self._totals:
            self._lines[1].backward(self._lines_grad)
            self._totals = []  # all is in the table
        return super().finish()

    @cached_property
    def _lines(self) -> tuple[Tensor, Tensor]:
        """Kinks (H), sorted, and A over B, (2 C, H + 1)."""
        with torch.set_grad_enabled(self.shared_learn):
            return lines(*self.scaled)

    @cached_property
    def _lines_grad(self) -> Tensor:
        return torch.zeros_like(self._lines[1])

    def _on_lines(self, piece: Tensor, z: Tensor, out: Tensor) -> Tensor:
        """``A[k] + B[k] z``, (C, edges)."""
        intercepts, slopes = self._lines[1].detach().split(self.functions)
        for intercept, slope, row in zip(intercepts, slopes, out, strict=True):
            torch.index_select(intercept, 0, piece, out=row)
            row.addcmul_(slope.index_select(0, piece), z)
        return out

    def _of_prompts(self, piece: Tensor, grad: Tensor, out: Tensor) -> None:
        """``sum_c g_c B_c[k]``."""
        out.zero_()
        for slope, row in zip(self._lines[1].detach()[self.functions :], grad, strict=True):
            out.addcmul_(slope.index_select(0, piece), row)


def lines(w1: Tensor, b1: Tensor, b2: Tensor, w2: Tensor) -> tuple[Tensor, Tensor]:
    """Kinks of the H units, sorted, and intercepts over slopes of M's H + 1 pieces, (2 C, H + 1).

    Differentiable; w1 and b1 (H, 1), b2 (C, 1), w2 (C, H). A unit of slope 0 has no kink.
    """
    at = (-b1 / w1).detach()[:, 0].nan_to_num(torch.inf, torch.inf, -torch.inf)
    kinks, order = at.sort()
    pieces = torch.arange(len(kinks) + 1)
    rank = torch.empty_like(order).scatter_(0, order, pieces[:-1])
    above = rank[:, None] < pieces  # (H, H + 1): whether the piece lies above the unit's kink
    active = torch.where(w1 == 0, b1 > 0, above == (w1 > 0)).to(w1.dtype)
    return kinks, torch.cat([w2 @ (active * b1) + b2, w2 @ (active * w1)])


class _Pieces:
    """Counts the kinks below numbers from a range: exact, in a few passes without branches.

    Cells of equal width over the range of ``prompts`` say how many kinks lie in the cells before
    one's own; the kinks in the same cell are compared one after the other. A binary search takes
    four times as long, as the processor guesses its branches wrong.
    """

    def __init__(self, kinks: Tensor, prompts: Tensor) -> None:
        self.kinks = torch.cat([kinks, kinks.new_full((1,), torch.inf)])
        low, high = prompts.aminmax()
        self.low, self.rate = low, CELLS / (high - low)
        self.steps = MOST_STEPS + 1
        if self.rate.isfinite() and self.rate > 0:
            cell = ((kinks - low) * self.rate).clamp_(-1, CELLS + 1).long()
            counts = torch.bincount(cell + 1, minlength=CELLS + 3)
            self.before = counts.cumsum(0)
            self.steps = int(counts[1:-1].max())

    def of(self, z: Tensor) -> Tensor:
        if self.steps > MOST_STEPS:
            return torch.bucketize(z, self.kinks[:-1])
        count = self.before.index_select(0, (z - self.low).mul_(self.rate).long())
        for _ in range(self.steps):
            count += self.kinks.index_select(0, count) < z
        return count
