"""Plots of solutions, residuals and training."""

from sklearn_metakan.pde.plot.display import SolutionDisplay

__all__ = ["SolutionDisplay"]
