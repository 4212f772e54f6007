"""Weights of losses that are renewed in training, from the gradients of each."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_metakan.pde.derivatives.push import modules_in_order
from sklearn_metakan.pde.physics.attention import Attention
from sklearn_metakan.pde.physics.physics import EQUATION, Batch, Physics
from sklearn_metakan.pde.solve.least_squares import LeastSquares

RENEWED = ("balanced", "gradient", "ntk")
BY_POINT = tuple(Attention.RULES)
_ROWS = 256  # of a term, whose gradients tell of all


def measured(rule: str, physics: Physics, batch: tuple[Batch, int]) -> dict[str, float]:
    """What each loss is divided by, and under "" what all are then multiplied with.

    - "balanced": the norm of its gradient; the sum of all norms.
    - "gradient": the mean of its gradient's absolute values; the largest absolute value of the
      gradient of the equation's losses together. These keep the weight 1.
    - "ntk": the mean square, over points, of the gradient of a misfit, which is the trace of its
      tangent kernel over the number of points; the sum over all losses.

    Sources: Wang, Sankaran, Wang, Perdikaris, "An expert's guide to training PINNs" (2023),
    equation 2.13; Wang, Teng, Perdikaris, "Understanding and mitigating gradient pathologies in
    PINNs" (2021), algorithm 1; Wang, Yu, Perdikaris, "When and why PINNs fail to train: a neural
    tangent kernel perspective" (2022), algorithm 1.
    """
    trained = [p for p in physics.parameters() if p.requires_grad]
    if rule == "ntk":
        found = _traces(physics, batch[0], trained)
        return {**found, "": sum(found.values())}
    slopes = {name: _slope(loss, trained) for name, loss in physics(*batch).items()}
    if rule == "balanced":
        found = {name: float(slope.norm()) for name, slope in slopes.items()}
        return {**found, "": sum(found.values())}
    of_equation = [name for name in slopes if name not in batch[0] or name == EQUATION]
    top = float(torch.stack([slopes[name] for name in of_equation]).sum(0).abs().max())
    found = {name: float(slope.abs().mean()) for name, slope in slopes.items()}
    return {**found, **dict.fromkeys(of_equation, top), "": top}


def _slope(loss: Tensor, trained: Sequence[Tensor]) -> Tensor:
    parts = torch.autograd.grad(loss, trained, retain_graph=True, materialize_grads=True)
    return torch.cat([part.double().flatten() for part in parts])


def _traces(physics: Physics, batch: Batch, trained: Sequence[Tensor]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    with physics.exact():
        for term, sets in batch.items():
            few = [(x[:_ROWS], None if n is None else n[:_ROWS]) for x, n in sets]
            squares = LeastSquares(physics, {term: few}, lambda _: 1.0, trained)
            columns = [name for name, r in squares.misfits[term].items() for _ in _columns(r)]
            rows = slice(0, len(few[0][0]))
            for name, (_, _, jacobian) in zip(columns, squares.linearised(term, rows), strict=True):
                rate = jacobian.mean(0, keepdim=True) if physics.is_mean(term) else jacobian
                sums.setdefault(name, []).append(float(rate.square().sum(1).mean()))
    return {name: sum(each) / len(each) for name, each in sums.items()}


def _columns(r: Tensor) -> range:
    return range(r.numel() // len(r))


def check_weights(rule: object, physics: Physics) -> None:
    """Raise a ValueError where the gradients of single points are not to be had."""
    if rule == "ntk" and (physics.calls_u or modules_in_order(physics.trial.network) is None):
        raise ValueError(
            "loss_weights='ntk' needs every point's own gradients, of KAN and linear layers and of "
            "derivatives from the field, u.d(...). Set loss_weights='gradient' or 'balanced'."
        )
