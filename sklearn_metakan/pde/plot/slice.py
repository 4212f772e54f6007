"""Points along one or two coordinates of a domain, the others held fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_metakan.pde.physics.trial import default_names
from sklearn_metakan.pde.solve.problem import Problem

N_POINTS = {1: 400, 2: 120}  # along each axis


@dataclass(frozen=True)
class Slice:
    """A line or a plane through a domain.

    Attributes
    ----------
    coordinates : tuple of one or two ndarrays of shape (n,)
        Values along the axes.
    places, names : tuple of int and str
        Of these coordinates.
    fixed : dict of str to float
        The other coordinates.
    points : ndarray of shape (m, d)
        Those of the grid along the axes that lie in the domain; the first axis slowest.
    inside : ndarray of shape (n,) or (n, n)
        Which these are.
    """

    coordinates: tuple[NDArray[np.float64], ...]
    places: tuple[int, ...]
    names: tuple[str, ...]
    fixed: dict[str, float]
    points: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def spread(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values at the points, on the grid; NaN outside."""
        found = np.full(self.inside.shape, np.nan)
        found[self.inside] = values
        return found


def cut(
    problem: Problem,
    coordinates: Sequence[int | str] | None,
    at: Mapping[int | str, float] | None,
    n_points: int | None,
) -> Slice:
    """The slice along these coordinates; by default time and one of space, or the first two.

    ``at`` holds others at given values; else they are in the middle of the bounds.
    """
    d, domain = len(problem.bounds), problem.domain
    names = problem.variables or default_names(d, problem.has_time)
    chosen = _chosen(coordinates, names, problem.has_time)
    held = {_place(key, names, "at"): float(value) for key, value in (at or {}).items()}
    for place in held:
        if place in chosen:
            raise ValueError(
                f"at must not name a coordinate that is an axis, got {names[place]!r}; choose the "
                f"axes by coordinates=, now {tuple(names[i] for i in chosen)}."
            )
    count = N_POINTS[len(chosen)] if n_points is None else n_points
    # A coordinate that is constant in the domain is shown a little to both sides.
    low, high = problem.bounds.T + np.outer([-1, 1], problem.constant)
    lines = tuple(np.linspace(low[i], high[i], count) for i in chosen)
    points = np.tile(problem.bounds.mean(1), (count ** len(chosen), 1))
    points[:, [*held]] = [*held.values()]
    points[:, chosen] = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(chosen))
    fixed = {names[i]: float(points[0, i]) for i in range(d) if i not in chosen}
    # Finite sets of points have no inside.
    inside = domain.contains(points) if domain.knows_inside else np.ones(len(points), bool)
    if not inside.any():
        raise ValueError(f"at must cut the domain {domain!r}, got points outside only: {fixed}.")
    shape = (count,) * len(chosen)
    chosen_names = tuple(names[i] for i in chosen)
    return Slice(lines, chosen, chosen_names, fixed, points[inside], inside.reshape(shape))


def _chosen(
    coordinates: Sequence[int | str] | None, names: tuple[str, ...], has_time: bool
) -> tuple[int, ...]:
    if coordinates is None:
        if has_time and len(names) == 2:
            return 1, 0  # time goes to the right
        return tuple(range(min(2, len(names))))
    listed = [coordinates] if isinstance(coordinates, int | str) else list(coordinates)
    chosen = tuple(_place(each, names, "coordinates") for each in listed)
    if len(chosen) not in (1, 2) or len({*chosen}) < len(chosen):
        raise ValueError(f"coordinates must be one or two different ones, got {coordinates!r}.")
    return chosen


def _place(key: int | str, names: tuple[str, ...], parameter: str) -> int:
    if isinstance(key, str) and key in names:
        return names.index(key)
    if not isinstance(key, str) and -len(names) <= key < len(names):
        return int(key) % len(names)
    raise ValueError(
        f"{parameter} must name coordinates, of {names} or by number below {len(names)}, got "
        f"{key!r}."
    )
