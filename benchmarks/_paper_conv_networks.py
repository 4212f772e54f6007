"""Networks of `paper.py conv-images`: the paper's, of four or eight layers, and other B-splines."""

import re
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from sklearn_metakan import KANImageClassifier, MetaKANImageClassifier
from sklearn_metakan.nn import ConvKAN, MetaCoefficients, build_conv_network

CHANNELS = {4: (32, 64, 128, 256), 8: (16, 32, 64, 128, 256, 256, 512, 512)}
STRIDES = {4: (1, 2, 2, 1), 8: (1, 2, 2, 1, 1, 2, 1, 1)}
DROPOUT = 0.5
META_FACTOR = 0.3  # of meta-learners, on the learning rate of norms and head
_ACTIVATION, _ORDER = "module__activation", "module__norm_order"
_RANGE, _INIT = "module__hidden_range", "module__init"
_BSPLINE: dict[str, Any] = {"basis": "bspline", "norm": "batch", _ACTIVATION: "prelu"}
_LOST: dict[str, Any] = {_RANGE: 1.0, "extrapolation": "base"}

NETWORKS: dict[str, dict[str, Any]] = {
    "bspline": _BSPLINE,
    "rbf": {"basis": "rbf", "grid_size": 7, "norm": "instance", _ORDER: "before"},
    # Gaussians with norm and activation of the B-splines, or of the polynomials.
    "rbf-batch": {"basis": "rbf", "grid_size": 7, "norm": "batch", _ACTIVATION: "prelu"},
    "rbf-silu": {"basis": "rbf", "grid_size": 7, "norm": "instance", _ACTIVATION: "silu"},
    "gram": {"basis": "gram", "norm": "instance", _ACTIVATION: "silu"},
    "legendre": {"basis": "legendre", "norm": "instance", _ACTIVATION: "silu"},
    "chebyshev": {"basis": "chebyshev", "degree": 6, "norm": "instance", _ACTIVATION: "silu"},
}

# Each differs from "bspline" in what is named. "lost": beyond the grid there is no spline.
ABLATION: dict[str, dict[str, Any]] = {
    "bspline": _BSPLINE,
    "grid [-1, 1], lost beyond": _BSPLINE | _LOST,
    "grid [-1, 1]": _BSPLINE | {_RANGE: 1.0},
    "lost beyond": _BSPLINE | {"extrapolation": "base"},
    "no norm": _BSPLINE | {"norm": None},
    "batch norm before": _BSPLINE | {_ORDER: "before"},
    "instance norm": _BSPLINE | {"norm": "instance"},
    "instance norm before": _BSPLINE | {"norm": "instance", _ORDER: "before"},
    "layer norm": _BSPLINE | {"norm": "layer"},
    "layer norm before": _BSPLINE | {"norm": "layer", _ORDER: "before"},
    "no prelu": {"basis": "bspline", "norm": "batch"},
}
# Of the MetaKAN alone.
_MIXED = "mixed prompts"
META_ABLATION: dict[str, dict[str, Any]] = {
    "paper's start": _BSPLINE | {_INIT: "paper"},
    _MIXED: _BSPLINE,
    "all as published": _BSPLINE | _LOST | {_INIT: "paper"},
}
_MIXES = (_MIXED, "all as published")


def ablation(source: str) -> list[str]:
    return [*ABLATION, *(META_ABLATION if source != "kan" else {})]


def estimator(
    network: str,
    source: str,
    learning_rate: float,
    prompt_factor: float,
    n_layers: int = 4,
    **options: Any,
) -> Any:
    """A classifier; ``source`` is "kan", or "meta-H" with one meta-learner for the network.

    "meta-HxM" has M of them, for clusters of layers, "meta-Hxlayer" one for each layer.
    """
    found = {**NETWORKS, **ABLATION, **META_ABLATION}[network]
    module = {key: value for key, value in found.items() if key.startswith("module__")}
    options |= {key: value for key, value in found.items() if key not in module}
    common = {
        "hidden_channels": CHANNELS[n_layers],
        "strides": STRIDES[n_layers],
        "dropout": DROPOUT,
        "learning_rate": learning_rate,
    }
    if source == "kan":
        return KANImageClassifier(**common, net_params=module, **options)
    hidden, _, count = source.removeprefix("meta-").partition("x")
    options |= {
        "n_meta_learners": count if count == "layer" else int(count or 1),
        "prompt_dim": 1,
        "meta_hidden_dim": int(hidden),
        "meta_activation": "relu",
        "edge_scale": False,
        "prompt_learning_rate": prompt_factor * learning_rate,
        "meta_learning_rate": META_FACTOR * learning_rate,
    }
    kind = _MixedPrompts if network in _MIXES else MetaKANImageClassifier
    return kind(**common, net_params=module, **options)


def sources(keys: Sequence[str]) -> Iterator[str]:
    """The keys, checked."""
    for key in keys:
        if not re.fullmatch(r"kan|meta-\d+(x(\d+|layer))?", key):
            raise ValueError(f"A source is kan, meta-H, meta-HxM or meta-Hxlayer: {key!r}.")
        yield key


class MixedCoefficients(nn.Module):
    """The published code's layout: coefficients of an edge come from several prompts.

    Generated are (edges, C) numbers, edges in the order (output, channel, position); they are
    then read as (outputs, channels * C, positions).
    """

    activation = None

    def __init__(self, meta: MetaCoefficients) -> None:
        super().__init__()
        self.meta = meta
        self.in_shape, self.in_features = meta.in_shape, meta.in_features
        self.out_features, self.n_functions = meta.out_features, meta.n_functions
        self.numbers_per_input = self.n_functions * self.out_features

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (mixed(self.meta.block(0, self.in_features), self.in_shape),), ()

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        return by_input[0]

    def dictionary(self, shared: Sequence[Tensor]) -> None:
        return None

    def scaled(self, shared: Sequence[Tensor]) -> Sequence[Tensor]:
        return shared


def mixed(weights: Tensor, in_shape: tuple[int, ...]) -> Tensor:
    """(channels * positions, C, outputs) -> the same shape, numbers in other places."""
    channels, positions = in_shape[0], prod(in_shape[1:])
    n_functions, n_out = weights.shape[1:]
    by_edge = weights.permute(2, 0, 1).contiguous()  # (outputs, channels * positions, C)
    read = by_edge.view(n_out, channels, n_functions, positions)
    return read.permute(1, 3, 2, 0).reshape(weights.shape).contiguous()


def build_mixed(*shape: Any, **options: Any) -> ConvKAN:
    network = build_conv_network(*shape, **options)
    for layer in network.kan_layers():
        assert isinstance(layer.source, MetaCoefficients)
        layer.source = MixedCoefficients(layer.source)
    return network


class _MixedPrompts(MetaKANImageClassifier):
    _make_module = staticmethod(build_mixed)
