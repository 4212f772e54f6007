"""Tables that stay in their files and are read in blocks of rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_scalar

LARGEST_READ = 2**30  # bytes; a larger table in a file is not read as a whole
_BLOCKS_HELD = 16  # blocks of rows that there is memory for, so that far rows meet in a batch


class StoredTable:
    """A table for ``fit`` and ``predict`` that stays where it is and is read some rows at a time.

    What needs the memory for a table otherwise: the numbers of a block of rows, and of as many
    blocks as there is memory for, which are shuffled together. y and sample_weight stay in memory.

    Parameters
    ----------
    source : array or table
        Anything with a ``shape`` (n, d), a ``dtype`` and slices that are arrays: ``numpy.memmap``,
        arrays of h5py and zarr. Of pyarrow a ``Table``, a ``dataset.Dataset`` or a
        ``parquet.ParquetFile``, whose row groups are blocks, read as they are.
    memory : float, default=64.0
        MiB of rows that are held at a time. A single row group may need more.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, n_features).

    Raises
    ------
    TypeError, ValueError
        For what is no such table.

    Notes
    -----
    ``table[rows]``, with a slice or rising positions or a mask, is a StoredTable of these rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_metakan import KANRegressor, StoredTable
    >>> X = np.random.default_rng(0).random((500, 3))
    >>> table = StoredTable(X, memory=0.01)
    >>> model = KANRegressor((), n_estimators=1, max_iter=5, random_state=0)
    >>> model.fit(table, X[:, 0]).predict(table).shape
    (500,)
    """

    ndim = 2
    rows: NDArray[np.intp] | None  # of the source, in rising order; None: all

    def __init__(self, source: Any, memory: float = 64.0) -> None:
        self.memory = float(check_scalar(memory, "memory", Real, min_val=1e-3))
        self.source, self.rows = source, None
        if _is_arrow(source):
            self.n_columns, lengths, self._read = _blocks_of_arrow(source, self.bytes_of_block)
        else:
            self.n_columns, lengths, self._read = _blocks_of_array(source, self.bytes_of_block)
        self._ends = np.cumsum([0, *lengths])
        if not self._ends[-1]:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={self.shape}): the table has no rows."
            )

    @property
    def bytes_of_block(self) -> int:
        """That a block should have."""
        return int(self.memory * 2**20 / _BLOCKS_HELD)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.n_columns

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.rows is None else len(self.rows)

    def __getitem__(self, key: Any) -> "StoredTable":
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, int | np.integer | tuple | str):
            raise TypeError(f"A StoredTable is taken by rows, in a slice or a list, got {key!r}.")
        positions = np.arange(len(self))[key]
        if (np.diff(positions) <= 0).any():
            raise ValueError(
                "Rows of a StoredTable come in rising order, each once; sort the positions, or "
                "split without shuffling (every batch of training is shuffled)."
            )
        view = object.__new__(StoredTable)
        vars(view).update(vars(self))
        view.rows = positions if self.rows is None else self.rows[positions]
        return view

    @property
    def starts(self) -> NDArray[np.intp]:
        """Where blocks begin and the last one ends, in rows of this table."""
        if self.rows is None:
            return self._ends
        return np.searchsorted(self.rows, self._ends)

    def block(self, i: int) -> Any:
        """An array or a DataFrame: the rows of the i-th block that are this table's."""
        found = self._read(i)
        if self.rows is None:
            return found
        first, last = self.starts[i : i + 2]
        return take(found, self.rows[first:last] - self._ends[i])

    def read(self) -> Any:
        """All rows in memory, as an array or a DataFrame."""
        starts = self.starts
        parts = [self.block(i) for i in range(len(starts) - 1) if starts[i] < starts[i + 1]]
        return joined(parts) if parts else take(self._read(0), slice(0, 0))


def joined(blocks: Sequence[Any]) -> Any:
    """Blocks one below the other."""
    if isinstance(blocks[0], pd.DataFrame):
        return pd.concat(blocks, ignore_index=True)
    return np.concatenate(blocks)


def take(block: Any, rows: Any) -> Any:
    """Some rows of a block."""
    return block.iloc[rows] if isinstance(block, pd.DataFrame) else block[rows]


def as_stored(X: Any) -> StoredTable | None:
    """A StoredTable, or one of a table in a file that is larger than 1 GiB; else None."""
    if isinstance(X, StoredTable):
        return X
    if isinstance(X, pd.DataFrame) or not (_is_arrow(X) or _is_array_in_file(X)):
        return None
    if _is_arrow(X):
        size = X.nbytes if hasattr(X, "nbytes") else _n_rows(X) * len(_schema(X).names) * 8
    else:
        size = prod(X.shape) * X.dtype.itemsize
    return StoredTable(X) if size > LARGEST_READ else None


def read_whole(X: Any) -> Any:
    """A dataset or file of pyarrow as a table, and all else as it is."""
    if _is_arrow(X) and not hasattr(X, "to_pandas"):
        return X.to_table() if hasattr(X, "to_table") else X.read()
    return X


def _is_arrow(X: Any) -> bool:
    of_arrow = any(of.__module__.partition(".")[0] == "pyarrow" for of in type(X).__mro__)
    return of_arrow and hasattr(X, "schema")


def _is_array_in_file(X: Any) -> bool:
    """Whether it may be a memory-mapped array, or one of h5py or zarr."""
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap) and X.ndim == 2 and X.dtype.kind in "biuf"
    known = all(hasattr(X, name) for name in ("shape", "dtype", "chunks", "__getitem__"))
    return known and len(X.shape) == 2


def _blocks_of_array(
    source: Any, n_bytes: int
) -> tuple[int, list[int], Callable[[int], NDArray[Any]]]:
    """Columns, rows of each block, and what reads one."""
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    if shape is None or len(shape) != 2 or not hasattr(source, "__getitem__"):
        raise TypeError(
            "StoredTable takes arrays of shape (n_samples, n_features) with slices, as of "
            "numpy.memmap, h5py or zarr, or tables, datasets and ParquetFiles of pyarrow; got "
            f"{type(source).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}."
        )
    if getattr(dtype, "kind", "O") not in "biuf":
        raise TypeError(
            f"StoredTable takes arrays of numbers, got dtype {dtype}. Text and categories may come "
            "as a pyarrow dataset."
        )
    n, d = map(int, shape)
    if not d:
        raise ValueError(f"Found array with 0 feature(s) (shape={(n, d)}): it needs one at least.")
    step = max(1, n_bytes // (d * np.dtype(dtype).itemsize))
    chunks = getattr(source, "chunks", None)
    if chunks and isinstance(chunks[0], int):  # whole chunks, of which a part is no quicker
        step = max(1, step // chunks[0]) * chunks[0]

    def read(i: int) -> NDArray[Any]:
        return np.asarray(source[i * step : (i + 1) * step])

    return d, [min(step, n - start) for start in range(0, n, step)], read


def _blocks_of_arrow(source: Any, n_bytes: int) -> tuple[int, list[int], Callable[[int], Any]]:
    d = len(_schema(source).names)
    if hasattr(source, "to_pandas"):  # a table, perhaps of a mapped file
        n = source.num_rows
        step = max(1, int(n_bytes * n / max(source.nbytes, 1)))
        parts = [partial(source.slice, start, step) for start in range(0, n, step)]
        lengths = [min(step, n - start) for start in range(0, n, step)]
    elif hasattr(source, "get_fragments"):
        pieces = [*_pieces(source)]
        parts = [partial(piece.to_table, schema=source.schema) for piece in pieces]
        lengths = [_length(piece) for piece in pieces]
    else:
        numbers = range(source.num_row_groups)
        parts = [partial(source.read_row_group, i) for i in numbers]
        lengths = [source.metadata.row_group(i).num_rows for i in numbers]
    return d, lengths, lambda i: parts[i]().to_pandas()


def _pieces(dataset: Any) -> Iterator[Any]:
    """Row groups of parquet, files of other formats."""
    for fragment in dataset.get_fragments():
        by_group = getattr(fragment, "split_by_row_group", None)
        yield from [fragment] if by_group is None else by_group()


def _length(piece: Any) -> int:
    if hasattr(piece, "row_groups"):  # count_rows counts the whole file
        return sum(group.num_rows for group in piece.row_groups)
    return int(piece.count_rows())


def _schema(source: Any) -> Any:
    return source.schema_arrow if hasattr(source, "schema_arrow") else source.schema


def _n_rows(source: Any) -> int:
    if hasattr(source, "count_rows"):
        return int(source.count_rows())
    return int(source.metadata.num_rows)
