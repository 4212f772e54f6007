"""Memory and speed of a training step: our KAN with each coefficient source, an MLP, and peers.

    python -m benchmarks.speed.memory_speed [--device cuda] [--peers-dir DIR] [--shapes NAME,...]
        [--models NAME,...] [--precision tf32] [--basis rbf] [--out DIR] [--seconds-per-row 1.5]

DIR holds checkouts named MetaKAN, efficient-kan, fast-kan and pykan; those that are not there are
named and left out. What is measured, and how: ``harness.py``.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from math import nan
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from benchmarks.common.measure import add_options, describe, free_memory
from benchmarks.common.report import Goal, goals, table
from benchmarks.speed import models as networks
from benchmarks.speed.harness import Case, Setting, Shape, measure
from benchmarks.speed.loop import TABULAR, tabular_rows
from sklearn_metakan.basis import BasisName

_HUGE = (4096, 4096, 4096, 1000)
_SHAPES = (
    Shape("784-64", (784, 64, 10), 1024),
    Shape("784-1024", (784, 1024, 1024, 10), 1024),
    Shape("3072-2048", (3072, 2048, 2048, 100), 1024),
    Shape("4096", _HUGE, 2048),
    Shape("4096-b256", _HUGE, 256),
    Shape("issue23", (784, 256, 256, 256, 256), 36_864),
    # KAN-benchmarking's: a KAN of 10 numbers an edge then has 1000-1000-1.
    Shape("equal-params", (1000, 10_000, 1), 100),
    Shape("grid20", (3072, 2048, 2048, 100), 1024, grid_size=20),
    Shape("deep4", (1024,) * 5, 1024),
    Shape("deep16", (1024,) * 17, 1024),
    Shape("conv", (*networks.CONV_CHANNELS, 10), 256, size=networks.CONV_SIZE),
    Shape("cpu", (784, 256, 10), 256),
    Shape("smoke", (16, 8, 4), 32),
)
SHAPES = {shape.name: shape for shape in _SHAPES}
# Beside an MLP of as many parameters as two numbers an edge.
WITH_WIDE_MLP = ("784-64", "784-1024", "3072-2048", "4096", "4096-b256", "issue23", "cpu", "smoke")
GROUPS = {
    "measured": ["784-64", "784-1024", "3072-2048", "4096", "4096-b256"],
    "grid": ["3072-2048", "grid20"],
    "deep": ["deep4", "deep16"],
}


def main() -> None:
    options = _parse()
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    peers, missing = networks.find_peers(options.peers_dir)
    for label in missing:
        print(f"{label}: not there")
    about = describe(device)
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    dense = [*networks.own_models(options.backend, options.basis), *peers]
    groups: list[pd.DataFrame] = []
    try:
        with threadpool_limits(1 if device.type == "cpu" else None):
            for precision, name in product(options.precision, options.shapes):
                setting = Setting(device, precision, options.seconds_per_row)
                if name == TABULAR:
                    rows = tabular_rows(setting, options.models)
                else:
                    shape, ours = SHAPES[name], (options.backend, options.basis)
                    models = networks.conv_models(*ours) if shape.size else dense
                    rows = measure(cases_of(shape, models, options.models), setting)
                free_memory(device)
                groups.append(rows)
                print("\n" + block(rows), flush=True)
    finally:  # what there is, whatever stopped it
        if groups:
            write(pd.concat(groups, ignore_index=True), about, options.out)


def cases_of(
    shape: Shape, models: list[networks.Model], wanted: set[str] | None = None
) -> list[Case]:
    """These models, or those wanted, on a shape, with a wider MLP for some."""
    cases = []
    for model in models:
        cases.append(Case(model, shape))
        if model.key == "mlp" and shape.name in WITH_WIDE_MLP:
            wide, widths, aim = networks.wide_mlp(shape.widths)
            cases.append(Case(wide, shape._replace(widths=widths), aim))
    cases = [case for case in cases if wanted is None or case.model.key in wanted]
    return [_equally_large(case) if shape.name == "equal-params" else case for case in cases]


def _equally_large(case: Case) -> Case:
    """With the hidden width that has as many parameters as the MLP."""
    model, shape = case.model, case.shape
    try:
        widths = networks.equal_widths(model, shape.widths, shape.grid_size)
    except (RuntimeError, ImportError, networks.TooLarge) as error:
        return case._replace(note=f"width of equal parameters unknown: {error}")
    return case._replace(shape=shape._replace(widths=widths))


COLUMNS = {
    "model": "{label}",
    "widths": "{widths}",
    "parameters": "{parameters:,.0f}",
    "peak MB": "{peak_mb:,.2f}",
    "peak / MLP": "{peak_to_mlp:.2f}",
    "saved MB": "{saved_mb:,.4f}",
    "saved / MLP": "{saved_to_mlp:.2f}",
    "eager ms": "{eager_ms_median:.3f} ({eager_ms_p20:.3f}-{eager_ms_p80:.3f})",
    "eager / MLP": "{eager_to_mlp:.2f}",
    "eager / floor": "{eager_to_floor:.2f}",
    "captured ms": "{captured_ms_median:.3f} ({captured_ms_p20:.3f}-{captured_ms_p80:.3f})",
    "captured / MLP": "{captured_to_mlp:.2f}",
    "captured / floor": "{captured_to_floor:.2f}",
    "pool MB": "{graph_pool_mb:,.1f}",
    "floor ms": "{floor_ms:.3f}",
    "predicted rows/s": "{rows_per_second:,.0f}",
    "s an epoch": "{epoch_seconds:.3f}",
    "note": "{note}",
}


def block(rows: pd.DataFrame) -> str:
    """A title and a table of rows of one shape and precision."""
    first = rows.iloc[0]
    rows = rows.assign(note=rows["note"].str.replace("|", "/"))
    title = f"## {first['shape']}, batch {first['batch']}, {first['precision']}"
    return f"{title}\n\n{table(rows, COLUMNS)}"


# What must be at most so much: "shape model column", or its ratio to a second one. Steps on a card
# are captured ones, as the estimators train there.
EAGER, MS, WIDE = "eager_ms_median", "captured_ms_median", f"4096 {networks.WIDE_MLP} peak_mb"
PEER = f"cpu efficient-kan {EAGER}"
LIMITS_ON_CPU = (
    ("p=1: step / efficient-kan's", 0.6, f"cpu paper {EAGER}", PEER),
    ("linear p=2: step / efficient-kan's", 0.25, f"cpu linear-2 {EAGER}", PEER),
    ("p=1: saved for backward / MLP's", 1.3, "cpu paper saved_to_mlp"),
    ("linear p=2: saved for backward / MLP's", 1.3, "cpu linear-2 saved_to_mlp"),
)
LIMITS_ON_CARDS = (
    ("p=1 on 4096: peak / MLP's", 1.15, "4096 paper peak_to_mlp"),
    ("edge scale on 4096: peak / equally large MLP's", 1.1, "4096 edge-scale peak_mb", WIDE),
    ("linear p=2 on 4096: peak / equally large MLP's", 1.1, "4096 linear-2 peak_mb", WIDE),
    ("linear p=2 on 4096: step / MLP's", 3.0, "4096 linear-2 captured_to_mlp"),
    ("p=1 on issue23: peak / MLP's", 1.5, "issue23 paper peak_to_mlp"),
    ("p=1 on 784-64: step, ms", 1.0, f"784-64 paper {MS}"),
    ("p=1 on 784-64: peak / MLP's", 2.0, "784-64 paper peak_to_mlp"),
    ("p=1: step at G=20 / at G=5", 2.7, f"grid20 paper {MS}", f"3072-2048 paper {MS}"),
    ("linear p=2: the same", 1.05, f"grid20 linear-2 {MS}", f"3072-2048 linear-2 {MS}"),
    ("p=1, convolutions: peak / that of plain ones", 1.3, "conv paper peak_to_mlp"),
    ("p=1, convolutions: step / floor", 1.5, "conv paper captured_to_floor"),
    ("linear p=2, convolutions: step / that of plain ones", 4.0, "conv linear-2 captured_to_mlp"),
    # "As the MLP's": a tenth more is within the workspace.
    ("p=1: growth from 4 to 16 layers / MLP's", 1.1, "growth paper peak_mb", "growth mlp peak_mb"),
)
# On the card whose milliseconds the limits are, and the same on others.
LIMITS_ON_H200 = (
    ("p=1 on 4096, tf32: step, ms", 15.0, f"4096 paper {MS}"),
    ("the same in bf16", 10.0, f"4096-bf16 paper {MS}"),
)
LIMITS_ELSEWHERE = (
    ("p=1 on 4096, tf32: step / floor", 15 / 8.3, "4096 paper captured_to_floor"),
    ("the same in bf16", 10 / 4.4, "4096-bf16 paper captured_to_floor"),
)


def to_reach(rows: pd.DataFrame, device_name: str) -> Iterator[Goal]:
    """The limits that count on this device, with what these rows say of them."""
    known = rows.drop_duplicates(["shape", "model", "precision"])
    usual = "fp32" if device_name == "CPU" else "tf32"
    shape = known["shape"] + [f"-{each}" * (each != usual) for each in known["precision"]]
    known = known.set_index([shape, "model"]).select_dtypes("number")

    def number(place: str) -> float:
        shape, model, column = place.split()
        if shape == "growth":
            return number(f"deep16 {model} {column}") - number(f"deep4 {model} {column}")
        return known[column].get((shape, model), nan) if column in known else nan

    limits = LIMITS_ON_CPU
    if device_name != "CPU":
        limits = LIMITS_ON_CARDS + (LIMITS_ON_H200 if "H200" in device_name else LIMITS_ELSEWHERE)
    for text, limit, place, *base in limits:
        yield Goal(text, number(place) / (number(base[0]) if base else 1.0), limit)


def write(rows: pd.DataFrame, about: dict[str, str], folder: Path) -> None:
    """memory_speed.csv, memory_speed.md, peak.png and step.png in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.assign(**about).to_csv(folder / "memory_speed.csv", index=False)
    found = goals(to_reach(rows, about["device_name"]))
    print(f"\n## To reach\n\n{found}", flush=True)
    head = ["# Memory and speed", *(f"{name} {value}  " for name, value in about.items())]
    blocks = [block(group) for _, group in rows.groupby(["precision", "shape"], sort=False)]
    text = "\n\n".join(["\n".join(head), *blocks, "## To reach", found])
    (folder / "memory_speed.md").write_text(text + "\n", encoding="utf-8")
    on_card = rows["peak_to_mlp"].notna().any()
    memory = "peak_to_mlp" if on_card else "saved_to_mlp"
    what = "peak memory" if on_card else "bytes saved for backward"
    _plot(rows, memory, f"{what} / MLP's", folder / "peak.png")
    _plot(rows, "eager_to_mlp", "step time / MLP's", folder / "step.png")


def _plot(rows: pd.DataFrame, ratio: str, title: str, path: Path) -> None:
    """A column for each shape, a mark for each model; logarithmic."""
    shown = rows[rows["model"] != "mlp"]
    shown = shown.assign(shape=shown["shape"] + "\n" + shown["precision"])
    by_shape = shown.pivot_table(ratio, "shape", "label", sort=False)
    if by_shape.empty:
        return
    size, places = (max(6.0, 1.2 * len(by_shape) + 3), 4.5), range(len(by_shape))
    style = {"style": list("osD^v<>PX*hdp"), "logy": True, "xticks": places, "figsize": size}
    axes = by_shape.plot(**style, xlim=(-0.5, len(by_shape) - 0.5), xlabel="", ylabel=title)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes = [*SHAPES, TABULAR, *GROUPS, "all"]
    add_options(parser, "device", out=Path("out/memory_speed"))
    add = parser.add_argument
    add("--peers-dir", type=Path, help="folder of the other implementations' checkouts")
    add("--shapes", type=_names(shapes), help=f"of {', '.join(shapes)}")
    add("--models", type=_names(None), help="keys, such as mlp,paper,linear-2,efficient-kan")
    add("--precision", type=_names(["tf32", "bf16", "fp32"]), help="tf32 on a card, else fp32")
    add("--backend", default="auto", help="of our layers, as in KAN")
    add("--basis", choices=get_args(BasisName), default="bspline", help="of our layers")
    add("--seconds-per-row", type=float, default=1.5, help="of timed steps")
    options = parser.parse_args()
    kind = torch.device(options.device).type
    if kind == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; set --device cpu")
    options.precision = options.precision or ["tf32" if kind == "cuda" else "fp32"]
    on_card = [name for name in (*SHAPES, TABULAR) if name not in ("cpu", "smoke")]
    groups = GROUPS | {"all": on_card if kind == "cuda" else ["cpu"]}
    asked = options.shapes or ["all"]
    options.shapes = list(dict.fromkeys(name for key in asked for name in groups.get(key, [key])))
    options.models = set(options.models) if options.models else None
    return options


def _names(allowed: list[str] | None) -> Callable[[str], list[str]]:
    """A comma-separated list, for argparse."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if allowed is not None and name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; of {allowed}")
        return names

    return parse


if __name__ == "__main__":
    main()
