"""The one dense KAN layer; what kind of KAN it is depends on its coefficient source alone."""

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.nn._initialization import Init, InputLaw
from sklearn_metakan.nn._layer import KANLayer, Source
from sklearn_metakan.ops import edge_sum


class KANLinear(KANLayer):
    """A layer of univariate functions: ``y_o = b_o + sum_i phi_oi(x_i)``.

    ``phi_oi(t) = sum_c w_oic B_c(t)``: the basis gives B_c, the source gives w_oic.

    Parameters
    ----------
    in_features, out_features : int
    basis : Basis, default: cubic B-splines on 5 cells of [-1, 1]
    source : DirectCoefficients or MetaCoefficients, default: direct
    bias : bool, default=False
        Splines sum to one, so that edges hold a constant already.
    backend : {"auto", "reference", "blocked"}, default="auto"
        How ``edge_sum`` is computed.
    working_memory : float, optional
        MiB that features and generated weights of a block may take; see ``edge_sum``.
    input_law : {"uniform", "normal"}, default="uniform"
        What the inputs are taken for when the parameters start: uniform on the grid, or
        standard normal (outputs of another layer).
    init : {"variance", "paper", None}, default="variance"
        Starting values; None leaves them at zero, for a network that starts all its
        layers together.
    generator : torch.Generator on the CPU, optional
        For the starting values; the global one by default.
    dtype : torch.dtype, default: torch's default
        Of the layers made here.

    Shape
    -----
    (n, in_features) -> (n, out_features)

    Examples
    --------
    >>> import torch
    >>> layer = KANLinear(4, 2)
    >>> layer(torch.rand(8, 4)).shape
    torch.Size([8, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: Basis | None = None,
        source: Source | None = None,
        *,
        bias: bool = False,
        backend: str = "auto",
        working_memory: float | None = None,
        input_law: InputLaw = "uniform",
        init: Init | None = "variance",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            (in_features,),
            out_features,
            basis,
            source,
            n_biases=out_features if bias else 0,
            backend=backend,
            working_memory=working_memory,
            input_law=input_law,
            dtype=dtype,
        )
        self.in_features, self.out_features = in_features, out_features
        if init is not None:
            self.reset_parameters(generator, init)

    @property
    def fan_in(self) -> int:
        return self.in_features

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, backend={self.backend!r}"

    def forward(self, x: Tensor) -> Tensor:
        y = edge_sum(
            x,
            self.basis,
            self.source,
            backend=self.backend,
            working_memory=self.working_memory,
            widest=self.widest,
        )
        return y if self.bias is None else y + self.bias

    def edge_functions(self, t: Tensor, derivative: int = 0) -> Tensor:
        """``phi_oi(t_i)`` or its derivative for every edge, one by one.

        Parameters
        ----------
        t : Tensor of shape (n, in_features)
        derivative : int, default=0

        Returns
        -------
        Tensor of shape (n, in_features, out_features)
        """
        features = self.basis.evaluate(t, derivative=derivative)
        return torch.einsum("nic,ico->nio", features, self.source.block(0, self.in_features))
