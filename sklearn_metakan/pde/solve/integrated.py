"""Where a system in time leads from the start of a solution, by a classical method."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from sklearn_metakan.pde.physics.field import Evaluation, Field
from sklearn_metakan.pde.physics.physics import EQUATION, Physics, named_residuals
from sklearn_metakan.pde.physics.trial import order_of

TIMES = 400  # where the two are compared
# What the classical method may leave in a step, relative.
EXACT = {torch.float64: 1e-6, torch.float32: 1e-4}
MOST = 5000  # times that the equation may be asked
_AFFINE = 1e-4  # of the equation's terms: what is left with the highest derivatives found
_LEVEL = 0.05  # of values, beside their spread
_ROUNDING = 1e-9  # of values, by which a start may be another
_SEVERAL = 5  # times at which residuals must be those of each time by itself

States = NDArray[np.float64]  # (order, k): u, u', ...


class _GivesUpError(Exception):
    """The equation says no more, or too slowly."""


def can_integrate(physics: Physics) -> bool:
    """Whether it is a system of equations in time alone, which asks for u at that time alone."""
    trial = physics.trial
    order = order_of(physics.requests.get(EQUATION, frozenset()))
    return trial.time and trial.input_shift.numel() == 1 and order > 0 and not physics.calls_u


@torch.no_grad()
def distance(
    physics: Physics, ends: NDArray[np.float64], missed: float, dtype: torch.dtype = torch.float64
) -> float | None:
    """The error of a solution that its start determines, relative to its spread.

    From u, u', ... at the first of the ``ends``, as many as the order needs, the equation is
    integrated to the last (LSODA, also where it is stiff); the error is the root mean square of
    what is between, of the output where it is largest. ``missed`` is by how much the start may be
    another; where that moves the solution half as far, 0 is returned. ``dtype`` is that of the
    points that the equation is given. None where highest derivatives do not follow from the
    equation, or the method does not come to its end.
    """
    system = _System(physics, dtype)
    times = np.linspace(ends[0], ends[1], TIMES)
    first, known = system.jets(times[:1])[0, :-1], system.values(times)
    unit = missed + _ROUNDING * np.abs(known).max(0)
    try:
        system.check(times[:: TIMES // _SEVERAL])
        found = system.integrated(first.cpu().numpy(), times)
        near = system.integrated(first.cpu().numpy() + unit, times)
    except _GivesUpError:
        return None
    spread = found.std(0) + _LEVEL * np.abs(found).max(0)
    if not (spread > 0).all():
        return None
    away, moved = (_rms(values - found) / spread for values in (known, near))
    return float(np.where(away > 2 * moved, away, 0.0).max())


class _System:
    """``u^(order) = f(t, u, ..., u^(order - 1))``, from residuals that are affine in it."""

    def __init__(self, physics: Physics, dtype: torch.dtype) -> None:
        self.physics, self.trial, self.dtype = physics, physics.trial, dtype
        self.order = order_of(physics.requests[EQUATION])
        self.k, self.left = len(physics.trial.output_scale), MOST

    def values(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the solution, (n, k)."""
        found: Tensor = self.trial.columns(self._tensor(times)[:, None])
        return found.double().cpu().numpy()

    def jets(self, times: NDArray[np.float64]) -> Tensor:
        """u, u', ... of the solution as far as the order, (n, order + 1, k)."""
        field = self.trial.field(self._tensor(times)[:, None])
        columns = [field._columns((0,) * m) for m in range(self.order + 1)]
        return torch.stack(columns, 1).double()

    def check(self, times: NDArray[np.float64]) -> None:
        """Give up unless the equation is one, at each time by itself, for highest derivatives."""
        together = self.physics.residuals(self._tensor(times).to(self.dtype)[:, None])
        wanted = torch.stack([*together.values()], 1).double()
        for time, jet, residual in zip(times, self.jets(times), wanted, strict=True):
            found = self._residual(time, jet[:-1], jet[-1:])
            if found.shape[1] != self.k or not torch.allclose(found[0], residual, 1e-3, 1e-5):
                raise _GivesUpError
            highest, size = self._highest(time, jet[:-1])
            left = self._residual(time, jet[:-1], highest[None])[0].abs()
            if not bool((left <= _AFFINE * size).all()):
                raise _GivesUpError

    def integrated(self, first: States, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at times (n, k), from a state at the first of them."""
        self.left = MOST
        exact = EXACT[self.trial.output_scale.dtype]
        least = exact * _LEVEL * float(np.abs(first).max() + 1e-300)
        found = solve_ivp(
            self._rate, times[[0, -1]], first.ravel(), "LSODA", times, rtol=exact, atol=least
        )
        if not found.success or not np.isfinite(found.y).all():
            raise _GivesUpError
        values: NDArray[np.float64] = found.y[: self.k].T
        return values

    def _rate(self, time: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        self.left -= 1
        if self.left < 0 or not np.isfinite(flat).all():
            raise _GivesUpError
        state = self._tensor(flat).unflatten(0, (self.order, self.k))
        highest, _ = self._highest(time, state)
        rates: NDArray[np.float64] = torch.cat([state[1:].flatten(), highest]).cpu().numpy()
        return rates

    def _highest(self, time: float, state: Tensor) -> tuple[Tensor, Tensor]:
        """With which the residual is zero, (k), and how large its terms are then."""
        given = torch.eye(self.k + 1).to(state)[:, 1:]  # none, and each of them by itself
        found = self._residual(time, state, given)
        slopes = (found[1:] - found[0]).T
        highest, singular = torch.linalg.solve_ex(slopes, -found[0])
        if singular:
            raise _GivesUpError
        return highest, found[0].abs() + slopes.abs() @ highest.abs()

    def _residual(self, time: float, state: Tensor, highest: Tensor) -> Tensor:
        """Of functions with this state and these highest derivatives (n, k): (n, m)."""
        n = len(highest)
        jets = torch.cat([state.expand(n, -1, -1), highest[:, None]], 1)
        jets = jets.to(self.trial.output_scale.dtype)
        x = self._tensor([time]).to(self.dtype).expand(n, 1)
        names = self.trial.variables or ("t",)
        values = Evaluation(self.trial, x, None, names, frozenset(), None, 1)
        for m in range(self.order + 1):
            values.found[((0,) * m, 0)] = jets, m, jets._version
        found = self.physics.residual(x, Field(values), **self.physics.pde_params.constants())
        return torch.stack([*named_residuals(found).values()], 1).double()

    def _tensor(self, numbers: object) -> Tensor:
        device = self.trial.input_shift.device
        return torch.as_tensor(numbers, dtype=torch.float64, device=device)


def _rms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    size: NDArray[np.float64] = np.sqrt(np.square(values).mean(0))
    return size
