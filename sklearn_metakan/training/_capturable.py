"""Whether the training steps of a net can be CUDA graphs, and an optimiser that can be in one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor

from sklearn_metakan.training._schedules import LearningRateSchedule

WARM_UP = 3  # eager steps before the capture: kernels are tuned, the optimiser gets its state
WORTH_CAPTURING = 20  # steps after them from which on "auto" captures one

_EACH_BATCH = ("on_batch_begin", "on_batch_end", "on_grad_computed")


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
    if torch.device(net.device).type != "cuda":
        return f"device={str(net.device)!r} is no CUDA device. Set device='cuda'"
    optimizer = net.optimizer_
    is_fused = all(group.get("fused") for group in optimizer.param_groups)
    by_adamw = isinstance(optimizer, torch.optim.AdamW) and is_fused
    if not (by_adamw or isinstance(optimizer, torch.optim.LBFGS)):
        return "of optimisers, only fused AdamW and L-BFGS can be captured. Set solver='adamw'"
    for name, callback in net.callbacks_:
        own = isinstance(callback, LearningRateSchedule)
        if not own and any(_overrides(callback, method) for method in _EACH_BATCH):
            return f"the callback {name!r} wants to be called for each batch. Leave it out"
    if any(getattr(m, "extrapolation", None) == "error" for m in net.module_.modules()):
        return "extrapolation='error' looks at every batch. Choose another extrapolation"
    if any(callable(getattr(m, "augmentation", None)) for m in net.module_.modules()):
        return "augment is a callable, whose random numbers a graph would repeat. Name one"
    return None


def _overrides(callback: Callback, method: str) -> bool:
    return getattr(type(callback), method) is not getattr(Callback, method)


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
