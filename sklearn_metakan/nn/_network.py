"""Networks: KAN layers one after the other, with or without meta-learners."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sklearn_metakan.basis import BasisName, Extrapolation, make_basis
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._drawing import draw_seed
from sklearn_metakan.nn._dropout import Dropout
from sklearn_metakan.nn._initialization import Init, initialize
from sklearn_metakan.nn._layer import KANLayer, Source
from sklearn_metakan.nn._linear import KANLinear
from sklearn_metakan.nn._meta_learner import MetaLearner

HIDDEN_RANGE = 3.0  # grid of hidden layers, in standard deviations of their inputs


class KANNetwork(nn.Module, ABC):
    """What training and prediction ask of a network, whatever its layers."""

    @property
    @abstractmethod
    def out_features(self) -> int: ...

    @property
    @abstractmethod
    def widest_features(self) -> int:
        """Most features of a row that any layer has: inputs times C."""

    @property
    @abstractmethod
    def widest_layer(self) -> int:
        """Most numbers of a row that any layer takes and gives."""

    @abstractmethod
    def kan_layers(self) -> Iterator[KANLayer]:
        """The layers from the inputs to the outputs."""

    @abstractmethod
    def with_layers(self, layers: Sequence[KANLayer]) -> nn.Module:
        """The same network with other layers, in order, and no dropout."""


class KAN(KANNetwork):
    """A Kolmogorov-Arnold network; with meta-learners, a MetaKAN.

    Parameters
    ----------
    layer_sizes : sequence of int
        Widths from the inputs to the outputs, at least two.
    meta_learners : None, MetaLearner or sequence of MetaLearner, default=None
        None: every layer has its own coefficients (KAN). One meta-learner generates those
        of the whole network (Algorithm 1); a sequence names one for each layer, and the
        same object may come several times (Algorithm 3).
    edge_scale : bool, default=False
        A trainable scale for each edge, beside its prompt.
    basis : {"bspline", "rbf", "mexican_hat", "morlet", "dog", "shannon", "chebyshev", \
            "legendre", "gram"}, default="bspline"
        The functions that edges combine; see ``BSplineBasis``, ``RBFBasis``,
        ``WaveletBasis`` and ``PolynomialBasis``.
    grid_size, degree : int, default=5 and 3
        Cells of the grid; degree of splines and polynomials. For splines,
        C = 1 + grid_size + degree.
    knots : (float, float) or array, default=(-1, 1)
        Ends of the grid of the inputs, for splines also all knots; hidden layers have
        [-3, 3], where their inputs start with unit variance.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Outside the grid; "base" is not for "legendre". "error" watches the inputs of the
        network; hidden layers then use "linear".
    dropout : float in [0, 1), default=0.0
        Of the inputs of hidden layers.
    bias : bool, default=False
    init : {"variance", "paper", None}, default="variance"
        Starting values: edges drawn so that every layer's outputs have variance one; the
        recipe of the paper's code; all zero (to load a state into).
    backend : {"auto", "reference", "blocked"}, default="auto"
    working_memory : float, optional
        How the layers compute, and how many MiB each may take for a block.
    generator : torch.Generator on the CPU, optional
    dtype : torch.dtype, default: torch's default

    Shape
    -----
    (n, layer_sizes[0]) -> (n, layer_sizes[-1])

    Source: Liu et al., "KAN" (2024); Zhao et al., "Improving Memory Efficiency for
    Training KANs via Meta Learning" (ICML 2025).

    Examples
    --------
    >>> import torch
    >>> def count(network):
    ...     return sum(p.numel() for p in network.parameters())
    >>> count(KAN([784, 32, 10]))
    228672
    >>> count(KAN([784, 32, 10], meta_learners=[MetaLearner(1, 32, 9), MetaLearner(1, 32, 9)]))
    26130
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        meta_learners: MetaLearner | Sequence[MetaLearner] | None = None,
        edge_scale: bool = False,
        basis: BasisName = "bspline",
        grid_size: int = 5,
        degree: int = 3,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        dropout: float = 0.0,
        bias: bool = False,
        init: Init | None = "variance",
        backend: str = "auto",
        working_memory: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(layer_sizes) < 2 or min(layer_sizes) < 1:
            raise ValueError(
                f"layer_sizes must name at least two positive widths, got {list(layer_sizes)}."
            )
        assigned = assign(meta_learners, len(layer_sizes) - 1, edge_scale)
        widest = max(pairwise(layer_sizes), key=prod)
        layers, dropouts = [], []
        for index, (n_in, n_out) in enumerate(pairwise(layer_sizes)):
            first = index == 0
            functions = make_basis(
                basis,
                n_in,
                grid_size=grid_size,
                degree=degree,
                knots=knots if first else (-HIDDEN_RANGE, HIDDEN_RANGE),
                extrapolation=extrapolation if first or extrapolation != "error" else "linear",
                dtype=dtype,
            )
            source = make_source(
                n_in, n_out, functions.n_functions, assigned[index], edge_scale, dtype
            )
            layer = KANLinear(
                n_in,
                n_out,
                functions,
                source,
                bias=bias,
                backend=backend,
                working_memory=working_memory,
                input_law="uniform" if first else "normal",
                init=None,
                dtype=dtype,
            )
            layer.widest = widest
            layers.append(layer)
            seed = 0 if first or not dropout else draw_seed(generator)
            dropouts.append(nn.Identity() if first or not dropout else Dropout(dropout, seed))
        self.layers = nn.ModuleList(layers)
        self.dropouts = nn.ModuleList(dropouts)
        if init is not None:
            initialize(layers, generator, init)

    @property
    def out_features(self) -> int:
        *_, last = self.kan_layers()
        return last.out_features

    @property
    def widest_features(self) -> int:
        return max(layer.in_features * layer.basis.n_functions for layer in self.kan_layers())

    @property
    def widest_layer(self) -> int:
        return max(layer.in_features + layer.out_features for layer in self.kan_layers())

    def with_layers(self, layers: Sequence[KANLayer]) -> nn.Sequential:
        return nn.Sequential(*layers)

    def kan_layers(self) -> Iterator[KANLinear]:
        for layer in self.layers:
            assert isinstance(layer, KANLinear)
            yield layer

    def forward(self, x: Tensor) -> Tensor:
        for dropout, layer in zip(self.dropouts, self.layers, strict=True):
            x = layer(dropout(x))
        return x


def assign(
    meta_learners: MetaLearner | Sequence[MetaLearner] | None, n_layers: int, edge_scale: bool
) -> list[MetaLearner | None]:
    """The meta-learner of each layer, or None for all."""
    if edge_scale and meta_learners is None:
        raise ValueError(
            "edge_scale=True needs meta_learners: direct coefficients hold their scale already."
        )
    if meta_learners is None or isinstance(meta_learners, MetaLearner):
        return [meta_learners] * n_layers
    if len(meta_learners) != n_layers:
        raise ValueError(
            f"meta_learners must name one meta-learner for each of the {n_layers} layers, "
            f"got {len(meta_learners)}."
        )
    return list(meta_learners)


def make_source(
    n_in: int | tuple[int, ...],
    n_out: int,
    n_functions: int,
    meta_learner: MetaLearner | None,
    edge_scale: bool,
    dtype: torch.dtype | None,
) -> Source:
    if meta_learner is None:
        return DirectCoefficients(n_in, n_out, n_functions, dtype=dtype)
    return MetaCoefficients(n_in, n_out, meta_learner, edge_scale, dtype=dtype)
