"""What layers of univariate functions have in common: a basis, a source, starting values."""

from abc import ABC, abstractmethod
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._initialization import Init, InputLaw, initialize

Source = DirectCoefficients | MetaCoefficients


class KANLayer(nn.Module, ABC):
    """Base of ``KANLinear`` and ``KANConv1d`` to ``KANConv3d``.

    Parameters
    ----------
    in_shape : tuple of int
        (in_features,), or (in_channels, *kernel) of a convolution.
    out_features : int
        Outputs of the source.

    Attributes
    ----------
    widest : (int, int) or None
        Inputs and outputs of the widest layer of its network; see ``edge_sum``.
    """

    widest: tuple[int, int] | None = None

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_features: int,
        basis: Basis | None,
        source: Source | None,
        *,
        n_biases: int,
        backend: str,
        working_memory: float | None,
        input_law: InputLaw,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.basis = BSplineBasis(in_shape[0], dtype=dtype) if basis is None else basis
        n_functions = self.basis.n_functions
        if source is None:
            source = DirectCoefficients(in_shape, out_features, n_functions, dtype=dtype)
        self.source = source
        expected = (in_shape[0], in_shape, out_features, n_functions)
        got = (
            self.basis.in_features,
            source.in_shape,
            source.out_features,
            source.n_functions,
        )
        if got != expected:
            raise ValueError(
                "basis and source do not fit the layer: (basis inputs, source inputs, source "
                f"outputs, functions) must be {_shown(expected)}, got {_shown(got)}."
            )
        self.bias = nn.Parameter(torch.zeros(n_biases, dtype=dtype)) if n_biases else None
        self.backend, self.working_memory = backend, working_memory
        self.input_law = input_law

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """Edges that are summed into one output."""

    @property
    def n_coefficients(self) -> int:
        """Coefficients of all edges, generated or not."""
        return self.source.in_features * self.source.n_functions * self.source.out_features

    def with_source(self, source: Source) -> "KANLayer":
        """The same layer, basis and bias shared, with another source."""
        layer = copy(self)
        layer._modules = self._modules | {"source": source}
        return layer

    def reset_parameters(
        self, generator: torch.Generator | None = None, init: Init = "variance"
    ) -> None:
        initialize([self], generator, init)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


def _shown(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs, shape, *others = sizes
    return (inputs, shape[0] if len(shape) == 1 else shape, *others)
