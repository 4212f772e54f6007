"""How many meta-learners a network needs: what n_meta_learners="auto" was chosen by.

    python -m benchmarks.tables.sharing [--data-dir DIR] [--seeds 0 1 2] [--jobs 2] [--out DIR]

MetaKANs whose layers share one meta-learner, two, three, or none, on development tables (no table
that ``quick`` reports on; of each the training rows of the first published split, a quarter of
them held out, the same for all). A row of the CSV is one fit; the table gives the held-out error
over that with one meta-learner, a geometric mean over tables and seeds, and the standard error of
its logarithm.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from benchmarks.common.data import MissingData, load_table, splits
from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options, seconds
from benchmarks.common.report import publish, table
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
COUNTS = {"1": "", "2": "two", "3": "three", "layer": "one a layer"}


class Trial(NamedTuple):
    data: str
    network: str
    source: str
    n_meta_learners: str
    seed: int


RESULTS = ("accuracy", "train_r2", "parameters", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "data-dir", "seeds", "minutes", jobs=2, out=Path("out/sharing"))
    parser.add_argument("--max-iter", type=int, help="default: the estimator's")
    options = parser.parse_args(arguments)
    try:
        for name in TABLES:
            load_table(name, options.data_dir)
    except MissingData as missing:
        parser.error(str(missing))
    shown = "R2 {accuracy:.3f} in {seconds:.0f} s"
    ledger = Ledger(options.out / "sharing.csv", Trial, RESULTS, options, shown)
    every = product(options.seeds, TABLES, NETWORKS, SOURCES, COUNTS)
    trials = [
        Trial(*case, seed)
        for seed, *case in every
        if case[-1] in ("1", "layer") or int(case[-1]) <= len(NETWORKS[case[1]])
    ]
    more = {} if options.max_iter is None else {"max_iter": options.max_iter}
    ledger.finish(trials, partial(hold, data_dir=options.data_dir, **more))
    publish([report(ledger.rows())], options.out / "sharing.md")


def hold(trial: Trial, data_dir: Path, **more: Any) -> dict[str, Any]:
    """Fit, and R2 on the held-out rows (``accuracy``)."""
    X, y, _ = load_table(trial.data, data_dir)
    train = splits(trial.data, data_dir)[0][0][:MAX_ROWS]
    fitted, held = train_test_split(train, test_size=0.25, random_state=0)
    count = trial.n_meta_learners
    model = MetaKANRegressor(
        NETWORKS[trial.network],
        n_meta_learners=int(count) if count.isdigit() else count,
        random_state=trial.seed,
        **SOURCES[trial.source],
        **more,
    )
    spent = seconds(lambda: model.fit(X.iloc[fitted], y[fitted]))
    return {
        "accuracy": r2_score(y[held], model.predict(X.iloc[held])),
        "train_r2": r2_score(y[fitted], model.predict(X.iloc[fitted])),
        "parameters": model.n_parameters_,
        "seconds": round(spent, 2),
    }


def report(rows: pd.DataFrame) -> str:
    """One line a network and source: held-out 1 - R2 over that with one meta-learner."""
    one = rows[rows["n_meta_learners"] == "1"]
    pair = ["data", "network", "source", "seed"]
    rows = rows.merge(one[[*pair, "accuracy"]], on=pair, suffixes=("", "_of_one"))
    rows["log_ratio"] = np.log((1 - rows["accuracy"]) / (1 - rows["accuracy_of_one"]))
    by_count = rows.groupby(["network", "source", "n_meta_learners"], sort=False)["log_ratio"]
    logs = by_count.agg(["mean", "sem"]).unstack()
    logs["mean"] = np.exp(logs["mean"])
    logs.columns = ["_".join(pair) for pair in logs.columns]
    shared = one.groupby(["network", "source"], sort=False)["train_r2"].agg(["size", "min"])
    columns = {"hidden layers": "{network}", "source": "{source}", "fits each": "{size}"}
    for count, title in [*COUNTS.items()][1:]:
        columns[title] = f"{{mean_{count}:.2f}} ± {{sem_{count}:.2f}}"
    return table(
        shared.join(logs).reset_index(), columns | {"least training R2, one for all": "{min:.3f}"}
    )


if __name__ == "__main__":
    main()
