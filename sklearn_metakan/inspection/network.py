"""A network as a picture: nodes, and edges drawn as their functions."""

from __future__ import annotations  # help() shows types as they are written here

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sklearn_metakan.inspection.axes import one_axes_each
from sklearn_metakan.inspection.graph import Graph, in_order
from sklearn_metakan.inspection.holders import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DATA = "/*DATA*/null"  # in the page, where the numbers go
_FAINTEST = 0.12
_BELOW: dict[str, Any] = {
    "ha": "center",
    "va": "top",
    "linespacing": 0.95,
    "fontsize": "x-small",
    "bbox": {"color": "white", "alpha": 0.7, "pad": 0.5},
}


class NetworkDisplay:
    """A fitted network: columns on the left, outputs on the right, edges as their functions.

    Make it with :meth:`from_estimator`; the constructor only stores.

    Parameters
    ----------
    graph : Graph
        With ``nodes``, their names, and ``layers``, their edges.
    max_units, max_edges : int
        Most nodes of a column, and edges of a layer, that are drawn.

    Attributes
    ----------
    shown_ : list of ndarray
        Numbers of the nodes that were drawn, from the inputs to the outputs; set by :meth:`plot`.
    edges_ : list of ndarray of shape (n_edges, 2)
        Edges that were drawn, (input, output), of each layer.
    axes_ : matplotlib Axes
    figure_ : matplotlib Figure or SubFigure

    Examples
    --------
    >>> from sklearn_metakan.inspection import NetworkDisplay
    >>> from sklearn_metakan.nn import KAN
    >>> display = NetworkDisplay.from_estimator(KAN([3, 5, 1]), max_edges=4)
    >>> [len(each) for each in display.edges_]
    [4, 4]
    """

    def __init__(self, graph: Graph, max_units: int, max_edges: int) -> None:
        self.graph, self.max_units, self.max_edges = graph, max_units, max_edges

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        member: int = 0,
        max_units: int = 8,
        max_edges: int = 12,
        ax: Axes | Iterable[Axes] | None = None,
    ) -> NetworkDisplay:
        """Draw the part of a network that matters most.

        Parameters
        ----------
        estimator : fitted estimator for tables, or a KAN or KANLinear module
            Or what holds such an estimator, one within another too: a Pipeline, a search, a
            TransformedTargetRegressor. Columns are those that reach the network, with the names
            that the steps before give.
        X : array-like of shape (n_samples, n_features), optional
            Rows as ``estimator.fit`` takes them. Curves then span the values that reach them, and
            importances are those for these rows; see ``edge_importances``.
        member : int, default=0
            Which of the networks of an estimator that averages several.
        max_units : int, default=8
            Most nodes of a column; those that pass on most are kept.
        max_edges : int, default=12
            Most edges of a layer. The strongest one into each unit is always there.
        ax : matplotlib Axes, optional
            By default that of a new figure.

        Returns
        -------
        NetworkDisplay, drawn
            See :meth:`to_html` for the whole network, to be moved.

        Raises
        ------
        ValueError
            For a member that there is not, and options out of range.
        TypeError
            For what is no KAN and holds none.
        NotFittedError, ImportError
            Before fit; without matplotlib.
        """
        if max_units < 1 or max_edges < 1:
            raise ValueError(
                "max_units and max_edges must be at least 1, got "
                f"max_units={max_units!r} and max_edges={max_edges!r}."
            )
        return cls(Graph(estimator, X, member), max_units, max_edges).plot(ax=ax)

    def plot(self, ax: Axes | Iterable[Axes] | None = None) -> NetworkDisplay:
        """Draw the strongest units and edges, fainter where they pass on less.

        The curve of an edge is in the box on it, all of a layer with the same scale.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default that of a new figure.

        Returns
        -------
        NetworkDisplay, itself

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        graph = self.graph
        self.shown_, self.edges_ = graph.strongest(self.max_units, self.max_edges)
        n_layers, most = len(graph.layers), max(map(len, [*self.shown_, *self.edges_]))
        size = 2.2 + 2.6 * n_layers, 1.2 + 0.48 * max(most, 5)
        (axis,) = one_axes_each("NetworkDisplay", ax, 1, 1, size)
        axis.set_axis_off()
        places = in_order(self.edges_, self.shown_)
        heights = [{node: -(k + 0.5) / len(of) for node, k in of.items()} for of in places]
        for index in range(n_layers):
            self._draw_layer(axis, index, heights)
        for side, of_side in enumerate(heights):
            self._draw_nodes(axis, side, of_side)
        n_edges = sum(map(len, self.edges_))
        units = " - ".join(
            f"{len(a)} of {len(b)}" for a, b in zip(self.shown_, graph.nodes, strict=True)
        )
        axis.set_title(
            f"{graph.title}: {n_edges} of {graph.n_edges()} edges; nodes: {units}",
            fontsize="medium",
        )
        axis.set_xlim(-0.62, n_layers + 0.45)
        axis.set_ylim(-1.03, 0.03)
        self.axes_, self.figure_ = axis, axis.figure
        return self

    def _draw_layer(self, axis: Axes, index: int, heights: list[Any]) -> None:
        """Lines from node to box to node, and the curves in the boxes."""
        layer, edges = self.graph.layers[index], self.edges_[index]
        before, after = heights[index], heights[index + 1]
        middle = [before[i] + after[o] for i, o in edges.tolist()]
        curves = np.stack([layer.values[:, i, o] for i, o in edges.tolist()], axis=1)
        low, high = curves.min(0), curves.max(0)
        widest = np.max(high - low) or 1.0
        shares = np.array([layer.importances[i, o] for i, o in edges.tolist()])
        alphas = _FAINTEST + (1 - _FAINTEST) * np.sqrt(shares / (shares.max() or 1.0))
        half, height = 0.12, 0.42 / max(len(edges), 6)
        for k, number in enumerate(np.argsort([-each for each in middle], kind="stable")):
            (i, o), alpha = edges[number].tolist(), alphas[number]
            x, y = index + 0.5, -(k + 0.5) / len(edges)
            line = {"color": "tab:blue", "alpha": alpha, "linewidth": 1.2, "zorder": 1}
            axis.plot([index, x - half], [before[i], y], **line)
            axis.plot([x + half, index + 1], [y, after[o]], **line)
            steps = x + half * np.linspace(-1, 1, len(curves))
            part = (curves[:, number] - (low + high)[number] / 2) / widest
            axis.fill_between([x - half, x + half], y - height, y + height, color="0.95", zorder=2)
            axis.plot(steps, y + 1.8 * height * part, **line | {"linewidth": 1.6, "zorder": 3})

    def _draw_nodes(self, axis: Axes, side: int, heights: dict[int, float]) -> None:
        last = len(self.graph.layers)
        for node, y in heights.items():
            name = self.graph.nodes[side][node]
            axis.plot([side], [y], "o", color="white", markeredgecolor="0.3", markersize=9)
            if side == 0:
                axis.text(-0.07, y, short(name, 18), ha="right", va="center", fontsize="small")
            elif side == last:
                axis.text(side + 0.07, y, short(name, 16), va="center", fontsize="small")
            else:
                unit, _, of_columns = name.partition(" (")
                text = "\n".join([unit, *([of_columns[:-1]] if of_columns else [])])
                axis.annotate(text, (side, y), (0, -6), textcoords="offset points", **_BELOW)

    def to_html(self, path: str | Path, *, n_formulas: int = 8) -> Path:
        """Write the whole network as a page of its own, which needs no network access.

        In it, edges can be hovered over for their function, importance and formulas that they may
        be, inputs moved while the signal is seen to flow, weak edges filtered, and the picture
        zoomed.

        Parameters
        ----------
        path : str or Path
            A file, which is replaced if there is one.
        n_formulas : int, default=8
            Edges of each layer, the most important first, of which the three formulas
            ``a f(b x + c) + d`` are looked for that fit their curves best, each for itself, which
            takes some tenths of a second; x is the column in its units or the unit before. See
            ``symbolic_formula`` for one of the whole network.

        Returns
        -------
        Path of the page

        Raises
        ------
        OSError
            If it cannot be written.
        """
        page = files("sklearn_metakan.inspection").joinpath("network.html").read_text("utf-8")
        data = json.dumps(self.graph.page_data(n_formulas)).replace("<", "\\u003c")
        path = Path(path)
        path.write_text(page.replace(_DATA, data), encoding="utf-8")
        return path
