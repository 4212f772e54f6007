"""Networks: KAN layers one after the other, with or without meta-learners."""

from __future__ import annotations  # help() shows types as they are written here

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, TypeVar, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sklearn_metakan.basis import BasisName, Extrapolation, basis_family
from sklearn_metakan.nn.layers import Init, InputLaw, KANLayer, KANLinear, initialize
from sklearn_metakan.nn.levels import Columns, Levels
from sklearn_metakan.nn.monotone import MonotoneCoefficients, check_can_be_monotone
from sklearn_metakan.nn.pairs import PairInputs, Pairs
from sklearn_metakan.nn.random import Dropout, draw_seed
from sklearn_metakan.nn.sources import (
    DirectCoefficients,
    MetaCoefficients,
    MetaLearner,
    make_meta_learners,
)
from sklearn_metakan.nn.sparse import Edges, keep_edges
from sklearn_metakan.ops import Layer, edge_sums

HIDDEN_RANGE = 3.0  # grid of hidden layers, in standard deviations of their inputs
_GAIN = 3.0  # of numbers of levels and gaps, over the root of the number of columns (measured)
AnyNetwork = TypeVar("AnyNetwork", bound="KANNetwork")
AnyLayer = TypeVar("AnyLayer", bound=KANLayer)
# One for all layers, one for each, or what makes them for (output widths, C).
MetaLearners = (
    MetaLearner | Sequence[MetaLearner] | Callable[[Sequence[int], int], Sequence[MetaLearner]]
)


class KANNetwork(nn.Module, ABC):
    """What training and prediction ask of a network, whatever its layers.

    Attributes
    ----------
    layers : ModuleList of KANLinear or KANConv2d
        From the inputs to the outputs.
    out_features : int
        Of a member.
    n_members : int
        Networks in one, whose outputs come side by side if they are several.
    widest_features : int
        Most features of a row that any layer has: inputs times C.
    widest_layer : int
        Most numbers of a row that any layer takes and gives.
    """

    layers: nn.ModuleList
    out_features: int
    n_members: int = 1
    widest_features: int
    widest_layer: int

    def kan_layers(self) -> Iterator[KANLayer]:
        """The layers from the inputs to the outputs."""
        return iter(cast(Sequence[KANLayer], self.layers))

    @abstractmethod
    def with_layers(self, layers: Sequence[KANLayer]) -> nn.Module:
        """The same network with other layers, in order, and no dropout."""


class KAN(KANNetwork):
    """A Kolmogorov-Arnold network; with meta-learners, a MetaKAN.

    ``f = Phi_L o ... o Phi_1``, with ``Phi(x)_o = b_o + sum_i phi_oi(x_i)`` a ``KANLinear``.

    Parameters
    ----------
    layer_sizes : sequence of int
        Widths from the inputs to the outputs, at least two.
    n_members : int, default=1
        Networks of these widths that are computed together: they share inputs, grids and
        meta-learners and have edges of their own, so that the first layer is one product for
        all, and the others have ``n_members`` groups.
    meta_learners : None, MetaLearner, sequence of MetaLearner or callable, default=None
        None: every layer has its own coefficients (KAN). One meta-learner generates those
        of the whole network (Algorithm 1); a sequence names one for each layer, and the
        same object may come several times (Algorithm 3). A callable is given the layers' output
        widths and C, and returns such a sequence.
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
    columns : Columns or mapping of its fields, optional
        Of inputs with gaps and levels: x then has ``layer_sizes[0]`` numbers, NaN where they are
        missing, and a column of codes for each that has levels; see ``Levels``.
    pairs : mapping, optional
        Of a network without hidden layers: "inputs", a mapping of the fields of ``PairInputs``, and
        "functions", what ``pair_functions`` gives for them. See ``Pairs``.
    monotone : sequence of int, optional
        For each number among the inputs 1 if the outputs must not fall as it rises, -1 if they must
        not rise, 0. Functions of such an input, and all of later layers, then rise or fall: see
        ``ordered``. Exact everywhere, of splines that do not end beyond the grid.
    edges : sequence of sequences of (input, output), optional
        For each layer the edges that there are; the others have no numbers. Of one member.
    bias : bool, default=False
    init : {"variance", "paper", None}, default="variance"
        Starting values: edges drawn so that every layer's outputs have variance one; the
        recipe of the paper's code; all zero (to load a state into).
    init_order : int, optional
        The highest derivative that will be taken, for "variance": it then starts about as large
        as the function, as those of splines do not by themselves.
    backend : {"auto", "reference", "blocked", "triton"}, default="auto"
    working_memory : float, optional
        How the layers compute, and how many MiB each may take for a block; see ``edge_sum``.
    generator : torch.Generator on the CPU, optional
        For the starting values; the global one by default.
    dtype : torch.dtype, default: torch's default

    Shape
    -----
    (n, layer_sizes[0]) -> (n, layer_sizes[-1]); of several members,
    (n, n_members, layer_sizes[-1]). With ``columns``, x has one more for each with levels.

    Raises
    ------
    ValueError
        For settings out of range or that contradict each other: meta-learners for another
        number of layers or functions, an edge scale without meta-learners or with linear ones,
        pairs with hidden layers, monotone with other functions than splines;
        in ``forward``, for an x of another width, or beyond the grid if extrapolation="error".

    Notes
    -----
    A meta-learner of several layers is one module under several names. Pass
    ``tie_weights=False`` to ``torch.func.functional_call``: with its default torch leaves the
    values of the call in such a module.

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
        n_members: int = 1,
        meta_learners: MetaLearners | None = None,
        edge_scale: bool = False,
        basis: BasisName = "bspline",
        grid_size: int = 5,
        degree: int = 3,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        dropout: float = 0.0,
        columns: Columns | Mapping[str, Any] | None = None,
        pairs: Mapping[str, Any] | None = None,
        monotone: Sequence[int] | None = None,
        edges: Sequence[Edges] | None = None,
        bias: bool = False,
        init: Init | None = "variance",
        init_order: int | None = None,
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
        if n_members < 1:
            raise ValueError(f"n_members must be at least 1, got {n_members}.")
        how: dict[str, Any] = {"backend": backend, "working_memory": working_memory}
        kinds = [partial(KANLinear, bias=bias, init=None, dtype=dtype, **how)] * (
            len(layer_sizes) - 1
        )
        if columns is not None:
            known = Columns(**columns) if isinstance(columns, Mapping) else columns
            share = (layer_sizes[0] + len(known.levels)) ** -0.5
            gain = _GAIN * share if meta_learners is None else share
            levels = Levels(known, layer_sizes[1] * n_members, gain=gain, dtype=dtype)
            kinds[0] = partial(kinds[0], levels=levels)
        layers = make_layers(
            kinds,
            layer_sizes,
            (),
            {"name": basis, "grid_size": grid_size, "degree": degree},
            (knots, extrapolation, "uniform"),
            HIDDEN_RANGE,
            meta_learners,
            edge_scale,
            dtype,
            n_members,
        )
        sides: list[tuple[int, int]] = []
        for layer in layers:
            sides.append((layer.fan_in * layer.groups, layer.out_features))
        dropouts: list[nn.Module] = []
        for index, layer in enumerate(layers):
            layer.widest = max(sides, key=prod)
            drops = index and dropout
            dropouts.append(Dropout(dropout, draw_seed(generator)) if drops else nn.Identity())
        self.layers, self.dropouts = nn.ModuleList(layers), nn.ModuleList(dropouts)
        self.n_members, self.out_features = n_members, layer_sizes[-1]
        self.widest_layer = max(map(sum, sides))
        hidden = n_members * max(layer_sizes[1:-1], default=0) * layers[0].basis.n_functions
        self.widest_features = max(layers[0].n_features, hidden)
        if pairs is not None:
            if len(layers) > 1:
                raise ValueError("pairs need a network without hidden layers.")
            known_pairs, width = PairInputs(**pairs["inputs"]), layer_sizes[1] * n_members
            made = Pairs(known_pairs, pairs["functions"], width, layers[0].source, dtype)
            layers[0].pairs = made
        if init is not None:
            initialize(layers, generator, init, init_order)
        if monotone is not None:
            if edges is not None:
                raise ValueError("edges are for networks without monotone inputs.")
            for number, layer in enumerate(layers):
                check_can_be_monotone(layer.basis)
                signs = [1] * layer.in_features if number else monotone
                layer.source = MonotoneCoefficients(layer.source, signs)  # type: ignore[assignment]
        if edges is not None:
            keep_edges(layers, edges)

    def with_layers(self, layers: Sequence[KANLayer]) -> nn.Sequential:
        by_member = [nn.Unflatten(1, (self.n_members, -1))] if self.n_members > 1 else []
        return nn.Sequential(*layers, *by_member)

    def forward(
        self, x: Tensor | None, features: Tensor | None = None, matrix: Tensor | None = None
    ) -> Tensor:
        """Of x, or of ``features(x)``, where that is given; see ``from_features``."""
        first, *later = cast(Sequence[KANLinear], self.layers)
        known = matrix is not None and first.alone()
        if known and (chain := self._alone(later)):
            return self.by_member(edge_sums(cast(Tensor, features), [known, *chain], matrix))
        y: Tensor = first(x) if features is None else first.from_features(features, matrix)
        if chain := self._alone(later):
            return self.by_member(edge_sums(y, chain))
        for dropout, layer in zip([*self.dropouts][1:], later, strict=True):
            y = layer(dropout(y))
        return self.by_member(y)

    def _alone(self, later: Sequence[KANLinear]) -> list[Layer]:
        """The later layers, if they are sums over edges with nothing between them; else none."""
        found = []
        for dropout, layer in zip([*self.dropouts][1:], later, strict=True):
            drops = isinstance(dropout, Dropout) and dropout.training
            if drops or (alone := layer.alone()) is None:
                return []
            found.append(alone)
        return found

    def member(self, member: int) -> KAN:
        """One member as a network of its own: a copy, in which meta-learners are copies too."""
        alone = deepcopy(self)
        alone.n_members, own = 1, self._own(member)
        for number, layer in enumerate(alone._layers):
            layer.in_features //= layer.groups
            layer.out_features //= self.n_members
            layer.groups = 1
            if number:
                layer.basis = layer.basis.with_grid(in_features=layer.in_features)
            source = layer.source
            if isinstance(source, MonotoneCoefficients):
                source.cut(layer.in_features, layer.out_features)
            source.in_shape, source.out_features = (layer.in_features,), layer.out_features
            source.in_features = layer.in_features
            for name, parameter in layer.named_parameters():
                part = own.get(f"layers.{number}.{name}")
                if part is not None:
                    parameter.data = parameter.data[part].clone()
        first = alone._layers[0]
        if first.pairs is not None:
            first.pairs.source.out_features = first.out_features
        if first.levels is not None:
            width = first.levels.out_features = first.out_features
            if first.levels.unseen is not None:
                of_member = slice(member * width, (member + 1) * width)
                first.levels.unseen = first.levels.unseen[:, of_member].clone()
        return alone

    def member_slices(self, member: int) -> dict[str, tuple[Any, ...]] | None:
        """Which part of each parameter is a member's own; None where meta-learners are shared."""
        own = self._own(member)
        return own if len(own) == len([*self.named_parameters()]) else None

    def _own(self, member: int) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for number, layer in enumerate(self._layers):
            for name, parameter in layer.named_parameters():
                if not (".meta_learner." in name or name == "levels.prompts"):
                    axis = 0 if number else -1  # its inputs, or outputs of the first layer
                    size = parameter.shape[axis] // self.n_members
                    own = slice(member * size, (member + 1) * size)
                    found[f"layers.{number}.{name}"] = (own,) if number else (..., own)
        return found

    def with_pairs(self, kept: Sequence[int]) -> KAN:
        """The network with some of its pairs alone; all else is shared."""
        first, *later = self._layers
        own, found = copy(first), copy(self)
        pairs = None if first.pairs is None or not kept else first.pairs.only(kept)
        own._modules = first._modules | {"pairs": pairs}
        found._modules = found._modules | {"layers": nn.ModuleList([own, *later])}
        return found

    def features(self, x: Tensor, terms: bool = False) -> Tensor:
        """What of ``forward`` depends on x alone: the first layer's functions, (n, features).

        Or ``terms`` of which they are sums; see ``KANLinear.features``.
        """
        return cast(KANLinear, self.layers[0]).features(x, terms)

    def from_features(self, features: Tensor, matrix: Tensor | None = None) -> Tensor:
        """``forward(x)`` from ``features(x, matrix is not None)``, if it is not settled."""
        return self.forward(None, features, matrix)

    def by_member(self, y: Tensor) -> Tensor:
        """Outputs of the last layer as the network gives them."""
        return y if self.n_members == 1 else y.unflatten(1, (self.n_members, -1))

    def settled(self, x: Tensor) -> KAN:
        """The network, to which gaps and levels that training did not see are the mean over x.

        Its numbers are shared.
        """
        first, *later = self._layers
        found = copy(self)
        found._modules = found._modules | {"layers": nn.ModuleList([first.settled(x), *later])}
        return found

    @property
    def _layers(self) -> Sequence[KANLinear]:
        return cast(Sequence[KANLinear], self.layers)


def make_layers(
    kinds: Sequence[Callable[..., AnyLayer]],
    widths: Sequence[int],
    kernel: tuple[int, ...],
    functions: dict[str, Any],
    first: tuple[tuple[float, float] | ArrayLike, Extrapolation, InputLaw],
    hidden_range: float,
    meta_learners: MetaLearners | None,
    edge_scale: bool,
    dtype: torch.dtype | None,
    n_members: int = 1,
) -> list[AnyLayer]:
    """Layers one after the other, for widths from inputs to outputs.

    ``kinds`` lack what is decided here; ``functions`` are those of ``basis_family``. ``first`` has
    knots, extrapolation and law of the first layer's inputs; those of the others are normal, on
    grids that do not watch them. ``kernel`` is () for dense layers.
    """
    sides, (knots, extrapolation, law) = [*pairwise(widths)], first
    make = basis_family(**functions, dtype=dtype)
    if edge_scale and meta_learners is None:
        raise ValueError(
            "edge_scale=True needs meta_learners: direct coefficients hold their scale already."
        )
    bases = [make(widths[0], knots=knots, extrapolation=extrapolation)]
    inner = "linear" if extrapolation == "error" else extrapolation
    for width in widths[1:-1]:
        bases.append(
            make(n_members * width, knots=(-hidden_range, hidden_range), extrapolation=inner)
        )
    n_functions = bases[0].n_functions
    learners: Sequence[MetaLearner | None]
    if meta_learners is None or isinstance(meta_learners, MetaLearner):
        learners = [meta_learners] * len(sides)
    elif isinstance(meta_learners, Sequence | nn.ModuleList):
        learners = [*meta_learners]
    else:
        learners = meta_learners(widths[1:], n_functions)
    if len(learners) != len(sides):
        raise ValueError(
            f"meta_learners must name one meta-learner for each of the {len(sides)} layers, "
            f"got {len(learners)}."
        )
    sources: list[DirectCoefficients | MetaCoefficients] = []
    for (n_in, n_out), learner in zip(sides, learners, strict=True):
        groups = n_members if sources else 1
        shape, outputs = (n_in * groups, *kernel), n_out * n_members // groups
        if learner is None:
            sources.append(DirectCoefficients(shape, outputs, n_functions, dtype=dtype))
        else:
            sources.append(MetaCoefficients(shape, outputs, learner, edge_scale, dtype=dtype))
    layers: list[AnyLayer] = []
    for kind, (n_in, n_out), basis, source in zip(kinds, sides, bases, sources, strict=True):
        groups = n_members if layers else 1
        of_groups = {"groups": groups} if groups > 1 else {}
        sizes = n_in * groups, n_out * n_members
        layers.append(kind(*sizes, basis=basis, source=source, input_law=law, **of_groups))
        law = "normal"
    return layers


def build_network(layer_sizes: list[int], **settings: Any) -> KAN:
    """A KAN, or with ``n_meta_learners`` a MetaKAN, from a flat list of settings.

    Parameters
    ----------
    layer_sizes : list of int
    n_meta_learners : None, "auto", "layer" or int, default=None
        None: direct coefficients. "layer": a meta-learner for each layer. A number: so
        many, for clusters of layers of similar output width. "auto": one for the network.
    prompt_dim, meta_hidden_dim, meta_activation : int, int and str, default=1, 32 and "relu"
        As for ``MetaLearner``.
    seed : int, default=0
        For the starting values.
    **settings : dict
        All others are those of ``KAN``: basis, grid_size and so on.

    Raises
    ------
    ValueError
        As for ``KAN`` and ``MetaLearner``; and for more clusters than output widths.
    """
    return build(KAN, layer_sizes, **settings)


def build(
    kind: Callable[..., AnyNetwork],
    *shape: Any,
    n_meta_learners: Any = None,
    prompt_dim: int = 1,
    meta_hidden_dim: int = 32,
    meta_activation: str = "relu",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    **settings: Any,
) -> AnyNetwork:
    """A network of this kind and shape; see ``build_network``."""
    learners = None
    if n_meta_learners is not None:
        sizes = prompt_dim, meta_hidden_dim, meta_activation, dtype
        learners = partial(make_meta_learners, n_meta_learners, *sizes)
    generator = torch.Generator().manual_seed(seed)
    return kind(*shape, meta_learners=learners, generator=generator, dtype=dtype, **settings)
