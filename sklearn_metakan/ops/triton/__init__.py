"""The fused kernels of a layer, where there are some for its basis and its source."""

from collections.abc import Sequence
from functools import cache

import torch
import triton
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.ops.plain.features import Features
from sklearn_metakan.ops.plain.weights import Weights
from sklearn_metakan.ops.products import Product
from sklearn_metakan.ops.source import CoefficientSource
from sklearn_metakan.ops.triton.features import NUMBER_OF_TAILS, FusedFeatures
from sklearn_metakan.ops.triton.meta import FusedMetaWeights, fits
from sklearn_metakan.ops.triton.smooth import SmoothFeatures
from sklearn_metakan.ops.triton.splines import SplineFeatures

EDGES_OF_A_PROGRAM = 256  # at least: what each sums apart takes memory of its own


def fused_kernels(
    basis: Basis,
    source: CoefficientSource,
    derivative: int,
    by_input: Sequence[Tensor],
    shared: Sequence[Tensor],
    product: Product,
) -> tuple[Features, Weights]:
    """Fused where possible, else as in ``plain``; either goes with either."""
    dictionary, device = source.dictionary(shared), by_input[0].device
    rounded = torch.is_autocast_enabled(device.type)  # features and weights, for products
    dtype = torch.get_autocast_dtype(device.type) if rounded else torch.float32
    tf32 = rounded or torch.backends.cuda.matmul.allow_tf32  # small products, in a kernel
    most = _most_programs(device)
    weights: Weights
    if source.activation is not None and fits(by_input, shared):
        programs = max(1, min(most, source.in_features * source.out_features // EDGES_OF_A_PROGRAM))
        precision = "tf32" if tf32 else "ieee"
        weights = FusedMetaWeights(source, by_input, shared, dtype, precision, programs)
    else:
        weights = Weights(source, by_input, shared, dictionary is None)
    first = weights.functions_first or product.functions_first
    kind = features_of(basis, derivative)
    if kind is None:
        return Features(basis, derivative, dictionary, first), weights
    return kind(basis, dictionary, first, dtype, most, product), weights


def features_of(basis: Basis, derivative: int) -> type[FusedFeatures] | None:
    """The class that can evaluate it, if there is one."""
    given = basis.extrapolation in NUMBER_OF_TAILS and basis.dtype == torch.float32
    for kind in (SplineFeatures, SmoothFeatures):
        if given and derivative == 0 and kind.supports(basis):
            return kind
    return None


@cache
def _most_programs(device: torch.device) -> int:
    """That sum on their own, of edges or of values: four a multiprocessor."""
    if device.type != "cuda":
        return 2
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)
