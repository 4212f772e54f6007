"""Levenberg-Marquardt: Gauss-Newton steps for all parameters at once, damped as far as needed."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sklearn_metakan.pde._least_squares import LeastSquares
from sklearn_metakan.training import set_values

MOST_PARAMETERS = 20_000  # matrices (P, P) of float64: 3 GB
_TRIES = 12  # of a step, each more damped than the one before
_LEAST = 1e-6  # of D's mean, for parameters that hardly matter
_WELL, _BADLY = 0.75, 0.25  # of the decrease that the linear model foresees


class LevenbergMarquardt(torch.optim.Optimizer):
    """``(J' V J + mu D) delta = -J' V r``, D the diagonal of J' V J.

    A step is taken if it lowers the loss at the same points; else mu is raised and the step
    solved again. Where the loss falls as the linear model foresees, mu is lowered. D makes steps
    independent of the units of single parameters: prompts and dictionaries need that.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float, default=1.0
        What of a step is taken.
    damping : float, default=1e-3
        mu at the start.

    Attributes
    ----------
    damping : float

    Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters"
    (1963); Madsen, Nielsen, Tingleff, "Methods for non-linear least squares problems" (2004),
    section 3.2.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 1.0, damping: float = 1e-3
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.damping = damping

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @torch.no_grad()
    def step(self, problem: LeastSquares) -> None:  # type: ignore[override]
        """One step from the parameters' present values, or none if no damping lowers the loss."""
        before = problem.total
        matrix, vector = problem.normal_equations()
        trained = self.trained
        start = [parameter.clone() for parameter in trained]
        sizes = [parameter.numel() for parameter in trained]
        damping, accepted = self.damping, False
        try:
            for _ in range(_TRIES):
                delta = self._solved(matrix, vector)
                if delta is not None:
                    parts = zip(start, delta.split(sizes), strict=True)
                    set_values(trained, [p - d.view_as(p).to(p.dtype) for p, d in parts])
                    decrease = before - problem.loss()
                    if decrease > 0:  # not NaN
                        accepted = True
                        self._adapt(decrease / float(delta @ (2 * vector - matrix @ delta)))
                        return
                self.damping *= 4
        finally:
            if not accepted:
                set_values(trained, start)
                self.damping = damping

    def _solved(self, matrix: Tensor, vector: Tensor) -> Tensor | None:
        diagonal = matrix.diagonal()
        damped = matrix.clone()
        damped.diagonal().add_(diagonal.clamp_min(_LEAST * diagonal.mean()), alpha=self.damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            return None
        delta = torch.cholesky_solve(vector[:, None], factor)[:, 0]
        return delta * self.param_groups[0]["lr"]

    def _adapt(self, ratio: float) -> None:
        if ratio > _WELL:
            self.damping = max(self.damping / 4, 1e-15)
        elif ratio < _BADLY:
            self.damping *= 2
