"""Where eigenvalues are: the equation on random features, as a problem of matrices."""

from collections.abc import Iterator, Mapping
from copy import copy
from math import pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_metakan.pde.derivatives.push import Sine
from sklearn_metakan.pde.physics.physics import DATA, EQUATION, Batch, Physics, with_parts
from sklearn_metakan.pde.solve.least_squares import LeastSquares, check_least_squares

NORM = "norm"  # the loss of a mode's length
# By the number of inputs: features, and the largest frequency of each input in [-1, 1].
FEATURES: dict[int, tuple[int, float]] = {1: (150, 30.0), 2: (360, 12.0), 3: (800, 8.0)}
_POINTS = 3  # for each feature
_DEPENDENT = 1e-9  # of the largest singular value, for what features have in common
_HELD = 1e-8  # likewise, for what the conditions ask
_REAL, _SOLVES = 1e-3, 0.1  # of an eigenvalue and its neighbours: imaginary part, residual
_LINEAR = 1e-5  # relative
_MOSTLY = 0.9  # of the spectrum on one side of zero
_NEXT = 3  # eigenvalues more than asked for tell of their size
_BESIDE, _NEAR, _FAR = 0.37, 1e-4, 1e-6  # of that size: the shift, from a number, and 1 / most
_BLOCK = 512.0  # MiB


class Features:
    """``u = sum_j c_j sin(w_j . s + b_j)``, s the trial function's inputs, in the network's place.

    Residuals and misfits that are linear in u are linear in the numbers c.

    Parameters
    ----------
    physics : Physics
    size : (int, float)
        How many, and their largest frequency; they are uniform up to it.
    beside : bool, default=False
        Whether the network stays, and these are added.
    """

    def __init__(self, physics: Physics, size: tuple[int, float], beside: bool = False) -> None:
        like, d = physics.trial.output_scale, physics.trial.input_shift.numel()
        self.count, top = size
        generator = torch.Generator().manual_seed(0)
        first = nn.utils.skip_init(nn.Linear, d, self.count, dtype=torch.float64)
        last = nn.utils.skip_init(nn.Linear, self.count, len(like), dtype=torch.float64)
        self.coefficients = [last.weight, last.bias]
        with torch.no_grad():
            first.weight.copy_(top * (2 * torch.rand(first.weight.shape, generator=generator) - 1))
            first.bias.copy_(2 * pi * torch.rand(first.bias.shape, generator=generator))
            for each in self.coefficients:
                each.zero_()
        first.requires_grad_(False)
        network = nn.Sequential(first, Sine(), last).to(like.device)
        own = {"beside": physics.trial.network} if beside else {}
        trial = with_parts(physics.trial, network=network, **own)
        trial._buffers = {name: b.double() for name, b in trial._buffers.items()}
        constants = copy(physics.pde_params)
        constants._parameters = {
            name: nn.Parameter(p.detach().double()) for name, p in physics.pde_params.items()
        }
        self.physics = with_parts(physics, trial=trial, pde_params=constants)
        self.physics.attention = None  # all points count alike

    def rows(self, batch: Batch, term: str) -> Tensor:
        """Derivatives of a term's misfits by all coefficients, at their present values."""
        found = torch.cat([jacobian for _, _, jacobian in self._linearised(batch, term)])
        return found.mean(0, keepdim=True) if self.physics.is_mean(term) else found

    def weighted(self, batch: Batch, factors: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """Rows and misfits of all terms, of which the sum of squares is the weighted loss."""
        rows, misfits = [], []
        for term in batch:
            for weights, r, jacobian in self._linearised(batch, term, factors):
                root = weights.sqrt()
                pair = jacobian * root[:, None], r * root
                if self.physics.is_mean(term):
                    pair = pair[0].mean(0, keepdim=True), pair[1].mean(0, keepdim=True)
                    pair = pair[0] * len(r) ** 0.5, pair[1] * len(r) ** 0.5
                rows.append(pair[0])
                misfits.append(pair[1])
        return torch.cat(rows), torch.cat(misfits)

    def _linearised(
        self, batch: Batch, term: str, factors: Mapping[str, float] = {}
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        its, whole = {term: batch[term]}, slice(0, len(batch[term][0][0]))
        squares = LeastSquares(
            self.physics, its, lambda name: factors.get(name, 1.0), self.coefficients, _BLOCK
        )
        return squares.linearised(term, whole)

    def values(self, batch: Batch) -> Tensor:
        """Derivatives of u at the equation's points."""
        points = batch[EQUATION][0][0]
        self.physics.observe(np.zeros((len(points), len(self.physics.trial.output_scale))), None)
        numbers = torch.arange(len(points), device=points.device)
        return self.rows({DATA: [(points, numbers)]}, DATA)

    @torch.no_grad()
    def misfit(self, batch: Batch, term: str) -> Tensor:
        """Misfits themselves, one after the other as ``rows``."""
        found = self.physics.misfits(term, batch[term]).values()
        misfit = torch.cat([c for r in found for c in r.reshape(len(r), -1).unbind(1)])
        return misfit.mean(0, keepdim=True) if self.physics.is_mean(term) else misfit

    @torch.no_grad()
    def set(self, values: Tensor | float) -> None:
        """Of all coefficients."""
        start = 0
        for each in self.coefficients:
            stop = start + each.numel()
            part = values[start:stop].view_as(each) if isinstance(values, Tensor) else values
            each.copy_(torch.as_tensor(part))
            start = stop


def nearest_eigenvalues(solver: Any, name: str, near: float | None, count: int) -> list[float]:
    """Of a linear equation, the first, or those nearest to a number.

    ``solver`` is what will be fitted, ``name`` the constant. The residual on random features is
    ``(L - k M) c``, conditions ``B c = 0``; on the null space of B the problem is solved in least
    squares. Eigenvalues count from the end where the spectrum is bounded.

    Where the equation is not linear in u and k, only one mode can be had, from ``near``.

    Raises ValueError if conditions or equation are not zero for u = 0, if there are fewer
    eigenvalues, and where ``near`` is needed and missing.
    """
    physics, batch = solver._begin(None, None, None, False)[:2]
    reason = _no_features(physics, batch)
    if not reason:
        features = Features(physics, FEATURES[physics.trial.input_shift.numel()])
        counts = dict.fromkeys(("boundary", "initial"), features.count)
        counts["interior"] = _POINTS * features.count
        batch = solver._collocation(counts, 0).draw()
        wide = {
            term: [(x.double(), None if n is None else n.double()) for x, n in sets]
            for term, sets in batch.items()
            if term != NORM
        }
        try:
            matrices = _matrices(features, wide, name)
        except _NotLinearError as error:
            reason = str(error)
    if reason:
        if near is not None and count == 1:
            return [near]
        raise ValueError(
            f"eigenvalue={name!r}: {reason}. Give a start, pde_params={{{name!r}: ...}}, and leave "
            "n_modes at 1."
        )
    found = _chosen(*_eigenvalues(*matrices, near, count), near, count)
    if len(found) < count:
        raise ValueError(
            f"n_modes={count}: only {len(found)} real eigenvalues {name!r} were found on the "
            f"domain, {[round(each, 6) for each in found]}. Check signs and conditions, or ask for "
            "fewer."
        )
    return found


class _NotLinearError(Exception):
    """What keeps a problem from being one of matrices."""


def _no_features(physics: Physics, batch: Batch) -> str:
    if physics.trial.input_shift.numel() not in FEATURES:
        return f"of {physics.trial.input_shift.numel()} inputs the spectrum is not searched"
    try:
        check_least_squares(physics, batch)
    except ValueError as error:
        return str(error).rstrip(".")
    return ""


def _matrices(features: Features, batch: Batch, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """L, M and values of u, on the coefficients that conditions leave."""
    constant = features.physics.pde_params[name]
    held = []
    for term in batch:
        if term == EQUATION:
            continue
        rows = features.rows(batch, term)
        _check_linear(features, batch, term, rows)
        held.append(rows)
    by_value = []
    for value in (0.0, 1.0, 2.0):
        with torch.no_grad():
            constant.fill_(value)
        by_value.append(features.rows(batch, EQUATION))
    _check_linear(features, batch, EQUATION, by_value[-1])
    first, second, third = by_value
    slope = first - second
    if not bool((third - 2 * second + first).abs().max() <= _LINEAR * slope.abs().max()):
        raise _NotLinearError(f"residual(x, u, {name}) is not linear in {name}")
    if not bool(slope.abs().max() > 0):
        raise _NotLinearError(f"residual(x, u, {name}) does not depend on {name}")
    values = features.values(batch)
    if not held:
        return first, slope, values
    conditions = torch.cat([each / each.abs().max().clamp_min(1e-300) for each in held])
    _, sizes, basis = torch.linalg.svd(conditions, full_matrices=True)
    free = basis[int((sizes > _HELD * sizes[0]).sum()) :].T
    return first @ free, slope @ free, values @ free


def _check_linear(features: Features, batch: Batch, term: str, rows: Tensor) -> None:
    """Whether a term's misfits at random coefficients are those that its rows say."""
    title = features.physics.title(term)
    nothing = features.misfit(batch, term)
    if bool(nothing.abs().max() > _LINEAR * rows.abs().max()):
        raise ValueError(
            f"an eigenvalue problem is zero for u = 0, and {title} is not: values of conditions "
            "and sources must be 0, and the length of modes is set already."
        )
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64).to(rows)
    features.set(values)
    found, wanted = features.misfit(batch, term), rows @ values
    features.set(0.0)
    if not bool((found - wanted).abs().max() <= _LINEAR * wanted.abs().max()):
        raise _NotLinearError(f"{title} is not linear in u")


def _eigenvalues(
    first: Tensor, slope: Tensor, values: Tensor, near: float | None, count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Eigenvalues, complex, and their residuals over the mode's size.

    Those of ``(L - s M)^+ M``, in least squares, on what is independent among the features'
    values; they are 1 / (k - s). M may be singular, as that of systems is.
    """
    _, sizes, right = torch.linalg.svd(values, full_matrices=False)
    rank = int((sizes > _DEPENDENT * sizes[0]).sum())
    basis = right[:rank].T / sizes[:rank]
    image, mass = first @ basis, slope @ basis
    sizes = torch.linalg.svdvals(image).flip(0)
    unit = float(sizes[min(count + _NEXT, len(sizes) - 1)] / torch.linalg.matrix_norm(mass, 2))
    shift = -_BESIDE * unit if near is None else near + _NEAR * unit
    orthogonal, triangle = torch.linalg.qr(image - shift * mass)
    inverse = torch.linalg.solve_triangular(triangle, orthogonal.T @ mass, upper=True)
    found, modes = torch.linalg.eig(inverse)
    keep = found.abs() * unit > _FAR
    found, modes = shift + 1 / found[keep], modes[:, keep]
    its = mass.to(modes) @ modes
    away = (image.to(modes) @ modes - its * found).norm(dim=0) / its.norm(dim=0)
    return found.cpu().numpy(), away.cpu().numpy()


def _chosen(
    values: NDArray[Any], away: NDArray[Any], near: float | None, count: int
) -> list[float]:
    """Real eigenvalues whose modes solve the equation, in order."""
    size = np.sort(np.abs(values))[: count + _NEXT].max()
    unit = np.abs(values) + size
    good = (np.abs(values.imag) <= _REAL * unit) & (away <= _SOLVES * unit)
    found = values.real[good]
    positive = float((values.real > 0).mean())
    if near is not None:
        order = np.abs(found - near)
    elif positive >= _MOSTLY:
        order = found
    else:
        order = -found if positive <= 1 - _MOSTLY else np.abs(found)
    return [float(each) for each in found[np.argsort(order)][:count]]
