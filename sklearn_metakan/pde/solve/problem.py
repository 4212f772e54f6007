"""From a solver's parameters and what fit is given to the problem that is solved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.pde.domains.adapters import DeepXDEGeometry, Points, Sampler, as_domain
from sklearn_metakan.pde.domains.domain import (
    Difference,
    Domain,
    Intersection,
    Union,
    points_inside,
)
from sklearn_metakan.pde.domains.made import Ellipsoid, LevelSet, Moved, ParametricDomain, Product
from sklearn_metakan.pde.domains.polygon import Polygon
from sklearn_metakan.pde.domains.shapes import Ball, Box, Interval, SpaceTime, Sphere
from sklearn_metakan.pde.physics.conditions import (
    BaseCondition,
    Condition,
    Dirichlet,
    Initial,
    Integral,
    Neumann,
    Periodic,
    Robin,
)
from sklearn_metakan.pde.physics.constants import Held, Positive

Features = Callable[[Tensor], Tensor]

_SEEN = 4096  # points that stand for the law of a domain, and for bounds that are not known
_MOST, _NEARLY_ALL = 0.99, 0.9
_FAR = 16.0  # widths of the domain from zero, where float32 has few numbers left for it


@dataclass(frozen=True)
class Problem:
    """Domains, coordinates and observations.

    Attributes
    ----------
    domain : Domain
        Where the equation holds; of initial and periodic conditions.
    interior : Domain
        Where its residual is asked.
    boundary : Domain
        Whose ``sample_boundary`` boundary conditions use.
    bounds : ndarray of shape (d, 2)
        Finite; both ends are equal where a coordinate is constant.
    variables : tuple of str or None
    has_time : bool
    observed, values : ndarray of shape (n, d) and (n, k), or None
    weights : ndarray of shape (n, k), or None
        Of values, one in the mean; zero for those that were not observed.
    """

    domain: Domain
    interior: Domain
    boundary: Domain
    bounds: NDArray[np.float64]
    variables: tuple[str, ...] | None
    has_time: bool
    observed: NDArray[Any] | None = None
    values: NDArray[Any] | None = None
    weights: NDArray[Any] | None = None

    def points_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Of the points that residual, conditions and ansatz see, where networks have a dtype.

        Their own, or float64 where float32 would round coordinates far from zero. Networks
        see coordinates that were centred and scaled before they are rounded.
        """
        far = np.abs(self.bounds).max(1) > _FAR * np.ptp(self.bounds, 1)
        return torch.float64 if (far & ~self.constant).any() else dtype

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which coordinates never change."""
        return self.bounds[:, 0] == self.bounds[:, 1]

    def inputs(self, method: str, features: Features | None) -> tuple[Tensor, Tensor]:
        """Shift and scale of what a network sees, (d) or, of features, (m)."""
        if features is None:
            return torch.as_tensor(self.bounds.mean(1)), torch.as_tensor(self.input_scale(method))
        wide: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
        seen = features(self.domain.sample(_SEEN, method=method, **wide))
        n = min(_SEEN, len(seen)) if isinstance(seen, Tensor) else _SEEN
        if not isinstance(seen, Tensor) or seen.ndim != 2 or not seen.numel():
            got = tuple(seen.shape) if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"features(x) must return a tensor (n, m), here n = {n}, got {got}.")
        if not seen.isfinite().all():
            raise ValueError("features(x) must be finite over the whole domain.")
        low, high = seen.detach().double().aminmax(dim=0)
        half = (high - low) / 2
        return (low + high) / 2, torch.where(half > 0, half, torch.inf)

    def input_scale(self, method: str) -> NDArray[np.float64]:
        """What is mapped onto [-1, 1]: so far from the middle of the bounds, (d).

        In a ball of many dimensions coordinates are small: a grid over its bounds would have
        most points in its middle cell. So it covers 99 % of points drawn by this method, or
        where these fill nearly all of the bounds, the bounds. Infinite where a coordinate is
        constant: it then has no effect.
        """
        low, high = self.bounds.T
        half = (high - low) / 2
        wide: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
        seen = [self.domain.sample(_SEEN, method=method, **wide)]
        if not self.domain.knows_inside and self.boundary is not self.domain:
            seen.append(self.boundary.sample_boundary(_SEEN, **wide)[0])
        away = [np.abs(points.cpu().numpy() - (low + high) / 2) for points in seen]
        far = np.max([np.quantile(each, _MOST, axis=0) for each in away], axis=0)
        scale = np.where((far > 0) & (far < _NEARLY_ALL * half), far, half)
        return np.where(self.constant, np.inf, scale)

    def causal(self, epsilon: float | None) -> tuple[float, float, float] | None:
        """What causal weights need."""
        if epsilon is None:
            return None
        if not self.has_time:
            raise ValueError(
                f"causal={epsilon} needs a time: a SpaceTime domain, or variables whose last "
                "name is 't'. Set causal=None."
            )
        t0, t1 = map(float, self.bounds[-1])
        return float(epsilon), t0, t1 if t1 > t0 else t0 + 1.0


# Whose objects files of solvers may hold, unless there is a function inside.
STORED: tuple[type, ...] = (
    Problem,
    *(Ball, Box, Interval, SpaceTime, Sphere, Union, Intersection, Difference),
    *(Ellipsoid, LevelSet, Moved, ParametricDomain, Polygon, Product),
    *(Points, Sampler, DeepXDEGeometry),
    *(Condition, Dirichlet, Initial, Integral, Neumann, Periodic, Robin, Positive, Held),
)


def read_problem(
    solver: Any, X: Any, y: Any, sample_weight: Any, conditions: dict[str, BaseCondition]
) -> Problem:
    """The problem, or a TypeError or ValueError that says what is missing."""
    names, observed, values, weights = solver.variables, None, None, None
    given = solver.domain
    given = None if given is None else as_domain(in_order(given, names, "domain"))
    X = in_order(X, names)
    if sample_weight is not None and y is None:
        raise ValueError("sample_weight is that of observations: pass y too.")
    if y is not None:
        observed, values = _observations(X, y, given, solver.n_outputs)
        values, weights = _weighted(values, sample_weight)
        X = None
    interior = given if X is None else as_domain(X, None if given is None else given.dim)
    domain = interior if given is None else given
    if domain is None or interior is None:
        raise ValueError("domain is missing: pass domain= to the solver, or a domain to fit.")
    if X is not None and isinstance(interior, Points):
        points_inside(domain, interior.X, "X")
    variables = _variables(names or _with_parameters(domain), domain.dim)
    has_time = variables is not None and variables[-1] == "t"
    has_time |= any(isinstance(part, SpaceTime) for part in domain._parts())
    boundary = domain
    if solver.boundary is not None:
        boundary = as_domain(in_order(solver.boundary, names, "boundary"), domain.dim)
    elif _lacks_boundary(domain) and any(c.place == "boundary" for c in conditions.values()):
        raise ValueError(
            "conditions on the boundary need domain= or boundary=: points alone have no boundary, "
            f"as those of {domain!r}."
        )
    bounds = _finite_bounds(domain, boundary, observed)
    return Problem(
        domain, interior, boundary, bounds, variables, has_time, observed, values, weights
    )


def in_order(X: Any, variables: Any, name: str = "X") -> Any:
    """A table's columns as ``variables`` names them; what has no names of columns as it is."""
    columns = getattr(X, "column_names", getattr(X, "columns", None))  # pyarrow's; all others'
    if variables is None or columns is None:
        return X
    wanted, found = list(variables), list(columns)
    if not any(isinstance(column, str) for column in found):
        return X
    if len(found) != len(wanted) or {*found} != {*wanted}:
        raise ValueError(f"{name} must have the columns {wanted}, as variables says, got {found}.")
    return np.asarray(X.select(wanted) if hasattr(X, "select") else X[wanted])


def _lacks_boundary(domain: Domain) -> bool:
    """Points, and functions that draw points: those of the inside are not on a boundary."""
    if isinstance(domain, Sampler):
        return not hasattr(domain.source, "sample_boundary")
    return isinstance(domain, Points)


def _observations(
    X: Any, y: Any, domain: Domain | None, n_outputs: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    if X is None or domain is None:
        raise ValueError("y needs X, the points that were observed, and domain= of the solver.")
    points = points_inside(domain, X, "X").cpu().numpy()
    values = np.asarray(y, dtype=float)
    shapes = [(len(points), n_outputs)] + [(len(points),)] * (n_outputs == 1)
    if values.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"y must have the shape {wanted}, got {values.shape}.")
    return points, values.reshape(len(points), n_outputs)


def _weighted(values: NDArray[Any], sample_weight: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Values without gaps, and the weight of each; None where all are one."""
    missing = np.isnan(values)
    if np.isinf(values).any() or missing.all(1).any():
        raise ValueError(
            "y must be finite, or NaN where one of several outputs was not observed, got "
            f"{values[np.isinf(values).any(1) | missing.all(1)][0].tolist()}."
        )
    if sample_weight is None and not missing.any():
        return values, None
    weights = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, float)
    if (
        weights.shape != (len(values),)
        or not (weights >= 0).all()
        or not np.isfinite(weights).all()
    ):
        raise ValueError(
            f"sample_weight must be {len(values)} finite numbers of at least 0, got the shape "
            f"{weights.shape}."
        )
    spread = np.where(missing, 0.0, weights[:, None])
    if not spread.any():
        raise ValueError("sample_weight must not be 0 for all that was observed.")
    return np.where(missing, 0.0, values), spread / spread.mean()


def _with_parameters(domain: Domain) -> tuple[str, ...] | None:
    """Names of coordinates where parameters have some."""
    space = domain.space if isinstance(domain, SpaceTime) else domain
    if not isinstance(space, ParametricDomain):
        return None
    time = ("t",) * (space is not domain)
    return (*(f"x{i}" for i in range(space.dim - space.n_parameters)), *space.names, *time)


def _variables(variables: Any, dim: int) -> tuple[str, ...] | None:
    if variables is None:
        return None
    names = tuple(variables)
    if len(names) != dim or len({*names}) != dim or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"variables must be {dim} different names, one for each coordinate, got {variables!r}."
        )
    if "t" in names[:-1]:
        raise ValueError(f"variables must have 't', the time, last, got {variables!r}.")
    return names


def _finite_bounds(
    domain: Domain, boundary: Domain, observed: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Those of the domain; where points alone tell of it, of all points that are known."""
    bounds = np.asarray(domain.bounds, dtype=float)
    is_finite = np.isfinite(bounds).all()
    if not is_finite or not domain.knows_inside:
        wide: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
        seen = [bounds.T if is_finite else domain.sample(_SEEN, **wide)]
        if boundary is not domain:
            seen.append(boundary.sample_boundary(_SEEN, **wide)[0])
        if observed is not None:
            seen.append(observed)
        points = np.concatenate([np.asarray(each, dtype=float) for each in seen])
        bounds = np.stack([points.min(0), points.max(0)], 1)
    if not (np.abs(bounds) < np.finfo(float).max / 4).all():
        raise ValueError(f"domain must have bounds below 4e307, got {bounds.tolist()}.")
    return bounds
