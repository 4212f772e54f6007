"""From a flat list of settings to a network: the way the estimators build theirs."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from sklearn_metakan.basis import BasisName, make_basis
from sklearn_metakan.nn._clusters import cluster_widths
from sklearn_metakan.nn._conv_network import ConvKAN
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
    n_functions = make_basis(basis, 1, grid_size=grid_size, degree=degree).n_functions
    meta = (prompt_dim, meta_hidden_dim, n_functions, meta_activation, dtype)
    return KAN(
        layer_sizes,
        meta_learners=make_meta_learners(layer_sizes[1:], n_meta_learners, *meta),
        basis=basis,
        grid_size=grid_size,
        degree=degree,
        generator=torch.Generator().manual_seed(seed),
        dtype=dtype,
        **network_options,
    )


def build_conv_network(
    image_shape: tuple[int, int, int],
    hidden_channels: list[int],
    n_outputs: int,
    *,
    basis: BasisName = "bspline",
    grid_size: int = 5,
    degree: int = 3,
    n_meta_learners: int | Literal["auto", "layer"] | None = None,
    prompt_dim: int = 1,
    meta_hidden_dim: int = 32,
    meta_activation: Activation = "relu",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    **network_options: Any,
) -> ConvKAN:
    """``build_network`` for images; further options are passed to ``ConvKAN``."""
    n_functions = make_basis(basis, 1, grid_size=grid_size, degree=degree).n_functions
    meta = (prompt_dim, meta_hidden_dim, n_functions, meta_activation, dtype)
    return ConvKAN(
        image_shape,
        hidden_channels,
        n_outputs,
        meta_learners=make_meta_learners(hidden_channels, n_meta_learners, *meta),
        basis=basis,
        grid_size=grid_size,
        degree=degree,
        generator=torch.Generator().manual_seed(seed),
        dtype=dtype,
        **network_options,
    )


def make_meta_learners(
    widths: Sequence[int],
    n_meta_learners: int | Literal["auto", "layer"] | None,
    prompt_dim: int,
    hidden_dim: int,
    n_functions: int,
    activation: Activation,
    dtype: torch.dtype | None,
) -> list[MetaLearner] | None:
    """The meta-learner of each layer, by the layers' output widths; None without any."""
    if n_meta_learners is None:
        return None

    def meta_learner() -> MetaLearner:
        return MetaLearner(prompt_dim, hidden_dim, n_functions, activation, dtype=dtype)

    if n_meta_learners == "layer":
        return [meta_learner() for _ in widths]
    count = 1 if n_meta_learners == "auto" else n_meta_learners
    clusters = [meta_learner() for _ in range(count)]
    return [clusters[label] for label in cluster_widths(widths, count)]
