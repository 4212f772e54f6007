"""The one skorch net: tensor batches, losses read once an epoch, a clean interrupt."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.utils import FirstStepAccumulator
from torch import Tensor

from sklearn_metakan.training._callbacks import StopTraining, warn_caller
from sklearn_metakan.training._capturable import check_cuda_graph, is_captured
from sklearn_metakan.training._cuda_graph import CapturedStep
from sklearn_metakan.training._data import Batch, BatchIterator, TensorData
from sklearn_metakan.training._losses import weighted_mean
from sklearn_metakan.training._memory import Frugal, advice_when_full, parts

Score = Callable[[Tensor, Tensor, Tensor | None], float]
_ROWS_TRIED = 64


class _LastStep(FirstStepAccumulator):
    """Keeps the last evaluation of a step: for L-BFGS, that of the accepted point."""

    def store_step(self, step: dict[str, Tensor]) -> None:
        self.step = step


class KANNet(NeuralNet):
    """skorch's NeuralNet over ``TensorData``.

    Differences: batches are slices of tensors; the criterion gives a loss by row, which is
    weighted and averaged here; losses stay on the device and are read once an epoch; the
    validation predictions of an epoch are scored; neither training nor initialisation
    moves a global generator; on CUDA, steps are replays of a captured one where that is
    possible, and what does not fit into memory is computed in parts.

    Parameters beyond skorch's
    --------------------------
    shuffle_seed : int
    score : callable (target, outputs, weight) -> float
        Recorded as ``valid_score`` after each epoch with validation data.
    penalty : float
        Adds ``0.5 * penalty * |parameters|^2`` to the training loss.
    cuda_graph : {"auto", True, False}
        Whether training steps become CUDA graphs, after a few that warm up. "auto": with
        AdamW on CUDA, without callbacks for each batch, if at least 20 full batches follow.
        True raises a ValueError where it is impossible. A callback that is called once an
        epoch may change learning rates, other settings of the optimiser, and what is trained.
    """

    def __init__(
        self,
        *args: Any,
        shuffle_seed: int = 0,
        score: Score | None = None,
        penalty: float = 0.0,
        cuda_graph: Literal["auto", True, False] = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_cuda_graph(cuda_graph)
        self.shuffle_seed, self.score, self.penalty = shuffle_seed, score, penalty
        self.cuda_graph = cuda_graph
        self.asked_: dict[str, Any] = {}  # the training parameters it was made for
        self.captured_: CapturedStep | None = None  # while it trains
        self.replayed_ = False  # whether it was used last time
        self.interrupted_ = False  # whether the user ended the last training
        self.frugal_ = Frugal()

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return []

    def fit_on(self, data: TensorData, validation: TensorData | None = None) -> "KANNet":
        """Train the initialised module for ``max_epochs`` more epochs."""
        self.validation_, self.interrupted_ = validation, False
        self.generator_ = torch.Generator().manual_seed(self.shuffle_seed)
        self._check_monitors()
        self.captured_ = self._captured(data)
        remedy = "Lower hidden_layer_sizes or grid_size, free what others hold on the card, or set "
        try:
            with advice_when_full("training", remedy + "device='cpu'."):
                return self.partial_fit(data)
        finally:
            self.replayed_ = self.captured_ is not None and self.captured_.replayed
            self._free_captured()
            self.captured_ = None

    def _monitors(self) -> list[tuple[str, str]]:
        """The names of callbacks that watch a number of the history, and of these numbers."""
        found = [(name, getattr(callback, "monitor", None)) for name, callback in self.callbacks_]
        return [(name, monitor) for name, monitor in found if isinstance(monitor, str)]

    def _check_monitors(self) -> None:
        for name, monitor in self._monitors():
            if monitor.startswith("valid_") and self.validation_ is None:
                raise ValueError(
                    f"The callback {name!r} watches {monitor!r}, but no rows are held out. Set "
                    "early_stopping=True, pass X_val to fit, or give it monitor='train_loss'."
                )

    def _captured(self, data: Any) -> CapturedStep | None:
        """What is to capture the steps on these data, if they are captured."""
        rows = min(self.batch_size, len(data))
        if not is_captured(self, len(data) // rows):
            return None
        return CapturedStep(self, data.room_for(rows), self.eager_step)

    def loss_of_few(self, data: Any) -> Tensor:
        """The loss of a few rows, to see whether it is finite."""
        return self.validation_step(data[:_ROWS_TRIED])["loss"]

    def get_split_datasets(
        self, X: TensorData, y: Any = None, **fit_params: Any
    ) -> tuple[TensorData, TensorData | None]:
        return X, self.validation_

    def get_iterator(self, dataset: TensorData, training: bool = False) -> BatchIterator:
        batch_size = min(self.batch_size, len(dataset))
        if not training:
            return BatchIterator(dataset, batch_size)
        room = None if self.captured_ is None else self.captured_.batch
        return BatchIterator(dataset, batch_size, self.generator_, room)

    def fit_loop(self, X: TensorData, y: Any = None, **kwargs: Any) -> "KANNet":
        try:
            super().fit_loop(X, y, **kwargs)
        except StopTraining:
            pass
        except KeyboardInterrupt:
            self._drop_unfinished_epoch()
            if not self._stopped_by_callback():
                self.interrupted_ = True
                warn_caller(
                    f"Interrupted after {self._done()}: the estimator is fitted with the weights "
                    "so far."
                )
        return self

    def _done(self) -> str:
        return f"{len(self.history)} iterations"

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
        found = {"loss": float(total) / len(data)}
        if not training and self.score is not None:
            found["score"] = self.score(data.y, torch.cat(outputs), data.weight)
        for name, value in found.items():  # both or, after an interrupt, none
            self.history.record(f"{prefix}_{name}", value)
        best = f"{prefix}_loss_best"
        if any(monitor == best for _, monitor in self._monitors()):
            losses = [row[f"{prefix}_loss"] for row in self.history]
            self.history.record(best, losses[-1] <= min(losses))

    @property
    def eager_step(self) -> Callable[[Batch], dict[str, Any]]:
        """What a graph stands for: a step of AdamW, or an evaluation of L-BFGS."""
        if isinstance(self.optimizer_, torch.optim.LBFGS):
            return self.evaluate
        return super().train_step

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        if self.captured_ is not None and self.captured_.updates:
            return self.captured_.run(batch)
        return super().train_step(batch, **fit_params)

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        if self.captured_ is not None and not self.captured_.updates:
            return self.captured_.run(batch)
        return self.evaluate(batch)

    def evaluate(self, batch: Batch) -> dict[str, Any]:
        """Loss and gradients of a batch, in parts where memory does not allow more."""

        def free() -> None:
            self._free_captured()
            self._zero_grad_optimizer()  # of parts that were done

        return self._where_memory_allows(batch, self.gradients, free)

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        def validate(part: Batch, share: float) -> dict[str, Any]:
            step = super(KANNet, self).validation_step(part)
            return step | {"loss": step["loss"] * share}

        return self._where_memory_allows(batch, validate, self._free_captured)

    def gradients(self, batch: Batch, share: float = 1.0) -> dict[str, Any]:
        """Forward and backward pass of a batch, or of the part of one that is such a share."""
        self._set_training(True)
        X, y = batch
        y_pred = self.infer(X)
        loss = self.get_loss(y_pred, y, X=X, training=True)
        if share != 1.0:
            loss = loss * share
        loss.backward()
        return {"loss": loss, "y_pred": y_pred}

    def _where_memory_allows(
        self,
        batch: Batch,
        step: Callable[[Batch, float], dict[str, Any]],
        free: Callable[[], None],
    ) -> dict[str, Any]:
        """A step on the whole batch, or on one part after the other."""

        def compute(rows: int) -> dict[str, Any]:
            if rows >= len(batch[0]):
                return step(batch, 1.0)
            steps = [step(part, share) for part, share in parts(batch, rows)]
            return {
                "loss": sum(each["loss"].detach() for each in steps),
                "y_pred": torch.cat([each["y_pred"].detach() for each in steps]),
            }

        return self.frugal_.run(self.module_, len(batch[0]), compute, free)

    def _free_captured(self) -> None:
        if self.captured_ is not None:
            self.captured_.close()

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        # The gradients of a captured step stay where they are; other steps use them too.
        captured = self.captured_ is not None and self.captured_.graph is not None
        super()._zero_grad_optimizer(set_to_none=not captured)

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
