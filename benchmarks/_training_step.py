"""One training step of any network, and what can be measured of it: memory, saved bytes, a graph.

The step is the same for all: forward, mean squared error against random targets, backward,
fused Adam; gradients are dropped before it.
"""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import mse_loss

from sklearn_metakan.training._cuda_graph import recording
from sklearn_metakan.training._execution import Execution

Precision = Literal["tf32", "bf16", "fp32"]
WARM_UP = 3  # steps before anything is measured: the first ones allocate and compile
LEARNING_RATE = 1e-4
MEGABYTE = 1e6


def products_in(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Within it, float32 products on a card use TF32 or do not; the switches are put back.

    Convolutions are computed in an order that does not vary, as the estimators have it.
    """
    products: Literal["tf32", "full"] = "tf32" if precision == "tf32" else "full"
    return Execution(device, torch.float32, products).active()


@lru_cache(maxsize=1)
def make_batch(shape: tuple[int, ...], n_out: int) -> tuple[Tensor, Tensor]:
    """Inputs, standard normal and clipped to [-1, 1], and standard normal targets (CPU)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).clamp_(-1, 1)
    return x, torch.randn(shape[0], n_out, generator=generator)


class Trainer:
    """A network with its own copy of the batch and its optimiser, on one device.

    Parameters
    ----------
    network : nn.Module
    batch : (Tensor, Tensor)
        Inputs (n, in) and targets (n, out).
    device : torch.device
    precision : {"tf32", "bf16", "fp32"}
        "bf16" runs the forward pass under autocast, without its cache of cast weights.
    """

    def __init__(
        self,
        network: nn.Module,
        batch: tuple[Tensor, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.device, self.precision = device, precision
        self.x, self.y = (t.to(device, copy=True) for t in batch)
        network.to(device)
        self.network = network.train()
        trained = [p for p in network.parameters() if p.requires_grad]
        self.n_parameters = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.Adam(
            trained, lr=LEARNING_RATE, fused=True, capturable=device.type == "cuda"
        )

    def outputs(self) -> Tensor:
        with self._autocast():
            return self.network(self.x)

    def loss(self) -> Tensor:
        with self._autocast():
            return mse_loss(self.network(self.x), self.y)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()

    def predict(self) -> None:
        with torch.inference_mode():
            self.outputs()

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

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, self.precision == "bf16", cache_enabled=False
        )


def start(
    make: Callable[[], Trainer], device: torch.device, n_steps: int = WARM_UP
) -> tuple[Trainer, int | None]:
    """A trainer after its first steps, and the peak of a step in bytes; None on a CPU.

    The peak is of allocated device memory over a few full steps: parameters, gradients,
    optimiser state, batch, activations. What was allocated before is taken off, so call
    ``warm_libraries`` first: its empty step leaves the libraries' workspaces there.
    """
    if device.type != "cuda":
        return make(), None
    free_memory(device)
    baseline = torch.cuda.memory_allocated(device)
    trainer = make()
    for _ in range(WARM_UP):
        trainer.step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(n_steps):
        trainer.step()
    torch.cuda.synchronize(device)
    return trainer, torch.cuda.max_memory_allocated(device) - baseline


def warm_libraries(device: torch.device, precision: Precision) -> None:
    """Empty steps, on both streams in use, after which cuBLAS has its workspaces."""
    network = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
    trainer = Trainer(network, make_batch((64, 64), 64), device, precision)
    trainer.step()
    trainer.x @ trainer.x
    if device.type == "cuda":
        _on_side_stream(trainer.step, 1)
    free_memory(device)


def free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


class Capture(NamedTuple):
    """A CUDA graph; ``pool_bytes`` is what it keeps reserved for itself between replays."""

    graph: "torch.cuda.CUDAGraph"
    pool_bytes: int

    def replay(self) -> None:
        self.graph.replay()


def capture(run: Callable[[], None], drop_gradients: Callable[[], None] | None = None) -> Capture:
    """Record ``run`` as a CUDA graph, the way torch's notes on CUDA graphs describe.

    Warm-up on a side stream, gradients dropped before the capture, so that the backward
    pass allocates them from the graph's own pool. Warm-up and capture share one stream:
    its library workspaces are then there already and stay out of the pool. Whatever goes
    wrong is raised, with the stream in use put back.
    """
    before = torch.cuda.current_stream()
    try:
        _on_side_stream(run, WARM_UP)
        if drop_gradients is not None:
            drop_gradients()
        free_memory(before.device)
        reserved = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        with recording(graph, _side_stream()):
            run()
        torch.cuda.synchronize()
        return Capture(graph, torch.cuda.memory_reserved() - reserved)
    finally:
        torch.cuda.set_stream(before)  # a capture that fails leaves its own


def _on_side_stream(run: Callable[[], None], times: int) -> None:
    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(times):
            run()
    torch.cuda.current_stream().wait_stream(stream)


@cache
def _side_stream() -> "torch.cuda.Stream":
    return torch.cuda.Stream()
