"""Plots of solutions, residuals and training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_metakan.pde.plot.slice import Slice, cut
from sklearn_metakan.pde.solve.solver import PDESolver

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Kind = Literal["solution", "residual", "loss"]
MOST_UNEQUAL = 4.0  # sides of a map, one to the other, that still share a scale
_SEVERAL = 3  # fixed coordinates of one value that are named one by one


class SolutionDisplay:
    """A solution along one or two coordinates, its residual there, or the course of training.

    Make it with :meth:`from_estimator`; the constructor only stores the arrays.

    Parameters
    ----------
    kind : {"solution", "residual", "loss"}
    coordinates : tuple of one or two ndarrays of shape (n,)
        Values along the axes; for "loss" the steps.
    values : dict of str to ndarray of shape (n,) or (n, n)
        "solution", and where it is known "exact" and "error", the difference; or each
        residual; or each loss. The first axis is that of the first coordinate, NaN is
        outside the domain.
    names : tuple of str
        Of the coordinates.
    fixed : dict of str to float
        The other coordinates.
    quantity : str
        What is solved for, such as "u" or "u[1]".
    equal_aspect : bool
        Whether both coordinates are lengths.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One a panel; set by :meth:`plot`.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure or SubFigure

    Examples
    --------
    >>> from sklearn_metakan.pde import KANPDESolver, SolutionDisplay, problems
    >>> problem = problems.Helmholtz(b=1)
    >>> solver = KANPDESolver(**problem.settings, hidden_layer_sizes=(4,), max_iter=2).fit()
    >>> display = SolutionDisplay.from_estimator(solver, n_points=20)
    >>> list(display.values), display.values["error"].shape
    (['solution', 'exact', 'error'], (20, 20))
    """

    axes_: NDArray[np.object_]
    ax_: "Axes"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        kind: Kind,
        coordinates: tuple[NDArray[Any], ...],
        values: Mapping[str, NDArray[Any]],
        names: tuple[str, ...],
        fixed: Mapping[str, float],
        quantity: str = "u",
        equal_aspect: bool = False,
    ) -> None:
        self.kind, self.quantity, self.equal_aspect = kind, quantity, equal_aspect
        self.coordinates, self.values = coordinates, values
        self.names, self.fixed = names, fixed

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        kind: Kind = "solution",
        output: int = 0,
        coordinates: Sequence[int | str] | None = None,
        at: Mapping[int | str, float] | None = None,
        compare: bool = True,
        n_points: int | None = None,
        ax: "Axes | Iterable[Axes] | None" = None,
        **artist_kw: Any,
    ) -> "SolutionDisplay":
        """Evaluate a fitted solver and plot.

        Parameters
        ----------
        estimator : fitted KANPDESolver or MetaKANPDESolver
        kind : {"solution", "residual", "loss"}, default="solution"
            The solution; each equation's residual, its Laplacian exact; or the mean of each
            loss over every 100 steps, and the relative error if ``solution`` is known.
        output : int, default=0
            Which unknown function of a system.
        coordinates : sequence of one or two int or str, optional
            Horizontal and vertical axis, by number or name: one gives curves, two a map. By
            default time and place where these are all, else the first two.
        at : dict of int or str to float, optional
            Where the other coordinates are held; by default in the middle of the domain.
        compare : bool, default=True
            Whether the exact solution and the error are shown too, if ``solution`` is known.
        n_points : int, optional
            Points along an axis; by default 400 for curves, 120 for maps.
        ax : matplotlib Axes or iterable of Axes, optional
            See :meth:`plot`.
        **artist_kw : dict
            See :meth:`plot`.

        Returns
        -------
        SolutionDisplay, drawn

        Raises
        ------
        NotFittedError, TypeError, ValueError
            If the estimator is not fitted or another one, or for a kind, output, coordinate or
            number that it does not have.
        """
        _check(estimator, kind, output, n_points)
        estimator = vars(estimator).get("modes_", [estimator])[0]
        if kind == "loss":
            terms = dict(estimator.loss_terms_)
            steps = terms.pop("step")
            return cls(kind, (steps,), terms, ("step",), {}).plot(ax, **artist_kw)
        problem = estimator._problem
        part = cut(problem, coordinates, at, n_points)
        if kind == "residual":
            values = _residuals(estimator, part)
        else:
            values = _solutions(estimator, part, output, compare)
        quantity = "u" if estimator.n_outputs == 1 else f"u[{output}]"
        in_time = problem.has_time and len(problem.bounds) - 1 in part.places
        equal = len(part.names) == 2 and not in_time
        display = cls(kind, part.coordinates, values, part.names, part.fixed, quantity, equal)
        return display.plot(ax, **artist_kw)

    def plot(
        self, ax: "Axes | Iterable[Axes] | None" = None, **artist_kw: Any
    ) -> "SolutionDisplay":
        """Draw a panel for the curves and one for the error, or one for each map.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of Axes, optional
            One a panel. By default a new figure.
        **artist_kw : dict
            Passed to ``Axes.plot`` or ``Axes.pcolormesh``.

        Raises
        ------
        ValueError
            If there are more or fewer Axes than panels.
        """
        is_map = len(self.coordinates) == 2
        panels = [[name] for name in self.values] if is_map else [[*self.values]]
        if self.kind == "solution" and not is_map and "error" in self.values:
            panels = [[name for name in self.values if name != "error"], ["error"]]
        axes = self._axes(ax, len(panels))
        for axis, shown in zip(axes, panels, strict=True):
            if is_map:
                self._draw_map(axis, shown[0], artist_kw)
            else:
                self._draw_curves(axis, shown, artist_kw)
            axis.set_title(self._title(shown))
        if self.fixed:
            place = f"at {_fixed_text(self.fixed)}"
            if ax is None:
                axes[0].figure.suptitle(place, fontsize="medium")
            else:
                axes[0].set_title(f"{axes[0].get_title()}, {place}")
        self.axes_ = np.array(axes, dtype=object)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        return self

    def _axes(self, ax: "Axes | Iterable[Axes] | None", n_panels: int) -> "list[Axes]":
        """One a panel: those given, or a row of a new figure."""
        if ax is None:
            from matplotlib import pyplot as plt

            size = (3.9 * n_panels + 0.4, 3.4 if self.equal_aspect else 3.2)
            figure = plt.figure(figsize=size, layout="constrained")
            return [figure.add_subplot(1, n_panels, k + 1) for k in range(n_panels)]
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n_panels:
            raise ValueError(
                f"ax must hold one Axes for each of the {n_panels} panels, got {len(axes)}; "
                "compare=False draws the solution alone."
            )
        return axes

    def _draw_curves(self, axis: "Axes", shown: list[str], line_kw: Mapping[str, Any]) -> None:
        """Over one coordinate; what is compared with dashed, with a legend for several."""
        (x,), losses = self.coordinates, self.kind == "loss"
        for name in shown:
            dashed = name == "exact" or (losses and name == "error")
            style = {
                "label": "relative error" if losses and name == "error" else name,
                "marker": "o" if len(x) == 1 else "",
                **({"linestyle": "--", "color": "black"} if dashed else {}),
            }
            axis.plot(x, self.values[name], **(style | dict(line_kw)))
        axis.set(xlabel=self.names[0], ylabel=self.kind)
        if self.kind == "solution":
            axis.set_ylabel("error" if shown == ["error"] else self.quantity)
        axis.grid(alpha=0.3)
        if losses:
            axis.set_yscale("log")
        if len(shown) > 1:
            axis.legend(fontsize="small")

    def _draw_map(self, axis: "Axes", name: str, mesh_kw: Mapping[str, Any]) -> None:
        """Colours over two coordinates, the first to the right; with a colour bar."""
        values, (x, y) = self.values[name], self.coordinates
        compared = self.kind == "solution" and name != "error"
        if compared:  # in the same colours; others are symmetric
            known = [self.values[each] for each in ("solution", "exact") if each in self.values]
            low, high = min(map(np.nanmin, known)), max(map(np.nanmax, known))
        else:
            high = float(np.nanmax(np.abs(values)))
            low = -high
        style: dict[str, Any] = {
            "cmap": "viridis" if compared else "RdBu_r",
            "vmin": low,
            "vmax": high,
            "rasterized": True,
            "shading": "nearest",
        }
        mesh = axis.pcolormesh(x, y, np.ma.masked_invalid(values.T), **(style | dict(mesh_kw)))
        axis.set(xlabel=self.names[0], ylabel=self.names[1])
        sides = np.ptp(x), np.ptp(y)
        if self.equal_aspect and max(sides) <= MOST_UNEQUAL * min(sides):
            axis.set_aspect("equal")
        bar = axis.figure.colorbar(mesh, ax=axis, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize="small")

    def _title(self, shown: list[str]) -> str:
        if self.kind == "loss":
            return "training"
        if self.kind == "residual":
            return "residual" if len(shown) > 1 or shown == ["residual"] else f"residual {shown[0]}"
        if shown == ["error"]:  # relative in L2, over the points shown
            error, exact = self.values["error"], self.values["exact"]
            relative = float(np.sqrt(np.nansum(error**2) / np.nansum(exact**2)))
            return f"error, {relative:.1e} relative"
        name = shown[0] if len(self.coordinates) == 2 else "solution"
        return name if self.quantity == "u" else f"{name} {self.quantity}"


def _check(estimator: Any, kind: str, output: int, n_points: int | None) -> None:
    if not isinstance(estimator, PDESolver):
        raise TypeError(
            "estimator must be a fitted KANPDESolver or MetaKANPDESolver, got "
            f"{type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}, got {kind!r}.")
    if not 0 <= output < estimator.n_outputs:
        raise ValueError(
            f"output must be at least 0 and below n_outputs={estimator.n_outputs}, got {output!r}."
        )
    if n_points is not None and n_points < 2:
        raise ValueError(f"n_points must be at least 2, got {n_points!r}.")


def _solutions(
    estimator: Any, part: Slice, output: int, compare: bool
) -> dict[str, NDArray[np.float64]]:
    def spread(values: NDArray[Any]) -> NDArray[np.float64]:
        return part.spread(values if values.ndim == 1 else values[:, output])

    values = {"solution": spread(estimator.predict(part.points))}
    if compare and estimator.solution is not None:
        known = torch.as_tensor(estimator.solution(torch.as_tensor(part.points)))
        values["exact"] = spread(known.detach().cpu().double().numpy())
        values["error"] = values["solution"] - values["exact"]
    return values


def _residuals(estimator: Any, part: Slice) -> dict[str, NDArray[np.float64]]:
    """By the names of their losses."""
    physics, one = estimator.net_.module_, estimator._points(part.points[:1])
    with torch.no_grad(), physics.exact():
        names = [*physics.residuals(one)]
    found = estimator.predict_residual(part.points).reshape(len(part.points), len(names))
    return {name: part.spread(column) for name, column in zip(names, found.T, strict=True)}


def _fixed_text(fixed: Mapping[str, float]) -> str:
    """Coordinates of the same value together: "x2, ..., x19 = 0, t = 0.5"."""
    groups: dict[str, list[str]] = {}
    for name, value in fixed.items():
        groups.setdefault(f"{value:.3g}", []).append(name)
    texts = []
    for shown, names in groups.items():
        few = names if len(names) <= _SEVERAL else [names[0], "...", names[-1]]
        texts.append(f"{', '.join(few)} = {shown}")
    return "; ".join(texts)
