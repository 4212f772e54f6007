"""The one autograd function of the sum over edges; how it is computed is its ``Way``."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import Signature
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Way(Protocol):
    """How one call computes y of x (n, in, ...) and of tensors that its weights come from."""

    def compute(self, x: Tensor, *tensors: Tensor) -> Tensor: ...

    def gradients(
        self, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
    ) -> list[Tensor | None]:
        """Of x and the tensors, from that of y; no graph of their own."""
        ...

    def reference(self, x: Tensor, *tensors: Tensor) -> Tensor:
        """``compute`` in PyTorch's operations, for derivatives of derivatives."""
        ...


class _Bound(NamedTuple):
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def apply_defaults(self) -> None:
        """There are none."""


class _AsGiven(Signature):
    """Arguments by position without defaults, which need no binding."""

    def bind(self, *args: Any, **kwargs: Any) -> _Bound:  # type: ignore[override]
        return _Bound(args, kwargs)


class EdgeSum(torch.autograd.Function):
    """``way.compute(x, *tensors)``; goes through ``torch.func`` and any number of derivatives."""

    @staticmethod
    def forward(x: Tensor, way: Way, *tensors: Tensor) -> Tensor:
        return way.compute(x, *tensors)

    # torch inspects it and binds arguments to it in every call, which took as long as a product.
    forward.__func__.__signature__ = _AsGiven()  # type: ignore[attr-defined]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.way, *tensors = inputs
        ctx.save_for_backward(x, *tensors)
        ctx.save_for_forward(x, *tensors)
        ctx.rounded_to = _rounded_to(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
        with_graph = partial(_differentiable_gradients, ctx.way)
        compute = with_graph if torch.is_grad_enabled() else ctx.way.gradients
        region: AbstractContextManager[Any] = nullcontext()
        if ctx.rounded_to != _rounded_to(x):  # the autocast region of the way there
            off = torch.get_autocast_dtype(x.device.type)
            kind = ctx.rounded_to or off, ctx.rounded_to is not None
            region = torch.autocast(x.device.type, *kind, cache_enabled=False)
        with region:
            of_x, *of_tensors = compute(x, tensors, needed, grad)
        return of_x, None, *of_tensors

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, _: None, *tangents: Tensor | None) -> Tensor:
        tensors = ctx.saved_tensors
        pairs = zip((x_tangent, *tangents), tensors, strict=True)
        directions = tuple(torch.zeros_like(t) if d is None else d for d, t in pairs)
        # The transpose of the way back: PyTorch's own forward mode cannot be nested.
        y, back = torch.func.vjp(ctx.way.reference, *tensors)[:2]
        found: Tensor = torch.func.vjp(back, torch.zeros_like(y))[1](directions)[0]
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        x, way, *tensors = inputs
        whole = torch.vmap(way.reference, (in_dims[0], *in_dims[2:]))
        return whole(x, *tensors), 0


def _rounded_to(x: Tensor) -> torch.dtype | None:
    """The dtype of the autocast region that this is, if it is one."""
    place = x.device.type
    return torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else None


def _differentiable_gradients(
    way: Way, x: Tensor, tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Gradients with a graph of their own, for derivatives of derivatives: all materialised."""
    inputs = [x, *tensors]
    places = [place for place, need in enumerate(needed) if need]

    def y_of(*wanted: Tensor) -> Tensor:
        for place, tensor in zip(places, wanted, strict=True):
            inputs[place] = tensor
        return way.reference(*inputs)

    back: Any = torch.func.vjp(y_of, *(inputs[place] for place in places))[1]
    found = iter(back(grad))
    return [next(found) if need else None for need in needed]
