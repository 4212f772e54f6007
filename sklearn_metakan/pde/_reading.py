"""From a solver's parameters and what fit is given to the problem that is solved."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_metakan.pde._adapters import Points, Sampler, as_domain
from sklearn_metakan.pde._conditions import BaseCondition
from sklearn_metakan.pde._domain import Domain, checked_points
from sklearn_metakan.pde._spacetime import SpaceTime

_SEEN = 4096  # points that stand for the law of a domain, and for bounds that are not known
_MOST, _NEARLY_ALL = 0.99, 0.9


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
        Finite.
    variables : tuple of str or None
    has_time : bool
    observed, values : ndarray of shape (n, d) and (n, k), or None
    """

    domain: Domain
    interior: Domain
    boundary: Domain
    bounds: NDArray[np.float64]
    variables: tuple[str, ...] | None
    has_time: bool
    observed: NDArray[Any] | None = None
    values: NDArray[Any] | None = None

    def reach(self, method: str) -> NDArray[np.float64]:
        """What is mapped onto [-1, 1]: so far from the middle of the bounds, (d).

        In a ball of many dimensions coordinates are small: a grid over its bounds would have
        most points in its middle cell. So it covers 99 % of points drawn by this method, or
        where these fill nearly all of the bounds, the bounds.
        """
        low, high = self.bounds.T
        half = (high - low) / 2
        generator = torch.Generator().manual_seed(0)
        wide: Any = {"method": method, "dtype": torch.float64}
        seen = [self.domain.sample(_SEEN, generator, **wide)]
        if not self.domain.knows_inside and self.boundary is not self.domain:
            seen.append(self.boundary.sample_boundary(_SEEN, generator, dtype=torch.float64)[0])
        away = [np.abs(points.cpu().numpy() - (low + high) / 2) for points in seen]
        far = np.max([np.quantile(each, _MOST, axis=0) for each in away], axis=0)
        return np.where((far > 0) & (far < _NEARLY_ALL * half), far, half)

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
        return float(epsilon), t0, t1


def read_problem(solver: Any, X: Any, y: Any, conditions: dict[str, BaseCondition]) -> Problem:
    """The problem, or a TypeError or ValueError that says what is missing."""
    given = None if solver.domain is None else as_domain(solver.domain)
    X = in_order(X, solver.variables)
    observed = values = None
    if y is not None:
        observed, values = _observations(X, y, given, solver.n_outputs)
        X = None
    interior = given if X is None else _interior(X, given)
    domain = interior if given is None else given
    if domain is None or interior is None:
        raise ValueError("domain is missing: pass domain= to the solver, or a domain to fit.")
    variables = _variables(solver.variables, domain.dim)
    has_time = _has_time(domain, variables)
    boundary = domain
    if solver.boundary is not None:
        boundary = as_domain(solver.boundary, domain.dim)
    elif _lacks_boundary(domain) and any(c.place == "boundary" for c in conditions.values()):
        raise ValueError(
            "conditions on the boundary need domain= or boundary=: points alone have no boundary, "
            f"as those of {domain!r}."
        )
    bounds = _finite_bounds(domain, boundary, observed)
    return Problem(domain, interior, boundary, bounds, variables, has_time, observed, values)


def in_order(X: Any, variables: Any) -> Any:
    """A DataFrame's columns as ``variables`` names them; anything else as it is."""
    columns = getattr(X, "columns", None)
    if variables is None or columns is None:
        return X
    wanted, found = list(variables), list(columns)
    if len(found) != len(wanted) or {*found} != {*wanted}:
        raise ValueError(f"X must have the columns {wanted}, as variables says, got {found}.")
    return np.asarray(X[wanted])


def _interior(X: Any, domain: Domain | None) -> Domain:
    """Where fit was told to ask the residual; inside the solver's own domain."""
    interior = as_domain(X, None if domain is None else domain.dim)
    if domain is not None and domain.knows_inside and isinstance(interior, Points):
        checked_points(interior.X, domain.dim, "X", domain=domain)
    return interior


def _lacks_boundary(domain: Domain) -> bool:
    """Points, and functions that draw points: those of the inside are not on a boundary."""
    if isinstance(domain, Sampler):
        return not hasattr(domain.source, "sample_boundary")
    return isinstance(domain, Points)


def _has_time(domain: Domain, variables: tuple[str, ...] | None) -> bool:
    of_domain = any(isinstance(part, SpaceTime) for part in domain._leaves())
    return of_domain or (variables is not None and variables[-1] == "t")


def _observations(
    X: Any, y: Any, domain: Domain | None, n_outputs: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    if X is None or domain is None:
        raise ValueError("y needs X, the points that were observed, and domain= of the solver.")
    known = domain if domain.knows_inside else None
    points = checked_points(X, domain.dim, "X", domain=known).cpu().numpy()
    values = np.asarray(y, dtype=float)
    shapes = [(len(points), n_outputs)] + [(len(points),)] * (n_outputs == 1)
    if values.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"y must have the shape {wanted}, got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("y must be finite, got NaN or infinity.")
    return points, values.reshape(len(points), n_outputs)


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
        generator = torch.Generator().manual_seed(0)
        wide: Any = {"generator": generator, "dtype": torch.float64}
        seen = [bounds.T if is_finite else domain.sample(_SEEN, **wide)]
        if boundary is not domain:
            seen.append(boundary.sample_boundary(_SEEN, **wide)[0])
        if observed is not None:
            seen.append(observed)
        points = np.concatenate([np.asarray(each, dtype=float) for each in seen])
        bounds = np.stack([points.min(0), points.max(0)], 1)
    flat = bounds[:, 0] == bounds[:, 1]
    bounds[flat] += [-1.0, 1.0]
    return bounds
