"""Trials that become rows of a ledger, in order, until they are done or time is up."""

import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from _ledger import Ledger
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm


class Clock:
    """Time is up after so many minutes; None: never."""

    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def is_up(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end


def carry_out(
    trials: Sequence[Any],
    hold: Callable[[Any], dict[str, Any]],
    ledger: Ledger,
    clock: Clock,
    jobs: int = 1,
) -> Iterator[Any]:
    """Append ``asdict(trial) | hold(trial)`` for each; yields the trials that failed.

    A trial that raises is reported and leaves no row, so that the next call tries it again.
    """

    def in_time() -> Iterable[Any]:
        for trial in trials:
            if clock.is_up:
                print("Time is up: no further fit is started.")
                return
            yield delayed(_attempt)(hold, trial)

    work = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch=jobs)(in_time())
    with tqdm(work, total=len(trials), unit="fit") as bar:
        for trial, row, error in bar:
            if error:
                print(f"{trial} failed:\n{error}")
                yield trial
                continue
            ledger.append(asdict(trial) | row)
            bar.set_postfix_str(f"{row['accuracy']:.2%} in {row['seconds']:.0f} s")


def _attempt(
    hold: Callable[[Any], dict[str, Any]], trial: Any
) -> tuple[Any, dict[str, Any] | None, str]:
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return trial, hold(trial), ""
    except Exception:
        return trial, None, traceback.format_exc()


def free(device: str) -> None:
    """Give memory back that no tensor uses."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
