"""Derivatives of an ansatz g(x, N(x)), from those of the raw field N."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import torch
from torch import Tensor
from torch.func import jvp

from sklearn_metakan.pde._channels import Channels, Index
from sklearn_metakan.pde._constants import indices

Ansatz = Callable[[Tensor, Tensor], Tensor]
NUMBERS = {"cpu": 2**21, "cuda": 2**25}  # rows * d that one evaluation takes


def apply_ansatz(ansatz: Ansatz, x: Tensor, raw: Tensor) -> Tensor:
    """g(x, N), (n, k) in and out; g itself sees and gives (n,) where there is one output."""
    value = ansatz(x, raw[:, 0] if raw.shape[1] == 1 else raw)
    n, k = raw.shape
    if value.shape != (n, k) and (k > 1 or value.shape != (n,)):
        wanted = f"(n, {k})" if k > 1 else "(n,)"
        crossed = " A term of shape (n, 1) met one of shape (n,): drop the axis of the former."
        raise ValueError(
            f"ansatz(x, net) must return the shape {wanted} for n_outputs={k}; for x of shape "
            f"{tuple(x.shape)} it returned {tuple(value.shape)}."
            + crossed
            * (value.shape == (n, n))
        )
    return value.reshape(n, k)


def push_ansatz(
    ansatz: Ansatz,
    x: Tensor,
    directions: Tensor,
    raw: Tensor,
    values: Tensor,
    plan: Channels,
) -> tuple[Tensor, Tensor]:
    """Value and derivatives of ``u(x) = g(x, N(x))``; exact, g being a function of each row.

    A derivative of u along v_1, ..., v_m at x is that of
    ``g(x + sum_j s_j v_j, sum_S s_S N_S)`` by every s_j at s = 0, where S runs over the
    subsets of 1, ..., m and N_S is the derivative of N along them; it is taken by m nested
    forward-mode derivatives, all indices of one order at once.

    Parameters
    ----------
    ansatz : callable
    x : Tensor of shape (n, d)
    directions : Tensor of shape (n, K_1, d)
        Of the first-order channels, in their order.
    raw, values : Tensor of shape (n, k) and (n, K, k)
        N and its channels.
    """
    pieces: list[Tensor] = []
    place = {index[0]: i for i, index in enumerate(plan.indices[: plan.n_first])}

    def pick(tensor: Tensor, places: Sequence[int]) -> Tensor:
        return tensor[:, indices(places, x.device)]

    def along(several: Sequence[Index]) -> Tensor:
        parts = {
            chosen: pick(values, [plan.position(tuple(i[j] for j in chosen)) for i in several])
            for size in range(1, len(several[0]) + 1)
            for chosen in combinations(range(len(several[0])), size)
        }
        rows = [pick(directions, [place[i[j]] for i in several]) for j in range(len(several[0]))]
        return _mixed(ansatz, x, rows, raw, parts)

    for m in range(1, plan.order + 1):
        if m == 2:
            pieces += [
                _summed(ansatz, x, directions, raw, values, plan, i) for i in range(len(plan.sums))
            ]
        of_order = [index for index in plan.indices if len(index) == m]
        if of_order:
            pieces.append(along(of_order))
    return apply_ansatz(ansatz, x, raw), torch.cat(pieces, 1)


def _summed(
    ansatz: Ansatz,
    x: Tensor,
    directions: Tensor,
    raw: Tensor,
    values: Tensor,
    plan: Channels,
    number: int,
) -> Tensor:
    """A weighted sum of second derivatives, (n, 1, k)."""
    each = plan.sums[number]
    places = indices([plan.position((k,)) for k in each.directions], x.device)
    lines, slopes = directions[:, places], values[:, places]
    # g is linear in the second derivatives of N: their weighted sum may stand in one row.
    second = values[:, plan.sum_position(number)][:, None] / each.weight
    curves = torch.cat(
        [second, second.new_zeros(1, 1, 1).expand(len(x), len(places) - 1, second.shape[2])], 1
    )
    parts = {(0,): slopes, (1,): slopes, (0, 1): curves}
    return each.weight * _mixed(ansatz, x, [lines, lines], raw, parts).sum(1, keepdim=True)


def _mixed(
    ansatz: Ansatz, x: Tensor, lines: Sequence[Tensor], raw: Tensor, parts: dict[Index, Tensor]
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
        found.append(_nested(ansatz, points, line, net, part).unflatten(0, (n, times)))
    return torch.cat(found, 1)


def _nested(
    ansatz: Ansatz, x: Tensor, lines: Sequence[Tensor], raw: Tensor, parts: dict[Index, Tensor]
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
        function = _slope(function)
    return function(*arguments)


def _slope(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The derivative along the second half of the arguments, at the first half."""

    def slope(*arguments: Tensor) -> Tensor:
        half = len(arguments) // 2
        return jvp(function, arguments[:half], arguments[half:])[1]

    return slope
