"""Pairs of inputs: functions of two, beside those of one, which hold nothing of what one does."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from sklearn_metakan.basis import BSplineBasis, is_traced
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients, MetaLearner

DEGREE = 1  # of the splines that are multiplied
MOST_LEVELS = 12  # functions of a column of levels; the rarer ones share the last
FUNCTIONS = 100  # of a pair, at most
STRENGTH = 0.1  # deviation of a pair's functions, all together, with coefficients of one (measured)
SMOOTHNESS = 1.0  # of squared differences, beside squared coefficients
_RELATIVE = 1e-9  # of the largest: constraints, and functions, that are smaller are none
_NUMBERS = 2**22  # products that are held at a time, where there is no way back

Array = NDArray[np.float64]


class PairInputs(NamedTuple):
    """The inputs that come in pairs, and the functions of one that are multiplied.

    Attributes
    ----------
    pairs : array of int, shape (n_pairs, 2)
        Inputs, counted as the network does.
    knots : array of shape (n_numbers, n_cells + 1)
        Of every number of the network.
    gaps : array of bool, shape (n_numbers,)
        Which of them are missing at times.
    groups : sequence of arrays of int
        Of every column of codes, the function that each of its codes has.
    """

    pairs: ArrayLike
    knots: ArrayLike
    gaps: ArrayLike
    groups: Sequence[ArrayLike] = ()


def group_levels(counts: ArrayLike) -> NDArray[np.int64]:
    """Of each code of a column, by the rows that have it, the function that it has in pairs.

    The most frequent have their own, all others one together.

    Parameters
    ----------
    counts : array-like of shape (n_levels,)

    Returns
    -------
    ndarray of shape (n_levels,)

    Examples
    --------
    >>> group_levels([5, 9, 7]).tolist()
    [2, 0, 1]
    """
    order = np.argsort(-np.asarray(counts), kind="stable")
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.minimum(np.arange(len(order)), MOST_LEVELS - 1)
    return found


class Margins(nn.Module):
    """Functions of single inputs, which sum to one: splines, a gap, levels.

    Of what training never saw (a gap in a number that has none, an unknown level), all are zero.

    Shape
    -----
    (n, n_inputs) -> (n, n_columns, width): of the inputs in some pair, in their order.
    """

    gapped: Tensor
    middle: Tensor
    numbers: Tensor
    codes: Tensor
    groups: Tensor

    def __init__(self, inputs: PairInputs, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        dtype = dtype or torch.get_default_dtype()
        knots, gaps = np.asarray(inputs.knots, dtype=float), np.asarray(inputs.gaps, dtype=bool)
        self.n_cells = n_cells = knots.shape[1] - 1
        self.columns = np.unique(np.asarray(inputs.pairs))
        numbers, codes = np.split(self.columns, [np.count_nonzero(self.columns < len(knots))])
        tables = [np.asarray(inputs.groups[j - len(knots)], dtype=np.int64) for j in codes]
        self.sizes = [n_cells + DEGREE + int(gaps[j]) for j in numbers]
        self.sizes += [int(table.max()) + 1 for table in tables]
        self.width, self.n_numbers = max(self.sizes), len(numbers)
        table = np.full((len(tables), max(map(len, tables), default=0)), -1)
        for row, own in zip(table, tables, strict=True):
            row[: len(own)] = own
        self.basis: BSplineBasis | None = None
        if len(numbers):
            how: dict[str, Any] = {"extrapolation": "constant", "dtype": dtype}
            self.basis = BSplineBasis(len(numbers), n_cells, DEGREE, knots[numbers], **how)
        places = {"numbers": numbers, "codes": codes, "groups": table}
        for name, array in places.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.long), persistent=False)
        middle = torch.tensor(knots[numbers][:, n_cells // 2], dtype=dtype)
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("gapped", torch.tensor(gaps[numbers]), persistent=False)

    @property
    def n_splines(self) -> int:
        return self.n_cells + DEGREE

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        if self.basis is not None:
            numbers = x[:, self.numbers]
            missing = numbers.isnan()
            splines = self.basis.evaluate(torch.where(missing, self.middle, numbers))[..., 1:]
            splines = torch.where(missing[..., None], torch.zeros_like(splines), splines)
            beyond = self.width - self.n_splines
            if beyond:
                gap = (missing & self.gapped).to(splines)[..., None]
                splines = torch.cat([splines, F.pad(gap, (0, beyond - 1))], -1)
            parts.append(splines)
        if len(self.codes):
            codes = x[:, self.codes]
            place = torch.arange(len(self.codes), device=x.device)
            group = self.groups[place, codes.nan_to_num().long()]
            group = torch.where(codes.isnan(), -1, group)
            parts.append((group[..., None] == torch.arange(self.width, device=x.device)).to(x))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def deviation(self, column: int) -> Array:
        """L with ``L L'`` the prior's covariance of a column's coefficients, (size, size)."""
        size = self.sizes[column]
        if column >= self.n_numbers or self.basis is None:
            return np.eye(size)
        found = np.eye(size)
        steps = np.diff(self.basis.knots[column].double().numpy())
        found[: self.n_splines, : self.n_splines] = smooth_deviation(steps, 1)
        return found


def smooth_deviation(steps: Array, order: int) -> Array:
    """L with ``L L' = (I + s P)^-1``, for coefficients so far from one another on a line.

    P are squared differences of an order, each over its step in widths of the line: a random walk,
    or one of slopes.

    Parameters
    ----------
    steps : array of shape (size - 1,)
    order : {1, 2}

    Returns
    -------
    ndarray of shape (size, size)
    """
    size, shares = len(steps) + 1, steps / steps.sum()
    slopes = np.diff(np.eye(size), axis=0) / np.sqrt(shares)[:, None]
    if order == 2:
        between = (shares[1:] + shares[:-1]) / 2
        slopes = np.diff(slopes / np.sqrt(shares)[:, None], axis=0) / np.sqrt(between)[:, None]
    precision = np.eye(size) + SMOOTHNESS * slopes.T @ slopes
    return np.linalg.inv(np.linalg.cholesky(precision)).T


class Pairs(nn.Module):
    """``sum_ab f_abo(x_a, x_b)``, functions of two inputs without main effects.

    ``f_ab = sum_k w_ok F_abk(x_a, x_b)``, where the F are products of splines and levels, put
    together by ``pair_functions`` so that over the rows of training none of them has anything in
    common with any function of x_a or of x_b alone. They come from the smoothest on, and beyond
    the grid they are constant.

    Parameters
    ----------
    inputs : PairInputs
    functions : array of shape (n_pairs, width ** 2, n_functions)
        What ``pair_functions`` gives: the F, as coefficients of products.
    out_features : int
    like : DirectCoefficients or MetaCoefficients
        The source of the functions of one input; that of pairs is of its kind. Its meta-learner is
        one of their own, and prompts have p^2 numbers, as products of p functions would.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    source : DirectCoefficients or MetaCoefficients
        Gives w; all start at zero.

    Shape
    -----
    (n, n_inputs) -> (n, out_features)

    Source: Lou et al., "Accurate intelligible models with pairwise interactions" (2013); Lengerich
    et al., "Purifying interaction effects with the functional ANOVA" (2020).
    """

    first: Tensor
    second: Tensor
    functions: Tensor

    def __init__(
        self,
        inputs: PairInputs,
        functions: ArrayLike,
        out_features: int,
        like: DirectCoefficients | MetaCoefficients,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dtype = dtype or torch.get_default_dtype()
        self.margins = Margins(inputs, dtype)
        pairs = np.asarray(inputs.pairs)
        self.inputs: list[tuple[int, int]] = [(int(a), int(b)) for a, b in pairs]
        for name, side in (("first", 0), ("second", 1)):
            place = torch.tensor(np.searchsorted(self.margins.columns, pairs[:, side]))
            self.register_buffer(name, place, persistent=False)
        numbers = torch.tensor(np.asarray(functions, dtype=np.float64), dtype=dtype)
        self.register_buffer("functions", numbers, persistent=False)
        sizes = len(pairs), out_features
        self.source: DirectCoefficients | MetaCoefficients
        if isinstance(like, MetaCoefficients):
            own, scaled = like.meta_learner, like.edge_scale is not None
            p = min(own.prompt_dim**2, numbers.shape[2])
            shape = p, own.hidden_dim, numbers.shape[2], own.activation
            self.source = MetaCoefficients(*sizes, MetaLearner(*shape, dtype), scaled, dtype=dtype)
        else:
            self.source = DirectCoefficients(*sizes, numbers.shape[2], dtype=dtype)

    def extra_repr(self) -> str:
        return f"{len(self.inputs)} pairs"

    @property
    def n_features(self) -> int:
        """Columns of ``features``."""
        return len(self.inputs) * self.functions.shape[2]

    @torch.no_grad()
    def start(self, normal: Callable[..., Tensor]) -> None:
        """Starting values: functions that are zero, and prompts that find their way."""
        if isinstance(self.source, DirectCoefficients):
            self.source.weight.zero_()
            return
        learner, prompts = self.source.meta_learner, self.source.prompts
        self.source.gain.fill_(1.0)
        if learner.is_linear:  # the smoothest surfaces, and none of them
            learner.output_weight.copy_(torch.eye(*learner.output_weight.shape))
            prompts.zero_()
            return
        for part in (prompts, learner.hidden_weight, learner.hidden_bias):
            part.copy_(normal(part.shape))

    def features(self, x: Tensor) -> Tensor:
        """The F at rows x, (n, n_features): what does not change in training."""
        by_pair = [torch.einsum("npc,pck->npk", each, self.functions) for each in self._products(x)]
        return torch.cat(by_pair).flatten(1)

    def from_features(self, features: Tensor) -> Tensor:
        """``forward`` from ``features(x)``."""
        return features @ self.source.block(0, len(self.inputs)).flatten(0, 1)

    def weights(self) -> Tensor:
        """Coefficients of products, (n_pairs, width ** 2, out_features)."""
        return self.functions @ self.source.block(0, len(self.inputs))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights().flatten(0, 1)
        return torch.cat([each.flatten(1) @ weights for each in self._products(x)])

    def each(self, x: Tensor) -> Tensor:
        """The functions of two inputs one by one, (n, n_pairs, out_features)."""
        weights = self.weights()
        parts = [torch.einsum("npk,pko->npo", each, weights) for each in self._products(x)]
        return torch.cat(parts)

    def _products(self, x: Tensor) -> Iterator[Tensor]:
        """Products (n, n_pairs, width ** 2): of so many rows at a time, or with a way back all."""
        margins = self.margins(x)
        step = max(1, _NUMBERS // (len(self.inputs) * self.margins.width**2))
        at_once = is_traced() or torch.is_grad_enabled() or len(x) <= step
        for part in (margins,) if at_once else margins.split(step):
            first, second = part[:, self.first], part[:, self.second]
            yield (first[..., :, None] * second[..., None, :]).flatten(2)

    def changes(self, x: Tensor, other: Tensor, start: int, stop: int) -> Tensor:
        """Of the sum, if one input from start to stop is exchanged: (n, stop - start, out)."""
        before, found = self(x), []
        for column in range(start, stop):
            exchanged = x.clone()
            exchanged[:, column] = other[:, column]
            paired = any(column in pair for pair in self.inputs)
            found.append(self(exchanged) - before if paired else torch.zeros_like(before))
        return torch.stack(found, 1)

    def only(self, kept: Sequence[int]) -> Pairs:
        """Some of them alone, their weights made once and for all."""
        found = copy(self)
        with torch.no_grad():
            weight = self.source.block(0, len(self.inputs))[[*kept]]
        source = DirectCoefficients(len(kept), weight.shape[2], weight.shape[1], weight.dtype)
        source.weight = nn.Parameter(weight)
        names = ("first", "second", "functions")
        found._buffers = found._buffers | {name: getattr(self, name)[[*kept]] for name in names}
        found._modules = found._modules | {"source": source}
        found.inputs = [self.inputs[k] for k in kept]
        return found


def pair_functions(
    inputs: PairInputs, chunks: Iterable[tuple[Tensor, Array]], at_most: int = FUNCTIONS
) -> Array:
    """Functions of two inputs that hold nothing of what one does, from the smoothest on.

    Of products ``sum_cd w_cd B_c(x_a) B_d(x_b)``, those that are orthogonal, over these rows, to
    all ``B_c(x_a)`` and all ``B_d(x_b)``, which is what purification of a table by its rows'
    distribution comes to, where the B are steps. Among them, under the prior of a random walk in
    either direction, ``w ~ N(0, K_a x K_b)`` with K of ``smooth_deviation``, the principal
    functions over the rows, in proportion to the strength that they have there.

    Parameters
    ----------
    inputs : PairInputs
    chunks : iterable of (Tensor of float64, ndarray)
        Rows (n, n_inputs) of the network's inputs, and their weights (n,).
    at_most : int, default=100
        Functions of a pair.

    Returns
    -------
    ndarray of shape (n_pairs, width ** 2, n_functions)
        Coefficients of products, zero for functions that there are not.
    """
    margins = Margins(inputs, torch.float64)
    width, places = margins.width, np.searchsorted(margins.columns, np.asarray(inputs.pairs))
    moments, total = np.zeros((len(places), width**2, width**2)), 0.0
    for x, weight in chunks:
        values = margins(x).numpy()
        squares = np.einsum("nmc,nmd->mncd", values, values).reshape(
            len(margins.columns), len(x), -1
        )
        some = [csr_array(each) for each in squares]  # a row has four that are not zero
        weighted = [csr_array(each.T * weight) for each in some]
        for of_pair, (a, b) in zip(moments, places, strict=True):
            of_pair += (weighted[a] @ some[b]).toarray()
        total += weight.sum()
    found = np.zeros((len(places), width, width, at_most))
    most = 1
    for k, pair in enumerate(places.tolist()):
        m, n = (margins.sizes[column] for column in pair)
        gram = (moments[k] / total).reshape([width] * 4)[:m, :m, :n, :n].transpose(0, 2, 1, 3)
        own = _principal(gram, at_most, *map(margins.deviation, pair))
        found[k, :m, :n, : own.shape[1]] = own.reshape(m, n, -1)
        most = max(most, own.shape[1])
    return found[..., :most].reshape(len(places), width**2, most)


def _principal(gram: Array, at_most: int, *deviations: Array) -> Array:
    """Of a pair: (m * n, functions), from second moments (m, n, m, n) of its products."""
    size = gram.shape[0] * gram.shape[1]
    factor = np.kron(*deviations)
    # Moments with functions of one input are sums over those of the other, which sum to one.
    alone = np.concatenate([gram.sum(axis).reshape(size, -1) for axis in (3, 2)], axis=1)
    _, strengths, directions = np.linalg.svd(alone.T @ factor)
    rank = np.count_nonzero(strengths > _RELATIVE * strengths[0])
    free = factor @ directions[rank:].T
    power, ways = np.linalg.eigh(free.T @ gram.reshape(size, size) @ free)
    power, functions = power[::-1], (free @ ways)[:, ::-1]
    largest = max(power.max(initial=0.0), np.finfo(float).tiny)
    n = min(np.count_nonzero(power > _RELATIVE * largest), at_most)
    functions = functions[:, :n] * (STRENGTH / np.sqrt(max(power[power > 0].sum(), largest)))
    return functions * np.where(functions.sum(0) < 0, -1.0, 1.0)  # eigenvectors have no sign
