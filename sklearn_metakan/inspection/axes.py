"""Places for several small plots."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def one_axes_each(
    caller: str,
    ax: "Axes | Iterable[Axes] | None",
    n_plots: int,
    in_a_row: int,
    size: tuple[float, float],
    what: str = "plots",
) -> "list[Axes]":
    """One Axes for each of the plots: a new figure's, parts of one, or those that were given.

    Raises
    ------
    ValueError
        For fewer Axes than plots, and a single one that no grid of subplots holds.
    ImportError
        Without matplotlib.
    """
    check_matplotlib_support(caller)
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    columns = min(n_plots, in_a_row)
    rows = -(-n_plots // columns)
    if ax is None:
        figure = plt.figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        return [figure.add_subplot(rows, columns, k + 1) for k in range(n_plots)]
    if isinstance(ax, Axes) and n_plots > 1:
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(
                f"ax must be part of a grid of subplots to be divided into {n_plots} plots; "
                f"pass one Axes for each of the {what} instead."
            )
        ax.set_axis_off()
        inner = GridSpecFromSubplotSpec(rows, columns, subplot_spec=place)
        return [ax.figure.add_subplot(inner[k]) for k in range(n_plots)]
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) < n_plots:
        raise ValueError(
            f"ax must hold one Axes for each of the {n_plots} {what}, got {len(axes)}."
        )
    return axes[:n_plots]
