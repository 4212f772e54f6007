"""Small constant tensors, made once a device: a captured step may not copy from the host."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def indices(values: Sequence[int], device: torch.device) -> Tensor:
    """For indexing; one dimension."""
    return _constant(tuple(values), torch.long, device)


def numbers(values: Sequence[float], like: Tensor) -> Tensor:
    """Of the dtype and device of another tensor; one dimension."""
    return _constant(tuple(values), like.dtype, like.device)


@cache  # without a limit: captured steps go on reading them
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
