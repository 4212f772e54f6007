"""Measures training steps of what a benchmark declares: cases of one shape, side by side.

The step is the same for all: forward, mean squared error against random targets, backward, fused
Adam; gradients are dropped before it. The models of a shape take turns in rounds, so that drift
of the machine hits all alike; the floor is measured in the same run.

Peak memory is allocated on the card over full steps, with parameters, gradients, optimiser state
and batch, without the libraries' workspaces. Eager and captured steps run the same fused Adam,
capturable. A CUDA graph's pool is a column of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache, lru_cache, partial
from itertools import pairwise
from time import perf_counter
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.nn import grad as ways_back

from benchmarks.common.measure import MEGABYTE, PeakMemory, free_memory, spread, timed
from benchmarks.speed.models import CONV_STRIDES, Model
from sklearn_metakan.training import Execution, recording

WARM_UP = 3  # steps before anything is measured: the first ones allocate and compile
ROUNDS = 5
FEWEST, MOST = 3, 50  # timed runs of a row


class Setting(NamedTuple):
    """Where and how; ``seconds`` bounds a row's timed steps, eager and captured each."""

    device: torch.device
    precision: Literal["tf32", "bf16", "fp32"]
    seconds: float = 1.5

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"

    def products(self) -> AbstractContextManager[None]:
        """Within it, float32 products on a card use TF32 or do not, as in the estimators."""
        products = "tf32" if self.precision == "tf32" else "full"
        return Execution(self.device, torch.float32, products).active()

    def autocast(self) -> torch.autocast:
        """The forward pass in bf16, without a cache of cast weights."""
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, half, cache_enabled=False)


class Shape(NamedTuple):
    """Of networks and batches; ``size``: a side of the images whose channels the widths are."""

    name: str
    widths: tuple[int, ...]
    batch: int
    grid_size: int = 5
    size: int = 0


class Product(NamedTuple):
    """One matrix product of a step, or with a ``size`` one convolution: 3x3, padding 1.

    Convolutions are channels last. Factors of matrix products lie with the summed axis
    contiguous, the layout that TF32 and bf16 units read without a transposition.
    """

    way: Literal["forward", "to weight", "to input"]
    batch: int
    n_in: int
    n_out: int
    size: int = 0
    stride: int = 1

    def start(self, random: Callable[..., Tensor]) -> Callable[[], Any]:
        """Make the factors, ``random(*shape)`` each, and return what multiplies them."""
        batch, n_in, n_out, size = self.batch, self.n_in, self.n_out, self.size
        if not size:
            sides = {"forward": (batch, n_out, n_in), "to input": (batch, n_in, n_out)}
            m, n, r = sides.get(self.way, (n_in, n_out, batch))
            return partial(torch.mm, random(m, r), random(n, r).T, out=random(m, n))
        after = -(-size // self.stride)
        maps = (batch, size, size, n_in), (n_out, 3, 3, n_in), (batch, after, after, n_out)
        x, weight, grad = (random(*shape).movedim(-1, 1) for shape in maps)
        if self.way == "forward":
            return partial(functional.conv2d, x, weight, None, self.stride, 1)
        if self.way == "to input":
            return partial(ways_back.conv2d_input, x.shape, weight, grad, self.stride, 1)
        return partial(ways_back.conv2d_weight, x, weight.shape, grad, self.stride, 1)


def products_of(shape: Shape, features: int) -> tuple[Product, ...]:
    """Of a step of such a network; an input has ``features`` factors, or maps."""
    found, size = [], shape.size
    for layer, (n_in, n_out) in enumerate(pairwise(shape.widths[:-1] if size else shape.widths)):
        n, stride = n_in * features, CONV_STRIDES[layer] if size else 1
        if size:  # so many, or more, that matrix units take them; 28 took twice what 32 do
            n = 32 if 8 < n < 32 else -(-n // 4) * 4
        for way in ("forward", "to weight", "to input")[: 3 if layer else 2]:
            found.append(Product(way, shape.batch, n, n_out, size, stride))
        size = -(-size // stride)
    return tuple(found)


class Case(NamedTuple):
    """A model on a shape, whose widths may be its own."""

    model: Model
    shape: Shape
    note: str = ""

    def floor(self) -> tuple[Product, ...]:
        return products_of(self.shape, self.model.features(self.shape.grid_size))

    def row(self, setting: Setting) -> dict[str, Any]:
        _, widths, batch, grid_size, _ = self.shape
        row = {"shape": self.shape.name, "model": self.model.key, "label": self.model.label}
        row |= {"widths": "-".join(map(str, widths)), "batch": batch, "grid_size": grid_size}
        return row | {"precision": setting.precision, "note": self.note}


@lru_cache(maxsize=1)
def make_batch(shape: Shape) -> tuple[Tensor, Tensor]:
    """Inputs, standard normal and clipped to [-1, 1], and standard normal targets (CPU)."""
    generator = torch.Generator().manual_seed(0)
    sides = (shape.size, shape.size) if shape.size else ()
    x = torch.randn(shape.batch, shape.widths[0], *sides, generator=generator).clamp_(-1, 1)
    return x, torch.randn(shape.batch, shape.widths[-1], generator=generator)


Row = dict[str, Any]


def measure(cases: Iterable[Case], setting: Setting) -> pd.DataFrame:
    """Rows of the cases of one shape; those that ran out of memory run once more, alone.

    Columns are those of shape and model and what was measured: ``parameters``, ``peak_mb``,
    ``saved_mb``, ``graph_pool_mb`` (10^6 bytes), ``eager_ms_*``, ``captured_ms_*`` and
    ``predicted_ms_*`` (median, p20, p80), ``floor_ms``, ratios, ``note``.
    """
    cases = list(cases)
    with setting.products():
        warm_libraries(setting)
        floors = dict.fromkeys(case.floor() for case in cases)
        floors = {products: measure_floor(products, setting) for products in floors}
        rows = _measure_together(cases, setting)
        for i, case in enumerate(cases):
            if "out of memory" in rows[i]["note"] and len(cases) > 1:
                free_memory(setting.device)
                case = case._replace(note="; ".join(filter(None, [case.note, "measured alone"])))
                (rows[i],) = _measure_together([case], setting)
        free_memory(setting.device)
    return with_ratios(pd.DataFrame(rows).assign(floor_ms=[floors[c.floor()] for c in cases]))


def with_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """With ratios to the floor, and to the MLP among these rows of one shape, if there is one."""
    measured = ["peak_mb", "saved_mb", "epoch_seconds", "eager_ms_median", "captured_ms_median"]
    numbers = rows.reindex(columns=[*measured, "floor_ms"]).astype(float)
    mlp = numbers[rows["model"] == "mlp"].reset_index(drop=True).reindex([0]).iloc[0]
    ratios = {}
    for column in measured:
        name = column.removesuffix("_mb").removesuffix("_ms_median")
        ratios[f"{name}_to_mlp"] = numbers[column] / mlp[column]
        if column.endswith("_ms_median"):
            ratios[f"{name}_to_floor"] = numbers[column] / numbers["floor_ms"]
    if "predicted_ms_median" in rows:
        ratios["rows_per_second"] = 1000 * rows["batch"] / rows["predicted_ms_median"]
    return rows.assign(**ratios)


def _measure_together(cases: list[Case], setting: Setting) -> list[Row]:
    """Memory one after the other, times in rounds."""
    rows: dict[str, Row] = {case.model.key: case.row(setting) for case in cases}
    steps: dict[str, Step] = {}
    for key, model, shape in ((case.model.key, case.model, case.shape) for case in cases):
        with noting(rows[key], "step"):
            build = partial(model.build, shape.widths, shape.grid_size, setting.device)
            steps[key] = step = Step(build, shape, setting)
            rows[key] |= {"parameters": step.n_parameters, "peak_mb": step.peak_mb}
            rows[key]["saved_mb"] = step.saved_bytes() / MEGABYTE
        free_memory(setting.device)
    in_rounds(steps, rows, "eager", setting)
    for step in steps.values():
        step.network.eval()
    in_rounds({key: step.predict for key, step in steps.items()}, rows, "predicted", setting, 1 / 4)
    graphs = {}
    for key, step in steps.items() if setting.on_card else ():
        step.network.train()
        with noting(rows[key], "CUDA graph"):
            graph, reserved = capture(step, step.optimizer.zero_grad)
            graphs[key], rows[key]["graph_pool_mb"] = graph.replay, reserved / MEGABYTE
    in_rounds(graphs, rows, "captured", setting)
    return list(rows.values())


@contextmanager
def noting(row: Row, what: str) -> Iterator[None]:
    """A failure becomes part of the row, not the end of the run."""
    try:
        yield
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            reason = "out of memory"
        else:
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0][:160]}"
        row["note"] = "; ".join(filter(None, [row.get("note"), f"{what}: {reason}"]))


class Step:
    """A step of training; called, it is done once.

    It has its own network, copy of the batch and optimiser, and has been done a few times.
    ``peak_mb`` is that of further steps, without what was allocated before: call
    ``warm_libraries`` first, whose empty step leaves the libraries' workspaces there.
    """

    def __init__(self, build: Callable[[], nn.Module], shape: Shape, setting: Setting) -> None:
        self.setting, device = setting, setting.device
        memory = PeakMemory(device)
        self.x, self.y = (t.to(device, copy=True) for t in make_batch(shape))
        self.network = build().to(device).train()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.n_parameters = sum(p.numel() for p in trained)
        options = {"lr": 1e-4, "fused": True, "capturable": setting.on_card}
        self.optimizer = torch.optim.Adam(trained, **options)
        if setting.on_card:
            repeat(self, WARM_UP)
            memory.start()
            repeat(self, WARM_UP)
        self.peak_mb = memory.megabytes()

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()

    def loss(self) -> Tensor:
        with self.setting.autocast():
            return functional.mse_loss(self.network(self.x), self.y)

    def predict(self) -> None:
        with torch.inference_mode(), self.setting.autocast():
            self.network(self.x)

    def saved_bytes(self) -> int:
        """Bytes that one forward pass and its loss keep for the backward pass.

        Every distinct storage that autograd saves counts once and whole, the input batch
        and a network's buffers included; the parameters' own storages do not count.
        """
        own = {p.untyped_storage().data_ptr() for p in self.network.parameters()}
        kept = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage  # held, so that no address comes twice
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        del loss
        return sum(s.nbytes() for address, s in kept.items() if address not in own)


def warm_libraries(setting: Setting) -> None:
    """Empty steps, on both streams in use, after which cuBLAS has its workspaces."""
    layers = (nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
    step = Step(lambda: nn.Sequential(*layers), Shape("", (64, 64, 64), 64), setting)
    step()
    step.x @ step.x
    if setting.on_card:
        _on_side_stream(step, 1)
    free_memory(setting.device)


def in_rounds(
    runs: Mapping[str, Callable[[], object]],
    rows: Mapping[str, Row],
    what: str,
    setting: Setting,
    part: float = 1.0,
) -> None:
    """Time runs in turns: as many as fit into this part of the seconds, within FEWEST, MOST.

    The spread of the milliseconds comes into the rows, as ``{what}_ms_median`` and the like;
    those that fail are noted.
    """
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        with noting(rows[name], what):
            begin = perf_counter()
            for _ in range(WARM_UP):
                (last,) = timed(run, 1, setting.device, lead=0)
                if perf_counter() - begin > setting.seconds:
                    break
            fitting = part * setting.seconds / max(last / 1000, 1e-6)
            counts[name] = int(min(max(fitting, FEWEST), MOST))
    for turn in range(ROUNDS):
        for name, count in list(counts.items()):
            n = count * (turn + 1) // ROUNDS - count * turn // ROUNDS
            del counts[name]
            with noting(rows[name], what):
                times[name] += timed(runs[name], n, setting.device)
                counts[name] = count
    for name in counts:
        rows[name] |= {f"{what}_ms_{part}": ms for part, ms in spread(times[name]).items()}


def measure_floor(products: Iterable[Product], setting: Setting) -> float | None:
    """Milliseconds of these products alone, None without the memory for them.

    As a CUDA graph where that works, as small products are otherwise bound by their launches.
    """
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    generator = torch.Generator(setting.device).manual_seed(0)
    random = partial(torch.randn, generator=generator, device=setting.device, dtype=dtype)
    row: Row = {}
    with noting(row, "floor"):
        started = [product.start(random) for product in products]

        def multiply_all() -> None:
            for multiply in started:
                multiply()

        run: Callable[[], object] = multiply_all
        if setting.on_card:
            with noting(row, "capture"):
                run = capture(run)[0].replay
        in_rounds({"floor": run}, {"floor": row}, "floor", setting, 1 / 3)
    if "note" in row:
        print(f"product floor: {row['note']}", flush=True)
    return row.get("floor_ms_median")


def capture(
    run: Callable[[], object], drop_gradients: Callable[[], None] = lambda: None
) -> tuple["torch.cuda.CUDAGraph", int]:
    """``run`` as a CUDA graph, and the bytes that it keeps reserved for itself between replays.

    As torch's notes on CUDA graphs describe: warm-up on a side stream, gradients dropped before
    the capture, so that the backward pass allocates them from the graph's own pool. Warm-up and
    capture share one stream: its library workspaces are then there already and stay out of the
    pool. Whatever goes wrong is raised, with the stream in use put back.
    """
    before = torch.cuda.current_stream()
    try:
        _on_side_stream(run, WARM_UP)
        drop_gradients()
        free_memory(before.device)
        reserved = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        with recording(graph, _side_stream()):
            run()
        torch.cuda.synchronize()
        return graph, torch.cuda.memory_reserved() - reserved
    finally:
        torch.cuda.set_stream(before)  # a capture that fails leaves its own


def _on_side_stream(run: Callable[[], object], times: int) -> None:
    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        repeat(run, times)
    torch.cuda.current_stream().wait_stream(stream)


def repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


@cache
def _side_stream() -> "torch.cuda.Stream":
    return torch.cuda.Stream()
