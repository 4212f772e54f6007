"""Memory and speed of a training step: our KAN with each coefficient source, an MLP, and peers.

    python benchmarks/memory_speed.py [--device cuda] [--peers-dir DIR] [--shapes NAME,...]
        [--models NAME,...] [--precision tf32] [--basis rbf] [--out DIR] [--seconds-per-row 1.5]

DIR holds checkouts named MetaKAN, efficient-kan, fast-kan and pykan; those that are not there are
named and left out. What is measured: ``_training_step.py``; how: ``_harness.py``.

Peak memory: allocated on the card over full steps (forward, loss, backward, fused Adam), with
parameters, gradients, optimiser state and batch, without the libraries' workspaces. Bytes saved for
backward: every distinct storage that autograd keeps, parameters not counted. Eager and captured
steps run the same fused Adam, capturable. A CUDA graph's pool is a column of its own.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from _convolutions import SIZE, conv_models
from _harness import Case, measure
from _models import Model, equal_width, n_parameters, own_models, two_an_edge, wide_mlp
from _paper_conv_networks import CHANNELS
from _peers import TooLarge, find_peers
from _reached import reached
from _report import describe, print_rows, write
from _rows import Row
from _tabular import SHAPE as TABULAR
from _tabular import tabular_rows
from _timing import Setting
from _training_step import free_memory
from threadpoolctl import threadpool_limits

from sklearn_metakan.basis import BasisName


@dataclass(frozen=True)
class Shape:
    """``equal_parameters``: the hidden width of the others is set by the MLP's parameters.

    ``size``: a side of the images that networks of these channels convolve.
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    grid_size: int = 5
    equal_parameters: bool = False
    with_wide_mlp: bool = False
    size: int = 0


SHAPES = [
    Shape("784-64", (784, 64, 10), 1024, with_wide_mlp=True),
    Shape("784-1024", (784, 1024, 1024, 10), 1024, with_wide_mlp=True),
    Shape("3072-2048", (3072, 2048, 2048, 100), 1024, with_wide_mlp=True),
    Shape("4096", (4096, 4096, 4096, 1000), 2048, with_wide_mlp=True),
    Shape("4096-b256", (4096, 4096, 4096, 1000), 256, with_wide_mlp=True),
    Shape("issue23", (784, 256, 256, 256, 256), 36_864, with_wide_mlp=True),
    # KAN-benchmarking's: a KAN of 10 numbers an edge then has 1000-1000-1.
    Shape("equal-params", (1000, 10_000, 1), 100, equal_parameters=True),
    Shape("grid20", (3072, 2048, 2048, 100), 1024, grid_size=20),
    Shape("deep4", (1024,) * 5, 1024),
    Shape("deep16", (1024,) * 17, 1024),
    Shape("conv", (3, *CHANNELS[4], 10), 256, size=SIZE),
    Shape("cpu", (784, 256, 10), 256, with_wide_mlp=True),
    Shape("smoke", (16, 8, 4), 32, with_wide_mlp=True),
]
GROUPS = {
    "measured": ["784-64", "784-1024", "3072-2048", "4096", "4096-b256"],
    "grid": ["3072-2048", "grid20"],
    "deep": ["deep4", "deep16"],
}
DEFAULT_SHAPES = {
    "cuda": [
        *GROUPS["measured"],
        *("issue23", "equal-params", "grid20"),
        *GROUPS["deep"],
        *("conv", TABULAR),
    ],
    "cpu": ["cpu"],
}


def main() -> None:
    options = _parse()
    device = torch.device(options.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    models, missing = find_peers(options.peers_dir)
    models = [*own_models(options.backend, options.basis), *models]
    for label in missing:
        print(f"{label}: not there")
    run = describe(device, _command(options))
    print("\n".join(f"{key}: {value}" for key, value in run.items()), flush=True)
    one_thread = threadpool_limits(1) if device.type == "cpu" else nullcontext()
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        with one_thread:
            for precision in options.precision:
                setting = Setting(device, precision, options.seconds_per_row)
                for group in _measured(models, options, setting):
                    rows += group
                    print_rows(group)
    finally:  # what there is, whatever stopped it
        goals = reached(rows, "cpu" if device.type == "cpu" else run["device"])
        print("\n".join(["\nWhat must be reached", *goals]), flush=True)
        if rows:
            write(rows, run, goals, options.out)


def _measured(
    models: list[Model], options: argparse.Namespace, setting: Setting
) -> Iterator[list[Row]]:
    """The rows of each shape, as they come."""
    for name in options.shapes:
        if name == TABULAR:
            yield tabular_rows(setting, options.models)
        else:
            shape = next(shape for shape in SHAPES if shape.name == name)
            its_models = conv_models(options.backend, options.basis) if shape.size else models
            yield measure_shape(shape, its_models, setting, options.models)
        free_memory(setting.device)


def measure_shape(
    shape: Shape, models: Iterable[Model], setting: Setting, wanted: set[str] | None = None
) -> list[Row]:
    """The rows of these models, or of those wanted, and of a wider MLP if the shape asks."""
    cases = []
    for model in models:
        if wanted is None or model.key in wanted:
            cases.append(_case(shape, model, setting.device))
        if model.key == "mlp" and shape.with_wide_mlp:
            wide, widths = wide_mlp(shape.widths)
            if wanted is None or wide.key in wanted:
                case = _case(replace(shape, widths=widths), wide, setting.device)
                aim = f"{n_parameters(widths):,} parameters for {two_an_edge(shape.widths):,}"
                cases.append(replace(case, note=aim))
    return measure(cases, setting)


def _case(shape: Shape, model: Model, device: torch.device) -> Case:
    widths, note = shape.widths, ""
    if shape.equal_parameters and model.key != "mlp":
        target = n_parameters(widths)
        try:
            hidden = equal_width(model, widths, shape.grid_size, target)
            widths = (widths[0], hidden, widths[-1])
        except (RuntimeError, ImportError, TooLarge) as error:
            note = f"width of equal parameters unknown: {error}"
    return Case(
        model.key,
        model.label,
        shape.name,
        widths,
        shape.batch,
        shape.grid_size,
        model.features(shape.grid_size),
        partial(model.build, widths, shape.grid_size, device),
        note,
        shape.size,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = [*(shape.name for shape in SHAPES), TABULAR, *GROUPS, "all"]
    add = parser.add_argument
    add("--device", default=default_device)
    add("--peers-dir", type=Path, help="folder of the other implementations' checkouts")
    add("--shapes", type=_names(shapes), help=f"of {', '.join(shapes)}")
    add("--models", type=_names(None), help="keys, such as mlp,paper,linear-2,efficient-kan")
    add("--precision", type=_names(["tf32", "bf16", "fp32"]), help="tf32 on a card, else fp32")
    add("--backend", default="auto", help="of our layers, as in KAN")
    add("--basis", choices=get_args(BasisName), default="bspline", help="of our layers")
    add("--out", type=Path, default=Path("out/memory_speed"))
    add("--seconds-per-row", type=float, default=1.5, help="of timed steps")
    options = parser.parse_args()
    kind = torch.device(options.device).type
    if kind == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; set --device cpu")
    options.precision = options.precision or ["tf32" if kind == "cuda" else "fp32"]
    asked = options.shapes or DEFAULT_SHAPES[kind]
    asked = [name for key in asked for name in _members(key, kind)]
    options.shapes = list(dict.fromkeys(asked))
    options.models = set(options.models) if options.models else None
    return options


def _members(key: str, device_type: str) -> list[str]:
    return DEFAULT_SHAPES[device_type] if key == "all" else GROUPS.get(key, [key])


def _names(allowed: list[str] | None):
    """A comma-separated list, for argparse."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if allowed is not None and name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; of {allowed}")
        return names

    return parse


def _command(options: argparse.Namespace) -> str:
    """As it was called, without the folders of this machine."""
    folders = (options.peers_dir, options.out)
    words = [word.split("=", 1) for word in sys.argv[1:]]
    shown = ["=".join("DIR" if Path(part) in folders else part for part in word) for word in words]
    return " ".join(["python benchmarks/memory_speed.py", *shown])


if __name__ == "__main__":
    main()
