"""``prune``: a fitted estimator with fewer edges."""

from __future__ import annotations  # help() shows types as they are written here

from numbers import Integral
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_metakan.estimators import (
    KANEstimator,
    loss_on,
    network_inputs,
    trained_on,
    typical_inputs,
    with_network,
)
from sklearn_metakan.nn import KAN, SparseCoefficients, edge_effects, without_edges
from sklearn_metakan.symbolic.reading import check_limits, is_real

T = TypeVar("T", bound=Any)

ROWS = 512  # that effects of edges are measured on
MOST_ROWS = 5000  # that are trained on
SHARE, LEAST_SHARE = 0.5, 0.06  # of the edges that go in a round; less where that is too much
HELD_OUT = 0.2  # of the rows, which decide whether a round is kept
ITERATIONS = 60, 150  # of L-BFGS after each round, the more the fewer edges there are
EDGES_AND_ITERATIONS = 10_000


def prune(
    estimator: T,
    *,
    n_edges: int | None = None,
    threshold: float | None = None,
    tolerance: float = 0.05,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    tune: bool = True,
    time_limit: float = 60.0,
) -> T:
    """A smaller estimator of the same class: edges that do little are taken out.

    The effect of an edge is the share of the outputs' variance that changes when the edge is
    replaced by its mean (``sklearn_metakan.nn.edge_effects``). The weakest edges go, a few at a
    time, their means go into biases, units without edges go too, and with rows at hand the others
    are trained on. An estimator of several members becomes one: that with the least error on
    (X, y), or without them that closest to the mean of all.

    Parameters
    ----------
    estimator : fitted KANRegressor, KANClassifier or one of their MetaKAN twins
        Stays as it is.
    n_edges : int, optional
        How many edges to keep, at least 1; fewer stay where some lead nowhere.
    threshold : float in [0, 1), optional
        Edges whose effect is smaller go.
    tolerance : float, default=0.05
        With neither of both: as many edges go as leave the loss on held-out rows, a fifth of
        (X, y), at most this share larger than before.
    X, y : array-like, optional
        Rows as ``fit`` takes them, of which up to 5,000 are used. Without them effects are
        measured on rows drawn column by column from the training data's quantiles, and nothing
        is trained.
    tune : bool, default=True
        Whether to train on (X, y) after each round, by L-BFGS.
    time_limit : float, default=60.0
        Seconds after which, with neither n_edges nor threshold, no further round begins.

    Returns
    -------
    A fitted estimator of the same class
        With ``hidden_layer_sizes`` and ``n_estimators=1`` as they are now; ``n_parameters_`` counts
        the numbers that are left. It predicts, pickles, goes on with ``warm_start=True`` and
        ``to_torch`` as others do; ``clone`` has all edges of those widths.

    Raises
    ------
    ValueError
        For values out of range, both of n_edges and threshold, neither of them without X and y,
        only one of X and y, and estimators with categories or gaps.
    TypeError
        For what is no KAN estimator of tables.
    NotFittedError
        Before fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_metakan import KANRegressor
    >>> from sklearn_metakan.symbolic import prune
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 2))
    >>> model = KANRegressor((4,), n_estimators=1, solver="lbfgs").fit(X, X[:, 0] * X[:, 1])
    >>> small = prune(model, n_edges=6)
    >>> small.n_parameters_ < model.n_parameters_
    True
    """
    _check(estimator, n_edges, threshold, tolerance, X, y, time_limit)
    rows = held_out = None
    by_loss = n_edges is None and threshold is None
    if y is not None:
        order = np.random.default_rng(0).permutation(_num_samples(y))[:MOST_ROWS]
        cut = max(1, round(HELD_OUT * len(order))) if by_loss else 0
        held_out = _taken(X, y, order[:cut]) if cut else None
        rows = _taken(X, y, order[cut:])

    def train(pruned: T) -> T:
        if rows is None or not tune:
            return pruned
        iterations = np.clip(EDGES_AND_ITERATIONS // count_edges(pruned), *ITERATIONS)
        return trained_on(pruned, *rows, int(iterations))

    x = _inputs(estimator, rows)
    current = train(_one_member(estimator, rows))
    limit = np.inf
    if held_out is not None:
        before = [loss_on(each, *held_out)[0] for each in (estimator, current)]
        limit = max(before) * (1 + tolerance)
    share, end = SHARE, perf_counter() + time_limit
    while share >= LEAST_SHARE and not (by_loss and perf_counter() > end):
        kept = _kept(current.module_, x, n_edges, threshold, share)
        if kept is None:
            break
        fewer = train(with_network(current, *without_edges(current.module_, kept, x)))
        if held_out is None or loss_on(fewer, *held_out)[0] <= limit:
            current = fewer
        else:
            share /= 2
    return current


def _check(
    estimator: Any, n_edges: Any, threshold: Any, tolerance: Any, X: Any, y: Any, time_limit: Any
) -> None:
    if not isinstance(estimator, KANEstimator):
        raise TypeError(
            "estimator must be a fitted KAN or MetaKAN estimator of tables, got "
            f"{type(estimator).__name__}. Of a pipeline or a search, give the estimator inside."
        )
    check_is_fitted(estimator)
    if not isinstance(estimator.module_, KAN):
        raise TypeError(f"prune is for estimators of tables, got {type(estimator).__name__}.")
    if estimator.interactions_:
        raise ValueError("prune knows no interactions: fit with interactions=0.")
    if estimator.monotonic_cst is not None:
        raise ValueError("prune keeps nothing monotone: fit with monotonic_cst=None.")
    if getattr(estimator.module_.layers[0], "levels", None) is not None:
        raise ValueError(
            "prune knows no columns with categories or gaps, nor values beside a curve: encode and "
            "impute before fit, and set scale_inputs='minmax'."
        )
    whole = isinstance(n_edges, Integral) and not isinstance(n_edges, bool)
    if n_edges is not None and not (whole and n_edges >= 1):
        raise ValueError(f"n_edges must be a whole number of at least 1 or None, got {n_edges!r}.")
    if threshold is not None and not (is_real(threshold) and 0 <= threshold < 1):
        raise ValueError(f"threshold must be in [0, 1) or None, got {threshold!r}.")
    check_limits(tolerance, time_limit)
    if n_edges is not None and threshold is not None:
        raise ValueError("Only one of n_edges and threshold may be given, got both.")
    if (X is None) != (y is None):
        raise ValueError("X and y must be given both or not at all, got one of them.")
    if n_edges is None and threshold is None and y is None:
        raise ValueError("prune needs n_edges, a threshold, or rows X, y to see what may go.")


def count_edges(estimator: Any) -> int:
    """Edges of a network that ``prune`` gave."""
    return max(1, sum(layer.source.n_edges for layer in estimator.module_.layers))


def _taken(X: Any, y: Any, rows: NDArray[np.intp]) -> tuple[Any, Any]:
    return _safe_indexing(X, rows), _safe_indexing(y, rows)


@torch.no_grad()
def _one_member(estimator: T, rows: Any) -> T:
    """The estimator over its best member alone."""
    module, x = estimator.module_, _inputs(estimator, rows)
    best = 0
    if module.n_members > 1:
        if rows is None:
            outputs = module(x)
            far = (outputs - outputs.mean(1, keepdim=True)).square().mean((0, 2))
            best = int(far.argmin())
        else:
            best = int(np.argmin(loss_on(estimator, *rows)[1:]))
    alone = module.member(best)
    every = [
        torch.ones(layer.in_features, layer.out_features, dtype=torch.bool)
        if not isinstance(layer.source, SparseCoefficients)
        else layer.source.places < layer.source.n_edges
        for layer in alone.layers
    ]
    return with_network(estimator, *without_edges(alone, every, x))


def _inputs(estimator: Any, rows: Any) -> torch.Tensor:
    """Some of the network's inputs: of these rows, or typical ones."""
    if rows is None:
        return typical_inputs(estimator)[0]
    order = np.random.default_rng(0).permutation(_num_samples(rows[0]))[:ROWS]
    return network_inputs(estimator, _safe_indexing(rows[0], order))


def _kept(
    module: Any, x: torch.Tensor, n_edges: int | None, threshold: float | None, share: float
) -> list[torch.Tensor] | None:
    """Which edges stay after a round; None where no more are to go."""
    there = [(layer.source.places < layer.source.n_edges).cpu() for layer in module.layers]
    effects = [each.cpu() for each in edge_effects(module, x)]
    known = torch.cat([e[t] for e, t in zip(effects, there, strict=True)])
    count = len(known)
    fewest = 1 if n_edges is None else n_edges
    if count <= fewest:
        return None
    gone = min(max(1, round(share * count)), count - fewest)
    limit = known.sort().values[gone - 1]
    if threshold is not None:
        weak = int((known < threshold).sum())
        if not weak:
            return None
        limit = known.sort().values[min(gone, weak) - 1]
    return [t & (e > limit) for e, t in zip(effects, there, strict=True)]
