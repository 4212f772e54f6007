"""Plots of learned edge functions."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sklearn_metakan.inspection.axes import one_axes_each
from sklearn_metakan.inspection.holders import Within, column_number, short, span
from sklearn_metakan.inspection.tables import FEW_VALUES
from sklearn_metakan.nn import KANLinear

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Edges = Sequence[tuple[int | str, int]]
_MOST_TICKS = 8  # names of levels
_FEW_LEVELS = 24  # whose points do not touch
_MISSING: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": "right"}
_MISSING |= {"fontsize": "x-small", "color": "C1"}
MAX_VALUES = 2**23  # edge values held at once
_CORNER: dict[str, Any] = {"ha": "right", "va": "top", "color": "gray", "fontsize": "x-small"}


class EdgeDisplay:
    """Learned edge functions ``phi_oi`` of one layer.

    Make it with :meth:`from_estimator`; the constructor only stores the arrays.

    Parameters
    ----------
    inputs : ndarray of shape (n_points, n_edges)
        Where each edge was evaluated; for the first layer of an estimator in the units of
        the column, else in those of the layer. Of a column that has few values, these, and NaN
        behind them.
    values : ndarray of shape (n_points, n_edges)
        ``phi_oi(inputs)``.
    labels : list of str
        One an edge, "input → output"; a unit inside is named with the
        columns that move it most.
    edges : list of (int, int)
        Input and output index of each edge; of the first layer of an estimator, the input
        is the column's position in what the estimator was fitted on.
    importances : ndarray of shape (n_edges,)
        Shares of the prediction's spread, by which edges are ranked; see ``edge_importances``.
    levels : list of list of str or None, optional
        Of each edge of a column of categories, names of its levels, by rising value: ``values`` are
        theirs, in this order, and NaN behind them.
    missing : ndarray of shape (n_edges,), optional
        Of each edge, its value where the column is missing, NaN where it never was in training.
    atoms : list of ndarray of shape (n_atoms, 2), optional
        Of each edge, values that have numbers of their own beside the curve, and the edge's there.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One an edge; set by :meth:`plot`.
    figure_ : matplotlib Figure or SubFigure

    Examples
    --------
    >>> from sklearn_metakan.inspection import EdgeDisplay
    >>> from sklearn_metakan.nn import KAN
    >>> display = EdgeDisplay.from_estimator(KAN([3, 5, 1]), max_edges=4)
    >>> display.values.shape
    (200, 4)
    """

    def __init__(
        self,
        inputs: NDArray[np.floating],
        values: NDArray[np.floating],
        labels: Sequence[str],
        edges: Edges,
        importances: NDArray[np.floating],
        levels: Sequence[list[str] | None] | None = None,
        missing: NDArray[np.floating] | None = None,
        atoms: Sequence[NDArray[np.floating]] | None = None,
    ) -> None:
        self.inputs, self.values, self.labels = inputs, values, labels
        self.edges, self.importances = edges, importances
        self.levels = [None] * len(edges) if levels is None else levels
        self.missing = np.full(len(edges), np.nan) if missing is None else missing
        self.atoms = [np.empty((0, 2))] * len(edges) if atoms is None else atoms

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        layer: int = 0,
        edges: Edges | None = None,
        max_edges: int = 12,
        n_points: int = 200,
        member: int = 0,
        ax: Axes | Iterable[Axes] | None = None,
    ) -> EdgeDisplay:
        """Evaluate the edge functions of a layer and plot them.

        Parameters
        ----------
        estimator : fitted estimator, or a KAN or KANLinear module
            Or what holds such an estimator, one within another too: the last step of a Pipeline,
            the best estimator of a search, the regressor of a TransformedTargetRegressor. Its
            columns are then those that the steps before give.
        X : array-like of shape (n_samples, n_features), optional
            Rows as ``estimator.fit`` takes them. The curves then span the values that
            reach the layer, a column of at most 10 values is drawn as points, and edges are
            ranked by these rows. Without it curves span the layer's grid.
        layer : int, default=0
            0 is the layer of the inputs; -1 that of the outputs.
        edges : sequence of (input, output), optional
            Edges to show, in this order, by number; inputs of layer 0 are columns, also by
            name, where fit saw names or the steps of a Pipeline give them. By default the
            most important ones: those that pass on most of the prediction's spread. A column
            that was constant in training has no edges.
        max_edges : int, default=12
            How many to show when ``edges`` is None.
        n_points : int, default=200
            Points a curve.
        member : int, default=0
            Which of the networks of an estimator that averages several.
        ax : matplotlib Axes or iterable of Axes, optional
            See :meth:`plot`.

        Returns
        -------
        EdgeDisplay, drawn

        Raises
        ------
        ValueError
            For a layer, a member, an edge or a column that there is not, options out of range,
            and as :meth:`plot`.
        TypeError
            For what is no KAN and holds none.
        NotFittedError, ImportError
            Before fit; without matplotlib.
        """
        if max_edges < 1 or n_points < 2:
            raise ValueError(
                "max_edges must be at least 1 and n_points at least 2, "
                f"got max_edges={max_edges!r} and n_points={n_points!r}."
            )
        within = Within(estimator, X)
        layers = within.member(member)
        index = layer_index(layer, len(layers))
        module, importances = layers[index], [each[member] for each in within.importances()]
        columns = within.kept if index == 0 else [*range(module.in_features)]
        if edges is None:
            inputs, outputs = _strongest(importances[index], max_edges)
        else:
            known = (within.n_columns, within.names) if index == 0 else (len(columns), [])
            inputs, outputs = _checked(edges, columns, module.out_features, *known)
        x, y, missing, atoms = _curves(within, layers, index, (inputs, outputs), n_points)
        levels = [within.levels_of(i) if not index else None for i in inputs]
        for k, of_edge in enumerate(levels):
            if of_edge is not None:
                levels[k] = _sort_levels(of_edge, x[:, k], y[:, k])
        has_gap = [index == 0 and within.has_gap(i) for i in inputs]
        missing = np.where(has_gap, missing, np.nan)
        named = within.unit_names(index - 1, importances) if index else [*map(within.name, columns)]
        to = within.unit_names(index, importances)
        display = cls(
            inputs=x,
            values=y,
            labels=[f"{short(named[i])} → {to[o]}" for i, o in zip(inputs, outputs, strict=True)],
            edges=[(columns[i], o) for i, o in zip(inputs, outputs, strict=True)],
            importances=importances[index][inputs, outputs],
            levels=levels,
            missing=missing,
            atoms=atoms,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | Iterable[Axes] | None = None, **line_kw: Any) -> EdgeDisplay:
        """Draw one small plot an edge, all with the same vertical scale, and its importance.

        Levels are points, by what they do; so is a missing value, to the right of the curve, and so
        are the column's atoms, see ``sklearn_metakan.nn.Levels``.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of Axes, optional
            Several Axes: one an edge. A single one is divided if there are several edges.
            By default a new figure.
        **line_kw : dict
            Passed to ``Axes.plot``.

        Returns
        -------
        EdgeDisplay, itself

        Raises
        ------
        ValueError
            For fewer Axes than edges, and a single one that no grid of subplots holds.
        ImportError
            Without matplotlib.
        """
        axes = one_axes_each("EdgeDisplay", ax, len(self.edges), 4, (2.6, 2.1), "edges")
        at = [each[:, 1] for each in self.atoms]
        every = np.concatenate([self.values.ravel(), self.missing, *at])
        low, high = np.nanmin(every), np.nanmax(every)
        margin = 0.05 * (high - low) or 1.0
        for k, (axis, label) in enumerate(zip(axes, self.labels, strict=True)):
            there = ~np.isnan(self.inputs[:, k])
            of_edge = self.levels[k]
            few: dict[str, Any] = {} if there.all() else {"marker": "o", "linestyle": ":"}
            if of_edge is not None:  # which have no order
                size = 6 if len(of_edge) <= _FEW_LEVELS else 3
                few = {"marker": "o", "markersize": size, "linestyle": ""}
            axis.plot(self.inputs[:, k], self.values[:, k], **few | line_kw)
            if len(self.atoms[k]):
                axis.plot(*self.atoms[k].T, "o", color="C2", markersize=3)
            if of_edge is not None:
                shown = [*range(0, len(of_edge), -(-len(of_edge) // _MOST_TICKS))]
                names = [short(of_edge[place], 12) for place in shown]
                axis.set_xticks(shown, names, rotation=45, ha="right")
            elif few:
                axis.set_xticks(self.inputs[there, k])
            if not np.isnan(self.missing[k]):
                ends = np.nanmin(self.inputs[:, k]), np.nanmax(self.inputs[:, k])
                place = ends[1] + 0.12 * (ends[1] - ends[0] or 1.0)
                axis.plot([place], [self.missing[k]], "D", color="C1", markersize=4)
                axis.annotate("missing", (place, self.missing[k]), **_MISSING)
            axis.set_title(label, fontsize="small")
            share = f"{100 * self.importances[k]:.2g} %"
            axis.text(0.97, 0.97, share, transform=axis.transAxes, **_CORNER)
            axis.tick_params(labelsize="x-small")
            axis.set_ylim(low - margin, high + margin)
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self


def layer_index(layer: int, n_layers: int) -> int:
    """Its position, counted from the inputs; a ValueError for one that there is not."""
    if not isinstance(layer, Integral) or not -n_layers <= layer < n_layers:
        raise ValueError(
            f"layer must be a whole number between {-n_layers} and {n_layers - 1}, the network "
            f"has {n_layers} layer(s); got {layer!r}."
        )
    return int(layer) % n_layers


@torch.no_grad()
def _curves(
    within: Within,
    layers: Sequence[KANLinear],
    index: int,
    edges: tuple[list[int], list[int]],
    n_points: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[NDArray[Any]]]:
    """Of edges of a layer, inputs and outputs: points, values there, at a gap, and at atoms."""
    (inputs, outputs), module, rows = edges, layers[index], within.rows
    for each in layers[:index]:
        rows = None if rows is None else each(rows)
    t, n_values = _points(module, rows, n_points, index == 0)
    n_points = len(t)
    gap, (at, of_atom) = torch.full_like(t[:1], np.nan), _atoms(module, t)
    t = torch.cat([t, gap, at])
    values = torch.cat([block[:, inputs, outputs] for block in _blocks(module, t)])
    x, y = t.double().cpu().numpy(), values.cpu().numpy()
    if index == 0 and within.scaler is not None:
        x = within.scaler.inverse_transform(x)[:, within.kept]
    both = np.stack([x[:, inputs], y], axis=2)[n_points + 1 :]
    atoms = [both[of_atom == i, k] for k, i in enumerate(inputs)]
    x, y, missing = x[:n_points, inputs], y[:n_points], y[n_points]
    beyond = np.arange(n_points)[:, None] >= n_values[inputs]
    x[beyond] = y[beyond] = np.nan
    return x, y, missing, atoms


def _points(
    module: KANLinear, rows: torch.Tensor | None, n_points: int, of_columns: bool
) -> tuple[torch.Tensor, NDArray[np.intp]]:
    """Where each input's edges are drawn, (n_points, in), and how many of the points count.

    All of them, over the range; of a column that has few values, these, and of one of levels, their
    codes. There are more points where a column has more levels.
    """
    levels = module.levels
    sizes = [] if levels is None else levels.sizes
    n_points = max(n_points, *sizes, 0)
    t = span(module, rows, n_points)
    n_values = np.full(t.shape[1], n_points)
    for i, size in enumerate(sizes, module.in_features):
        n_values[i] = size
        t[:, i] = torch.arange(n_points).to(t).clamp(max=size - 1)
    if rows is not None and of_columns:
        for i, column in enumerate(rows.T[: module.in_features]):
            levels = column[~column.isnan()].unique()
            if len(levels) < n_points and len(levels) <= min(FEW_VALUES, len(rows) / 2):
                n_values[i] = len(levels)
                t[: len(levels), i], t[len(levels) :, i] = levels, levels[-1]
    return t, n_values


def _atoms(module: KANLinear, t: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.intp]]:
    """Points at which one input is an atom, (n_atoms, in), and which input that is."""
    if module.levels is None:
        return t[:0], np.empty(0, dtype=np.intp)
    of_atom, atom = module.levels.of_atom, module.levels.atom
    at = t[:1].repeat(len(atom), 1)
    at[torch.arange(len(atom)), of_atom] = atom
    return at, of_atom.cpu().numpy()


def _blocks(module: KANLinear, t: torch.Tensor) -> Iterator[torch.Tensor]:
    """Edge functions at t, (rows, in, out) for as many rows at a time as memory allows."""
    n_rows = max(1, MAX_VALUES // (module.n_inputs * module.out_features))
    for block in t.split(n_rows):
        yield module.edge_functions(block).double()


def _sort_levels(names: list[str], x: NDArray[Any], y: NDArray[Any]) -> list[str]:
    """Sort levels, the first points of a curve in place, by what they do; their names."""
    order = np.argsort(y[: len(names)], kind="stable")
    x[: len(order)], y[: len(order)] = np.arange(len(order)), y[order]
    return [names[place] for place in order]


def _strongest(importances: NDArray[np.float64], count: int) -> tuple[list[int], list[int]]:
    """Inputs and outputs of so many edges of a layer."""
    order = np.argsort(-importances, axis=None, kind="stable")[:count]
    inputs, outputs = np.unravel_index(order, importances.shape)
    return inputs.tolist(), outputs.tolist()


def _checked(
    edges: Edges, columns: list[int], n_out: int, n_columns: int, names: list[str]
) -> tuple[list[int], list[int]]:
    """Inputs and outputs of the network's edges that are asked for by column or its name."""
    if not len(edges):
        raise ValueError("edges must name at least one (input, output) pair, got none.")
    inputs, outputs = [], []
    for edge in edges:
        pair: Any = list(edge) if np.ndim(edge) == 1 else [edge]
        if pair and isinstance(pair[0], str):
            try:
                pair[0] = column_number(pair[0], names, n_columns)
            except ValueError as error:
                raise ValueError(f"The layer has no edge {edge!r}: {error}") from None
        whole = len(pair) == 2 and all(isinstance(each, Integral) for each in pair)
        if not (whole and 0 <= pair[0] < n_columns and 0 <= pair[1] < n_out):
            raise ValueError(
                f"edges must be (input, output) pairs with inputs below {n_columns} and outputs "
                f"below {n_out}; the layer has no edge {edge!r}."
            )
        if pair[0] not in columns:
            raise ValueError(f"column {edge[0]!r} was constant in training and has no edges.")
        inputs.append(columns.index(pair[0]))
        outputs.append(int(pair[1]))
    return inputs, outputs
