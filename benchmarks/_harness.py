"""Measures what a benchmark declares: cases of one shape, side by side, into rows.

The models of a shape take turns in rounds, so that drift of the machine hits all alike; the
product floor is measured in the same run.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from _convolutions import map_products
from _rows import Row, compare
from _timing import Products, Setting, in_rounds, product_floor, products_of
from _training_step import (
    MEGABYTE,
    Capture,
    Trainer,
    capture,
    free_memory,
    make_batch,
    products_in,
    start,
    warm_libraries,
)
from torch import nn


@dataclass(frozen=True)
class Case:
    """A model on a shape.

    ``features`` are the factors that one input has in the layers' matrix products: 1 for an
    MLP, C for a KAN, p for a linear meta-learner. ``build`` gives the network on any device.
    ``size`` is a side of the images that are convolved, channels then being the widths.
    """

    model: str
    label: str
    shape: str
    widths: tuple[int, ...]
    batch: int
    grid_size: int
    features: int
    build: Callable[[], nn.Module]
    note: str = ""
    size: int = 0

    @property
    def products(self) -> Products:
        if self.size:
            return map_products(self.widths[:-1], self.batch, self.features)
        return products_of(self.widths, self.batch, self.features)


def measure(cases: Iterable[Case], setting: Setting) -> list[Row]:
    """Rows of the cases of one shape; those that ran out of memory run once more, alone."""
    cases = list(cases)
    with products_in(setting.device, setting.precision):
        warm_libraries(setting.device, setting.precision)
        floors = {case.products: None for case in cases}
        for products in floors:
            floors[products] = product_floor(products, setting)
        rows = [_new_row(case, setting) for case in cases]
        _fill(cases, rows, setting)
        for i, case in enumerate(cases):
            if rows[i].out_of_memory and len(cases) > 1:
                free_memory(setting.device)
                rows[i] = _new_row(case, setting)
                rows[i].add_note("measured alone")
                _fill([case], [rows[i]], setting)
        free_memory(setting.device)
    for case, row in zip(cases, rows, strict=True):
        row.floor_ms = floors[case.products]
    compare(rows)
    return rows


def _new_row(case: Case, setting: Setting) -> Row:
    widths = "-".join(map(str, case.widths))
    return Row(
        case.shape,
        case.model,
        case.label,
        widths,
        case.batch,
        case.grid_size,
        setting.precision,
        note=case.note,
    )


def _fill(cases: list[Case], rows: list[Row], setting: Setting) -> None:
    """Measure the cases together: memory one after the other, times in rounds."""
    by_model = {row.model: row for row in rows}
    trainers: dict[str, Trainer] = {}
    for case in cases:
        row = by_model[case.model]
        with row.noting("step"):
            trainers[case.model] = _start(case, row, setting)
        free_memory(setting.device)
    steps = {name: trainer.step for name, trainer in trainers.items()}
    for name, times in in_rounds(steps, by_model, "step", setting).items():
        by_model[name].eager = times
    _predict(trainers, by_model, setting)
    if setting.device.type == "cuda":
        _fill_captured(trainers, by_model, setting)


def _start(case: Case, row: Row, setting: Setting) -> Trainer:
    sides = (case.size, case.size) if case.size else ()
    batch = make_batch((case.batch, case.widths[0], *sides), case.widths[-1])

    def make() -> Trainer:
        return Trainer(case.build(), batch, setting.device, setting.precision)

    trainer, peak = start(make, setting.device)
    row.parameters = trainer.n_parameters
    row.peak_mb = None if peak is None else peak / MEGABYTE
    row.saved_mb = trainer.saved_bytes() / MEGABYTE
    return trainer


def _predict(trainers: Mapping[str, Trainer], rows: Mapping[str, Row], setting: Setting) -> None:
    for trainer in trainers.values():
        trainer.network.eval()
    runs = {name: trainer.predict for name, trainer in trainers.items()}
    for name, times in in_rounds(runs, rows, "prediction", setting, 1 / 4).items():
        rows[name].rows_per_second = 1000 * rows[name].batch / times.median
    for trainer in trainers.values():
        trainer.network.train()


def _fill_captured(
    trainers: Mapping[str, Trainer], rows: Mapping[str, Row], setting: Setting
) -> None:
    graphs: dict[str, Capture] = {}
    for name, trainer in trainers.items():
        with rows[name].noting("CUDA graph"):
            graphs[name] = capture(trainer.step, trainer.optimizer.zero_grad)
            rows[name].graph_pool_mb = graphs[name].pool_bytes / MEGABYTE
    runs = {name: graph.replay for name, graph in graphs.items()}
    for name, times in in_rounds(runs, rows, "CUDA graph", setting).items():
        rows[name].captured = times
