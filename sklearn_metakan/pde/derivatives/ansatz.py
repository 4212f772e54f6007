"""Derivatives of an ansatz g(x, N(x)), from those of the raw field N."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde.derivatives.channels import Channels, Index, places_on

Ansatz = Callable[[Tensor, Tensor], Tensor]
NUMBERS = {"cpu": 2**21, "cuda": 2**25}  # rows * d that one evaluation takes
CROSSED = " A term of shape (n, 1) met one of shape (n,): drop the axis of the former."


def jvp(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """``torch.func.jvp``, silent where torch warns of what it does itself."""
    _load_forward_mode()
    return torch.func.jvp(function, primals, tangents)


@cache
def _load_forward_mode() -> None:
    with warnings.catch_warnings():  # the first call loads rules that torch still scripts
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def apply_ansatz(ansatz: Ansatz, x: Tensor, raw: Tensor) -> Tensor:
    """g(x, N), (n, k) in and out; g itself sees and gives (n,) where there is one output."""
    value = ansatz(x, raw[:, 0] if raw.shape[1] == 1 else raw)
    n, k = raw.shape
    if value.shape != (n, k) and (k > 1 or value.shape != (n,)):
        wanted = f"(n, {k})" if k > 1 else "(n,)"
        raise ValueError(
            f"ansatz(x, net) must return the shape {wanted} for n_outputs={k}; for x of shape "
            f"{tuple(x.shape)} it returned {tuple(value.shape)}."
            + CROSSED
            * (value.shape == (n, n))
        )
    return value.reshape(n, k)


def push_ansatz(
    ansatz: Ansatz, x: Tensor, directions: Tensor, raw: Tensor, values: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """Value and derivatives of ``u(x) = g(x, N(x))``; exact, g being a function of each row.

    A derivative of u along v_1, ..., v_m at x is that of
    ``g(x + sum_j s_j v_j, sum_S s_S N_S)`` by every s_j at s = 0, where S runs over the
    subsets of 1, ..., m and N_S is the derivative of N along them; it is taken by m nested
    forward-mode derivatives, all indices of one order at once.

    raw (n, k) and values (n, K, k) are N and its channels; directions (n, K_1, d), of x's dtype,
    those of the first-order channels, in their order.
    """
    pieces: list[Tensor] = []
    mixed = partial(_mixed, ansatz, x, raw)

    def pick(tensor: Tensor, several: Sequence[Index], *chosen: int) -> Tensor:
        """A copy of channels: forward mode takes no lines that share memory."""
        places = [plan.position(tuple(index[j] for j in chosen)) for index in several]
        return tensor[:, places_on(places, x.device)]

    for m in range(1, plan.order + 1):
        for number, (axes, weight) in enumerate(plan.sums if m == 2 else ()):
            several: list[Index] = [(k,) for k in axes]
            lines, slopes = pick(directions, several, 0), pick(values, several, 0)
            # g is linear in the second derivatives of N: their weighted sum may stand in one row.
            second = values[:, plan.sum_position(number)][:, None] / weight
            others = second.new_zeros(1, 1, 1).expand(len(x), len(axes) - 1, second.shape[2])
            parts = {(0,): slopes, (1,): slopes, (0, 1): torch.cat([second, others], 1)}
            pieces.append(weight * mixed([lines, lines], parts).sum(1, keepdim=True))
        if several := plan.of_order(m):
            subsets = [chosen for size in range(m) for chosen in combinations(range(m), size + 1)]
            parts = {chosen: pick(values, several, *chosen) for chosen in subsets}
            pieces.append(mixed([pick(directions, several, j) for j in range(m)], parts))
    return apply_ansatz(ansatz, x, raw), torch.cat(pieces, 1)


def _mixed(
    ansatz: Ansatz, x: Tensor, raw: Tensor, lines: Sequence[Tensor], parts: dict[Index, Tensor]
) -> Tensor:
    """For each of A rows the derivative along its m lines, (n, A, k).

    ``lines[j]`` is (n, A, d); ``parts[S]``, (n, A, k), are the derivatives of N.
    """
    n, count, d = lines[0].shape
    size = max(1, NUMBERS["cpu" if x.device.type == "cpu" else "cuda"] // max(1, n * d))
    found = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        line = [each[:, rows].flatten(0, 1) for each in lines]
        part = {chosen: each[:, rows].flatten(0, 1) for chosen, each in parts.items()}
        times = min(size, count - start)
        points, net = x.repeat_interleave(times, 0), raw.repeat_interleave(times, 0)
        found.append(_nested(ansatz, points, net, line, part).unflatten(0, (n, times)))
    return torch.cat(found, 1)


def _nested(
    ansatz: Ansatz, x: Tensor, raw: Tensor, lines: Sequence[Tensor], parts: dict[Index, Tensor]
) -> Tensor:
    """The mixed derivative of one line each.

    Level j of forward mode gives the parts S without j the parts S + (j,) as tangents; so every
    number has a tangent, be it zeros: torch computes with missing ones far more slowly.
    """
    order = len(lines)
    zeros = torch.zeros_like(x) if order > 1 else x
    points: dict[Index, Tensor] = {(): x} | {(j,): line for j, line in enumerate(lines)}
    nets: dict[Index, Tensor] = {(): raw} | parts
    arguments: list[Tensor] = []
    for number in range(2**order):
        chosen = tuple(j for j in range(order) if number >> j & 1)
        arguments += [points.get(chosen, zeros), nets[chosen]]
    function: Callable[..., Tensor] = partial(apply_ansatz, ansatz)
    for _ in lines:
        function = partial(_slope, function)
    return function(*arguments)


def _slope(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """The derivative along the second half of the arguments, at the first half."""
    half = len(arguments) // 2
    return jvp(function, arguments[:half], arguments[half:])[1]
