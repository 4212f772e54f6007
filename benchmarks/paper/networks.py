"""Networks of the paper's tables by keys: coefficient sources, convolutional networks."""

import re
from math import prod
from typing import Any

from torch import Tensor

from sklearn_metakan import KANImageClassifier, MetaKANImageClassifier
from sklearn_metakan.nn import ConvKAN, DirectCoefficients, MetaCoefficients, build_conv_network

_KEY = re.compile(r"kan|(?P<source>paper|relu|silu|sin|linear)-(?P<number>\d+)(?P<layer>-layer)?")


def settings(model: str) -> dict[str, Any]:
    """Parameters of an estimator for a key; those of "kan" are none.

    "paper-H", the paper's meta-learner and starting values; "relu-H", with our starting values;
    "silu-H", with that activation; "sin-H", with edge scale; "linear-p". One meta-learner serves
    all layers (Algorithm 1); with "-layer" at the end, each has its own.
    """
    match = _KEY.fullmatch(model)
    if match is None:
        known = "kan, or (paper|relu|silu|sin|linear)-NUMBER[-layer]"
        raise ValueError(f"A model is {known}: {model!r}.")
    source, number = match["source"], match["number"]
    if source is None:
        return {}
    found: dict[str, Any] = {"n_meta_learners": "layer" if match["layer"] else 1}
    if source == "linear":
        return found | {"prompt_dim": int(number), "meta_hidden_dim": 0, "edge_scale": False}
    found |= {"prompt_dim": 1, "meta_hidden_dim": int(number), "edge_scale": source == "sin"}
    if source == "paper":
        found["net_params"] = {"module__init": "paper"}
    return found | {"meta_activation": "relu" if source == "paper" else source}


# Convolutional networks of four or eight layers.
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
META_ABLATION: dict[str, dict[str, Any]] = {  # of the MetaKAN alone
    "paper's start": _BSPLINE | {_INIT: "paper"},
    "mixed prompts": _BSPLINE,
    "all as published": _BSPLINE | _LOST | {_INIT: "paper"},
}


def ablation(source: str) -> list[str]:
    return [*ABLATION, *(META_ABLATION if source != "kan" else {})]


def conv_settings(source: str, learning_rate: float, prompt_factor: float) -> dict[str, Any]:
    """Parameters of an estimator for a source: those of "kan" are none.

    "meta-H" has one meta-learner for the network, "meta-HxM" M of them, for clusters of layers,
    "meta-Hxlayer" one for each layer.
    """
    match = re.fullmatch(r"kan|meta-(?P<hidden>\d+)(x(?P<count>\d+|layer))?", source)
    if match is None:
        raise ValueError(f"A source is kan, meta-H, meta-HxM or meta-Hxlayer: {source!r}.")
    if source == "kan":
        return {}
    count = match["count"] or "1"
    return settings(f"relu-{match['hidden']}") | {
        "n_meta_learners": count if count == "layer" else int(count),
        "prompt_learning_rate": prompt_factor * learning_rate,
        "meta_learning_rate": META_FACTOR * learning_rate,
    }


def conv_estimator(
    network: str, source: str, layers: int, learning_rate: float, prompt_factor: float, **more: Any
) -> KANImageClassifier | MetaKANImageClassifier:
    found = {**NETWORKS, **ABLATION, **META_ABLATION}[network]
    module = {key: value for key, value in found.items() if key.startswith("module__")}
    more |= {key: value for key, value in found.items() if key not in module}
    of_source = conv_settings(source, learning_rate, prompt_factor)
    kind = MetaKANImageClassifier if of_source else KANImageClassifier
    return (_MixedPrompts if network in ("mixed prompts", "all as published") else kind)(
        hidden_channels=CHANNELS[layers],
        strides=STRIDES[layers],
        dropout=DROPOUT,
        learning_rate=learning_rate,
        net_params=module,
        **of_source,
        **more,
    )


class MixedCoefficients(DirectCoefficients):
    """The published code's layout: coefficients of an edge come from several prompts.

    Generated are (edges, C) numbers, edges in the order (output, channel, position); they are
    then read as (outputs, channels * C, positions).
    """

    def __init__(self, meta: MetaCoefficients) -> None:
        super().__init__(meta.in_shape, meta.out_features, meta.n_functions)
        del self.weight
        self.meta = meta

    @property
    def weight(self) -> Tensor:
        return mixed(self.meta.block(0, self.in_features), self.in_shape)


def mixed(weights: Tensor, in_shape: tuple[int, ...]) -> Tensor:
    """(channels * positions, C, outputs) -> (channels, *positions, C, outputs), in other places."""
    channels, positions = in_shape[0], prod(in_shape[1:])
    n_functions, n_out = weights.shape[1:]
    by_edge = weights.permute(2, 0, 1).contiguous()  # (outputs, channels * positions, C)
    read = by_edge.view(n_out, channels, n_functions, positions)
    return read.permute(1, 3, 2, 0).reshape(*in_shape, n_functions, n_out).contiguous()


def build_mixed(*shape: Any, **options: Any) -> ConvKAN:
    network = build_conv_network(*shape, **options)
    for layer in network.kan_layers():
        layer.source = MixedCoefficients(layer.source)
    return network


class _MixedPrompts(MetaKANImageClassifier):
    _make_network = staticmethod(build_mixed)
