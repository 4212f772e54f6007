"""The one KAN layer; what kind of KAN it is depends on its coefficient source alone."""

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._initialization import Init, InputLaw, initialize
from sklearn_metakan.ops import edge_sum

Source = DirectCoefficients | MetaCoefficients


class KANLinear(nn.Module):
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
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.basis = BSplineBasis(in_features, dtype=dtype) if basis is None else basis
        n_functions = self.basis.n_functions
        if source is None:
            source = DirectCoefficients(in_features, out_features, n_functions, dtype=dtype)
        self.source = source
        expected = (in_features, in_features, out_features, n_functions)
        got = (
            self.basis.in_features,
            source.in_features,
            source.out_features,
            source.n_functions,
        )
        if got != expected:
            raise ValueError(
                "basis and source do not fit the layer: (basis inputs, source inputs, source "
                f"outputs, functions) must be {expected}, got {got}."
            )
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype)) if bias else None
        self.backend, self.working_memory = backend, working_memory
        self.input_law = input_law
        if init is not None:
            self.reset_parameters(generator, init)

    def reset_parameters(
        self, generator: torch.Generator | None = None, init: Init = "variance"
    ) -> None:
        initialize([self], generator, init)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, backend={self.backend!r}"

    def forward(self, x: Tensor) -> Tensor:
        y = edge_sum(
            x,
            self.basis,
            self.source,
            backend=self.backend,
            working_memory=self.working_memory,
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
