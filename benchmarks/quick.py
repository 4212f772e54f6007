"""Cross-validation of the default estimators on unscaled data, beside scikit-learn's own.

    python benchmarks/quick.py [--data-dir ../shared/data] [--only NAME ...] [--csv OUT]

Five shuffled folds; the models take turns on each fold. The MLP gets scaled inputs and, with
--scale-target, a scaled target; nobody else's data is scaled.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _data import DIAMONDS_ORDER, MissingData, Table, load
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

# The score that MetaKAN has to reach; None: shown only.
GOALS: dict[str, float | None] = {
    "california_housing": 0.80,
    "diamonds": 0.97,
    "diamonds_numeric": None,
    "digits": 0.97,
    "breast_cancer": 0.96,
    "adult": 0.85,
}
ABOVE_MLP = ("california_housing",)
MAX_RATIO = 3.0  # of a fit's seconds to the MLP's, where the MLP needs more than
MIN_SECONDS = 2.0
N_FOLDS = 5


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    print(f"{'':19}{'':9}{'score':>9}{'std':>8}{'seconds':>9}{'to MLP':>8}  line")
    with threadpool_limits(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name in options.only:
            try:
                table = load(name, options.data_dir)
            except MissingData as error:
                print(f"{name}: skipped. {error}")
                continue
            for row in judge(name, measure(name, table, options.scale_target)):
                print(
                    "{table:19}{model:9}{score:9.4f}{std:8.4f}{seconds:9.2f}{to_mlp:8.2f}"
                    "  {line}".format(**row),
                    flush=True,
                )
                rows.append(row)
    if options.csv:
        pd.DataFrame(rows).to_csv(options.csv, index=False)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="+", choices=GOALS, default=list(GOALS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1, help="for all models; default 1")
    parser.add_argument("--scale-target", action="store_true", help="scale the MLP's target")
    parser.add_argument("--csv", type=Path, help="write the rows to this file, too")
    return parser.parse_args()


def measure(
    name: str, table: Table, scale_target: bool
) -> dict[str, tuple[list[float], list[float]]]:
    """Scores and fit seconds by fold, for each model."""
    classify = table.task == "classification"
    splitter = (StratifiedKFold if classify else KFold)(N_FOLDS, shuffle=True, random_state=0)
    models = make_models(classify, scale_target)
    result: dict[str, tuple[list[float], list[float]]] = {model: ([], []) for model in models}
    folds = list(splitter.split(table.X, table.y))
    with tqdm(total=len(folds) * len(models), desc=name, unit="fit", leave=False) as bar:
        for train, test in folds:
            for model, estimator in models.items():
                pipeline = Pipeline([*columns(name, table.X), ("model", clone(estimator))])
                start = time.perf_counter()
                pipeline.fit(table.X.iloc[train], table.y[train])
                result[model][1].append(time.perf_counter() - start)
                result[model][0].append(pipeline.score(table.X.iloc[test], table.y[test]))
                bar.update()
    return result


def columns(name: str, X: pd.DataFrame) -> list[tuple[str, BaseEstimator]]:
    """Steps that turn text columns into numbers: none for a table without any."""
    text = [column for column in X if not pd.api.types.is_numeric_dtype(X[column])]
    if not text:
        return []
    if name == "diamonds":
        order = OrdinalEncoder(categories=[DIAMONDS_ORDER[column] for column in text])
        return [("columns", ColumnTransformer([("text", order, text)], remainder="passthrough"))]
    one_hot = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    parts = [("text", one_hot, text)]
    numbers = SimpleImputer(strategy="median")
    return [("columns", ColumnTransformer(parts, remainder=numbers))]


def make_models(classify: bool, scale_target: bool) -> dict[str, BaseEstimator]:
    """In the order in which they are shown; the MLP first, to compare seconds with."""
    if classify:
        return {
            "MLP": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
            "MetaKAN": MetaKANClassifier(random_state=0),
            "KAN": KANClassifier(random_state=0),
            "HGB": HistGradientBoostingClassifier(random_state=0),
        }
    mlp = make_pipeline(StandardScaler(), MLPRegressor(random_state=0))
    if scale_target:
        mlp = TransformedTargetRegressor(mlp, transformer=StandardScaler())
    return {
        "MLP": mlp,
        "MetaKAN": MetaKANRegressor(random_state=0),
        "KAN": KANRegressor(random_state=0),
        "HGB": HistGradientBoostingRegressor(random_state=0),
    }


def judge(
    name: str, result: dict[str, tuple[list[float], list[float]]]
) -> Iterator[dict[str, Any]]:
    """One row a model; ``line`` says whether it reaches what is asked of it."""
    mlp_score, mlp_seconds = (float(np.mean(values)) for values in result["MLP"])
    for model, (scores, seconds) in result.items():
        score, ratio = float(np.mean(scores)), float(np.mean(seconds)) / mlp_seconds
        goal = GOALS[name] if model == "MetaKAN" else None
        missed = []
        if goal is not None and score < goal:
            missed.append(f"score below {goal}")
        if goal is not None and name in ABOVE_MLP and score <= mlp_score:
            missed.append("score not above the MLP's")
        if "KAN" in model and mlp_seconds > MIN_SECONDS and ratio > MAX_RATIO:
            missed.append(f"more than {MAX_RATIO:g} times the MLP's seconds")
        yield {
            "table": name,
            "model": model,
            "score": score,
            "std": float(np.std(scores)),
            "seconds": float(np.mean(seconds)),
            "to_mlp": ratio,
            "line": "missed: " + ", ".join(missed) if missed else "reached" if goal else "",
        }


if __name__ == "__main__":
    main()
