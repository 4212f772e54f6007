"""``edge_sum``: y_o = sum_i sum_c B_c(x_i) w_oic, and the choice of how to compute it."""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._blocked import edge_sum_blocked
from sklearn_metakan.ops._reference import edge_sum_reference

BACKENDS = ("reference", "blocked")
SMALL = 2.0  # MiB; below it, keeping everything is quicker than making it twice


class CoefficientSource(Protocol):
    """Where the coefficients w_oic come from. Storage is input-major.

    ``y = F D V``: features F (n, in * C), an optional dictionary D (C, p) applied to every
    input, weights V (in * C or in * p, out). Functions of tensors given to them, so that a
    backend may pass blocks of inputs and detached copies.

    Attributes
    ----------
    in_features, out_features : int
    """

    in_features: int
    out_features: int

    @property
    def numbers_per_input(self) -> int:
        """Numbers held for one input while its weights are generated and differentiated."""
        ...

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Parameters with a leading axis of inputs, and those shared by all inputs."""
        ...

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        """V for the inputs of these blocks of parameters: (b, C or p, out_features)."""
        ...

    def dictionary(self, shared: Sequence[Tensor]) -> Tensor | None:
        """D (C, p), or None where weights multiply the features themselves."""
        ...


def edge_sum(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int = 0,
    backend: str = "auto",
    working_memory: float | None = None,
) -> Tensor:
    """Sum of univariate functions over the edges of a layer.

    ``y_o = sum_i phi_oi^(m)(x_i)`` with ``phi_oi(t) = sum_c w_oic B_c(t)``.

    Parameters
    ----------
    x : Tensor of shape (n, in_features)
    basis : Basis
        Gives B_c; has ``in_features`` inputs and C functions.
    source : CoefficientSource
        Gives w_oic, or the product with it.
    derivative : int, default=0
        m, the order of the derivative of every phi_oi.
    backend : {"auto", "reference", "blocked"}, default="auto"
        How it is computed; the results are the same to rounding. "reference" holds all
        features and weights, and keeps them for the backward pass; "blocked" makes them
        block by block and keeps the input and the parameters alone. "auto" is "reference"
        while features and weights fit into working_memory, or 2 MiB if that is less; then
        "blocked".
    working_memory : float, optional
        MiB that a block may take with "blocked"; None: 16 on a CPU, 64 on a card.

    Returns
    -------
    Tensor of shape (n, out_features)
    """
    if backend == "auto":
        numbers = basis.n_functions * len(x) + source.numbers_per_input
        size = numbers * x.shape[-1] * x.element_size() / 2**20
        limit = SMALL if working_memory is None else min(SMALL, working_memory)
        backend = "reference" if size <= limit else "blocked"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got {backend!r}.")
    if x.dim() != 2 or x.shape[1] != source.in_features:
        raise ValueError(
            f"x must have the shape (n, in_features = {source.in_features}), got {tuple(x.shape)}."
        )
    if x.device.type == "cpu":
        _keep_freed_memory()
    if backend == "reference":
        return edge_sum_reference(x, basis, source, derivative, *source.tensors())
    return edge_sum_blocked(x, basis, source, derivative, working_memory)


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next: its page faults took half the time.

    It hands back to the system what exceeds twice the largest block freed so far; once a
    process, such a block of 16 MiB is freed here, without ever being written.
    """
    torch.empty(16 * 2**20, dtype=torch.uint8)
