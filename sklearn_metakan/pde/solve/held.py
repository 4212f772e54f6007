"""What stands between a network and the solution: ansatz and features, given or made."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from sklearn_metakan.pde.derivatives.of_points import is_affine
from sklearn_metakan.pde.physics.conditions import BaseCondition
from sklearn_metakan.pde.physics.hard import exactly
from sklearn_metakan.pde.solve.problem import Problem

_POINTS = 64  # that tell whether an ansatz is linear in the network


class Held(NamedTuple):
    """Parameters of a ``TrialFunction``, and the conditions that they do not hold."""

    ansatz: Callable[..., Any] | None
    features: Callable[..., Any] | None
    affine: bool
    left: dict[str, BaseCondition]


def held(solver: Any, problem: Problem, conditions: Mapping[str, BaseCondition]) -> Held:
    """As the solver's ``ansatz``, ``features`` and ``hard`` say.

    Raises ValueError for ``hard`` beside an ansatz, and for conditions that contradict each other.
    """
    left = {name: c.on_domain(problem.domain) for name, c in conditions.items()}
    ansatz, features = solver.ansatz, solver.features
    if solver.hard:
        if ansatz is not None:
            raise ValueError("hard=True makes an ansatz of the conditions: leave ansatz out.")
        own_boundary = problem.boundary is problem.domain
        ansatz, made, left = exactly(
            left, problem.domain, solver.n_outputs, problem.has_time, own_boundary, features is None
        )
        features = made or features
    affine = ansatz is not None and _is_affine(solver, problem, ansatz)
    return Held(ansatz, features, affine, left)


def _is_affine(solver: Any, problem: Problem, ansatz: Callable[..., Any]) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = problem.domain.sample(_POINTS, generator, dtype=torch.float64)
    return is_affine(ansatz, x, solver.n_outputs)
