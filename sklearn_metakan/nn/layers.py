"""Layers of univariate functions, and how they start.

What kind of KAN a layer is depends on its source alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis, BSplineBasis
from sklearn_metakan.nn.levels import Columns, Levels
from sklearn_metakan.nn.pairs import Pairs
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import Layer, edge_sum, edge_sums

Init = Literal["variance", "paper"]
InputLaw = Literal["uniform", "normal"]
SMOOTHNESS = 3.0  # s
RIDGE = 1.0  # r, in units of the mean second moment
HIDDEN_FREQUENCY = 1.0  # standard deviation of the meta-learner's W_1
MEAN_PENALTY = 1e4  # a
REACH = 0.5  # of the grid's width: how far around it K of a given order looks, both ends together
_N_POINTS, _MAX_INPUTS, _N_PROMPTS = 256, 64, 1024
_MOST_KEPT = 64


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
        how = backend, working_memory, input_law, dtype
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

    def alone(self) -> Layer | None:
        """What ``ops.edge_sums`` is told, if ``forward`` is a sum over edges and nothing else."""
        if self._forward_hooks or self._forward_pre_hooks or type(self) is not KANLinear:
            return None
        if self.levels is not None or self.pairs is not None or self.bias is not None:
            return None
        how = self.backend, self.working_memory, self.widest, self.groups
        return Layer(self.basis, self.source, *how)

    def features(self, x: Tensor, terms: bool = False) -> Tensor:
        """What of ``forward`` depends on x alone: functions (n, in * C), then of levels, pairs.

        For rows that are known: there are no gradients of x. Instead of functions, ``terms``
        (n, in * (C - 1)) of which they are sums by ``basis.matrix_of_terms()``, if there is one.
        """
        numbers = x if self.levels is None else self.levels.numbers(x)
        found = self.basis.terms(numbers) if terms else self.basis.values(numbers, 0, 0)
        found = found.flatten(1)
        for part in (self.levels, self.pairs):
            if part is not None:
                found = torch.cat([found, part.features(x)], 1)
        return found

    def from_features(self, features: Tensor, matrix: Tensor | None = None) -> Tensor:
        """``forward`` from ``features(x, matrix is not None)``, of one group and not settled."""
        last = self.in_features * (self.basis.n_functions - (matrix is not None))
        own = features[:, :last] if features.shape[1] > last else features
        if matrix is None:
            # Coefficients, also of linear meta-learners: edges are fewer than functions of rows.
            weights = self.source.coefficients(*self.source.tensors()).flatten(0, 1)
            y = torch.mm(own, weights)
        else:
            y = edge_sums(own, [Layer(self.basis, self.source)], matrix)
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


class Prior(NamedTuple):
    """M, ``a m m' + s K``, and L with L L' proportional to P^-1 and trace(L' M L) = 1."""

    moment: Tensor
    penalty: Tensor
    factor: Tensor


_KEPT: dict[tuple[Any, ...], Prior] = {}  # of grids, for networks to come


@torch.no_grad()
def initialize(
    layers: Sequence[KANLayer],
    generator: torch.Generator | None = None,
    init: Init = "variance",
    order: int | None = None,
) -> None:
    """Start all parameters of these layers, in place; shared meta-learners once.

    An edge starts as a draw from a smoothing-spline prior, ``w ~ N(0, P^-1)`` with
    ``P = M + a m m' + s K + r I``: m holds the means and M the second moments of the basis
    functions over the inputs' law, K the second moments of their second derivatives (in units
    of the grid's half width). The term in m makes edges that average to nothing, so that
    layers pass on the variation between rows and not a constant; r keeps nearly dependent
    functions (silu and splines) from growing against each other. Scaled so that
    ``E[w' M w] = 1 / fan_in``, the edges that an output sums, a layer's outputs have variance one.

    ``init="paper"`` uses Xavier-normal prompts and weights, zero biases and no gain, as in
    the code published with the paper; direct coefficients have no such form. Numbers are drawn
    in float64 on the CPU, so that they are the same in every dtype and on every device.

    ``order`` is that of the highest derivative that will be taken: it starts about as large as the
    function itself.
    """
    if init not in ("variance", "paper"):
        raise ValueError(f"init must be 'variance' or 'paper', got {init!r}.")
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    users: dict[MetaLearner, list[Prior]] = {}
    for layer in layers:
        source = getattr(layer.source, "inner", layer.source)
        if layer.bias is not None:
            layer.bias.zero_()
        levels = getattr(layer, "levels", None)
        if levels is not None:
            levels.start(normal, layer.fan_in)
        if isinstance(source, DirectCoefficients):
            weight = source.weight
            factor = _prior(layer.basis, layer.input_law, order).factor.to(weight)
            weight.copy_(factor @ normal(weight.shape).to(weight) / layer.fan_in**0.5)
        elif isinstance(source, MetaCoefficients):
            prompts, scale = source.prompts, source.edge_scale
            prompts.copy_(normal(prompts.mT.shape).mT)  # edge by edge
            its_users = users.setdefault(source.meta_learner, [])
            if init == "variance":
                its_users.append(_prior(layer.basis, layer.input_law, order))
                source.gain.fill_(layer.fan_in**-0.5)
            else:
                n_edges = source.in_features * source.out_features
                prompts.mul_((2 / (n_edges + prompts.shape[-2])) ** 0.5)
                source.gain.fill_(1.0)
            if scale is not None:
                scale.copy_(normal(scale.shape) if init == "variance" else torch.ones_like(scale))
    for meta_learner, its_priors in users.items():
        if init == "variance":
            _start_meta_learner(meta_learner, its_priors, normal)
            continue
        for name, parameter in meta_learner.named_parameters():
            xavier = (2 / sum(parameter.shape)) ** 0.5
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.copy_(normal(parameter.shape).to(parameter) * xavier)
    for layer in layers:
        pairs = getattr(layer, "pairs", None)
        if pairs is not None:
            pairs.start(normal)


def _prior(basis: Basis, law: InputLaw, order: int | None) -> Prior:
    """Averaged over inputs; of a grid that all inputs share, it is kept."""
    grid = next(basis.buffers())  # every basis has it first
    if len(grid) > 1:
        return _prior_anew(basis, law, order)
    key: list[Any] = [type(basis), law, order, grid.dtype, grid.device.type, *grid[0].tolist()]
    for name in basis.settings:
        if name != "in_features":
            key.append(getattr(basis, name))
    found = _KEPT.get(tuple(key))
    if found is None:
        if len(_KEPT) == _MOST_KEPT:
            _KEPT.clear()
        found = _KEPT[tuple(key)] = _prior_anew(basis, law, order)
    return found


def _prior_anew(basis: Basis, law: InputLaw, order: int | None) -> Prior:
    points = law_points(basis, law)[:, :_MAX_INPUTS]
    low, high = basis.domain[: points.shape[1]].double().unbind(1)
    values = basis.values(points, 0, 0).double()
    means, values = values.mean(0), values.flatten(0, 1)
    penalty = MEAN_PENALTY * (means.T @ means / len(means)).cpu()
    if order is not None:
        points = law_points(basis, "uniform", REACH)[:, :_MAX_INPUTS]
    for m in sorted({2, max(order or 2, 2)}):
        slopes = basis.values(points, 0, m).double()
        slopes = (slopes * ((high - low) / 2)[:, None] ** m).flatten(0, 1)
        penalty = penalty + SMOOTHNESS * (slopes.T @ slopes / len(slopes)).cpu()
    return _with_factor((values.T @ values / len(values)).cpu(), penalty)


def law_points(basis: Basis, law: InputLaw, margin: float = 0.0) -> Tensor:
    """Evenly many points of the inputs' law, (256, 1 if all inputs are alike, or in_features).

    A uniform law reaches over the ends of the grid by a margin, in widths of it, of both together.
    """
    domain, grid = basis.domain, next(basis.buffers())  # every basis has it first
    if torch.equal(grid, grid[:1].expand_as(grid)):
        domain = domain[:1]
    low, high = domain.double().unbind(1)
    levels = torch.arange(_N_POINTS, dtype=low.dtype, device=low.device)[:, None]
    levels = (levels + 0.5) / _N_POINTS
    points = low + (levels + margin * (levels - 0.5)) * (high - low)
    if law == "normal":
        points = torch.special.ndtri(levels).expand_as(points)
    return points.to(domain.dtype)


def _with_factor(moment: Tensor, penalty: Tensor) -> Prior:
    ridge = RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    factor = torch.linalg.inv(torch.linalg.cholesky(moment + penalty + ridge)).T
    return Prior(moment, penalty, factor / (factor.T @ moment @ factor).trace().sqrt())


def _start_meta_learner(
    meta_learner: MetaLearner, its_priors: list[Prior], normal: Callable[..., Tensor]
) -> None:
    prior, *others = its_priors
    if others:
        moments, penalties, _ = zip(*its_priors, strict=True)
        prior = _with_factor(torch.stack(moments).mean(0), torch.stack(penalties).mean(0))
    # The prior's orthogonal functions (C, C), strongest first, at the prior's strength.
    moment, _, factor = prior
    power, directions = torch.linalg.eigh(factor.T @ moment @ factor)
    functions = factor @ directions.flip(1) / power.sum().sqrt()
    # Eigenvectors have no sign of their own, and rounding would choose one.
    functions = functions * torch.where(functions[-1] < 0, -1.0, 1.0)
    weight = meta_learner.output_weight
    if meta_learner.is_linear:
        functions = functions[:, : weight.shape[1]]
        power = (functions * (moment @ functions)).sum()
        weight.zero_()[:, : functions.shape[1]] = (functions / power.sqrt()).to(weight)
        return
    # Every hidden unit is centred on a prompt: relus bend, and sines cross zero, among them.
    hidden, bias, p = meta_learner.hidden_weight, meta_learner.hidden_bias, meta_learner.prompt_dim
    hidden.copy_(normal(hidden.shape).to(hidden) * HIDDEN_FREQUENCY / p**0.5)
    bias.copy_(-(hidden * normal(hidden.shape).to(hidden)).sum(1, keepdim=True))
    _trace_prior(meta_learner, normal(_N_PROMPTS, p).to(weight), functions, moment)


def _trace_prior(
    meta_learner: MetaLearner, prompts: Tensor, functions: Tensor, moment: Tensor
) -> None:
    """Fit the output layer so that generated edges have the prior's mean and covariance.

    The r-th function is assigned the orthonormal wave ``sqrt(2) cos(pi f Phi(z_j))`` of one
    prompt number z_j, with frequency f rising once all prompt numbers are used.
    """
    count, p = functions.shape[1], prompts.shape[1]
    order = torch.arange(count)
    level = torch.special.ndtr(prompts.double().cpu())[:, order % p]
    waves = 2**0.5 * torch.cos(torch.pi * (1 + order // p) * level)  # (prompts, count)
    inner = meta_learner.hidden_weight, meta_learner.hidden_bias
    hidden = meta_learner.hidden(prompts.T, *inner).T.double().cpu()  # (prompts, H)
    centred = hidden - hidden.mean(0)
    ridge = 1e-3 * centred.pow(2).mean() * len(centred)
    gram = centred.T @ centred + ridge * torch.eye(centred.shape[1], dtype=centred.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (waves @ functions.T)).T  # (C, H)
    generated = weight @ centred.T  # (C, prompts)
    power = (generated * (moment @ generated)).sum(0).mean()
    weight = weight * power.clamp_min(torch.finfo(power.dtype).tiny).rsqrt()
    meta_learner.output_weight.copy_(weight)
    meta_learner.output_bias.copy_(-(weight @ hidden.mean(0))[:, None])
