"""Eigenvalue problems: the first modes one after the other, each apart from those before."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.physics.checks import listed_conditions
from sklearn_metakan.pde.physics.conditions import Integral
from sklearn_metakan.pde.physics.constants import Held
from sklearn_metakan.pde.physics.field import Field
from sklearn_metakan.pde.solve.ritz import NORM, nearest_eigenvalues
from sklearn_metakan.training import draw_seeds, warn_caller

APART = "apart"  # the losses of being orthogonal
_POINTS = 2**14  # of the final length
_AWAY = 0.1  # of an eigenvalue: so far from where it started, another mode was found


@dataclass(frozen=True, eq=False)
class Overlap:
    """``sum_j u_j v_j`` at points, v the mode that a solver found, or u itself."""

    solver: Any = field(repr=False, default=None)

    def __call__(self, x: Tensor, u: Field) -> Tensor:
        value = u.value
        other = value
        if self.solver is not None:
            with torch.no_grad():
                other = self.solver.module_(x)
        return (value * other).reshape(len(x), -1).sum(1)


def find_modes(solver: Any, data: bool, resume: bool) -> dict[str, Any]:
    """Attributes of a solver with ``eigenvalue``, once each mode is fitted; ``modes_`` are these.

    Each has the length one, ``integral of u^2 = 1``, and is orthogonal to those before. It starts
    from the eigenvalue that random features give (see ``nearest_eigenvalues``).

    Raises ValueError for what contradicts an eigenvalue problem, and where fewer modes than asked
    for exist.
    """
    _check(solver, data, resume)
    name, count = solver.eigenvalue, solver.n_modes
    near = dict(solver.pde_params or {}).get(name)
    conditions = listed_conditions(solver.conditions)
    settings, began = solver.get_params(deep=False), perf_counter()
    *seeds, first = draw_seeds(solver.random_state, count + 1)

    def part(start: float | Held, seed: int, known: Sequence[Any], **more: Any) -> Any:
        length = Integral(Overlap(), 1.0, name=NORM)
        apart = [
            Integral(Overlap(mode), name=f"{APART}_{number}")
            for number, mode in enumerate(known, 1)
        ]
        own = {"eigenvalue": None, "n_modes": 1, "pde_params": {name: start}, "random_state": seed}
        return type(solver)(**settings | own | {"conditions": [*conditions, length, *apart]} | more)

    starts = nearest_eigenvalues(part(1.0 if near is None else near, first, []), name, near, count)
    done: list[Any] = []
    for number, (start, seed) in enumerate(zip(starts, seeds, strict=True)):
        limit = solver.time_limit
        if limit is not None:
            limit = max((began + limit - perf_counter()) / (count - number), 1e-3)
        mode = part(Held(start), seed, done, time_limit=limit).fit()
        done.append(mode)
        if mode.net_.interrupted_:
            break
        _normalise(mode)
        _warn_if_another(mode.pde_params_[name], start, number + 1)
    n_iter = sum(mode.n_iter_ for mode in done)
    eigenvalues = np.array([mode.pde_params_[name] for mode in done])
    found = {"modes_": done, "eigenvalues_": eigenvalues, "n_iter_": n_iter}
    return {**vars(done[0]), **settings, **found}


def _check(solver: Any, data: bool, resume: bool) -> None:
    name = solver.eigenvalue
    others = sorted({*(solver.pde_params or {})} - {name})
    for what, given in (
        ("X, y or sample_weight", data),
        ("resume", resume),
        ("checkpoint_dir", solver.checkpoint_dir is not None),
        ("warm_start", solver.warm_start),
        (f"windows={solver.windows}", solver.windows > 1),
        (f"pde_params with {others}", bool(others)),
    ):
        if given:
            raise ValueError(
                f"eigenvalue={name!r} finds modes that have no start and no scale but their own, "
                f"and does not go with {what}. Leave it out."
            )


@torch.no_grad()
def _normalise(mode: Any) -> None:
    """To the length one at many points: those of training give it to some per cent."""
    domain, generator = mode.domain_, torch.Generator().manual_seed(0)
    methods = [name for name in ("sobol", "uniform") if name in domain.methods]
    x = domain.sample(_POINTS, generator, method=methods[0], dtype=torch.float64).numpy()
    u = torch.from_numpy(mode.predict(x)).reshape(len(x), -1)
    length = (domain.volume * float(u.square().sum(1).mean())) ** 0.5
    if length > 0:
        mode.module_.output_scale.div_(length)


def _warn_if_another(found: float, start: float, number: int) -> None:
    if abs(found - start) > _AWAY * max(abs(start), abs(found)):
        warn_caller(
            f"Not solved: the eigenvalue of mode {number} is {found:.6g}, and was expected near "
            f"{start:.6g}: another mode was found. Try more iterations (lm_iter), a larger network,"
            " basis='chebyshev' or hard=True."
        )
