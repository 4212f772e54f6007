"""``edge_sum``: y_o = sum_i sum_c B_c(x_i) w_oic, and the choice of how to compute it."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops._blocked import edge_sum_blocked
from sklearn_metakan.ops._memory import keep_freed_memory
from sklearn_metakan.ops._reference import edge_sum_reference

BACKENDS = ("reference", "blocked", "triton")
SMALL = 2.0  # MiB; below it, keeping everything is quicker than making it twice


class CoefficientSource(Protocol):
    """Where the coefficients w_oic come from. Storage is input-major.

    ``y = F D V``: features F (n, in * C), an optional dictionary D (C, p) applied to every
    input, weights V (in * C or in * p, out). Functions of tensors given to them, so that a
    backend may pass blocks of inputs and detached copies.

    Attributes
    ----------
    in_features, out_features : int
    activation : str or None
        Of the hidden layer, if weights come from ``M(z) = W_2 act(W_1 z + b_1) + b_2``;
        the tensors are then prompts (in, out, p) and perhaps scales (in, out), and shared
        W_1 (H, p), b_1 (H, 1), b_2 (C, 1) and W_2 (C, H).
    """

    in_features: int
    out_features: int

    @property
    def activation(self) -> str | None: ...

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

    def scaled(self, shared: Sequence[Tensor]) -> Sequence[Tensor]:
        """The shared tensors with whatever constant the layer multiplies them by."""
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
    backend : {"auto", "reference", "blocked", "triton"}, default="auto"
        How it is computed; the results are the same to rounding. "reference" holds all
        features and weights, and keeps them for the backward pass; "blocked" makes them
        block by block and keeps the input and the parameters alone; "triton" does the same
        with fused kernels (float32 on CUDA). "auto" is "triton" where that works. Elsewhere
        it is "reference" while features and weights fit into working_memory, or 2 MiB if
        that is less; then "blocked".
    working_memory : float, optional
        MiB that a block may take with "blocked" and "triton". None: 32 on a CPU; on a card
        0.8 times the layer's input, output and four times its parameters, but at least 4.

    Returns
    -------
    Tensor of shape (n, out_features)
    """
    if backend == "auto":
        backend = _choose(x, basis, source, working_memory)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got {backend!r}.")
    if x.dim() != 2 or x.shape[1] != source.in_features:
        raise ValueError(
            f"x must have the shape (n, in_features = {source.in_features}), got {tuple(x.shape)}."
        )
    if x.device.type == "cpu":
        keep_freed_memory()
    if backend == "reference":
        return edge_sum_reference(x, basis, source, derivative, *source.tensors())
    fused = backend == "triton" and len(x) > 0
    if fused:
        _check_fused(x, basis)
    return edge_sum_blocked(x, basis, source, derivative, working_memory, fused)


def _choose(
    x: Tensor, basis: Basis, source: CoefficientSource, working_memory: float | None
) -> str:
    """What "auto" means."""
    if x.is_cuda and basis.domain.dtype == torch.float32 and _has_triton():
        return "triton"
    numbers = basis.n_functions * len(x) + source.numbers_per_input
    size = numbers * x.shape[-1] * x.element_size() / 2**20
    limit = SMALL if working_memory is None else min(SMALL, working_memory)
    return "reference" if size <= limit else "blocked"


def _check_fused(x: Tensor, basis: Basis) -> None:
    if not _has_triton():
        raise ValueError("backend='triton' needs the package triton, which is not installed.")
    from sklearn_metakan.ops._triton import interpreted

    place, dtype = x.device.type, basis.domain.dtype
    if dtype != torch.float32 or not (place == "cuda" or interpreted()):
        raise ValueError(
            "backend='triton' needs float32 layers on a CUDA device, got "
            f"{dtype} on {place!r}. Use backend='blocked' or 'auto'."
        )


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
