"""``edge_sum``: y_o = sum_i sum_c B_c(x_i) w_oic, and the choice of how to compute it."""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis, is_traced
from sklearn_metakan.ops.blocked import edge_sum_blocked
from sklearn_metakan.ops.convolution import Convolution
from sklearn_metakan.ops.kept import edge_sum_kept, grouped
from sklearn_metakan.ops.memory import keep_freed_memory
from sklearn_metakan.ops.products import Product
from sklearn_metakan.ops.reference import edge_sum_by_group, edge_sum_reference
from sklearn_metakan.ops.source import CoefficientSource

BACKENDS = ("reference", "kept", "blocked", "triton")
SMALL = 2.0  # MiB; below it, keeping everything is quicker than making it twice
KEPT = 32.0  # MiB; the same where the way back is written out, dense layers on a CPU
BESIDE = 3.0  # what features take together with all that they are made of (measured: 2.5)


def edge_sum(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int = 0,
    backend: str = "auto",
    working_memory: float | None = None,
    widest: tuple[int, int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Sum of univariate functions over the edges of a layer.

    ``y_o = sum_i phi_oi^(m)(x_i)`` with ``phi_oi(t) = sum_c w_oic B_c(t)``.

    Parameters
    ----------
    x : Tensor of shape (n, in_features)
    basis : Basis
        Gives B_c; has ``in_features`` inputs and C functions.
    source : CoefficientSource
        Gives w_oic, or the product with it; of ``in_features`` inputs and out / groups outputs.
    derivative : int, default=0
        m, the order of the derivative of every phi_oi.
    backend : {"auto", "reference", "kept", "blocked", "triton"}, default="auto"
        How it is computed; the results are the same to rounding. "reference" holds all
        features and weights, and keeps them for the backward pass; "kept" too, with a way back
        written out, which takes a third of the calls (derivative 0); "blocked" makes them
        block by block and keeps the input and the parameters alone; "triton" does the same
        with fused kernels (float32 on CUDA). "auto" is "triton" where that works. Elsewhere
        it is "kept" (derivative 0) or "reference" while features and weights fit into a third
        of working_memory and all of it, or 32 and 2 MiB if that is less; then "blocked".
    working_memory : float, optional
        MiB that a block may take with "blocked" and "triton". None: 32 on a CPU; on a card
        the larger of 0.7 (x + y + 4 P) and 1.1 (x' + y' + 4 E'), of a convolution
        2.2 (x' + y' + 4 P), but at least 4: x and y are the sizes of input and output, P the
        layer's parameters, x', y' and E' input, output and edges of the widest layer. Steps of
        small layers that are not captured take a third of the time there with 64.
    widest : (int, int), optional
        Inputs and outputs of the layer with the most edges in a network; this one by default.
        Blocks of a narrower one may take as much: the network takes most memory there.
    groups : int, default=1
        Divides in_features. Inputs and outputs are split into so many, in order; an output sums
        over the inputs of its group alone.

    Returns
    -------
    Tensor of shape (n, out)

    Raises
    ------
    ValueError
        If x has another shape, backend is unknown, or "triton" where triton is missing or the
        layer is not in float32 on a CUDA device; or if x lies outside the grid and the basis'
        extrapolation is "error".

    Notes
    -----
    Derivatives of derivatives and the transforms of ``torch.func`` go by "reference", whatever
    the backend.
    """
    if x.dim() != 2 or x.shape[1] != source.in_features:
        raise ValueError(
            f"x must have the shape (n, in_features = {source.in_features}), got {tuple(x.shape)}."
        )
    on_cpu = x.device.type == "cpu"
    if is_traced():
        if groups > 1:
            return edge_sum_by_group(x, basis, source, derivative, groups)
        backend = "reference"
    elif on_cpu:
        keep_freed_memory()
    if not derivative and keeps_features(x, basis, source, backend, working_memory, groups):
        return edge_sum_kept(x, basis, source, groups)
    how = backend, working_memory
    if groups == 1:
        return _compute(x, basis, source, derivative, *how, Product(), widest)
    product = grouped(source.in_features, groups)
    return _compute(x[..., None], basis, source, derivative, *how, product, widest)[..., 0]


def keeps_features(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    backend: str = "auto",
    working_memory: float | None = None,
    groups: int = 1,
) -> bool:
    """Whether ``edge_sum`` of as many rows as x has, where it lies, keeps its features."""
    place = x.device.type
    if not (backend == "kept" or (backend == "auto" and (place == "cpu" or groups > 1))):
        return False
    numbers = basis.n_functions * x.shape[0] + source.numbers_per_input
    most = KEPT if working_memory is None else min(KEPT, working_memory / BESIDE)
    size = numbers * source.in_features * basis.dtype.itemsize
    return size <= most * 2**20 and not torch.is_autocast_enabled(place)


def edge_conv(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    backend: str = "auto",
    working_memory: float | None = None,
    widest: tuple[int, int] | None = None,
) -> Tensor:
    """Convolution with a univariate function on every edge (output, input, kernel position).

    ``y_o(t) = sum_i sum_k phi_oik(x_i(s t + d k - p))`` with ``phi(t) = sum_c w_c B_c(t)``,
    i over the channels of o's group. Where the argument lies outside the image, in the
    padding, the edge contributes nothing: features are zero there, not x.

    Parameters
    ----------
    x : Tensor of shape (n, in_channels, *size), one to three dimensions
    basis : Basis
        Of ``in_channels`` inputs: all pixels of a channel share its grid.
    source : CoefficientSource
        Of ``in_channels * prod(kernel)`` inputs, in this order, and ``out_channels / groups``
        outputs.
    kernel, stride, padding, dilation : tuple of int, one for each dimension
    groups : int, default=1
        Divides in_channels.
    backend, working_memory : as in ``edge_sum``
        With several groups, "triton" makes features and weights in plain PyTorch.
    widest : (int, int), optional
        As in ``edge_sum``; numbers of an image, and of its y, in all channels, of the layer
        where they are the most together.

    Returns
    -------
    Tensor of shape (n, out_channels, *out_size), channels last in memory

    Raises
    ------
    ValueError
        If x has another shape, the kernel is larger than the padded image, or as in ``edge_sum``.
    """
    if x.dim() != 2 + len(kernel) or x.shape[1] != basis.in_features:
        raise ValueError(
            f"x must have the shape (n, in_channels = {basis.in_features}) and {len(kernel)} "
            f"sides of an image, got {tuple(x.shape)}."
        )
    if is_traced():
        backend = "reference"
    elif x.device.type == "cpu":
        keep_freed_memory()
    geometry = (kernel, stride, padding, dilation, groups)
    product = Convolution(basis.in_features, tuple(x.shape[2:]), *geometry)
    if min(product.out_size) < 1:
        raise ValueError(
            f"The kernel {kernel} with dilation {dilation} is larger than images of size "
            f"{product.size} with padding {padding}. Use larger images, or more padding."
        )
    return _compute(x, basis, source, 0, backend, working_memory, product, widest)


def _compute(
    x: Tensor,
    basis: Basis,
    source: CoefficientSource,
    derivative: int,
    backend: str,
    working_memory: float | None,
    product: Product,
    widest: tuple[int, int] | None,
) -> Tensor:
    if backend == "auto":  # see ``edge_sum``
        rows, edges = len(x) * product.pixels, product.positions
        numbers = basis.n_functions * rows + source.numbers_per_input * edges
        size = numbers * x.shape[1] * x.element_size() / 2**20
        if x.is_cuda and basis.dtype == torch.float32 and _has_triton():
            backend = "triton"
        elif size <= (SMALL if working_memory is None else min(SMALL, working_memory)):
            backend = "reference"
        else:
            backend = "blocked"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got {backend!r}.")
    if backend in ("reference", "kept"):
        return edge_sum_reference(x, basis, source, derivative, *source.tensors(), product)
    fused = backend == "triton" and len(x) > 0
    if fused:
        _check_fused(x, basis)
    call = (x, basis, source, derivative, working_memory, product)
    return edge_sum_blocked(*call, fused and product.orders_freely, widest)


def _check_fused(x: Tensor, basis: Basis) -> None:
    if not _has_triton():
        raise ValueError("backend='triton' needs the package triton, which is not installed.")
    from sklearn_metakan.ops.triton import interpreted

    place, dtype = x.device.type, basis.dtype
    if dtype != torch.float32 or not (place == "cuda" or interpreted()):
        raise ValueError(
            "backend='triton' needs float32 layers on a CUDA device, got "
            f"{dtype} on {place!r}. Use backend='blocked' or 'auto'."
        )


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
