"""From a flat list of settings to a network: the way the estimators build theirs."""

from typing import Any, Literal

import torch

from sklearn_metakan.basis import BasisName, make_basis
from sklearn_metakan.nn._clusters import cluster_widths
from sklearn_metakan.nn._meta_learner import Activation, MetaLearner
from sklearn_metakan.nn._network import KAN


def build_network(
    layer_sizes: list[int],
    *,
    basis: BasisName = "bspline",
    grid_size: int = 5,
    degree: int = 3,
    n_meta_learners: int | Literal["auto", "layer"] | None = None,
    prompt_dim: int = 1,
    meta_hidden_dim: int = 32,
    meta_activation: Activation = "relu",
    edge_scale: bool = False,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    **network_options: Any,
) -> KAN:
    """A KAN, or with ``n_meta_learners`` a MetaKAN; see those classes for the settings.

    Parameters
    ----------
    n_meta_learners : None, "auto", "layer" or int
        None: direct coefficients. "layer": a meta-learner for each layer. A number: so
        many, for clusters of layers of similar output width. "auto": one for the network.
    seed : int
        For the starting values.
    network_options : dict
        Passed to ``KAN``.
    """
    meta_learners = None
    if n_meta_learners is not None:
        n_functions = make_basis(basis, 1, grid_size=grid_size, degree=degree).n_functions

        def meta_learner() -> MetaLearner:
            return MetaLearner(
                prompt_dim, meta_hidden_dim, n_functions, meta_activation, dtype=dtype
            )

        if n_meta_learners == "layer":
            meta_learners = [meta_learner() for _ in layer_sizes[1:]]
        else:
            count = 1 if n_meta_learners == "auto" else n_meta_learners
            clusters = [meta_learner() for _ in range(count)]
            meta_learners = [clusters[i] for i in cluster_widths(layer_sizes[1:], count)]
    return KAN(
        layer_sizes,
        meta_learners=meta_learners,
        edge_scale=edge_scale,
        basis=basis,
        grid_size=grid_size,
        degree=degree,
        generator=torch.Generator().manual_seed(seed),
        dtype=dtype,
        **network_options,
    )
