"""Layers with weights of their own for each sample: one backward pass gives all its gradients.

Weights are views of the shared ones along an axis of samples, so that only their gradients,
which are what is wanted, take memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from sklearn_metakan.nn import KANLinear
from sklearn_metakan.pde.derivatives.edge_jet import edge_jet_plain, edges_summed


class PerSample(nn.Module, ABC):
    """A layer for n samples, with the gradients of a sum over them by sample.

    Attributes
    ----------
    leaves : list of Tensor of shape (n, ...)
        What each sample has of its own.
    """

    leaves: list[Tensor]

    @abstractmethod
    def push(self, x: Tensor, products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Value (n, out) and channels (n, K, out); see ``edge_jet``."""

    @abstractmethod
    def by_parameter(self, gradients: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The layer's parameters, and gradients (n, ...) of those from gradients of leaves."""


class PerSampleKAN(PerSample):
    """``y_no = b_no + sum_ic w_nioc B_c(x_ni)``."""

    def __init__(self, layer: KANLinear, n: int) -> None:
        super().__init__()
        self.basis, self.bias = layer.basis, None
        by_input, shared = layer.source.tensors()
        self.parameters_of = [*by_input, *shared]

        def generate(*parameters: Tensor) -> Tensor:
            own, common = parameters[: len(by_input)], parameters[len(by_input) :]
            return layer.source.coefficients(own, common)

        self.generate: Callable[..., Tensor] = generate
        with torch.no_grad():
            self.weights = _of_samples(generate(*self.parameters_of), n)
        self.leaves = [self.weights]
        if layer.bias is not None:
            self.bias = _of_samples(layer.bias, n)
            self.leaves.append(self.bias)
            self.parameters_of.append(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = edges_summed(self.basis.evaluate(x), self.weights)
        return y if self.bias is None else y + self.bias

    def push(self, x: Tensor, products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        y, values = edge_jet_plain(x, self.basis, None, self.weights, products)
        return (y if self.bias is None else y + self.bias), values

    def by_parameter(self, gradients: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        of_weights, *of_bias = gradients
        parameters = self.parameters_of[: len(self.parameters_of) - len(of_bias)]
        back = vjp(self.generate, *(p.detach() for p in parameters))[1]
        yield from zip(self.parameters_of, (*vmap(back)(of_weights), *of_bias), strict=True)


class PerSampleLinear(PerSample):
    """``y_no = b_no + sum_i W_noi x_ni``."""

    def __init__(self, layer: nn.Linear, n: int) -> None:
        super().__init__()
        self.parameters_of = [*layer.parameters()]
        self.leaves = [_of_samples(parameter, n) for parameter in self.parameters_of]
        self.weight, *self.bias = self.leaves

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("ni,noi->no", x, self.weight)
        return y + self.bias[0] if self.bias else y

    def push(self, x: Tensor, products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self(x), products[0] @ self.weight.transpose(1, 2)

    def by_parameter(self, gradients: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.parameters_of, gradients, strict=True)


def per_sample(modules: Sequence[nn.Module], n: int) -> tuple[nn.Sequential, list[PerSample]]:
    """The modules of ``modules_in_order`` for n samples, and those of them that have parameters."""
    network = nn.Sequential()
    for module in modules:
        if isinstance(module, KANLinear):
            network.append(PerSampleKAN(module, n))
        elif isinstance(module, nn.Linear):
            network.append(PerSampleLinear(module, n))
        else:
            network.append(module)
    return network, [layer for layer in network if isinstance(layer, PerSample)]


def _of_samples(parameter: Tensor, n: int) -> Tensor:
    return parameter.detach().expand(n, *parameter.shape).requires_grad_()
