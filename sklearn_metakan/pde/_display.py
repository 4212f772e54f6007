"""Plots of solutions, residuals and training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_metakan.pde._drawing import draw_curves, draw_map, panel_axes
from sklearn_metakan.pde._slice import Slice, cut
from sklearn_metakan.pde._solver import TrainedSolver

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Kind = Literal["solution", "residual", "loss"]
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
        self.kind = kind
        self.coordinates = coordinates
        self.values = values
        self.names = names
        self.fixed = fixed
        self.quantity = quantity
        self.equal_aspect = equal_aspect

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
        """
        _check(estimator, kind, output, n_points)
        if kind == "loss":
            terms = dict(estimator.loss_terms_)
            steps = terms.pop("step")
            return cls(kind, (steps,), terms, ("step",), {}).plot(ax, **artist_kw)
        part = cut(estimator._problem, coordinates, at, n_points)
        if kind == "residual":
            values = _residuals(estimator, part)
        else:
            values = _solutions(estimator, part, output, compare)
        time = len(estimator._problem.bounds) - 1 if estimator._problem.has_time else None
        display = cls(
            kind,
            part.coordinates,
            values,
            part.names,
            part.fixed,
            "u" if estimator.n_outputs == 1 else f"u[{output}]",
            len(part.names) == 2 and time not in part.places,
        )
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
        """
        panels = self._panels()
        axes = panel_axes(ax, len(panels), self.equal_aspect)
        for axis, shown in zip(axes, panels, strict=True):
            self._draw(axis, shown, artist_kw)
        if self.fixed:
            place = f"at {_fixed_text(self.fixed)}"
            if ax is None:
                axes[0].figure.suptitle(place, fontsize="medium")
            else:
                axes[0].set_title(f"{axes[0].get_title()}, {place}")
        self.axes_ = np.array(axes, dtype=object)
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self

    def _panels(self) -> list[list[str]]:
        """The names of the values that each panel shows."""
        if len(self.coordinates) == 2:
            return [[name] for name in self.values]
        if self.kind == "solution":
            curves = [name for name in self.values if name != "error"]
            return [curves] + [["error"]] * ("error" in self.values)
        return [list(self.values)]

    def _draw(self, axis: "Axes", shown: list[str], artist_kw: dict[str, Any]) -> None:
        if len(self.coordinates) == 2:
            limits = self._limits(shown[0])
            diverging = self.kind == "residual" or shown == ["error"]
            draw_map(
                axis, self.coordinates, self.values[shown[0]], self.names, limits, diverging,
                self.equal_aspect, artist_kw,
            )  # fmt: skip
        else:
            losses = self.kind == "loss"
            curves = {
                "relative error" if losses and name == "error" else name: self.values[name]
                for name in shown
            }
            draw_curves(axis, self.coordinates[0], curves, self.names[0], losses, artist_kw)
            axis.set_ylabel(self._y_label(shown))
        axis.set_title(self._title(shown))

    def _limits(self, name: str) -> tuple[float, float]:
        """Of the colours: solution and exact solution have the same, others are symmetric."""
        if self.kind == "solution" and name != "error":
            known = [self.values[each] for each in ("solution", "exact") if each in self.values]
            return min(map(np.nanmin, known)), max(map(np.nanmax, known))
        largest = float(np.nanmax(np.abs(self.values[name])))
        return -largest, largest

    def _y_label(self, shown: list[str]) -> str:
        if self.kind == "solution":
            return "error" if shown == ["error"] else self.quantity
        return {"residual": "residual", "loss": "loss"}[self.kind]

    def _title(self, shown: list[str]) -> str:
        if self.kind == "loss":
            return "training"
        if self.kind == "residual":
            return "residual" if len(shown) > 1 or shown == ["residual"] else f"residual {shown[0]}"
        if shown == ["error"]:
            return f"error, {self._relative_error():.1e} relative"
        name = shown[0] if len(self.coordinates) == 2 else "solution"
        return name if self.quantity == "u" else f"{name} {self.quantity}"

    def _relative_error(self) -> float:
        """In L2, over the points shown."""
        error, exact = self.values["error"], self.values["exact"]
        return float(np.sqrt(np.nansum(error**2) / np.nansum(exact**2)))


def _check(estimator: Any, kind: str, output: int, n_points: int | None) -> None:
    if not isinstance(estimator, TrainedSolver):
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
    points = part.points[part.inside]
    values = {"solution": part.spread(_column(estimator.predict(points), output))}
    if compare and estimator.solution is not None:
        known = torch.as_tensor(estimator.solution(torch.as_tensor(points)))
        values["exact"] = part.spread(_column(known.detach().cpu().double().numpy(), output))
        values["error"] = values["solution"] - values["exact"]
    return values


def _column(values: NDArray[Any], output: int) -> NDArray[Any]:
    return values if values.ndim == 1 else values[:, output]


def _residuals(estimator: Any, part: Slice) -> dict[str, NDArray[np.float64]]:
    """By the names of their losses."""
    points, physics = part.points[part.inside], estimator._physics
    with torch.no_grad(), physics.exact():
        names = list(physics.residuals(estimator._tensor(points[:1])))
    found = estimator.predict_residual(points).reshape(len(points), len(names))
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
