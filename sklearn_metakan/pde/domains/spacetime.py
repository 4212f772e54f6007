"""Space and time as one domain; time is the last coordinate."""

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.domains.domain import CLOSED, Domain, Pair, numbers
from sklearn_metakan.pde.domains.draws import Draw, grid_points


@dataclass(frozen=True)
class SpaceTime(Domain):
    """All (x, t) with x in ``space`` and ``t0 <= t <= t1``; time is the last column.

    Its boundary is the boundary of space at all times; normals have no component in time.
    ``sample_initial`` draws points at t0.

    Parameters
    ----------
    space : Domain
    t0, t1 : float, default=0.0 and 1.0
    anchors : array of shape (a, d + 1), optional
        Points always kept.

    Raises
    ------
    TypeError, ValueError
        If space is no domain, times are not finite, or t0 is not below t1.

    Examples
    --------
    >>> from sklearn_metakan.pde import Interval
    >>> domain = SpaceTime(Interval(-1, 1), 0, 2)
    >>> domain.bounds.tolist(), domain.sample_initial(3)[:, 1].tolist()
    ([[-1.0, 1.0], [0.0, 2.0]], [0.0, 0.0, 0.0])
    """

    space: Domain
    t0: float = 0.0
    t1: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.space, Domain):
            raise TypeError(f"space must be a domain (see as_domain), got {self.space!r}.")
        t0, t1 = numbers("t0 and t1", [self.t0, self.t1])
        if t0 >= t1:
            raise ValueError(f"t0 must be below t1, got t0={t0}, t1={t1}.")
        self._freeze(t0=t0, t1=t1)
        self._set_anchors()

    @property
    def methods(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.space.methods

    @property
    def knows_inside(self) -> bool:  # type: ignore[override]
        return self.space.knows_inside

    @property
    def bounds(self) -> np.ndarray:
        return np.concatenate([self.space.bounds, [[self.t0, self.t1]]])

    @property
    def _log_volume(self) -> float:
        return self.space._log_volume + log(self.t1 - self.t0)

    def sample_initial(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        method: str = "uniform",
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """n points at the time t0, as ``sample``, with the same errors."""
        x = self.space.sample(n, generator, method=method, dtype=dtype)
        return torch.cat([x, torch.full_like(x[:, :1], self.t0)], 1)

    def _contains(self, x: Tensor, margin: float = CLOSED) -> Tensor:
        slack, t = margin * (self.t1 - self.t0), x[:, -1]
        in_time = (t >= self.t0 - slack) & (t <= self.t1 + slack)
        return self.space._contains(x[:, :-1], margin) & in_time

    def _times(self, n: int, draw: Draw) -> Tensor:
        """Shuffled, so that times are independent of places."""
        return self.t0 + (self.t1 - self.t0) * draw.unit(1)(n)[draw.shuffled(n)]

    def _inside(self, n: int, draw: Draw) -> Tensor:
        if draw.method == "grid":
            per_axis = max(1, int((n + 0.5) ** (1 / self.dim)))
            times = grid_points(np.array([[self.t0, self.t1]]), per_axis)
            places = self.space._inside(n // per_axis, draw)
            t = times.to(places).repeat_interleave(len(places), 0)
            return torch.cat([places.repeat(per_axis, 1), t], 1)[:n]
        x = self.space._inside(n, draw)
        return torch.cat([x, self._times(n, draw).to(x.device)], 1)

    def _on_boundary(self, n: int, draw: Draw) -> Pair:
        x, normals = self.space._on_boundary(n, draw)
        method = "sobol" if draw.method == "grid" else draw.method
        t = self._times(len(x), Draw(method, draw.generator)).to(x)
        return torch.cat([x, t], 1), torch.cat([normals, torch.zeros_like(t)], 1)
