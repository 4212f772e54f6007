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
def rates_on_device(
    optimizer: torch.optim.Optimizer, rates: list[Tensor], capturable: bool = True
) -> Iterator[None]:
    """Within it, the optimiser reads its learning rates from these tensors."""
    before = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["capturable"] = rate, capturable
    try:
        yield
    finally:
        for group, (rate, was) in zip(optimizer.param_groups, before, strict=True):
            group["lr"], group["capturable"] = rate, was


class CapturedStep:
    """Steps on batches as long as ``batch``: a few eager ones, then replays of a captured one.

    Captured are forward pass, loss, backward pass and, with AdamW, its update, which read the
    batch and the learning rates from where they lay at the capture. L-BFGS decides by numbers
    and stays outside: of its steps every evaluation of loss and gradient is a replay. Other
    batches go to ``other``, or eagerly, through the same parameters and the same state of the
    optimiser.

    Of processes that train together, each captures what it does with its part of the batch, and
    the rest of the step as a second graph. In between, outside of any graph, their gradients are
    added up, once a step and by all alike, captured or not: one that cannot capture a step, or
    whose memory is full, goes on eagerly beside the others. Rates are rounded alike in both, so
    that weights stay the same in all processes, to the last bit.

    Parameters
    ----------
    net : KANNet
    batch : Batch
        Where full batches will lie.
    eager : callable
        A step, or an evaluation, without a graph, on a batch; of several processes, of all.
    other : CapturedStep, optional
        Of batches of another length.
    """

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
        self.ranks = net.ranks_
        self.graph: Any = None
        self.rest: Any = None  # the second graph, of several processes
        self.found: dict[str, Tensor] = {}
        self.packed: Tensor | None = None  # with gradients, for all processes to add up
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
            return self._eagerly(batch)
        if self.graph is not None and self.settings != fixed_settings(self.net.optimizer_):
            self.graph, self.left_to_warm_up = None, WARM_UP
        if self.left_to_warm_up:
            self.left_to_warm_up -= 1
            with self._aside():
                return self._kept(self._eagerly(batch))
        self.load(batch)
        if self.graph is None and not self._capture():
            return self._eagerly(batch)
        self.replayed = True
        if self.updates:
            for rate, group in zip(self.rates, self.net.optimizer_.param_groups, strict=True):
                rate.fill_(group["lr"])
        self.graph.replay()
        if self.ranks is not None:
            self.ranks.add_up(self.packed)
            self.rest.replay()
        if not self.updates:  # the optimiser compares what it found at several points
            return {name: tensor.clone() for name, tensor in self.found.items()}
        return self.found

    def close(self) -> None:
        """Free the graph and its memory, the gradients in it included; go on eagerly."""
        self.gave_up = True
        if self.other is not None:
            self.other.close()
        self.net.optimizer_.zero_grad(set_to_none=True)
        self.graph, self.rest, self.packed, self.found = None, None, None, {}
        torch.cuda.empty_cache()  # nothing else could use the memory of a graph

    def _eagerly(self, batch: Any) -> dict[str, Any]:
        """Without a graph; several processes round the rates as the graphs of others do."""
        if self.ranks is None or not self.updates:
            return self.eager(batch)
        with rates_on_device(self.net.optimizer_, self._rates(), capturable=False):
            return self.eager(batch)

    def _rates(self) -> list[Tensor]:
        """The groups' learning rates, in float32, which is what the kernel reads."""
        rates = [group["lr"] for group in self.net.optimizer_.param_groups]
        return [*torch.tensor(rates, dtype=torch.float32, device=self.device).unbind()]

    def _capture(self) -> bool:
        """Whether it worked; if not, nothing has been computed and nothing is left behind."""
        optimizer = self.net.optimizer_
        self.rates = self._rates()
        self.settings = fixed_settings(optimizer)
        optimizer.zero_grad(set_to_none=True)  # so that gradients come to lie in the graph
        try:
            self.graph = self._record(self.step)
            self.rest = None if self.ranks is None else self._record(self.finish)
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

    def _record(self, part: Callable[[], None]) -> Any:
        graph = torch.cuda.CUDAGraph()
        with self._aside() as stream, recording(graph, stream, self.generators()):
            part()
        return graph

    def step(self) -> None:
        """What is captured; of several processes, before they add up what each has found."""
        with torch.enable_grad():
            self.found = self._kept(self.net.gradients(*self.net.own(self.batch)))
        if self.ranks is None:
            self.finish()
        else:
            self.packed = self.ranks.packed(self.found, self.net.module_)

    def finish(self) -> None:
        """What comes after."""
        if self.ranks is not None:
            self.found = self.ranks.unpacked(self.packed, self.found, self.net.module_)
        if self.updates:
            with rates_on_device(self.net.optimizer_, self.rates):
                self.net.optimizer_.step()

    def _kept(self, step: dict[str, Any]) -> dict[str, Tensor]:
        return {name: step[name].detach() for name in self.net.keeps}

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

    Raises ValueError if ``cuda_graph=True`` and something forbids it.
    """
    if net.cuda_graph is False:
        return False
    reason = obstacle(net)
    if net.ranks_ is not None:  # what one of them cannot, none does
        reason = next(filter(None, net.ranks_.gathered(reason)), None)
    if net.cuda_graph is True:
        if reason is not None:
            raise ValueError(f"cuda_graph=True is impossible: {reason}, or cuda_graph='auto'.")
        return True
    return reason is None and net.max_epochs * full_batches >= WARM_UP + WORTH_CAPTURING


def obstacle(net: Any) -> str | None:
    """What forbids to capture the steps of this net, with a remedy."""
    if torch.device(net.device).type not in CAPTURING:
        return f"device={str(net.device)!r} is no CUDA device. Set device='cuda'"
    if getattr(net.training_, "ranks", None) is not None:
        return "a process has more or fewer rows of a StoredTable from step to step. Pass an array"
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
