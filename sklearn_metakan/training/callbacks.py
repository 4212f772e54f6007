"""What acts between steps and epochs: learning rate, best weights, stopping, scores, the bar."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import copy, deepcopy
from math import cos, inf, isfinite, pi
from operator import itemgetter
from time import perf_counter
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _BaseScorer
from skorch.callbacks import BatchScoring, Callback, EpochScoring
from torch import Tensor

Schedule = Literal["constant", "cosine", "exponential", "onecycle"]

_WARM_UP = 0.25  # share of a one-cycle schedule that rises
_START = 0.04  # where its rise starts
_DECAY_PER_EPOCH = 0.975

_DIVERGED = 10.0  # at least; a constant prediction has a loss of about 1 on a scaled target
_LIBRARIES = {"sklearn_metakan", "skorch", "sklearn", "joblib", "torch"}  # between user and warning
EACH_BATCH = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def check_callbacks(callbacks: Iterable[Any]) -> None:
    """Raise unless all are skorch callbacks: objects, classes, or pairs (name, callback)."""
    for given in callbacks:
        callback = without_name(given)
        is_class = isinstance(callback, type) and issubclass(callback, Callback)
        if not (is_class or isinstance(callback, Callback)):
            raise ValueError(f"callbacks must hold skorch callbacks, got {callback!r}.")


def own_copies(callbacks: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """A user's callbacks for one training: as skorch takes them, and the objects alone.

    Copies are deep, but for what cannot be copied, such as a lock or an open file: a copy
    shares it with the object given.
    """
    for_net, objects = [], []
    seen: dict[int, Any] = {}
    for given in callbacks:
        callback = without_name(given)
        callback = callback() if isinstance(callback, type) else _deepest_copy(callback, seen)
        objects.append(callback)
        for_net.append((*given[:-1], callback) if isinstance(given, tuple) else callback)
    return for_net, objects


def _deepest_copy(callback: Any, seen: dict[int, Any]) -> Any:
    with suppress(TypeError):
        return deepcopy(callback, seen)
    copied = copy(callback)
    for name, value in vars(callback).items():
        with suppress(TypeError):
            setattr(copied, name, deepcopy(value, seen))
    return copied


def without_name(given: Any) -> Any:
    """A callback that may come in a pair with its name."""
    return given[-1] if isinstance(given, tuple) and given else given


def schedule_factor(schedule: Schedule, progress: float, epoch: int) -> float:
    """Factor on the learning rate.

    Parameters
    ----------
    schedule : {"constant", "cosine", "exponential", "onecycle"}
        1; half a cosine from 1 to 0; 0.975 for each epoch done; a quarter of the time up
        from 0.04 to 1, then down to 0, both along half a cosine.
    progress : float in [0, 1]
        Share of the steps done.
    epoch : int
        Epochs done.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "exponential":
        return _DECAY_PER_EPOCH**epoch
    start, end, share = 1.0, 0.0, progress  # half a cosine from start to end
    if schedule == "onecycle" and progress < _WARM_UP:
        start, end, share = _START, 1.0, progress / _WARM_UP
    elif schedule == "onecycle":
        share = (progress - _WARM_UP) / (1 - _WARM_UP)
    elif schedule != "cosine":
        raise ValueError(f"Unknown schedule {schedule!r}.")
    return end + (start - end) * (1 + cos(pi * share)) / 2


class TimeLimit(NamedTuple):
    """So many seconds from a moment of ``time.perf_counter`` on.

    ``is_whole`` is False of a part of training's time, after which another optimiser goes on.
    """

    began: float
    seconds: float
    is_whole: bool = True

    @property
    def used(self) -> float:
        """The share of them that is gone."""
        return (perf_counter() - self.began) / self.seconds


class LearningRateSchedule(Callback):
    """Sets every group's learning rate before each step, relative to where it started.

    With a time limit the schedule runs its course within it, and ends training there.
    """

    def __init__(
        self, schedule: Schedule, total_steps: int, time_limit: TimeLimit | None = None
    ) -> None:
        self.schedule, self.total_steps, self.time_limit = schedule, total_steps, time_limit

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.steps_ = 0
        self.base_ = [*map(itemgetter("lr"), net.optimizer_.param_groups)]

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if not training:
            return
        progress = self.steps_ / self.total_steps
        if self.time_limit is not None:
            progress = max(progress, net.agreed(self.time_limit.used))
            if progress > 1:
                raise StopTraining
        if self.schedule == "constant":
            return
        factor = schedule_factor(self.schedule, progress, len(net.history) - 1)
        for group, base in zip(net.optimizer_.param_groups, self.base_, strict=True):
            group["lr"] = base * factor
        self.steps_ += 1

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """What trains on with the same optimiser starts from the full rate again."""
        for group, base in zip(net.optimizer_.param_groups, self.base_, strict=True):
            group["lr"] = base


AfterEpoch = Callback  # skorch's, for what acts at the end of epochs


class StopTraining(Exception):
    """Raised by a callback to end training at the end of an epoch."""


class Monitor(Callback):
    """Keeps the best weights and decides when to stop.

    The watched loss is that of the validation rows if there are any, else of training. What of it
    is each member's own, is recorded as "valid_losses".
    It has improved if it fell below the best so far by more than ``tol`` times that best.
    A training loss belongs to the weights that its iteration started from; those at the end
    of it may be broken already. The last ones are therefore tried on a few rows, unless those
    of the best iteration are put back.

    Divergence that stays finite is a training loss that ends at more than ten times the first
    iteration's, and at more than 10: neither overfitting nor going on from good weights does
    that, and a single iteration cannot.

    Parameters
    ----------
    patience : int or None
        Stop after so many iterations without improvement; None: never.
    tol : float
    restore_best : bool
        Whether the weights of the best iteration are put back at the end. After a loss or
        weights that are not finite they are in any case.
    expects_convergence : bool
        Whether running out of iterations deserves a ConvergenceWarning.
    time_limit : TimeLimit, optional
        Stop where another iteration would go beyond it.
    """

    def __init__(
        self,
        patience: int | None,
        tol: float,
        restore_best: bool,
        expects_convergence: bool,
        time_limit: TimeLimit | None = None,
    ) -> None:
        self.time_limit = time_limit
        self.patience, self.tol = patience, tol
        self.restore_best, self.expects_convergence = restore_best, expects_convergence

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.best_, self.reference_, self.waited_ = inf, inf, 0
        self.best_score_: float | None = None
        self.first_, self.last_ = inf, 0.0  # training losses
        self.stopped_ = self.broken_ = False
        self.best_state_ = self.start_state_ = _copy_state(net)
        self.best_of_: list[float] = []  # of each member
        limit = self.time_limit
        self.used_, self.longest_ = 0.0 if limit is None else net.agreed(limit.used), 0.0

    def on_epoch_begin(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if dataset_valid is None:
            self.start_state_ = _copy_state(net)

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        row = net.history[-1]
        watched = row.get("valid_loss", row["train_loss"])
        if "valid_losses" in row and isfinite(watched):
            watched = sum(row["valid_losses"]) / len(row["valid_losses"])
        if not (isfinite(watched) and isfinite(row["train_loss"])):
            self._put_best_back(net, f"The loss was not finite in iteration {len(net.history)}")
            raise StopTraining
        self.last_ = row["train_loss"]
        if self.first_ == inf:
            self.first_ = self.last_
        if watched < self.best_:
            self.best_, self.best_score_ = watched, row.get("valid_score")
            if not self._keep_members(net, row):
                self.best_state_ = self.start_state_ if dataset_valid is None else _copy_state(net)
        else:
            self._keep_members(net, row)
        first = self.reference_ == inf
        if first or watched < self.reference_ - float(self.tol) * abs(self.reference_):
            self.reference_, self.waited_ = watched, 0
        else:
            self.waited_ += 1
        out_of_time = False
        if self.time_limit is not None:
            used = net.agreed(self.time_limit.used)
            self.used_, self.longest_ = used, max(self.longest_, used - self.used_)
            out_of_time = used + self.longest_ > 1
        if out_of_time or (self.patience is not None and self.waited_ >= self.patience):
            self.stopped_ = True
            raise StopTraining

    def _keep_members(self, net: Any, row: Mapping[str, Any]) -> bool:
        """Keep those members that are at their best; whether each has a best of its own."""
        losses = row.get("valid_losses", [])
        if len(losses) < 2 or net.module_.member_slices(0) is None:
            return False
        self.best_of_ = self.best_of_ or [inf] * len(losses)
        now = net.module_.state_dict()
        for member, loss in enumerate(losses):
            if loss < self.best_of_[member]:
                self.best_of_[member] = loss
                for name, part in net.module_.member_slices(member).items():
                    self.best_state_[name][part].copy_(now[name][part])
        return True

    def on_train_end(self, net: Any, X: Any, **kwargs: Any) -> None:
        if self.restore_best and self.best_ < inf:  # not without a single iteration
            net.module_.load_state_dict(self.best_state_)
        elif not self.broken_ and not _is_finite(net, X):
            self._put_best_back(net, "The loss was not finite after the last iteration")
        self.best_state_ = self.start_state_ = {}
        if not self.broken_:
            self._comment_on_the_end(net)

    def _comment_on_the_end(self, net: Any) -> None:
        ran_out = len(net.history) == net.max_epochs and not self.stopped_
        limit = self.time_limit
        if not net.history and limit is not None and limit.is_whole and limit.used > 1:
            warn_caller(
                f"time_limit={limit.seconds:g} ended training in its first iteration; "
                "the weights are those so far. Raise time_limit."
            )
        elif self.last_ > _DIVERGED * max(self.first_, 1.0):
            warn_caller(
                f"Training diverged: the loss rose from {self.first_:.3g} in the first iteration "
                f"to {self.last_:.3g} in the last. Lower learning_rate, or scale inputs and target."
            )
        elif self.expects_convergence and ran_out:
            warn_caller(
                f"Training stopped at max_iter={net.max_epochs} before the loss settled "
                f"within tol={self.tol}. Raise max_iter, or raise tol to stop earlier."
            )

    def _put_best_back(self, net: Any, reason: str) -> None:
        net.module_.load_state_dict(self.best_state_)
        net.optimizer_.state.clear()  # its moments would break the next step as well
        self.broken_ = True
        warn_caller(
            f"{reason}; training stopped and the best weights so far were put back. Lower "
            "learning_rate, or raise weight_decay; check the target for extreme values."
        )


def warn_caller(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """A warning that points at the line of code that had the estimator fitted."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_library(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_library(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES


def _is_finite(net: Any, data: Any) -> bool:
    """Whether the weights, and their loss on a few rows, are finite numbers."""
    numbers = [net.loss_of_few(data), *net.module_.parameters()]
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in numbers]).all())


def _copy_state(net: Any) -> dict[str, Tensor]:
    """The module's state on the CPU, so that the card holds the weights once."""
    state = dict(net.module_.state_dict())
    for name, value in state.items():
        state[name] = value.detach().to("cpu", copy=True)
    return state


class Progress(Callback):
    """One tqdm bar over the iterations, with losses, validation score and learning rate."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        hidden = net.ranks_ is not None and net.ranks_.rank > 0
        self.bar_ = tqdm(
            total=self._total(net), desc="fit", unit="it", dynamic_ncols=True, disable=hidden
        )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        rate = f"{net.optimizer_.param_groups[-1]['lr']:.2g}"
        self.bar_.set_postfix(self._shown(row) | {"lr": rate}, refresh=False)
        self.bar_.update(self.advance(row))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()

    def _total(self, net: Any) -> int:
        return net.max_epochs

    def advance(self, row: Mapping[str, Any]) -> int:
        """What an epoch adds to the bar."""
        return 1

    def _shown(self, row: Mapping[str, Any]) -> dict[str, str]:
        shown = {"loss": f"{row['train_loss']:.4g}"}
        if "valid_score" in row:
            shown["validation"] = f"{row['valid_score']:.4f}"
        return shown


class Listeners:
    """What a net's callbacks want to hear of, beside epochs; scores are in the user's units.

    ``by_hook`` has them by their methods for batches, ``watching`` the names of those that have
    such, but for the schedule; ``scoring`` score predictions, ``watched`` is watched for its best.

    Raises ValueError for callbacks that wait for validation rows where none are held out.
    """

    def __init__(self, callbacks: Iterable[tuple[str, Callback]], holds_out: bool = False) -> None:
        self.by_hook: dict[str, list[Callback]] = defaultdict(list)
        self.watching: list[str] = []
        self.scoring: list[Callback] = []
        self.watched: set[str] = set()
        for name, callback in callbacks:
            for hook in EACH_BATCH:
                own = getattr(callback, hook)
                if getattr(own, "__func__", own) is not getattr(Callback, hook):
                    self.by_hook[hook].append(callback)
                    if not isinstance(callback, LearningRateSchedule):
                        self.watching.append(name)
            if isinstance(callback, EpochScoring | BatchScoring):
                score_with_targets(callback)
                self.scoring.append(callback)
            monitor = getattr(callback, "monitor", None)
            if not isinstance(monitor, str):
                continue
            if monitor.startswith("valid_") and not holds_out:
                raise ValueError(
                    f"The callback {name!r} watches {monitor!r}, but no rows are held out. Set "
                    "early_stopping=True, pass X_val to fit, or give it monitor='train_loss'."
                )
            self.watched.add(monitor)

    def tell(self, net: Any, hook: str, **facts: Any) -> None:
        """``notify`` for those that want to hear about every batch, which are few or none."""
        for callback in self.by_hook[hook]:
            getattr(callback, hook)(net, **facts)


def score_with_targets(callback: Any) -> None:
    """Have a scoring callback of skorch's compare in the user's units.

    Its metric sees targets and predictions as ``predict`` gives them and, if it is one of
    scikit-learn's, the weights of the rows.
    """

    def scored(net: Any, X: Any, y: Any) -> Any:
        scorer = check_scoring(net, callback.scoring_)
        weight = net.weights_of(callback) if isinstance(scorer, _BaseScorer) else None
        weights = {} if weight is None else {"sample_weight": weight}
        return scorer(net, X, net.target_.decode(y), **weights)

    callback._scoring = scored
