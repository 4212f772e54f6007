"""Watching a training run: best weights, when to stop, the progress bar."""

import warnings
from collections.abc import Iterable
from math import inf, isfinite
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import Tensor


def check_callbacks(callbacks: Iterable[Any]) -> None:
    """Raise unless all are skorch callbacks: objects, classes, or pairs (name, callback)."""
    for given in callbacks:
        callback = given[-1] if isinstance(given, tuple) and given else given
        is_class = isinstance(callback, type) and issubclass(callback, Callback)
        if not (is_class or isinstance(callback, Callback)):
            raise ValueError(f"callbacks must hold skorch callbacks, got {callback!r}.")


class StopTraining(Exception):
    """Raised by a callback to end training at the end of an epoch."""


class Monitor(Callback):
    """Keeps the best weights and decides when to stop.

    The watched loss is that of the validation rows if there are any, else of training.
    It has improved if it fell below the best so far by more than ``tol`` times that best.
    A training loss belongs to the weights that its iteration started from; those at the end
    of it may be broken already.

    Parameters
    ----------
    patience : int or None
        Stop after so many iterations without improvement; None: never.
    tol : float
    restore_best : bool
        Whether the weights of the best iteration are put back at the end. After a loss
        that is not finite they are in any case.
    expects_convergence : bool
        Whether running out of iterations deserves a ConvergenceWarning.
    """

    def __init__(
        self, patience: int | None, tol: float, restore_best: bool, expects_convergence: bool
    ) -> None:
        self.patience, self.tol = patience, tol
        self.restore_best, self.expects_convergence = restore_best, expects_convergence

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.best_, self.reference_, self.waited_ = inf, inf, 0
        self.best_score_: float | None = None
        self.stopped_ = False
        self.best_state_ = self.start_state_ = _copy_state(net)

    def on_epoch_begin(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if dataset_valid is None:
            self.start_state_ = _copy_state(net)

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        row = net.history[-1]
        watched = row.get("valid_loss", row["train_loss"])
        if not (isfinite(watched) and isfinite(row["train_loss"])):
            self._give_up(net)
        if watched < self.best_:
            self.best_, self.best_score_ = watched, row.get("valid_score")
            self.best_state_ = self.start_state_ if dataset_valid is None else _copy_state(net)
        if watched < self.reference_ - self.tol * abs(self.reference_) or self.reference_ == inf:
            self.reference_, self.waited_ = watched, 0
        else:
            self.waited_ += 1
        if self.patience is not None and self.waited_ >= self.patience:
            self.stopped_ = True
            raise StopTraining

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self.restore_best:
            net.module_.load_state_dict(self.best_state_)
        self.best_state_ = self.start_state_ = {}
        ran_out = len(net.history) == net.max_epochs and not self.stopped_
        if self.expects_convergence and ran_out:
            warnings.warn(
                f"Training stopped at max_iter={net.max_epochs} before the loss settled "
                f"within tol={self.tol}. Raise max_iter, or raise tol to stop earlier.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _give_up(self, net: Any) -> None:
        net.module_.load_state_dict(self.best_state_)
        self.stopped_ = True
        warnings.warn(
            f"The loss was not finite in iteration {len(net.history)}; training stopped and "
            "the best weights so far were put back. Lower learning_rate, or raise "
            "weight_decay; check the target for extreme values.",
            ConvergenceWarning,
            stacklevel=2,
        )
        raise StopTraining


def _copy_state(net: Any) -> dict[str, Tensor]:
    """The module's state on the CPU, so that the card holds the weights once."""
    state = net.module_.state_dict()
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}


class Progress(Callback):
    """One tqdm bar over the iterations, with losses, validation score and learning rate."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=net.max_epochs, desc="fit", unit="it", dynamic_ncols=True)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        shown = {"loss": f"{row['train_loss']:.4g}"}
        if "valid_score" in row:
            shown["validation"] = f"{row['valid_score']:.4f}"
        shown["lr"] = f"{net.optimizer_.param_groups[-1]['lr']:.2g}"
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()
