"""Where equation and conditions are asked: points of each term, drawn anew as training goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil, inf
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import Domain, points_inside
from sklearn_metakan.pde.domains.shapes import SpaceTime
from sklearn_metakan.pde.physics.conditions import BaseCondition, DrawPoints, PointSet
from sklearn_metakan.pde.physics.physics import DATA, EQUATION, Batch
from sklearn_metakan.pde.solve.problem import Problem

POOL = 10  # proposals for each point that is chosen by residual
PATIENCE, FALLS = 30, 0.9  # steps in which the least loss at new points must fall to this share


class Collocation:
    """Draws the points of every term, on the device of the generator.

    Conditions are named as their losses; counts are the points of a step in the "interior", and
    at the "boundary" and "initial" for each condition there. sampling is a method of the domain's
    ``sample``; or "rad": by residual, from ten uniform points for each one, with probability in
    proportion to ``|r| / mean |r| + 1``. Points are drawn and checked in float64, and given out
    in ``dtype``.

    Source: Wu et al., "A comprehensive study of non-adaptive and residual-based adaptive
    sampling for PINNs" (2023), RAD with k = 1, c = 1.
    """

    def __init__(
        self,
        problem: Problem,
        conditions: Mapping[str, BaseCondition],
        counts: Mapping[str, int],
        *,
        sampling: str = "uniform",
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        self.problem, self.conditions, self.counts = problem, conditions, counts
        self.by_residual, self.generator, self.dtype = sampling == "rad", generator, dtype
        self.method = "uniform" if self.by_residual else sampling
        self._checked = False

    def draw(
        self, residual_size: Callable[[Tensor], Tensor] | None = None, share: float = 1.0
    ) -> Batch:
        """New points of every term; ``residual_size`` is |residual| at points, for "rad".

        ``share`` is what of the counts is drawn, but for conditions on a mean.
        """
        few = {place: ceil(share * n) for place, n in self.counts.items()}
        batch: Batch = {EQUATION: [(self._interior(few["interior"], residual_size), None)]}
        draws: dict[str, DrawPoints] = {
            "interior": lambda n: (self._inside(self.problem.domain, n), None),
            "boundary": self._on_boundary,
            "initial": self._at_start,
        }
        for name, condition in self.conditions.items():
            n = (self.counts if condition.is_mean else few)[condition.place]
            batch[name] = condition.points(n, draws, self.problem.domain)
        if not self._checked:
            self._check(batch)
        if self.problem.observed is not None:
            observed = torch.as_tensor(self.problem.observed)
            batch[DATA] = [(observed.to(self.generator.device), None)]
        return {
            name: [(x.to(self.dtype), None if n is None else n.to(self.dtype)) for x, n in sets]
            for name, sets in batch.items()
        }

    def _check(self, batch: Batch) -> None:
        """Once: every term has points, in the domain."""
        for name, sets in batch.items():
            title = "points of the equation" if name == EQUATION else f"points of {name!r}"
            for x, _ in sets:
                if not len(x):
                    raise ValueError(f"{title} must be at least one, got none.")
                points_inside(self.problem.domain, x, title)
        self._checked = True

    def _inside(self, domain: Domain, n: int) -> Tensor:
        return domain.sample(n, self.generator, method=self.method, dtype=torch.float64)

    def _interior(self, n: int, residual_size: Callable[[Tensor], Tensor] | None) -> Tensor:
        domain = self.problem.interior
        if not self.by_residual or residual_size is None:
            return self._inside(domain, n)
        pool = self._inside(domain, POOL * n)
        size = residual_size(pool.to(self.dtype)).double()
        share = size / size.mean().clamp_min(torch.finfo(torch.float64).tiny) + 1
        kept = len(domain.anchors)  # they come first
        share[:kept] = 0
        left = min(n, len(pool)) - kept
        if left <= 0:
            return pool[:kept]
        chosen = share.multinomial(left, generator=self.generator)
        return torch.cat([pool[:kept], pool[chosen]])

    def _on_boundary(self, n: int) -> PointSet:
        # "radius" is a law of the inside alone.
        method = "uniform" if self.method == "radius" else self.method
        x, normal = self.problem.boundary.sample_boundary(
            n, self.generator, method=method, dtype=torch.float64
        )
        return x, None if normal.isnan().any() else normal

    def _at_start(self, n: int) -> PointSet:
        domain = self.problem.domain
        if self.problem.has_time and domain.dim == 1:  # time alone: one point
            start = torch.as_tensor(domain.bounds[:, :1], device=self.generator.device)
            return start, None
        if not isinstance(domain, SpaceTime):
            raise ValueError(
                "an initial condition needs a SpaceTime domain, or an Interval with variables="
                f"('t',), got {domain!r}; use Dirichlet(..., where=...) for others."
            )
        x = domain.sample_initial(n, self.generator, method=self.method, dtype=torch.float64)
        return x, None


class Steps:
    """Batches for training steps: points, and a seed for random directions.

    ``counts`` are the steps of each pass that is asked for, one after the other; new points come
    every so many of them, and when those that there are have ``worn`` out, or never. Of the points
    there are at first a ``share``, and twice as many when the loss that steps find at new ones
    falls no more.
    """

    def __init__(
        self,
        collocation: Collocation,
        residual_size: Callable[[Tensor], Tensor] | None,
        counts: Sequence[int],
        every: int | None,
        share: float = 1.0,
    ) -> None:
        self.collocation, self.residual_size = collocation, residual_size
        self.left, self.every, self.done = list(counts), every, 0
        self.worn, self.fresh = False, True
        self.share, self.least, self.waited = share, inf, 0
        self.points: Batch | None = None

    def extra_state(self) -> dict[str, Any]:
        """What the points to come depend on, for checkpoints."""
        drawn = self.collocation.generator.get_state()
        kept = ("left", "done", "points", "share", "least", "waited")
        return {name: getattr(self, name) for name in kept} | {"drawn": drawn}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        generator, points = self.collocation.generator, state["points"]
        generator.set_state(state["drawn"])
        self.left, self.done, self.points = state["left"], state["done"], None
        self.share, self.least, self.waited = (state[name] for name in ("share", "least", "waited"))
        device = generator.device
        if points is not None:
            self.points = {
                name: [(x.to(device), None if n is None else n.to(device)) for x, n in sets]
                for name, sets in points.items()
            }

    def __len__(self) -> int:
        return self.left[0] if self.left else 0

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        for _ in range(self.left.pop(0)):
            due = self.worn or (self.every and self.done % self.every == 0)
            self.fresh = self.points is None or bool(self.every and due)
            if self.points is None or self.fresh:
                self.points = self.collocation.draw(self.residual_size, self.share)
                self.worn = False
            self.done += 1
            yield self.points, self.done

    def told(self, loss: float) -> None:
        """What the loss was before the step on the last batch."""
        self.waited += 1
        if not self.fresh:
            return
        if loss < FALLS * self.least:
            self.least, self.waited = loss, 0
        elif self.waited >= PATIENCE:
            self.share, self.least, self.waited = min(1.0, 2 * self.share), inf, 0
