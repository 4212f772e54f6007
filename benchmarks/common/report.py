"""Rows as Markdown tables, and what was to be reached."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import pandas as pd


def table(rows: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """A Markdown table with a line for each row.

    ``columns`` maps headings to format strings of a row's fields, as "{test:.2f} ± {spread:.2f}".
    A cell with a field that is missing stays empty; columns of empty cells are left out.
    """
    records = rows.to_dict("records")
    cells = {title: [_cell(text, row) for row in records] for title, text in columns.items()}
    cells = {title: texts for title, texts in cells.items() if any(texts)}
    lines = [cells, *zip(*cells.values(), strict=True)]
    head, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(cells), *rest])


def _cell(template: str, row: Mapping[str, Any]) -> str:
    names = (name for _, name, _, _ in Formatter().parse(template) if name)
    return "" if any(pd.isna(row.get(name)) for name in names) else template.format_map(row)


def constants(rows: pd.DataFrame, names: Iterable[str]) -> str:
    """What rows have in common, or one of: "fitted 60; precision auto"."""
    values = {name: "/".join(map(str, rows[name].dropna().unique())) for name in names}
    return "; ".join(f"{name} {text}" for name, text in values.items() if text)


class Goal(NamedTuple):
    """What a number must be at most, or with ``least`` at least; None or NaN is not measured."""

    line: str
    measured: float | None
    limit: float
    least: bool = False

    @property
    def verdict(self) -> str:
        if pd.isna(self.measured):
            return "not measured"
        ratio = self.limit / self.measured if self.least else self.measured / self.limit
        if ratio <= 1:
            return "reached"
        return (
            f"SHORT by {100 * (ratio - 1):.3g}%" if ratio < 2 else f"SHORT by a factor {ratio:.2g}"
        )


def goals(found: Iterable[Goal]) -> str:
    """A table of goals, measured numbers and verdicts."""
    rows = [
        goal._asdict() | {"sense": ("at most", "at least")[goal.least], "verdict": goal.verdict}
        for goal in found
    ]
    columns = {"line": "{line}", "measured": "{measured:.4g}"}
    columns |= {"to reach": "{sense} {limit:,.6g}", "verdict": "{verdict}"}
    return table(pd.DataFrame(rows), columns)


def publish(blocks: Iterable[str], path: Path) -> None:
    """Write blocks of Markdown to a file, and print them."""
    text = "\n\n".join(blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)
