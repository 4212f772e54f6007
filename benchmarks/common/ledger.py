"""Rows of results in a CSV file, found again by their settings: a run that was stopped goes on."""

import csv
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from benchmarks.common.measure import describe


class Ledger:
    """A CSV file that grows by one row for each finished piece of work.

    A row holds the settings, a NamedTuple ``kind``, which say what it is of, the ``results``,
    and device, versions, date and command. Of the command's ``options`` it reads ``device``,
    ``jobs`` (fits at a time) and ``minutes`` (after which no further fit is started), where
    they are; ``shown`` is a format string of a row, for the progress bar.

    A file with other columns raises ValueError; a last line that an interrupt cut off is
    dropped.
    """

    def __init__(
        self, path: Path, kind: type, results: Sequence[str], options: Any, shown: str = ""
    ) -> None:
        given = {"device": "cpu", "jobs": 1, "minutes": None} | vars(options)
        self.path, self.about = path, describe(torch.device(given["device"]))
        self.jobs, self.shown, minutes = given["jobs"], shown, given["minutes"]
        self.end = inf if minutes is None else time.monotonic() + 60 * minutes
        self.key = list(kind._fields)
        self.columns = [*self.key, *results, *self.about]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._mend()
        else:
            self._write(self.columns)
        rows = self.rows()
        keys = rows[self.key].itertuples(index=False, name=None)
        self._found = dict(zip(keys, rows.to_dict("records"), strict=True))

    def __contains__(self, settings: Any) -> bool:
        return self.find(settings) is not None

    def find(self, settings: Any) -> dict[str, Any] | None:
        """The row of these settings."""
        return self._found.get(self._key_of(settings))

    def add(self, settings: Any, results: Mapping[str, Any]) -> dict[str, Any]:
        """Append a row; gives it as ``find`` does."""
        row = settings._asdict() | results | self.about
        self._write([row[column] for column in self.columns])
        key = self._key_of(settings)
        self._found[key] = row | dict(zip(self.key, key, strict=True))
        return self._found[key]

    def rows(self) -> pd.DataFrame:
        """All rows; settings as text, results as numbers where they are some."""
        empty = {name: [""] for name in self.columns if name not in self.key}
        text = dict.fromkeys(self.key, str)
        return pd.read_csv(self.path, dtype=text, keep_default_na=False, na_values=empty)

    def finish(self, trials: Sequence[Any], measure: Callable[[Any], dict[str, Any]]) -> None:
        """Add a row for each trial that has none, until all are there or time is up.

        A trial that raises is reported and leaves no row, so that the next call tries it again.
        """
        todo = [trial for trial in trials if trial not in self]
        options = {"return_as": "generator_unordered", "pre_dispatch": self.jobs, "batch_size": 1}
        work = Parallel(self.jobs, **options)(self._in_time(measure, todo))
        with tqdm(work, total=len(todo), unit="fit") as bar:
            for trial, results, error in bar:
                if results is None:
                    print(f"{trial} failed:\n{error}")
                else:
                    bar.set_postfix_str(self.shown.format_map(self.add(trial, results)))

    def _in_time(self, measure: Callable[[Any], dict[str, Any]], trials: Sequence[Any]) -> Any:
        for trial in trials:
            if time.monotonic() >= self.end:
                print("Time is up: no further fit is started.")
                return
            yield delayed(_attempt)(measure, trial)

    @staticmethod
    def _key_of(settings: Any) -> tuple[str, ...]:
        return tuple("" if value is None else str(value) for value in settings)

    def _mend(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        header = next(csv.reader(whole.splitlines()), [])
        if header != self.columns:
            raise ValueError(
                f"{self.path} has the columns {header}, not {self.columns}: it is of another "
                "version. Name another place for it."
            )

    def _write(self, cells: Sequence[Any]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)


def _attempt(
    measure: Callable[[Any], dict[str, Any]], trial: Any
) -> tuple[Any, dict[str, Any] | None, str]:
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return trial, measure(trial), ""
    except Exception:
        return trial, None, traceback.format_exc()
