"""Equations with known solutions, to try solvers on.

Each problem is a value (immutable, comparable, picklable) with

- ``domain``, and ``variables``, the names of its coordinates, or None;
- ``residual(x, u)``, zero for the solution; in torch, as every solver takes it;
- ``conditions``, a tuple; empty where the ansatz fulfils all of them;
- ``ansatz``, a function of (x, net) that fulfils all conditions, or None;
- ``solution(x)``, (n,) or (n, k), exact or to the accuracy that the class names;
- ``n_outputs``, the number k of unknown functions;
- ``settings``, all of these as parameters of a solver: ``KANPDESolver(**problem.settings)``.
"""

from sklearn_metakan.pde.problems.evolution import AllenCahn1D, Burgers, HeatCube, Wave
from sklearn_metakan.pde.problems.problem import Problem
from sklearn_metakan.pde.problems.steady import (
    AllenCahnBall,
    Helmholtz,
    Kovasznay,
    PoissonBall,
    PoissonCube,
)

__all__ = [
    "AllenCahn1D",
    "AllenCahnBall",
    "Burgers",
    "HeatCube",
    "Helmholtz",
    "Kovasznay",
    "PoissonBall",
    "PoissonCube",
    "Problem",
    "Wave",
]
