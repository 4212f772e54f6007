"""The evaluation tables: from a folder like ../shared/data, and some of scikit-learn's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets

Task = Literal["regression", "classification"]

# Ordered categories of the diamonds table, worst first.
DIAMONDS_ORDER = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": ["J", "I", "H", "G", "F", "E", "D"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}


class Table(NamedTuple):
    X: pd.DataFrame
    y: NDArray[Any]
    task: Task


class MissingData(FileNotFoundError):
    """A data file that is not there."""


@dataclass(frozen=True)
class _Csv:
    """Where a table lies, what to predict, and which columns are no inputs."""

    files: tuple[str, ...]
    target: str
    task: Task
    drop: tuple[str, ...] = ()


_CSV = {
    "adult": _Csv(("adult/train.csv.gz", "adult/test.csv.gz"), "income", "classification"),
    "ames_housing": _Csv(
        ("ames_housing/data.csv.gz",), "SalePrice", "regression", ("Order", "PID")
    ),
    # duration is known only after the call.
    "bank_marketing": _Csv(("bank_marketing/data.csv.gz",), "y", "classification", ("duration",)),
    # casual + registered = cnt.
    "bike_sharing": _Csv(
        ("bike_sharing/data.csv.gz",),
        "cnt",
        "regression",
        ("instant", "dteday", "casual", "registered"),
    ),
    "california_housing": _Csv(("california_housing/data.csv.gz",), "MedHouseVal", "regression"),
    "credit_g": _Csv(("credit_g/data.csv.gz",), "class", "classification"),
    "diamonds": _Csv(("diamonds/data.csv.gz",), "price", "regression"),
    "diamonds_numeric": _Csv(
        ("diamonds/data.csv.gz",), "price", "regression", tuple(DIAMONDS_ORDER)
    ),
    "letter": _Csv(("letter/data.csv.gz",), "Letter", "classification"),
    "phoneme": _Csv(("phoneme/data.csv.gz",), "Class", "classification"),
    "spambase": _Csv(("spambase/data.csv.gz",), "label", "classification"),
}
_UCI = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine_red", "yacht")
_BUNDLED: dict[str, Task] = {
    "breast_cancer": "classification",
    "diabetes": "regression",
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
}
_HEAD_OF_TRAIN = {"adult": 32_561, "letter": 16_000}  # published splits: first rows train

NAMES = (*_CSV, *(f"uci_{name}" for name in _UCI), *_BUNDLED)


def load(name: str, data_dir: str | Path = "../shared/data") -> Table:
    """Inputs, target and task of one table; ``NAMES`` lists them.

    Categorical columns stay text. A file that is not there raises MissingData with its name.
    """
    if name in _BUNDLED:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
        return Table(X, y.to_numpy(), _BUNDLED[name])
    if name in _CSV:
        return _csv(_CSV[name], Path(data_dir))
    arrays = _npz(name, Path(data_dir))
    columns = [f"x{i}" for i in range(arrays["X"].shape[1])]
    return Table(pd.DataFrame(arrays["X"], columns=columns), arrays["y"], "regression")


def splits(name: str, data_dir: str | Path = "../shared/data") -> list[tuple[Any, Any]]:
    """The published (train, test) row indices: 20 or 5 for uci_*, one for adult and letter."""
    if name in _HEAD_OF_TRAIN:
        rows = np.arange(len(load(name, data_dir).y))
        return [(rows[: _HEAD_OF_TRAIN[name]], rows[_HEAD_OF_TRAIN[name] :])]
    if not name.startswith("uci_"):
        raise ValueError(f"{name!r} has no published splits.")
    arrays = _npz(name, Path(data_dir))
    return list(zip(arrays["train_idx"].astype(int), arrays["test_idx"].astype(int), strict=True))


def existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingData(f"Data file {path} is missing; name its folder with --data-dir.")
    return path


def _npz(name: str, folder: Path) -> dict[str, NDArray[Any]]:
    if name.removeprefix("uci_") not in _UCI or not name.startswith("uci_"):
        raise ValueError(f"There is no table {name!r}; known: {', '.join(NAMES)}.")
    with np.load(existing(folder / name / "data.npz")) as archive:
        return dict(archive)


def _csv(table: _Csv, folder: Path) -> Table:
    # "NA" is a category of ames_housing (no such feature); only an empty cell is a gap.
    options = {"keep_default_na": False, "na_values": [""]}
    parts = [pd.read_csv(existing(folder / name), **options) for name in table.files]
    frame = pd.concat(parts, ignore_index=True)
    X = frame.drop(columns=[table.target, *table.drop])
    y = frame[table.target].to_numpy()
    return Table(X, y.astype(float) if table.task == "regression" else y, table.task)
