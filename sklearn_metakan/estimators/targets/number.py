"""Numbers to predict: losses, scaling, and predictions made of a network's outputs."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.scaling import (
    FittedModule,
    mean_and_spread,
    weighted_quantiles,
)
from sklearn_metakan.estimators.targets.intervals import HeldOutErrors, held_out_errors
from sklearn_metakan.estimators.targets.own_loss import Loss, OwnLoss
from sklearn_metakan.training import TensorData

_NORMAL_MIDDLE = 1.349  # quartile to quartile, in standard deviations of a normal distribution
_LARGEST = 1e307  # beyond it, predictions a little larger would overflow
_ROWS = 2**16  # that are scored at a time
_FARTHEST = 1e-30  # least scale beside the range; its root where losses are squared
_FINE = 1e-3  # share of a target's spread that rounding may be


class PinballLoss(nn.Module):
    """``max(q (y - f), (q - 1) (y - f))``: its minimiser is the q-th quantile, 0 < q < 1.

    Of several quantiles in rising order, an output has as many numbers, which are sorted, so that
    they never cross.

    Shape
    -----
    Outputs (n, n_outputs * n_quantiles), target (n, n_outputs) -> (n, n_outputs, n_quantiles).
    """

    quantiles: Tensor

    def __init__(self, quantiles: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("quantiles", torch.tensor(quantiles, dtype=torch.float64))

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        error = target[..., None] - by_level(outputs, len(self.quantiles))
        quantiles = self.quantiles.to(error.dtype)
        return torch.maximum(quantiles * error, (quantiles - 1) * error)


def by_level(outputs: Tensor, n_levels: int) -> Tensor:
    """(..., n_outputs * n_levels) -> (..., n_outputs, n_levels), rising along the last axis."""
    split = outputs.unflatten(-1, (-1, n_levels))
    return split if n_levels == 1 else split.sort(-1)[0]


# By row; and how the target is scaled for each: by mean and standard deviation; by median and
# quartiles, which outliers do not move; by the mean.
LOSSES: dict[str, tuple[Callable[..., nn.Module], Literal["standard", "robust", "mean"]]] = {
    "squared_error": (partial(nn.MSELoss, reduction="none"), "standard"),
    "absolute_error": (partial(nn.L1Loss, reduction="none"), "robust"),
    "huber": (partial(nn.HuberLoss, reduction="none", delta=1.0), "robust"),
    "quantile": (PinballLoss, "robust"),
    "poisson": (partial(nn.PoissonNLLLoss, log_input=True, reduction="none"), "mean"),
}

_OWN = "own"  # in files, in the place of a function


def weighted_r2(target: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """R2 averaged over outputs, in float64, some rows at a time; 0 where the target is constant."""
    n = len(target)
    weights = (torch.ones(n).to(target) if weight is None else weight).split(_ROWS)
    rows = [
        *zip(
            target.reshape(n, -1).split(_ROWS), prediction.reshape(n, -1).split(_ROWS), strict=True
        )
    ]

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
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson"} or callable
        A function of prediction and target, see ``OwnLoss``; pickles of the target say "own".
    quantile : float or sequence of float
        Of "quantile"; several are predicted side by side.
    scaled : bool
        Whether location and scale follow the target; else they are 0 and 1.

    Attributes
    ----------
    location_, scale_ : ndarray of shape (n_outputs,)
    n_outputs_ : int

    Shape
    -----
    Outputs (n, n_outputs) or (n, n_members, n_outputs) -> predictions (n, n_outputs), or (n,) for a
    target that came as one column; of several members the mean. With several quantiles outputs
    have n_outputs * n_quantiles columns, and predictions one axis more, n_quantiles.
    """

    is_numeric: ClassVar[bool] = True
    arguments: ClassVar[tuple[str, ...]] = ("loss", "quantile", "scale_target")
    validation: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    n_levels = 1  # quantiles of an output
    location: Tensor
    scale: Tensor
    constant: Tensor
    level: Tensor

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        quantile: float | Sequence[float] = 0.5,
        scaled: bool = True,
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
        asked = len(_levels(target.quantile)) if target.loss == "quantile" else 1
        if (self.has_levels, self.n_levels) != (target.has_levels, asked):
            raise ValueError(
                "Training that goes on (warm_start, partial_fit) cannot change how many quantiles "
                "there are; call fit with warm_start=False."
            )
        return target

    def __getstate__(self) -> dict[str, Any]:
        loss = self.loss if isinstance(self.loss, str) else _OWN
        return super().__getstate__() | {"loss": loss}

    @property
    def has_levels(self) -> bool:
        """Whether predictions have an axis of quantiles."""
        return self.loss == "quantile" and np.ndim(self.quantile) > 0

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it."""
        return {"n_outputs_": self.n_outputs_}

    def encode(self, y: NDArray[Any], classes: Any = None) -> NDArray[np.float64]:
        """Validated numbers as (n, n_outputs).

        Raises ValueError for numbers that the loss cannot have, or another number of outputs than
        before.
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
            if self.loss == "quantile":
                self.n_levels = len(_levels(self.quantile))
            self.n_outputs_, self.n_network_outputs = n_outputs, n_outputs * self.n_levels
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
        y, kind = rows.y, None
        if self.scaled:
            kind = LOSSES[self.loss][1] if isinstance(self.loss, str) else "standard"
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
            location = np.where(constant, y[0], location)  # a mean is rounded
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
        """Targets of the loss (n, n_outputs): scaled, or as they are for a loss of the user's.

        Made some rows at a time.
        """
        if not isinstance(self.loss, str):
            return torch.from_numpy(rows.y).to(device)
        found = torch.empty(rows.y.shape, device=device, dtype=dtype)
        for part, y in zip(found.split(_ROWS), torch.from_numpy(rows.y).split(_ROWS), strict=True):
            part.copy_((y - self.location).div_(self.scale))
        return found

    def criterion(self, rows: Rows | None = None) -> nn.Module:
        """The loss by row; one of the user's is tried on these rows."""
        if not isinstance(self.loss, str):
            own = OwnLoss(self.loss, self.location, self.scale, self.is_1d)
            return own if rows is None else own.tried(rows.y, rows.weight)
        arguments = {"quantiles": _levels(self.quantile)} if self.loss == "quantile" else {}
        return LOSSES[self.loss][0](**arguments)

    @property
    def middle(self) -> int:
        """The position of the quantile nearest to the median, which is scored."""
        if not self.has_levels:
            return 0
        return int(np.abs(np.subtract(_levels(self.quantile), 0.5)).argmin())

    def score(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        """R2 of the network's outputs for scaled targets; of several quantiles, of the middle."""
        linked = self._linked(outputs)[..., self.middle]
        if not isinstance(self.loss, str):
            target = (target - self.location.to(target)) / self.scale.to(target)
        return weighted_r2(target, linked, weight)

    def forward(self, outputs: Tensor) -> Tensor:
        found = self._linked(outputs)
        found = found.mean(1) if outputs.dim() == 3 else found  # before units: exact where they are
        return self._as_target(self._in_units(found), outputs)

    def deviations(self, outputs: Tensor) -> Tensor:
        """Standard deviation of the members' predictions, for outputs (n, n_members, n_outputs)."""
        spread = self._linked(outputs).std(1, correction=0) * self.scale[:, None]
        return self._as_target(torch.where(self.constant[:, None], 0.0, spread), outputs)

    def by_member(self, outputs: Tensor) -> Tensor:
        """Predictions of each member, in float64: (n, n_members, n_outputs, n_quantiles or 1)."""
        found = self._linked(outputs if outputs.dim() == 3 else outputs[:, None])
        return self._in_units(found.double())

    def _ends(self, outputs: Tensor) -> Tensor:
        """Of each member the predictions, or the lowest and the highest quantile."""
        found = self.by_member(outputs)
        return found[..., [0, -1]] if self.has_levels else found

    def errors(self, outputs: Tensor, data: TensorData) -> HeldOutErrors:
        """Of held-out rows, from the network's outputs for them."""
        y = data.y.cpu().double()
        y = y * self.scale + self.location if isinstance(self.loss, str) else y
        own = (None if each is None else each.cpu() for each in (data.counts, data.row_weight))
        return held_out_errors(y, lambda some: self._ends(outputs[some]), *own)

    def intervals(
        self, outputs: Tensor, errors: HeldOutErrors, alpha: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper ends of prediction intervals, as predictions are shaped."""
        centre, shifts = self._ends(outputs).mean(1), errors.ends(alpha)
        bounds = torch.stack([centre[..., 0] + shifts[0], centre[..., -1] + shifts[1]])
        bounds = bounds.to(torch.float64 if self.wide else outputs.dtype)
        low, high = bounds[..., 0] if self.is_1d else bounds
        return low.numpy(), high.numpy()

    def _linked(self, outputs: Tensor) -> Tensor:
        """(..., n_outputs, n_quantiles), or 1 in the place of the last."""
        return by_level(outputs.exp() if self.link == "log" else outputs, self.n_levels)

    def _in_units(self, found: Tensor) -> Tensor:
        units = found * self.scale[:, None] + self.location[:, None]
        return torch.where(self.constant[:, None], self.level[:, None], units)

    def _as_target(self, y: Tensor, outputs: Tensor) -> Tensor:
        y = y.to(torch.float64 if self.wide else outputs.dtype)
        y = y if self.has_levels else y[..., 0]
        return y[:, 0] if self.is_1d else y

    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """What ``predict`` gives."""
        return self(outputs).numpy()

    def decode(self, target: NDArray[Any]) -> NDArray[Any]:
        """From targets of the loss back to the user's, (n,) or (n, n_outputs)."""
        y = target.astype(np.float64)
        y = self.inverse_transform(y) if isinstance(self.loss, str) else y
        return y[:, 0] if self.is_1d else y


def _levels(quantile: float | Sequence[float]) -> tuple[float, ...]:
    """One quantile or several; raises a ValueError unless they rise within (0, 1)."""
    levels = tuple(np.asarray(quantile, dtype=np.float64).ravel().tolist())
    ends = np.r_[0.0, levels, 1.0]
    if not len(levels) or np.ndim(quantile) > 1 or not (np.diff(ends) > 0).all():
        raise ValueError(
            f"quantile must be a number in (0, 1), or several that rise, got {quantile!r}."
        )
    return levels
