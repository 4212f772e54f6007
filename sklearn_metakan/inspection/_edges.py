"""Plots of learned edge functions."""

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_metakan.nn import KANLinear

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Edges = Sequence[tuple[int | str, int]]
MAX_VALUES = 2**23  # edge values held at once while the edges are ranked
COLUMNS = 4


class EdgeDisplay:
    """Learned edge functions ``phi_oi`` of one layer.

    Make it with :meth:`from_estimator`; the constructor only stores the arrays.

    Parameters
    ----------
    inputs : ndarray of shape (n_points, n_edges)
        Where each edge was evaluated; for the first layer of an estimator in the units of
        the column, else in those of the layer.
    values : ndarray of shape (n_points, n_edges)
        ``phi_oi(inputs)``.
    labels : list of str
        One an edge: "input → output".
    edges : list of (int, int)
        Input and output index of each edge.
    importances : ndarray of shape (n_edges,)
        Standard deviation of each edge function, by which edges are ranked.

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

    axes_: NDArray[np.object_]
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        inputs: NDArray[np.floating],
        values: NDArray[np.floating],
        labels: Sequence[str],
        edges: Edges,
        importances: NDArray[np.floating],
    ) -> None:
        self.inputs = inputs
        self.values = values
        self.labels = labels
        self.edges = edges
        self.importances = importances

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
        ax: "Axes | Iterable[Axes] | None" = None,
    ) -> "EdgeDisplay":
        """Evaluate the edge functions of a layer and plot them.

        Parameters
        ----------
        estimator : fitted estimator, or a KAN or KANLinear module
            Of a pipeline, its last step.
        X : array-like of shape (n_samples, n_features), optional
            Rows as the estimator's fit takes them. The curves then span the values that
            reach the layer, and edges are ranked by their spread over these rows. Without
            it both use the layer's grid.
        layer : int, default=0
            0 is the layer of the inputs; -1 that of the outputs.
        edges : sequence of (input, output), optional
            Edges to show, in this order, by number; inputs of layer 0 also by the name of their
            column, where fit saw names. By default the most important ones.
        max_edges : int, default=12
            How many to show when ``edges`` is None.
        n_points : int, default=200
            Points a curve.
        ax : matplotlib Axes or iterable of Axes, optional
            See :meth:`plot`.

        Returns
        -------
        EdgeDisplay, drawn
        """
        if max_edges < 1 or n_points < 2:
            raise ValueError(
                "max_edges must be at least 1 and n_points at least 2, "
                f"got max_edges={max_edges!r} and n_points={n_points!r}."
            )
        layers = _layers(estimator)
        index = _layer_index(layer, len(layers))
        module = layers[index]
        with torch.no_grad():
            rows = None if X is None else _layer_inputs(estimator, X, layers[:index], module)
            t = _curve_points(module, rows, n_points)
            spread = _spread(module, t if rows is None else rows)
            names = _column_names(estimator, index)
            chosen = _ranked(spread, max_edges) if edges is None else _checked(edges, spread, names)
            values = _edge_values(module, t, chosen)
        x = t.double().cpu().numpy()
        if index == 0:
            x = _raw_units(estimator, x)
        sources = [i for i, _ in chosen]
        display = cls(
            inputs=x[:, sources],
            values=values,
            labels=_labels(estimator, chosen, index, len(layers)),
            edges=chosen,
            importances=spread[tuple(np.transpose(chosen))],
        )
        return display.plot(ax=ax)

    def plot(self, ax: "Axes | Iterable[Axes] | None" = None, **line_kw: Any) -> "EdgeDisplay":
        """Draw one small plot an edge, all with the same vertical scale.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of Axes, optional
            Several Axes: one an edge. A single one is divided if there are several edges.
            By default a new figure.
        **line_kw : dict
            Passed to ``Axes.plot``.
        """
        axes = _edge_axes(ax, len(self.edges))
        low, high = float(self.values.min()), float(self.values.max())
        margin = 0.05 * (high - low) or 1.0
        for k, (axis, label) in enumerate(zip(axes, self.labels, strict=True)):
            axis.plot(self.inputs[:, k], self.values[:, k], **line_kw)
            axis.set_title(label, fontsize="small")
            axis.tick_params(labelsize="x-small")
            axis.set_ylim(low - margin, high + margin)
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self


def _layers(estimator: Any) -> list[KANLinear]:
    """The KAN layers of an estimator, a network or a single layer."""
    if isinstance(estimator, Pipeline):
        raise TypeError(
            "EdgeDisplay got a Pipeline; pass its last step, pipeline[-1], and for X the "
            "output of the steps before it, pipeline[:-1].transform(X)."
        )
    if isinstance(estimator, KANLinear):
        return [estimator]
    module = estimator
    if not isinstance(estimator, torch.nn.Module):
        check_is_fitted(estimator)
        module = getattr(estimator, "module_", None)
    layers = getattr(module, "layers", None)
    if layers is None or not all(isinstance(layer, KANLinear) for layer in layers):
        raise TypeError(
            "estimator must be a fitted KAN or MetaKAN estimator, or a KAN or KANLinear module, "
            f"got {type(estimator).__name__}."
        )
    return list(layers)


def _layer_index(layer: int, n_layers: int) -> int:
    if not isinstance(layer, Integral) or not -n_layers <= layer < n_layers:
        raise ValueError(
            f"layer must be a whole number between {-n_layers} and {n_layers - 1}, the network has "
            f"{n_layers} layer(s); got {layer!r}."
        )
    return int(layer) % n_layers


def _layer_inputs(
    estimator: Any, X: ArrayLike, before: Sequence[KANLinear], module: KANLinear
) -> torch.Tensor:
    """What reaches the layer, without dropout, when X goes in."""
    if not isinstance(estimator, torch.nn.Module):
        X = validate_data(estimator, X, reset=False, dtype=[np.float64, np.float32])
        scaler = getattr(estimator, "input_scaler_", None)
        X = X if scaler is None else scaler.transform(X)
    domain = module.basis.domain
    rows = torch.as_tensor(X, dtype=domain.dtype, device=domain.device)
    for layer in before:
        rows = layer(rows)
    return rows


def _curve_points(module: KANLinear, rows: torch.Tensor | None, n_points: int) -> torch.Tensor:
    """Evenly spaced points for each input, shape (n_points, in)."""
    if rows is None:
        low, high = module.basis.domain.T
    else:
        low, high = rows.amin(0), rows.amax(0)
    steps = torch.linspace(0, 1, n_points, dtype=low.dtype, device=low.device)
    return low + steps[:, None] * (high - low)


def _blocks(module: KANLinear, t: torch.Tensor) -> Iterator[torch.Tensor]:
    """Edge functions at t, (rows, in, out) for as many rows at a time as memory allows."""
    n_rows = max(1, MAX_VALUES // (module.in_features * module.out_features))
    for block in t.split(n_rows):
        yield module.edge_functions(block).double()


def _spread(module: KANLinear, t: torch.Tensor) -> NDArray[np.float64]:
    """Standard deviation over the rows of t of every edge function, shape (in, out)."""
    mean = sum(block.sum(0) for block in _blocks(module, t)) / len(t)
    squares = sum((block - mean).square().sum(0) for block in _blocks(module, t))
    return np.asarray(torch.sqrt(torch.as_tensor(squares) / len(t)).cpu())


def _edge_values(
    module: KANLinear, t: torch.Tensor, chosen: list[tuple[int, int]]
) -> NDArray[np.float64]:
    sources, targets = map(list, zip(*chosen, strict=True))
    picked = [block[:, sources, targets] for block in _blocks(module, t)]
    return np.asarray(torch.cat(picked).cpu())


def _ranked(spread: NDArray[np.float64], max_edges: int) -> list[tuple[int, int]]:
    order = np.argsort(-spread, axis=None, kind="stable")[:max_edges]
    return [(int(i), int(o)) for i, o in zip(*np.unravel_index(order, spread.shape), strict=True)]


def _checked(edges: Edges, spread: NDArray[np.float64], names: list[Any]) -> list[tuple[int, int]]:
    n_in, n_out = spread.shape
    if not len(edges):
        raise ValueError("edges must name at least one (input, output) pair, got none.")
    chosen = []
    for edge in edges:
        pair: Any = list(edge) if np.ndim(edge) == 1 else [edge]
        if pair and isinstance(pair[0], str) and pair[0] in names:
            pair[0] = names.index(pair[0])
        whole = len(pair) == 2 and all(isinstance(each, Integral) for each in pair)
        if not (whole and 0 <= pair[0] < n_in and 0 <= pair[1] < n_out):
            raise ValueError(
                f"edges must be (input, output) pairs with inputs below {n_in} and outputs below "
                f"{n_out}; the layer has no edge {edge!r}."
            )
        chosen.append((int(pair[0]), int(pair[1])))
    return chosen


def _column_names(estimator: Any, index: int) -> list[Any]:
    """Of the inputs of layer 0; none where fit saw no names, or of other layers."""
    return list(getattr(estimator, "feature_names_in_", [])) if index == 0 else []


def _raw_units(estimator: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:
    scaler = getattr(estimator, "input_scaler_", None)
    return x if scaler is None else np.asarray(scaler.inverse_transform(x))


def _labels(estimator: Any, chosen: list[tuple[int, int]], index: int, n_layers: int) -> list[str]:
    names = _column_names(estimator, index)
    source = "input" if index == 0 else "unit"
    target = "output" if index == n_layers - 1 else "unit"
    return [f"{source + ' ' + str(i) if not names else names[i]} → {target} {o}" for i, o in chosen]


def _edge_axes(ax: "Axes | Iterable[Axes] | None", n_edges: int) -> "list[Axes]":
    check_matplotlib_support("EdgeDisplay")
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    columns = min(n_edges, COLUMNS)
    rows = -(-n_edges // columns)
    if ax is None:
        figure = plt.figure(figsize=(2.6 * columns, 2.1 * rows), layout="constrained")
        return [figure.add_subplot(rows, columns, k + 1) for k in range(n_edges)]
    if isinstance(ax, Axes):
        if n_edges == 1:
            return [ax]
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(
                f"ax must be part of a grid of subplots to be divided into {n_edges} plots; "
                "pass one Axes an edge instead."
            )
        ax.set_axis_off()
        inner = GridSpecFromSubplotSpec(rows, columns, subplot_spec=place)
        return [ax.figure.add_subplot(inner[k]) for k in range(n_edges)]
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) < n_edges:
        raise ValueError(f"ax must hold one Axes for each of the {n_edges} edges, got {len(axes)}.")
    return axes[:n_edges]
