"""Derivatives through networks: exact, pushed forward from layer to layer."""

from sklearn_metakan.pde.derivatives.ansatz import CROSSED, Ansatz, apply_ansatz, push_ansatz
from sklearn_metakan.pde.derivatives.channels import (
    MAX_ORDER,
    Channels,
    Sum,
    channels,
    constant,
    picked,
)
from sklearn_metakan.pde.derivatives.per_sample import PerSample, per_sample
from sklearn_metakan.pde.derivatives.push import (
    modules_in_order,
    nested_derivatives,
    push,
    push_coordinates,
)

__all__ = [
    "CROSSED",
    "MAX_ORDER",
    "Ansatz",
    "Channels",
    "PerSample",
    "Sum",
    "apply_ansatz",
    "channels",
    "constant",
    "modules_in_order",
    "nested_derivatives",
    "per_sample",
    "picked",
    "push",
    "push_ansatz",
    "push_coordinates",
]
