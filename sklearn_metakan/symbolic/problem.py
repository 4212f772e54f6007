"""What is left to explain: a target, the variables that it depends on, and its slopes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Expr = Any  # sympy's


@dataclass(frozen=True)
class Problem:
    """``y = wrap(t)`` and ``t = F(z_1, ..., z_k)`` with F unknown.

    Parameters
    ----------
    names : tuple of sympy expressions
        What each z is, in terms of the columns.
    z : ndarray of shape (n, k)
    t : ndarray of shape (n,)
        The target in the data.
    smooth : ndarray of shape (n,)
        The same by the network.
    slopes : ndarray of shape (n, k)
        dt/dz by the network.
    unit : ndarray of shape (n,)
        |dy/dt|: residuals times it are in y's units.
    wrap : callable
        From an expression for t to one for y.
    story : tuple of str
        How it was reached.
    """

    names: tuple[Expr, ...]
    z: Array
    t: Array
    smooth: Array
    slopes: Array
    unit: Array
    wrap: Callable[[Expr], Expr]
    story: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for problems that are the same."""
        return f"{sorted(map(str, self.names))} {sorted(self.story)}"

    def only(self, kept: Sequence[int]) -> "Problem":
        """Without the other variables, on which t does not depend."""
        kept = list(kept)
        names = tuple(self.names[i] for i in kept)
        return replace(self, names=names, z=self.z[:, kept], slopes=self.slopes[:, kept])

    def divided(self, powers: Sequence[float], symbols: Sequence[Expr]) -> "Problem":
        """``t / prod z_i^p_i`` in place of t; ``symbols`` has the p_i as sympy has them."""
        factor = np.prod([self.z[:, i] ** p for i, p in enumerate(powers) if p], axis=0)
        smooth = self.smooth / factor
        slopes = self.slopes / factor[:, None]
        expression: Expr = 1
        for i, p in enumerate(powers):
            if p:
                slopes[:, i] -= p * smooth / self.z[:, i]
                expression = expression * self.names[i] ** symbols[i]
        wrap = self.wrap
        return replace(
            self,
            t=self.t / factor,
            smooth=smooth,
            slopes=slopes,
            unit=self.unit * np.abs(factor),
            wrap=lambda inner: wrap(expression * inner),
            story=(*self.story, f"divide by {expression}"),
        )

    def less(self, i: int, slope: float, symbol: Expr) -> "Problem":
        """``t - slope z_i`` in place of t, which then does not depend on z_i."""
        wrap, term = self.wrap, symbol * self.names[i]
        moved = replace(
            self,
            t=self.t - slope * self.z[:, i],
            smooth=self.smooth - slope * self.z[:, i],
            wrap=lambda inner: wrap(term + inner),
            story=(*self.story, f"subtract {term}"),
        )
        return moved.only([j for j in range(len(self.names)) if j != i])

    def joined(self, gone: Sequence[int], name: Expr, values: Array, by_last: Array) -> "Problem":
        """One variable in place of several: ``values`` of it, and its slope along the last."""
        rest = [k for k in range(len(self.names)) if k not in gone]
        slope = self.slopes[:, gone[-1]] / by_last
        return replace(
            self,
            names=(*(self.names[k] for k in rest), name),
            z=np.column_stack([self.z[:, rest], values]),
            slopes=np.column_stack([self.slopes[:, rest], slope]),
        )
