"""Self-scaled quasi-Newton methods with a dense inverse Hessian: SSBFGS and SSBroyden."""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.lbfgs import _strong_wolfe  # torch's own line search, as of its L-BFGS

from sklearn_metakan.training.optimisers import set_values

_SHRINK, _TRIES = 0.1, 30  # of a first step to where the loss is finite
_FLAT = 1e-15  # of |y| |s|: curvature below it is rounding


class SelfScaled(torch.optim.Optimizer):
    """``x' = x - t H g``, t by a strong Wolfe line search, H dense; one iteration a step.

    With s = x' - x, y = g' - g, b = s'H^-1 s / y's and h = y'Hy / y's,
    ``H' = (H - H y y' H / y'Hy + phi v v') / tau + s s' / y's`` and
    ``v = (y'Hy)^(1/2) (s / y's - H y / y'Hy)``. Both methods shrink the inverse of H by
    ``tau <= min(1, 1 / b)`` where it is too large along s: curvature of long ago is forgotten.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float, default=1.0
        The first step that a line search tries.
    method : {"broyden", "bfgs"}, default="broyden"
        "bfgs": phi = 1 and tau = min(1, 1 / b). "broyden": phi in Broyden's family, by
        Al-Baali's bounds, so that H stays well conditioned.
    max_eval : int, default=25
        Evaluations of a line search at most.

    Attributes
    ----------
    n_evaluations : int
        How often loss and gradient were evaluated.
    stuck : bool
        Whether the last step found nothing lower: the minimum, as far as rounding lets it be seen.

    Notes
    -----
    Memory and time of a step beyond the closure's are n^2 for n parameters: 200 MB for 5,000.
    The closure is not called at the start of a step that follows one on the same points; call
    ``forget`` when the loss has become another function. H stays. A step that goes nowhere
    because the loss is not finite where the line search looked returns NaN.

    Source: Al-Baali, "Numerical experience with a class of self-scaling quasi-Newton algorithms"
    (1998); Urbán, Stefanou, Pons, "Unveiling the optimization process of physics informed neural
    networks" (2025); Kiyani et al., "Optimizing the optimizer for PINNs" (arXiv 2509.14198).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1.0,
        method: Literal["broyden", "bfgs"] = "broyden",
        max_eval: int = 25,
    ) -> None:
        if method not in ("broyden", "bfgs"):
            raise ValueError(f"method must be 'broyden' or 'bfgs', got {method!r}.")
        super().__init__(params, {"lr": lr})
        self.method, self.max_eval, self.n_evaluations = method, max_eval, 0
        self.stuck, self._saw_finite = False, True
        self._inverse: Tensor | None = None  # H
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # where, loss and gradient there

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def forget(self) -> None:
        """The next step evaluates its starting point anew."""
        self._last = None

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One iteration; the loss at the point it accepted."""
        trained = self.trained
        start = [parameter.detach().clone() for parameter in trained]
        x = parameters_to_vector(start).double()
        try:
            loss, gradient = self._evaluated(closure, x)
            if not loss.isfinite() or not gradient.any():
                return loss
            found = self._searched(closure, x, loss, gradient)
        except BaseException:  # such as an interrupt: no trial point stays
            set_values(trained, start)
            raise
        self.stuck = found is None
        if found is None:
            set_values(trained, start)
            self._last = x, loss, gradient
            return loss if self._saw_finite else loss.new_full((), torch.nan)
        length, direction, new_loss, new_gradient = found
        self._last = self._move(x + length * direction), new_loss, new_gradient
        self._update(length, direction, gradient, new_gradient)
        return new_loss

    def _evaluated(self, closure: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at x, where the parameters are."""
        if self._last is not None and torch.equal(self._last[0], x):
            return self._last[1:]
        with torch.enable_grad():
            loss = closure().detach().double()
        self.n_evaluations += 1
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.trained]
        self._last = x, loss, torch.cat([slope.reshape(-1) for slope in slopes]).double()
        return self._last[1:]

    @torch.no_grad()
    def _move(self, x: Tensor) -> Tensor:
        """Have the parameters x; gives what their dtype makes of it."""
        trained = self.trained
        places = [torch.empty_like(p) for p in trained]
        vector_to_parameters(x.to(places[0]), places)
        set_values(trained, places)
        return parameters_to_vector(places).double()

    def _searched(
        self, closure: Callable[[], Tensor], x: Tensor, loss: Tensor, gradient: Tensor
    ) -> tuple[float, Tensor, Tensor, Tensor] | None:
        """Length, direction, and loss and gradient there; None where nothing is lower."""

        def at(_: Tensor, length: float, direction: Tensor) -> tuple[float, Tensor]:
            value, slope = self._evaluated(closure, self._move(x + length * direction))
            return float(value), slope

        for fresh in (False, True):
            if fresh or self._inverse is None:
                self._inverse = None
                direction = -gradient
                length = min(1.0, 1 / float(gradient.abs().sum()))
            else:
                direction = -(self._inverse @ gradient)
                length = 1.0
            length *= self.param_groups[0]["lr"]
            slope = gradient @ direction
            if not slope < 0:
                continue
            for _ in range(_TRIES):
                value, there = at(x, length, direction)
                self._saw_finite = isfinite(value) and bool(there.isfinite().all())
                if self._saw_finite:
                    break
                length *= _SHRINK
            else:
                return None
            value, there, length, _ = _strong_wolfe(
                at, x, length, direction, float(loss), gradient, slope,
                tolerance_change=0.0, max_ls=self.max_eval,
            )  # fmt: skip
            if value < float(loss):
                return float(length), direction, loss.new_tensor(value), there
            if self._inverse is None:
                break
        return None

    def _update(self, length: float, direction: Tensor, before: Tensor, after: Tensor) -> None:
        s, y = length * direction, after - before
        ys = float(y @ s)
        if not ys > _FLAT * float(y.norm() * s.norm()):
            return
        if self._inverse is None:  # in the scale of the curvature that was just seen
            unit = ys / float(y @ y)
            self._inverse = unit * torch.eye(len(s), dtype=s.dtype, device=s.device)
            bs = float(s @ s) / unit
        else:
            bs = -length * float(s @ before)
        hy = self._inverse @ y
        yhy = float(y @ hy)
        phi, tau = self._factors(bs / ys, yhy / ys, len(s))
        both = torch.stack([s, hy], 1)
        cross = -phi / (tau * ys)
        inner = both.new_tensor(
            [[phi * yhy / (tau * ys**2) + 1 / ys, cross], [cross, (phi - 1) / (tau * yhy)]]
        )
        self._inverse.addmm_(both @ inner, both.T, beta=1 / tau)

    def _factors(self, b: float, h: float, n: int) -> tuple[float, float]:
        """phi and tau."""
        scale = min(1.0, 1 / b)
        if self.method == "bfgs":
            return 1.0, scale
        a = max(h * b - 1, _FLAT)
        least = min(1.0, h * (1 - (a / (1 + a)) ** 0.5))
        theta = max((least - 1) / a, min(1 / least, (1 - b) / b))
        volume = 1 + a * theta
        root = volume ** (1 / (1 - n)) if n > 1 else 1.0
        tau = scale * min(root, 1 / theta) if theta > 0 else min(scale * root, volume)
        return (1 - theta) / volume, tau


LINE_SEARCHED = (torch.optim.LBFGS, SelfScaled)  # a step is several evaluations
