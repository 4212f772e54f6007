"""Axes, curves and maps of the displays; matplotlib is imported when something is drawn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCES = ("exact", "relative error")  # dashed
MOST_UNEQUAL = 4.0  # sides of a map, one to the other, that still share a scale


def panel_axes(ax: "Axes | Iterable[Axes] | None", n_panels: int, square: bool) -> "list[Axes]":
    """One Axes a panel: those given, or a row of a new figure."""
    if ax is None:
        from matplotlib import pyplot as plt

        size = (3.9 * n_panels + 0.4, 3.4 if square else 3.2)
        figure = plt.figure(figsize=size, layout="constrained")
        return [figure.add_subplot(1, n_panels, k + 1) for k in range(n_panels)]
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != n_panels:
        raise ValueError(
            f"ax must hold one Axes for each of the {n_panels} panels, got {len(axes)}; "
            "compare=False draws the solution alone."
        )
    return axes


def draw_curves(
    axis: "Axes",
    x: NDArray[Any],
    curves: Mapping[str, NDArray[Any]],
    name: str,
    logarithmic: bool,
    line_kw: Mapping[str, Any],
) -> None:
    """Curves over one coordinate; references dashed, with a legend for several."""
    marker = "o" if len(x) == 1 else ""
    for label, values in curves.items():
        style = {"linestyle": "--", "color": "black"} if label in REFERENCES else {}
        axis.plot(x, values, **({"label": label, "marker": marker} | style | dict(line_kw)))
    axis.set_xlabel(name)
    axis.grid(alpha=0.3)
    if logarithmic:
        axis.set_yscale("log")
    if len(curves) > 1:
        axis.legend(fontsize="small")


def draw_map(
    axis: "Axes",
    coordinates: Sequence[NDArray[Any]],
    values: NDArray[Any],
    names: Sequence[str],
    limits: tuple[float, float],
    diverging: bool,
    equal_aspect: bool,
    mesh_kw: Mapping[str, Any],
) -> None:
    """Colours over two coordinates, the first to the right; with a colour bar."""
    style: dict[str, Any] = {
        "cmap": "RdBu_r" if diverging else "viridis",
        "vmin": limits[0],
        "vmax": limits[1],
        "rasterized": True,
        "shading": "nearest",
    }
    x, y = coordinates
    mesh = axis.pcolormesh(x, y, np.ma.masked_invalid(values.T), **(style | dict(mesh_kw)))
    axis.set(xlabel=names[0], ylabel=names[1])
    sides = np.ptp(x), np.ptp(y)
    if equal_aspect and max(sides) <= MOST_UNEQUAL * min(sides):
        axis.set_aspect("equal")
    bar = axis.figure.colorbar(mesh, ax=axis, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize="small")
