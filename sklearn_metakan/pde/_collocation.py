"""Where equation and conditions are asked: points of each term, drawn anew as training goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_metakan.pde._conditions import BaseCondition, Draw, PointSet
from sklearn_metakan.pde._domain import Domain, checked_points
from sklearn_metakan.pde._reading import Problem
from sklearn_metakan.pde._spacetime import SpaceTime

EQUATION, DATA = "residual", "data"
POOL = 10  # proposals for each point that is chosen by residual

Batch = dict[str, list[PointSet]]  # by term: the equation, each condition


@dataclass(frozen=True)
class Counts:
    """Points of a step: in the interior, and for each condition on boundary or initial time."""

    interior: int
    boundary: int
    initial: int


class Collocation:
    """Draws the points of every term.

    Parameters
    ----------
    problem : Problem
    conditions : mapping of str to condition
        By the names of their losses.
    counts : Counts
    sampling : str
        A method of the domain's ``sample``; or "rad": by residual, from ten uniform points for
        each one, with probability in proportion to ``|r| / mean |r| + 1``.
    generator : torch.Generator
        On the device of the points.
    dtype : torch.dtype

    Source: Wu et al., "A comprehensive study of non-adaptive and residual-based adaptive
    sampling for PINNs" (2023), RAD with k = 1, c = 1.
    """

    def __init__(
        self,
        problem: Problem,
        conditions: Mapping[str, BaseCondition],
        counts: Counts,
        *,
        sampling: str = "uniform",
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        self.problem, self.conditions = problem, conditions
        self.counts, self.sampling, self.generator, self.dtype = counts, sampling, generator, dtype
        self._checked = False

    def draw(self, misfit: Callable[[Tensor], Tensor] | None = None) -> Batch:
        """New points of every term; ``misfit`` is |residual| at points, for "rad"."""
        batch: Batch = {EQUATION: [(self._interior(misfit), None)]}
        draws: dict[str, Draw] = {
            "interior": lambda n: (self._inside(self.problem.domain, n), None),
            "boundary": self._on_boundary,
            "initial": self._at_start,
        }
        for name, condition in self.conditions.items():
            batch[name] = condition.points(
                getattr(self.counts, condition.place), draws, self.problem.domain
            )
        if not self._checked:
            self._check(batch)
        batch = {name: [self._cast(*each) for each in sets] for name, sets in batch.items()}
        if self.problem.observed is not None:
            observed = torch.as_tensor(self.problem.observed)
            batch[DATA] = [self._cast(observed.to(self.generator.device), None)]
        return batch

    def _check(self, batch: Batch) -> None:
        """Once: every term has points, in the domain."""
        domain = self.problem.domain
        known = domain if domain.knows_inside else None
        for name, sets in batch.items():
            title = "points of the equation" if name == EQUATION else f"points of {name!r}"
            for x, _ in sets:
                if not len(x):
                    raise ValueError(f"{title} must be at least one, got none.")
                checked_points(x, domain.dim, title, domain=known)
        self._checked = True

    def _inside(self, domain: Domain, n: int) -> Tensor:
        return domain.sample(n, self.generator, method=self._method, dtype=torch.float64)

    @property
    def _method(self) -> str:
        return "uniform" if self.sampling == "rad" else self.sampling

    def _interior(self, misfit: Callable[[Tensor], Tensor] | None) -> Tensor:
        n, domain = self.counts.interior, self.problem.interior
        if self.sampling != "rad" or misfit is None:
            return self._inside(domain, n)
        pool = self._inside(domain, POOL * n)
        size = misfit(pool.to(self.dtype)).double()
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
        method = "uniform" if self._method == "radius" else self._method
        x, normal = self.problem.boundary.sample_boundary(
            n, self.generator, method=method, dtype=torch.float64
        )
        return x, None if normal.isnan().any() else normal

    def _at_start(self, n: int) -> PointSet:
        domain = self.problem.domain
        if not isinstance(domain, SpaceTime):
            raise ValueError(
                f"an initial condition needs a SpaceTime domain, got {domain!r}; use "
                "Dirichlet(..., where=...) for others."
            )
        x = domain.sample_initial(n, self.generator, method=self._method, dtype=torch.float64)
        return x, None

    def _cast(self, x: Tensor, normal: Tensor | None) -> PointSet:
        return x.to(self.dtype), None if normal is None else normal.to(self.dtype)


class Steps:
    """Batches for training steps: new points every so many, and a seed for random directions.

    Parameters
    ----------
    collocation : Collocation
    misfit : callable
        For ``Collocation.draw``.
    counts : sequence of int
        Steps of each pass that is asked for, one after the other.
    every : int or None
        Steps between new points; None: the same points for all.
    """

    def __init__(
        self,
        collocation: Collocation,
        misfit: Callable[[Tensor], Tensor],
        counts: Sequence[int],
        every: int | None,
    ) -> None:
        self.collocation, self.misfit = collocation, misfit
        self.left, self.every, self.done = list(counts), every, 0
        self.points: Batch | None = None

    def __len__(self) -> int:
        return self.left[0] if self.left else 0

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        for _ in range(self.left.pop(0)):
            if self.points is None or (self.every and self.done % self.every == 0):
                self.points = self.collocation.draw(self.misfit)
            self.done += 1
            yield self.points, self.done
