"""Layers of univariate functions; what kind of KAN one is depends on its source alone."""

from abc import ABC, abstractmethod
from copy import copy

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.nn.initialization import Init, InputLaw, initialize
from sklearn_metakan.nn.levels import Columns, Levels
from sklearn_metakan.nn.pairs import Pairs
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients
from sklearn_metakan.ops import edge_sum, known_sum


class KANLayer(nn.Module, ABC):
    """Base of ``KANLinear`` and ``KANConv1d`` to ``KANConv3d``.

    ``in_shape`` is (in_features,), or (in_channels, *kernel) of a convolution; ``out_features``
    are those of the source, and ``fan_in`` edges are summed into one output.
    """

    widest: tuple[int, int] | None = None  # inputs and outputs of its network's widest layer

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_features: int,
        basis: Basis | None,
        source: DirectCoefficients | MetaCoefficients | None,
        fan_in: int,
        n_biases: int,
        backend: str,
        working_memory: float | None,
        input_law: InputLaw,
        init: Init | None,
        generator: torch.Generator | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.basis = BSplineBasis(in_shape[0], dtype=dtype) if basis is None else basis
        n_functions = self.basis.n_functions
        if source is None:
            source = DirectCoefficients(in_shape, out_features, n_functions, dtype=dtype)
        self.source = source
        expected = (in_shape[0], in_shape, out_features, n_functions)
        functions = getattr(source, "meta_learner", source).n_functions
        got = (self.basis.in_features, source.in_shape, source.out_features, functions)
        if got != expected:
            shown = [(a, b[0] if len(b) == 1 else b, *rest) for a, b, *rest in (expected, got)]
            raise ValueError(
                "basis and source do not fit the layer: (basis inputs, source inputs, source "
                f"outputs, functions) must be {shown[0]}, got {shown[1]}."
            )
        self.bias = nn.Parameter(torch.zeros(n_biases, dtype=dtype)) if n_biases else None
        self.fan_in, self.input_law = fan_in, input_law
        self.backend, self.working_memory = backend, working_memory
        if init is not None:
            initialize([self], generator, init)

    def reset_parameters(
        self, generator: torch.Generator | None = None, init: Init = "variance"
    ) -> None:
        """Start all parameters anew, those of the meta-learner too."""
        initialize([self], generator, init)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


class KANLinear(KANLayer):
    """A layer of univariate functions: ``y_o = b_o + sum_i phi_oi(x_i)``.

    ``phi_oi(t) = sum_c w_oic B_c(t)``: the basis gives B_c, the source gives w_oic.

    Parameters
    ----------
    in_features, out_features : int
    basis : Basis, default: cubic B-splines on 5 cells of [-1, 1]
        Of ``in_features`` inputs.
    source : DirectCoefficients or MetaCoefficients, default: direct
        Of as many inputs and functions, and ``out_features // groups`` outputs.
    groups : int, default=1
        Inputs and outputs are split into so many groups, in order; an output sums over the
        inputs of its own alone.
    levels : Levels, optional
        Of as many numbers and outputs, in one group: x may then have gaps (NaN), and columns of
        codes after the numbers, whose edges are ``Levels``.
    bias : bool, default=False
        Splines sum to one, so that edges hold a constant already.
    backend : {"auto", "reference", "blocked", "triton"}, default="auto"
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
        Of the parts made here.

    Shape
    -----
    (n, in_features) -> (n, out_features); with levels, x has their ``n_inputs`` columns.

    Raises
    ------
    ValueError
        If basis and source do not fit the layer, levels neither, groups do not divide inputs and
        outputs, or init is unknown; in ``forward``, for an x of another width, an unknown backend,
        or one that does not work here.

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024).

    Examples
    --------
    >>> import torch
    >>> layer = KANLinear(4, 2)
    >>> layer(torch.rand(8, 4)).shape
    torch.Size([8, 2])
    """

    levels: Levels | None
    pairs: Pairs | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: Basis | None = None,
        source: DirectCoefficients | MetaCoefficients | None = None,
        *,
        groups: int = 1,
        levels: Levels | None = None,
        bias: bool = False,
        backend: str = "auto",
        working_memory: float | None = None,
        input_law: InputLaw = "uniform",
        init: Init | None = "variance",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if groups < 1 or in_features % groups or out_features % groups:
            raise ValueError(
                f"groups must divide in_features and out_features, got {groups} for "
                f"{in_features} and {out_features}."
            )
        if levels is not None:
            expected = in_features, out_features, 1
            got = levels.n_numbers, levels.out_features, groups
            if got != expected:
                raise ValueError(
                    "levels do not fit the layer: (numbers, outputs, groups) must be "
                    f"{expected}, got {got}."
                )
        n_inputs = in_features if levels is None else levels.n_inputs
        fan_in, n_biases = n_inputs // groups, out_features if bias else 0
        how = backend, working_memory, input_law, None, generator, dtype
        super().__init__(
            (in_features,), out_features // groups, basis, source, fan_in, n_biases, *how
        )
        self.in_features, self.out_features, self.groups = in_features, out_features, groups
        self.register_module("levels", levels)
        self.register_module("pairs", None)
        if init is not None:
            initialize([self], generator, init)

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        return f"{self.in_features} -> {self.out_features}{groups}, backend={self.backend!r}"

    @property
    def n_inputs(self) -> int:
        """Columns of x: numbers, and codes of levels."""
        return self.in_features if self.levels is None else self.levels.n_inputs

    @property
    def n_features(self) -> int:
        """Columns of ``features``."""
        n_functions = self.in_features * self.basis.n_functions
        n_functions += 0 if self.levels is None else self.levels.n_features
        return n_functions + (0 if self.pairs is None else self.pairs.n_features)

    def forward(self, x: Tensor) -> Tensor:
        levels = self.levels
        if levels is not None:
            levels.check(x)
        numbers = x if levels is None else levels.numbers(x)
        how = self.backend, self.working_memory, self.widest, self.groups
        y = edge_sum(numbers, self.basis, self.source, 0, *how)
        if levels is not None:
            y = y + levels(x)
        if self.pairs is not None:
            y = y + self.pairs(x)
        return y if self.bias is None else y + self.bias

    def features(self, x: Tensor) -> Tensor:
        """What of ``forward`` depends on x alone: functions (n, in * C), then of levels, pairs.

        For rows that are known: there are no gradients of x.
        """
        numbers = x if self.levels is None else self.levels.numbers(x)
        return self._with_others(self.basis.values(numbers, 0, 0).flatten(1), x)

    def from_features(self, features: Tensor) -> Tensor:
        """``forward`` from ``features(x)``, of one group and not settled."""
        # Coefficients, also of linear meta-learners: edges are fewer than functions of rows.
        weights = self.source.coefficients(*self.source.tensors()).flatten(0, 1)
        own = features[:, : len(weights)] if features.shape[1] > len(weights) else features
        return self._and_others(torch.mm(own, weights), features, len(weights))

    def known(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What to keep of x for many steps, and a matrix for ``from_known``, or ``features``."""
        numbers = x if self.levels is None else self.levels.numbers(x)
        found = self.basis.known(numbers)
        if found is None:
            return self.features(x), None
        terms, matrix = found
        return self._with_others(terms.flatten(1), x), matrix

    def from_known(self, known: Tensor, matrix: Tensor | None) -> Tensor:
        """``forward`` from ``known(x)``, of one group and not settled."""
        if matrix is None:
            return self.from_features(known)
        width = (len(matrix) - 1) * self.in_features
        own = known[:, :width] if known.shape[1] > width else known
        return self._and_others(known_sum(own, matrix, self.source), known, width)

    def _with_others(self, features: Tensor, x: Tensor) -> Tensor:
        parts = [part.features(x) for part in (self.levels, self.pairs) if part is not None]
        return torch.cat([features, *parts], 1) if parts else features

    def _and_others(self, y: Tensor, features: Tensor, last: int) -> Tensor:
        for part in (self.levels, self.pairs):
            if part is not None:
                y = y + part.from_features(features[:, last : last + part.n_features])
                last += part.n_features
        return y if self.bias is None else y + self.bias

    def edge_functions(
        self, t: Tensor, derivative: int = 0, start: int = 0, stop: int | None = None
    ) -> Tensor:
        """``phi_oi(t_i)`` or its derivative for every edge of some inputs, one by one; no pairs.

        Parameters
        ----------
        t : Tensor of shape (n, n_inputs)
        derivative : int, default=0
            Without levels.
        start, stop : int, default: all inputs

        Returns
        -------
        Tensor of shape (n, stop - start, out_features // groups)
        """
        levels, stop = self.levels, self.n_inputs if stop is None else stop
        last = min(stop, self.in_features)
        found = t.new_zeros(len(t), 0, self.source.out_features)
        if start < last:
            numbers = t if levels is None else levels.numbers(t)
            features = self.basis.evaluate(numbers, start, last, derivative)
            found = torch.einsum("nic,ico->nio", features, self.source.block(start, last))
        if levels is None:
            return found
        if stop > last:
            others = found.new_zeros(len(t), stop - max(start, last), found.shape[2])
            found = torch.cat([found, others], 1)
        return found if derivative else found + levels.edge_functions(t, start, stop)

    @torch.no_grad()
    def settled(self, x: Tensor) -> "KANLinear":
        """The layer, for which gaps and levels that training did not see are the mean over rows x.

        Its numbers are shared. A layer without levels gets some, for gaps.
        """
        numbers = x[:, : self.in_features]
        levels = self.levels
        if levels is None:
            fill = numbers.nanmedian(0).values
            levels = Levels(Columns(fill, fill * 0), self.out_features, dtype=x.dtype).to(x.device)
        seen = ~numbers.isnan()
        shares = (seen / seen.sum(0).clamp(min=1)).to(x)
        functions = self.basis.evaluate(levels.numbers(x)) - self.basis.evaluate(levels.fill[None])
        means = torch.einsum("ni,nic->ic", shares, functions)
        block = self.source.block(0, self.in_features)
        found = copy(self)
        of_numbers = torch.einsum("ic,ico->io", means, block)
        found._modules = found._modules | {"levels": levels.settled(of_numbers)}
        return found
