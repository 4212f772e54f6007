"""Equations with derivatives of fractional order, by quadrature that residuals do themselves."""

from functools import cache
from math import gamma
from typing import Any

import torch
from scipy.special import roots_jacobi

from benchmarks.pde.cases.case import Case, by_name, of_torch
from sklearn_metakan.pde import Dirichlet, Initial, Interval, SpaceTime

NODES, STEP = 10, 1e-3
BUMP = {3: 1.0, 4: -3.0, 5: 3.0, 6: -1.0}  # x^3 (1 - x)^3 as powers of x, or of 1 - x


def from_both_ends(x: Any, u: Any, order: float) -> Any:
    """Riemann-Liouville derivatives from 0 and from 1, together; their order is in (1, 2).

    ``1 / Gamma(2 - order) integral u''(s) |x - s|^(1 - order) ds`` on both sides of x, of a u that
    vanishes with its slope at both ends: Gauss-Jacobi quadrature, second differences.
    """
    nodes, weights = (torch.as_tensor(each).to(x) for each in _nodes(order))
    total = torch.zeros_like(x[:, 0])
    for length in (-x[:, :1], 1 - x[:, :1]):
        places = (x[:, :1] + length * nodes).flatten()
        others = x[:, 1:].repeat_interleave(len(nodes), 0)
        left, middle, right = (
            u(torch.cat([(places + step)[:, None], others], 1)) for step in (-STEP, 0.0, STEP)
        )
        bends = ((left - 2 * middle + right) / STEP**2).unflatten(0, (len(x), -1))
        total = total + length[:, 0].abs() ** (2 - order) * (bends @ weights)
    return total


@cache
def _nodes(order: float) -> tuple[Any, Any]:
    """Of ``integral f(r) r^(1 - order) dr / Gamma(2 - order)`` from 0 to 1."""
    r, weights = roots_jacobi(NODES, 0, 1 - order)
    return (1 + r) / 2, weights / 2 ** (2 - order) / gamma(2 - order)


def powers(x: Any, order: float = 0.0) -> Any:
    """The bump's derivatives from both ends; of order 0 twice the bump."""
    return sum(
        share * gamma(p + 1) / gamma(p + 1 - order) * (x ** (p - order) + (1 - x) ** (p - order))
        for p, share in BUMP.items()
    )


def fractional_poisson() -> Case:
    """Derivatives of order 1.5 from both ends add up to what they are of ``x^3 (1 - x)^3``."""
    settings = {
        "residual": lambda x, u: from_both_ends(x, u, 1.5) - powers(x[:, 0], 1.5),
        "domain": Interval(0, 1),
        "conditions": [Dirichlet(0.0)],
    }
    exact = of_torch(lambda x: powers(x[:, 0]) / 2)
    return Case(settings, exact, ("DeepXDE: fractional_Poisson_1d",))


def fractional_diffusion() -> Case:
    """``u_t`` is the derivatives of order 1.8 and a source: ``exp(-t) x^3 (1 - x)^3``."""

    def residual(x: Any, u: Any) -> Any:
        place, decay = x[:, 0], (-x[:, 1]).exp()
        source = -decay * (powers(place) / 2 + powers(place, 1.8))
        return u.dt() - from_both_ends(x, u, 1.8) - source

    settings = {
        "residual": residual,
        "domain": SpaceTime(Interval(0, 1), 0.0, 1.0),
        "conditions": [Initial(lambda x: powers(x[:, 0]) / 2), Dirichlet(0.0)],
        "variables": ("x", "t"),
    }
    exact = of_torch(lambda x: (-x[:, 1]).exp() * powers(x[:, 0]) / 2)
    return Case(settings, exact, ("DeepXDE: fractional_diffusion_1d",))


FRACTIONAL = by_name(fractional_poisson, fractional_diffusion)
