"""Sparsity: a penalty that leaves few edges, from the coefficients alone."""

import torch
from torch import Tensor

from sklearn_metakan.nn.layers import KANLinear, law_points
from sklearn_metakan.nn.network import KAN


class Sparsity:
    """``sum_l |Phi_l|_1 + S(Phi_l)``, the L1 norm and the entropy of each layer's edges.

    An edge's size is its standard deviation over the inputs that the layer expects (256 evenly
    spread values of the grid, or of a standard normal law): ``m_oi = sqrt(w_oi' C w_oi)`` with the
    covariances C of the basis functions. That of a column of levels is the deviation over the
    training rows. Then ``|Phi|_1 = sum m_oi`` and ``S = -sum p_oi log p_oi`` with
    ``p = m / |Phi|_1``. Generated coefficients enter as those of any KAN, and the gradient goes on
    to prompts and meta-learners. Constants cost nothing. Called, it gives one
    number for each member, (n_members,).

    Parameters
    ----------
    network : KAN
        Its grids are read once, its numbers at each call.

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024), section 2.5; sizes from the
    coefficients in place of a batch are ours.

    Examples
    --------
    >>> network = KAN([3, 5, 1])
    >>> Sparsity(network)().shape
    torch.Size([1])
    """

    def __init__(self, network: KAN) -> None:
        self.layers = network._layers
        self.n_members = network.n_members
        self.roots = [*map(_root, self.layers)]

    def sizes(self) -> list[Tensor]:
        """m_oi of each layer, (n_members, inputs, outputs)."""
        found = []
        for number, (layer, root) in enumerate(zip(self.layers, self.roots, strict=True)):
            weights = layer.source.block(0, layer.in_features)
            sizes = torch.linalg.vector_norm(root @ weights, dim=1)
            if layer.levels is not None:
                sizes = torch.cat([sizes, layer.levels.deviations()])
            axis = 0 if number else 1  # later layers have the members' inputs one after the other
            found.append(sizes.unflatten(axis, (self.n_members, -1)).movedim(axis, 0))
        return found

    def __call__(self) -> Tensor:
        return torch.stack([*map(_l1_and_entropy, self.sizes())]).sum(0)


@torch.no_grad()
def _root(layer: KANLinear) -> Tensor:
    """R (1 or in, C, C) with R' R = C_i, the covariances of the functions of each input."""
    points = law_points(layer.basis, layer.input_law)
    values = layer.basis.values(points, 0, 0).double().movedim(1, 0)  # (in, points, C)
    values = values - values.mean(1, keepdim=True)
    triangle = torch.linalg.qr(values / values.shape[1] ** 0.5, mode="r").R
    return triangle.to(points)


def _l1_and_entropy(sizes: Tensor) -> Tensor:
    norm = sizes.sum((1, 2))
    shares = sizes / norm.clamp_min(torch.finfo(norm.dtype).eps)[:, None, None]
    logarithms = torch.log(shares + torch.finfo(norm.dtype).eps)  # finite slopes at edges of size 0
    return norm - (shares * logarithms).sum((1, 2))
