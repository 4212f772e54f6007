"""The networks measured beside each other: an MLP, ours with each coefficient source, peers.

Peers are other KANs as their authors publish them. Each is imported by file path from a folder of
checkouts, or, failing that, from an installed package, when its first network is built. Nothing
of them is part of this repository.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from scipy.optimize import brentq
from torch import nn

from sklearn_metakan.basis import make_basis
from sklearn_metakan.nn import build_conv_network, build_network

DEGREE = 3
MLP_LABEL = "MLP (SiLU)"
WIDE_MLP = "mlp-2x"  # key of the MLP with as many parameters as sources of 2 numbers an edge
_PAPER = {"n_meta_learners": "layer", "prompt_dim": 1, "meta_hidden_dim": 32}
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "kan": ("KAN", {}),
    "paper": ("MetaKAN paper (relu, p=1, H=32)", _PAPER),
    "edge-scale": (
        "MetaKAN edge scale (sin, p=1, H=32)",
        _PAPER | {"meta_activation": "sin", "edge_scale": True},
    ),
    "linear-2": ("MetaKAN linear (p=2)", _PAPER | {"prompt_dim": 2, "meta_hidden_dim": 0}),
    "linear-1": ("MetaKAN linear (p=1)", _PAPER | {"meta_hidden_dim": 0}),
}
# Channels 32, 64, 128, 256 on 32x32 images, as in the paper's networks of four layers, without
# norms and dropout: convolutions, SiLU between those of the plain network, mean, linear head.
CONV_CHANNELS, CONV_SIZE, CONV_STRIDES = (3, 32, 64, 128, 256), 32, (1, 2, 2, 1)


class Model(NamedTuple):
    """A kind of network.

    ``build(widths, grid_size, device)`` gives one with starting values; ``features(grid_size)``
    says how many factors an input has in its matrix products: 1 for an MLP, C for a KAN, p for
    a linear meta-learner.
    """

    key: str
    label: str
    build: Callable[[Sequence[int], int, torch.device], nn.Module]
    features: Callable[[int], int] = lambda grid_size: 1


def own_models(backend: str = "auto", basis: str = "bspline") -> list[Model]:
    """The MLP and every source, a meta-learner a layer; ``backend`` as in ``KAN``."""
    return [Model("mlp", MLP_LABEL, make_mlp), *_of_sources(build_network, backend, basis)]


def conv_models(backend: str, basis: str = "bspline") -> list[Model]:
    """The plain network in the MLP's place, every source, and all features kept at once."""
    kept = [
        model._replace(key=f"{model.key}-kept", label=f"{model.label}, all features kept")
        for model in _of_sources(build_conv, "reference", basis)[:2]
    ]
    plain = Model("mlp", "plain convolutions (SiLU)", make_plain_conv)
    return [plain, *_of_sources(build_conv, backend, basis), *kept]


def _of_sources(make: Callable[..., nn.Module], backend: str, basis: str) -> list[Model]:
    """Another basis than B-splines is named in keys and labels."""
    found = []
    for key, (label, options) in SOURCES.items():
        names = (key, label) if basis == "bspline" else (f"{key}-{basis}", f"{label}, {basis}")
        build = partial(_start, make, options | {"basis": basis, "backend": backend})
        found.append(Model(*names, build, partial(_factors, options | {"basis": basis})))
    return found


def _factors(options: dict[str, Any], grid_size: int) -> int:
    if options.get("meta_hidden_dim") == 0:
        return options["prompt_dim"]
    return make_basis(options["basis"], 1, grid_size=grid_size, degree=DEGREE).n_functions


def make_mlp(
    widths: Sequence[int], grid_size: int = 0, device: torch.device | None = None
) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, device=device), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def make_plain_conv(widths: Sequence[int], grid_size: int, device: torch.device) -> nn.Module:
    layers: list[nn.Module] = []
    for (n_in, n_out), stride in zip(pairwise(widths[:-1]), CONV_STRIDES, strict=True):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.SiLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-2], widths[-1])]
    return nn.Sequential(*layers).to(device, memory_format=torch.channels_last)


def build_conv(widths: Sequence[int], **options: Any) -> nn.Module:
    shape = (widths[0], CONV_SIZE, CONV_SIZE)
    return build_conv_network(
        shape, list(widths[1:-1]), widths[-1], strides=CONV_STRIDES, **options
    )


def _start(
    make: Callable[..., nn.Module],
    options: dict[str, Any],
    widths: Sequence[int],
    grid_size: int,
    device: torch.device,
) -> nn.Module:
    """With starting values drawn on the device: our own take minutes at the largest shapes.

    Normal numbers of the usual scale, as products of zeros would run faster than they do.
    """
    network = make([*widths], grid_size=grid_size, degree=DEGREE, init=None, **options).to(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = 1.0
            if name.endswith("source.weight"):  # (in, C, out)
                scale = parameter[..., 0].numel() ** -0.5
            elif name.endswith("output_weight"):
                scale = parameter.shape[-1] ** -0.5
            parameter.normal_(std=scale, generator=generator)
    return network


def wide_mlp(widths: Sequence[int]) -> tuple[Model, tuple[int, ...], str]:
    """An MLP with as many parameters as there are with two numbers an edge, widths, a note."""
    target = 2 * sum(n_in * n_out for n_in, n_out in pairwise(widths))

    def scaled(factor: float) -> list[float]:
        return [widths[0], *(factor * width for width in widths[1:-1]), widths[-1]]

    factor = brentq(lambda factor: n_parameters(scaled(factor)) - target, 0, 2 * target)
    model = Model(WIDE_MLP, "MLP, as many parameters as linear (p=2)", make_mlp)
    wide = tuple(max(1, round(width)) for width in scaled(factor))
    return model, wide, f"{n_parameters(wide):,} parameters for {target:,}"


def n_parameters(widths: Sequence[float]) -> float:
    """Of an MLP with biases."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))


def equal_widths(model: Model, widths: Sequence[int], grid_size: int) -> tuple[int, ...]:
    """With the one hidden layer with which a model has as many parameters as the MLP.

    Their number is linear in its width, so two small networks tell it.
    """
    if model.key == "mlp":
        return tuple(widths)
    first, _, last = widths

    def count(hidden: int) -> int:
        network = model.build((first, hidden, last), grid_size, torch.device("cpu"))
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    at_8, slope = count(8), (count(16) - count(8)) / 8
    return first, round(8 + (n_parameters(widths) - at_8) / slope), last


class Peer(NamedTuple):
    """``path`` is in the folder of checkouts; ``make`` takes module, widths and grid size."""

    key: str
    label: str
    path: str
    package: str | None
    make: Callable[[ModuleType, list[int], int], nn.Module]
    most_edges: float = inf


_OFFICIAL = "MetaKAN/base_model"
PEERS = [
    Peer("official-metakan", "official MetaKAN (H=32)", f"{_OFFICIAL}/metakan.py", None,
         lambda m, widths, G: m.MetaKAN(widths, hidden_dim=32, grid_size=G)),
    Peer("official-kan", "official KAN", f"{_OFFICIAL}/kan.py", None,
         lambda m, widths, G: m.KAN(widths, grid_size=G, base_activation=nn.SiLU())),
    Peer("efficient-kan", "efficient-kan", "efficient-kan/src/efficient_kan/kan.py",
         "efficient_kan", lambda m, widths, G: m.KAN(widths, grid_size=G)),
    Peer("fastkan", "FastKAN", "fast-kan/fastkan/fastkan.py", "fastkan",
         lambda m, widths, G: m.FastKAN(widths, num_grids=G + DEGREE)),
    # Holds Python objects for each edge, and activations for each edge and row.
    Peer("pykan", "pykan (speed mode)", "pykan/kan/__init__.py", "kan",
         lambda m, widths, G: m.KAN(width=widths, grid=G, k=DEGREE, auto_save=False).speed(), 3e5),
]  # fmt: skip


class TooLarge(ValueError):
    """A network that a peer is not asked to build."""


def find_peers(folder: Path | None) -> tuple[list[Model], list[str]]:
    """The peers that are there, and the labels of those that are not."""
    found, missing = [], []
    for peer in PEERS:
        path = folder / peer.path if folder and (folder / peer.path).is_file() else None
        if path or (peer.package and importlib.util.find_spec(peer.package)):
            build = partial(_build, peer, path)
            found.append(Model(peer.key, peer.label, build, lambda grid_size: grid_size + 4))
        else:
            missing.append(peer.label)
    return found, missing


def _build(
    peer: Peer, path: Path | None, widths: Sequence[int], grid_size: int, device: torch.device
) -> nn.Module:
    edges = sum(n_in * n_out for n_in, n_out in pairwise(widths))
    if edges > peer.most_edges:
        raise TooLarge(f"{edges} edges, at most {peer.most_edges:.0f} asked of {peer.label}")
    module = importlib.import_module(peer.package) if path is None else _load(peer, path)
    try:
        with device:  # large networks start slowly on a CPU
            return peer.make(module, list(widths), grid_size).to(device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # of those who cannot start elsewhere
        return peer.make(module, list(widths), grid_size).to(device)


def _load(peer: Peer, path: Path) -> ModuleType:
    """The module in this file; of a package, under its own name, which it imports itself by."""
    is_package = path.name == "__init__.py"
    name = path.parent.name if is_package else f"peer_{peer.key.replace('-', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    folders = [str(path.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
