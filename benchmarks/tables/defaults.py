"""Random search over settings on development data: what the defaults were chosen by.

    python -m benchmarks.tables.defaults --space wide --seconds 540 --jobs 16 --csv sweep.csv

Settings are drawn independently for each fit, on development tables in turn (no table that
``quick`` reports on); of tables with published test rows only training rows are
used. A row of the CSV is one fit: settings, 1 - R2 or log loss on held-out rows, seconds.
`--analyse` prints the mean effect of each setting on the logarithm of that loss, centred table
by table.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.datasets import make_friedman1
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import sklearn_metakan
from benchmarks.common.data import load_table, splits
from benchmarks.common.measure import add_options, seconds

TABLES = (
    *("uci_yacht", "uci_boston", "uci_energy", "uci_concrete", "uci_wine_red", "uci_kin8nm"),
    *("uci_power", "uci_naval", "uci_protein", "bike_sharing", "friedman1", "relativity"),
    *("credit_g", "phoneme", "spambase", "letter"),
)
MAX_ROWS = 4500
STEPS, PASSES = 3000, (20, 200)  # max_iter="auto" is so many steps, in so many passes

KINDS = {"regression": "Regressor", "classification": "Classifier"}
META = ("prompt_dim", "meta_hidden_dim", "meta_activation", "edge_scale")
SOURCES: dict[str, tuple[Any, ...] | None] = {
    "direct": None,
    "paper": (1, 32, "relu", False),
    "sin p1 scaled": (1, 32, "sin", True),
    "sin p2": (2, 32, "sin", False),
    "sin p2 scaled": (2, 32, "sin", True),
    "silu p2": (2, 32, "silu", False),
    "linear p2": (2, 0, "relu", False),
    "linear p3": (3, 0, "relu", False),
}
# Three searches, one after the other, each around what the one before had shown.
SPACES: dict[str, dict[str, list[Any]]] = {
    "wide": {
        "source": ["direct", *SOURCES],
        "hidden_layer_sizes": [(32,), (64,), (128,), (32, 32), (64, 64)],
        "grid_size": [3, 5, 8, 12],
        "learning_rate": [0.002, 0.005, 0.01, 0.02, 0.05],
        "weight_decay": [1e-5, 1e-3, 1e-2, 1e-1],
        "max_iter": [100, 200],
        "scale_inputs": ["auto", "minmax", "standard", "quantile"],
        "knots": ["uniform", "uniform", "quantile"],
        "learning_rate_schedule": ["onecycle", "cosine"],
        "dropout": [0.0, 0.0, 0.1],
        "hidden_range": [1.5, 2.0, 3.0, 4.0],
        "smoothness": [0.1, 1.0, 10.0],
        "prompt_decay": [True, False],
    },
    "narrow": {
        "source": ["direct", "direct", "sin p1 scaled", "sin p2 scaled", "linear p2", "linear p3"],
        "hidden_layer_sizes": [(64,), (128,), (64, 64)],
        "learning_rate": [0.005, 0.01, 0.02, 0.04],
        "weight_decay": [1e-4, 1e-2, 1e-1],
        "max_iter": ["auto", "auto x2"],
        "scale_inputs": ["auto", "minmax"],
        "knots": ["uniform", "quantile"],
        "learning_rate_schedule": ["onecycle", "cosine"],
        "hidden_range": [2.0, 3.0, 4.0],
        "smoothness": [1.0, 3.0, 10.0],
        "prompt_decay": [True, False],
        "batch_size": [256, 512],
    },
    "decay": {
        "source": ["direct", "direct", "sin p1 scaled", "sin p2 scaled", "linear p2", "linear p3"],
        "hidden_layer_sizes": [(64,), (128,)],
        "learning_rate": [0.02, 0.04],
        "weight_decay": [0.03, 0.1, 0.3, 1.0],
        "prompt_decay": [True, False],
    },
}


def development_rows(name: str, data_dir: Path) -> tuple[Any, ...]:
    """Training and held-out rows of one table: X_train, X_held, y_train, y_held, task."""
    task = "regression"
    if name == "friedman1":
        X, y = make_friedman1(2500, noise=0.0, random_state=1)
    elif name == "relativity":  # Feynman I.15.3x, no noise
        x, u, t = np.random.default_rng(1).uniform([5, 1, 1], [10, 2, 2], (2500, 3)).T
        c = np.random.default_rng(2).uniform(3, 20, 2500)
        X, y = np.stack([x, u, c, t], axis=1), (x - u * t) / np.sqrt(1 - (u / c) ** 2)
    else:
        frame, y, task = load_table(name, data_dir)
        if name.startswith("uci_") or name == "letter":
            train = splits(name, data_dir)[0][0]
            frame, y = frame.iloc[train], y[train]
        X = pd.get_dummies(frame, dtype=float).to_numpy()
    if task == "classification":
        y = np.unique(y, return_inverse=True)[1]
    rows = np.random.default_rng(0).permutation(len(y))[:MAX_ROWS]
    parts = train_test_split(X[rows].astype(np.float32), y[rows], test_size=0.25, random_state=0)
    return *parts, task


def draw(space: dict[str, list[Any]], rng: np.random.Generator) -> dict[str, Any]:
    return {name: values[rng.integers(len(values))] for name, values in space.items()}


def estimator(config: dict[str, Any], task: str, n_rows: int) -> Any:
    settings = dict(config)
    if settings.get("max_iter") == "auto x2":
        batches = -(-n_rows // settings["batch_size"])
        fewest, most = PASSES
        settings["max_iter"] = 2 * min(most, max(fewest, -(-STEPS // batches)))
    for name in ("hidden_range", "smoothness"):
        if name in settings:
            set_constant(name.upper(), settings.pop(name))
    prompt_decay = settings.pop("prompt_decay", True)
    source = SOURCES[settings.pop("source")]
    kind = ("KAN" if source is None else "MetaKAN") + KINDS[task]
    if source is not None:
        settings |= dict(zip(META, source, strict=True))
        if not prompt_decay:
            exempt = [("*.prompts", {"weight_decay": 0.0})]
            settings["net_params"] = {"optimizer__param_groups": exempt}
    return getattr(sklearn_metakan, kind)(random_state=0, early_stopping=False, **settings)


def set_constant(name: str, value: float) -> None:
    """Of the networks, for this process: what no parameter sets, but the search varies."""
    modules = [m for key, m in sys.modules.items() if key.startswith("sklearn_metakan.nn")]
    found = [module for module in modules if name in vars(module)]
    if not found:
        raise LookupError(f"sklearn_metakan.nn has no constant {name}.")
    for module in found:
        setattr(module, name, value)


def fit_one(config: dict[str, Any], table: str, data_dir: Path, deadline: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    if time.time() > deadline:
        return {}
    X_train, X_held, y_train, y_held, task = development_rows(table, data_dir)
    model = estimator(config, task, len(y_train))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spent = seconds(lambda: model.fit(X_train, y_train))
    if task == "regression":
        loss = 1 - model.score(X_held, y_held)
    else:
        loss = log_loss(y_held, model.predict_proba(X_held), labels=model.classes_)
    size = "-".join(map(str, config["hidden_layer_sizes"]))
    return config | {"hidden_layer_sizes": size, "table": table, "loss": loss, "seconds": spent}


def analyse(path: Path, names: list[str]) -> None:
    rows = pd.read_csv(path)
    rows["log_loss"] = np.log(rows["loss"].clip(1e-8, 10))
    rows["effect"] = rows["log_loss"] - rows.groupby("table")["log_loss"].transform("median")
    rows["kind"] = np.where(rows["source"] == "direct", "KAN", "MetaKAN")
    for kind, part in rows.groupby("kind"):
        print(f"\n{kind}: mean of log(loss / median loss of the table); lower is better")
        for name in names:
            by = part.groupby(name)["effect"].agg(["mean", "sem", "count"])
            for value, (mean, sem, count) in by.iterrows():
                print(f"  {name:24}{value!s:14}{mean:8.3f} +- {sem:.3f} ({count:.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "data-dir", jobs=-1)
    parser.add_argument("--space", choices=list(SPACES), default="wide")
    parser.add_argument("--draws", type=int, default=400, help="fits of each table at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--csv", type=Path, default=Path("out/defaults.csv"))
    parser.add_argument("--analyse", action="store_true", help="only read the CSV")
    options = parser.parse_args()
    if not options.analyse:
        rng = np.random.default_rng(options.seed)
        deadline = time.time() + options.seconds
        space = SPACES[options.space]
        rows = Parallel(n_jobs=options.jobs, batch_size=1)(
            delayed(fit_one)(draw(space, rng), table, options.data_dir, deadline)
            for _ in range(options.draws)
            for table in TABLES
        )
        if not any(rows):
            parser.error("no fit ended in time; raise --seconds")
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row for row in rows if row]).to_csv(options.csv, index=False)
    analyse(options.csv, list(SPACES[options.space]))


if __name__ == "__main__":
    main()
