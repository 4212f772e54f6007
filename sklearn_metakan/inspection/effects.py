"""Plots of what a column, or two together, do to the prediction."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Iterable, Sequence
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_metakan.inspection.ale import (
    Effect,
    Model,
    accumulated,
    accumulated_pair,
    averaged,
    function_of_pair,
    ranked_columns,
)
from sklearn_metakan.inspection.answers import Answers
from sklearn_metakan.inspection.axes import one_axes_each
from sklearn_metakan.inspection.holders import short
from sklearn_metakan.inspection.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 2000
N_POINTS, N_POINTS_EXACT = 33, 129
N_POINTS_PAIR, N_POINTS_EXACT_PAIR = 17, 33
_STRIP = 0.14  # of a plot's height, for the distribution of the data


class EffectDisplay:
    """What columns do to the prediction, in its units, centred over the rows.

    Make it with :meth:`from_estimator`; the constructor only stores.

    Parameters
    ----------
    effects : list of Effect
        Each with ``columns``, ``points`` (with ``values``, where the effect was asked for),
        ``values``, ``members``, ``missing``.
    names : list of str
        Of all columns of X.
    data : list of ndarray of shape (n_rows,)
        The columns of X, numbers or objects, whose distribution is drawn beneath.
    what : str
        What is predicted: "prediction", "log-odds of yes".

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One an effect; set by :meth:`plot`.
    figure_ : matplotlib Figure or SubFigure

    Notes
    -----
    An accumulated local effect is ``g(z) = sum of mean [f(x with z_k) - f(x with z_k-1)]`` over
    the points up to z, each mean over the rows whose value lies between the two: rows are moved
    as little as possible, where a partial dependence asks for rows that cannot be. Where
    f is a sum of functions of one column each (``hidden_layer_sizes=()``), g is the column's
    function, exactly; with ``interactions``, it is that of the sum without its pairs, and the map
    of a pair is the function that the two have together. Of levels without an order, neighbours
    are those of like predictions. A missing value has the mean difference to the values of other
    rows.

    The band is the standard deviation of the members' effects: how far they disagree, not
    how far all of them may be wrong.

    Source: Apley and Zhu, "Visualizing the effects of predictor variables in black box supervised
    learning models" (2020).

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor
    >>> from sklearn_metakan.inspection import EffectDisplay
    >>> X, y = make_friedman1(200, random_state=0)
    >>> model = KANRegressor(8, max_iter=5, random_state=0).fit(X, y)
    >>> display = EffectDisplay.from_estimator(model, X, features=[3, (0, 1)])
    >>> [effect.values.shape for effect in display.effects]
    [(33,), (17, 17)]
    """

    def __init__(
        self,
        effects: Sequence[Effect],
        names: Sequence[str],
        data: Sequence[NDArray[Any]],
        what: str,
    ) -> None:
        self.effects, self.names, self.data, self.what = effects, names, data, what

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        features: Sequence[Any] | None = None,
        *,
        target: Any = None,
        kind: Literal["ale", "pdp"] = "ale",
        max_features: int = 6,
        n_points: int | None = None,
        ax: Axes | Iterable[Axes] | None = None,
    ) -> EffectDisplay:
        """Compute the effects of columns and plot them.

        Parameters
        ----------
        estimator : fitted estimator for tables
            Or what holds one, one within another too: a Pipeline, a search, a
            TransformedTargetRegressor. Columns are those of X, before any step, and predictions
            are those of the whole, in the units of y.
        X : array-like of shape (n_samples, n_features)
            Rows as ``estimator.fit`` takes them, such as those of training; of more than
            2,000, as many of them, drawn at random.
        features : sequence of str, int or pairs of these, optional
            Columns by name or number, in this order; a pair (a, b) is a map of what both
            do together beyond what each does. By default the columns that matter most: that change
            the prediction most when shuffled.
        target : label or int, optional
            Of classifiers the class, by default the second of two: the effect is on
            ``decision_function``, the log-odds of two classes. Of several outputs, the number of
            one.
        kind : {"ale", "pdp"}, default="ale"
            Accumulated local effects, or partial dependence: the mean prediction as all rows (200
            of them) are given the value. Pairs are always the former.
        max_features : int, default=6
            How many to show when ``features`` is None.
        n_points : int, optional
            Points a curve, at quantiles of the column; by default 33, of additive models 129, of
            each side of a pair 17. Columns of at most 10 values, or without numbers, have these.
        ax : matplotlib Axes or iterable of Axes, optional
            See :meth:`plot`.

        Returns
        -------
        EffectDisplay, drawn

        Raises
        ------
        ValueError
            For a column, target or kind that there is not, options out of range, invalid X, and
            as :meth:`plot`.
        TypeError
            For what is no estimator of this package for tables and holds none.
        NotFittedError, ImportError
            Before fit; without matplotlib.
        """
        if kind not in ("ale", "pdp"):
            raise ValueError(f"kind must be 'ale' or 'pdp', got {kind!r}.")
        if max_features < 1 or (n_points is not None and n_points < 2):
            raise ValueError(
                "max_features must be at least 1 and n_points at least 2, got "
                f"max_features={max_features!r} and n_points={n_points!r}."
            )
        answers, table = Answers(estimator), Table(X)
        output, sign, what = answers.output(target)
        rows = np.random.default_rng(0).permutation(table.n_rows)[:MOST_ROWS]
        table = Table(table.compose(rows))
        model = Model(answers, table, output, sign)
        if features is None:
            chosen: list[tuple[int, ...]] = [(j,) for j in ranked_columns(model)[:max_features]]
        else:
            chosen = _columns(features, table)
        mains = model
        if answers.pairs and kind == "ale":
            mains = Model(answers.with_pairs([]), table, output, sign)
        n_curve = n_points or (N_POINTS_EXACT if answers.is_additive else N_POINTS)
        of_one = partial(accumulated if kind == "ale" else averaged, mains, n_points=n_curve)
        n_side = n_points or (N_POINTS_EXACT_PAIR if answers.pairs else N_POINTS_PAIR)

        def of_pair(pair: tuple[int, int]) -> Effect:
            own = [k for k, each in enumerate(answers.pairs) if {*each} == {*pair}]
            if not own:
                return accumulated_pair(mains, pair, n_side)
            both = Model(answers.with_pairs(own), table, output, sign)
            return function_of_pair(mains, both, pair, n_side)

        display = cls(
            effects=[of_one(js[0]) if len(js) == 1 else of_pair((js[0], js[1])) for js in chosen],
            names=[*map(table.name, range(table.n_columns))],
            data=[table.values(j) for j in range(table.n_columns)],
            what=what,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | Iterable[Axes] | None = None, **line_kw: Any) -> EffectDisplay:
        """Draw one plot an effect; curves have the same vertical scale.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of Axes, optional
            Several Axes: one an effect. A single one is divided if there are several effects.
            By default a new figure.
        **line_kw : dict
            Passed to ``Axes.plot``, for curves and points.

        Returns
        -------
        EffectDisplay, itself

        Raises
        ------
        ValueError
            For fewer Axes than effects, and a single one that no grid of subplots holds.
        ImportError
            Without matplotlib.
        """
        axes = one_axes_each("EffectDisplay", ax, len(self.effects), 3, (3.4, 2.7))
        curves = [each for each in self.effects if len(each.columns) == 1]
        low, high = 0.0, 0.0
        for effect in curves:
            spread = effect.members.std(0)
            every = [effect.values - spread, effect.values + spread]
            every += [] if effect.missing is None else [effect.missing]
            low = min([low, *(part.min(initial=0) for part in every)])
            high = max([high, *(part.max(initial=0) for part in every)])
        margin = 0.06 * (high - low) or 1.0
        bottom = low - margin - _STRIP / (1 - _STRIP) * (high - low + 2 * margin)
        for axis, effect in zip(axes, self.effects, strict=True):
            names = [short(self.names[j]) for j in effect.columns]
            axis.set_xlabel(names[0], fontsize="small")
            if len(effect.columns) == 1:
                self._draw_curve(axis, effect, **line_kw)
                axis.set_ylim(bottom, high + margin)
                axis.set_ylabel(f"effect on {short(self.what)}", fontsize="small")
            else:
                self._draw_map(axis, effect)
                axis.set_ylabel(names[1], fontsize="small")
            axis.tick_params(labelsize="x-small")
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self

    def _draw_curve(self, axis: Axes, effect: Effect, **line_kw: Any) -> None:
        (points,), spread = effect.points, effect.members.std(0)
        x = _positions(axis, "x", effect, 0)
        axis.axhline(0, color="gray", linewidth=0.8, alpha=0.5)
        if points.is_few:
            style: dict[str, Any] = {
                "marker": "o",
                "linestyle": ":" if points.is_number else "none",
            }
            (line,) = axis.plot(x, effect.values, **style | line_kw)
            axis.errorbar(x, effect.values, spread, fmt="none", color=line.get_color(), alpha=0.5)
            counts = np.bincount(points.place[points.place >= 0], minlength=len(x))
            width = 0.6 * (np.diff(x).min() if len(x) > 1 else 1.0)
            _strip(axis, x, np.full(len(x), width), counts)
        else:
            (line,) = axis.plot(x, effect.values, **line_kw)
            low, high = effect.values - spread, effect.values + spread
            axis.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            values = self.data[effect.columns[0]]
            counts, ends = np.histogram(values[~points.missing].astype(float), bins=30)
            _strip(axis, (ends[1:] + ends[:-1]) / 2, np.diff(ends), counts)
        if effect.missing is not None:
            whole, members = effect.missing[0], effect.missing[1:]
            place = axis.get_xlim()[1] + 0.06 * np.ptp(axis.get_xlim())
            mark: dict[str, Any] = {"marker": "D", "markersize": 5, "color": line.get_color()}
            axis.errorbar([place], [whole], [members.std()], **mark)
            axis.annotate(
                "missing",
                (place, whole),
                fontsize="x-small",
                ha="right",
                xytext=(3, 6),
                textcoords="offset points",
            )

    def _draw_map(self, axis: Axes, effect: Effect) -> None:
        x, y = (_positions(axis, side, effect, k) for k, side in enumerate("xy"))
        shown = np.where(effect.known, effect.values, np.nan).T
        most = np.abs(effect.values[effect.known]).max(initial=0) or 1.0
        options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        picture = axis.pcolormesh(x, y, shown, shading="nearest", **options)
        bar = axis.figure.colorbar(picture, ax=axis)
        bar.set_label(f"joint effect on {short(self.what)}", fontsize="x-small")
        bar.ax.tick_params(labelsize="x-small")
        axis.set_facecolor("0.9")


def _columns(features: Sequence[Any], table: Table) -> list[tuple[int, ...]]:
    """Numbers of columns, or of pairs of them."""
    if isinstance(features, str | Integral) or not len(features):
        raise ValueError(
            f"features must be a list of columns or pairs, at least one; got {features!r}."
        )
    found: list[tuple[int, ...]] = []
    for feature in features:
        pair = [feature] if isinstance(feature, str) or np.ndim(feature) == 0 else [*feature]
        numbers = tuple(map(table.number, pair))
        if len(numbers) > 2 or len({*numbers}) < len(numbers) or not numbers:
            raise ValueError(f"features must be columns or pairs of two, got {feature!r}.")
        found.append(numbers)
    return found


def _positions(axis: Axes, side: str, effect: Effect, k: int) -> NDArray[np.float64]:
    """Where the points of a column lie on a side of a plot, which is labelled."""
    points = effect.points[k]
    if points.is_number:
        if points.is_few:
            getattr(axis, f"set_{side}ticks")(points.values)
        return points.values.astype(np.float64)
    place = np.arange(len(points.values), dtype=np.float64)
    turn = 45 if side == "x" and sum(len(str(each)) for each in points.values) > 24 else 0
    names = [short(each, 14) for each in points.values]
    how: dict[str, Any] = {"rotation": turn, "ha": "right" if turn or side == "y" else "center"}
    getattr(axis, f"set_{side}ticks")(place, names, **how)
    return place


def _strip(
    axis: Axes, x: NDArray[np.float64], width: NDArray[np.float64], counts: NDArray[np.intp]
) -> None:
    """The distribution of the data, along the lower edge of a plot."""
    heights = counts / max(counts.max(initial=0), 1) * _STRIP
    axis.bar(x, heights, width, transform=axis.get_xaxis_transform(), color="0.75", zorder=0)
