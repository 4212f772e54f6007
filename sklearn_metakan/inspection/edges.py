"""Plots of learned edge functions."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
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

Edges = Sequence[tuple[int | str, int]]
MAX_VALUES = 2**23  # edge values held at once while the edges are ranked
PLOTS_A_ROW = 4
SHOWN_NAMES = 10  # of columns, in a message


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
        Input and output index of each edge; of the first layer of an estimator, the input
        is the column's position in what the estimator was fitted on.
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

    def __init__(
        self,
        inputs: NDArray[np.floating],
        values: NDArray[np.floating],
        labels: Sequence[str],
        edges: Edges,
        importances: NDArray[np.floating],
    ) -> None:
        self.inputs, self.values, self.labels = inputs, values, labels
        self.edges, self.importances = edges, importances

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
        ax: "Axes | Iterable[Axes] | None" = None,
    ) -> "EdgeDisplay":
        """Evaluate the edge functions of a layer and plot them.

        Parameters
        ----------
        estimator : fitted estimator, or a KAN or KANLinear module
            Or what holds such an estimator, one within another too: the last step of a Pipeline,
            the best estimator of a search, the regressor of a TransformedTargetRegressor. Its
            columns are then those that the steps before give.
        X : array-like of shape (n_samples, n_features), optional
            Rows as ``estimator.fit`` takes them. The curves then span the values that
            reach the layer, and edges are ranked by their spread over these rows. Without
            it both use the layer's grid.
        layer : int, default=0
            0 is the layer of the inputs; -1 that of the outputs.
        edges : sequence of (input, output), optional
            Edges to show, in this order, by number; inputs of layer 0 are columns, also by
            name, where fit saw names or the steps of a Pipeline give them. By default the
            most important ones. A column that was constant in training has no edges.
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
        estimator, X, names = _unwrapped(estimator, X)
        layers, index = _layers(estimator, layer, member)
        module, names = layers[index], names if index == 0 else []
        scaler = getattr(estimator, "input_scaler_", None) if index == 0 else None
        columns = [*range(module.in_features)] if scaler is None else scaler.kept_.tolist()
        with torch.no_grad():
            rows = None if X is None else _layer_inputs(estimator, X, layers[:index], module)
            low, high = module.basis.domain.T if rows is None else (rows.amin(0), rows.amax(0))
            steps = torch.linspace(0, 1, n_points, dtype=low.dtype, device=low.device)
            t = low + steps[:, None] * (high - low)
            spread = _spread(module, t if rows is None else rows)
            if edges is None:
                order = np.argsort(-spread, axis=None, kind="stable")[:max_edges]
                inputs, outputs = (each.tolist() for each in np.unravel_index(order, spread.shape))
            else:
                n_columns = len(columns) if scaler is None else estimator.n_features_in_
                inputs, outputs = _checked(edges, columns, n_columns, spread.shape[1], names)
            values = torch.cat([block[:, inputs, outputs] for block in _blocks(module, t)])
        x = t.double().cpu().numpy()
        x = x if scaler is None else scaler.inverse_transform(x)  # all columns
        chosen = [(columns[i], o) for i, o in zip(inputs, outputs, strict=True)]
        source = "input" if index == 0 else "unit"
        target = "output" if index == len(layers) - 1 else "unit"
        display = cls(
            inputs=x[:, [column for column, _ in chosen]],
            values=values.cpu().numpy(),
            labels=[f"{names[i] if names else f'{source} {i}'} → {target} {o}" for i, o in chosen],
            edges=chosen,
            importances=spread[inputs, outputs],
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
        axes = _edge_axes(ax, len(self.edges))
        low, high = self.values.min(), self.values.max()
        margin = 0.05 * (high - low) or 1.0
        for k, (axis, label) in enumerate(zip(axes, self.labels, strict=True)):
            axis.plot(self.inputs[:, k], self.values[:, k], **line_kw)
            axis.set_title(label, fontsize="small")
            axis.tick_params(labelsize="x-small")
            axis.set_ylim(low - margin, high + margin)
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self


def _unwrapped(estimator: Any, X: Any) -> tuple[Any, Any, list[str]]:
    """The estimator within pipelines, searches and so on, its X, and the names of its columns."""
    names = None
    while True:
        if isinstance(estimator, Pipeline):
            check_is_fitted(estimator)
            before, estimator = estimator[:-1], estimator[-1]
            if len(before):
                X = None if X is None else before.transform(X)
                try:
                    names = before.get_feature_names_out(names)
                except (AttributeError, ValueError):  # some step does not name what it gives
                    names = None
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "regressor_"):
            estimator = estimator.regressor_
        else:
            own = getattr(estimator, "feature_names_in_", names)
            return estimator, X, [] if own is None else list(own)


def _layers(estimator: Any, layer: int, member: int) -> tuple[list[KANLinear], int]:
    """The KAN layers of an estimator, a network or a single layer, and which one is meant."""
    module = estimator
    if not isinstance(estimator, torch.nn.Module):
        check_is_fitted(estimator)
        module = getattr(estimator, "module_", None)
    members = getattr(module, "n_members", 1)
    if not isinstance(member, Integral) or not 0 <= member < members:
        raise ValueError(
            f"member must be a whole number below {members}, the networks; got {member!r}."
        )
    if members > 1:
        module = module.member(int(member))
    found = [module] if isinstance(module, KANLinear) else getattr(module, "layers", None)
    if found is None or not all(isinstance(each, KANLinear) for each in found):
        raise TypeError(
            "estimator must be a fitted KAN or MetaKAN estimator, or a KAN or KANLinear module, "
            f"got {type(estimator).__name__}."
        )
    layers = list(found)
    if not isinstance(layer, Integral) or not -len(layers) <= layer < len(layers):
        raise ValueError(
            f"layer must be a whole number between {-len(layers)} and {len(layers) - 1}, the "
            f"network has {len(layers)} layer(s); got {layer!r}."
        )
    return layers, int(layer) % len(layers)


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


def _checked(
    edges: Edges, columns: list[int], n_columns: int, n_out: int, names: list[str]
) -> tuple[list[int], list[int]]:
    """Inputs and outputs of the network's edges that are asked for by column or its name."""
    if not len(edges):
        raise ValueError("edges must name at least one (input, output) pair, got none.")
    inputs, outputs = [], []
    for edge in edges:
        pair: Any = list(edge) if np.ndim(edge) == 1 else [edge]
        if pair and isinstance(pair[0], str):
            if pair[0] not in names:
                raise ValueError(f"The layer has no edge {edge!r}: {_no_column(pair[0], names)}")
            pair[0] = names.index(pair[0])
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


def _no_column(name: str, names: list[str]) -> str:
    if not names:
        return "its inputs have no names here. Give inputs by number."
    near = [f" Did you mean {each!r}?" for each in get_close_matches(name, names, 1)]
    listed, more = ", ".join(map(repr, names[:SHOWN_NAMES])), len(names) - SHOWN_NAMES
    listed += f" and {more} more" if more > 0 else ""
    return f"there is no column {name!r}.{''.join(near)} The columns are {listed}."


def _edge_axes(ax: "Axes | Iterable[Axes] | None", n_edges: int) -> "list[Axes]":
    check_matplotlib_support("EdgeDisplay")
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    columns = min(n_edges, PLOTS_A_ROW)
    rows = -(-n_edges // columns)
    if ax is None:
        figure = plt.figure(figsize=(2.6 * columns, 2.1 * rows), layout="constrained")
        return [figure.add_subplot(rows, columns, k + 1) for k in range(n_edges)]
    if isinstance(ax, Axes) and n_edges > 1:
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
