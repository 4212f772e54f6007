"""How large things are: the solution, what every term makes of it, and what is left in the end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn

from sklearn_metakan.pde.derivatives.push import Sine
from sklearn_metakan.pde.physics.physics import DATA, EQUATION, Batch, Physics, with_parts
from sklearn_metakan.pde.physics.trial import TrialFunction, order_of
from sklearn_metakan.training import warn_caller

# Sizes of a solution that need no other unit, as networks start at size one: those that values
# tell of, and those that sources tell of, which have it too large where they oscillate.
USUAL_VALUES, USUAL_SOURCES = (0.05, 10.0), (0.2, 100.0)
USUAL_LOSSES = (1e-4, 1e4)
RUN_OFF = 1e6  # times a positive constant's start, where nothing holds it
_SEEDS, _WAVES, _FREQUENCIES = range(4), 16, (0.5, 1.5)  # of what stands for the solution
_ROWS, _ROWS_IF_RANDOM = 256, 16
# Fresh points at the end, so many divided by d^2: as many as a front of width 0.01 is met by.
_JUDGED, _MOST_JUDGED = 40_000, 10_000
# Of a residual's size before training: what is left of it in the mean, and at a single point.
_LEFT, _PEAK = 0.1, 10.0
_MISSED = 0.2  # of the spread of the solution: a condition's misfit; observations may be noisy
_SOLVED = 1e-3  # of a loss' size: u = 0, or an ansatz alone, that leaves less is a solution
_VARIES = 0.5  # of values' size: so much of it, apart from a constant, is no small change
_FAR = 1 / 30  # likewise, of constants that are taken off
_DOUBTFUL = 0.2  # of the spread of the solution: errors estimated to first order
_ROUNDS = 2  # a term that is not linear responds otherwise at another size
_TINY = 1e-12
LEVEL = 1e-3  # of values, where a solution hardly varies

Rows = dict[str, Tensor]  # by the name of a loss: misfits (n, m)


@dataclass(frozen=True)
class Sizes:
    """Of a problem, before training; mean squares by the name of a loss.

    Attributes
    ----------
    smooth : dict of str to float
        With smooth functions of the solution's size in its place.
    nothing : dict of str to float
        With the network at zero: u = 0, or what the ansatz makes of it.
    slopes : dict of str to k numbers
        What a misfit changes by (root mean square) for a change of each output by one.
    rounding : float
        Of the square of the solution; losses below it are exact already.
    """

    smooth: Mapping[str, float]
    nothing: Mapping[str, float]
    slopes: Mapping[str, tuple[float, ...]]
    rounding: float

    @property
    def unit(self) -> float:
        """What ``weights`` make of every loss: the size of the (first) equation's, if usual."""
        first = next(iter(self.smooth.values()))
        return first if USUAL_LOSSES[0] < first < USUAL_LOSSES[1] else 1.0

    def weights(self) -> dict[str, float]:
        """Factors that make every loss as large as that of the (first) equation.

        That one is 1 where its size is a usual number.
        """
        unit, least = self.unit, self.rounding
        return {name: unit / size if size > least else 1.0 for name, size in self.smooth.items()}


@torch.no_grad()
def measure(physics: Physics, batch: Batch, rescale: bool = True) -> Sizes:
    """Sizes of a problem; ``rescale`` sets the trial function's shift and scale of outputs.

    The shift of an output is a constant that is near to all values asked for, if these vary by less
    than a thirtieth of it; the scale is that of what is left, also where a constant is not as far.
    The scale of an output is the size at which values of conditions, observations and sources
    in the equation are met: of a term with misfit m_0 of nothing, and of slope s with that output,
    it is ``|m_0| / s``, the largest over the terms that tell of one output alone. What then is
    not known follows from equations with other outputs.
    """
    trial = physics.trial
    of_values = {
        name
        for name in batch
        if name == DATA or (name != EQUATION and not order_of(physics.requests[name]))
    }
    few = _rows(physics)
    with physics.exact():
        is_far = torch.ones_like(trial.output_shift, dtype=torch.bool)
        if rescale and trial.ansatz is None:
            middle, is_far = _middle(physics, batch, few, of_values)
            trial.output_shift.copy_(middle)
        size, k = torch.ones_like(trial.output_scale), len(trial.output_scale)
        eps, built_in = torch.finfo(size.dtype).eps, _built_in(physics, batch, few).to(size)
        for _ in range(_ROUNDS):
            nothing = _nothing(physics, batch, few)
            slopes = {
                name: torch.stack([
                    _rms([r[name] - m for r in _smooth(physics, batch, few, size * one)]) / size[j]
                    for j, one in enumerate(torch.eye(k, dtype=size.dtype, device=size.device))
                ])
                for name, m in nothing.items()
            }  # fmt: skip
            size = _sizes_of_outputs(nothing, slopes, of_values).to(size)
            # Misfits of an ansatz that are its own rounding tell nothing.
            size = torch.where(size > eps**0.75 * built_in, size, built_in)
        if rescale:
            trial.output_scale.copy_(size)
        found = [*_smooth(physics, batch, few, size)]
        if not is_far.all():  # a network learns such constants, and better than beside a shift
            trial.output_shift.mul_(is_far)
            nothing = _nothing(physics, batch, few)
    return Sizes(
        {name: float(_rms([r[name] for r in found]).square().mean()) for name in nothing},
        {name: float(m.square().mean()) for name, m in nothing.items()},
        {name: tuple(each.square().mean(1).sqrt().tolist()) for name, each in slopes.items()},
        eps**1.5 * float(torch.maximum(size, built_in).square().max()),
    )


def _rows(physics: Physics) -> int:
    """Points of a term, fewer where exact Laplacians are dear."""
    return _ROWS if physics.trial.derivatives == "exact" else _ROWS_IF_RANDOM


def _misfits(physics: Physics, batch: Batch, few: int) -> Rows:
    found: Rows = {}
    for term, sets in batch.items():
        rows = slice(0, few)
        for name, r in physics.misfits(term, sets, rows).items():
            found[name] = r.reshape(len(r), -1)
    return found


@contextmanager
def _scaled(trial: TrialFunction, scale: Tensor) -> Iterator[None]:
    """Within it, outputs have this scale."""
    before = trial.output_scale.clone()
    trial.output_scale.copy_(scale)
    try:
        yield
    finally:
        trial.output_scale.copy_(before)


def _nothing(physics: Physics, batch: Batch, few: int) -> Rows:
    with _scaled(physics.trial, torch.zeros_like(physics.trial.output_scale)):
        return _misfits(physics, batch, few)


def _middle(physics: Physics, batch: Batch, few: int, of_values: set[str]) -> tuple[Tensor, Tensor]:
    """The constants nearest to values, (k), and whether they are far from zero.

    They are 0 where these are usual, or vary as much, or not.
    Values that are all alike do not say how much a solution varies about them.
    """
    trial, own = physics.trial, {name: batch[name] for name in batch if name in of_values}
    none = torch.zeros_like(trial.output_shift)
    if not own:
        return none, none == 0

    def misfits(constants: Tensor) -> Tensor:
        trial.output_shift.copy_(constants)
        return torch.cat([m.reshape(-1) for m in _nothing(physics, own, few).values()])

    start = misfits(none)
    slopes = torch.stack([misfits(one) - start for one in torch.eye(len(none)).to(none)], 1)
    middle = -torch.linalg.pinv(slopes) @ start
    left = start + slopes @ middle
    told = (slopes != 0).to(start)  # (values, k)
    vary, size = ((each.square() @ told).sqrt() for each in (left, start))
    about = (vary <= _VARIES * size) & (vary > torch.finfo(size.dtype).eps ** 0.5 * size)
    middle = torch.where(about & (middle.abs() > USUAL_VALUES[1]), middle, none)
    return middle, (vary < _FAR * size) | (middle == 0)


def _built_in(physics: Physics, batch: Batch, few: int) -> Tensor:
    """The size of what an ansatz gives by itself, (k)."""
    with _scaled(physics.trial, torch.zeros_like(physics.trial.output_scale)):
        return _rms([physics.trial.columns(batch[EQUATION][0][0][:few])])


def _smooth(physics: Physics, batch: Batch, few: int, scale: Tensor) -> Iterator[Rows]:
    """Misfits of functions of this scale, drawn smooth: sines of random frequency and phase."""
    trial = physics.trial
    d, k = trial.inputs(next(iter(batch.values()))[0][0][:1]).shape[1], len(scale)
    for seed in _SEEDS:
        generator = torch.Generator().manual_seed(seed)
        first, last = _linear(d, _WAVES), _linear(_WAVES, k)
        for weight, low, high in ((first.weight, *_FREQUENCIES), (first.bias, 0, 2 * pi)):
            weight.copy_(low + (high - low) * torch.rand(weight.shape, generator=generator))
        first.weight.mul_(torch.randn(first.weight.shape, generator=generator).sign())
        last.bias.zero_()
        last.weight.copy_(torch.randn(last.weight.shape, generator=generator))
        last.weight.mul_((2 / _WAVES) ** 0.5)
        network = nn.Sequential(first, Sine(), last).to(trial.output_scale)
        other = with_parts(physics, trial=with_parts(trial, network=network))
        with _scaled(trial, scale):
            yield _misfits(other, batch, few)


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """Without starting values, for which torch would move its global generator."""
    return nn.utils.skip_init(nn.Linear, n_in, n_out)


def _sizes_of_outputs(nothing: Rows, slopes: Mapping[str, Tensor], of_values: set[str]) -> Tensor:
    """Of each output, (k); slopes are (k, m), one for each output and column of a misfit."""
    needed = torch.cat([m.square().mean(0).sqrt() for m in nothing.values()])  # (columns)
    slope = torch.cat([*slopes.values()], 1)  # (k, columns)
    told = [m.new_full((m.shape[1],), name in of_values) for name, m in nothing.items()]
    responds = (slope > _TINY * slope.amax(0)) & slope.isfinite() & needed.isfinite()
    alone = responds & (responds.sum(0) == 1)
    size = torch.where(alone, needed / slope, 0)
    told_by_values = torch.cat(told) > 0
    usual = torch.where(told_by_values, _within(size, USUAL_VALUES), _within(size, USUAL_SOURCES))
    size = torch.where(usual, 1.0, size).amax(1)
    known = size > 0
    if known.any() and not known.all():
        others = torch.where(responds & known[:, None], slope * size[:, None], 0).amax(0)
        others = torch.maximum(others, needed.nan_to_num(0, 0, 0))
        found = torch.where(responds & (others > 0), others / slope, 0).amax(1)
        found = torch.where(_within(found, USUAL_SOURCES), 1.0, found)
        size = torch.where(known, size, found)
    return torch.where((size > 0) & size.isfinite(), size, 1.0)


def _within(size: Tensor, ends: tuple[float, float]) -> Tensor:
    return (size >= ends[0]) & (size <= ends[1])


def _rms(rows: list[Tensor]) -> Tensor:
    """Of each column, over several sets of rows."""
    return torch.cat(rows).square().mean(0).sqrt()


def judged(physics: Physics) -> int:
    """How many fresh points of the equation tell whether it was solved."""
    if physics.trial.derivatives != "exact":
        return _ROWS_IF_RANDOM
    d = physics.trial.input_shift.numel()
    return min(_MOST_JUDGED, max(_ROWS, _JUDGED // d**2))


@torch.no_grad()
def unsolved(physics: Physics, batch: Batch, sizes: Sizes, u: Tensor) -> list[str]:
    """Why a fit explains nothing, if so; u (n, k) are values of the solution.

    It explains nothing where a loss is as large as that of u = 0, or of functions drawn at random,
    where a condition's misfit is a fifth of the spread of the solution, or that of observations as
    large as the spread, or where a positive constant ran off. Of the equation a tenth is as bad,
    and so are single points where its residual is many times the size of functions drawn at
    random: a front was missed.
    """
    reasons = []
    spread = u.std(0, correction=0) + LEVEL * u.abs().amax(0)
    with physics.exact():
        found = _misfits(physics, batch, judged(physics))
    for name, misfit in found.items():
        size = float(physics.squared(name, misfit).sqrt())
        if name not in batch or name == EQUATION:
            before, peak = sizes.smooth[name] ** 0.5, float(misfit.abs().max())
            rounding = sizes.rounding**0.5 * max(sizes.slopes[name])
            if size > rounding and (_LEFT * before <= size or _PEAK * before <= peak):
                reasons.append(
                    f"{name!r} is {size:.2g} (root mean square) and up to {peak:.2g} at new points,"
                    f" and was about {before:.2g} before training"
                )
                continue
        known = {"that of u = 0": sizes.nothing[name], "that before training": sizes.smooth[name]}
        reached = [
            text for text, square in known.items()
            if _SOLVED**2 * sizes.smooth[name] < square <= size**2
        ]  # fmt: skip
        if name in batch and name != EQUATION:
            needed = size / u.new_tensor(sizes.slopes[name])  # a change of u that would mend it
            answers = needed.isfinite()
            share = 1.0 if name == DATA else _MISSED
            if answers.any() and bool((needed > share * spread)[answers].all()):
                part = "" if name == DATA else f"{_MISSED:.0%} of "
                reached.append(f"{part}the spread of the solution")
        if reached:
            reasons.append(f"{name!r} is {size:.2g} (root mean square), as large as {reached[0]}")
    for name, times in physics.pde_params.changes().items():
        if not 1 / RUN_OFF < times < RUN_OFF:
            reasons.append(f"the constant {name!r} ran off to {times:.1g} times its start")
    return reasons


def doubtful(error: float) -> list[str]:
    """A reason where errors of first order are so many spreads of the solution."""
    if error <= _DOUBTFUL:
        return []
    return [
        f"small as the residual is, the error that it leaves is about {min(error, 10):.0%} of the "
        "solution's spread or more, as where errors grow over long times, for which there is "
        "windows=, or a source has short waves"
    ]


def warn_if_unsolved(reasons: list[str]) -> None:
    """A ConvergenceWarning that gives the reasons, if there are any."""
    if reasons:
        warn_caller(
            f"Not solved: {'; '.join(reasons)}. Try more iterations (lm_iter), a larger network, "
            "sampling='rad' and basis='chebyshev' for fronts, loss_weights for the data, or "
            "hard=True, and check the equation's signs and units."
        )
