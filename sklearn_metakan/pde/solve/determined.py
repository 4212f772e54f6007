"""Constants of an equation that nothing determines: another value of them fits as well."""

from collections.abc import Mapping
from typing import Any

import torch

from sklearn_metakan.pde.physics.constants import Held
from sklearn_metakan.pde.physics.physics import Batch, Physics
from sklearn_metakan.pde.solve.doubt import FINE, POINTS, factors_of, has_features
from sklearn_metakan.pde.solve.ritz import Features
from sklearn_metakan.training import warn_caller

_NOTHING = 1e-6  # of the size of the equation's loss: what a constant twice as large may leave


def warn_if_undetermined(solver: Any, seed: int) -> None:
    """A ConvergenceWarning that names constants of a solver that nothing determines."""
    physics, inputs = solver._physics, solver._physics.trial.input_shift.numel()
    eigenvalue = any(isinstance(start, Held) for start in (solver.pde_params or {}).values())
    if eigenvalue or not physics.pde_params or not has_features(physics, inputs):
        return
    n = FINE[inputs][0]
    counts = {"interior": POINTS * n, "boundary": n, "initial": n}
    batch = solver._collocation(counts, seed + 2).draw()
    with solver._execution.active():
        left = left_by(physics, batch, solver._sizes.weights())
    free = [name for name, loss in left.items() if loss <= _NOTHING * solver._sizes.unit]
    if free:
        warn_caller(
            f"Not determined: with other values of {free} the equation and all conditions hold as "
            "well, once the solution is another. Pass observations, fit(X, y), or more conditions, "
            "or give the equation a number in place of them."
        )


def left_by(physics: Physics, batch: Batch, factors: Mapping[str, float]) -> dict[str, float]:
    """What a change of each constant by its start adds to the loss, at least, to first order.

    The solution changes with it, by random features beside the network, and so do the other
    constants: ``min |J_k + J c|^2`` over c, J_k the misfits' change by the constant. Of a positive
    constant a change of its logarithm by one.
    """
    features = Features(physics, FINE[physics.trial.input_shift.numel()], beside=True)
    constants = features.physics.pde_params
    features.coefficients += constants.values()
    rows, _ = features.weighted(batch, factors)
    count = len(constants)
    rows, slopes = rows[:, :-count], rows[:, -count:] * rows.new_tensor(constants.large_changes())
    orthogonal, _ = factors_of(rows)
    slopes = torch.cat([slopes, slopes.new_zeros(rows.shape[1], count)])
    slopes = (slopes - orthogonal @ (orthogonal.T @ slopes)).cpu()
    left = {}
    for number, name in enumerate(constants):
        own, others = slopes[:, number], slopes[:, torch.arange(count) != number]
        if count > 1:
            own = own - others @ torch.linalg.lstsq(others, own[:, None]).solution[:, 0]
        left[name] = float(own.square().sum())
    return left
