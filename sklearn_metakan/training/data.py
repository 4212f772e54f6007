"""Rows as tensors, in batches, and what their losses come to."""

from collections.abc import Callable, Iterable, Iterator
from itertools import compress, repeat
from typing import Any, cast

import torch
from skorch.dataset import Dataset
from torch import Tensor

from sklearn_metakan.training.memory import Batch
from sklearn_metakan.training.parallel import Ranks, Share

_MADE = 2**18  # numbers of inputs that are made at a time
_WORTH = 2_000  # products of a row that take 20 times as long as to scale a number


class TensorData(Dataset):  # skorch's, so that its callbacks find X and y
    """Inputs (n, d), targets (n, ...) and optional weights, on one device.

    Where ``features`` of the rows are known, batches hold them in place of inputs.

    Parameters
    ----------
    table : Tensor of shape (n_table, d)
    y : Tensor of shape (n, ...)
    weight : Tensor of shape (n,), optional
        Kept as ``row_weight``.
    counts : bool Tensor of shape (n, n_members), optional
        Which rows count for which member of a network. The weights of a batch are then
        (n_batch, n_members), and those of a member have mean one over all rows.
    within : integer Tensor of shape (n,), optional
        Which rows of the table these are; by default all of it.
    """

    def __init__(
        self,
        table: Tensor,
        y: Tensor,
        weight: Tensor | None = None,
        counts: Tensor | None = None,
        within: Tensor | None = None,
    ) -> None:
        self.source: Any = table  # with which, and a type, other rows of the table are made
        self.table, self.y, self.within = table, y, within
        self.features: Tensor | None = None
        self.row_weight, self._bits = weight, None  # of a row's members, in bytes
        self._of_places = torch.int32 if len(y) < 2**31 else torch.int64  # in half the memory
        if counts is not None:
            place = torch.arange(counts.shape[1], device=counts.device)
            self._byte, self._mask = place // 8, (2 ** (place % 8)).to(torch.uint8)
            self._bits = counts.new_zeros(len(y), (len(place) + 7) // 8, dtype=torch.uint8)
            sums = torch.empty(len(place), dtype=torch.float64, device=counts.device)
            for member, of_rows in enumerate(counts.unbind(1)):
                self._bits[:, member // 8] += of_rows * self._mask[member]
                of_member = torch.count_nonzero(of_rows)  # along rows, it would copy
                if weight is not None:
                    of_member = weight[of_rows].sum(dtype=torch.float64)
                sums[member] = of_member
            # Times a bit in its place, a power of two: exact.
            self._share = (len(y) / sums).to(table.dtype) / self._mask

    def __len__(self) -> int:
        return len(self.y)

    @property
    def X(self) -> Tensor:
        """Inputs of all rows."""
        return self.table if self.within is None else self.table[self.within]

    @property
    def counts(self) -> Tensor | None:
        """Which rows count for which member, (n, n_members), if not all do."""
        return None if self._bits is None else self._bits[:, self._byte] & self._mask > 0

    @property
    def weight(self) -> Tensor | None:
        """Weights of all rows."""
        return self._weight_of(slice(None))

    def weights_of_members(self, n_members: int) -> Iterator[Tensor | None]:
        """Weights of all rows for each member."""
        if self._bits is None:
            yield from repeat(self.row_weight, n_members)
            return
        for member in range(n_members):
            yield cast(Tensor, self._weight_of(slice(None), slice(member, member + 1)))[:, 0]

    def __getitem__(self, rows: Tensor | slice | int) -> Batch:
        known = self.features
        inputs = self.inputs_of(rows) if known is None else known[rows]
        return inputs, (self.y[rows], self._weight_of(rows))

    def inputs_of(self, rows: Tensor | slice | int) -> Tensor:
        """Inputs of some rows."""
        return self.table[rows if self.within is None else self.within[rows]]

    def _weight_of(self, rows: Tensor | slice | int, members: slice = slice(None)) -> Tensor | None:
        weight = None if self.row_weight is None else self.row_weight[rows]
        if self._bits is None:
            return weight
        bits = self._bits[rows]
        if bits.shape[-1] > 1:
            bits = bits[..., self._byte[members]]
        own = (bits & self._mask[members]) * self._share[members]
        return own if weight is None else own * weight[..., None]

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        rooms: Iterable[Batch] = (),
    ) -> Iterator[Batch]:
        """Batches of at most so many rows, shuffled anew on each pass if a generator is given.

        One batch that holds all rows is passed on as it is. Shuffled batches as long as one of
        ``rooms`` are written into it, one after the other.
        """
        n = len(self.y)
        if batch_size >= n or generator is None:
            for start in range(0, n, batch_size):
                yield self[slice(start, start + batch_size)]
            return
        order = torch.randperm(n, generator=generator, dtype=self._of_places).to(self.y.device)
        by_length: dict[int, Batch] = {}
        for room in rooms:
            by_length[len(room[0])] = room
        for rows in order.split(batch_size):
            own = by_length.get(len(rows))
            yield self[rows] if own is None else self.copy_rows(rows, own)

    def room_for(self, n: int) -> Batch:
        """Uninitialised tensors for a batch of n rows; for all rows, the table's own."""
        if n == len(self):
            return self[slice(0, n)]
        X, (y, weight) = self[slice(0, 1)]
        return rows_like(X, n), (rows_like(y, n), None if weight is None else rows_like(weight, n))

    def copy_rows(self, rows: Tensor, room: Batch) -> Batch:
        """``self[rows]``, written into ``room``."""
        self._copy_targets(rows, room)
        if self.features is None and self.within is not None:
            rows = self.within[rows]
        table = self.table if self.features is None else self.features
        torch.index_select(table, 0, rows, out=room[0])
        return room

    def _copy_targets(self, rows: Tensor, room: Batch) -> None:
        _, (target, weight) = room
        torch.index_select(self.y, 0, rows, out=target)
        of_rows = self._weight_of(rows)
        if weight is not None and of_rows is not None:
            weight.copy_(of_rows)


class MadeData(TensorData):
    """Rows whose inputs are made when batches want them, some batches at a time.

    Parameters
    ----------
    make : callable
        (slice or integer Tensor) -> Tensor (n_chosen, d): inputs of some rows of the table.
    y, weight, counts, within : Tensor
        See ``TensorData``.
    """

    def __init__(
        self,
        make: Callable[[Tensor | slice], Tensor],
        y: Tensor,
        weight: Tensor | None = None,
        counts: Tensor | None = None,
        within: Tensor | None = None,
    ) -> None:
        super().__init__(make(slice(0, 1))[:0], y, weight, counts, within)
        self.source = make

    @property
    def X(self) -> Tensor:
        return self.inputs_of(slice(0, len(self)))

    def inputs_of(self, rows: Tensor | slice | int) -> Tensor:
        if isinstance(rows, int):
            return self.inputs_of(slice(rows, rows + 1))[0]
        return cast(Tensor, self.source(rows if self.within is None else self.within[rows]))

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        rooms: Iterable[Batch] = (),
    ) -> Iterator[Batch]:
        """As of ``TensorData``, which has the same order; no batch is written into a room."""
        n, dtype = len(self.y), self._of_places
        if batch_size >= n or generator is None:
            order = torch.arange(n, dtype=dtype)
        else:
            order = torch.randperm(n, generator=generator, dtype=dtype)
        for rows in order.split(batch_size * max(1, _MADE // self.table.shape[1] // batch_size)):
            inputs = self.inputs_of(rows)
            for own, x in zip(rows.split(batch_size), inputs.split(batch_size), strict=True):
                yield x, (self.y[own], self._weight_of(own))


def scales_by_batch(net: Any, n_columns: int) -> bool:
    """Whether to scale rows anew in each pass takes next to nothing beside its steps on a CPU."""
    if torch.device(net.device).type != "cpu" or not issubclass(net.optimizer, torch.optim.AdamW):
        return False
    edges = ((each, each.in_features * each.out_features) for each in net.module_.layers)
    products = sum(n // layer.groups * layer.basis.n_functions for layer, n in edges)
    return bool(products >= _WORTH * n_columns)


class StoredData(TensorData):
    """Rows whose inputs are read when a batch wants them.

    They are shuffled in two steps: blocks of rows come in an order that is drawn, and the rows of
    as many blocks as may be held come in one of their own. Processes that train together take
    turns with the blocks; the inputs of a batch are then a ``Share``.

    Parameters
    ----------
    read : callable
        (slice) -> Tensor (n_slice, d): inputs of neighbouring rows.
    blocks : list of slice
        What it is quick to read together; one after the other they are all rows.
    held : int
        Bytes of inputs that may be held at a time; one block in any case.
    y, weight, counts : Tensor
        See ``TensorData``.
    ranks : Ranks, optional
        The processes that train together.
    """

    def __init__(
        self,
        read: Callable[[slice], Tensor],
        blocks: list[slice],
        held: int,
        y: Tensor,
        weight: Tensor | None = None,
        counts: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.read, self.blocks, self.ranks = read, blocks, ranks
        start = 0 if ranks is None else blocks[ranks.rank % len(blocks)].start
        first = read(slice(start, start + 1))
        super().__init__(first[:0], y, weight, counts)
        self._most = max(1, held // max(1, first.nbytes))

    @property
    def X(self) -> Tensor:
        return self.read(slice(0, len(self)))

    def inputs_of(self, rows: Tensor | slice | int) -> Tensor:
        if not isinstance(rows, slice):
            raise TypeError("rows of a stored table are read in slices")
        start, stop, _ = rows.indices(len(self))
        return self.read(slice(start, stop))

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        rooms: Iterable[Batch] = (),
    ) -> Iterator[Batch]:
        """All rows once, with a generator in an order that is drawn in two steps."""
        if batch_size >= len(self.y) or generator is None:
            yield from self._in_order(batch_size)
            return
        by_length = {len(room[0]): room for room in rooms}
        order = torch.randperm(len(self.blocks), generator=generator).tolist()
        held, rows = self.table, torch.empty(0, dtype=torch.int64, device=self.y.device)
        at, turn = rows, 0  # where in ``held`` a row is; -1: another process has it
        while order:
            chosen = [self.blocks[order.pop()]]
            n = len(rows) + _length(chosen[0])
            while order and (n < batch_size or n + _length(self.blocks[order[-1]]) <= self._most):
                chosen.append(self.blocks[order.pop()])
                n += _length(chosen[-1])
            held, at = self._held(held, at, chosen, turn)
            turn += len(chosen)
            spans = [torch.arange(b.start, b.stop, device=rows.device) for b in chosen]
            rows = torch.cat([rows, *spans])
            mixed = torch.randperm(n, generator=generator).to(rows.device)
            whole = n - n % batch_size if order else n
            for places in mixed[:whole].split(batch_size):
                room = by_length.get(len(places))
                yield self._batch(held, at[places], rows[places], room)
            rows, at = rows[mixed[whole:]], at[mixed[whole:]]
            held, at = held[at[at >= 0]], torch.where(at >= 0, (at >= 0).cumsum(0) - 1, -1)

    def _in_order(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self), batch_size):
            rows = slice(start, min(start + batch_size, len(self)))
            if self.ranks is None or _length(rows) < self.ranks.size:
                yield self[rows]
                continue
            own = self.ranks.span(_length(rows))
            read = self.read(slice(start + own.start, start + own.stop))
            inputs: Any = Share(read, own, _length(rows))
            yield inputs, (self.y[rows], self._weight_of(rows))

    def _held(
        self, rest: Tensor, at: Tensor, chosen: list[slice], turn: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs that this process holds, with those of its blocks; where in them each row is."""
        ranks, sizes = self.ranks, [*map(_length, chosen)]
        own = [ranks is None or (turn + k) % ranks.size == ranks.rank for k in range(len(chosen))]
        done, places = len(rest), [at]
        held = rows_like(self.table, done + sum(compress(sizes, own)))
        held[:done] = rest
        for block, size, is_own in zip(chosen, sizes, own, strict=True):
            if is_own:
                held[done : done + size] = self.read(block)
                places.append(torch.arange(done, done + size, device=at.device))
                done += size
            else:
                places.append(at.new_full((size,), -1))
        return held, torch.cat(places)

    def _batch(self, held: Tensor, at: Tensor, rows: Tensor, room: Batch | None) -> Batch:
        if room is not None:
            self._copy_targets(rows, room)
            torch.index_select(held, 0, at, out=room[0])
            return room
        inputs: Any
        if self.ranks is None:
            inputs = held[at]
        else:
            own = torch.nonzero(at >= 0)[:, 0]
            inputs = Share(held[at[own]], own, len(rows))
        return inputs, (self.y[rows], self._weight_of(rows))


def _length(rows: slice) -> int:
    return int(rows.stop) - int(rows.start)


def rows_like(table: Tensor, n: int) -> Tensor:
    return table.new_empty(n, *table.shape[1:])


def shortened(batch: Batch, n: int) -> Batch:
    """Its first n rows, in the same memory."""
    inputs, (target, weight) = batch
    return inputs[:n], (target[:n], None if weight is None else weight[:n])


def joined(parts: Iterable[Tensor], n: int) -> Tensor:
    """Parts of n rows as one tensor, which each is copied to at once.

    Kept until the last is there, they would lie between the memory that was freed after each.
    """
    found, done = torch.empty(0), 0
    for part in parts:
        found = found if done else rows_like(part, n)
        found[done : done + len(part)] = part
        done += len(part)
    return found


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows (first axis, others averaged); weights have mean one over the table."""
    if weight is None:
        return losses.mean()
    if losses.dim() > 1:
        losses = losses.flatten(1).mean(1)
    return (losses * weight).mean()


def losses_of_members(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows of each member's losses (n, n_members): (n_members,)."""
    if weight is not None:
        losses = losses * (weight if weight.dim() > 1 else weight[:, None])
    return losses.mean(0)
