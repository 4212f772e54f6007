"""A network as nodes and curves, and the part of it that fits a picture."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sklearn_metakan.inspection.holders import Within, short, span

Array = NDArray[np.float64]
N_POINTS = 49  # of a curve
MOST_EDGES = 3000  # of a layer, in a page
N_CANDIDATES = 3  # formulas of an edge


class Curves(NamedTuple):
    """The edge functions of a layer.

    Attributes
    ----------
    low, high : ndarray of shape (n_inputs,)
        Where its curves begin and end, as the layer takes its inputs.
    values : ndarray of shape (n_points, n_inputs, n_outputs)
        At evenly spaced points.
    bias : ndarray of shape (n_outputs,)
    importances : ndarray of shape (n_inputs, n_outputs)
        See ``edge_importances``; of this member.
    """

    low: Array
    high: Array
    values: Array
    bias: Array
    importances: Array


class Graph:
    """One member of a fitted network, as what a picture of it needs.

    Parameters
    ----------
    holder, X : as for ``Within``
    member : int

    Attributes
    ----------
    layers : list of Curves
    nodes : list of list of str
        Names, from the columns to the outputs.
    title : str
    """

    def __init__(self, holder: Any, X: ArrayLike | None, member: int) -> None:
        self.within = within = Within(holder, X)
        self.member = member
        layers = within.member(member)
        if layers[0].pairs is not None:
            raise ValueError(
                "NetworkDisplay draws functions of one column, and this model has functions of two "
                "(interactions): EffectDisplay draws both."
            )
        importances = [each[member] for each in within.importances()]
        self.layers, rows = [], within.rows
        for layer, of_layer in zip(layers, importances, strict=True):
            with torch.no_grad():
                t = span(layer, rows, N_POINTS)
                low, high = t[0], t[-1].clone()
                if layer.levels is not None:  # of codes a point each
                    of_codes = slice(layer.in_features, None)
                    codes = torch.arange(N_POINTS).to(t)[:, None]
                    last = torch.tensor(layer.levels.sizes).to(t) - 1
                    t[:, of_codes], high[of_codes] = torch.minimum(codes, last), N_POINTS - 1
                values = layer.edge_functions(t)
                rows = None if rows is None else layer(rows)
                zeros = torch.zeros(layer.out_features)
                bias = zeros if layer.bias is None else layer.bias
            low, high, values, bias = (t.detach().double().cpu() for t in (low, high, values, bias))
            parts = low.numpy(), high.numpy(), values.numpy(), bias.numpy()
            self.layers.append(Curves(*parts, of_layer))
        self.nodes = [[within.name(column) for column in within.kept]]
        for index in range(len(layers)):
            self.nodes.append(within.unit_names(index, importances))
        name = type(within.estimator).__name__
        several = within.n_members > 1
        self.title = f"{name}, member {member} of {within.n_members}" if several else name

    def strongest(
        self, max_units: int, max_edges: int
    ) -> tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]]:
        """Nodes of each side, and edges (n, 2) of each layer, that matter most.

        From the outputs back: the units that pass on most to those that are shown, at most so
        many; the strongest edges between them, among them the strongest into each unit.
        """
        last = self.layers[-1].importances
        shown = [np.sort(np.argsort(-last.sum(0), kind="stable")[:max_units])]
        edges: list[NDArray[np.intp]] = []
        for layer in reversed(self.layers):
            into = layer.importances[:, shown[0]]
            units = np.argsort(-into.sum(1), kind="stable")[:max_units]
            block = into[units]
            i, o = np.unravel_index(np.argsort(-block, axis=None, kind="stable"), block.shape)
            best = block.argmax(0)[o] == i
            order = np.r_[np.flatnonzero(best), np.flatnonzero(~best)]
            order = order[: max(max_edges, best.sum())]
            order = order[(block[i, o][order] > 0) | best[order]]
            chosen = np.stack([units[i[order]], shown[0][o[order]]], axis=1)
            edges.insert(0, chosen[np.lexsort(chosen.T)])
            shown.insert(0, np.unique(chosen[:, 0]))
        return shown, edges

    def n_edges(self) -> int:
        return sum(layer.importances.size for layer in self.layers)

    def page_data(self, with_formulas: int = 0) -> dict[str, Any]:
        """Plain numbers and names of the network, for a page that computes it.

        Of each layer, so many of the strongest edges have formulas.

        Of a layer of more than 3,000 edges only the strongest are there; of the others
        the mean of their curve is in the offset of the unit.
        """
        inputs = [*map(self._input, range(len(self.nodes[0])))]
        layers: list[dict[str, Any]] = []
        for layer in self.layers:
            n_out = layer.importances.shape[1]
            order = np.argsort(-layer.importances, axis=None, kind="stable")
            kept, left = order[:MOST_EDGES], order[MOST_EDGES:]
            flat = layer.values.reshape(len(layer.values), -1)
            of_columns = [] if layers else inputs
            edges = zip(
                *np.unravel_index(kept[:with_formulas], layer.importances.shape), strict=True
            )
            formulas = [_formulas(layer, i, o, of_columns) for i, o in edges]
            offset = layer.bias + np.bincount(left % n_out, flat[:, left].mean(0), n_out)
            layers.append(
                {
                    "low": layer.low.tolist(),
                    "high": layer.high.tolist(),
                    "from": (kept // n_out).tolist(),
                    "to": (kept % n_out).tolist(),
                    "importance": [float(f"{v:.4g}") for v in layer.importances.ravel()[kept]],
                    "offset": offset.tolist(),
                    "n_points": len(flat),
                    "left_out": len(left),
                    "formulas": formulas,
                    "curves": b64encode(flat[:, kept].T.astype("<f4").tobytes()).decode(),
                }
            )
        return {
            "title": self.title,
            "nodes": self.nodes,
            "inputs": inputs,
            "layers": layers,
            "output": self._output(),
        }

    def _input(self, i: int) -> dict[str, Any]:
        """How a column is scaled, between what it may be moved, and where it starts."""
        scaler, column = self.within.scaler, self.within.kept[i]
        if scaler is None:
            low, high = self.layers[0].low[i], self.layers[0].high[i]
            points = values = [low, high]
            start = (low + high) / 2
        elif (labels := self.within.levels_of(i)) is not None:
            codes = scaler.quantiles_[:, i]
            start = float(np.quantile(codes, 0.5, method="nearest"))
            ends = {"points": [0, 1], "values": [0, 1], "low": 0, "high": len(labels) - 1}
            return ends | {"start": start, "levels": [short(each, 24) for each in labels]}
        else:
            points, values = scaler.points_[i].tolist(), scaler.values_[i].tolist()
            low, high = scaler.ranges_[:, column].tolist()
            median = np.nanmedian(scaler.quantiles_, axis=0)[None]
            start = float(scaler.inverse_transform(median)[0, column])
        low, high = (low, high) if low < high else (low - 1, high + 1)
        return {"points": points, "values": values, "low": low, "high": high, "start": start}

    def _output(self) -> dict[str, Any]:
        """What the network's outputs mean."""
        target = getattr(self.within.estimator, "target_", None)
        n_outputs = len(self.nodes[-1])
        kind, location, scale = "number", [0.0] * n_outputs, [1.0] * n_outputs
        if target is not None and target.is_numeric:
            kind = "exponential" if target.link == "log" else "number"
            n_levels = max(len(self.within.quantiles), 1)
            location = np.repeat(target.location_, n_levels).tolist()
            scale = np.repeat(target.scale_, n_levels).tolist()
        elif target is not None:
            kind, sharpness = "classes", target._buffers.get("sharpness")
            kind = "labels" if target.noun == "label" else kind
            if sharpness is not None:
                scale = [float(sharpness[self.member])] * n_outputs
        classes = [short(each) for each in getattr(target, "names", [])]
        return {"kind": kind, "location": location, "scale": scale, "classes": classes}


def _formulas(layer: Curves, i: int, o: int, inputs: list[dict[str, Any]]) -> list[Any]:
    """What an edge may be, a function of a column in its units in the first layer."""
    from sklearn_metakan.symbolic import edge_candidates  # and with it sympy

    h, z = layer.values[:, i, o], np.linspace(layer.low[i], layer.high[i], len(layer.values))
    if inputs and "levels" in inputs[i]:
        return []
    if inputs:
        z = np.interp(z, inputs[i]["values"], inputs[i]["points"])
    return edge_candidates(z, h, most=N_CANDIDATES) if np.ptp(h) > 0 and np.ptp(z) > 0 else []


def in_order(edges: Sequence[NDArray[np.intp]], shown: Sequence[NDArray[np.intp]]) -> list[Any]:
    """Places of the shown nodes in their columns, so that edges cross little.

    Each unit lies at the mean place of what reaches it, columns in their own order.
    """
    places = [{int(node): k for k, node in enumerate(shown[0])}]
    for into, nodes in zip(edges, shown[1:], strict=True):
        mean = {
            int(node): np.mean([places[-1][i] for i, o in into.tolist() if o == node] or [0])
            for node in nodes
        }
        places.append({node: k for k, node in enumerate(sorted(mean, key=lambda n: mean[n]))})
    return places
