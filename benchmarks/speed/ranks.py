"""Time of a pass of one fit on several cards or processes, beside one of them.

    torchrun --nproc-per-node 2 -m benchmarks.speed.ranks

Float32 rows of 100 columns, on the card or, without one, in a thread a process. Times are the
median of a fit's passes but for the first two, which warm up and capture; a pass ends when its
loss is known. What one process does alone is done before the others join.

"apart" is the largest difference of predictions from those of one process, in standard deviations:
of several processes; of one with the rows of every batch in reverse order, which is the same
training but for rounding; and of several in float64, after two passes over an eighth of the rows.
"""

import argparse
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from skorch.callbacks import EpochTimer

from benchmarks.common.report import table
from sklearn_metakan import KANRegressor, MetaKANRegressor, data_parallel
from sklearn_metakan.training import TensorData

COLUMNS, PASSES, FIRST = 100, 12, 2
SETTINGS: dict[str, Any] = {"n_estimators": 1, "early_stopping": False, "random_state": 0}


class Fit(NamedTuple):
    """Milliseconds of a pass, whether steps were captured, and predictions."""

    ms: float
    captured: bool
    predictions: NDArray[Any]

    def apart(self, other: "Fit") -> float:
        """The largest difference of predictions, in standard deviations of the other's."""
        known = other.predictions
        return float(np.abs(self.predictions - known).max() / known.std())


def fit(model: Any, X: Any, y: Any, **settings: Any) -> Fit:
    """A fit of ``PASSES`` passes, unless settings say another number."""
    model.set_params(**{"max_iter": PASSES, "precision": "auto"} | settings)
    model.set_params(callbacks=[EpochTimer()]).fit(X, y)
    seconds = model.net_.history[:, "dur"]
    predictions = model.predict(X[:1000].astype(np.float64))
    return Fit(1e3 * median(seconds[FIRST:] or seconds), model.cuda_graph_, predictions)


@contextmanager
def reversed_batches() -> Iterator[None]:
    """Within it, the rows of a batch come in reverse order."""
    batches = TensorData.batches

    def reversed_each(
        data: TensorData, size: int, generator: Any = None, rooms: Iterable[Any] = ()
    ) -> Iterator[Any]:
        for X, (y, weight) in batches(data, size, generator, rooms):
            for part in (X, y, weight):
                if part is not None and generator is not None:
                    part.copy_(part.flip(0))  # where a captured step reads it
            yield X, (y, weight)

    with patch.object(TensorData, "batches", reversed_each):
        yield


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=131_072)
    parser.add_argument("--batches", type=int, nargs="+", default=[4096, 65536])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 256])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((given.rows, COLUMNS), dtype=np.float32)
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    models = {
        (kind.__name__, batch): kind(given.widths, batch_size=batch, device="auto", **SETTINGS)
        for kind in (KANRegressor, MetaKANRegressor)
        for batch in given.batches
    }
    exactly = {"precision": "float64", "max_iter": FIRST}

    few = given.rows // 8

    def twice() -> dict[Any, tuple[Fit, Fit]]:
        return {
            name: (fit(model, X, y), fit(model, X[:few], y[:few], **exactly))
            for name, model in models.items()
        }

    first = os.environ.get("RANK", "0") == "0"
    alone = twice() if first else {}
    with reversed_batches():
        other = {name: fit(model, X, y) for name, model in models.items()} if first else {}
    with data_parallel() as ranks:
        together = twice()
    if first:
        rows = [
            {
                "kind": kind,
                "batch": batch,
                "captured": "yes" if several.captured else "no",
                "one": one.ms,
                "several": several.ms,
                "ratio": one.ms / several.ms,
                "apart": several.apart(one),
                "other": other[kind, batch].apart(one),
                "exactly": together[kind, batch][1].apart(alone[kind, batch][1]),
            }
            for (kind, batch), (one, _) in alone.items()
            for several in (together[kind, batch][0],)
        ]
        columns = {"": "{kind}", "batch": "{batch:,}", "captured": "{captured}"}
        columns |= {"ms a pass of one": "{one:.1f}", f"of {ranks.size}": "{several:.1f}"}
        columns |= {"times as quick": "{ratio:.2f}", "predictions apart": "{apart:.0e}"}
        columns |= {"of one, batches reversed": "{other:.0e}", "in float64": "{exactly:.0e}"}
        print(table(pd.DataFrame(rows), columns))


if __name__ == "__main__":
    main()
