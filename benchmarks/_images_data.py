"""Data sets of images: from a folder like ../shared/data, split the same way every time."""

import gzip
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _data import MissingData, existing
from numpy.typing import NDArray
from scipy.io import loadmat

VALIDATION_ROWS = 10_000  # the last of the shuffled training rows, or a sixth of fewer
SPLIT_SEED = 0
_OWN_TEST_SHARE = 0.2


class Images(NamedTuple):
    """Pixels (n, channels, height, width) as uint8, labels (n,)."""

    X: NDArray[np.uint8]
    y: NDArray[np.int64]

    def take(self, rows: Any) -> "Images":
        return Images(self.X[rows], self.y[rows])

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

    def all_fitted(self, limit: int) -> Images:
        return self.train.take(slice(limit or None))

    def tested(self, limit: int) -> Images:
        return self.test.take(slice(limit or None))


@dataclass(frozen=True)
class _Source:
    """Files of the training and the test part, and what reads each pair or file."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Callable[[Sequence[Path], str], Images]
    test_will_do: bool = False  # where the training part is missing, the test part is split
    note: str = ""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the format of MNIST, gzipped."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no idx file of bytes.")
    n_axes = content[3]
    shape = np.frombuffer(content, ">u4", n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape.astype(int))


def _idx(paths: Sequence[Path], part: str) -> Images:
    images, labels = map(read_idx, paths)
    return Images(images[:, None], labels.astype(np.int64))


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
    table = loadmat(paths[0])
    images = np.ascontiguousarray(table["X"].transpose(3, 2, 0, 1))
    return Images(images, table["y"].ravel().astype(np.int64) % 10)


def _pickled(paths: Sequence[Path], part: str) -> Images:
    """CIFAR-100's Python version."""
    with paths[0].open("rb") as file:
        table = pickle.load(file, encoding="latin1")
    images = np.asarray(table["data"], np.uint8).reshape(-1, 3, 32, 32)
    return Images(images, np.asarray(table["fine_labels"], np.int64))


def _idx_files(folder: str, part: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))


def _idx_source(folder: str, test_will_do: bool = False) -> _Source:
    return _Source(_idx_files(folder, "train"), _idx_files(folder, "t10k"), _idx, test_will_do)


_CIFAR10 = "cifar10_jpeg/cifar10_jpeg.npz"
_SOURCES = {
    "fashion_mnist": _idx_source("fashion_mnist"),
    "mnist": _idx_source("mnist"),
    "kmnist": _idx_source("kmnist", test_will_do=True),
    "svhn": _Source(("svhn/train_32x32.mat",), ("svhn/test_32x32.mat",), _mat),
    "cifar10": _Source((_CIFAR10,), (_CIFAR10,), _jpeg, note="images compressed again as JPEG"),
    "cifar100": _Source(("cifar100/train",), ("cifar100/test",), _pickled),
}
NAMES = tuple(_SOURCES)


def check_files(name: str, data_dir: Path) -> None:
    """Raise MissingData, with its name, for a file that is needed and not there."""
    source = _source(name)
    needed = source.test if source.test_will_do else (*source.train, *source.test)
    for file in needed:
        existing(data_dir / file)


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
def load(name: str, data_dir: Path) -> ImageData:
    """One data set; ``NAMES`` lists them. A missing file raises MissingData."""
    source = _source(name)
    check_files(name, data_dir)
    test = source.read([data_dir / file for file in source.test], "test")
    if source.test_will_do and not all((data_dir / file).is_file() for file in source.train):
        n = round(len(test.y) * (1 - _OWN_TEST_SHARE))
        rows = test.take(_shuffled(len(test.y)))
        note = "own split of the test part; the training part is not there"
        return ImageData(rows.take(slice(n)), rows.take(slice(n, None)), note)
    train = source.read([data_dir / file for file in source.train], "train")
    return ImageData(train.take(_shuffled(len(train.y))), test, source.note)


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise ValueError(f"There is no data set {name!r}; known: {', '.join(NAMES)}.")
    return _SOURCES[name]


def _shuffled(n: int) -> NDArray[np.int64]:
    return np.random.default_rng(SPLIT_SEED).permutation(n)
