"""A fitted estimator as a plain torch module: scaling, network, and what predict does with it."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_metakan.estimators._scaling import InputScaler, TargetScaler
from sklearn_metakan.nn import KANNetwork, frozen


class ScaledInputs(nn.Module):
    """``InputScaler.transform``: a piecewise linear function for each column.

    Shape
    -----
    (n, d) -> (n, d), in the dtype of its buffers: float64, as in the estimator.
    """

    points: Tensor
    values: Tensor
    slopes: Tensor
    last_piece: Tensor

    def __init__(self, scaler: InputScaler) -> None:
        super().__init__()
        columns = list(zip(scaler.points_, scaler.values_, strict=True))
        longest = max(len(points) for points, _ in columns)
        slopes = [np.diff(values) / np.diff(points) for points, values in columns]
        self.register_buffer("points", _padded([p for p, _ in columns], longest, np.inf))
        self.register_buffer("values", _padded([v for _, v in columns], longest, 0.0))
        self.register_buffer("slopes", _padded(slopes, longest, 0.0))
        last = [[len(points) - 2] for points, _ in columns]
        self.register_buffer("last_piece", torch.tensor(last))

    def forward(self, x: Tensor) -> Tensor:
        columns = x.to(self.points.dtype).T.contiguous()
        piece = torch.searchsorted(self.points, columns, right=True) - 1
        piece = torch.minimum(piece.clamp(min=0), self.last_piece)
        left, value, slope = (t.gather(1, piece) for t in (self.points, self.values, self.slopes))
        return (value + (columns - left) * slope).T


def _padded(rows: list[np.ndarray], length: int, filler: float) -> Tensor:
    table = np.full((len(rows), length), filler)
    for row, numbers in zip(table, rows, strict=True):
        row[: len(numbers)] = numbers
    return torch.from_numpy(table)


class TargetUnits(nn.Module):
    """Outputs of a regressor's network -> predictions in the target's units.

    ``scale * f + location`` with f the output, or its exponential under a log link.

    Shape
    -----
    (n, n_outputs) -> (n, n_outputs), or (n,) for a target that came as one column.
    """

    scale: Tensor
    location: Tensor

    def __init__(self, scaler: TargetScaler, log_link: bool, one_dimensional: bool) -> None:
        super().__init__()
        self.log_link, self.one_dimensional = log_link, one_dimensional
        self.register_buffer("scale", torch.from_numpy(np.array(scaler.scale_)))
        self.register_buffer("location", torch.from_numpy(np.array(scaler.location_)))

    def forward(self, outputs: Tensor) -> Tensor:
        outputs = outputs.exp() if self.log_link else outputs
        y = outputs * self.scale + self.location
        return y[:, 0] if self.one_dimensional else y


class Probabilities(nn.Module):
    """Logits -> probabilities of the classes, at least the smallest normal number.

    Shape
    -----
    (n, 1) -> (n, 2) for two classes, whose first logit is 0; else (n, k) -> (n, k).
    """

    def forward(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits.softmax(1).clamp(min=torch.finfo(logits.dtype).tiny)


class TorchPredictor(nn.Module):
    """What ``to_torch`` returns: ``head(network(inputs(x)))``, in x's dtype, or float64 if wide.

    Shape
    -----
    What ``fit`` takes -> what ``predict`` or ``predict_proba`` returns. For x of whole
    numbers, the result has the network's dtype.
    """

    def __init__(
        self, inputs: nn.Module, network: KANNetwork, head: nn.Module, wide: bool = False
    ) -> None:
        super().__init__()
        self.wide = wide
        parameter = next(network.parameters())
        self.inputs = inputs.to(parameter.device)
        self.network = frozen(deepcopy(network))
        self.head = head.to(parameter.device)

    def forward(self, x: Tensor) -> Tensor:
        inner = next(self.network.parameters()).dtype
        outer = x.dtype if x.is_floating_point() else inner
        outputs = self.network(self.inputs(x).to(inner)).to(outer)
        return self.head(outputs).to(torch.float64 if self.wide else outer)
