"""Contributions of columns to the predictions of single rows."""

from __future__ import annotations  # help() shows types as they are written here

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_metakan.inspection.answers import Answers
from sklearn_metakan.inspection.axes import one_axes_each
from sklearn_metakan.inspection.holders import short
from sklearn_metakan.inspection.shapley import by_enumeration, by_orders, of_pairs, of_sum
from sklearn_metakan.inspection.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BACKGROUND = 32  # rows
MOST_ENUMERATED = 14  # columns
_UP, _DOWN = "tab:red", "tab:blue"


@dataclass(repr=False)
class Explanation:
    """What each column adds to the predictions of rows; ``explain`` makes it.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
        Contributions, in the units of the prediction. Of one output, or of two classes, without
        the last axis.
    base_value : float or ndarray of shape (n_outputs,)
        The mean prediction for the background; with the contributions of a row it sums to
        its prediction.
    standard_errors : ndarray, shape of values
        Of contributions that were estimated; zero where they are exact.
    data : table of X, as it was given
    names : list of str
        Of the columns.
    outputs : list
        Classes, or numbers of the outputs; of two classes, the second alone.
    what : str
        What is explained: "prediction", "log-odds of yes".
    axes_, figure_ : Axes and Figure of matplotlib
        Of the last ``plot``.
    """

    values: NDArray[np.float64]
    base_value: Any
    standard_errors: NDArray[np.float64]
    data: Any
    names: list[str]
    outputs: list[Any]
    what: str
    axes_: Any = None
    figure_: Any = None

    def __repr__(self) -> str:
        (rows, columns), what = self.values.shape[:2], self.what.removesuffix(" of")
        return (
            f"Explanation of {what}: {rows} x {columns} contributions about "
            f"{np.round(self.base_value, 4)}; to_frame() lists them, plot(row) draws a row's"
        )

    def to_frame(self, target: Any = None) -> pd.DataFrame:
        """Contributions as a table: columns as in X, rows numbered as X's are, if they are.

        Parameters
        ----------
        target : label or int, optional
            Which output, by its class or number, if there are several.

        Raises
        ------
        ValueError
            For an output that there is not.
        """
        index = getattr(self.data, "index", None)
        return pd.DataFrame(self._of(self.values, target), columns=self.names, index=index)

    def plot(
        self,
        row: int = 0,
        *,
        target: Any = None,
        max_features: int = 10,
        ax: Axes | None = None,
    ) -> Explanation:
        """Draw how the columns lead from the base value to the prediction of a row.

        Parameters
        ----------
        row : int, default=0
            Position in X; -1 is the last.
        target : label or int, optional
            Which output, by its class or number, if there are several.
        max_features : int, default=10
            Bars at most; the last of them sums up the other columns.
        ax : matplotlib Axes, optional
            By default that of a new figure.

        Returns
        -------
        Explanation, itself
            ``axes_`` and ``figure_`` are what was drawn on.

        Raises
        ------
        ValueError
            For a row or output that there is not.
        ImportError
            Without matplotlib.
        """
        n = len(self.values)
        if not isinstance(row, Integral) or not -n <= int(row) < n:
            raise ValueError(f"row must be a whole number from {-n} to {n - 1}, got {row!r}.")
        if max_features < 1:
            raise ValueError(f"max_features must be at least 1, got {max_features!r}.")
        values = self._of(self.values, target)[row]
        errors = self._of(self.standard_errors, target)[row]
        base = float(np.ravel(self.base_value)[self._output(target)])
        order = np.argsort(-np.abs(values), kind="stable")
        many = len(order) > max_features
        first, rest = np.split(order, [max_features - many])
        table = Table(self.data)
        labels = [f"{short(self.names[j], 24)} = {_shown(table.values(j)[row])}" for j in first]
        bars, spread = values[first], errors[first]
        if many:
            labels.append(f"{len(rest)} other columns")
            bars = np.r_[bars, values[rest].sum()]
            spread = np.r_[spread, np.nan]
        height = 0.34 * len(bars) + 1.1
        (axis,) = one_axes_each("Explanation.plot", ax, 1, 1, (6.4, height))
        ends = base + np.cumsum(bars)
        starts = np.r_[base, ends[:-1]]
        place = np.arange(len(bars))
        colors = [_UP if bar > 0 else _DOWN for bar in bars]
        error = np.where(spread > 0, spread, np.nan)
        style = {"ecolor": "0.3", "error_kw": {"linewidth": 1}}
        axis.barh(place, bars, 0.65, left=starts, color=colors, xerr=error, **style)
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            axis.plot([end, end], [k, min(k + 1, len(bars) - 1)], color="0.6", linewidth=0.8)
            place_of = {"va": "center", "fontsize": "x-small"}
            right = max(start, end + np.nan_to_num(error[k]))  # beyond bar and error
            axis.annotate(
                f"{bars[k]:+.3g}", (right, k), (4, 0), textcoords="offset points", **place_of
            )
        axis.axvline(base, color="0.6", linewidth=0.8, linestyle=":")
        axis.use_sticky_edges = False
        axis.margins(x=0.12)
        axis.set_yticks(place, labels, fontsize="small")
        axis.invert_yaxis()
        axis.tick_params(axis="x", labelsize="x-small")
        what = self.what if len(self.outputs) == 1 else f"{self.what} {self._label(target)}"
        axis.set_title(
            f"{short(what)}: {_shown(base)} on average, {_shown(ends[-1])} here", fontsize="medium"
        )
        self.axes_, self.figure_ = axis, axis.figure
        return self

    def _label(self, target: Any) -> Any:
        return self.outputs[self._output(target)]

    def _output(self, target: Any) -> int:
        if len(self.outputs) == 1 and target is None:
            return 0
        if target not in self.outputs:
            raise ValueError(f"target must be one of {self.outputs}, got {target!r}.")
        return self.outputs.index(target)

    def _of(self, values: NDArray[np.float64], target: Any) -> NDArray[np.float64]:
        return values.reshape(*values.shape[:2], -1)[:, :, self._output(target)]


def explain(
    estimator: Any,
    X: ArrayLike,
    background: ArrayLike | None = None,
    *,
    max_evaluations: int = 100_000,
    random_state: int = 0,
) -> Explanation:
    """Contributions of the columns to the prediction of each row, which sum to it.

    Shapley values of the game ``v(S) = mean_b f(x_S, b_rest)``: columns S are those of x, the
    others those of a row b of the background. Exact for additive models
    (``hidden_layer_sizes=()``), ``g_j(x_j) - mean_b g_j(b_j)`` and half of what a column does in
    each of its ``interactions``, and for few columns, by all 2^d sets; else estimated by random
    orders of the columns, in which sums stay exact and contributions have a standard error.

    Parameters
    ----------
    estimator : fitted estimator for tables
        Or what holds one, one within another too: a Pipeline, a search, a
        TransformedTargetRegressor. Columns are those of X, before any step.
    X : array-like of shape (n_samples, n_features)
        Rows to explain, as ``estimator.fit`` takes them.
    background : array-like of shape (n_rows, n_features), optional
        Rows that predictions are compared with, such as those of training; of more than 32, as
        many of them, drawn at random. By default X.
    max_evaluations : int, default=100_000
        Predictions that may be asked for, which decide whether all sets of columns are tried, and
        how many orders; about 25 microseconds each with the default network. At least one
        order and its reverse for each row of the background are tried in any case.
    random_state : int, default=0
        For the orders, and the rows of the background.

    Returns
    -------
    Explanation
        Of ``predict`` (regressors), or ``decision_function`` (classifiers: log-odds).

    Raises
    ------
    ValueError
        For invalid X, a background that is no table like it or, with X itself for it, a single
        row.
    TypeError
        For what is no estimator of this package for tables and holds none.
    NotFittedError

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor
    >>> from sklearn_metakan.inspection import explain
    >>> X, y = make_friedman1(100, random_state=0)
    >>> model = KANRegressor((), max_iter=5, random_state=0).fit(X, y)
    >>> explanation = explain(model, X[:2], background=X)
    >>> sums = explanation.base_value + explanation.values.sum(axis=1)
    >>> bool(abs(sums - model.predict(X[:2])).max() < 1e-6)
    True
    """
    if max_evaluations < 1:
        raise ValueError(f"max_evaluations must be at least 1, got {max_evaluations!r}.")
    answers, table, rng = Answers(estimator), Table(X), np.random.default_rng(random_state)
    if background is None and table.n_rows == 1:
        raise ValueError(
            "explain compares rows with a background, and X has a single row; pass rows of the "
            "training data as background=."
        )
    whole = table if background is None else table.joined(Table(background))
    rows = np.arange(table.n_rows)
    others = rows if background is None else np.arange(table.n_rows, whole.n_rows)
    others = np.sort(rng.permutation(others)[:MOST_BACKGROUND])

    def answer(index: NDArray[np.intp]) -> NDArray[np.float64]:
        return answers.of(whole, index)[:, 0]

    d, evaluations = whole.n_columns, len(rows) * len(others)
    if answers.is_additive:
        values = (of_pairs if answers.pairs else of_sum)(answer, rows, others, d)
        errors = np.zeros_like(values)
    elif d <= MOST_ENUMERATED and evaluations * 2**d <= max_evaluations:
        values = by_enumeration(answer, rows, others, d)
        errors = np.zeros_like(values)
    else:
        n_pairs = max(1, max_evaluations // (evaluations * 2 * d))
        values, errors = by_orders(answer, rows, others, d, n_pairs, rng)
    single = answers.n_outputs == 1
    base = answer(np.repeat(others[:, None], d, axis=1)).mean(0)
    what = answers.what
    if single:
        values, errors, base = values[..., 0], errors[..., 0], float(base[0])
        _, _, what = answers.output(None)
    names = [*map(table.name, range(d))]
    return Explanation(values, base, errors, table.X, names, answers.outputs, what)


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return short(str(value), 16)
