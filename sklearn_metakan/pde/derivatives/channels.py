"""Which derivatives travel together, and how they enter the next layer (Faa di Bruno)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

MAX_ORDER = 4

Index = tuple[int, ...]  # directions of a derivative, sorted: (0, 0, 1) is d^3 / dv_0^2 dv_1


class Sum(NamedTuple):
    """``weight * sum_k D_k D_k u`` over some directions: a Laplacian, or an estimate of it."""

    directions: Index
    weight: float


class Channels(NamedTuple):
    """The derivatives of a field that are pushed through a network in one pass.

    ``indices`` are derivatives by their directions, with all that they are made of, ordered by
    order; ``sums`` are weighted sums of second derivatives, each one channel.

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

    def of_order(self, m: int) -> list[Index]:
        return [index for index in self.indices if len(index) == m]

    def position(self, index: Index) -> int:
        place = self.indices.index(index)
        return place if len(index) == 1 else place + len(self.sums)

    def sum_position(self, number: int) -> int:
        return self.n_first + number

    def from_order(self, m: int) -> int:
        """The first channel of order m or more."""
        lower = sum(len(index) < m for index in self.indices)
        return lower if m <= 2 else lower + len(self.sums)


def channels(indices: Iterable[Index], sums: Iterable[Sum] = ()) -> Channels:
    """The smallest set that holds these derivatives and all that they are made of."""
    sums = tuple(sums)
    closed: set[Index] = {(k,) for each in sums for k in each.directions}
    for index in indices:
        for size in range(1, len(index) + 1):
            closed.update(combinations(tuple(sorted(index)), size))
    return Channels(tuple(sorted(closed, key=lambda index: (len(index), index))), sums)


@cache  # without a limit: captured steps go on reading them
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A small tensor, made once a device: a captured step may not copy from the host."""
    return torch.tensor(values, dtype=dtype, device=device)


def places_on(places: Sequence[int], device: torch.device) -> Tensor:
    """For indexing."""
    return constant(tuple(places), torch.long, device)


def picked(tensor: Tensor, places: Sequence[int]) -> Tensor:
    """``tensor[:, places]``; a view where they follow each other."""
    if list(places) == [*range(places[0], places[0] + len(places))]:
        return tensor[:, places[0] : places[0] + len(places)]
    return tensor[:, places_on(places, tensor.device)]


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

    values (n, K, width) are the channels of x; ``P_m`` (n, K_m, width), m = 1, ..., order, are
    for the last K_m of them.

    Source: Faa di Bruno's formula for several variables; sums follow from
    ``D_k D_k phi(x) = phi''(x) (D_k x)^2 + phi'(x) D_k D_k x``.
    """
    found = [values] if plan.n_channels else []
    for m in range(2, plan.order + 1):
        pieces = []
        for directions, weight in plan.sums if m == 2 else ():
            slopes = picked(values, [plan.position((k,)) for k in directions])
            pieces.append(weight * slopes.square().sum(1, keepdim=True))
        rows, factors, products = _terms(plan, m)
        if rows:
            first, *others = zip(*products, strict=True)
            product = values[:, places_on(first, values.device)]
            for places in others:
                product = product * values[:, places_on(places, values.device)]
            # From order 3 on some channels have several terms; sums stand before all rows.
            if rows == [*range(len(pieces), len(pieces) + len(rows))] and {*factors} == {1.0}:
                pieces.append(product)
            else:
                weights = constant(tuple(factors), values.dtype, values.device)[:, None]
                n_rows = plan.n_channels - plan.from_order(m) - len(pieces)
                total = values.new_zeros(len(values), n_rows, values.shape[2])
                where = places_on([row - len(pieces) for row in rows], values.device)
                pieces.append(total.index_add(1, where, product * weights))
        found.append(torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0])
    return found
