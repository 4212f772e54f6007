"""The fused kernels of a layer, where there are some for its basis and its source."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.ops import _triton_meta as meta
from sklearn_metakan.ops import _triton_smooth as smooth
from sklearn_metakan.ops import _triton_splines as splines
from sklearn_metakan.ops._kernels import Features, Weights
from sklearn_metakan.ops._products import Product
from sklearn_metakan.ops._triton_features import NUMBER_OF_TAILS, FusedFeatures

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource


EDGES_OF_A_PROGRAM = 256  # at least: what each sums apart takes memory of its own


def fused_kernels(
    basis: Basis,
    source: "CoefficientSource",
    derivative: int,
    by_input: Sequence[Tensor],
    shared: Sequence[Tensor],
    product: Product,
) -> tuple[Features, Weights]:
    """Fused where possible, else as in ``_kernels``; either goes with either."""
    device = by_input[0].device
    dictionary = source.dictionary(shared)
    dtype, precision, most = _products(device), _dots(device), _most_programs(device)
    weights: Weights
    if source.activation is not None and _fits(source, by_input, shared):
        programs = max(1, min(most, source.in_features * source.out_features // EDGES_OF_A_PROGRAM))
        weights = meta.MetaWeights(source, by_input, shared, dtype, precision, programs)
    else:
        weights = Weights(source, by_input, shared)
    first = product.features_first(weights.functions_first)
    kind = _features_of(basis, derivative)
    if kind is None:
        return Features(basis, derivative, dictionary, first), weights
    return kind(basis, dictionary, first, dtype, most, product), weights


def _features_of(basis: Basis, derivative: int) -> type[FusedFeatures] | None:
    """Those that can evaluate it."""
    given = basis.extrapolation in NUMBER_OF_TAILS and basis.domain.dtype == torch.float32
    if derivative or not given:
        return None
    if isinstance(basis, BSplineBasis):
        return splines.SplineFeatures if splines.supports(basis) else None
    return smooth.SmoothFeatures if smooth.supports(basis) else None


def _fits(
    source: "CoefficientSource", by_input: Sequence[Tensor], shared: Sequence[Tensor]
) -> bool:
    """Whether the meta-learner is small enough to stay on the chip."""
    functions, hidden = shared[-1].shape
    return (
        hidden <= meta.MOST_HIDDEN
        and functions <= meta.MOST_FUNCTIONS
        and by_input[0].shape[1] <= meta.MOST_PROMPTS
    )


def _products(device: torch.device) -> torch.dtype:
    """Of features and weights: what products are rounded to."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def _dots(device: torch.device) -> str:
    """Precision of the small products within a kernel, as of those outside."""
    rounded = torch.is_autocast_enabled(device.type) or torch.backends.cuda.matmul.allow_tf32
    return "tf32" if rounded else "ieee"


@cache
def _most_programs(device: torch.device) -> int:
    """That sum on their own, of edges or of values: four a multiprocessor."""
    if device.type != "cuda":
        return 2
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)
