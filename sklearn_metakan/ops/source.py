"""What a layer needs of the place that its coefficients come from."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class CoefficientSource(Protocol):
    """Where the coefficients w_oic come from. Storage is input-major.

    ``y = F D V``: features F (n, in * C), an optional dictionary D (C, p) applied to every
    input, weights V (in * C or in * p, out). Functions of tensors given to them, so that a
    backend may pass blocks of inputs and detached copies.

    Attributes
    ----------
    in_features, out_features : int
        Of a convolution's source, an input is a pair of channel and kernel position.
    activation : str or None
        Of the hidden layer, if weights come from ``M(z) = W_2 act(W_1 z + b_1) + b_2``;
        the tensors are then prompts (in, p, out) and perhaps scales (in, out), and shared
        W_1 (H, p), b_1 (H, 1), b_2 (C, 1) and W_2 (C, H).
    numbers_per_input : int
        Numbers held for one input while its weights are generated and differentiated.
    """

    in_features: int
    out_features: int

    @property
    def activation(self) -> str | None: ...

    @property
    def numbers_per_input(self) -> int: ...

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


def factors(source: CoefficientSource) -> tuple[Tensor, ...]:
    """Weights (in, C or p, out), of a source that has one also its dictionary (C, p)."""
    by_input, shared = source.tensors()
    weights, dictionary = source.generate(by_input, shared), source.dictionary(shared)
    return (weights,) if dictionary is None else (weights, dictionary)
