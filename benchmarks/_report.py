"""Rows as text, CSV, Markdown and plots."""

import csv
import datetime
import importlib.metadata
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _rows import Row, Times

RATIOS = (
    "peak_to_mlp",
    "saved_to_mlp",
    "eager_to_mlp",
    "eager_to_floor",
    "captured_to_mlp",
    "captured_to_floor",
    "epoch_seconds_to_mlp",
)
# heading, width, what of a row
COLUMNS = [
    ("model", 39, lambda row: row.label),
    ("widths", 26, lambda row: _short(row.widths)),
    ("parameters", 12, lambda row: _number(row.parameters)),
    ("peak MB", 9, lambda row: _number(row.peak_mb)),
    ("/ MLP", 7, lambda row: _ratio(row, "peak_to_mlp")),
    ("saved MB", 9, lambda row: _number(row.saved_mb)),
    ("/ MLP", 7, lambda row: _ratio(row, "saved_to_mlp")),
    ("eager ms (20-80 %)", 24, lambda row: _times(row.eager)),
    ("/ MLP", 7, lambda row: _ratio(row, "eager_to_mlp")),
    ("/ floor", 8, lambda row: _ratio(row, "eager_to_floor")),
    ("captured ms (20-80 %)", 24, lambda row: _times(row.captured)),
    ("/ MLP", 7, lambda row: _ratio(row, "captured_to_mlp")),
    ("/ floor", 8, lambda row: _ratio(row, "captured_to_floor")),
    ("pool MB", 9, lambda row: _number(row.graph_pool_mb)),
    ("floor ms", 9, lambda row: _number(row.floor_ms)),
    ("predicted rows/s", 17, lambda row: _number(row.rows_per_second)),
    ("s an epoch", 11, lambda row: _number(row.epoch_seconds)),
    ("note", 5, lambda row: row.note),
]


def device_name(device: torch.device) -> str:
    on_card = device.type == "cuda"
    return torch.cuda.get_device_name(device) if on_card else "CPU, one thread"


def describe(device: torch.device, command: str) -> dict[str, str]:
    """Device, versions, date and command of a run."""
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "none"
    return {
        "device": device_name(device),
        "torch": torch.__version__,
        "triton": triton,
        "cuda": torch.version.cuda or "none",
        "date": datetime.date.today().isoformat(),
        "command": command,
    }


def print_rows(rows: list[Row]) -> None:
    """A table of the rows of one shape, with the columns that have something in them."""
    title = f"\n{rows[0].shape}: batch {rows[0].batch}, {rows[0].precision}"
    print(title, flush=True)
    used = _used(rows)
    print("  ".join(heading.ljust(width) for heading, width, _ in used).rstrip())
    for row in rows:
        print("  ".join(text(row).ljust(width) for _, width, text in used).rstrip(), flush=True)


def write(rows: list[Row], run: dict[str, str], goals: list[str], folder: Path) -> None:
    """memory_speed.csv, memory_speed.md, peak.png and step.png in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(rows, run, folder / "memory_speed.csv")
    (folder / "memory_speed.md").write_text(markdown(rows, run, goals), encoding="utf-8")
    memory = "peak_to_mlp" if any("peak_to_mlp" in row.ratios for row in rows) else "saved_to_mlp"
    what = "peak memory" if memory == "peak_to_mlp" else "bytes saved for backward"
    _plot(rows, memory, f"{what} / MLP's", folder / "peak.png")
    _plot(rows, "eager_to_mlp", "step time / MLP's", folder / "step.png")


def markdown(rows: list[Row], run: dict[str, str], goals: list[str]) -> str:
    lines = ["# Memory and speed", "", "```", run["command"], "```", ""]
    lines += [", ".join(f"{key} {run[key]}" for key in ("device", "torch", "triton", "cuda"))]
    lines += [f"Date: {run['date']}.", ""]
    for key in dict.fromkeys((row.shape, row.precision) for row in rows):
        group = [row for row in rows if (row.shape, row.precision) == key]
        used = _used(group)
        lines += [f"## {key[0]}, batch {group[0].batch}, {key[1]}", ""]
        lines += ["| " + " | ".join(heading for heading, _, _ in used) + " |"]
        lines += ["|" + "---|" * len(used)]
        lines += [
            "| " + " | ".join(_cell(text(row)) for _, _, text in used) + " |" for row in group
        ]
        lines += [""]
    return "\n".join([*lines, "## What must be reached", "", *(f"- {goal}" for goal in goals), ""])


def _write_csv(rows: list[Row], run: dict[str, str], path: Path) -> None:
    flat = []
    for row in rows:
        record: dict[str, Any] = asdict(row)
        del record["ratios"], record["out_of_memory"]
        for name in ("eager", "captured"):
            values = getattr(row, name) or Times(None, None, None)
            del record[name]
            record |= {f"{name}_ms_{k}": v for k, v in values._asdict().items()}
        record |= {name: row.ratios.get(name) for name in RATIOS}
        flat.append(record | run)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, flat[0])
        writer.writeheader()
        writer.writerows(flat)


def _plot(rows: list[Row], name: str, title: str, path: Path) -> None:
    """A column for each shape, a mark for each model; logarithmic."""
    shown = [row for row in rows if name in row.ratios and row.model != "mlp"]
    if not shown:
        return
    from matplotlib.figure import Figure

    shapes = list(dict.fromkeys(f"{row.shape}\n{row.precision}" for row in shown))
    figure = Figure(figsize=(max(6.0, 1.2 * len(shapes) + 3), 4.5), layout="constrained")
    axes = figure.subplots()
    labels = list(dict.fromkeys(row.label for row in shown))
    for index, label in enumerate(labels):
        aside = 0.6 * ((index + 0.5) / len(labels) - 0.5)
        its = [row for row in shown if row.label == label]
        at = [shapes.index(f"{row.shape}\n{row.precision}") + aside for row in its]
        marker = "osD^v<>PX*hdp"[index % 13]
        axes.plot(at, [row.ratios[name] for row in its], marker, label=label)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set(yscale="log", ylabel=title, xlim=(-0.5, len(shapes) - 0.5))
    axes.set_xticks(range(len(shapes)), shapes, fontsize=8)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=150)


def _used(rows: list[Row]) -> list[Any]:
    return [column for column in COLUMNS if any(column[2](row) for row in rows)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 or isinstance(value, int) else f"{value:.3g}"


def _ratio(row: Row, name: str) -> str:
    return f"{row.ratios[name]:.2f}" if name in row.ratios else ""


def _times(times: Times | None) -> str:
    return f"{times.median:.3f} ({times.p20:.3f}-{times.p80:.3f})" if times else ""


def _short(widths: str) -> str:
    return (
        widths if len(widths) <= 26 else f"{widths.split('-')[0]}-... ({widths.count('-')} layers)"
    )


def _cell(text: str) -> str:
    return text.replace("|", "/")
