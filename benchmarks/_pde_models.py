"""Solvers that are compared: KAN and MetaKAN, and an MLP in the same harness."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from sklearn_metakan.pde import KANPDESolver, MetaKANPDESolver, TrialFunction
from sklearn_metakan.pde.physics.physics import Physics

MODELS = ("mlp", "kan", "metakan")
# Where a MetaKAN's coefficients come from; "paper" has the learning rates of the paper's code.
SOURCES: dict[str, dict[str, Any]] = {
    **{f"linear-{p}": {"prompt_dim": p, "meta_hidden_dim": 0} for p in (2, 3, 4, 6)},
    "edge-scale": {
        "prompt_dim": 1,
        "meta_hidden_dim": 64,
        "meta_activation": "sin",
        "edge_scale": True,
    },
    "paper": {
        "prompt_dim": 1,
        "meta_hidden_dim": 64,
        "meta_activation": "relu",
        "prompt_learning_rate": 1e-2,
        "meta_learning_rate": 1e-3,
    },
}


class MLP(nn.Sequential):
    """Linear layers and tanh, with what solvers ask of a network beside its values."""

    def __init__(self, widths: Sequence[int], seed: int, dtype: torch.dtype | None = None) -> None:
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(seed)
        for n_in, n_out in pairwise(widths):
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)
            nn.init.xavier_normal_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.Tanh()]
        super().__init__(*layers[:-1])

    def kan_layers(self) -> Iterator[nn.Linear]:
        yield from (layer for layer in self if isinstance(layer, nn.Linear))

    @property
    def widest_features(self) -> int:
        return max(layer.in_features for layer in self.kan_layers())


def build_mlp_physics(
    *,
    trial: Mapping[str, Any],
    layer_sizes: Sequence[int],
    seed: int,
    dtype: torch.dtype,
    residual: Any,
    conditions: Mapping[str, Any],
    pde_params: Mapping[str, float],
    causal: Any,
    **of_kans: Any,
) -> Physics:
    """As the solvers' own, with an MLP in place of the KAN; settings of KANs are left unused."""
    function = TrialFunction(MLP(layer_sizes, seed, dtype), **trial)
    return Physics(function, residual, conditions, pde_params, causal)


class MLPSolver(KANPDESolver):
    """The solver with an MLP; its derivatives are pushed forward, too."""

    adamw_learning_rate = 1e-3
    _make_module = staticmethod(build_mlp_physics)


def make_solver(model: str, source: str, settings: Mapping[str, Any]) -> KANPDESolver:
    if model == "metakan":
        return MetaKANPDESolver(**settings, **SOURCES[source])
    return {"mlp": MLPSolver, "kan": KANPDESolver}[model](**settings)
