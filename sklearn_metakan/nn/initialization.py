"""Starting values: random smooth edges whose sums keep their variance from layer to layer.

An edge starts as a draw from a smoothing-spline prior, ``w ~ N(0, P^-1)`` with
``P = M + a m m' + s K + r I``: m holds the means and M the second moments of the basis
functions over the inputs' law, K the second moments of their second derivatives (in units
of the grid's half width). The term in m makes edges that average to nothing, so that
layers pass on the variation between rows and not a constant; r keeps nearly dependent
functions (silu and splines) from growing against each other. Scaled so that
``E[w' M w] = 1 / fan_in``, the edges that an output sums, a layer's outputs have variance one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import Basis
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients, MetaLearner

Init = Literal["variance", "paper"]
InputLaw = Literal["uniform", "normal"]


class Prior(NamedTuple):
    """M, ``a m m' + s K``, and L with L L' proportional to P^-1 and trace(L' M L) = 1."""

    moment: Tensor
    penalty: Tensor
    factor: Tensor


SMOOTHNESS = 3.0  # s
RIDGE = 1.0  # r, in units of the mean second moment
HIDDEN_FREQUENCY = 1.0  # standard deviation of the meta-learner's W_1
MEAN_PENALTY = 1e4  # a
REACH = 0.5  # of the grid's width: how far around it K of a given order looks, both ends together
_N_POINTS, _MAX_INPUTS, _N_PROMPTS = 256, 64, 1024
_MOST_KEPT = 64
_KEPT: dict[tuple[Any, ...], Prior] = {}  # of grids, for networks to come


class Layer(Protocol):
    """What of a layer is started, and what decides how."""

    basis: Basis
    source: DirectCoefficients | MetaCoefficients
    bias: nn.Parameter | None
    fan_in: int  # edges that are summed into one output
    input_law: InputLaw


@torch.no_grad()
def initialize(
    layers: Sequence[Layer],
    generator: torch.Generator | None = None,
    init: Init = "variance",
    order: int | None = None,
) -> None:
    """Start all parameters of these layers, in place; shared meta-learners once.

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
