"""Plots of solutions, residuals and training."""
