"""Where and how numbers are computed: device and precision."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

_WORTH_THREADS = 1_000_000

LARGE_TABLE = 10_000  # rows, beyond which "auto" means something else
Precision = Literal["auto", "float64", "float32", "tf32", "bf16"]


def choose_device(device: str | torch.device) -> torch.device:
    """The device for a parameter ``device``.

    "auto": CUDA where there is some, but the CPU inside a joblib worker, where several
    processes would each open the card.

    Raises ValueError if the name means nothing to torch, or the device is not there.
    """
    if device == "auto":
        nested = get_active_backend()[0].nesting_level
        return torch.device("cuda" if torch.cuda.is_available() and not nested else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).tolist()  # "meta" has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"device={str(device)!r} is not available here ({reason}). Use device='auto' or "
            "device='cpu'."
        ) from error
    return chosen


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a network that is called so; a KeyError for others."""
    return {str(dtype): dtype for dtype in (torch.float64, torch.float32)}[name]


@dataclass(frozen=True)
class Execution:
    """A device, the parameters' dtype, and how matrix products are rounded."""

    device: torch.device
    dtype: torch.dtype
    products: Literal["full", "tf32", "bf16"]

    def packed(self) -> dict[str, str]:
        """As names, for a pickle."""
        return {"device": str(self.device), "dtype": str(self.dtype), "products": self.products}

    @classmethod
    def unpacked(cls, names: dict[str, Any]) -> "Execution":
        """From names; on the device's kind where that one is missing, or on the CPU."""
        device = torch.device("cpu")
        for name in (names["device"], names["device"].partition(":")[0], "cpu"):
            with suppress(ValueError):
                device = choose_device(name)
                break
        return cls(device, dtype_of(names["dtype"]), names["products"])

    @contextmanager
    def active(self, numbers: int | None = None) -> Iterator[None]:
        """Within it, products run in the chosen precision, and sums of convolutions in one order.

        The global switches are put back.

        Parameters
        ----------
        numbers : int, optional
            How many a layer handles in a step. Steps on a CPU of fewer than a million have one
            thread: more would mostly wait for each other. On two cores of which another process
            kept one busy, a fit of 426 rows took 15.8 s with two threads and 2.7 s with one.
        """
        # No cache: it would keep the weights of the first step.
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, self.products == "bf16", cache_enabled=False
        )
        on_card = self.device.type == "cuda"
        settings = _CUDA_SETTINGS.held(self.products == "tf32") if on_card else nullcontext()
        if FORKED.is_set():
            take_one_thread()
        threads: AbstractContextManager[Any] = nullcontext()
        small = numbers is not None and self.device.type == "cpu" and numbers < _WORTH_THREADS
        if small and torch.get_num_threads() > 1:
            threads = _libraries().limit(limits=1, user_api="openmp")
        with settings, autocast, threads:
            yield


class _CUDASettings:
    """torch's process-wide settings for CUDA, shared by all fits at once that agree on them.

    A fit that wants another value waits until the others are done, and the last one puts back
    what was there before the first. A fit inside another one (in a callback) switches for
    itself where no other thread fits beside it, and else keeps what there is.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holders: Counter[int] = Counter()  # by thread
        self.stack: list[tuple[bool, ...]] = []  # settings before the first, and before inner ones

    def read(self) -> tuple[bool, ...]:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        return matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic

    def write(self, settings: tuple[bool, ...]) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = settings

    @contextmanager
    def held(self, tf32: bool) -> Iterator[None]:
        """Within it, products run in TF32 or not, and convolutions sum in one order."""
        me, wanted = threading.get_ident(), (tf32, tf32, True)
        with self.changed:
            inner = me in self.holders
            if not inner:  # one that waited for itself would wait for ever
                self.changed.wait_for(
                    lambda: not self.holders or (len(self.stack) == 1 and self.read() == wanted)
                )
            switches = {*self.holders} == {me} if inner else not self.holders
            if switches:
                self.stack.append(self.read())
                self.write(wanted)
            self.holders[me] += 1
        try:
            yield
        finally:
            with self.changed:
                self.holders[me] -= 1
                self.holders += Counter()  # without those that hold nothing
                if (inner and switches) or not self.holders:
                    self.write(self.stack.pop())
                self.changed.notify_all()


_CUDA_SETTINGS = _CUDASettings()


FORKED = threading.Event()  # set in a forked process, until it has one thread
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FORKED.set)


def take_one_thread() -> None:
    """In a forked process, have torch compute with one thread.

    OpenMP's other threads do not survive a fork: a child whose parent computed with several would
    wait for them for ever.
    """
    torch.set_num_threads(1)
    FORKED.clear()


@cache
def _libraries() -> ThreadpoolController:
    """Found once: looking through all of the process's libraries takes longer than a small step."""
    return ThreadpoolController()


def choose_execution(
    device: str | torch.device,
    precision: Precision,
    data_dtype: np.dtype,
    solver: str,
    n_rows: int = 0,
) -> Execution:
    """What ``device`` and ``precision`` mean for data of this dtype.

    "auto" is float64 for solvers on all rows at once; else TF32 on CUDA, and on a CPU it follows X,
    but is float32 beyond ``LARGE_TABLE`` rows: steps on batches are far less exact, and take half
    the time.
    """
    chosen = choose_device(device)
    if precision == "auto":
        if solver != "adamw":
            precision = "float64"
        elif chosen.type == "cpu":
            is_double = data_dtype == np.float64 and n_rows <= LARGE_TABLE
            precision = "float64" if is_double else "float32"
        else:
            precision = "tf32"
    dtype = torch.float64 if precision == "float64" else torch.float32
    products = precision if precision in ("tf32", "bf16") else "full"
    return Execution(chosen, dtype, products)
