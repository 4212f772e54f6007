"""Networks on other grids: finer ones, and ones that follow the data between layers."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis, refit_matrix
from sklearn_metakan.nn.monotone import MonotoneCoefficients
from sklearn_metakan.nn.network import AnyNetwork, KANNetwork
from sklearn_metakan.nn.sources import DirectCoefficients, MetaLearner

NARROW = 0.01  # of the present grid: inputs that spread less count as constant
_SAME = 1e-6  # relative difference of matrices, by rounding


def refine(network: AnyNetwork, grid_size: int) -> AnyNetwork:
    """The same function on a finer grid.

    Coefficients become those of the closest functions on the new grid (``refit_matrix``);
    splines whose knots are among the new ones, as with twice as many cells, stay exactly the
    same functions (with extrapolation="base" on the grid alone, as tails become shorter). Knots
    that are not uniform all stay, and cells between them are split. Wavelets go on to rounding
    with twice as many cells, Gaussians roughly; polynomials have no cells and stay as they are.

    Generated coefficients ``M(z)`` are transformed in the last layer of the meta-learner, which
    is linear: T M(z) for all edges at once. Prompts, edge scales and gains stay.

    Parameters
    ----------
    network : KAN or ConvKAN
        Stays as it is.
    grid_size : int
        Cells of every layer, at least as many as now.

    Returns
    -------
    A new network, whose parameters are new objects: an optimiser has to start anew.

    Raises
    ------
    ValueError
        For fewer cells; and where a meta-learner serves inputs with different knots, which no
        single T serves.

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KAN
    >>> network = KAN([2, 3, 1], grid_size=4, dtype=torch.float64)
    >>> x = torch.rand(5, 2, dtype=torch.float64)
    >>> bool(torch.allclose(refine(network, 8)(x), network(x)))
    True
    """
    return _on(network, [layer.basis.refined(grid_size) for layer in network.kan_layers()])


def update_grids(network: AnyNetwork, X: Tensor, margin: float = 0.05) -> AnyNetwork:
    """The closest function on grids that cover what hidden layers receive on this data.

    Each hidden layer has one uniform grid for all its inputs, from the smallest to the largest
    of their values and ``margin`` times the range more on either side. Coefficients become
    those of the closest functions on the new grid (``refit_matrix``), so that the function
    changes as far as the new cells are wider, or elsewhere. Where the inputs of a layer spread
    over less than a hundredth of its grid, the grid keeps its width and moves only if it has to.

    Parameters
    ----------
    network : KAN or ConvKAN
        Stays as it is.
    X : Tensor
        Inputs of the network, at least one row.
    margin : float, default=0.05
        Not negative.

    Returns
    -------
    A new network, whose parameters are new objects: an optimiser has to start anew.

    Raises
    ------
    ValueError
        For empty data, or layers that receive numbers that are not finite; and where a
        meta-learner serves several layers, unless their grids change alike.

    Source: Liu et al., "KAN" (2024), section 2.2, on updating grids in training.

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KAN
    >>> network = update_grids(KAN([2, 3, 1]), torch.rand(100, 2))
    >>> network.layers[1].basis.domain.shape
    torch.Size([3, 2])
    """
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin must be finite and not negative, got {margin}.")
    if len(X) == 0:
        raise ValueError("X must have at least one row, got none.")
    ranges = _ranges(deepcopy(network).eval(), X)
    bases = []
    for index, (layer, reached) in enumerate(zip(network.kan_layers(), ranges, strict=True)):
        hidden = layer.input_law == "normal"  # "uniform": the inputs of the network
        has_gaps = getattr(layer, "levels", None) is not None
        if not reached.isfinite().all() and not has_gaps:
            raise ValueError(
                f"Grids cannot follow data that are not finite: layer {index} of the network "
                f"receives numbers from {reached[0]:g} to {reached[1]:g}."
            )
        bases.append(_moved(layer.basis, reached, margin) if hidden else layer.basis)
    return _on(network, bases)


@torch.no_grad()
def _ranges(network: KANNetwork, X: Tensor) -> list[Tensor]:
    """Smallest and largest number that every layer receives, (2,) each; probes the network."""
    ranges = []
    for layer in network.kan_layers():
        layer.register_forward_pre_hook(
            lambda _, inputs: ranges.append(torch.stack(inputs[0].aminmax()).double())
        )
    network(X)
    return ranges


def _moved(basis: Basis, reached: Tensor, margin: float) -> Basis:
    """On a uniform grid that covers this range; the basis itself if it can stay."""
    low, high = basis.domain[0].to(reached)
    least, most = reached
    centre, half = (least + most) / 2, (most - least) * (0.5 + margin)
    if most - least < NARROW * (high - low):
        if low <= least and most <= high:
            return basis
        half = (high - low) / 2
    return basis.with_grid(knots=torch.stack([centre - half, centre + half]))


def _on(network: AnyNetwork, bases: list[Basis]) -> AnyNetwork:
    """A copy with these bases, one for each layer, and the coefficients that go with them."""
    changed = deepcopy(network)
    shared: dict[MetaLearner, list[Tensor]] = {}
    for old, layer, basis in zip(network.kan_layers(), changed.kan_layers(), bases, strict=True):
        matrices = torch.eye(basis.n_functions, dtype=torch.float64)[None]
        if basis is not old.basis:
            matrices = refit_matrix(old.basis, basis)
            layer.basis = basis
        source: Any = layer.source
        listed = getattr(source, "listed", source)  # of a layer without some edges
        if isinstance(listed, DirectCoefficients | MonotoneCoefficients):
            source.change_basis(matrices)
        else:
            shared.setdefault(listed.meta_learner, []).append(matrices)
    for meta_learner, its_matrices in shared.items():
        meta_learner.change_basis(_common(torch.cat(its_matrices)))
    inputs = network.widest_features // next(network.kan_layers()).basis.n_functions
    changed.widest_features = inputs * bases[0].n_functions
    return changed


def _common(matrices: Tensor) -> Tensor:
    """The one change of basis for all edges that a meta-learner serves."""
    first = matrices[0]
    if not (matrices - first).abs().max() <= _SAME * first.abs().max():
        raise ValueError(
            "A meta-learner generates the coefficients of edges whose grids would change "
            "differently, and its output can only be transformed for all of them at once. Keep "
            "these grids, or use direct coefficients, uniform knots instead of quantiles or, "
            "for layers with different ranges, a meta-learner for each layer."
        )
    return first
