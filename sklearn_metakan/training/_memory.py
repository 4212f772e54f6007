"""When a card is full: smaller blocks, then fewer rows at a time, and only then an error."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from sklearn_metakan.training._data import Batch

T = TypeVar("T")

LEAST = 1.0  # MiB; halving a layer's working memory ends here
USUAL = 64.0  # MiB; from here working_memory=None, the layer's own choice, is halved


class Frugal:
    """Computes what needs too much memory in smaller pieces, from then on at once.

    First the layers' ``working_memory`` is halved, down to 1 MiB; then the rows of a batch
    that go through the network together. Both leave the result as it is, to rounding.

    Attributes
    ----------
    rows : int or None
        Rows of a batch that go together; None: all.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.warned = False

    def run(
        self, module: nn.Module, n: int, compute: Callable[[int], T], free: Callable[[], None]
    ) -> T:
        """``compute(rows)`` for a batch of n rows, again and again until it fits.

        Parameters
        ----------
        module : Module
            Whose layers' ``working_memory`` may be lowered.
        n : int
        compute : callable
            Told how many rows may go together; starts anew when called again.
        free : callable
            Drops what an attempt left, and whatever can be spared.
        """
        lowered = False
        while True:
            rows = n if self.rows is None else min(n, self.rows)
            try:
                result = compute(rows)
                break
            except torch.cuda.OutOfMemoryError:
                if rows == 1 and not _large(module):
                    raise
            free()  # only here, where the error no longer holds what it interrupted
            torch.cuda.empty_cache()
            self._lower(module, rows)
            lowered = True
        if lowered and not self.warned:
            self.warned = True
            self._warn(module)
        return result

    def _lower(self, module: nn.Module, rows: int) -> None:
        layers = _large(module)
        for layer in layers:
            layer.working_memory = max(LEAST, _memory_of(layer) / 2)
        if not layers:
            self.rows = -(-rows // 2)

    def _warn(self, module: nn.Module) -> None:
        memory = min(map(_memory_of, _layers(module)))
        done = f"working_memory was lowered to {memory:g}"
        if self.rows is not None:
            done += f", and gradients are summed over {self.rows} rows of a batch at a time"
        warnings.warn(
            f"The card's memory was full: {done}. The result is the same, but takes longer. Set "
            f"working_memory={memory:g} to start there, or lower batch_size or hidden_layer_sizes.",
            RuntimeWarning,
            stacklevel=2,
        )


def _layers(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if hasattr(layer, "working_memory")]


def _memory_of(layer: Any) -> float:
    return USUAL if layer.working_memory is None else layer.working_memory


def _large(module: nn.Module) -> list[Any]:
    """Layers whose working memory can be halved."""
    return [layer for layer in _layers(module) if _memory_of(layer) > LEAST]


@contextmanager
def advice_when_full(doing: str, remedy: str) -> Iterator[None]:
    """Say what to change if memory runs out within it, in spite of all."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise torch.cuda.OutOfMemoryError(
            f"The card's memory is too small for {doing}, even row by row. {remedy} ({error})"
        ) from error


def parts(batch: Batch, rows: int) -> Iterator[tuple[Batch, float]]:
    """A batch in parts of at most so many rows, each with its share of the rows."""
    X, (y, weight) = batch
    for start in range(0, len(X), rows):
        part = slice(start, start + rows)
        weight_of_part = None if weight is None else weight[part]
        yield (X[part], (y[part], weight_of_part)), len(X[part]) / len(X)


def by_chunks(n: int, rows: int, compute: Callable[[slice], None]) -> None:
    """``compute(chunk)`` for n rows, so many at a time; fewer where that is too much."""
    start, first = 0, rows
    remedy = "Free what others hold on the card, or fit with a lower working_memory."
    with advice_when_full("predictions", remedy):
        while start < n:
            chunk = slice(start, min(start + rows, n))
            try:
                compute(chunk)
                start = chunk.stop
                continue
            except torch.cuda.OutOfMemoryError:
                if chunk.stop - start == 1:
                    raise
            torch.cuda.empty_cache()
            rows = (chunk.stop - start) // 2
    if rows < first:
        warnings.warn(
            f"The card's memory was full: predictions were made {rows} rows at a time. Lower "
            "working_memory to start with less.",
            RuntimeWarning,
            stacklevel=2,
        )
