"""Starting values: random smooth edges whose sums keep their variance from layer to layer.

An edge starts as a draw from a smoothing-spline prior, ``w ~ N(0, P^-1)`` with
``P = M + a m m' + s K + r I``: m holds the means and M the second moments of the basis
functions over the inputs' law, K the second moments of their second derivatives (in units
of the grid's half width). The term in m makes edges that average to nothing, so that
layers pass on the variation between rows and not a constant; r keeps nearly dependent
functions (silu and splines) from growing against each other. Scaled so that
``E[w' M w] = 1 / fan_in``, the edges that an output sums, a layer's outputs have variance one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._meta_learner import MetaLearner

if TYPE_CHECKING:
    from sklearn_metakan.nn._layer import KANLayer

Init = Literal["variance", "paper"]
InputLaw = Literal["uniform", "normal"]

SMOOTHNESS = 3.0  # s
RIDGE = 1.0  # r, in units of the mean second moment
HIDDEN_FREQUENCY = 1.0  # standard deviation of the meta-learner's W_1
MEAN_PENALTY = 1e4  # a
_N_POINTS, _MAX_INPUTS, _N_PROMPTS = 256, 64, 1024


def initialize(
    layers: Sequence["KANLayer"],
    generator: torch.Generator | None = None,
    init: Init = "variance",
) -> None:
    """Start all parameters of these layers, in place; shared meta-learners once.

    ``init="paper"`` uses Xavier-normal prompts and weights, zero biases and no gain, as in
    the code published with the paper; direct coefficients have no such form.
    """
    if init not in ("variance", "paper"):
        raise ValueError(f"init must be 'variance' or 'paper', got {init!r}.")
    users: dict[MetaLearner, list[KANLayer]] = {}
    with torch.no_grad():
        for layer in layers:
            if layer.bias is not None:
                layer.bias.zero_()
            if isinstance(layer.source, MetaCoefficients):
                _start_prompts(layer.source, layer.fan_in, generator, init)
                users.setdefault(layer.source.meta_learner, []).append(layer)
            elif isinstance(layer.source, DirectCoefficients):
                _start_direct(layer.source.weight, layer, generator)
        for meta_learner, its_layers in users.items():
            if init == "paper":
                _start_as_paper(meta_learner, generator)
            else:
                _start_meta_learner(meta_learner, its_layers, generator)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers from a CPU generator, the same on every device."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _moments(basis: Basis, law: InputLaw) -> tuple[Tensor, Tensor]:
    """M and a m m' + s K, both (C, C) in float64 on the CPU, averaged over inputs."""
    count = min(basis.in_features, _MAX_INPUTS)
    low, high = basis.domain[:count].double().unbind(1)
    levels = (torch.arange(_N_POINTS, dtype=torch.float64, device=low.device) + 0.5) / _N_POINTS
    points = torch.empty(_N_POINTS, basis.in_features, dtype=low.dtype, device=low.device)
    if law == "uniform":
        points[:, :count] = low + levels[:, None] * (high - low)
    else:
        points[:, :count] = torch.special.ndtri(levels)[:, None]

    def second_moment(values: Tensor) -> Tensor:
        return (values.T @ values / len(values)).cpu()

    values = basis.evaluate(points, 0, count).double()
    bends = basis.evaluate(points, 0, count, derivative=2).double()
    bends = bends * ((high - low) / 2)[:, None] ** 2
    penalty = MEAN_PENALTY * second_moment(values.mean(0)) + SMOOTHNESS * second_moment(
        bends.flatten(0, 1)
    )
    return second_moment(values.flatten(0, 1)), penalty


def _prior_factor(moment: Tensor, penalty: Tensor) -> Tensor:
    """L with L L' proportional to P^-1 and trace(L' M L) = 1."""
    identity = torch.eye(len(moment), dtype=moment.dtype)
    ridge = RIDGE * moment.diagonal().mean()
    precision = moment + penalty + ridge * identity
    factor = torch.linalg.inv(torch.linalg.cholesky(precision)).T
    return factor / (factor.T @ moment @ factor).trace().sqrt()


def _leading_functions(factor: Tensor, moment: Tensor) -> Tensor:
    """The prior's orthogonal functions (C, C), strongest first, at the prior's strength."""
    power, directions = torch.linalg.eigh(factor.T @ moment @ factor)
    functions = factor @ directions.flip(1) / power.sum().sqrt()
    # Eigenvectors have no sign of their own, and rounding would choose one.
    return functions * torch.where(functions[-1] < 0, -1.0, 1.0)


def _start_direct(weight: Tensor, layer: "KANLayer", generator: torch.Generator | None) -> None:
    factor = _prior_factor(*_moments(layer.basis, layer.input_law)).to(weight)
    weight.copy_(factor @ _normal(weight, generator) / layer.fan_in**0.5)


def _start_prompts(
    source: MetaCoefficients, fan_in: int, generator: torch.Generator | None, init: Init
) -> None:
    prompts = source.prompts
    prompts.copy_(_normal(prompts.mT, generator).mT)  # edge by edge
    source.gain.fill_(fan_in**-0.5)
    if init == "paper":
        n_edges = source.in_features * source.out_features
        prompts.mul_((2 / (n_edges + prompts.shape[-2])) ** 0.5)
        source.gain.fill_(1.0)
    if source.edge_scale is not None:
        scale = source.edge_scale
        scale.copy_(_normal(scale, generator) if init == "variance" else torch.ones_like(scale))


def _start_as_paper(meta_learner: MetaLearner, generator: torch.Generator | None) -> None:
    for name, parameter in meta_learner.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.copy_(_normal(parameter, generator) * (2 / sum(parameter.shape)) ** 0.5)


def _start_meta_learner(
    meta_learner: MetaLearner,
    layers: Sequence["KANLayer"],
    generator: torch.Generator | None,
) -> None:
    pairs = [_moments(layer.basis, layer.input_law) for layer in layers]
    moment = torch.stack([m for m, _ in pairs]).mean(0)
    penalty = torch.stack([k for _, k in pairs]).mean(0)
    functions = _leading_functions(_prior_factor(moment, penalty), moment)
    weight = meta_learner.output_weight
    if meta_learner.is_linear:
        functions = functions[:, : weight.shape[1]]
        power = (functions * (moment @ functions)).sum()
        weight.zero_()[:, : functions.shape[1]] = (functions / power.sqrt()).to(weight)
        return
    # Every hidden unit is centred on a prompt: relus bend, and sines cross zero, among them.
    hidden, bias = meta_learner.hidden_weight, meta_learner.hidden_bias
    hidden.copy_(_normal(hidden, generator) * HIDDEN_FREQUENCY / meta_learner.prompt_dim**0.5)
    bias.copy_(-(hidden * _normal(hidden, generator)).sum(1, keepdim=True))
    prompts = _normal(weight.new_empty(_N_PROMPTS, meta_learner.prompt_dim), generator)
    _trace_prior(meta_learner, prompts, functions, moment)


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
    hidden = meta_learner.hidden(prompts.T).T.double().cpu()  # (prompts, H)
    centred = hidden - hidden.mean(0)
    ridge = 1e-3 * centred.pow(2).mean() * len(centred)
    gram = centred.T @ centred + ridge * torch.eye(centred.shape[1], dtype=centred.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (waves @ functions.T)).T  # (C, H)
    generated = weight @ centred.T  # (C, prompts)
    power = (generated * (moment @ generated)).sum(0).mean()
    weight = weight * power.clamp_min(torch.finfo(power.dtype).tiny).rsqrt()
    meta_learner.output_weight.copy_(weight)
    meta_learner.output_bias.copy_(-(weight @ hidden.mean(0))[:, None])
