"""How many meta-learners a network needs: what n_meta_learners="auto" was chosen by.

    python benchmarks/sharing.py [--data-dir DIR] [--seeds 0 1 2] [--jobs 2] [--out DIR]

MetaKANs whose layers share one meta-learner, two, three, or none, on development tables (no table
that benchmarks/quick.py reports on; of each the training rows of the first published split, a
quarter of them held out, the same for all). A row of the CSV is one fit; the table gives the
held-out error over that with one meta-learner, a geometric mean over tables and seeds, and the
standard error of its logarithm.
"""

import argparse
import time
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _data import MissingData, load, splits
from _images_runs import Clock, carry_out
from _ledger import Ledger
from _markdown import publish, table
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from sklearn_metakan import MetaKANRegressor

TABLES = ("uci_energy", "uci_concrete", "uci_kin8nm", "uci_power")
MAX_ROWS = 2000
NETWORKS = {
    "64": (64,),
    "64-32-16": (64, 32, 16),
    "64-56-48-40-32-24-16": (64, 56, 48, 40, 32, 24, 16),
}
SOURCES: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"edge_scale": False, "meta_activation": "relu"},
    "linear p=3": {"edge_scale": False, "meta_hidden_dim": 0, "prompt_dim": 3},
}
COUNTS = ("1", "2", "3", "layer")


@dataclass(frozen=True)
class Trial:
    data: str
    network: str
    source: str
    n_meta_learners: str
    seed: int


KEY = [field.name for field in fields(Trial)]
RESULTS = ["accuracy", "train_r2", "parameters", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--max-iter", type=int, help="default: the estimator's")
    parser.add_argument("--minutes", type=float, help="after which no further fit is started")
    parser.add_argument("--out", type=Path, default=Path("out/sharing"))
    options = parser.parse_args()
    try:
        for name in TABLES:
            load(name, options.data_dir)
    except MissingData as missing:
        parser.error(str(missing))
    ledger = Ledger(options.out / "sharing.csv", KEY + RESULTS, KEY)
    every = product(options.seeds, TABLES, NETWORKS, SOURCES, COUNTS)
    trials = [
        Trial(data, network, source, count, seed)
        for seed, data, network, source, count in every
        if count in ("1", "layer") or int(count) <= len(NETWORKS[network])
    ]
    todo = [trial for trial in trials if asdict(trial) not in ledger]
    work = partial(hold, data_dir=options.data_dir, max_iter=options.max_iter)
    for _ in carry_out(todo, work, ledger, Clock(options.minutes), options.jobs):
        pass
    publish(report(ledger.rows()), options.out / "sharing.md")


def hold(trial: Trial, data_dir: Path, max_iter: int | None) -> dict[str, Any]:
    """Fit, and R2 on the held-out rows (``accuracy``)."""
    X, y, _ = load(trial.data, data_dir)
    train = splits(trial.data, data_dir)[0][0][:MAX_ROWS]
    fitted, held = train_test_split(train, test_size=0.25, random_state=0)
    count = trial.n_meta_learners
    more = {} if max_iter is None else {"max_iter": max_iter}
    model = MetaKANRegressor(
        NETWORKS[trial.network],
        n_meta_learners=int(count) if count.isdigit() else count,
        random_state=trial.seed,
        **SOURCES[trial.source],
        **more,
    )
    start = time.perf_counter()
    model.fit(X.iloc[fitted], y[fitted])
    return {
        "accuracy": r2_score(y[held], model.predict(X.iloc[held])),
        "train_r2": r2_score(y[fitted], model.predict(X.iloc[fitted])),
        "parameters": model.n_parameters_,
        "seconds": round(time.perf_counter() - start, 2),
    }


def report(rows: pd.DataFrame) -> list[str]:
    """One line a network and source: held-out 1 - R2 over that with one meta-learner."""
    rows = rows.astype({"accuracy": float, "train_r2": float, "parameters": int})
    rows["error"] = 1 - rows["accuracy"]
    within = ["data", "network", "source", "seed"]
    one = rows[rows["n_meta_learners"] == "1"].set_index(within)["error"]
    beside = one.reindex(pd.MultiIndex.from_frame(rows[within])).to_numpy()
    rows["ratio"] = rows["error"] / beside
    lines = []
    for (network, source), group in rows.groupby(["network", "source"], sort=False):
        logs = np.log(group["ratio"]).groupby(group["n_meta_learners"]).agg(["mean", "sem"])
        cells = [
            f"{np.exp(logs['mean'][count]):.2f} ± {logs['sem'][count]:.2f}"
            if count in logs.index
            else ""
            for count in COUNTS[1:]
        ]
        shared = group[group["n_meta_learners"] == "1"]
        lines.append([network, source, len(shared), *cells, f"{shared['train_r2'].min():.3f}"])
    header = ["hidden layers", "source", "fits each"]
    header += ["two", "three", "one a layer"]
    return [*table([*header, "least training R2, one for all"], lines)]


if __name__ == "__main__":
    main()
