"""Errors that a small residual does not tell of: those that grow in time, and long waves."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde.derivatives.push import modules_in_order
from sklearn_metakan.pde.physics.checks import listed_conditions
from sklearn_metakan.pde.physics.conditions import Condition, Initial
from sklearn_metakan.pde.physics.physics import EQUATION, Batch, Physics
from sklearn_metakan.pde.solve.integrated import can_integrate, distance
from sklearn_metakan.pde.solve.ritz import Features
from sklearn_metakan.pde.solve.sizes import LEVEL

# By the number of inputs: features, and their largest frequency.
FINE: dict[int, tuple[int, float]] = {1: (500, 200.0), 2: (300, 12.0), 3: (400, 8.0)}
POINTS = 3  # for each feature
_RIDGE = 1e-6  # of the rows' size
_SMALL = 1e-3  # of the spread: a part of a step that is small enough to be linear
_EXPLAINS = 0.1  # of the loss at fresh points: what a whole step would take off


def error_left(solver: Any, seed: int) -> float:
    """The error of a solver's solution, relative to its spread; 0 where it cannot be told.

    Of ordinary equations with a start alone it is what a classical method finds from there.
    """
    physics, execution = solver._physics, solver._execution
    error = _from_the_start(solver, physics, seed)
    if error is not None:
        return error
    inputs = physics.trial.input_shift.numel()
    if not can_doubt(physics, inputs):
        return 0.0
    n = FINE[inputs][0]
    counts = {"interior": POINTS * n, "boundary": n, "initial": n}
    one, other = (solver._collocation(counts, seed + more).draw() for more in (2, 3))
    with execution.active():
        return error_of_first_order(physics, one, other, solver._sizes.weights())


def _from_the_start(solver: Any, physics: Physics, seed: int) -> float | None:
    conditions = listed_conditions(solver.conditions)
    by_start = all(isinstance(each, Initial) for each in conditions) and solver.ansatz is None
    if not by_start or physics.target is not None or not can_integrate(physics):
        return None
    batch = solver._collocation(dict.fromkeys(Condition.places, 1), seed).draw()
    with torch.no_grad(), solver._execution.active():
        misfits = [physics.misfit(name, batch[name]) for name in physics.conditions]
        missed = max((float(misfit.abs().max()) for misfit in misfits), default=0.0)
        return distance(physics, solver._problem.bounds[-1], missed, solver._points_dtype)


def can_doubt(physics: Physics, inputs: int) -> bool:
    """Whether there are features for the problem: of at most three inputs, one of them time.

    Without time, unless there is something to be found from observations.
    """
    forward = physics.trial.time or (physics.target is None and not physics.pde_params)
    return forward and has_features(physics, inputs)


def has_features(physics: Physics, inputs: int) -> bool:
    """Whether features can stand beside its network: of at most three inputs, in float64."""
    trial = physics.trial
    known = modules_in_order(trial.network) is not None and not physics.calls_u
    straight = trial.derivatives == "exact" and (trial.ansatz is None or trial.affine)
    wide = trial.output_scale.dtype == torch.float64
    return inputs in FINE and known and straight and wide and physics.causal is None


def error_of_first_order(
    physics: Physics, batch: Batch, fresh: Batch, factors: Mapping[str, float]
) -> float:
    """An estimate of the solution's error, relative to its spread, to first order; 0 if none.

    A step of Gauss and Newton, ``min |r + J c|``, over random features beside the network: errors
    that grow in time, and long waves beside a source of short ones, are such a c, however small
    the residual r is. It counts if a small part of it lowers the loss at fresh points, as quickly
    as if the whole took off a tenth.
    """
    features = Features(physics, FINE[physics.trial.input_shift.numel()], beside=True)
    rows, misfit = features.weighted(batch, factors)
    orthogonal, triangle = factors_of(rows)
    target = orthogonal[: len(misfit)].T @ misfit
    step = -torch.linalg.solve_triangular(triangle, target[:, None], upper=True)[:, 0]
    if not bool(step.isfinite().all()):
        return 0.0
    trial, x = features.physics.trial, fresh[EQUATION][0][0]
    with torch.no_grad():
        before, found = trial.columns(x), _loss(features, fresh, factors)
        features.set(step)
        spread = before.std(0, correction=0) + LEVEL * before.abs().amax(0)
        away = (trial.columns(x) - before).square().mean(0).sqrt()
        varies = spread > 0
        if not bool(varies.any()):
            return 0.0
        moved = float((away[varies] / spread[varies]).max())
        share = min(1.0, _SMALL / max(moved, _SMALL))
        features.set(share * step)
        lower = _loss(features, fresh, factors) <= (1 - 2 * _EXPLAINS * share) * found
    return moved if lower else 0.0


def factors_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Q and R of rows (n, m) above a small ridge, of features that may be much alike."""
    size = rows.square().sum(0).mean().sqrt()
    ridge = _RIDGE * size * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return torch.linalg.qr(torch.cat([rows, ridge]))


def _loss(features: Features, batch: Batch, factors: Mapping[str, float]) -> float:
    physics = features.physics
    total = 0.0
    for term, sets in batch.items():
        for name, r in physics.misfits(term, sets).items():
            square = r.mean().square() if physics.is_mean(term) else r.square().mean()
            total += factors.get(name, 1.0) * float(square)
    return total
