"""Learning rate schedules: the factor on the learning rate as training advances."""

from math import cos, pi
from typing import Any, Literal

from skorch.callbacks import Callback

Schedule = Literal["constant", "cosine", "exponential", "onecycle"]

_WARM_UP = 0.25  # share of a one-cycle schedule that rises
_START = 0.04  # where its rise starts
_DECAY_PER_EPOCH = 0.975


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
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _half_cosine(1.0, 0.0, progress)
        case "exponential":
            return _DECAY_PER_EPOCH**epoch
        case "onecycle":
            if progress < _WARM_UP:
                return _half_cosine(_START, 1.0, progress / _WARM_UP)
            return _half_cosine(1.0, 0.0, (progress - _WARM_UP) / (1 - _WARM_UP))
    raise ValueError(f"Unknown schedule {schedule!r}.")


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + cos(pi * progress)) / 2


class LearningRateSchedule(Callback):
    """Sets every group's learning rate before each step, relative to where it started."""

    def __init__(self, schedule: Schedule, total_steps: int) -> None:
        self.schedule, self.total_steps = schedule, total_steps

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.steps_ = 0
        self.base_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if not training or self.schedule == "constant":
            return
        epoch = len(net.history) - 1
        factor = schedule_factor(self.schedule, self.steps_ / self.total_steps, epoch)
        for group, base in zip(net.optimizer_.param_groups, self.base_, strict=True):
            group["lr"] = base * factor
        self.steps_ += 1

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """What trains on with the same optimiser starts from the full rate again."""
        for group, base in zip(net.optimizer_.param_groups, self.base_, strict=True):
            group["lr"] = base
