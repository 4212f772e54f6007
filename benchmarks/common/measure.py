"""Seconds, memory, and what is noted of every run: device, versions, date, command."""

import datetime
import gc
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

MEGABYTE = 1e6
DATA = Path("../shared/data")
# What several commands have, by name.
OPTIONS: dict[str, dict[str, Any]] = {
    "data-dir": {"type": Path, "default": DATA, "help": f"folder of data; default {DATA}"},
    "device": {"default": "cuda" if torch.cuda.is_available() else "cpu"},
    "precision": {"default": "auto", "help": "of the estimators"},
    "seeds": {"type": int, "nargs": "+", "default": [0, 1, 2]},
    "limit": {"type": int, "default": 0, "help": "rows at most; 0: all"},
    "jobs": {"type": int, "default": 1, "help": "fits at a time"},
    "minutes": {"type": float, "help": "after which no further fit is started"},
    "out": {"type": Path, "help": "folder of results"},
}


def add_options(parser: Any, *names: str, **defaults: Any) -> None:
    """Add these of OPTIONS; ``defaults`` are some with other defaults."""
    for name in (*names, *defaults):
        settings = OPTIONS[name.replace("_", "-")]
        more = {"default": defaults[name]} if name in defaults else {}
        parser.add_argument("--" + name.replace("_", "-"), **settings | more)


def describe(device: torch.device) -> dict[str, str]:
    """Device, versions, date and command of a run."""
    triton = importlib.metadata.distributions(name="triton")
    on_card = device.type == "cuda"
    return {
        "device_name": torch.cuda.get_device_name(device) if on_card else "CPU",
        "torch": torch.__version__,
        "triton": next((found.version for found in triton), "none"),
        "cuda": torch.version.cuda or "none",
        "date": datetime.date.today().isoformat(),
        "command": _command(),
    }


def _command() -> str:
    """As it was called, without the folders of this machine."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem
    words = [word.split("=", 1) for word in sys.argv[1:]]
    shown = ["=".join("DIR" if os.sep in part else part for part in word) for word in words]
    return " ".join(["python -m", name, *shown])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile."""
    found = np.percentile(values, [50, 20, 80])
    return dict(zip(("median", "p20", "p80"), map(float, found), strict=True))


def seconds(run: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Of one run, with all that it launched."""
    wait(device)
    begin = perf_counter()
    run()
    wait(device)
    return perf_counter() - begin


def timed(
    run: Callable[[], object], count: int, device: torch.device, lead: int = 1
) -> list[float]:
    """Milliseconds of ``count`` runs in a row, after ``lead`` more; CUDA events on a card."""
    if not count:
        return []
    for _ in range(lead):
        run()
    if device.type != "cuda":
        return [1000 * seconds(run) for _ in range(count)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize(device)
    return [a.elapsed_time(b) for a, b in pairwise(events)]


def free_memory(device: torch.device | str) -> None:
    """Give memory of a card back that no tensor uses."""
    if torch.device(device).type == "cuda":
        gc.collect()
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def wait(device: torch.device | str) -> None:
    """Until all is computed that was launched."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The most device memory allocated from now on, beyond what is allocated now.

    ``megabytes()`` gives it, of 10^6 bytes; None on a CPU, where nobody counts.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device, self.counts = torch.device(device), torch.device(device).type == "cuda"
        if self.counts:
            free_memory(device)
            self.before = torch.cuda.memory_allocated(device)
        self.start()

    def start(self) -> None:
        """Forget the peak so far, not what was allocated before."""
        wait(self.device)
        if self.counts:
            torch.cuda.reset_peak_memory_stats(self.device)

    def megabytes(self) -> float | None:
        wait(self.device)
        if self.counts:
            return (torch.cuda.max_memory_allocated(self.device) - self.before) / MEGABYTE
        return None
