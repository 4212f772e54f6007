"""Memory and time of large tables, beside scikit-learn's MLP.

    python -m benchmarks.speed.large             # all tables; or some: memory, levels, time

memory: the most that a process has resident while it fits, beyond what it has before with the
table in it, in tables; 1,000,000 rows of 20 columns, float32, defaults, one pass. A table in a
file, read as it is needed, has its own pages counted apart. levels: the same in megabytes, of
100,000 rows of 10 columns in a frame, without and with a column of 20,000 levels of text. time:
processor seconds of fits with the same widths, passes and batch size, one thread, none held out,
one network, in turns, least of five.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

from benchmarks.common.report import Goal, goals, table
from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

ROWS, COLUMNS = 1_000_000, 20
WIDTHS, BATCH = (32, 32), 256
OURS: dict[str, Any] = {"n_estimators": 1, "early_stopping": False}
MODELS = {
    "MLP": (MLPRegressor, MLPClassifier, {"n_iter_no_change": 10**6, "tol": 0.0}),
    "KAN": (KANRegressor, KANClassifier, OURS),
    "MetaKAN": (MetaKANRegressor, MetaKANClassifier, OURS),
}
# Rows, columns, classes (0: numbers), passes.
SHAPES = [(2_000, 10, 0, 50), (20_000, 10, 0, 10), (5_000, 100, 0, 20), (2_000, 1_000, 0, 20)]
SHAPES += [(5_000, 10, 2, 20), (5_000, 10, 20, 20)]
MOST_TABLES, MOST_RATIO = 1.5, 4.0
OF_LEVELS, LEVELS = (100_000, 10), 20_000
MOST_WITH_LEVELS, PER_LEVEL = 1.3, 4 * 8  # times the numbers' memory, and bytes a level


def make_data(rows: int, columns: int, classes: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns), dtype=np.float32)
    y = np.sin(X[:, 0]) + X[:, 1]
    return X, np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) if classes else y


def resident() -> dict[str, int]:
    """Bytes of this process: its own, and pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split()[:2] for line in lines if line.startswith("Rss"))
    found = {name: 1024 * int(number) for name, number in pairs}
    return {"own": found["RssAnon:"], "files": found["RssFile:"]}


def memory(model: str, rows: int, mapped: bool = False, what: str = "fit") -> float:
    """What ``fit`` or, of so many levels, ``fit_levels`` gives, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.large", what, model, str(rows)]
    command += ["--mapped"] if mapped else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def fit(model: str, rows: int, mapped: bool) -> float:
    """Tables that a fit needs beyond the input."""
    X, y = make_data(rows, COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        if mapped:
            np.save(Path(folder, "X.npy"), X)
            X = np.load(Path(folder, "X.npy"), mmap_mode="r")
        return watched(model, X, y) / X.nbytes


def fit_levels(model: str, levels: int) -> float:
    """Megabytes that a fit needs beyond a frame of numbers, and of text if there are levels."""
    X, y = make_data(*OF_LEVELS)
    frame = pd.DataFrame(X).add_prefix("x")
    if levels:
        codes = np.random.default_rng(1).integers(levels, size=len(X))
        frame["of"] = [f"level {code}" for code in codes.tolist()]
    return watched(model, frame, y) / 1e6


def watched(model: str, X: Any, y: Any) -> int:
    """Bytes of its own that this process has at most in a fit, beyond those before."""
    options = {"batch_size": BATCH, "max_iter": 1, "random_state": 0}
    kind = MODELS[model][0]
    kind(**options).fit(X[:5000], y[:5000])
    before, most, done = resident()["own"], [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], resident()["own"])

    watching = threading.Thread(target=watch)
    watching.start()
    kind(**options).fit(X, y)
    done.set()
    watching.join()
    return most[0] - before


def seconds(shape: tuple[int, int, int, int], repeats: int = 5) -> dict[str, float]:
    """Of a fit of each model, in turns, the least."""
    rows, columns, classes, passes = shape
    X, y = make_data(rows, columns, classes)
    found = dict.fromkeys(MODELS, np.inf)
    for _ in range(repeats):
        for model, (*kinds, options) in MODELS.items():
            how = {"hidden_layer_sizes": WIDTHS, "max_iter": passes, "random_state": 0}
            made = kinds[classes > 0](batch_size=BATCH, **how, **options)
            begin = time.process_time()
            made.fit(X, y)
            found[model] = min(found[model], time.process_time() - begin)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["memory", "levels", "time"])
    parser.add_argument("--rows", type=int, default=ROWS, help="of the table whose memory is asked")
    parser.add_argument("--mapped", action="store_true")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reached = []
    with threadpool_limits(1):
        if asked.what[0] == "fit":
            print(fit(asked.what[1], int(asked.what[2]), asked.mapped))
            return
        if asked.what[0] == "fit_levels":
            print(fit_levels(asked.what[1], int(asked.what[2])))
            return
        if "levels" in asked.what:
            rows = []
            for model in ("KAN", "MetaKAN"):
                plain, levels = (memory(model, n, what="fit_levels") for n in (0, LEVELS))
                ratio = (levels - PER_LEVEL * LEVELS / 1e6) / plain
                rows.append({"model": model, "numbers": plain, "levels": levels, "ratio": ratio})
            columns = {"model": "{model}", "numbers, MB": "{numbers:.0f}"}
            columns |= {"and levels, MB": "{levels:.0f}", "less 4 numbers a level": "{ratio:.2f}"}
            print(table(pd.DataFrame(rows), columns) + "\n")
            worst = max(row["ratio"] for row in rows)
            reached.append(Goal("times the numbers' memory, with levels", worst, MOST_WITH_LEVELS))
        if "memory" in asked.what:
            cases = [(model, mapped) for model in MODELS for mapped in (False, True)]
            rows = [{"model": m, "file": f, "tables": memory(m, asked.rows, f)} for m, f in cases]
            columns = {"model": "{model}", "table in a file": "{file}", "tables": "{tables:.2f}"}
            print(table(pd.DataFrame(rows), columns) + "\n")
            worst = max(row["tables"] for row in rows if row["model"] != "MLP")
            reached.append(Goal("tables beyond the input", worst, MOST_TABLES))
        if "time" in asked.what:
            rows = []
            for shape in SHAPES:
                row = dict(zip(("rows", "columns", "classes", "passes"), shape, strict=True))
                spent = seconds(shape)
                rows.append(row | spent | {f"x{m}": s / spent["MLP"] for m, s in spent.items()})
            found = pd.DataFrame(rows)
            columns = {name: f"{{{name}}}" for name in ("rows", "columns", "classes", "passes")}
            columns |= {"MLP s": "{MLP:.2f}", "KAN": "{xKAN:.1f}", "MetaKAN": "{xMetaKAN:.1f}"}
            print(table(found, columns) + "\n")
            wide = found.loc[found["columns"] == 1000, ["xKAN", "xMetaKAN"]].max(axis=None)
            reached.append(Goal("times the MLP's seconds at 1,000 columns", wide, MOST_RATIO))
    print(goals(reached))


if __name__ == "__main__":
    main()
