"""Gaps, levels and atoms: what an edge's function is beside its curve."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

DIRECT = 64  # levels of a column; of more, what they add is generated
PROMPT_DIM = 4
SHRINKAGE = 1.0  # rows; a level of so many counts half,
OF_ATOMS = 20.0  # and an atom, which has the curve to fall back on
NEAR = 1e-5  # a number that is no farther from an atom is that atom


class Columns(NamedTuple):
    """What a first layer has to know of its inputs: numbers first, then codes of levels.

    Attributes
    ----------
    fill : array of shape (n_numbers,)
        What stands for a missing number when the basis is evaluated.
    gaps : array of shape (n_numbers,)
        Rows in which each number is missing, by weight; 0: none, so that nothing is trained.
    levels : sequence of arrays (n_levels,)
        Of each column of codes, the rows of each level, by weight.
    atoms : array of shape (n_atoms, 4)
        Values of numbers that have a place of their own: the number, the value, how many rows
        have it, by weight, and their share of those in which the number is there.
    """

    fill: ArrayLike
    gaps: ArrayLike
    levels: Sequence[ArrayLike] = ()
    atoms: ArrayLike = ()


class Levels(nn.Module):
    """What gaps, levels and atoms add to the outputs of a first layer.

    Where a number x_i is missing (NaN), its edges are ``phi_oi(fill_i) + s_i d_oi``. Where it is
    one of its atoms, values a_k that many rows have, they are ``phi_oi(a_k) + s_k w_ok``: beside
    the curve such a value may do something of its own, as the amount does at which a rule of tax
    sets in. A column of levels k = 0, 1, ... has edges ``s_k w_ok``, numbers of their own. For
    columns of many levels they are generated (Algorithm 1 for levels), ``w_ok = sum_p z_kp v_po``,
    with a prompt z_k for a level and v_o for an edge: p (levels + edges) numbers in place of their
    product. The factor ``s = c / (c + 1)`` for a level of c rows, ``c / (c + 20)`` for an atom,
    shrinks those that are seldom.

    What training did not see, NaN in place of a level or of a number that was never missing, adds
    nothing; in a network that is ``settled``, the mean over the column.

    Parameters
    ----------
    columns : Columns
    out_features : int
    direct : int, default=64
        Most levels of a column with numbers of their own.
    prompt_dim : int, default=4
        p.
    gain : float, default=1.0
        A fixed factor of all that is added. As with generated coefficients, it makes numbers of
        order one, and the steps that go with them, serve any number of inputs.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    table : Parameter of shape (rows, out_features), or None
        d of the columns with gaps, then w of atoms, then of the levels that are not generated.
    prompts, edges : Parameters of shape (levels, p) and (columns, p, out_features), or None
        z and v of those that are.
    unseen : Tensor of shape (n_inputs, out_features) or None
        What is added where training saw nothing like it.

    Shape
    -----
    (n, n_numbers + n_codes) -> (n, out_features)
    """

    fill: Tensor
    gapped: Tensor
    column: Tensor
    level: Tensor
    atom: Tensor
    of_atom: Tensor
    trust: Tensor
    generated: Tensor
    offset: Tensor
    prompt_trust: Tensor
    mean: Tensor
    unseen: Tensor | None
    table: nn.Parameter | None
    prompts: nn.Parameter | None
    edges: nn.Parameter | None

    def __init__(
        self,
        columns: Columns,
        out_features: int,
        *,
        direct: int = DIRECT,
        prompt_dim: int = PROMPT_DIM,
        gain: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # Computed as arrays, and copied: a buffer is written to when a state is loaded.
        fill, gaps, atoms, *counts = (
            np.asarray(torch.as_tensor(each).cpu(), dtype=np.float64)
            for each in (columns.fill, columns.gaps, columns.atoms, *columns.levels)
        )
        of_atom, atom, of_rows, of_column = atoms.reshape(-1, 4).T
        of_atoms = of_rows / (of_rows + OF_ATOMS)
        self.n_numbers, self.n_inputs = len(fill), len(fill) + len(counts)
        self.sizes = [*map(len, counts)]
        own = [j for j, size in enumerate(self.sizes) if size <= direct]
        made = [j for j, size in enumerate(self.sizes) if size > direct]
        gapped = np.flatnonzero(gaps)
        of_own, of_made = (_joined([counts[j] for j in which]) for which in (own, made))
        shares = _joined([counts[j] / counts[j].sum() for j in [*own, *made]])
        lengths = np.array([self.sizes[j] for j in made], dtype=np.int64)
        numbers = {
            "fill": fill,
            "atom": atom,
            # Of each row of the table, after those of gaps and atoms, its code.
            "level": _joined([np.arange(self.sizes[j]) for j in own]),
            "trust": gain * np.concatenate([_trust(gaps[gapped]), of_atoms, _trust(of_own)]),
            "prompt_trust": gain * _trust(of_made),
            # Of each atom and level, its share of the rows times trust; of table, then of prompts.
            "mean": gain
            * np.append(of_column, shares)
            * np.concatenate([of_atoms, _trust(np.append(of_own, of_made))]),
        }
        places = {
            "gapped": gapped,
            "of_atom": of_atom,
            # Of each row of the table, after those of gaps and atoms, its input.
            "column": len(fill) + np.repeat(own, [self.sizes[j] for j in own]),
            "generated": len(fill) + np.array(made),
            "offset": np.cumsum(lengths) - lengths,
        }
        dtype = dtype or torch.get_default_dtype()
        for kind_of, arrays in ((dtype, numbers), (torch.long, places)):
            for name, array in arrays.items():
                kept = "atom" not in name  # files from before there were atoms have none
                self.register_buffer(name, torch.tensor(array, dtype=kind_of), persistent=kept)
        kind: dict[str, Any] = {"dtype": dtype}
        self.register_buffer("unseen", None)
        self.out_features, self.gain = out_features, gain
        self.table = self.prompts = self.edges = None
        if len(self.trust):
            self.table = nn.Parameter(torch.zeros(len(self.trust), out_features, **kind))
        if made:
            self.prompts = nn.Parameter(torch.zeros(len(self.prompt_trust), prompt_dim, **kind))
            self.edges = nn.Parameter(torch.zeros(len(made), prompt_dim, out_features, **kind))

    def extra_repr(self) -> str:
        return f"{self.n_numbers} numbers, levels={self.sizes}, gaps={len(self.gapped)}"

    @property
    def n_features(self) -> int:
        """Columns of ``features``."""
        return len(self.trust) + len(self.generated)

    @torch.no_grad()
    def start(self, normal: Callable[..., Tensor], fan_in: int) -> None:
        """Columns of levels with variance 1 / fan_in over the rows; gaps and atoms zero."""
        std, n_zero = fan_in**-0.5 / self.gain, len(self.gapped) + len(self.atom)
        if self.table is not None:
            self.table.copy_(normal(self.table.shape) * std)
            self.table[:n_zero] = 0
        if self.prompts is not None and self.edges is not None:
            self.prompts.copy_(normal(self.prompts.shape))
            self.edges.copy_(normal(self.edges.shape) * std / self.prompts.shape[1] ** 0.5)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for an x of another width."""
        if x.dim() != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(
                f"x must have {self.n_numbers} numbers and {len(self.sizes)} codes a row, "
                f"{self.n_inputs} columns, got shape {tuple(x.shape)}."
            )

    def numbers(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Some numbers of x, (n, n_numbers) by default, with what stands for missing ones."""
        some = slice(start, self.n_numbers if stop is None else min(stop, self.n_numbers))
        return torch.where(x[:, some].isnan(), self.fill[some], x[:, some])

    def features(self, x: Tensor) -> Tensor:
        """What ``from_features`` needs of x: s_k at gaps, atoms, levels of the table; codes."""
        gaps = x[:, self.gapped].isnan()
        atoms = (x[:, self.of_atom] - self.atom).abs() <= NEAR
        levels = x[:, self.column] == self.level
        known = torch.cat([gaps, atoms, levels], 1) * self.trust
        return torch.cat([known, x[:, self.generated]], 1)

    def from_features(self, features: Tensor) -> Tensor:
        """``forward`` of what training saw, (n, out_features)."""
        rows = len(self.trust)
        y = features.new_zeros(1, self.out_features)
        if self.table is not None:
            y = features[:, :rows] @ self.table
        if self.prompts is None or self.edges is None:
            return y
        seen = _seen(features[:, rows:], self.offset, self.prompts, self.prompt_trust)
        return torch.addmm(y, seen.flatten(1), self.edges.flatten(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.from_features(self.features(x))
        return y if self.unseen is None else torch.addmm(y, x.isnan().to(y), self.unseen)

    def edge_functions(self, x: Tensor, start: int, stop: int) -> Tensor:
        """What each input from start to stop adds, (n, stop - start, out_features)."""
        features = self.features(x)
        inputs = torch.cat([self.gapped, self.of_atom, self.column])
        found = features.new_zeros(len(x), stop - start, self.out_features)
        if self.unseen is not None:
            found += x[:, start:stop].isnan()[..., None] * self.unseen[start:stop]
        for column in range(start, stop):
            rows = (inputs == column).nonzero().flatten()
            if len(rows) and self.table is not None:
                found[:, column - start] += features[:, rows] @ self.table[rows]
        for column, place, prompts, edges in self._generated():
            if start <= column < stop:
                seen = _seen(x[:, column], 0, prompts, self.prompt_trust[place])
                found[:, column - start] += seen @ edges
        return found

    def deviations(self) -> Tensor:
        """Deviation over the rows of what each column of levels adds, (n_codes, out_features)."""
        n_others, n_own = len(self.gapped) + len(self.atom), len(self.column)
        trust = torch.cat([self.trust[n_others:], self.prompt_trust])
        shares = self.mean[len(self.atom) :] / trust.clamp_min(torch.finfo(trust.dtype).tiny)
        found: list[Tensor] = [self.mean] * len(self.sizes)
        if self.table is not None:
            added = self.table[n_others:] * trust[:n_own, None]
            for column in self.column.unique().tolist():
                its = self.column == column
                found[column - self.n_numbers] = _deviation(shares[:n_own][its], added[its])
        for column, place, prompts, edges in self._generated():
            added = prompts * self.prompt_trust[place, None] @ edges
            found[column - self.n_numbers] = _deviation(shares[n_own:][place], added)
        return torch.stack(found)

    def _generated(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Columns whose levels are generated: where they begin and end, their z and v."""
        if self.prompts is None or self.edges is None:
            return
        ends = [*self.offset.tolist(), len(self.prompts)]
        columns = self.generated.tolist()
        for column, place, edges in zip(columns, pairwise(ends), self.edges, strict=True):
            yield column, slice(*place), self.prompts[slice(*place)], edges

    @torch.no_grad()
    def settled(self, of_numbers: Tensor) -> Levels:
        """With the column's mean where training saw nothing like it; the rest is shared.

        Parameters
        ----------
        of_numbers : Tensor of shape (n_numbers, out_features)
            The mean of each number's edge functions, less their values at ``fill``.
        """
        unseen = of_numbers.new_zeros(self.n_inputs, of_numbers.shape[1])
        unseen[: self.n_numbers] = of_numbers
        inputs = torch.cat([self.of_atom, self.column])
        if self.table is not None:
            added = self.table[len(self.gapped) :] * self.mean[: len(inputs), None]
            unseen.index_add_(0, inputs, added)
        unseen[self.gapped] = 0
        of_prompts = self.mean[len(inputs) :]
        for column, place, prompts, edges in self._generated():
            unseen[column] = of_prompts[place] @ prompts @ edges
        found = copy(self)
        found._buffers = found._buffers | {"unseen": unseen}
        return found


def _seen(codes: Tensor, offset: Tensor | int, prompts: Tensor, trust: Tensor) -> Tensor:
    """``s_k z_k`` (..., p) of codes (...); zero for what was not seen."""
    index = codes.nan_to_num().long() + offset
    return F.embedding(index, prompts) * (trust[index] * ~codes.isnan())[..., None]


def _deviation(shares: Tensor, values: Tensor) -> Tensor:
    return torch.linalg.vector_norm((values - shares @ values) * shares.sqrt()[:, None], dim=0)


def _trust(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts / (counts + SHRINKAGE)


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([*arrays, np.empty(0)])
