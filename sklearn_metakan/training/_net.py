"""The one skorch net: tensor batches, losses read once an epoch, a clean interrupt."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.utils import FirstStepAccumulator
from torch import Tensor

from sklearn_metakan.training._callbacks import StopTraining
from sklearn_metakan.training._data import BatchIterator, TensorData
from sklearn_metakan.training._losses import weighted_mean

Score = Callable[[Tensor, Tensor, Tensor | None], float]


class _LastStep(FirstStepAccumulator):
    """Keeps the last evaluation of a step: for L-BFGS, that of the accepted point."""

    def store_step(self, step: dict[str, Tensor]) -> None:
        self.step = step


class KANNet(NeuralNet):
    """skorch's NeuralNet over ``TensorData``.

    Differences: batches are slices of tensors; the criterion gives a loss by row, which is
    weighted and averaged here; losses stay on the device and are read once an epoch; the
    validation predictions of an epoch are scored; neither training nor initialisation
    moves a global generator.

    Parameters beyond skorch's
    --------------------------
    shuffle_seed : int
    score : callable (target, outputs, weight) -> float
        Recorded as ``valid_score`` after each epoch with validation data.
    penalty : float
        Adds ``0.5 * penalty * |parameters|^2`` to the training loss.
    """

    def __init__(
        self,
        *args: Any,
        shuffle_seed: int = 0,
        score: Score | None = None,
        penalty: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.shuffle_seed, self.score, self.penalty = shuffle_seed, score, penalty
        self.asked_: dict[str, Any] = {}  # the training parameters it was made for

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return []

    def fit_on(self, data: TensorData, validation: TensorData | None = None) -> "KANNet":
        """Train the initialised module for ``max_epochs`` more epochs."""
        self.validation_ = validation
        self.generator_ = torch.Generator().manual_seed(self.shuffle_seed)
        return self.partial_fit(data)

    def get_split_datasets(
        self, X: TensorData, y: Any = None, **fit_params: Any
    ) -> tuple[TensorData, TensorData | None]:
        return X, self.validation_

    def get_iterator(self, dataset: TensorData, training: bool = False) -> BatchIterator:
        generator = self.generator_ if training else None
        return BatchIterator(dataset, min(self.batch_size, len(dataset)), generator)

    def fit_loop(self, X: TensorData, y: Any = None, **kwargs: Any) -> "KANNet":
        try:
            super().fit_loop(X, y, **kwargs)
        except StopTraining:
            pass
        except KeyboardInterrupt:
            self._drop_unfinished_epoch()
            if not self._stopped_by_callback():
                warnings.warn(
                    f"Interrupted after {len(self.history)} iterations: the estimator is "
                    "fitted with the weights so far.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        return self

    def _drop_unfinished_epoch(self) -> None:
        last = "train_loss" if self.validation_ is None else "valid_loss"
        if self.history and last not in self.history[-1]:
            self.history.pop()

    def _stopped_by_callback(self) -> bool:
        """skorch's EarlyStopping ends training by a KeyboardInterrupt of its own."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience
            for _, callback in self.callbacks_
        )

    def run_single_epoch(
        self,
        iterator: BatchIterator | None,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Tensor]],
        **fit_params: Any,
    ) -> None:
        if iterator is None:
            return
        total, outputs = torch.zeros((), device=self.device), []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            total = total + step["loss"].detach() * len(batch[0])
            if not training:
                outputs.append(step["y_pred"])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        data = iterator.data
        self.history.record(f"{prefix}_loss", float(total) / len(data))
        if not training and self.score is not None:
            self.history.record(
                f"{prefix}_score", self.score(data.y, torch.cat(outputs), data.weight)
            )

    def get_train_step_accumulator(self) -> FirstStepAccumulator:
        return _LastStep()

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: tuple[Tensor, Tensor | None],
        X: Any = None,
        training: bool = False,
    ) -> Tensor:
        target, weight = y_true
        loss = weighted_mean(self.criterion_(y_pred, target), weight)
        if training and self.penalty:
            squares = sum(parameter.pow(2).sum() for parameter in self.module_.parameters())
            loss = loss + 0.5 * self.penalty * squares
        return loss
