"""Training of trial functions, and the solvers that users see."""

from sklearn_metakan.pde.solve.kan import KANPDESolver, MetaKANPDESolver
from sklearn_metakan.pde.solve.problem import Problem
from sklearn_metakan.pde.solve.solver import PDESolver

__all__ = ["KANPDESolver", "MetaKANPDESolver", "PDESolver", "Problem"]
