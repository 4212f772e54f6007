"""A whole training step as one CUDA graph: small networks wait for launches, not for numbers."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.nn import Drawing
from sklearn_metakan.training.self_scaled import LINE_SEARCHED

WARM_UP = 3  # eager steps before the capture: kernels are tuned, the optimiser gets its state
WORTH_CAPTURING = 20  # steps after the warm-up from which on "auto" captures one
CAPTURING = ("cuda",)  # kinds of devices
_SIDE_STREAM = threading.Lock()  # one fit at a time warms up or captures there


def fixed_settings(optimizer: torch.optim.Optimizer) -> list[Any]:
    """What a capture fixes and a callback may change between epochs."""
    groups = optimizer.param_groups
    trained = [p.requires_grad for group in groups for p in group["params"]]
    free = {"params", "lr", "capturable"}
    return [trained, *({k: v for k, v in group.items() if k not in free} for group in groups)]


@contextmanager
def rates_on_device(optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Within it, the optimiser reads its learning rates from these tensors."""
    before = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["capturable"] = rate, True
    try:
        yield
    finally:
        for group, (rate, capturable) in zip(optimizer.param_groups, before, strict=True):
            group["lr"], group["capturable"] = rate, capturable


class CapturedStep:
    """Steps on batches as long as ``batch``: a few eager ones, then replays of a captured one.

    Captured are forward pass, loss, backward pass and, with AdamW, its update, which read the
    batch and the learning rates from where they lay at the capture. L-BFGS decides by numbers
    and stays outside: of its steps every evaluation of loss and gradient is a replay. Other
    batches go to ``other``, or eagerly, through the same parameters and the same state of the
    optimiser.

    Parameters
    ----------
    net : KANNet
    batch : Batch
        Where full batches will lie.
    eager : callable
        A step, or an evaluation, without a graph, on a batch.
    other : CapturedStep, optional
        Of batches of another length.
    """

    keeps: tuple[str, ...] = ("loss",)  # of what a step computes

    def __init__(
        self,
        net: Any,
        batch: Any,
        eager: Callable[[Any], dict[str, Any]],
        other: "CapturedStep | None" = None,
    ) -> None:
        self.net, self.batch, self.eager, self.other = net, batch, eager, other
        self.updates = isinstance(net.optimizer_, torch.optim.AdamW)
        self.device = torch.device(net.device)
        self.left_to_warm_up, self.gave_up = WARM_UP, False
        self.graph: Any = None
        self.found: dict[str, Tensor] = {}
        self.replayed = False  # whether a captured step was run

    def fits(self, batch: Any) -> bool:
        """Whether the captured step can compute this batch."""
        return len(batch[0]) == len(self.batch[0])

    def load(self, batch: Any) -> None:
        """Bring a batch to where the captured step reads it; batches of rows lie there."""

    @property
    def rooms(self) -> list[Any]:
        """Where the batches of each length are to lie."""
        return [self.batch] if self.other is None else [self.batch, *self.other.rooms]

    def generators(self) -> list[torch.Generator]:
        """What the step draws from."""
        drawing = [m for m in self.net.module_.modules() if isinstance(m, Drawing)]
        return [module.generator for module in drawing if module.generator is not None]

    def run(self, batch: Any) -> dict[str, Any]:
        """One training step; its loss stays on the device."""
        if self.other is not None and not self.fits(batch):
            return self.other.run(batch)
        if self.gave_up or not self.fits(batch):
            return self.eager(batch)
        if self.graph is not None and self.settings != fixed_settings(self.net.optimizer_):
            self.graph, self.left_to_warm_up = None, WARM_UP
        if self.left_to_warm_up:
            self.left_to_warm_up -= 1
            with self._aside():
                return self._kept(self.eager(batch))
        self.load(batch)
        if self.graph is None and not self._capture():
            return self.eager(batch)
        self.replayed = True
        if not self.updates:  # the optimiser compares what it found at several points
            self.graph.replay()
            return {name: tensor.clone() for name, tensor in self.found.items()}
        for rate, group in zip(self.rates, self.net.optimizer_.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.graph.replay()
        return self.found

    def close(self) -> None:
        """Free the graph and its memory, the gradients in it included; go on eagerly."""
        self.gave_up = True
        if self.other is not None:
            self.other.close()
        self.net.optimizer_.zero_grad(set_to_none=True)
        self.graph, self.found = None, {}
        torch.cuda.empty_cache()  # nothing else could use the memory of a graph

    def _capture(self) -> bool:
        """Whether it worked; if not, nothing has been computed and nothing is left behind."""
        optimizer = self.net.optimizer_
        # float32 is what the kernel reads, whatever it trains.
        self.rates = [
            torch.zeros((), dtype=torch.float32, device=self.device) for _ in optimizer.param_groups
        ]
        self.settings = fixed_settings(optimizer)
        optimizer.zero_grad(set_to_none=True)  # so that gradients come to lie in the graph
        try:
            self.graph = self._record()
            return True
        except Exception as error:
            if self.net.cuda_graph is True:
                raise RuntimeError(
                    f"cuda_graph=True: a training step cannot be captured ({error}). Set "
                    "cuda_graph='auto' or False."
                ) from error
            reason = str(error)
        self.close()  # only here, where the error no longer holds what it interrupted
        warnings.warn(
            f"A training step could not be captured as a CUDA graph ({reason}); training goes on "
            "without. Set net_params={'cuda_graph': False} to not try.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False

    def _record(self) -> Any:
        graph = torch.cuda.CUDAGraph()
        with self._aside() as stream, recording(graph, stream, self.generators()):
            self.found = self.step()
        return graph

    def step(self) -> dict[str, Tensor]:
        """What is captured; what it keeps."""
        if not self.updates:
            with torch.enable_grad():
                return self._kept(self.net.gradients(self.batch))
        with rates_on_device(self.net.optimizer_, self.rates), torch.enable_grad():
            found = self._kept(self.net.gradients(self.batch))
            self.net.optimizer_.step()
        return found

    def _kept(self, step: dict[str, Any]) -> dict[str, Tensor]:
        return {name: step[name].detach() for name in self.keeps}

    @contextmanager
    def _aside(self) -> Iterator[torch.cuda.Stream]:
        """Run on the side stream, after what was launched before and before what comes after."""
        with _SIDE_STREAM:
            stream, main = _side_stream(self.device), torch.cuda.current_stream(self.device)
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                yield stream
            main.wait_stream(stream)


@contextmanager
def recording(
    graph: "torch.cuda.CUDAGraph",
    stream: "torch.cuda.Stream",
    generators: Sequence[torch.Generator] = (),
) -> Iterator[None]:
    """``torch.cuda.graph`` that also draws from ``generators`` and undoes itself where it fails.

    Where CUDA ends a capture with an error, torch does not get as far as leaving the graph's
    pool, and what was allocated so far would stay there for good; neither does it release the
    generators, the device's own among them, which could not be drawn from any more.
    """
    drawn_from = (torch.cuda.default_generators[stream.device_index], *generators)
    before = [generator.clone_state() for generator in drawn_from]
    with warnings.catch_warnings():  # newer versions register generators on their own
        warnings.simplefilter("ignore")
        for generator in generators:
            graph.register_generator_state(generator)
    pool = torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            yield
    except BaseException:
        with suppress(RuntimeError):  # that there is nothing to end: it was left
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
            torch._C._cuda_releasePool(stream.device_index, pool)
        for generator, state in zip(drawn_from, before, strict=True):
            generator.graphsafe_set_state(state)
        raise


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all fits: cuBLAS keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream(device)


def check_cuda_graph(cuda_graph: Any) -> None:
    """Raise unless it is "auto", True or False."""
    if not isinstance(cuda_graph, bool) and cuda_graph != "auto":
        raise ValueError(f"cuda_graph must be 'auto', True or False, got {cuda_graph!r}.")


def is_captured(net: Any, full_batches: int) -> bool:
    """Whether a net is to capture its step, with so many full batches in a pass.

    Raises
    ------
    ValueError
        If ``cuda_graph=True`` and something forbids it.
    """
    if net.cuda_graph is False:
        return False
    reason = obstacle(net)
    if net.cuda_graph is True:
        if reason is not None:
            raise ValueError(f"cuda_graph=True is impossible: {reason}, or cuda_graph='auto'.")
        return True
    return reason is None and net.max_epochs * full_batches >= WARM_UP + WORTH_CAPTURING


def obstacle(net: Any) -> str | None:
    """What forbids to capture the steps of this net, with a remedy."""
    if torch.device(net.device).type not in CAPTURING:
        return f"device={str(net.device)!r} is no CUDA device. Set device='cuda'"
    if net.ranks_ is not None:
        return "steps of several processes are not captured. Train with one"
    optimizer = net.optimizer_
    is_fused = all(group.get("fused") for group in optimizer.param_groups)
    by_adamw = isinstance(optimizer, torch.optim.AdamW) and is_fused
    if not (by_adamw or isinstance(optimizer, LINE_SEARCHED)):
        return "of optimisers, only fused AdamW and L-BFGS can be captured. Set solver='adamw'"
    if net.listeners_.watching:
        name = net.listeners_.watching[0]
        return f"the callback {name!r} wants to be called for each batch. Leave it out"
    if any(getattr(m, "extrapolation", None) == "error" for m in net.module_.modules()):
        return "extrapolation='error' looks at every batch. Choose another extrapolation"
    if callable(getattr(net.criterion_, "function", None)):
        return "loss is a function, whose branches a graph would not see. Name one"
    if any(callable(getattr(m, "augmentation", None)) for m in net.module_.modules()):
        return "augment is a callable, whose random numbers a graph would repeat. Name one"
    return None
