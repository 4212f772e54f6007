"""Mean ranks on a line, and bars that join those that do not differ: critical differences.

Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import studentized_range

LEVEL = 0.05
STEP = 0.6  # between lines, in units of the axis


def critical_difference(n_models: int, n_sets: int, level: float = LEVEL) -> float:
    """Of mean ranks, by Nemenyi's test: ``q sqrt(k (k + 1) / (6 N))``."""
    q = studentized_range.ppf(1 - level, n_models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_models * (n_models + 1) / (6 * n_sets)))


def cliques(ranks: pd.Series, width: float) -> list[tuple[float, float]]:
    """Longest runs of sorted ranks that lie within ``width``, of two or more models."""
    values = np.sort(ranks.to_numpy())
    ends = np.searchsorted(values, values + width, side="right") - 1
    runs = [(i, int(end)) for i, end in enumerate(ends) if end > i]
    longest = [run for run in runs if not any(a < run[0] and run[1] <= b for a, b in runs)]
    return [(float(values[a]), float(values[b])) for a, b in longest]


def draw(groups: Mapping[str, pd.DataFrame], path: Path) -> bool:
    """One panel a group, of ranks with a row a set; False if none has two models and sets."""
    from matplotlib import pyplot as plt

    groups = {name: ranks for name, ranks in groups.items() if min(ranks.shape) > 1}
    if not groups:
        return False
    heights = [_height(ranks.shape[1]) for ranks in groups.values()]
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(8, 0.45 * sum(heights)), squeeze=False, height_ratios=heights
    )
    for ax, (name, ranks) in zip(axes[:, 0], groups.items(), strict=True):
        _panel(ax, name, ranks)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def _height(n_models: int) -> float:
    return 3 + STEP * n_models


def _panel(ax: Any, name: str, ranks: pd.DataFrame) -> None:
    """The better half is named on the left, the other on the right."""
    n_sets, k = ranks.shape
    means = ranks.mean().sort_values()
    width = critical_difference(k, n_sets)
    bars = cliques(means, width)
    for i, (a, b) in enumerate(bars):
        y = -0.5 - 0.3 * i
        ax.plot([a - 0.03, b + 0.03], [y, y], color="black", linewidth=3, solid_capstyle="butt")
    top, half = 0.5 + 0.3 * len(bars), (k + 1) // 2
    for i, (model, rank) in enumerate(means.items()):
        left = i < half
        y = -top - STEP * (i if left else k - 1 - i)
        end = 1 - 0.2 if left else k + 0.2
        ax.plot([rank, rank, end], [0, y, y], color="grey", linewidth=0.8)
        text = f"{model}  {rank:.2f}" if left else f"{rank:.2f}  {model}"
        ax.text(end, y, text + " " if left else " " + text, ha=("left", "right")[left], va="center")
    ax.plot([1, 1 + width], [1.2, 1.2], color="black", linewidth=1.5)
    ax.text(1 + width, 1.2, f"  critical difference {width:.2f}", va="center")
    ax.plot([1, k], [0, 0], color="black", linewidth=1)
    for tick in range(1, k + 1):
        ax.plot([tick, tick], [0, 0.15], color="black", linewidth=1)
        ax.text(tick, 0.25, str(tick), ha="center", va="bottom")
    ax.set(xlim=(1 - 0.35 * k, k + 0.35 * k), ylim=(-top - STEP * half, 1.6))
    ax.set_title(f"{name}: mean ranks over {n_sets} sets")
    ax.axis("off")
