"""Long times in parts: one network after the other, each starting from the last one's end."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.adapters import as_domain
from sklearn_metakan.pde.domains.domain import Domain
from sklearn_metakan.pde.domains.shapes import Interval, SpaceTime
from sklearn_metakan.pde.physics.checks import listed_conditions
from sklearn_metakan.pde.physics.conditions import BaseCondition, Initial
from sklearn_metakan.training import draw_seeds


@dataclass(frozen=True, eq=False)
class End:
    """What a solver found at points, or its derivative by time: values of an ``Initial``."""

    solver: Any = field(repr=False)  # which has such an End among its own conditions
    output: int | None
    order: int

    is_differentiable = False

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        u = self.solver.module_.field(x)
        if self.output is not None:
            u = u[self.output]
        return u.dt() if self.order else u.value


def march(solver: Any, data: bool, resume: bool = False) -> dict[str, Any]:
    """Attributes of a solver with ``windows``, once each part is fitted; ``windows_`` are these.

    Checkpoints of each part have a folder of their own in ``checkpoint_dir``.

    Raises ValueError without a time or initial conditions, and with what is about all times at
    once: data, an ansatz, constants to be found.
    """
    _check(solver, data)
    whole = as_domain(solver.domain)
    conditions = listed_conditions(solver.conditions)
    if not any(isinstance(condition, Initial) for condition in conditions):
        raise ValueError(
            f"windows={solver.windows} needs Initial conditions, which move on from part to part."
        )
    domains, seeds = _parts(whole, solver), draw_seeds(solver.random_state, solver.windows)
    settings, began = solver.get_params(deep=False), perf_counter()
    done: list[Any] = []
    for number, (domain, seed) in enumerate(zip(domains, seeds, strict=True)):
        if done:
            conditions = [_moved_on(condition, done[-1]) for condition in conditions]
        own = {"windows": 1, "warm_start": False, "domain": domain, "conditions": conditions}
        if solver.time_limit is not None:
            left = began + solver.time_limit - perf_counter()
            own["time_limit"] = max(left / (len(domains) - number), 1e-3)
        if solver.checkpoint_dir is not None:
            own["checkpoint_dir"] = Path(solver.checkpoint_dir) / f"part-{number + 1}"
        part = type(solver)(**settings | own | {"random_state": seed})
        done.append(part.fit(resume=resume))
        if done[-1].net_.interrupted_:
            break
    n_iter = sum(each.n_iter_ for each in done)
    found = {"windows_": done, "domain_": whole, "n_iter_": n_iter}
    return {**vars(done[-1]), **settings, **found}


def _check(solver: Any, data: bool) -> None:
    for name, given in (
        ("X, y or sample_weight", data),
        ("ansatz", solver.ansatz is not None),
        ("pde_params", bool(solver.pde_params)),
        ("warm_start", solver.warm_start),
        ("checkpoint_dir beside time_limit", bool(solver.checkpoint_dir and solver.time_limit)),
    ):
        if given:
            raise ValueError(
                f"windows={solver.windows} trains one part of time after the other, and {name} is "
                "about all of them at once. Set windows=1, or leave it out."
            )


def _parts(whole: Domain, solver: Any) -> list[Domain]:
    names = solver.variables
    start, end = map(float, whole.bounds[-1])
    pairs = [*pairwise(np.linspace(start, end, solver.windows + 1).tolist())]
    if isinstance(whole, SpaceTime):
        return [replace(whole, t0=a, t1=b, anchors=_between(whole, a, b)) for a, b in pairs]
    if isinstance(whole, Interval) and names is not None and [*names] == ["t"]:
        return [Interval(a, b, anchors=_between(whole, a, b)) for a, b in pairs]
    raise ValueError(
        f"windows={solver.windows} needs a SpaceTime, or an Interval with variables=('t',), got "
        f"{whole!r}."
    )


def _between(whole: Domain, start: float, end: float) -> tuple[tuple[float, ...], ...]:
    return tuple(point for point in whole.anchors if start <= point[-1] <= end)


def _moved_on(condition: BaseCondition, before: Any) -> BaseCondition:
    if not isinstance(condition, Initial):
        return condition
    return replace(condition, value=End(before, condition.output, condition.order))
