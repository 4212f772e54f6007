"""When a card is full: smaller blocks, then fewer rows at a time, and only then an error."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor, nn

T = TypeVar("T")
Batch = tuple[Tensor, tuple[Tensor, Tensor | None]]  # inputs, (targets, weights)

LEAST = 1.0  # MiB; halving a layer's working memory ends here
USUAL = 64.0  # MiB of predictions; from here a layer's own choice, working_memory=None, is halved


def fit_into_memory(
    attempt: Callable[[], T], shrink: Callable[[], bool], full: Exception | None = None
) -> T:
    """``attempt()``, again and again until the card's memory suffices.

    Parameters
    ----------
    attempt : callable
        Starts anew when called again.
    shrink : callable
        Frees what an attempt left, sees to it that the next one needs less, and tells whether
        was possible.
    full : Exception, optional
        With which a first attempt has failed already, without its frames.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        The attempt's own, where nothing can be made smaller.
    """
    while True:
        if full is None:
            try:
                return attempt()
            except torch.cuda.OutOfMemoryError as error:
                full = error.with_traceback(None)  # the frames hold what is to be freed
        if not shrink():
            raise full
        full = None
        torch.cuda.empty_cache()


class Frugal:
    """Computes what needs too much memory in smaller pieces, from then on at once.

    First the layers' ``working_memory`` is halved, down to 1 MiB; then the rows of a batch
    that go through the network together. Both leave the result as it is, to rounding; but for
    the second with batch norm, whose statistics are then those of the rows that go together.

    Attributes
    ----------
    rows : int or None
        Rows of a batch that go together; None: all.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.warned = False

    def run(
        self,
        module: nn.Module,
        batch: Batch,
        step: Callable[[Batch, float], dict[str, Any]],
        free: Callable[[], None],
        full: Exception | None = None,
    ) -> dict[str, Any]:
        """What a step finds for a batch, again and again until it fits.

        Raises torch.cuda.OutOfMemoryError if a single row is too much for the least working memory.

        Parameters
        ----------
        module : Module
            Whose layers' ``working_memory`` may be lowered.
        batch : Batch
        step : callable (batch, share) -> dict
            Told which share of the whole batch a part is; its tensors are sums over parts, but for
            "y_pred", which has a row for each.
        free : callable
            Drops what an attempt left, and whatever can be spared.
        full : Exception, optional
            With which the step failed on the whole batch.
        """
        lowered, n = False, len(batch[0])

        def attempt() -> dict[str, Any]:
            if self.rows is None or self.rows >= n:
                return step(batch, 1.0)
            steps = [step(part, share) for part, share in parts(batch, self.rows)]
            sums = {k: sum(each[k].detach() for each in steps) for k in steps[0] if k != "y_pred"}
            return sums | {"y_pred": torch.cat([each["y_pred"].detach() for each in steps])}

        def shrink() -> bool:
            nonlocal lowered
            layers = [layer for layer in _layers(module) if _memory_of(layer) > LEAST]
            together = n if self.rows is None else min(n, self.rows)
            if not layers and together == 1:
                return False
            free()
            lowered = True
            for layer in layers:
                layer.working_memory = max(LEAST, _memory_of(layer) / 2)
            if not layers:
                self.rows = -(-together // 2)
            return True

        result = fit_into_memory(attempt, shrink, full)
        if lowered and not self.warned:
            self.warned = True
            self._warn(module)
        return result

    def _warn(self, module: nn.Module) -> None:
        memory = min(map(_memory_of, _layers(module)))
        done, result = f"working_memory was lowered to {memory:g}", "The result is the same"
        if self.rows is not None:
            done += f", and gradients are summed over {self.rows} rows of a batch at a time"
            if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
                result = (
                    f"norm='batch' takes its statistics over {self.rows} rows in place of a whole "
                    "batch, which changes the result (norm='instance' would not)"
                )
        warnings.warn(
            f"The card's memory was full: {done}. {result}, but takes longer. Set "
            f"working_memory={memory:g} to start there, or lower batch_size or hidden_layer_sizes.",
            RuntimeWarning,
            stacklevel=2,
        )


def _layers(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if hasattr(layer, "working_memory")]


def _memory_of(layer: Any) -> float:
    return USUAL if layer.working_memory is None else layer.working_memory


def with_advice(error: Exception, doing: str, remedy: str) -> torch.cuda.OutOfMemoryError:
    """What to raise if memory runs out in spite of all: what to change."""
    return torch.cuda.OutOfMemoryError(
        f"The card's memory is too small for {doing}, even row by row. {remedy} ({error})"
    )


def parts(batch: Batch, rows: int) -> Iterator[tuple[Batch, float]]:
    """A batch in parts of at most so many rows, each with its share of the rows."""
    X, (y, weight) = batch
    for start in range(0, len(X), rows):
        part = slice(start, start + rows)
        weight_of_part = None if weight is None else weight[part]
        yield (X[part], (y[part], weight_of_part)), len(X[part]) / len(X)


def memory_for_rows(estimator: Any) -> float:
    """Bytes that predictions may take by ``working_memory``, which may be set after the fit."""
    given, name = estimator.working_memory, "working_memory"
    constraint = {name: estimator._parameter_constraints[name]}
    validate_parameter_constraints(constraint, {name: given}, caller_name=type(estimator).__name__)
    return (USUAL if given is None else float(given)) * 2**20


def by_chunks(n: int, rows: int, compute: Callable[[slice], None]) -> None:
    """``compute(chunk)`` for n rows, so many at a time; fewer where that is too much.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        With advice, if a single row is too much.
    """
    first, chunk = rows, slice(0, 0)

    def attempt() -> None:
        nonlocal chunk
        while chunk.stop < n:
            following = slice(chunk.stop, min(chunk.stop + rows, n))
            compute(following)
            chunk = following

    def shrink() -> bool:
        nonlocal rows
        rows = min(rows, n - chunk.stop) // 2
        return rows > 0

    try:
        fit_into_memory(attempt, shrink)
    except torch.cuda.OutOfMemoryError as error:
        remedy = "Free what others hold on the card, or fit with a lower working_memory."
        raise with_advice(error, "predictions", remedy) from error
    if rows < first:
        warnings.warn(
            f"The card's memory was full: predictions were made {rows} rows at a time. Lower "
            "working_memory to start with less.",
            RuntimeWarning,
            stacklevel=2,
        )
