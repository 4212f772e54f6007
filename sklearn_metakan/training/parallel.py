"""One fit on several processes, each with a part of every batch: torch.distributed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed, nn

from sklearn_metakan.training.memory import Batch

_FAR = 2**32  # between the seeds of one process and the next


class Share:
    """Inputs of a batch of ``n`` rows of which this process has read its own.

    Attributes
    ----------
    inputs : Tensor of shape (n_own, d)
    rows : slice or integer Tensor of shape (n_own,)
        Where in the batch they are.
    """

    def __init__(self, inputs: Tensor, rows: slice | Tensor, n: int) -> None:
        self.inputs, self.rows, self.n = inputs, rows, n

    def __len__(self) -> int:
        return self.n


class Ranks:
    """The processes that train together, and which of them this one is.

    Attributes
    ----------
    rank : int
        From 0 on.
    size : int
        How many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def own(self, batch: Batch) -> tuple[Batch, float]:
        """The rows of a batch that are this process's, and their share; of very few rows all."""
        X: Any = batch[0]
        y, weight = batch[1]
        n = len(X)
        rows: Any = self.span(n)
        if isinstance(X, Share):
            inputs, rows = X.inputs, X.rows
        elif n < self.size:
            return batch, 1 / self.size
        else:
            inputs = X[rows]
        part = len(inputs) / n
        if not part:  # any row, which counts for nothing
            inputs, rows = inputs.new_zeros(1, *inputs.shape[1:]), slice(0, 1)
        return (inputs, (y[rows], None if weight is None else weight[rows])), part

    def span(self, n: int) -> slice:
        """Which of n things in a row are this process's."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def joined(self, own: Tensor, n: int) -> Tensor:
        """Rows of all processes, (n, ...), from those of each one's ``own`` part."""
        if n < self.size:
            return own
        found = own.new_zeros(n, *own.shape[1:])
        found[self.span(n)] = own
        self.add_up(found)
        return found

    def summed(self, found: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Gradients, and what a step found, added up over all processes."""
        flat = self.packed(found, module)
        self.add_up(flat)
        return self.unpacked(flat, found, module)

    def packed(self, found: dict[str, Tensor], module: nn.Module) -> Tensor:
        """Gradients, and what a step found, one after the other."""
        parts = [*_gradients(module), *found.values()]
        return torch.cat([part.reshape(-1).to(parts[0].dtype) for part in parts])

    def add_up(self, numbers: Tensor) -> None:
        """In place, over all processes; on a card where they talk between cards only."""
        on_card = "cpu:" not in distributed.get_backend_config()
        of_all = numbers.cuda() if on_card else numbers
        distributed.all_reduce(of_all)
        if of_all is not numbers:
            numbers.copy_(of_all)

    def unpacked(
        self, flat: Tensor, found: dict[str, Tensor], module: nn.Module
    ) -> dict[str, Tensor]:
        """The inverse of ``packed``: gradients to where they were, and what was found."""
        slopes = _gradients(module)
        parts = flat.split([part.numel() for part in (*slopes, *found.values())])
        for slope, part in zip(slopes, parts, strict=False):
            slope.copy_(part.view_as(slope))
        rest = zip(found.items(), parts[len(slopes) :], strict=True)
        return {name: part.view_as(known).to(known.dtype) for (name, known), part in rest}

    def mean(self, numbers: Sequence[float]) -> list[float]:
        """Over all processes, each by itself."""
        of_all = torch.tensor(self.gathered([*numbers]), dtype=torch.float64)
        return of_all.mean(0).tolist()

    def agreed(self, value: Any) -> Any:
        """What the first process has."""
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """What each process has, in their order."""
        held = [None] * self.size
        distributed.all_gather_object(held, value)
        return held

    def begin(self, module: nn.Module, data: Any) -> None:
        """Have all start from the weights of the first.

        Raises ValueError if their data differ, and for batch norm.
        """
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
            raise ValueError(
                "norm='batch' takes its statistics over a whole batch, of which each process has "
                "a part. Set norm='instance' or norm=None."
            )
        y = getattr(data, "y", None)
        if y is not None:
            mine = float(len(y)), float(y.double().sum())
            if self.agreed(mine) != mine:
                raise ValueError(
                    f"Process {self.rank} has other rows than process 0. Give fit the whole table, "
                    "in the same order, in every process: each takes its part of every batch."
                )
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)

    def part_ways(self, generator: torch.Generator) -> None:
        """Have a generator that is alike in all processes draw other numbers in each."""
        if self.rank:
            generator.manual_seed((generator.initial_seed() + self.rank * _FAR) % 2**63)


def _gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


PRESENT: ContextVar[Ranks | None] = ContextVar("PRESENT", default=None)


def draw_apart(generator: torch.Generator) -> None:
    """Have a generator draw other numbers in each of the processes that train together."""
    ranks = PRESENT.get()
    if ranks is not None:
        ranks.part_ways(generator)


@contextmanager
def data_parallel() -> Iterator[Ranks]:
    """Within it, ``fit`` trains one model on all processes that torchrun started.

    Each takes its part of every batch, and gradients are added up: the weights are those of one
    process with the same ``batch_size``, to rounding, and the same everywhere. All processes call
    ``fit`` with the same parameters and the same whole table, in the same order. PDE solvers draw
    points of their own in each process, so that a step has as many times more.

    Uses the process group that there is, or makes one from torchrun's environment (and leaves it
    at the end): NCCL between cards, of which ``device="auto"`` is one a process, gloo between CPUs.
    Without torchrun and without a group there is one process, and nothing changes.

    Yields
    ------
    Ranks
        With ``rank`` and ``size``: files are for ``rank == 0`` to write.

    Raises
    ------
    RuntimeError
        If there are more processes on a machine than cards.

    Notes
    -----
    Dropout draws other numbers in each process. Ctrl-C raises. ``time_limit`` is that of the first
    process, and checkpoints are written by it, into a folder that all can read.

    Examples
    --------
    In a script ``train.py``, run by ``torchrun --nproc-per-node 2 train.py``:

    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor, data_parallel
    >>> X, y = make_friedman1(300, random_state=0)
    >>> with data_parallel() as ranks:
    ...     model = KANRegressor((4,), n_estimators=1, max_iter=5, random_state=0).fit(X, y)
    >>> ranks.rank, ranks.size
    (0, 1)
    """
    makes_one = not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    card: Any = nullcontext()
    if makes_one:
        on_cards = torch.cuda.is_available()
        if on_cards:
            place, n_cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
            if place >= n_cards:
                raise RuntimeError(
                    f"There are {n_cards} cards, but a process more. Start as many as there are "
                    "cards (torchrun --nproc-per-node), or hide them: CUDA_VISIBLE_DEVICES=''."
                )
            card = torch.cuda.device(place)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_cards else "gloo")
    try:
        if not distributed.is_initialized():
            yield Ranks(0, 1)
            return
        ranks = Ranks(distributed.get_rank(), distributed.get_world_size())
        token = PRESENT.set(ranks if ranks.size > 1 else None)
        try:
            with card:
                yield ranks
        finally:
            PRESENT.reset(token)
    finally:
        if makes_one:
            distributed.destroy_process_group()
