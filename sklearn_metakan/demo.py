"""Compare KANs with scikit-learn's linear model, MLP and gradient boosting on a table.

    python -m sklearn_metakan.demo [--csv FILE --target COLUMN] [--seconds 4]

All models see the same folds. Without a file the table is scikit-learn's diabetes data. The KANs
have their defaults, but train a few seconds a fit. Files from where the decimal sign is a comma
want ``--sep ';' --decimal ','``.
"""

import argparse
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tqdm import tqdm

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

__all__ = ["check_picture", "main"]

N_FOLDS = 5
MIN_ROWS = 2 * N_FOLDS  # R2 needs two rows in each fold
MAX_CLASSES = 10  # an integer target with at most so many values is a class label
MAX_CATEGORIES = 20  # one-hot columns a categorical column may become
MAX_EFFECTS = 9


@dataclass
class Result:
    """One model's cross-validation: scores and seconds by fold, predictions by row."""

    name: str
    predictions: NDArray[Any]
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    pipeline: Any = None  # as fitted on the last fold


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    X, y = read_table(options)
    classify = is_classification(y) if options.task == "auto" else options.task != "regression"
    X, y = usable_rows(plain_types(X), y, classify)
    numeric, categorical = split_columns(X)
    kind = f"{y.nunique()} classes" if classify else "regression"
    print(
        f"{options.csv or 'scikit-learn diabetes'}: {len(X)} rows, {len(numeric)} numeric and "
        f"{len(categorical)} categorical columns, target {y.name!r} ({kind}), "
        f"{N_FOLDS}-fold cross-validation; KANs train at most {options.seconds:g} seconds a fit "
        "(--seconds)",
        flush=True,
    )
    columns = make_columns(numeric, categorical)
    results = compare(make_models(classify, options.seconds), columns, X, y.to_numpy(), classify)
    print(format_table(results, "accuracy" if classify else "R2"))
    if find_spec("matplotlib") is None:
        print("No picture: it needs matplotlib (pip install matplotlib).")
        return
    draw(results, X, y.to_numpy(), classify, options.out)
    print(f"Picture: {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sklearn_metakan.demo")
    parser.add_argument("--csv", type=Path, help="a table with a header line")
    parser.add_argument("--sep", default=",", help="between columns, such as ';' or '\\t'")
    parser.add_argument("--decimal", default=".", help="of its numbers, such as ','")
    parser.add_argument("--target", help="the column to predict")
    parser.add_argument("--task", choices=["auto", "regression", "classification"], default="auto")
    parser.add_argument("--max-rows", type=int, default=20_000, help="sample larger tables")
    parser.add_argument("--seconds", type=float, default=4, help="that a KAN may train a fit")
    parser.add_argument("--out", type=Path, default=Path("out/demo.png"), help="the picture")
    options = parser.parse_args(arguments)
    if (options.csv is None) != (options.target is None):
        parser.error("--csv and --target go together")
    if options.max_rows < MIN_ROWS:
        parser.error(f"--max-rows must be at least {MIN_ROWS}, got {options.max_rows}")
    if not 0 < options.seconds <= 1e9:
        parser.error(f"--seconds must be above 0, at most 1e9, got {options.seconds:g}")
    try:
        check_picture(options.out)
    except (OSError, ValueError) as error:
        parser.error(f"--out: {options.out} cannot be written: {error}")
    if options.csv is not None:
        if not options.csv.is_file():
            parser.error(f"--csv: there is no file {options.csv}")
        try:
            header = _read(options, header=None, nrows=1, dtype=str, na_filter=False).iloc[0]
            options.frame = _read(options)
        except (ValueError, OSError, re.error, pd.errors.ParserWarning) as error:
            parser.error(f"--csv: {options.csv} is no table that can be read: {error}")
        named = f"--target: {options.csv} has"
        if (count := (header == options.target).sum()) > 1:  # pandas gives all but one new names
            parser.error(f"{named} {count} columns {options.target!r}; rename all but one")
        if options.target not in options.frame:
            names = ", ".join([repr(name) for name in options.frame][:10])
            more = f" and {len(header) - 10} more" if len(header) > 10 else ""
            hint = " (--sep names what stands between columns)" if len(header) == 1 else ""
            parser.error(f"{named} no column {options.target!r}, only {names}{more}{hint}")
    return options


def check_picture(path: Path) -> None:
    """Raise OSError or ValueError now if savefig would do so after all the fits."""
    if find_spec("matplotlib") is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise ValueError(f"its name must end in one of {', '.join(kinds)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def _read(options: argparse.Namespace, **how: Any) -> pd.DataFrame:
    sep = options.sep.replace(r"\t", "\t")
    how |= {"low_memory": False} if len(sep) == 1 else {"engine": "python"}
    with warnings.catch_warnings():  # rows longer than the header would be cut
        warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
        return pd.read_csv(options.csv, sep=sep, decimal=options.decimal, index_col=False, **how)


def read_table(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.Series]:
    """Columns and target, at most ``max_rows`` random rows that have a target."""
    if options.csv is None:
        return load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    target, max_rows, frame = options.target, options.max_rows, options.frame
    known = frame[target].notna() & ~frame[target].isin([np.inf, -np.inf])
    if not known.all():
        print(f"left out: {(~known).sum()} rows without a target")
        frame = frame[known]
    if len(frame) > max_rows:
        print(f"left out: all but {max_rows} random rows of {len(frame)} (--max-rows)")
        frame = frame.sample(max_rows, random_state=0)
    frame = frame.reset_index(drop=True)
    return frame.drop(columns=target), frame[target]


def is_classification(y: pd.Series) -> bool:
    """Text, booleans and integers of few values are classes; the rest are quantities."""
    if pd.api.types.is_bool_dtype(y) or not pd.api.types.is_numeric_dtype(y):
        return True
    return pd.api.types.is_integer_dtype(y) and y.nunique() <= MAX_CLASSES


def plain_types(X: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float, the rest as text; NaN where there is nothing or infinity."""
    return pd.DataFrame(
        {
            name: column.astype(float).replace([np.inf, -np.inf], np.nan)
            if pd.api.types.is_numeric_dtype(column)
            else column.map(str, na_action="ignore").astype(object)
            for name, column in X.items()
        }
    )


def usable_rows(X: pd.DataFrame, y: pd.Series, classify: bool) -> tuple[pd.DataFrame, pd.Series]:
    """Leave out classes too rare for every fold to have one; refuse what cannot be learnt."""
    if len(y) < MIN_ROWS:
        raise SystemExit(
            f"Target {y.name!r} has {len(y)} rows; {N_FOLDS}-fold cross-validation needs at least "
            f"{MIN_ROWS}."
        )
    if classify:
        y = y.astype(str).astype(object)
        rare = y.map(y.value_counts()) < N_FOLDS
        if rare.any():
            print(f"left out: {rare.sum()} rows of classes with fewer than {N_FOLDS} rows")
            X, y = X[~rare].reset_index(drop=True), y[~rare].reset_index(drop=True)
    elif pd.api.types.is_numeric_dtype(y):
        y = y.astype(float)
    else:
        raise SystemExit(f"Target {y.name!r} holds text; regression needs numbers.")
    if y.nunique() < 2:
        raise SystemExit(f"Target {y.name!r} must have at least two values to learn from.")
    return X, y


def split_columns(X: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the numeric and of the categorical columns worth keeping."""
    numeric, categorical = [], []
    for name in X.columns:
        n_values = X[name].nunique()
        is_number = pd.api.types.is_numeric_dtype(X[name])
        if n_values < 2:
            print(f"left out: column {name!r} is empty or constant")
        elif is_number:
            numeric.append(name)
        elif n_values == X[name].count():
            print(f"left out: column {name!r} is text with another value in every row")
        else:
            categorical.append(name)
    if not numeric and not categorical:
        raise SystemExit("The table has no column to predict from.")
    return numeric, categorical


def make_columns(numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    """Fill gaps, and turn categories into columns of 0 and 1."""
    rare = {"min_frequency": 0.01, "max_categories": MAX_CATEGORIES}
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist",  # a rare level that is 0 where it is new misleads
        sparse_output=False,
        feature_name_combiner=lambda name, value: f"{name} = {value}",
        **rare,
    )
    gaps = SimpleImputer(strategy="constant", fill_value="missing")
    columns = ColumnTransformer(
        [
            ("numeric", SimpleImputer(strategy="median"), numeric),
            ("categorical", make_pipeline(gaps, one_hot), categorical),
        ],
        verbose_feature_names_out=False,
    )
    return columns.set_output(transform="pandas")


def make_models(classify: bool, seconds: float) -> dict[str, BaseEstimator]:
    """All with their defaults, the KANs within so many seconds a fit."""
    short = {"time_limit": seconds, "random_state": 0}
    if classify:
        linear = LogisticRegression(max_iter=1000)
        return {
            "MetaKAN": MetaKANClassifier(**short),
            "KAN": KANClassifier(**short),
            "linear, scaled": make_pipeline(StandardScaler(), linear),
            "MLP, scaled": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
            "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
        }
    mlp = make_pipeline(StandardScaler(), MLPRegressor(random_state=0))
    return {
        "MetaKAN": MetaKANRegressor(**short),
        "KAN": KANRegressor(**short),
        "linear, scaled": make_pipeline(StandardScaler(), RidgeCV()),
        "MLP, scaled": TransformedTargetRegressor(mlp, transformer=StandardScaler()),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
    }


def compare(
    models: dict[str, BaseEstimator],
    columns: ColumnTransformer,
    X: pd.DataFrame,
    y: NDArray[Any],
    classify: bool,
) -> list[Result]:
    """Cross-validate every model on the same folds."""
    splitter = (StratifiedKFold if classify else KFold)(N_FOLDS, shuffle=True, random_state=0)
    folds = list(splitter.split(X, y))
    metric = accuracy_score if classify else r2_score
    results = [Result(name, np.empty_like(y)) for name in models]
    with tqdm(total=len(models) * N_FOLDS, unit="fit") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the MLP's 200 iterations
        for result, model in zip(results, models.values(), strict=True):
            bar.set_description(result.name)
            for train, test in folds:
                start = time.perf_counter()
                result.pipeline = clone(Pipeline([("columns", columns), ("model", model)]))
                result.pipeline.fit(X.iloc[train], y[train])
                result.seconds.append(time.perf_counter() - start)
                result.predictions[test] = result.pipeline.predict(X.iloc[test])
                result.scores.append(metric(y[test], result.predictions[test]))
                bar.update()
    return results


def format_table(results: Sequence[Result], score: str) -> str:
    """Scores with their spread over the folds, trainable numbers, seconds a fit."""
    lines = [f"{'':22}{score:>16}{'parameters':>13}{'seconds a fit':>15}"]
    for result in results:
        spread = f"{np.mean(result.scores):.3f} ± {np.std(result.scores):.3f}"
        count = count_parameters(result.pipeline)
        size = "trees" if count is None else f"{count:,}"
        lines.append(f"{result.name:22}{spread:>16}{size:>13}{np.mean(result.seconds):>15.2f}")
    return "\n".join(lines)


def count_parameters(pipeline: Pipeline) -> int | None:
    """Trainable numbers of the last step; None if it has no such thing."""
    model = getattr(pipeline[-1], "regressor_", pipeline[-1])
    model = model[-1] if isinstance(model, Pipeline) else model
    if hasattr(model, "coefs_"):
        return sum(array.size for array in (*model.coefs_, *model.intercepts_))
    if hasattr(model, "coef_"):
        return np.size(model.coef_) + np.size(model.intercept_)
    return getattr(model, "n_parameters_", None)


def draw(
    results: Sequence[Result], X: pd.DataFrame, y: NDArray[Any], classify: bool, path: Path
) -> None:
    """One picture: effects of columns on the left, predictions and loss curves on the right."""
    from matplotlib import pyplot as plt

    from sklearn_metakan.inspection import EffectDisplay

    meta_kan = results[0]
    figure = plt.figure(figsize=(15, 7.5), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[5, 3])
    left, right = halves
    left.suptitle(f"{meta_kan.name}: what the columns that matter most do to the prediction")
    target = None
    if classify and (counts := pd.Series(y).value_counts()).size > 2:
        target = counts.index[0]
    EffectDisplay.from_estimator(
        meta_kan.pipeline, X, target=target, max_features=MAX_EFFECTS, ax=left.subplots()
    )
    top, bottom = right.subplots(2, 1)
    draw_predictions(meta_kan, y, classify, top)
    draw_losses(results, bottom)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def as_label(name: str) -> str:
    """A name on one line, cut if it is long, and whose dollars are no mathematics."""
    line = " ".join(name.split())
    return (line if len(line) <= 30 else f"{line[:29]}…").replace("$", r"\$")


def draw_predictions(result: Result, y: NDArray[Any], classify: bool, axes: Any) -> None:
    """Predictions of rows that were not trained on, against the truth."""
    from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay

    if classify:
        classes = np.unique(y)
        few = len(classes) <= MAX_CLASSES
        options = {"include_values": few, "colorbar": not few, "ax": axes}
        ConfusionMatrixDisplay.from_predictions(
            y, result.predictions, display_labels=[*map(as_label, classes)], **options
        )
    else:
        dots = {"s": 8, "alpha": 0.4}
        PredictionErrorDisplay.from_predictions(
            y, result.predictions, kind="actual_vs_predicted", scatter_kwargs=dots, ax=axes
        )
    axes.set_title(f"{result.name}: rows outside the training folds")


def draw_losses(results: Sequence[Result], axes: Any) -> None:
    """Training loss of the KANs on the last fold."""
    for result in results:
        if hasattr(result.pipeline[-1], "n_parameters_"):
            axes.plot(result.pipeline[-1].loss_curve_, label=result.name)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Training, last fold")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


if __name__ == "__main__":
    main()
