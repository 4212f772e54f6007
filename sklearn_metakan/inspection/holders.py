"""What holds an estimator, and the network within; names of columns."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_metakan.estimators import network_inputs, typical_inputs
from sklearn_metakan.nn import KAN, KANLinear
from sklearn_metakan.nn import edge_importances as importances_in_network

MOST_ROWS = 512  # by which edges are ranked
MAIN_SHARE = 0.15  # of a unit, for a column to be in its name
SHOWN_NAMES = 10  # of columns, in a message


class Within:
    """The network of an estimator, or of what holds one, with the names of its columns.

    Parameters
    ----------
    holder : fitted estimator, or a KAN or KANLinear module
        Or what holds such an estimator, one within another too: a Pipeline, a search, a
        TransformedTargetRegressor.
    X : array-like of shape (n_samples, n_features), optional
        Rows as ``holder.fit`` takes them.

    Attributes
    ----------
    estimator : the estimator or module within
    network : KAN or KANLinear
    names : list of str
        Of its columns, as fit saw them or the steps of a Pipeline give them; empty where there
        are none.
    kept : list of int
        The columns that are inputs of the network.
    n_columns : int
    quantiles : list of float
        Those that an output has side by side; empty where it has one number.
    rows : Tensor of shape (n_samples, n_kept) or None
        What reaches the network of X.

    Raises
    ------
    TypeError
        For what is no KAN of tables and holds none.
    NotFittedError
    """

    def __init__(self, holder: Any, X: ArrayLike | None = None) -> None:
        estimator, X, names = _unwrapped(holder, X)
        self.estimator, self.names = estimator, names
        network = estimator
        if not isinstance(estimator, torch.nn.Module):
            check_is_fitted(estimator)
            network = getattr(estimator, "module_", None)
        if not isinstance(network, KAN | KANLinear):
            raise TypeError(
                "estimator must be a fitted KAN or MetaKAN estimator for tables, or a KAN or "
                f"KANLinear module, got {type(estimator).__name__}."
            )
        self.scaler = getattr(estimator, "input_scaler_", None)
        with_means = getattr(self.scaler, "with_means", None)
        if with_means is not None:  # what training did not see has a place, too
            network = with_means(network)
        self.network: KAN | KANLinear = network
        layers = network.kan_layers() if isinstance(network, KAN) else [network]
        self.layers = cast(list[KANLinear], [*layers])
        self.n_members = getattr(network, "n_members", 1)
        n_inputs = self.layers[0].n_inputs
        self.kept = [*range(n_inputs)] if self.scaler is None else self.scaler.kept_.tolist()
        self.n_columns = n_inputs if self.scaler is None else estimator.n_features_in_
        self.quantiles: list[float] = []
        if getattr(getattr(estimator, "target_", None), "has_levels", False):
            self.quantiles = [*map(float, estimator.target_.quantile)]
        self.rows = None if X is None else self._rows(X)

    def _rows(self, X: ArrayLike) -> Tensor:
        if self.scaler is not None:
            return network_inputs(self.estimator, X)
        domain = self.layers[0].basis.domain
        return torch.as_tensor(X, dtype=domain.dtype, device=domain.device)

    def member(self, member: int) -> list[KANLinear]:
        """The layers of one member.

        Raises ValueError for one that there is not.
        """
        if not isinstance(member, Integral) or not 0 <= member < self.n_members:
            raise ValueError(
                f"member must be a whole number below {self.n_members}, the networks; got "
                f"{member!r}."
            )
        if not isinstance(self.network, KAN) or self.n_members == 1:
            return self.layers
        return cast(list[KANLinear], [*self.network.member(int(member)).kan_layers()])

    def levels_of(self, i: int) -> list[str] | None:
        """Of an input of the network with codes: what to call these."""
        levels = self.layers[0].levels
        if levels is None or i < levels.n_numbers:
            return None
        if self.scaler is None:
            return [f"level {code}" for code in range(levels.sizes[i - levels.n_numbers])]
        return self.scaler.code_labels(self.kept[i])

    def has_gap(self, i: int) -> bool:
        """Whether an input of the network was missing in some rows of training."""
        levels = self.layers[0].levels
        return levels is not None and i in levels.gapped.tolist()

    def name(self, column: int) -> str:
        """Of a column of the estimator."""
        return str(self.names[column]) if self.names else f"input {column}"

    def output_name(self, output: int) -> str:
        """Of an output of the network."""
        target = getattr(self.estimator, "target_", None)
        n_outputs = self.layers[-1].out_features // self.n_members
        if target is not None and not target.is_numeric:
            return f"{target.noun} {target.names[output if n_outputs > 1 else 1]}"
        if self.quantiles:
            output, level = divmod(output, len(self.quantiles))
            of = f" of output {output}" if n_outputs > len(self.quantiles) else ""
            return f"quantile {self.quantiles[level]:g}{of}"
        return "output" if n_outputs == 1 else f"output {output}"

    def unit_names(self, layer: int, importances: list[NDArray[np.float64]]) -> list[str]:
        """Of the outputs of a layer: those inside with the columns that move them most.

        ``importances`` are (in, out) of each layer, of the member that is meant.
        """
        if layer == len(self.layers) - 1:
            return [*map(self.output_name, range(importances[layer].shape[1]))]
        share = np.eye(len(importances[0]))
        for each in importances[: layer + 1]:
            share = share @ (each / np.maximum(each.sum(0), np.finfo(float).tiny))
        found = []
        for number, of_unit in enumerate(share.T):
            first = np.argsort(-of_unit, kind="stable")[:2]
            named = [short(self.name(self.kept[i]), 14) for i in first if of_unit[i] > MAIN_SHARE]
            found.append(f"unit {number}" + (f" ({', '.join(named)})" if named else ""))
        return found

    def importances(self) -> list[NDArray[np.float64]]:
        """See ``edge_importances``; the inputs of the first layer are those of the network."""
        if self.rows is not None and len(self.rows):
            rng = np.random.default_rng(0)
            some = rng.permutation(len(self.rows))[:MOST_ROWS]
            x = self.rows[torch.from_numpy(some)]
            samples = x, x.roll(1, 0)
        elif self.scaler is not None:
            samples = typical_inputs(self.estimator)
        else:
            first, generator = self.layers[0], torch.Generator().manual_seed(0)
            low, high = first.basis.domain.double().cpu().T
            drawn = torch.rand(2, MOST_ROWS, first.n_inputs, generator=generator, dtype=low.dtype)
            sizes = [] if first.levels is None else first.levels.sizes
            codes = (drawn[..., len(low) :] * torch.tensor(sizes).to(low)).floor()
            drawn = torch.cat([low + drawn[..., : len(low)] * (high - low), codes], -1)
            x, other = drawn.to(first.basis.domain)
            samples = x, other
        found = importances_in_network(self.network, *samples)
        return [each.double().cpu().numpy() for each in found]


def span(layer: KANLinear, rows: Tensor | None, n_points: int) -> Tensor:
    """Where a layer's edges are looked at, (n_points, n_inputs).

    Numbers evenly spaced, over the rows where there are some or over the grid; codes of levels, in
    their order, each as often as the others.
    """
    low, high = layer.basis.domain.T
    if rows is not None and len(rows):
        numbers = rows if layer.levels is None else layer.levels.numbers(rows)
        low, high = numbers.amin(0), numbers.amax(0)
    steps = torch.linspace(0, 1, n_points, dtype=low.dtype, device=low.device)
    found = low + steps[:, None] * (high - low)
    if layer.levels is None:
        return found
    sizes = torch.tensor(layer.levels.sizes).to(low)
    codes = (torch.arange(n_points).to(low)[:, None] * sizes / n_points).floor()
    return torch.cat([found, codes], 1)


def short(name: str, most: int = 30) -> str:
    """A name on one line, cut if it is long, and whose dollars are no mathematics."""
    line = " ".join(str(name).split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


def edge_importances(estimator: Any, X: ArrayLike | None = None) -> list[NDArray[np.float64]]:
    """Shares of the prediction's spread that each edge passes on through all later layers.

    An input of a layer has its total Sobol index in the network from that layer on, as in
    ``feature_importances_``, and its edges share it in proportion to what each passes on by itself,
    to first order; see ``sklearn_metakan.nn.edge_importances``.

    Parameters
    ----------
    estimator : fitted estimator, or a KAN or KANLinear module
        Or what holds such an estimator: a Pipeline, a search, a TransformedTargetRegressor.
    X : array-like of shape (n_samples, n_features), optional
        Rows as ``estimator.fit`` takes them, of which 512 count. By default rows are drawn column
        by column from the training data's quantiles; for a module, over the grid.

    Returns
    -------
    list of ndarray of shape (n_members, n_inputs, n_outputs), one a layer
        Non-negative; the numbers of a layer sum to one, or are all zero for a constant
        network. Inputs of the first layer are the estimator's columns; one that was constant
        in training has zeros. Summed over members and outputs they are the importances of
        columns; without X, ``feature_importances_``.

    Raises
    ------
    TypeError
        For what is no KAN of tables and holds none.
    NotFittedError

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor
    >>> from sklearn_metakan.inspection import edge_importances
    >>> X, y = make_friedman1(200, random_state=0)
    >>> model = KANRegressor(8, n_estimators=1, max_iter=5, random_state=0).fit(X, y)
    >>> [each.shape for each in edge_importances(model)]
    [(1, 10, 8), (1, 8, 1)]
    """
    within = Within(estimator, X)
    first, *others = within.importances()
    every = np.zeros((len(first), within.n_columns, first.shape[2]))
    every[:, within.kept] = first
    return [every, *others]


def column_number(column: Any, names: Sequence[str], n_columns: int) -> int:
    """The position of a column that is given by name or number.

    Raises ValueError for one that there is not, with those that there are.
    """
    if isinstance(column, str):
        if column not in names:
            raise ValueError(_no_column(column, [*names]))
        return [*names].index(column)
    if isinstance(column, Integral) and 0 <= int(column) < n_columns:
        return int(column)
    raise ValueError(f"there is no column {column!r}; columns have numbers below {n_columns}.")


def _no_column(name: str, names: list[str]) -> str:
    if not names:
        return "its inputs have no names here. Give inputs by number."
    near = [f" Did you mean {each!r}?" for each in get_close_matches(name, names, 1)]
    listed, more = ", ".join(map(repr, names[:SHOWN_NAMES])), len(names) - SHOWN_NAMES
    listed += f" and {more} more" if more > 0 else ""
    return f"there is no column {name!r}.{''.join(near)} The columns are {listed}."


def opened(holder: Any) -> tuple[Any, list[Any], list[Any]]:
    """The estimator within pipelines, searches and so on, and what is around it, from outside.

    Returns
    -------
    estimator
        Or whatever else is innermost.
    steps : list of Pipeline
        The steps before the last one of each pipeline.
    regressors : list of TransformedTargetRegressor
    """
    steps: list[Any] = []
    regressors: list[Any] = []
    while True:
        if isinstance(holder, Pipeline):
            check_is_fitted(holder)
            if len(holder) > 1:
                steps.append(holder[:-1])
            holder = holder[-1]
        elif hasattr(holder, "best_estimator_"):
            holder = holder.best_estimator_
        elif hasattr(holder, "regressor_"):
            regressors.append(holder)
            holder = holder.regressor_
        else:
            return holder, steps, regressors


def _unwrapped(holder: Any, X: Any) -> tuple[Any, Any, list[str]]:
    """The estimator within, the X that reaches it, and the names of its columns."""
    estimator, steps, _ = opened(holder)
    names = None
    for before in steps:
        X = None if X is None else before.transform(X)
        try:
            names = before.get_feature_names_out(names)
        except (AttributeError, ValueError):  # some step does not name what it gives
            names = None
    own = getattr(estimator, "feature_names_in_", names)
    return estimator, X, [] if own is None else list(own)
