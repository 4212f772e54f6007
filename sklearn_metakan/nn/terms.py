"""A network without hidden layers as a linear model: its terms, their priors, its coefficients."""

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn.network import KAN
from sklearn_metakan.nn.pairs import smooth_deviation
from sklearn_metakan.nn.sources import DirectCoefficients

SMOOTHEST = 8  # functions of the prior of smooth curves that are kept


class Term(NamedTuple):
    """Some functions with a prior: ``w = factor v``, ``v ~ N(0, I / strength)``.

    Attributes
    ----------
    features : slice
        Of the network's features, those that it combines; other terms may combine them too.
    factor : Tensor of shape (n_features, n_functions), or None
        None: each by itself.
    """

    features: slice
    factor: Tensor | None

    @property
    def size(self) -> int:
        """Its own numbers v."""
        if self.factor is None:
            return int(self.features.stop - self.features.start)
        return self.factor.shape[1]


def additive_terms(network: KAN) -> list[Term]:
    """The terms of ``network.features(x)``.

    Each number has two, a random walk, which has steps, and a smooth curve; all gaps have one, and
    so has each column of levels, and each pair.

    Parameters
    ----------
    network : KAN
        Without hidden layers.

    Raises
    ------
    ValueError
        For networks whose outputs are not linear in their numbers, and other bases than splines.
    """
    (layer,) = network._layers
    basis, source = layer.basis, layer.source
    if not (isinstance(source, DirectCoefficients) and isinstance(basis, BSplineBasis)):
        raise ValueError(
            "solver='reml' is for splines with coefficients of their own that nothing constrains: "
            "a KAN with basis='bspline' and without monotonic_cst."
        )
    found, n = [], basis.n_functions
    for number in range(layer.in_features):
        for factor in _of_curve(basis, number):
            found.append(Term(slice(number * n, (number + 1) * n), factor.to(source.weight)))
    last = layer.in_features * n
    if layer.levels is not None:
        if layer.levels.prompts is not None:
            raise ValueError(
                "solver='reml' needs columns of few levels, each with numbers of its own; a column "
                "has so many that they are generated. Set min_frequency, or another solver."
            )
        ends = np.flatnonzero(np.diff(layer.levels.column.cpu().numpy(), prepend=-1))
        n_gaps, n_rows = len(layer.levels.gapped), len(layer.levels.trust)
        for start, stop in zip([0, *(n_gaps + ends)], [*(n_gaps + ends), n_rows], strict=True):
            if start < stop:
                found.append(Term(slice(last + start, last + stop), None))
        last += layer.levels.n_features
    if layer.pairs is not None:
        used = layer.pairs.functions.any(1).sum(1).tolist()  # the others are zero
        for size in used:
            found.append(Term(slice(last, last + size), None))
            last += layer.pairs.functions.shape[2]
    return found


def _of_curve(basis: BSplineBasis, number: int) -> tuple[Tensor, Tensor]:
    """Factors of a random walk and of a smooth curve, of silu and the splines of an input."""
    places = basis.breaks[number if len(basis.breaks) > 1 else 0].double().cpu()
    places = places[1:-1].unfold(0, basis.degree, 1).mean(1)  # Greville's
    walk, curve = (torch.from_numpy(smooth_deviation(places.diff().numpy(), m)) for m in (1, 2))
    left, strengths, _ = torch.linalg.svd(curve)
    smooth = left[:, :SMOOTHEST] * strengths[:SMOOTHEST]
    return torch.block_diag(torch.ones(1, 1).to(walk), walk), torch.nn.functional.pad(
        smooth, (0, 0, 1, 0)
    )


@torch.no_grad()
def set_coefficients(network: KAN, weights: Tensor, constant: Tensor) -> None:
    """Have the outputs, of all members, be ``features(x) @ weights + constant``.

    Parameters
    ----------
    network : KAN
        One with ``additive_terms``.
    weights : Tensor of shape (n_features, n_members * out_features)
    constant : Tensor of shape (n_members * out_features,)
        The splines of the first number sum to one, as do the levels of a column, and take it.
    """
    (layer,) = network._layers
    source = cast(DirectCoefficients, layer.source)
    last = layer.in_features * layer.basis.n_functions
    source.weight.copy_(weights[:last].view_as(source.weight))
    if layer.in_features:
        source.weight[0, 1:] += constant
    levels = layer.levels
    if levels is not None and levels.table is not None:
        levels.table.copy_(weights[last : last + levels.n_features])
        if not layer.in_features:
            own = torch.nonzero(levels.column == levels.column[0]).flatten()
            levels.table[own] += constant / levels.trust[own, None]
    if layer.pairs is not None:
        pairs = cast(DirectCoefficients, layer.pairs.source).weight
        pairs.copy_(weights[-len(pairs) * pairs.shape[1] :].view_as(pairs))
