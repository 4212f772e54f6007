"""The models measured beside each other: an MLP, and our KAN with each coefficient source."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from sklearn_metakan.basis import make_basis
from sklearn_metakan.nn import build_network

DEGREE = 3


@dataclass(frozen=True)
class Model:
    """A kind of network.

    ``build(widths, grid_size, device)`` gives one with starting values; ``features(grid_size)``
    says how many factors an input has in its matrix products.
    """

    key: str
    label: str
    build: Callable[[Sequence[int], int, torch.device], nn.Module]
    features: Callable[[int], int]


MLP_LABEL = "MLP (SiLU)"
WIDE_MLP = "mlp-2x"  # key of the MLP with as many parameters as sources of 2 numbers an edge
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "kan": ("KAN", {}),
    "paper": (
        "MetaKAN paper (relu, p=1, H=32)",
        {"n_meta_learners": "layer", "prompt_dim": 1, "meta_hidden_dim": 32},
    ),
    "edge-scale": (
        "MetaKAN edge scale (sin, p=1, H=32)",
        {
            "n_meta_learners": "layer",
            "prompt_dim": 1,
            "meta_hidden_dim": 32,
            "meta_activation": "sin",
            "edge_scale": True,
        },
    ),
    "linear-2": (
        "MetaKAN linear (p=2)",
        {"n_meta_learners": "layer", "prompt_dim": 2, "meta_hidden_dim": 0},
    ),
    "linear-1": (
        "MetaKAN linear (p=1)",
        {"n_meta_learners": "layer", "prompt_dim": 1, "meta_hidden_dim": 0},
    ),
}


def sources(basis: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Key, label and options of each; another basis than B-splines is named in the first two."""
    name = "" if basis == "bspline" else basis
    for key, (label, options) in SOURCES.items():
        names = (f"{key}-{name}", f"{label}, {name}") if name else (key, label)
        yield *names, options | {"basis": basis}


def own_models(backend: str = "auto", basis: str = "bspline") -> list[Model]:
    """The MLP and every source, a meta-learner a layer; ``backend`` as in ``KAN``."""
    models = [Model("mlp", MLP_LABEL, make_mlp, lambda grid_size: 1)]
    for key, label, options in sources(basis):
        build = partial(started, _network, options, backend)
        models.append(Model(key, label, build, partial(factors_of_input, options)))
    return models


def wide_mlp(widths: Sequence[int]) -> tuple[Model, tuple[int, ...]]:
    """An MLP with as many parameters as there are with two numbers an edge, and its widths."""
    target = two_an_edge(widths)
    low, high = 1.0, 2.0 * max(2, target)

    def scaled(factor: float) -> tuple[int, ...]:
        hidden = (max(1, round(factor * width)) for width in widths[1:-1])
        return (widths[0], *hidden, widths[-1])

    while high - low > 1e-6:
        middle = (low + high) / 2
        if n_parameters(scaled(middle)) < target:
            low = middle
        else:
            high = middle
    model = Model(
        WIDE_MLP, "MLP, as many parameters as linear (p=2)", make_mlp, lambda grid_size: 1
    )
    return model, min(scaled(low), scaled(high), key=lambda w: abs(n_parameters(w) - target))


def two_an_edge(widths: Sequence[int]) -> int:
    """The prompts of a linear source with p = 2, or prompts and edge scales."""
    return 2 * sum(n_in * n_out for n_in, n_out in pairwise(widths))


def n_parameters(widths: Sequence[int]) -> int:
    """Of an MLP with biases."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))


def equal_width(model: Model, widths: Sequence[int], grid_size: int, target: int) -> int:
    """The width of the one hidden layer with which a model has this many parameters.

    Their number is linear in the width, so two small networks tell it.
    """
    small, large = 8, 16
    cpu = torch.device("cpu")

    def count(hidden: int) -> int:
        network = model.build((widths[0], hidden, widths[-1]), grid_size, cpu)
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    at_small, at_large = count(small), count(large)
    return round(small + (target - at_small) * (large - small) / (at_large - at_small))


def factors_of_input(options: dict[str, Any], grid_size: int) -> int:
    """C, or p of a linear source."""
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


def _network(widths: Sequence[int], **options: Any) -> nn.Module:
    return build_network(list(widths), **options)


def started(
    make: Callable[..., nn.Module],
    options: dict[str, Any],
    backend: str,
    widths: Sequence[int],
    grid_size: int,
    device: torch.device,
) -> nn.Module:
    """With starting values drawn on the device: our own take minutes at the largest shapes.

    Normal numbers of the usual scale, as products of zeros would run faster than they do.
    """
    network = make(
        widths, grid_size=grid_size, degree=DEGREE, init=None, backend=backend, **options
    ).to(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("source.weight"):  # (in, C, out)
                scale = parameter[..., 0].numel() ** -0.5
            elif name.endswith("output_weight"):
                scale = parameter.shape[-1] ** -0.5
            else:
                scale = 1.0
            parameter.normal_(std=scale, generator=generator)
    return network
