"""Coefficient sources: where the numbers w_oic of a layer's edges come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_metakan.ops import ACTIVATIONS


class MetaLearner(nn.Module):
    """``M(z) = W_2 act(W_1 z + b_1) + b_2``, or ``M(z) = W_2 z`` without a hidden layer.

    Parameters
    ----------
    prompt_dim : int
        p, the numbers in a prompt, at least 1.
    hidden_dim : int
        H; 0 makes the meta-learner linear: W_2 is then a dictionary of p functions.
    n_functions : int
        C, the coefficients of an edge, at least 1.
    activation : {"relu", "silu", "tanh", "sin"}, default="relu"
        Without effect in a linear meta-learner.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    hidden_weight, hidden_bias : Parameters of shape (H, p) and (H, 1)
        W_1 and b_1; a linear meta-learner has neither, nor b_2.
    output_bias, output_weight : Parameters of shape (C, 1) and (C, H or p)
        b_2 and W_2. All numbers are zero until a layer or a network starts them.
    is_linear : bool

    Shape
    -----
    Prompts (..., p, out) -> coefficients (..., C, out).

    Trainable numbers: (p + 1) H + (H + 1) C, or p C if linear.

    Raises
    ------
    ValueError
        For sizes out of range, or an unknown activation.

    Source: Zhao et al., "Improving Memory Efficiency for Training KANs via Meta
    Learning" (ICML 2025), Algorithm 1; the linear form is ours.

    Examples
    --------
    >>> import torch
    >>> meta_learner = MetaLearner(prompt_dim=1, hidden_dim=16, n_functions=9)
    >>> meta_learner(torch.zeros(4, 1, 3)).shape
    torch.Size([4, 9, 3])
    >>> sum(p.numel() for p in meta_learner.parameters())
    185
    """

    def __init__(
        self,
        prompt_dim: int,
        hidden_dim: int,
        n_functions: int,
        activation: str = "relu",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if prompt_dim < 1 or hidden_dim < 0 or n_functions < 1:
            raise ValueError(
                "prompt_dim and n_functions must be at least 1 and hidden_dim at least 0, got "
                f"{prompt_dim}, {n_functions} and {hidden_dim}."
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {tuple(ACTIVATIONS)}, got {activation!r}.")
        self.prompt_dim, self.hidden_dim, self.n_functions = prompt_dim, hidden_dim, n_functions
        self.activation, self.is_linear = activation, hidden_dim == 0
        if hidden_dim:
            self.hidden_weight = nn.Parameter(torch.zeros(hidden_dim, prompt_dim, dtype=dtype))
            self.hidden_bias = nn.Parameter(torch.zeros(hidden_dim, 1, dtype=dtype))
            self.output_bias = nn.Parameter(torch.zeros(n_functions, 1, dtype=dtype))
        inner = hidden_dim or prompt_dim
        self.output_weight = nn.Parameter(torch.zeros(n_functions, inner, dtype=dtype))

    def extra_repr(self) -> str:
        return (
            f"prompt_dim={self.prompt_dim}, hidden_dim={self.hidden_dim}, "
            f"n_functions={self.n_functions}, activation={self.activation!r}"
        )

    @property
    def weights(self) -> tuple[nn.Parameter, ...]:
        """What ``parameters()`` gives, in its order, in a tenth of the time."""
        if self.is_linear:
            return (self.output_weight,)
        return self.hidden_weight, self.hidden_bias, self.output_bias, self.output_weight

    def hidden(self, prompts: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The hidden layer with these W_1 and b_1, (p, edges) -> (H, edges)."""
        return ACTIVATIONS[self.activation].plain(torch.addmm(bias, weight, prompts))

    def apply_with(self, parameters: Sequence[Tensor], prompts: Tensor) -> Tensor:
        """``forward`` with other values of the parameters, in the order of ``weights``.

        One product over all edges: 2.5 times faster than one for each input (CPU).
        """
        if self.is_linear:
            return parameters[0] @ prompts
        hidden_weight, hidden_bias, output_bias, output_weight = parameters
        hidden = self.hidden(prompts.movedim(-2, 0).flatten(1), hidden_weight, hidden_bias)
        coefficients = torch.addmm(output_bias, output_weight, hidden)  # (C, edges)
        shape = (*prompts.shape[:-2], prompts.shape[-1])
        return coefficients.unflatten(1, shape).movedim(0, -2)

    def forward(self, prompts: Tensor) -> Tensor:
        return self.apply_with(self.weights, prompts)

    def change_basis(self, matrix: Tensor) -> None:
        """``T M(z)`` in place of ``M(z)``, T of shape (C_new, C): T W_2 and T b_2."""
        self.output_weight = _transformed(self.output_weight, matrix)
        if not self.is_linear:
            self.output_bias = _transformed(self.output_bias, matrix)
        self.n_functions = len(matrix)


class Coefficients(nn.Module, ABC):
    """What sources share; see ``sklearn_metakan.ops.CoefficientSource``."""

    in_shape: tuple[int, ...]  # (in_features,), or (in_channels, *kernel) of a convolution
    in_features: int  # their product
    out_features: int
    activation: str | None = None

    @abstractmethod
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]: ...

    @abstractmethod
    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor: ...

    def dictionary(self, shared: Sequence[Tensor]) -> Tensor | None:
        return None

    def scaled(self, shared: Sequence[Tensor]) -> Sequence[Tensor]:
        return shared

    def block(self, start: int, stop: int) -> Tensor:
        """The coefficients w_oic themselves, of some inputs: (stop - start, C, out_features)."""
        by_input, shared = self.tensors()
        return self.coefficients([t[start:stop] for t in by_input], shared)

    def coefficients(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        """w_oic from what ``tensors`` gives, or from other values of it."""
        weights = self.generate(by_input, shared)
        dictionary = self.dictionary(shared)
        if dictionary is None:
            return weights
        return torch.bmm(dictionary.expand(len(weights), -1, -1), weights)  # ``@`` would transpose


class DirectCoefficients(Coefficients):
    """A KAN's own coefficients: ``w_oic`` is a parameter, C numbers an edge.

    Parameters
    ----------
    in_features, out_features, n_functions : int
        For a convolution, in_features is the tuple ``(in_channels, *kernel)``, and out_features
        are those of a group.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    weight : Parameter of shape (in_features, C, out_features)
        Of a convolution, ``(in_channels, *kernel, C, out_features)``. Zero until a layer or
        a network starts it.

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024).

    Examples
    --------
    >>> DirectCoefficients(4, 2, n_functions=9).weight.shape
    torch.Size([4, 9, 2])
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int,
        n_functions: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        self.in_features, self.out_features = prod(self.in_shape), out_features
        self.n_functions = n_functions
        shape = (*self.in_shape, n_functions, out_features)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))

    @property
    def numbers_per_input(self) -> int:
        return self.n_functions * self.out_features

    def extra_repr(self) -> str:
        shape = " x ".join(map(str, self.in_shape))
        return f"{shape} -> {self.out_features}, n_functions={self.n_functions}"

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (self.weight.flatten(0, -3),), ()

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        return by_input[0]

    def change_basis(self, matrices: Tensor) -> None:
        """``T_i w_oi`` in place of ``w_oi``, T of shape (1 or inputs of the basis, C_new, C)."""
        kernel = (1,) * (len(self.in_shape) - 1)
        matrices = matrices.view(len(matrices), *kernel, *matrices.shape[1:])
        self.weight = _transformed(self.weight, matrices)
        self.n_functions = matrices.shape[-2]


class MetaCoefficients(Coefficients):
    """Generated coefficients: ``w_oi = s * a_oi * M(z_oi)``, p (or p + 1) numbers an edge.

    Parameters
    ----------
    in_features, out_features : int
        For a convolution, in_features is the tuple ``(in_channels, *kernel)``, and out_features
        are those of a group.
    meta_learner : MetaLearner
        M; several layers may share one object.
    edge_scale : bool, default=False
        Whether each edge has a trainable scale a_oi (otherwise 1). A linear meta-learner
        holds it in its prompts already and does not take it.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    prompts : Parameter of shape (in_features, p, out_features)
        z_oi, started as standard normal numbers. Of a convolution, one for each edge:
        ``(in_channels, *kernel, p, out_features)``.
    edge_scale : Parameter of shape (in_features, out_features) or None
    gain : Tensor of shape ()
        s, fixed: 1 / sqrt(in_features), so that one meta-learner serves layers of any
        width; 1 with the paper's initialisation. Layers set it when their parameters start,
        in_features then being the edges of an output.

    Raises
    ------
    ValueError
        For an edge scale with a linear meta-learner.

    Source: Zhao et al. (ICML 2025), Algorithms 1 and 3; edge scale and the linear
    meta-learner are ours.

    Examples
    --------
    >>> source = MetaCoefficients(4, 2, MetaLearner(1, 16, n_functions=9), edge_scale=True)
    >>> source.prompts.shape, source.edge_scale.shape, source.block(0, 4).shape
    (torch.Size([4, 1, 2]), torch.Size([4, 2]), torch.Size([4, 9, 2]))
    """

    gain: Tensor

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int,
        meta_learner: MetaLearner,
        edge_scale: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if edge_scale and meta_learner.is_linear:
            raise ValueError(
                "edge_scale=True needs a meta-learner with a hidden layer: a linear one "
                "already scales with its prompts. Set edge_scale=False or hidden_dim > 0."
            )
        self.in_shape = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        self.in_features, self.out_features = prod(self.in_shape), out_features
        self.meta_learner = meta_learner
        self.activation = None if meta_learner.is_linear else meta_learner.activation
        self.register_buffer("gain", torch.tensor(self.in_features**-0.5, dtype=dtype))
        shape = (*self.in_shape, meta_learner.prompt_dim, out_features)
        self.prompts = nn.Parameter(torch.zeros(shape, dtype=dtype))
        scales = torch.ones(*self.in_shape, out_features, dtype=dtype) if edge_scale else None
        self.edge_scale = None if scales is None else nn.Parameter(scales)

    @property
    def n_functions(self) -> int:
        return self.meta_learner.n_functions

    @property
    def numbers_per_input(self) -> int:
        learner = self.meta_learner
        if learner.is_linear:
            return learner.prompt_dim * self.out_features
        numbers = 2 * learner.hidden_dim + 2 * learner.n_functions + learner.prompt_dim
        return 2 * numbers * self.out_features  # measured

    def extra_repr(self) -> str:
        return (
            f"{' x '.join(map(str, self.in_shape))} -> {self.out_features}, "
            f"edge_scale={self.edge_scale is not None}, gain={self.gain.item():.4g}"
        )

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        last = len(self.in_shape) - 1
        prompts, scale = self.prompts.flatten(0, last), self.edge_scale
        by_input = (prompts,) if scale is None else (prompts, scale.flatten(0, last))
        return by_input, self.meta_learner.weights

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        learner = self.meta_learner
        prompts, *scale = by_input
        if learner.is_linear:
            return prompts
        if not scale:
            return learner.apply_with(self.scaled(shared), prompts)
        return learner.apply_with(shared, prompts) * (scale[0] * self.gain)[:, None, :]

    def dictionary(self, shared: Sequence[Tensor]) -> Tensor | None:
        return shared[0] * self.gain if self.meta_learner.is_linear else None

    def scaled(self, shared: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gain is linear in the last two: those of M's outer layer."""
        return (*shared[:-2], *(parameter * self.gain for parameter in shared[-2:]))


def make_meta_learners(
    number: Any,
    prompt_dim: int,
    hidden_dim: int,
    activation: str,
    dtype: torch.dtype | None,
    widths: Sequence[int],
    n_functions: int,
) -> list[MetaLearner]:
    """One for each layer of these output widths: so many, or as "auto" and "layer" say."""
    known = {"auto": [0] * len(widths), "layer": [*range(len(widths))]}
    labels, made = known.get(number) or cluster_widths(widths, number), []
    for _ in {*labels}:
        made.append(MetaLearner(prompt_dim, hidden_dim, n_functions, activation, dtype=dtype))
    return [*map(made.__getitem__, labels)]


def cluster_widths(widths: Sequence[int], n_clusters: int) -> list[int]:
    """Labels of an exact one-dimensional k-means, clusters in order of width.

    The sum of squared distances to the cluster means is minimised over all ways to cut
    the sorted widths, by dynamic programming; equal widths stay together.

    Source: Zhao et al. (ICML 2025), Algorithm 2; Wang and Song, "Ckmeans.1d.dp" (2011).

    Examples
    --------
    >>> cluster_widths([16, 32, 64, 128, 256, 256, 512, 512], 3)
    [0, 0, 0, 0, 1, 1, 2, 2]
    """
    values, inverse, counts = np.unique(widths, return_inverse=True, return_counts=True)
    n = len(values)
    if not 1 <= n_clusters <= n:
        raise ValueError(
            f"n_meta_learners must be between 1 and the number of distinct output widths, {n} "
            f"(widths {list(widths)}), got {n_clusters}."
        )

    def cost(start: int, stop: int) -> float:
        value, count = values[start:stop], counts[start:stop]
        mean = np.average(value, weights=count)
        return float((count * (value - mean) ** 2).sum())

    best: dict[int, tuple[float, ...]] = {0: (0.0,)}  # values used -> cost, starts of clusters
    for k in range(n_clusters):
        best = {
            stop: min(
                (before[0] + cost(start, stop), start, *before[1:])
                for start, before in best.items()
                if start < stop
            )
            for stop in range(k + 1, n + 1)
        }
    starts = sorted(best[n][1:])
    return [int(i) for i in np.searchsorted(starts, inverse, side="right") - 1]


def _transformed(parameter: nn.Parameter, matrices: Tensor) -> nn.Parameter:
    """``T W``, multiplied in float64."""
    product = matrices.to(parameter.device) @ parameter.detach().double()
    return nn.Parameter(product.to(parameter.dtype), requires_grad=parameter.requires_grad)
