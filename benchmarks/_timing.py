"""Times of runs that take turns, and the floor: the matrix products of a step alone.

All times are milliseconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch
from _rows import Row, Times
from _training_step import WARM_UP, Precision, capture

ROUNDS = 5
FEWEST, MOST = 3, 50  # timed runs of a row
Random = Callable[..., torch.Tensor]


class Product(Protocol):
    """One product of a step; hashable."""

    def start(self, random: Random) -> Callable[[], Any]:
        """Make the factors, ``random(*shape)`` each, and return what multiplies them."""
        ...


Products = tuple[Product, ...]


class MatrixProduct(NamedTuple):
    """(m, r) by (r, n).

    Operands lie with the summed axis contiguous, the layout that TF32 and bf16 units read
    without a transposition.
    """

    m: int
    n: int
    r: int

    def start(self, random: Random) -> Callable[[], Any]:
        left, right, out = random(self.m, self.r), random(self.n, self.r), random(self.m, self.n)
        return lambda: torch.mm(left, right.T, out=out)


@dataclass(frozen=True)
class Setting:
    """Where and how; ``seconds`` bounds a row's timed steps, eager and captured each."""

    device: torch.device
    precision: Precision
    seconds: float = 1.5


def in_rounds(
    runs: Mapping[str, Callable[[], None]],
    rows: Mapping[str, Row],
    what: str,
    setting: Setting,
    part: float = 1.0,
) -> dict[str, Times]:
    """Time runs in turns: as many as fit into this part of the seconds, within FEWEST, MOST."""
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        with rows[name].noting(what):
            fitting = part * setting.seconds / _warm_up(run, setting)
            counts[name] = int(min(max(fitting, FEWEST), MOST))
    for turn in range(ROUNDS):
        for name in list(counts):
            n = counts[name] * (turn + 1) // ROUNDS - counts[name] * turn // ROUNDS
            done = False
            with rows[name].noting(what):
                times[name] += timed(runs[name], n, setting.device)
                done = True
            if not done:
                del counts[name]
    return {name: Times.of(times[name]) for name in counts}


def _warm_up(run: Callable[[], None], setting: Setting) -> float:
    """Seconds of the last of a few runs."""
    begin = perf_counter()
    for _ in range(WARM_UP):
        seconds = sum(timed(run, 1, setting.device, lead=0)) / 1000
        if perf_counter() - begin > setting.seconds:
            break
    return max(seconds, 1e-6)


def timed(run: Callable[[], None], count: int, device: torch.device, lead: int = 1) -> list[float]:
    """Milliseconds of ``count`` runs in a row, after ``lead`` more; CUDA events on a card."""
    if not count:
        return []
    for _ in range(lead):
        run()
    if device.type != "cuda":
        moments = [perf_counter()]
        for _ in range(count):
            run()
            moments.append(perf_counter())
        return [1000 * (b - a) for a, b in pairwise(moments)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize(device)
    return [a.elapsed_time(b) for a, b in pairwise(events)]


def products_of(widths: tuple[int, ...], batch: int, features: int) -> Products:
    """The matrix products of a step of such a network.

    ``features`` is the number of factors that an input has in them.
    """
    products: list[Product] = []
    for layer, (n_in, n_out) in enumerate(pairwise(widths)):
        k = n_in * features
        products += [MatrixProduct(batch, n_out, k), MatrixProduct(k, n_out, batch)]
        if layer:  # inputs of the first need no gradient
            products.append(MatrixProduct(batch, k, n_out))
    return tuple(products)


def product_floor(products: Products, setting: Setting) -> float | None:
    """Milliseconds of these products alone, None without the memory for them.

    As a CUDA graph where that works, as small products are otherwise bound by their launches.
    """
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    generator = torch.Generator(setting.device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        options = {"device": setting.device, "dtype": dtype}
        return torch.empty(shape, **options).normal_(generator=generator)

    row = Row("", "floor", "", "", 0, 0, "")
    result: list[Times] = []
    with row.noting("floor"):
        started = [product.start(random) for product in products]

        def run() -> None:
            for multiply in started:
                multiply()

        runs: dict[str, Callable[[], None]] = {"floor": run}
        if setting.device.type == "cuda":
            with row.noting("capture"):
                graph = capture(run)
                runs = {"floor": graph.replay}
        result = list(in_rounds(runs, {"floor": row}, "floor", setting, 1 / 3).values())
    if row.note:
        print(f"product floor: {row.note}", flush=True)
    return result[0].median if result else None
