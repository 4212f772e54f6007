"""Losses by row, and what turns a network's outputs into predictions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class PinballLoss(nn.Module):
    """``max(q (y - f), (q - 1) (y - f))``: its minimiser is the q-th quantile, 0 < q < 1."""

    def __init__(self, quantile: float) -> None:
        super().__init__()
        self.quantile = quantile

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        error = target - outputs
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error)


REGRESSION_LOSSES: dict[str, Callable[[float], nn.Module]] = {
    "squared_error": lambda quantile: nn.MSELoss(reduction="none"),
    "absolute_error": lambda quantile: nn.L1Loss(reduction="none"),
    "huber": lambda quantile: nn.HuberLoss(reduction="none", delta=1.0),
    "quantile": PinballLoss,
    "poisson": lambda quantile: nn.PoissonNLLLoss(log_input=True, reduction="none"),
}


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows (first axis, others averaged); weights have mean one over the table."""
    if losses.dim() > 1:
        losses = losses.flatten(1).mean(1)
    return losses.mean() if weight is None else (losses * weight).mean()


def weighted_r2(target: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """R2 averaged over outputs; 0 where the target is constant."""
    weight = torch.ones(len(target)).to(target) if weight is None else weight
    weight = (weight / weight.sum())[:, None]
    target, prediction = target.reshape(len(target), -1), prediction.reshape(len(target), -1)
    total = (weight * (target - (weight * target).sum(0)) ** 2).sum(0)
    residual = (weight * (target - prediction) ** 2).sum(0)
    scores = torch.where(total > 0, 1 - residual / total, torch.zeros_like(total))
    return float(scores.mean())


def weighted_accuracy(target: Tensor, label: Tensor, weight: Tensor | None) -> float:
    hit = (target == label).double()
    return float(hit.mean() if weight is None else (hit * weight).sum() / weight.sum())
