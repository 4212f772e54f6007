"""Cross-validation of the default estimators on unscaled data, beside scikit-learn's own.

    python -m benchmarks.tables.quick [--data-dir ../shared/data] [--only NAME ...] [--csv OUT]

Five shuffled folds; the models take turns on each fold. The MLP gets scaled inputs and, with
--scale-target, a scaled target; nobody else's data is scaled.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import torch
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

from benchmarks.common.data import DIAMONDS_ORDER, MissingData, Table, load_table
from benchmarks.common.measure import add_options, seconds
from benchmarks.common.report import table
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
REGRESSORS = (MLPRegressor, MetaKANRegressor, KANRegressor, HistGradientBoostingRegressor)
CLASSIFIERS = (MLPClassifier, MetaKANClassifier, KANClassifier, HistGradientBoostingClassifier)
COLUMNS = {"table": "{table}", "model": "{model}", "score": "{score:.4f} ± {std:.3f}"}
COLUMNS |= {"seconds a fit": "{seconds:.2f}", "/ MLP's": "{to_mlp:.2f}", "to reach": "{line}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "data-dir")
    parser.add_argument("--only", nargs="+", choices=GOALS, default=list(GOALS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1, help="for all models; default 1")
    parser.add_argument("--scale-target", action="store_true", help="scale the MLP's target")
    parser.add_argument("--csv", type=Path, help="write the rows to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    with threadpool_limits(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name in options.only:
            try:
                data = load_table(name, options.data_dir)
            except MissingData as error:
                print(f"{name}: skipped. {error}")
                continue
            found.append(judge(name, measure(name, data, options.scale_target)))
            print(table(found[-1], COLUMNS) + "\n", flush=True)
    if options.csv and found:
        pd.concat(found).to_csv(options.csv, index=False)


def measure(name: str, data: Table, scale_target: bool) -> pd.DataFrame:
    """A row a fold and model: score, seconds of the fit."""
    classify = data.task == "classification"
    splitter = (StratifiedKFold if classify else KFold)(N_FOLDS, shuffle=True, random_state=0)
    models, rows = make_models(classify, scale_target), []
    with tqdm(total=N_FOLDS * len(models), desc=name, unit="fit", leave=False) as bar:
        for train, test in splitter.split(data.X, data.y):
            for model, estimator in models.items():
                pipeline = Pipeline([*columns(name, data.X), ("model", clone(estimator))])
                spent = seconds(partial(pipeline.fit, data.X.iloc[train], data.y[train]))
                score = pipeline.score(data.X.iloc[test], data.y[test])
                rows.append({"model": model, "score": score, "seconds": spent})
                bar.update()
    return pd.DataFrame(rows)


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
    mlp, *others = CLASSIFIERS if classify else REGRESSORS
    scaled = make_pipeline(StandardScaler(), mlp(random_state=0))
    if scale_target and not classify:
        scaled = TransformedTargetRegressor(scaled, transformer=StandardScaler())
    named = zip(("MetaKAN", "KAN", "HGB"), others, strict=True)
    return {"MLP": scaled, **{name: kind(random_state=0) for name, kind in named}}


def judge(name: str, folds: pd.DataFrame) -> pd.DataFrame:
    """One row a model; ``line`` says whether it reaches what is asked of it."""
    by_model = folds.groupby("model", sort=False)
    rows = by_model.mean()
    rows.insert(1, "std", by_model["score"].std(ddof=0))
    rows["to_mlp"] = rows["seconds"] / rows.loc["MLP", "seconds"]
    mlp = rows.loc["MLP"]
    rows["line"] = [_verdict(name, str(model), row, mlp) for model, row in rows.iterrows()]
    rows = rows.reset_index()
    rows.insert(0, "table", name)
    return rows


def _verdict(name: str, model: str, row: pd.Series, mlp: pd.Series) -> str:
    goal, missed = GOALS[name] if model == "MetaKAN" else None, []
    if goal is not None and row["score"] < goal:
        missed.append(f"score below {goal}")
    if goal is not None and name in ABOVE_MLP and row["score"] <= mlp["score"]:
        missed.append("score not above the MLP's")
    if "KAN" in model and mlp["seconds"] > MIN_SECONDS and row["to_mlp"] > MAX_RATIO:
        missed.append(f"more than {MAX_RATIO:g} times the MLP's seconds")
    return "missed: " + ", ".join(missed) if missed else "reached" if goal else ""


if __name__ == "__main__":
    main()
