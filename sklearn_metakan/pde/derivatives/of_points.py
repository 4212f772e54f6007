"""Functions of the points alone, features and the parts of an ansatz: kept while points stay."""

from collections.abc import Callable, Hashable
from itertools import combinations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sklearn_metakan.pde.derivatives.ansatz import Ansatz, apply_ansatz, push_ansatz
from sklearn_metakan.pde.derivatives.channels import Channels, picked, places_on

Function = Callable[[Tensor], Tensor]  # row by row, (n, d) -> (n, m)

_NEAR = 1e-9  # of an ansatz's size, in float64
# By the memory that points are in, for as long as it lives.
_kept = WeakTensorKeyDictionary()


def push_features(
    features: Function, x: Tensor, directions: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """Values (n, m) and derivatives (n, K, m) of functions of x, in its dtype.

    ``directions`` (n, K_1, d) are those of the first-order channels. Features that know which
    coordinate each of them is of, and their derivatives by it, need no forward mode: along
    v_1, ..., v_k that of order k is multiplied by that coordinate of each v_j.
    """
    directions = directions.to(x)
    if not hasattr(features, "coordinates"):
        like = features(x)
        none = like.new_zeros(1, 1, 1).expand(len(x), plan.n_channels, like.shape[1])
        return push_ansatz(
            lambda at, _: features(at), x, directions, torch.zeros_like(like), none, plan
        )
    lines = directions[:, :, places_on(features.coordinates, x.device)]  # (n, K_1, m)
    pieces: list[Tensor] = []
    for m in range(1, plan.order + 1):
        slope = features.derivative(x, m)[:, None]  # type: ignore[attr-defined]
        for axes, weight in plan.sums if m == 2 else ():
            rows = picked(lines, [plan.position((k,)) for k in axes])
            pieces.append(weight * slope * rows.square().sum(1, keepdim=True))
        if several := plan.of_order(m):
            product = slope
            for j in range(m):
                product = product * picked(lines, [plan.position((i[j],)) for i in several])
            pieces.append(product)
    return features(x), torch.cat(pieces, 1)


def is_affine(ansatz: Ansatz, x: Tensor, k: int) -> bool:
    """Whether it is ``g(x) + w(x) net`` for each of k outputs by itself, as seen at points x."""
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(len(x), k, generator=generator).to(x) for _ in range(2))
    parts = _parts(ansatz, k)(x)
    for net in (one, 1e3 * two):
        found = apply_ansatz(ansatz, x, net)
        size = (parts[:, :k].abs() + (parts[:, k:] * net).abs()).amax()
        if not (found - parts[:, :k] - parts[:, k:] * net).abs().amax() <= _NEAR * size:
            return False
    return True


def _parts(ansatz: Ansatz, k: int) -> Function:
    """g and w side by side, (n, 2 k)."""

    def parts(x: Tensor) -> Tensor:
        nothing = x.new_zeros(len(x), k)
        g = apply_ansatz(ansatz, x, nothing)
        return torch.cat([g, apply_ansatz(ansatz, x, nothing + 1) - g], 1)

    return parts


def push_affine(
    ansatz: Ansatz, x: Tensor, lines: Tensor, raw: Tensor, values: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """As ``push_ansatz`` for ``g(x) + w(x) N``, by Leibniz' rule.

    Along v_1, ..., v_m it is ``g_(1..m) + sum_S w_S N_(rest)`` over all subsets S. lines are the
    same for equal points and plans: derivatives of g and w are kept.
    """
    k = raw.shape[1]

    def computed() -> tuple[Tensor, Tensor]:
        return push_features(_parts(ansatz, k), x, lines, plan)

    of_parts = kept(x, (ansatz, plan), computed)
    (g, w), (gs, ws) = (each.to(raw).split(k, -1) for each in of_parts)
    total = gs + ws * raw[:, None] + w[:, None] * values
    pieces = [total[:, : plan.n_first]] if plan.n_first else []
    for m in range(2, plan.order + 1):
        for number, (axes, weight) in enumerate(plan.sums if m == 2 else ()):
            places = [plan.position((axis,)) for axis in axes]
            both = (picked(ws, places) * picked(values, places)).sum(1, keepdim=True)
            place = plan.sum_position(number)
            pieces.append(total[:, place : place + 1] + 2 * weight * both)
        if several := plan.of_order(m):
            term = picked(total, [plan.position(index) for index in several])
            for size in range(1, m):
                for chosen in combinations(range(m), size):
                    rest = [j for j in range(m) if j not in chosen]
                    ones = [plan.position(tuple(i[j] for j in chosen)) for i in several]
                    others = [plan.position(tuple(i[j] for j in rest)) for i in several]
                    term = term + picked(ws, ones) * picked(values, others)
            pieces.append(term)
    return g + w * raw, torch.cat(pieces, 1)


@torch.no_grad()
def kept(
    x: Tensor, key: Hashable, compute: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What was computed for these points, or is now; a captured step computes it each time."""
    capturing = x.is_cuda and torch.cuda.is_current_stream_capturing()
    if capturing or x.is_inference():  # the latter have no versions
        return compute()
    memory = x if x._base is None else x._base
    known = _kept.setdefault(memory, {})
    place = key, x.storage_offset(), x.shape, x.stride(), x._version
    if place not in known:
        for old in [each for each in known if each[-1] != x._version]:
            del known[old]
        value, slopes = (_apart(each, x) for each in compute())
        known[place] = value, slopes
    return known[place]


def _apart(found: Tensor, x: Tensor) -> Tensor:
    """A tensor that does not keep the memory of x alive."""
    shared = found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return found.clone() if shared else found
