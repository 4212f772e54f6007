"""Which derivatives travel together, and how they enter the next layer (Faa di Bruno)."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_metakan.pde._constants import indices, numbers

MAX_ORDER = 4

Index = tuple[int, ...]  # directions of a derivative, sorted: (0, 0, 1) is d^3 / dv_0^2 dv_1


class Sum(NamedTuple):
    """``weight * sum_k D_k D_k u`` over some directions: a Laplacian, or an estimate of it."""

    directions: Index
    weight: float


class Channels(NamedTuple):
    """The derivatives of a field that are pushed through a network in one pass.

    Attributes
    ----------
    indices : tuple of tuple of int
        Derivatives by their directions, with all that they are made of, ordered by order.
    sums : tuple of Sum
        Weighted sums of second derivatives, each one channel.

    A tensor of channels is (n, K, width): first derivatives, sums, second derivatives,
    third, fourth; so what gets terms of phi^(m) is a suffix.
    """

    indices: tuple[Index, ...]
    sums: tuple[Sum, ...] = ()

    @property
    def n_first(self) -> int:
        return sum(len(index) == 1 for index in self.indices)

    @property
    def order(self) -> int:
        return max([len(index) for index in self.indices] + [2] * bool(self.sums))

    @property
    def n_channels(self) -> int:
        return len(self.indices) + len(self.sums)

    def position(self, index: Index) -> int:
        place = self.indices.index(index)
        return place if len(index) == 1 else place + len(self.sums)

    def sum_position(self, number: int) -> int:
        return self.n_first + number

    def from_order(self, m: int) -> int:
        """The first channel of order m or more."""
        if m == 1:
            return 0
        lower = sum(len(index) < m for index in self.indices)
        return lower if m == 2 else lower + len(self.sums)


def channels(indices: Iterable[Index], sums: Iterable[Sum] = ()) -> Channels:
    """The smallest set that holds these derivatives and all that they are made of."""
    sums = tuple(sums)
    closed: set[Index] = {(k,) for each in sums for k in each.directions}
    for index in indices:
        for size in range(1, len(index) + 1):
            closed.update(combinations(tuple(sorted(index)), size))
    return Channels(tuple(sorted(closed, key=lambda index: (len(index), index))), sums)


def _partitions(items: Index) -> Iterator[list[Index]]:
    """All ways to part positions into blocks; items (0, 1, 2) gives five."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for blocks in _partitions(rest):
        yield [(first,), *blocks]
        for i, block in enumerate(blocks):
            yield [*blocks[:i], (first, *block), *blocks[i + 1 :]]


@lru_cache(maxsize=64)
def _terms(plan: Channels, m: int) -> tuple[list[int], list[float], list[list[int]]]:
    """Rows, factors and channels of the products in ``P_m``; each has m channels."""
    start = plan.from_order(m)
    rows, factors, products = [], [], []
    for index in plan.indices:
        if len(index) < m:
            continue
        counted: Counter[tuple[int, ...]] = Counter()
        for blocks in _partitions(tuple(range(len(index)))):
            if len(blocks) == m:
                names = [tuple(index[position] for position in block) for block in blocks]
                counted[tuple(sorted(plan.position(name) for name in names))] += 1
        for product, times in counted.items():
            rows.append(plan.position(index) - start)
            factors.append(float(times))
            products.append([*product])
    return rows, factors, products


def bell(values: Tensor, plan: Channels) -> list[Tensor]:
    """Partial Bell polynomials: the channels of ``phi(x)`` are ``sum_m phi^(m)(x) P_m``.

    Parameters
    ----------
    values : Tensor of shape (n, K, width)
        The channels of x.

    Returns
    -------
    list of Tensor
        ``P_m`` for m = 1, ..., order; of shape (n, K_m, width), for the last K_m channels.

    Source: Faa di Bruno's formula for several variables; sums follow from
    ``D_k D_k phi(x) = phi''(x) (D_k x)^2 + phi'(x) D_k D_k x``.
    """
    found = [values] if plan.n_channels else []
    for m in range(2, plan.order + 1):
        pieces = []
        if m == 2:
            pieces += [_square_sum(values, each, plan) for each in plan.sums]
        rows, factors, products = _terms(plan, m)
        if rows:
            places = [indices(each, values.device) for each in zip(*products, strict=True)]
            product = values[:, places[0]]
            for place in places[1:]:
                product = product * values[:, place]
            # From order 3 on some channels have several terms; sums stand before all rows.
            if rows == [*range(len(pieces), len(pieces) + len(rows))] and {*factors} == {1.0}:
                pieces.append(product)
            else:
                weights = numbers(factors, values)[:, None]
                n_rows = plan.n_channels - plan.from_order(m) - len(pieces)
                total = values.new_zeros(len(values), n_rows, values.shape[2])
                where = indices([row - len(pieces) for row in rows], values.device)
                pieces.append(total.index_add(1, where, product * weights))
        found.append(torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0])
    return found


def _square_sum(values: Tensor, each: Sum, plan: Channels) -> Tensor:
    places = [plan.position((k,)) for k in each.directions]
    if places == [*range(places[0], places[0] + len(places))]:
        first = values[:, places[0] : places[0] + len(places)]
    else:
        first = values[:, indices(places, values.device)]
    return each.weight * first.square().sum(1, keepdim=True)
