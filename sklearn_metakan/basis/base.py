"""What every basis offers: values and derivatives, exact under repeated autograd."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, Self, cast

import torch
from numpy.polynomial import Polynomial
from torch import Tensor, nn

Extrapolation = Literal["linear", "base", "constant", "error"]


def is_traced() -> bool:
    """Whether operations are being written down, by torch.export or torch.jit.trace.

    What is written down is for any number of rows, and has no gradient of its own.
    """
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or torch.compiler.is_exporting()


def put(room: Tensor, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """``function(*arguments, out=room)``, but where operations are written down, a copy."""
    if is_traced():
        return room.copy_(function(*arguments))
    return function(*arguments, out=room)


def check_inside(x: Tensor, low: Tensor, high: Tensor) -> None:
    """What extrapolation="error" means."""
    if bool(((x < low) | (x > high)).any()):
        raise ValueError(
            'Inputs lie outside the grid, and extrapolation="error" forbids it; use '
            '"linear", "base" or "constant", or knots that cover the data.'
        )


@cache
def _sigmoid_factor(order: int) -> tuple[float, ...]:
    """Coefficients, lowest first, of Q with s^(order) = s (1 - s) Q(s), order at least 1.

    The factor s (1 - s) stays outside, where ``sigmoid(t) sigmoid(-t)`` keeps its digits.
    """
    slope = Polynomial([0.0, 1.0, -1.0])
    factor = Polynomial([1.0])
    for _ in range(order - 1):
        factor = slope.deriv() * factor + slope * factor.deriv()
    return tuple(factor.coef)


def silu(t: Tensor, derivative: int = 0, value: Tensor | None = None) -> Tensor:
    """The m-th derivative of silu: ``t s^(m)(t) + m s^(m-1)(t)`` with s = sigmoid.

    The first is ``s + silu (1 - s)``; ``value`` is silu(t), where it is known.
    """
    if derivative == 0:
        return torch.nn.functional.silu(t)
    sigmoid = torch.sigmoid(t)
    if derivative == 1:
        value = torch.nn.functional.silu(t) if value is None else value
        return sigmoid.lerp_(sigmoid.new_ones(()), value)
    slope = torch.sigmoid(-t).mul_(sigmoid)
    both = []
    for order in (derivative - 1, derivative):
        *lower, highest = _sigmoid_factor(order)
        polynomial = torch.full_like(sigmoid, highest)
        for coefficient in reversed(lower):
            polynomial = polynomial * sigmoid + coefficient
        both.append(polynomial * slope)
    return both[0].mul_(derivative).addcmul_(t, both[1])


class _Evaluate(torch.autograd.Function):
    """F = B^(m)(x); its derivatives are again basis evaluations, B^(m+1)(x).

    Only x is saved. When a graph of the backward pass is asked for, the gradient goes
    through this same function, so derivatives of every order are exact.
    """

    @staticmethod
    def forward(x: Tensor, basis: "Basis", start: int, derivative: int) -> Tensor:
        return basis.values(x, start, derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.where = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,), (basis, start, derivative) = ctx.saved_tensors, ctx.where
        if torch.is_grad_enabled():
            features = _Evaluate.apply(x, basis, start, derivative + 1)
            return (grad * features).sum(-1), None, None, None
        return basis.contract(grad, x, start, derivative + 1), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,), (basis, start, derivative) = ctx.saved_tensors, ctx.where
        slopes: Tensor = _Evaluate.apply(x, basis, start, derivative + 1)
        return slopes * tangent[..., None]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *where: Any) -> tuple[Tensor, int]:
        """Rows of a batch are rows like any others."""
        x = x.movedim(in_dims[0], 0)
        features: Tensor = _Evaluate.apply(x.flatten(0, 1), *where)
        return features.unflatten(0, x.shape[:2]), 0


class Basis(nn.Module, ABC):
    """C univariate functions for each of ``in_features`` inputs.

    Attributes
    ----------
    in_features : int
        Number of inputs; each may have its own knots.
    n_functions : int
        C, the number of functions an edge combines, base function included.
    has_silu : bool
        Whether the first function is silu.
    extrapolation : {"linear", "base", "constant", "error"}
        What happens outside the grid.
    """

    in_features: int
    n_functions: int
    has_silu: bool
    extrapolation: Extrapolation
    settings: tuple[str, ...]  # parameters of the constructor beside knots and dtype

    def evaluate(
        self, x: Tensor, start: int = 0, stop: int | None = None, derivative: int = 0
    ) -> Tensor:
        """Derivatives of order ``derivative`` of all functions, for a block of inputs.

        Goes through autograd and the transforms of ``torch.func``, any number of times.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
        start, stop : int
            The block of inputs, ``start <= i < stop``; all of them by default.
        derivative : int, 0 or more

        Returns
        -------
        Tensor of shape (n, stop - start, C)
            ``[..., c]`` is the derivative of ``B_c`` at ``x_i``. Half-precision inputs
            are evaluated in the precision of the knots, also inside an autocast region.

        Raises
        ------
        ValueError
            If extrapolation is "error" and x lies outside the grid.
        """
        grid = cast(Tensor, next(iter(self._buffers.values())))  # ``dtype`` is one call more
        x = x[:, start:stop].to(grid.dtype)
        if is_traced():
            return self.traced_values(x, start, derivative)
        return _Evaluate.apply(x, self, start, derivative)

    @property
    def numbers_per_value(self) -> int:
        """Numbers held for one x while functions are evaluated and their gradient contracted."""
        return 4 * self.n_functions

    @property
    @abstractmethod
    def domain(self) -> Tensor:
        """Lower and upper end of the grid of each input, shape (in_features, 2)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the grid; functions are evaluated in it."""
        grid = cast(Tensor, next(iter(self._buffers.values())))  # every basis has it first
        return grid.dtype

    @property
    @abstractmethod
    def knots(self) -> Tensor:
        """As the constructor takes them: (2,), (in_features, 2) or (in_features, G + 1)."""

    @property
    @abstractmethod
    def breakpoints(self) -> Tensor:
        """Where derivatives may jump, increasing: shape (1 or in_features, n)."""

    def with_grid(
        self,
        grid_size: int | None = None,
        knots: Tensor | None = None,
        dtype: torch.dtype | None = None,
        in_features: int | None = None,
    ) -> Self:
        """A basis of this kind on another grid, on the same device; of as many inputs if not told.

        Raises
        ------
        ValueError
            If the knots are not what the constructor takes.
        """
        settings = {name: getattr(self, name) for name in self.settings}
        if "grid_size" in settings and grid_size is not None:
            settings["grid_size"] = grid_size
        if in_features is not None:
            settings["in_features"] = in_features
        ends = (self.knots if knots is None else knots).double().cpu().numpy()
        made = type(self)(**settings, knots=ends, dtype=dtype or self.dtype)
        return made.to(self.domain.device)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)

    @abstractmethod
    def refined(self, grid_size: int) -> Self:
        """On a grid of more cells, over the same range; knots that are not uniform stay.

        Raises
        ------
        ValueError
            If there were fewer cells than now.
        """

    @abstractmethod
    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        """Closed form without autograd: x (n, b) are inputs start to start + b.

        This and the next two raise as ``evaluate`` does.
        """

    def traced_values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        """``values`` by operations that are being written down."""
        return self.values(x, start, derivative)

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        """``sum_c grad[..., c] * B_c^(m)(x)``, shape (n, b): the way back to x."""
        (slopes,) = self._orders(x, start, derivative, derivative)
        return slopes.mul_(grad).permute(2, 1, 0).sum(0).T

    def values_and_contract(
        self, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> tuple[Tensor, Tensor]:
        """``values`` of order m and ``contract`` of order m + 1, where they share work."""
        values, slopes = self._orders(x, start, derivative, derivative + 1)
        return values, slopes.mul_(grad).permute(2, 1, 0).sum(0).T

    def linearize(
        self, x: Tensor, functions_first: bool, wants_pull: bool
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Functions of all inputs or what they are sums of, and what is kept for the way back.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
            Best with rows last in memory.
        functions_first : bool
            The order of the features.
        wants_pull : bool
            Whether ``pull`` will be called.

        Returns
        -------
        features : Tensor of shape (C, in_features, n), or (in_features, C, n)
            Contiguous; with functions first, or without.
        matrix : Tensor of shape (C, C) or None
            The functions are ``matrix @ features``; None if they are the features themselves.
        kept : Any
            For ``pull``; None if that will not be called.

        Raises
        ------
        ValueError
            If extrapolation is "error" and x lies outside the grid.
        """
        orders = self._orders(x, 0, 0, int(wants_pull))
        axes, axis = ((2, 1, 0), 0) if functions_first else ((1, 2, 0), 1)
        features, *slopes = [f.permute(axes).contiguous() for f in orders]
        return features, None, (slopes[0], axis) if slopes else None

    def known(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Terms of which the functions are sums, if they are, without 1; no gradients.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)

        Returns
        -------
        terms : Tensor of shape (n, C - 1, in_features)
        matrix : Tensor of shape (C, C)
            The functions are ``matrix @`` terms and, last of them, 1.
        """
        return None

    def pull(self, grad: Tensor, kept: Any) -> Tensor:
        """From the gradient of the features that of x, (n, in_features), rows last in memory.

        grad is laid out as they are; kept is left as it is.
        """
        slopes, axis = kept
        return (grad * slopes).sum(axis).T

    def _orders(self, x: Tensor, start: int, first: int, last: int) -> list[Tensor]:
        """``values`` of orders first to last, where they share work."""
        return [self.values(x, start, m) for m in range(first, last + 1)]
