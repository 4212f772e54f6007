"""Conditions that hold exactly: the ansatz and the features that see to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import pi
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import Domain
from sklearn_metakan.pde.domains.shapes import Box, SpaceTime
from sklearn_metakan.pde.physics.conditions import (
    BaseCondition,
    Dirichlet,
    Initial,
    Periodic,
    evaluated,
)

_SEEN = 256  # points of the rim of time and boundary
_AGREE = 1e-4  # of the size of values there
_LINES, _HALVINGS = 128, 40  # along which jumps are looked for


@dataclass(frozen=True, eq=False)
class Exact:
    """``u = g(x) + w(x) net``, g with the values asked for and w zero where they are.

    On the boundary ``u = h``: g = h, and w is the domain's ``distance``. At the first time t0,
    ``u = f``: g = h + f - h(., t0) and w is also zero there, as (t - t0) is; where du/dt = s is
    asked too, g has (t - t0) s more, and w the square. h and f agree where both hold.

    Attributes
    ----------
    domain : Domain
    ends : k conditions
        By output: Dirichlet, or None.
    starts : k mappings
        By output: Initial, by its order.
    """

    domain: Domain
    ends: Sequence[Dirichlet | None]
    starts: Sequence[Mapping[int, Initial]]

    def __call__(self, x: Tensor, net: Tensor) -> Tensor:
        columns = net[:, None] if net.ndim == 1 else net
        found = torch.stack([self._column(x, c, j) for j, c in enumerate(columns.unbind(1))], 1)
        return found[:, 0] if net.ndim == 1 else found

    def _column(self, x: Tensor, net: Tensor, j: int) -> Tensor:
        end, starts = self.ends[j], self.starts[j]
        value, weight = torch.zeros_like(net), torch.ones_like(net)
        if end is not None:
            value, weight = value + self._value(end, x, j), self.domain.distance(x)
        if starts:
            t0, t1 = self.domain.bounds[-1].tolist()
            t = x[:, -1] - t0
            at_start = torch.cat([x[:, :-1], torch.full_like(x[:, -1:], t0)], 1)
            value = value + self._value(starts[0], at_start, j)
            if end is not None:
                value = value - self._value(end, at_start, j)
            if 1 in starts:
                value = value + t * self._value(starts[1], at_start, j)
            weight = weight * (t / (t1 - t0)) ** len(starts)
        return (value + weight * net).to(net)

    def _value(self, condition: Any, x: Tensor, j: int) -> Tensor:
        """Of output j."""
        k = len(self.ends)
        if condition.output is not None or k == 1:
            return evaluated(condition.value, x, x[:, 0])
        return evaluated(condition.value, x, x[:, :1].expand(-1, k))[:, j]

    def check(self) -> None:
        """Raise a ValueError where values at the start and on the boundary contradict each other.

        There is then no solution that is continuous, and none that both can be built into.
        """
        if not isinstance(self.domain, SpaceTime) or not any(self.ends):
            return
        generator = torch.Generator().manual_seed(0)
        x, _ = self.domain.sample_boundary(_SEEN, generator, dtype=torch.float64)
        x[:, -1] = self.domain.t0
        inside = self.domain.sample_initial(_SEEN, generator, dtype=torch.float64)
        for j, (end, starts) in enumerate(zip(self.ends, self.starts, strict=True)):
            if end is None or not starts:
                continue
            away = (self._value(end, x, j) - self._value(starts[0], x, j)).abs().max()
            if away > _AGREE * self._value(starts[0], inside, j).abs().max():
                raise ValueError(
                    f"hard=True needs conditions that agree where they meet: {end!r} and "
                    f"{starts[0]!r} differ by up to {float(away):.2g} on the boundary at "
                    f"t={self.domain.t0}. Set hard=False."
                )


@dataclass(frozen=True)
class PeriodicFeatures:
    """``x -> (cos(2 pi (x_i - a_i) / L_i), sin(...))`` for periodic i, and x_j for others."""

    bounds: tuple[tuple[float, float], ...]
    axes: tuple[int, ...]

    @property
    def coordinates(self) -> list[int]:
        """Which one each feature is of."""
        return [i for i in range(len(self.bounds)) for _ in range(1 + (i in self.axes))]

    def __call__(self, x: Tensor) -> Tensor:
        return self.derivative(x, 0)

    def derivative(self, x: Tensor, order: int) -> Tensor:
        """Of each feature by its own coordinate, (n, m)."""
        columns = []
        for i, (low, high) in enumerate(self.bounds):
            if i in self.axes:
                rate = 2 * pi / (high - low)
                angle = rate * (x[:, i] - low) + order * pi / 2
                columns += [rate**order * angle.cos(), rate**order * angle.sin()]
            else:
                linear = (x[:, i], torch.ones_like(x[:, i]), torch.zeros_like(x[:, i]))
                columns.append(linear[min(order, 2)])
        return torch.stack(columns, 1)


def exactly(
    conditions: Mapping[str, BaseCondition], domain: Domain, n_outputs: int, has_time: bool,
    own_boundary: bool, own_features: bool,
) -> tuple[Exact | None, PeriodicFeatures | None, dict[str, BaseCondition]]:  # fmt: skip
    """What holds conditions, and the conditions that have to be trained.

    Held are Dirichlet conditions on all of the domain's boundary, initial ones, and periodic
    ones, each without ``where``; not those whose values jump or have a kink, which ``g`` would
    carry through all of the domain.
    """
    left, axes = dict(conditions), list[int]()
    ends: list[Dirichlet | None] = [None] * n_outputs
    starts: list[dict[int, Initial]] = [{} for _ in range(n_outputs)]

    def can_start(condition: Initial, outputs: Sequence[int]) -> bool:
        # The speed of a moving boundary would have to be built in too.
        moves = condition.order and any(callable(getattr(ends[j], "value", 0)) for j in outputs)
        fits = all(len(starts[j]) == condition.order for j in outputs)
        repeats = all(_repeats(condition, domain, axis) for axis in axes)
        return fits and not moves and repeats and _continues(condition, domain)

    kinds = (Periodic, Dirichlet, Initial)
    for kind, order in product(kinds, range(2)):
        for name, condition in conditions.items():
            if type(condition) is not kind or condition.where is not None:
                continue
            outputs = range(n_outputs) if condition.output is None else [condition.output]
            match condition:
                case Periodic(axis=axis, output=None) if (
                    order == 0 and own_features and isinstance(_space(domain), Box)
                ):
                    axes.append(axis)
                case Dirichlet() if (
                    own_boundary
                    and all(ends[j] is None for j in outputs)
                    and _continues(condition, domain)
                ):
                    for j in outputs:
                        ends[j] = condition
                case Initial(order=its) if (
                    its == order and has_time and can_start(condition, outputs)
                ):
                    for j in outputs:
                        starts[j][order] = condition
                case _:
                    continue
            left.pop(name, None)
    ansatz = None
    if any(end is not None for end in ends) or any(starts):
        ansatz = Exact(domain, ends, starts)
        ansatz.check()
    bounds = tuple((float(a), float(b)) for a, b in domain.bounds)
    return ansatz, PeriodicFeatures(bounds, tuple(axes)) if axes else None, left


def _space(domain: Domain) -> Domain:
    space = domain.space if isinstance(domain, SpaceTime) else domain
    return getattr(space, "domain", space) if space.n_parameters else space


def _repeats(condition: Initial, domain: Domain, axis: int) -> bool:
    """Whether what is asked at the start, and its slope, is the same at both ends of an axis.

    If not, it cannot be part of a function that is periodic at all later times.
    """
    value = condition.value
    if not callable(value):
        return True
    if not getattr(value, "is_differentiable", True):
        return False
    generator = torch.Generator().manual_seed(0)
    x = domain.sample(_SEEN, generator, dtype=torch.float64)
    x[:, -1] = domain.bounds[-1, 0]
    found = []
    for end in domain.bounds[axis]:
        x = x.clone()
        x[:, axis] = float(end)
        with torch.enable_grad():
            y = torch.as_tensor(value(x.requires_grad_()))
            (slope,) = torch.autograd.grad(y.sum(), x, materialize_grads=True, allow_unused=True)
        found.append((y.detach(), slope[:, axis]))
        x = x.detach()
    size = float(torch.as_tensor(value(domain.sample(_SEEN, generator).double())).abs().max())
    width = float(domain.bounds[axis, 1] - domain.bounds[axis, 0])
    away = [(a - b).abs().max() for a, b in zip(*found, strict=True)]
    return bool(away[0] <= _AGREE * size and away[1] * width <= 10 * _AGREE * size)


def _continues(condition: Any, domain: Domain) -> bool:
    """Whether a condition's values have a slope everywhere: no jumps, no kinks.

    Lines from where it holds into the domain, or at the start, are halved towards the larger
    change of values and slopes; at a jump, or a kink, a change is left where their ends meet.
    """
    value = condition.value
    if not callable(value) or not getattr(value, "is_differentiable", True):
        return True
    wide: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    if isinstance(condition, Initial):
        if not isinstance(domain, SpaceTime):
            return True  # one point
        one, other = (domain.sample_initial(_LINES, **wide) for _ in range(2))
    else:
        one, other = domain.sample_boundary(_LINES, **wide)[0], domain.sample(_LINES, **wide)
    n = min(len(one), len(other))
    ends = [one[:n], other[:n]]
    at_ends = [_values_and_slopes(value, x) for x in ends]
    size = torch.cat(at_ends).abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    for _ in range(_HALVINGS):
        middle = (ends[0] + ends[1]) / 2
        found = _values_and_slopes(value, middle)
        first, last = (((found - each) / size).abs().amax(1, keepdim=True) for each in at_ends)
        left = first > last
        ends = [torch.where(left, ends[0], middle), torch.where(left, middle, ends[1])]
        at_ends = [torch.where(left, at_ends[0], found), torch.where(left, found, at_ends[1])]
    broken = ((at_ends[0] - at_ends[1]).abs() > _AGREE * size).any(1)
    if domain.knows_inside:
        broken &= domain.contains(ends[0])
    return not bool(broken.any())


def _values_and_slopes(value: Any, x: Tensor) -> Tensor:
    """Of a function, (n, k + k d)."""
    with torch.enable_grad():
        points = x.detach().clone().requires_grad_()
        found = torch.as_tensor(value(points)).to(x)
        y = found.reshape(len(x), -1) if found.ndim else found.expand(len(x), 1)
        columns = [y]
        for column in y.unbind(1) if y.requires_grad else ():
            columns += torch.autograd.grad(
                column.sum(), points, retain_graph=True, materialize_grads=True, allow_unused=True
            )
    return torch.cat(columns, 1).detach()
