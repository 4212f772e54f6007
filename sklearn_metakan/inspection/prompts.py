"""Where a MetaKAN's edges lie in prompt space, and what changes along it."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from sklearn_metakan.inspection.axes import one_axes_each
from sklearn_metakan.inspection.edges import layer_index
from sklearn_metakan.inspection.holders import Within
from sklearn_metakan.nn import KANLinear, MetaCoefficients

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
N_POINTS = 100
STEPS = np.linspace(-2, 2, 9)  # along a direction, in standard deviations
SHOWN = 3  # functions of a group


class PromptDisplay:
    """Prompts of a layer: a map of its edges, functions along its main direction, groups.

    Make it with :meth:`from_estimator`; the constructor only stores.

    Parameters
    ----------
    places : ndarray of shape (n_edges, 2)
        Of the edges: prompts, projected onto the two directions in which they vary most. Of
        prompts of one number the second is the importance.
    importances : ndarray of shape (n_edges,)
        See ``edge_importances``.
    groups : ndarray of shape (n_edges,)
        Numbers of groups of edges with like functions, the most important group first.
    inputs : ndarray of shape (n_points,)
        Where functions were evaluated, in the units of the layer.
    functions : ndarray of shape (n_points, n_edges)
        Edge functions, each with mean zero.
    along : ndarray of shape (n_points, 9)
        Functions of prompts from -2 to 2 standard deviations along the first direction.
    shares : ndarray of shape (2,)
        Of the prompts' variance, that each of the two directions has.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The map, the functions along the first direction, the groups; set by :meth:`plot`.
    figure_ : matplotlib Figure or SubFigure

    Examples
    --------
    >>> from sklearn_metakan.inspection import PromptDisplay
    >>> from sklearn_metakan.nn import KAN, MetaLearner
    >>> display = PromptDisplay.from_estimator(KAN([3, 5, 1], meta_learners=MetaLearner(2, 8, 9)))
    >>> display.places.shape
    (15, 2)
    """

    def __init__(
        self,
        places: Array,
        importances: Array,
        groups: NDArray[np.intp],
        inputs: Array,
        functions: Array,
        along: Array,
        shares: Array,
    ) -> None:
        self.places, self.importances, self.groups = places, importances, groups
        self.inputs, self.functions, self.along, self.shares = inputs, functions, along, shares

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        layer: int = 0,
        n_groups: int = 4,
        member: int = 0,
        ax: Iterable[Axes] | None = None,
    ) -> PromptDisplay:
        """Look at the prompts of a layer.

        Parameters
        ----------
        estimator : fitted MetaKAN estimator for tables, or a KAN or KANLinear with a meta-learner
            Or what holds such an estimator: a Pipeline, a search, a TransformedTargetRegressor.
        X : array-like of shape (n_samples, n_features), optional
            Rows by which edges are ranked; see ``edge_importances``.
        layer : int, default=0
            0 is the layer of the inputs; -1 that of the outputs.
        n_groups : int, default=4
            Of edges with like functions, by k-means, weighted by importance; at most as many as
            there are edges.
        member : int, default=0
            Which of the networks of an estimator that averages several.
        ax : iterable of three matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        PromptDisplay, drawn

        Raises
        ------
        ValueError
            For a layer without prompts (a KAN's), a layer or member that there is not, and
            n_groups below 1.
        TypeError
            For what is no KAN and holds none.
        NotFittedError, ImportError
            Before fit; without matplotlib.
        """
        if n_groups < 1:
            raise ValueError(f"n_groups must be at least 1, got {n_groups!r}.")
        within = Within(estimator, X)
        layers = within.member(member)
        index = layer_index(layer, len(layers))
        module, source = layers[index], layers[index].source
        if not isinstance(source, MetaCoefficients):
            raise ValueError(
                "The layer has no prompts: its edges have coefficients of their own. Prompts are "
                "those of MetaKANRegressor and MetaKANClassifier."
            )
        prompts = source.prompts.detach().double().cpu().numpy()  # (in, p, out)
        prompts = prompts.swapaxes(1, 2).reshape(-1, prompts.shape[1])
        importances = within.importances()[index][member][: module.in_features].ravel()
        middle, spread = prompts.mean(0), prompts - prompts.mean(0)
        _, sizes, directions = np.linalg.svd(spread, full_matrices=False)
        shares = np.zeros(2)
        shares[: len(sizes)] = (sizes**2 / max((sizes**2).sum(), np.finfo(float).tiny))[:2]
        places = np.stack([spread @ directions[0], importances], axis=1)
        if len(directions) > 1:
            places[:, 1] = spread @ directions[1]
        steps = STEPS[:, None] * places[:, 0].std() * directions[0]
        inputs, functions, along = _functions(module, middle + steps)
        groups = _groups(functions.T, importances, n_groups)
        display = cls(places, importances, groups, inputs, functions, along, shares)
        return display.plot(ax=ax)

    def plot(self, ax: Iterable[Axes] | None = None) -> PromptDisplay:
        """Draw the map, the functions along its first direction, and the groups.

        Parameters
        ----------
        ax : iterable of three matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        PromptDisplay, itself

        Raises
        ------
        ValueError
            For fewer than three Axes.
        ImportError
            Without matplotlib.
        """
        axes = one_axes_each("PromptDisplay", ax, 3, 3, (3.6, 3.0))
        from matplotlib import colormaps

        where, along, groups = axes
        most = self.importances.max(initial=0) or 1.0
        sizes, colors = 6 + 90 * self.importances / most, [f"C{group}" for group in self.groups]
        x, y = self.places.T
        where.scatter(x, y, s=sizes, c=colors, alpha=0.6, linewidth=0)
        where.set_title("edges by their prompts", fontsize="medium")
        where.set_xlabel(f"first direction ({100 * self.shares[0]:.0f} %)", fontsize="small")
        second = f"second direction ({100 * self.shares[1]:.0f} %)"
        second = second if self.shares[1] else "importance"
        where.set_ylabel(second, fontsize="small")
        shades = colormaps["viridis"](np.linspace(0, 1, self.along.shape[1]))
        for curve, shade in zip(self.along.T, shades, strict=True):
            along.plot(self.inputs, curve, color=shade)
        along.set_title("functions along the first", fontsize="medium")
        for group in np.unique(self.groups):
            (edges,) = np.nonzero(self.groups == group)
            order = np.argsort(-self.importances[edges], kind="stable")[:SHOWN]
            share = self.importances[edges].sum() / (self.importances.sum() or 1.0)
            labels = [f"{len(edges)} edges, {100 * share:.0f} %"] + [""] * len(order)
            for edge, label in zip(edges[order], labels, strict=False):
                curve = self.functions[:, edge]
                groups.plot(self.inputs, curve, color=f"C{group}", label=label or None)
        groups.set_title("groups of like functions", fontsize="medium")
        groups.legend(fontsize="x-small")
        for axis in axes:
            axis.tick_params(labelsize="x-small")
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self


@torch.no_grad()
def _functions(module: KANLinear, prompts: Array) -> tuple[Array, Array, Array]:
    """Points, functions of all edges (n_points, n_edges), and those of other prompts, centred.

    The latter on the grid of the first input, with an edge scale of one.
    """
    basis, source = module.basis, module.source
    low, high = basis.domain.T
    steps = torch.linspace(0, 1, N_POINTS, dtype=low.dtype, device=low.device)
    features = basis.evaluate(low + steps[:, None] * (high - low))
    own = torch.einsum("nic,ico->nio", features, source.block(0, module.in_features))
    by_input, shared = source.tensors()
    others = torch.as_tensor(prompts.T[None]).to(by_input[0])
    scales = [torch.ones_like(others[:, 0])] * (len(by_input) - 1)
    made = features[:, 0] @ source.coefficients([others, *scales], shared)[0]
    found = [each.double().cpu().numpy() for each in (own.flatten(1), made)]
    points = (low[0] + steps * (high[0] - low[0])).double().cpu().numpy()
    return points, *(each - each.mean(0) for each in found)


def _groups(functions: Array, importances: Array, n_groups: int) -> NDArray[np.intp]:
    """Groups of functions (n_edges, n_points), the most important first."""
    weight = importances + importances.sum() * 1e-6 + np.finfo(float).tiny
    n_groups = min(n_groups, len(np.unique(functions, axis=0)))
    means = KMeans(n_groups, n_init=4, random_state=0).fit(functions, sample_weight=weight)
    totals = np.bincount(means.labels_, importances, n_groups)
    return np.argsort(np.argsort(-totals, kind="stable"))[means.labels_]
