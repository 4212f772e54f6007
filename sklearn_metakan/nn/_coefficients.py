"""Coefficient sources: where the numbers w_oic of a layer's edges come from."""

import torch
from torch import Tensor, nn

from sklearn_metakan.nn._meta_learner import MetaLearner


class DirectCoefficients(nn.Module):
    """A KAN's own coefficients: ``w_oic`` is a parameter, C numbers an edge.

    Parameters
    ----------
    in_features, out_features, n_functions : int
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    weight : Parameter of shape (in_features, C, out_features)

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_functions: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.n_functions = n_functions
        self.weight = nn.Parameter(torch.zeros(in_features, n_functions, out_features, dtype=dtype))

    @property
    def is_linear(self) -> bool:
        return False

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, n_functions={self.n_functions}"

    def block(self, start: int, stop: int) -> Tensor:
        return self.weight[start:stop]

    def project(self, features: Tensor, start: int, stop: int) -> Tensor:
        raise TypeError("Direct coefficients have no dictionary to project onto.")


class MetaCoefficients(nn.Module):
    """Generated coefficients: ``w_oi = s * a_oi * M(z_oi)``, p (or p + 1) numbers an edge.

    Parameters
    ----------
    in_features, out_features : int
    meta_learner : MetaLearner
        M; several layers may share one object.
    edge_scale : bool, default=False
        Whether each edge has a trainable scale a_oi (otherwise 1). A linear meta-learner
        holds it in its prompts already and does not take it.
    dtype : torch.dtype, default: torch's default

    Attributes
    ----------
    prompts : Parameter of shape (in_features, out_features, p)
        z_oi, started as standard normal numbers.
    edge_scale : Parameter of shape (in_features, out_features) or None
    gain : Tensor of shape ()
        s, fixed: 1 / sqrt(in_features), so that one meta-learner serves layers of any
        width; 1 with the paper's initialisation.

    Source: Zhao et al. (ICML 2025), Algorithms 1 and 3; edge scale and the linear
    meta-learner are ours.
    """

    gain: Tensor

    def __init__(
        self,
        in_features: int,
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
        self.in_features, self.out_features = in_features, out_features
        self.meta_learner = meta_learner
        self.register_buffer("gain", torch.tensor(in_features**-0.5, dtype=dtype))
        self.prompts = nn.Parameter(
            torch.zeros(in_features, out_features, meta_learner.prompt_dim, dtype=dtype)
        )
        self.edge_scale: nn.Parameter | None = None
        if edge_scale:
            self.edge_scale = nn.Parameter(torch.ones(in_features, out_features, dtype=dtype))

    @property
    def n_functions(self) -> int:
        return self.meta_learner.n_functions

    @property
    def is_linear(self) -> bool:
        return self.meta_learner.is_linear

    def extra_repr(self) -> str:
        return (
            f"{self.in_features} -> {self.out_features}, "
            f"edge_scale={self.edge_scale is not None}, gain={self.gain.item():.4g}"
        )

    def block(self, start: int, stop: int) -> Tensor:
        coefficients = self.meta_learner(self.prompts[start:stop]) * self.gain
        if self.edge_scale is None:
            return coefficients
        return coefficients * self.edge_scale[start:stop, None, :]

    def project(self, features: Tensor, start: int, stop: int) -> Tensor:
        """Linear meta-learner: ``sum_i sum_r z_oir (U^T B(x_i))_r``, no weights formed."""
        dictionary = features @ (self.meta_learner.output_weight * self.gain)  # (n, b, p)
        prompts = self.prompts[start:stop].transpose(1, 2)  # (b, p, out)
        return dictionary.flatten(1) @ prompts.flatten(0, 1)
