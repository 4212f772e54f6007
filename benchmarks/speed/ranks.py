"""Time of a pass of one fit on several cards or processes, beside one of them.

    torchrun --nproc-per-node 2 -m benchmarks.speed.ranks

Float32 rows of 100 columns, on the card or, without one, in a thread a process. Seconds of a pass
are those of ``fit`` with six passes less those with two, shared among four; the least of two.
What one process does alone is done before the others join, and predictions are compared.
"""

import argparse
import os
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common.report import table
from sklearn_metakan import KANRegressor, MetaKANRegressor, data_parallel

COLUMNS, PASSES = 100, (2, 6)
SETTINGS: dict[str, Any] = {"n_estimators": 1, "early_stopping": False, "random_state": 0}


def measured(model: Any, X: Any, y: Any) -> tuple[float, Any]:
    """Seconds of a pass, and predictions."""
    seconds: dict[int, list[float]] = {n: [] for n in PASSES}
    for n in PASSES * 2:
        start = perf_counter()
        fitted = model.set_params(max_iter=n).fit(X, y)
        seconds[n].append(perf_counter() - start)
    few, many = PASSES
    return (min(seconds[many]) - min(seconds[few])) / (many - few), fitted.predict(X[:1000])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=262_144)
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
    first = os.environ.get("RANK", "0") == "0"
    alone = {name: measured(model, X, y) for name, model in models.items()} if first else {}
    with data_parallel() as ranks:
        together = {name: measured(model, X, y) for name, model in models.items()}
    if first:
        rows = [
            {
                "kind": kind,
                "batch": batch,
                "ms": 1e3 * seconds,
                "ratio": seconds / together[kind, batch][0],
                "apart": np.abs(together[kind, batch][1] - known).max() / known.std(),
            }
            for (kind, batch), (seconds, known) in alone.items()
        ]
        columns = {"": "{kind}", "batch": "{batch:,}", "ms a pass of one": "{ms:.0f}"}
        columns |= {f"times as quick on {ranks.size}": "{ratio:.2f}"}
        print(table(pd.DataFrame(rows), columns | {"predictions apart": "{apart:.0e}"}))


if __name__ == "__main__":
    main()
