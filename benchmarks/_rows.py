"""A row of results: what was measured of a model on a shape, and its ratios."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import NamedTuple

import torch


class Times(NamedTuple):
    """Milliseconds: median, 20th and 80th percentile."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: list[float]) -> "Times":
        fifths = quantiles(values, n=10, method="inclusive")
        return cls(fifths[4], fifths[1], fifths[7])


@dataclass
class Row:
    """What was measured of a case; megabytes are 10^6 bytes, None is not measured."""

    shape: str
    model: str
    label: str
    widths: str
    batch: int
    grid_size: int
    precision: str
    parameters: int | None = None
    peak_mb: float | None = None
    graph_pool_mb: float | None = None
    saved_mb: float | None = None
    eager: Times | None = None
    captured: Times | None = None
    floor_ms: float | None = None
    rows_per_second: float | None = None  # predicted
    epoch_seconds: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    note: str = ""
    out_of_memory: bool = False

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """A failure becomes part of the row, not the end of the run."""
        try:
            yield
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                self.out_of_memory, reason = True, "out of memory"
            else:
                lines = str(error).strip().splitlines() or [""]
                reason = f"{type(error).__name__}: {lines[0][:160]}"
            self.add_note(f"{what}: {reason}")

    def add_note(self, text: str) -> None:
        self.note = f"{self.note}; {text}" if self.note else text


def compare(rows: list[Row]) -> None:
    """Ratios to the MLP among these rows, where there is one, and to the product floor."""
    mlp = next((row for row in rows if row.model == "mlp"), None)
    for row in rows:
        for name in ("peak_mb", "saved_mb", "eager", "captured", "epoch_seconds"):
            value, of_mlp = _number(row, name), mlp and _number(mlp, name)
            if value is not None and of_mlp:
                row.ratios[f"{name.removesuffix('_mb')}_to_mlp"] = value / of_mlp
            if value is not None and row.floor_ms and name in ("eager", "captured"):
                row.ratios[f"{name}_to_floor"] = value / row.floor_ms


def _number(row: Row, name: str) -> float | None:
    value = getattr(row, name)
    return value.median if isinstance(value, Times) else value
