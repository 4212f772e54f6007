"""Layers with weights of their own for each sample: one backward pass gives all its gradients.

Weights are views of the shared ones along an axis of samples, so that only their gradients,
which are what is wanted, take memory.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from sklearn_metakan.nn import KANLinear
from sklearn_metakan.pde.derivatives.edge_jet import edge_jet_plain, edges_summed


class PerSample(nn.Module):
    """``y_no = b_no + sum_ic w_nioc B_c(x_ni)``, or of linear layers ``b_no + sum_i W_noi x_ni``.

    ``leaves`` (n, ...) are what each sample has of its own: weights, and bias if there is one.
    Of q n rows the first q are the first sample's, and so on.
    """

    generate: Callable[..., Tensor]  # weights, from parameters

    def __init__(self, layer: KANLinear | nn.Linear, n: int) -> None:
        super().__init__()
        self.basis, self.bias = None, layer.bias
        if isinstance(layer, KANLinear):
            source, (by_input, shared) = layer.source, layer.source.tensors()
            self.basis, self.parameters_of, count = layer.basis, [*by_input, *shared], len(by_input)
            self.generate = lambda *each: source.coefficients(each[:count], each[count:])
        else:
            self.parameters_of, self.generate = [layer.weight], torch.clone
        with torch.no_grad():
            shared_by_all = [self.generate(*self.parameters_of)]
        if layer.bias is not None:
            shared_by_all.append(layer.bias.detach())
        self.leaves = [each.expand(n, *each.shape).requires_grad_() for each in shared_by_all]

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.leaves[0])
        if self.basis is None:
            y = torch.einsum("nqi,noi->nqo", x.unflatten(0, (n, -1)), self.leaves[0])
        else:
            y = edges_summed(self.basis.evaluate(x), self.leaves[0]).unflatten(0, (n, -1))
        return (y if self.bias is None else y + self.leaves[1][:, None]).flatten(0, 1)

    def push(self, x: Tensor, products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Value (n, out) and channels (n, K, out); see ``edge_jet``."""
        if self.basis is None:
            return self(x), products[0] @ self.leaves[0].transpose(1, 2)
        y, values = edge_jet_plain(x, self.basis, None, self.leaves[0], products)
        return (y if self.bias is None else y + self.leaves[1]), values

    def by_parameter(self, gradients: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The layer's parameters, and gradients (n, ...) of those from gradients of leaves."""
        back = vjp(self.generate, *(p.detach() for p in self.parameters_of))[1]
        yield from zip(self.parameters_of, vmap(back)(gradients[0]), strict=True)
        if self.bias is not None:
            yield self.bias, gradients[1]


def per_sample(modules: Sequence[nn.Module], n: int) -> tuple[nn.Sequential, list[PerSample]]:
    """The modules of ``modules_in_order`` for n samples, and those of them that have parameters."""
    known = KANLinear | nn.Linear
    network = nn.Sequential(*(PerSample(m, n) if isinstance(m, known) else m for m in modules))
    return network, [layer for layer in network if isinstance(layer, PerSample)]
