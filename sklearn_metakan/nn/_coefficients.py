"""Coefficient sources: where the numbers w_oic of a layer's edges come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from sklearn_metakan.nn._meta_learner import MetaLearner, transformed


class _Coefficients(nn.Module, ABC):
    """What sources share; see ``sklearn_metakan.ops.CoefficientSource``."""

    in_features: int
    in_shape: tuple[int, ...]  # (in_features,), or (in_channels, *kernel) of a convolution
    out_features: int

    def _set_shape(self, in_features: int | Sequence[int], out_features: int) -> None:
        self.in_shape = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        self.in_features, self.out_features = prod(self.in_shape), out_features

    def _by_input(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        """Parameters with one leading axis of inputs."""
        last = len(self.in_shape) - 1
        return parameters if last == 0 else tuple(p.flatten(0, last) for p in parameters)

    @abstractmethod
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]: ...

    @abstractmethod
    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor: ...

    @abstractmethod
    def dictionary(self, shared: Sequence[Tensor]) -> Tensor | None: ...

    @property
    def activation(self) -> str | None:
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
        return weights if dictionary is None else dictionary @ weights


class DirectCoefficients(_Coefficients):
    """A KAN's own coefficients: ``w_oic`` is a parameter, C numbers an edge.

    Parameters
    ----------
    in_features, out_features, n_functions : int
        For a convolution, in_features is the tuple (in_channels, *kernel), and out_features
        are those of a group.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    weight : Parameter of shape (in_features, C, out_features)
        Of a convolution, (in_channels, *kernel, C, out_features).

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024).
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int,
        n_functions: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._set_shape(in_features, out_features)
        self.n_functions = n_functions
        shape = (*self.in_shape, n_functions, out_features)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))

    @property
    def numbers_per_input(self) -> int:
        return self.n_functions * self.out_features

    def extra_repr(self) -> str:
        return f"{_shown(self.in_shape)} -> {self.out_features}, n_functions={self.n_functions}"

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return self._by_input(self.weight), ()

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        return by_input[0]

    def dictionary(self, shared: Sequence[Tensor]) -> None:
        return None

    def change_basis(self, matrices: Tensor) -> None:
        """``T_i w_oi`` in place of ``w_oi``, T of shape (1 or inputs of the basis, C_new, C)."""
        kernel = (1,) * (len(self.in_shape) - 1)
        matrices = matrices.view(len(matrices), *kernel, *matrices.shape[1:])
        self.weight = transformed(self.weight, matrices)
        self.n_functions = matrices.shape[-2]


class MetaCoefficients(_Coefficients):
    """Generated coefficients: ``w_oi = s * a_oi * M(z_oi)``, p (or p + 1) numbers an edge.

    Parameters
    ----------
    in_features, out_features : int
        For a convolution, in_features is the tuple (in_channels, *kernel), and out_features
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
        (in_channels, *kernel, p, out_features).
    edge_scale : Parameter of shape (in_features, out_features) or None
    gain : Tensor of shape ()
        s, fixed: 1 / sqrt(in_features), so that one meta-learner serves layers of any
        width; 1 with the paper's initialisation. Layers set it when their parameters start,
        in_features then being the edges of an output.

    Source: Zhao et al. (ICML 2025), Algorithms 1 and 3; edge scale and the linear
    meta-learner are ours.
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
        self._set_shape(in_features, out_features)
        self.meta_learner = meta_learner
        self.register_buffer("gain", torch.tensor(self.in_features**-0.5, dtype=dtype))
        shape = (*self.in_shape, meta_learner.prompt_dim, out_features)
        self.prompts = nn.Parameter(torch.zeros(shape, dtype=dtype))
        self.edge_scale: nn.Parameter | None = None
        if edge_scale:
            self.edge_scale = nn.Parameter(torch.ones(*self.in_shape, out_features, dtype=dtype))

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
            f"{_shown(self.in_shape)} -> {self.out_features}, "
            f"edge_scale={self.edge_scale is not None}, gain={self.gain.item():.4g}"
        )

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        by_input = (self.prompts,) if self.edge_scale is None else (self.prompts, self.edge_scale)
        return self._by_input(*by_input), tuple(self.meta_learner.parameters())

    def generate(self, by_input: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        learner = self.meta_learner
        prompts, *scale = by_input
        if learner.is_linear:
            return prompts
        weights = learner.apply_with(self.scaled(shared), prompts)
        return weights * scale[0][:, None, :] if scale else weights

    def dictionary(self, shared: Sequence[Tensor]) -> Tensor | None:
        return self.scaled(shared)[0] if self.meta_learner.is_linear else None

    @property
    def activation(self) -> str | None:
        return None if self.meta_learner.is_linear else self.meta_learner.activation

    def scaled(self, shared: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gain is linear in the last two: those of M's outer layer."""
        return (*shared[:-2], *(parameter * self.gain for parameter in shared[-2:]))


def _shown(in_shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, in_shape))
