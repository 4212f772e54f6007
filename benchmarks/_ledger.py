"""Rows of results in a CSV file, found again by their key: a run that was stopped goes on."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


class Ledger:
    """A CSV file that grows by one row for each finished piece of work.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    key : sequence of str
        The columns that say which piece of work a row is of.

    A file with other columns raises ValueError; a last line that an interrupt cut off is
    dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, list(columns), list(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._mend()
        else:
            self._write(self.columns)

    def __contains__(self, row: Mapping[str, Any]) -> bool:
        return self._key_of(row) in self._done

    def append(self, row: Mapping[str, Any]) -> None:
        self._write([row[column] for column in self.columns])
        self._done.add(self._key_of(row))

    def rows(self) -> pd.DataFrame:
        return pd.read_csv(self.path, dtype=dict.fromkeys(self.key, str), keep_default_na=False)

    def _key_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[column]) for column in self.key)

    def _mend(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        header = next(csv.reader(whole.splitlines()), [])
        if header != self.columns:
            raise ValueError(
                f"{self.path} has the columns {header}, not {self.columns}: it is of another "
                "version. Name another folder with --out."
            )

    def _write(self, cells: Sequence[Any]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    @property
    def _done(self) -> set[tuple[str, ...]]:
        if not hasattr(self, "_keys"):
            rows = self.rows()
            self._keys = {self._key_of(row) for row in rows.to_dict("records")}
        return self._keys
