"""Numbers to predict: losses, scaling, and predictions made of a network's outputs."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators.inputs.rows import FittedModule, Rows
from sklearn_metakan.estimators.inputs.table import mean_and_spread, weighted_quantiles

_NORMAL_MIDDLE = 1.349  # quartile to quartile, in standard deviations of a normal distribution
_LARGEST = 1e307  # beyond it, predictions a little larger would overflow
_ROWS = 2**16  # that are scored at a time
_FARTHEST = 1e-30  # least scale beside the range; its root where losses are squared
_FINE = 1e-3  # share of a target's spread that rounding may be


class PinballLoss(nn.Module):
    """``max(q (y - f), (q - 1) (y - f))``: its minimiser is the q-th quantile, 0 < q < 1."""

    def __init__(self, quantile: float) -> None:
        super().__init__()
        self.quantile = quantile

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        error = target - outputs
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error)


# By row; and how the target is scaled for each: by mean and standard deviation; by median and
# quartiles, which outliers do not move; by the mean.
LOSSES: dict[str, tuple[Callable[..., nn.Module], Literal["standard", "robust", "mean"]]] = {
    "squared_error": (partial(nn.MSELoss, reduction="none"), "standard"),
    "absolute_error": (partial(nn.L1Loss, reduction="none"), "robust"),
    "huber": (partial(nn.HuberLoss, reduction="none", delta=1.0), "robust"),
    "quantile": (PinballLoss, "robust"),
    "poisson": (partial(nn.PoissonNLLLoss, log_input=True, reduction="none"), "mean"),
}


def weighted_r2(target: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """R2 averaged over outputs, in float64, some rows at a time; 0 where the target is constant."""
    n = len(target)
    weights = (torch.ones(n).to(target) if weight is None else weight).split(_ROWS)
    rows = [*zip(target.view(n, -1).split(_ROWS), prediction.view(n, -1).split(_ROWS), strict=True)]

    def mean(values: Iterable[Tensor]) -> Tensor:
        sums = [w.double() @ each for w, each in zip(weights, values, strict=True)]
        return torch.stack(sums).sum(0) / torch.stack([w.double().sum() for w in weights]).sum()

    middle = mean(y.double() for y, _ in rows)
    total = mean((y.double() - middle) ** 2 for y, _ in rows)
    residual = mean((y.double() - f.double()) ** 2 for y, f in rows)
    scores = torch.where(total > 0, 1 - residual / total, torch.zeros_like(total))
    return float(scores.mean())


class NumberTarget(FittedModule):
    """``y = scale f + location``, f an output of the network or, for "poisson", its exponential.

    A target that is constant in all rows so far is predicted as it is.

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson"}
    quantile : float
    scaled : bool
        Whether location and scale follow the target; else they are 0 and 1.

    Attributes
    ----------
    location_, scale_ : ndarray of shape (n_outputs,)
    n_outputs_ : int

    Shape
    -----
    Outputs (n, n_outputs) or (n, n_members, n_outputs) -> predictions (n, n_outputs), or (n,) for a
    target that came as one column; of several members the mean.
    """

    is_numeric: ClassVar[bool] = True
    arguments: ClassVar[tuple[str, ...]] = ("loss", "quantile", "scale_target")
    validation: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    location: Tensor
    scale: Tensor
    constant: Tensor
    level: Tensor

    def __init__(
        self, loss: str = "squared_error", quantile: float = 0.5, scaled: bool = True
    ) -> None:
        super().__init__()
        self.loss, self.quantile, self.scaled = loss, quantile, scaled
        self.link: str | None = None
        self.is_1d, self.n_outputs_, self.n_network_outputs = True, 0, 0

    def follow(self, estimator: Any) -> "NumberTarget":
        """The same for training that goes on: loss and quantile may change."""
        target = NumberTarget.__new__(NumberTarget)
        target.__setstate__(self.__getstate__())
        target.loss, target.quantile = estimator.loss, estimator.quantile
        return target

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it."""
        return {"n_outputs_": self.n_outputs_}

    def encode(self, y: NDArray[Any], classes: Any = None) -> NDArray[np.float64]:
        """Validated numbers as (n, n_outputs).

        Raises
        ------
        ValueError
            For numbers that the loss cannot have, or another number of outputs than before.
        """
        link = "log" if self.loss == "poisson" else "identity"
        if self.link not in (None, link):
            raise ValueError(
                f"Training that goes on (warm_start, partial_fit) cannot change loss to "
                f"{self.loss!r}: only 'poisson' models log(y). Call fit with warm_start=False."
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if self.link is not None and n_outputs != self.n_outputs_:
            raise ValueError(
                f"y has {n_outputs} outputs, but the estimator was fitted with {self.n_outputs_}."
            )
        if self.link is None:
            self.link, self.is_1d = link, y.ndim == 1
            self.n_outputs_ = self.n_network_outputs = n_outputs
        y = y.reshape(len(y), n_outputs).astype(np.float64)
        if len(y) and (largest := np.abs(y).max()) > _LARGEST:
            raise ValueError(
                f"y holds numbers as large as {largest:.2e}, beside which predictions could not be "
                f"held; divide it, so that they are at most {_LARGEST:g}."
            )
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(
                f"loss='poisson' needs y >= 0, got a smallest value of {y.min():g}. Use "
                "loss='squared_error' for such targets."
            )
        if "constant" in self._buffers:
            self.constant &= torch.from_numpy((y == self.level.numpy()).all(0))
        return y

    def fit(self, rows: Rows) -> Self:
        """Weighted statistics of each output."""
        y, kind = rows.y, LOSSES[self.loss][1] if self.scaled else None
        mean, spread = mean_and_spread(y, rows.weight)
        location, scale = np.zeros_like(mean), np.ones_like(mean)
        if kind == "robust":
            low, location, high = weighted_quantiles(y.T, rows.weight, [0.25, 0.5, 0.75])
            middle = (high - low) / _NORMAL_MIDDLE
            spread = np.where(middle > 1e-12 * np.abs(location), middle, spread)
        elif kind == "standard":
            location = mean
        if kind in ("robust", "standard"):
            size = np.abs(location)
            alone = np.where(size > 0, np.minimum(size, 1.0), 1.0)  # noise stays small beside it
            scale = np.where(spread > 1e-12 * np.abs(mean), spread, alone)
        elif kind == "mean":
            scale = np.where(mean > 0, mean, 1.0)
        if kind is not None:  # whatever weights say, the loss of every row can be held
            reach = y.max(0) / 2 - y.min(0) / 2
            scale = np.maximum(scale, reach * (_FARTHEST if kind == "robust" else _FARTHEST**0.5))
        constant = (y == y[0]).all(0)
        if kind in ("robust", "standard"):
            location = np.where(constant, y[0], location)  # the mean of equal numbers is rounded
        self.set_buffers(location=location, scale=scale, constant=constant, level=y[0])
        limits = np.finfo(np.float32)
        fine = limits.eps * np.abs(location) <= _FINE * scale
        reaches = np.maximum(np.abs(location), scale) <= _FINE * limits.max
        # Whether float32 could not tell the target's values apart, or not reach them.
        self.wide = not (fine & reaches & (scale >= limits.tiny / _FINE)).all()
        return self

    @property
    def location_(self) -> NDArray[np.float64]:
        return self.location.numpy()

    @property
    def scale_(self) -> NDArray[np.float64]:
        return self.scale.numpy()

    def transform(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """``(y - location) / scale``, for y of shape (n, n_outputs)."""
        return (np.asarray(y, dtype=np.float64) - self.location_) / self.scale_

    def inverse_transform(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """The inverse of ``transform``."""
        return y * self.scale_ + self.location_

    def tensor(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Targets of the loss (n, n_outputs)."""
        return (torch.from_numpy(rows.y) - self.location).div_(self.scale).to(device, dtype)

    def criterion(self) -> nn.Module:
        """The loss by row."""
        arguments = {"quantile": self.quantile} if self.loss == "quantile" else {}
        return LOSSES[self.loss][0](**arguments)

    def weights(
        self, y: NDArray[Any], weight: NDArray[Any] | None, estimator: Any
    ) -> NDArray[Any] | None:
        """Weights of the rows, with those that their targets give them."""
        return weight

    def hold_out(
        self, y: NDArray[Any], fraction: float, seed: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Training and validation rows; at least one of each."""
        return split(np.arange(len(y)), fraction, seed)

    def score(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        """R2 of the network's outputs for scaled targets."""
        return weighted_r2(target, self._linked(outputs), weight)

    def forward(self, outputs: Tensor) -> Tensor:
        found = self._linked(outputs)
        found = found.mean(1) if outputs.dim() == 3 else found  # before units: exact where they are
        y = torch.where(self.constant, self.level, found * self.scale + self.location)
        return self._as_target(y, outputs)

    def deviations(self, outputs: Tensor) -> Tensor:
        """Standard deviation of the members' predictions, for outputs (n, n_members, n_outputs)."""
        spread = self._linked(outputs).std(1, correction=0) * self.scale
        return self._as_target(torch.where(self.constant, 0.0, spread), outputs)

    def _linked(self, outputs: Tensor) -> Tensor:
        return outputs.exp() if self.link == "log" else outputs

    def _as_target(self, y: Tensor, outputs: Tensor) -> Tensor:
        y = y.to(torch.float64 if self.wide else outputs.dtype)
        return y[:, 0] if self.is_1d else y

    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """What ``predict`` gives."""
        return self(outputs).numpy()

    def decode(self, target: NDArray[Any]) -> NDArray[Any]:
        """From targets of the loss back to the user's, (n,) or (n, n_outputs)."""
        y = self.inverse_transform(target.astype(np.float64))
        return y[:, 0] if self.is_1d else y


def split(
    rows: NDArray[np.intp], fraction: float, seed: int, labels: NDArray[Any] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of training and of validation, at least one each; stratified by labels."""
    held_out = min(max(1, round(fraction * len(rows))), len(rows) - 1)
    train, valid = train_test_split(rows, test_size=held_out, random_state=seed, stratify=labels)
    return train, valid
