"""A user's own loss for numbers, by row and in the target's units."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_TRIED = 4096  # rows, evenly spread, on which a loss is tried out

Loss = Callable[[Tensor, Tensor], Tensor]


class OwnLoss(nn.Module):
    """``loss(scale f + location, y) / unit`` for outputs f of the network, in float64.

    Parameters
    ----------
    function : callable (prediction, target) -> Tensor of shape (n,)
        Both (n,) for a target of one column, else (n, n_outputs).
    location, scale : Tensor of shape (n_outputs,)
    is_1d : bool
        Whether the target is one column.
    unit : float
        What losses are divided by, so that those of training are of order one.

    Shape
    -----
    Outputs (n, n_outputs), target in its units (n, n_outputs) -> (n,), in the outputs' dtype.
    """

    location: Tensor
    scale: Tensor

    def __init__(
        self, function: Loss, location: Tensor, scale: Tensor, is_1d: bool, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.function, self.is_1d, self.unit = function, is_1d, unit
        self.register_buffer("location", location)
        self.register_buffer("scale", scale)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        found = self.of_rows(outputs.double() * self.scale + self.location, target.double())
        return (found / self.unit).to(outputs.dtype)

    def of_rows(self, prediction: Tensor, target: Tensor) -> Tensor:
        """What the function gives, (n,); both (n, n_outputs) in the target's units.

        Raises ValueError if that is anything else than one number a row.
        """
        if self.is_1d:
            prediction, target = prediction[:, 0], target[:, 0]
        found = self.function(prediction, target)
        if not isinstance(found, Tensor) or found.shape != target.shape[:1]:
            what = type(found).__name__
            if isinstance(found, Tensor):
                what = f"a tensor of shape {tuple(found.shape)}"
            raise ValueError(
                "loss must give a torch tensor with one number for each row, of shape "
                f"({len(target)},) for a prediction of shape {tuple(target.shape)}, got {what}. "
                "Leave sums and means over rows out, and take those over outputs with mean(1)."
            )
        return found

    def tried(self, y: NDArray[np.float64], weight: NDArray[np.float64] | None) -> "OwnLoss":
        """The same, with the mean size of the losses of a constant prediction as their unit.

        Raises ValueError for losses that are no finite numbers, or do not depend on the prediction.

        Parameters
        ----------
        y : ndarray of shape (n, n_outputs)
        weight : ndarray of shape (n,) or None
        """
        spread = slice(None, None, -(-len(y) // _TRIED))
        some = torch.from_numpy(y[spread])
        with torch.enable_grad():
            prediction = self.location.expand(some.shape).clone().requires_grad_()
            found = self.of_rows(prediction, some)
        if not found.requires_grad:
            raise ValueError(
                "loss does not depend on the prediction through torch, so that there is nothing to "
                "train by. Compute it with torch's functions alone."
            )
        (slope,) = torch.autograd.grad(found.sum(), prediction)
        bad = ~(found.isfinite() & slope.isfinite().all(1))
        if bad.any():
            row = int(bad.double().argmax())
            raise ValueError(
                f"loss gives {float(found.detach()[row]):g} for the prediction "
                f"{_shown(prediction[row])} and the target {_shown(some[row])}, with the slope "
                f"{_shown(slope[row])}; both must be finite there, since training begins near the "
                "target's mean."
            )
        sizes = found.detach().abs().numpy()
        unit = float(np.average(sizes, weights=None if weight is None else weight[spread]))
        unit = unit if 0 < unit < np.inf else 1.0
        return OwnLoss(self.function, self.location, self.scale, self.is_1d, unit)


def _shown(values: Tensor) -> Any:
    listed = [float(f"{value:.6g}") for value in values.tolist()]
    return listed[0] if len(listed) == 1 else listed
