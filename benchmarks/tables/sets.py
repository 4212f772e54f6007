"""Data sets of the comparison, their splits, and what makes numbers of their columns."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from benchmarks.common.data import Table, Task, load_table, splits
from sklearn_metakan.datasets import make_feynman

_UCI = ("yacht", "energy", "concrete", "boston", "kin8nm", "naval", "power", "protein", "wine_red")
_FEYNMAN = ("I.9.18", "I.13.12", "I.15.3x", "I.26.2", "I.37.4")
NOISY = "+noise"
_CLASSES = ("credit_g", "phoneme", "spambase", "letter", "bank_marketing", "adult")
# Sets by the part of the report that they are in.
GROUPS: dict[str, tuple[str, ...]] = {
    "uci": tuple(f"uci_{name}" for name in _UCI),
    "regression": ("ames_housing", "bike_sharing", "california_housing", "diamonds"),
    "classification": _CLASSES,
    "feynman": tuple(name + end for end in ("", NOISY) for name in _FEYNMAN),
}
SETS = tuple(name for names in GROUPS.values() for name in names)
PUBLISHED = (*GROUPS["uci"], "letter", "adult")  # splits
N_SPLITS = 5  # of the others
TEST_SIZE = 0.2  # of their rows
FEYNMAN_ROWS = 1000  # for training, and as many for test
NOISE = 0.1  # deviations of the function; on training rows only
GAP = "missing"  # as a category


class Fold(NamedTuple):
    """Training and test rows of a split. Columns that are no numbers are pandas categories.

    Classes are 0, 1, ...
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: NDArray[Any]
    y_test: NDArray[Any]
    task: Task


def n_splits(name: str, data_dir: Path) -> int:
    return len(splits(name, data_dir)) if name in PUBLISHED else N_SPLITS


def load_fold(
    name: str, split: int, data_dir: Path, max_rows: int | None = None, held_out: bool = False
) -> Fold:
    """One split of a set.

    Published splits as they are; of other tables a fifth of the rows for test, drawn anew for
    every split, from classes in equal shares; of Feynman's functions rows drawn anew. With
    ``held_out`` a fifth of the training rows takes the test rows' place, which nobody sees.
    ``max_rows`` training rows at most, at random. A missing file raises MissingData.
    """
    if name in GROUPS["feynman"]:
        fold = _draw_feynman(name, split)
    else:
        table = load_table(name, data_dir)
        X, y = _typed(table.X), _coded(table)
        stratify = y if table.task == "classification" else None
        if name in PUBLISHED:
            train, test = splits(name, data_dir)[split]
        else:
            options = {"test_size": TEST_SIZE, "random_state": split, "stratify": stratify}
            train, test = train_test_split(np.arange(len(y)), **options)
        fold = Fold(X.iloc[train], X.iloc[test], y[train], y[test], table.task)
    if held_out:
        stratify = fold.y_train if fold.task == "classification" else None
        options = {"test_size": TEST_SIZE, "random_state": split, "stratify": stratify}
        fold = Fold(*train_test_split(fold.X_train, fold.y_train, **options), fold.task)
    if max_rows is None or max_rows >= len(fold.y_train):
        return fold
    rows = np.random.default_rng(split).permutation(len(fold.y_train))[:max_rows]
    return fold._replace(X_train=fold.X_train.iloc[rows], y_train=fold.y_train[rows])


def _draw_feynman(name: str, split: int) -> Fold:
    n, function = FEYNMAN_ROWS, name.removesuffix(NOISY)
    X, y = make_feynman(function, 2 * n, random_state=split, ranges="paper", as_frame=True)
    y = y.to_numpy()
    y_train, y_test = y[:n], y[n:]
    if name.endswith(NOISY):
        y_train = y_train + NOISE * y.std() * np.random.default_rng(split).normal(size=n)
    return Fold(X[:n], X[n:], y_train, y_test, "regression")


def _typed(X: pd.DataFrame) -> pd.DataFrame:
    """Columns x0, x1, ...: not everyone takes spambase's "[" and "," as names."""
    X = X.set_axis([f"x{i}" for i in range(X.shape[1])], axis=1)
    text = [column for column in X if not pd.api.types.is_numeric_dtype(X[column])]
    return X.assign(**{c: X[c].astype(object).fillna(GAP).astype("category") for c in text})


def _coded(table: Table) -> NDArray[Any]:
    if table.task == "regression":
        return table.y
    return np.unique(table.y, return_inverse=True)[1]


_TEXT = make_column_selector(dtype_include="category")
_NUMBERS = make_column_selector(dtype_exclude="category")


def encoder(by_target: bool = False) -> ColumnTransformer:
    """Numbers for all who need them: categories one-hot, gaps as the column's median.

    ``by_target``: categories as means of their rows' targets, cross-fitted.
    """
    text: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if by_target:
        text = TargetEncoder()
    return ColumnTransformer(
        [("text", text, _TEXT), ("numbers", SimpleImputer(strategy="median"), _NUMBERS)]
    )


def filler() -> ColumnTransformer:
    """For those who take categories but no gaps."""
    fill = ColumnTransformer(
        [("numbers", SimpleImputer(strategy="median"), _NUMBERS), ("text", "passthrough", _TEXT)],
        verbose_feature_names_out=False,
    )
    return fill.set_output(transform="pandas")
