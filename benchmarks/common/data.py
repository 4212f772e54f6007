"""Tables and images from a folder like ../shared/data."""

import gzip
import io
import pickle
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.io import loadmat

from benchmarks.common.measure import DATA

Task = Literal["regression", "classification"]


class Table(NamedTuple):
    X: pd.DataFrame
    y: NDArray[Any]
    task: Task


class MissingData(FileNotFoundError):
    """A data file that is not there."""


# What to predict from a table of text, and which columns are no inputs.
_REGRESSION: dict[str, tuple[str, ...]] = {
    "ames_housing": ("SalePrice", "Order", "PID"),
    "bike_sharing": ("cnt", "instant", "dteday", "casual", "registered"),  # the last two sum to cnt
    "california_housing": ("MedHouseVal",),
    "diamonds": ("price",),
}
_CLASSIFICATION: dict[str, tuple[str, ...]] = {
    "adult": ("income",),
    "bank_marketing": ("y", "duration"),  # known only after the call
    "credit_g": ("class",),
    "letter": ("Letter",),
    "phoneme": ("Class",),
    "spambase": ("label",),
}
_FILES = {"adult": ("adult/train.csv.gz", "adult/test.csv.gz")}  # others: NAME/data.csv.gz
_UCI = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine_red", "yacht")
_HEAD_OF_TRAIN = {"adult": 32_561, "letter": 16_000}  # published splits: first rows train

TABLES = (*_REGRESSION, *_CLASSIFICATION, *(f"uci_{name}" for name in _UCI))


def load_table(name: str, data_dir: str | Path = DATA) -> Table:
    """Inputs, target and task of one table; ``TABLES`` lists them.

    Categorical columns stay text. A file that is not there raises MissingData with its name.
    """
    if name in _REGRESSION or name in _CLASSIFICATION:
        return _read_csv(name, Path(data_dir))
    arrays = _read_uci(name, Path(data_dir))
    columns = [f"x{i}" for i in range(arrays["X"].shape[1])]
    return Table(pd.DataFrame(arrays["X"], columns=columns), arrays["y"], "regression")


def splits(name: str, data_dir: str | Path = DATA) -> list[tuple[Any, Any]]:
    """The published (train, test) row indices: 20 or 5 for uci_*, one for adult and letter."""
    if name in _HEAD_OF_TRAIN:
        rows = np.arange(len(load_table(name, data_dir).y))
        return [(rows[: _HEAD_OF_TRAIN[name]], rows[_HEAD_OF_TRAIN[name] :])]
    if not name.startswith("uci_"):
        raise ValueError(f"{name!r} has no published splits.")
    arrays = _read_uci(name, Path(data_dir))
    return list(zip(arrays["train_idx"].astype(int), arrays["test_idx"].astype(int), strict=True))


def existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingData(f"Data file {path} is missing; name its folder with --data-dir.")
    return path


def _read_uci(name: str, folder: Path) -> dict[str, NDArray[Any]]:
    if name not in TABLES:
        raise ValueError(f"There is no table {name!r}; known: {', '.join(TABLES)}.")
    with np.load(existing(folder / name / "data.npz")) as archive:
        return dict(archive)


def _read_csv(name: str, folder: Path) -> Table:
    target, *dropped = (_REGRESSION | _CLASSIFICATION)[name]
    # "NA" is a category of ames_housing (no such feature); only an empty cell is a gap.
    options = {"keep_default_na": False, "na_values": [""]}
    files = _FILES.get(name, (f"{name}/data.csv.gz",))
    parts = [pd.read_csv(existing(folder / file), **options) for file in files]
    frame = pd.concat(parts, ignore_index=True)
    X, y = frame.drop(columns=[target, *dropped]), frame[target].to_numpy()
    if name in _REGRESSION:
        return Table(X, y.astype(float), "regression")
    return Table(X, y, "classification")


RESULTS = ("fitted", "scored", "parameters", "accuracy", "captured", "seconds", "note")
SHOWN = "{accuracy:.2%} in {seconds:.0f} s"
VALIDATION_ROWS = 10_000  # the last of the shuffled training rows, or a sixth of fewer


class Images(NamedTuple):
    """Pixels (n, channels, height, width) as uint8, labels (n,)."""

    X: NDArray[np.uint8]
    y: NDArray[np.int64]

    def take(self, rows: Any) -> "Images":
        return Images(self.X[rows], self.y[rows])

    def first(self, limit: int) -> "Images":
        """So many rows, 0: all."""
        return self.take(slice(limit or None))

    def rows_of_pixels(self) -> NDArray[np.float32]:
        """(n, channels * height * width), in [0, 1]."""
        return self.X.reshape(len(self.X), -1) / np.float32(255)

    def with_shifted(self, copies: int, seed: int) -> "Images":
        """These rows and so many copies, each image moved at random by at most a pixel a side."""
        n, _, height, width = self.X.shape
        rng = np.random.default_rng(seed)
        padded = np.pad(self.X, ((0, 0), (0, 0), (1, 1), (1, 1)))
        image = np.arange(n)[:, None, None]
        images = [self.X]
        for _ in range(copies):
            down, right = rng.integers(3, size=(2, n, 1))
            rows = (down + np.arange(height))[:, :, None]
            columns = (right + np.arange(width))[:, None, :]
            images.append(padded[image, :, rows, columns].transpose(0, 3, 1, 2))
        return Images(np.concatenate(images), np.tile(self.y, 1 + copies))


class ImageData(NamedTuple):
    """Training rows in a shuffled order, test rows; ``note`` says what is unusual about them."""

    train: Images
    test: Images
    note: str = ""

    def fitted_and_held(self, limit: int, n_validation: int = VALIDATION_ROWS) -> list[Images]:
        """The first ``limit`` training rows (0: all), their last ones set aside."""
        n = len(self.train.y) if not limit else min(limit, len(self.train.y))
        held = min(n_validation, n // 6)
        return [self.train.take(slice(n - held)), self.train.take(slice(n - held, n))]


def row_of_fit(
    model: Any, fitted: Images, scored: Images, accuracy: float, spent: float, note: str
) -> dict[str, Any]:
    """What a row of a ledger says of every fit to images."""
    return {
        "fitted": len(fitted.y),
        "scored": len(scored.y),
        "parameters": model.n_parameters_,
        "accuracy": float(accuracy),
        "captured": model.cuda_graph_,
        "seconds": round(spent, 2),
        "note": note,
    }


def _idx(paths: Sequence[Path], part: str) -> Images:
    """Arrays of bytes in the format of MNIST, gzipped."""
    arrays = []
    for path in paths:
        content = gzip.decompress(path.read_bytes())
        if content[:3] != b"\0\0\x08":
            raise ValueError(f"{path} is no idx file of bytes.")
        n_axes = content[3]
        shape = np.frombuffer(content, ">u4", n_axes, offset=4).astype(int)
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape))
    return Images(arrays[0][:, None], arrays[1].astype(np.int64))


def _jpeg(paths: Sequence[Path], part: str) -> Images:
    """From an npz with the concatenated files of every part, and where each begins."""
    from PIL import Image

    with np.load(paths[0]) as archive:
        content, offsets = archive[f"jpeg_{part}"].tobytes(), archive[f"offsets_{part}"]
        labels = archive[f"y_{part}"].astype(np.int64)
    images = [
        np.asarray(Image.open(io.BytesIO(content[start:stop])).convert("RGB"))
        for start, stop in pairwise(offsets)
    ]
    return Images(np.stack(images).transpose(0, 3, 1, 2), labels)


def _mat(paths: Sequence[Path], part: str) -> Images:
    """SVHN's cropped digits, where 10 stands for 0."""
    found = loadmat(paths[0])
    images = np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1))
    return Images(images, found["y"].ravel().astype(np.int64) % 10)


def _pickled(paths: Sequence[Path], part: str) -> Images:
    """CIFAR-100's Python version."""
    with paths[0].open("rb") as file:
        found = pickle.load(file, encoding="latin1")
    images = np.asarray(found["data"], np.uint8).reshape(-1, 3, 32, 32)
    return Images(images, np.asarray(found["fine_labels"], np.int64))


class _Source(NamedTuple):
    """Files of the training and the test part, and what reads those of a part."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Callable[[Sequence[Path], str], Images]
    test_will_do: bool = False  # where the training part is missing, the test part is split
    note: str = ""


def _idx_source(folder: str, test_will_do: bool = False) -> _Source:
    train, test = (
        tuple(f"{folder}/{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        for part in ("train", "t10k")
    )
    return _Source(train, test, _idx, test_will_do)


_CIFAR10 = ("cifar10_jpeg/cifar10_jpeg.npz",)
_SOURCES = {
    "fashion_mnist": _idx_source("fashion_mnist"),
    "mnist": _idx_source("mnist"),
    "kmnist": _idx_source("kmnist", test_will_do=True),
    "svhn": _Source(("svhn/train_32x32.mat",), ("svhn/test_32x32.mat",), _mat),
    "cifar10": _Source(_CIFAR10, _CIFAR10, _jpeg, note="images compressed again as JPEG"),
    "cifar100": _Source(("cifar100/train",), ("cifar100/test",), _pickled),
}


def check_files(name: str, data_dir: Path) -> _Source:
    """Raise MissingData, with its name, for a file that is needed and not there."""
    if name not in _SOURCES:
        raise ValueError(f"There is no data set {name!r}; known: {', '.join(_SOURCES)}.")
    source = _SOURCES[name]
    for file in source.test if source.test_will_do else (*source.train, *source.test):
        existing(data_dir / file)
    return source


def available(names: Sequence[str], data_dir: Path) -> list[str]:
    """Those of the data sets whose files are there; says which file the others lack."""
    found = []
    for name in names:
        try:
            check_files(name, data_dir)
            found.append(name)
        except MissingData as missing:
            print(f"{name} is left out. {missing}")
    if not found:
        raise SystemExit(f"There is no data set in {data_dir}.")
    return found


@lru_cache(maxsize=1)
def load_images(name: str, data_dir: Path) -> ImageData:
    """One data set. A missing file raises MissingData."""
    source = check_files(name, data_dir)
    test = source.read([data_dir / file for file in source.test], "test")
    if source.test_will_do and not all((data_dir / file).is_file() for file in source.train):
        n = round(0.8 * len(test.y))
        rows = _shuffled(test)
        note = "own split of the test part; the training part is not there"
        return ImageData(rows.take(slice(n)), rows.take(slice(n, None)), note)
    train = source.read([data_dir / file for file in source.train], "train")
    return ImageData(_shuffled(train), test, source.note)


def _shuffled(images: Images) -> Images:
    return images.take(np.random.default_rng(0).permutation(len(images.y)))
