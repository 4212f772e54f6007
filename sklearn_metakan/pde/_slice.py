"""Points along one or two coordinates of a domain, the others held fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_metakan.pde._domain import Domain
from sklearn_metakan.pde._reading import Problem

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
    points : ndarray of shape (n, d) or (n * n, d)
        The first axis slowest.
    inside : ndarray of shape (n,) or (n * n,)
        Which of them lie in the domain.
    """

    coordinates: tuple[NDArray[np.float64], ...]
    places: tuple[int, ...]
    names: tuple[str, ...]
    fixed: dict[str, float]
    points: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def spread(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values of the points inside, on the grid; NaN outside."""
        found = np.full(len(self.points), np.nan)
        found[self.inside] = values
        return found.reshape([len(each) for each in self.coordinates])


def cut(
    problem: Problem,
    coordinates: Sequence[int | str] | None,
    at: Mapping[int | str, float] | None,
    n_points: int | None,
) -> Slice:
    """The slice along these coordinates; by default time and one of space, or the first two.

    ``at`` holds others at given values; else they are in the middle of the bounds.
    """
    d = len(problem.bounds)
    names = problem.variables or _names(d, problem.has_time)
    chosen = _chosen(coordinates, names, problem.has_time)
    held = {_place(key, names, "at"): float(value) for key, value in (at or {}).items()}
    for place in held:
        if place in chosen:
            raise ValueError(
                f"at must not name a coordinate that is an axis, got {names[place]!r}; choose the "
                f"axes by coordinates=, now {tuple(names[i] for i in chosen)}."
            )
    count = N_POINTS[len(chosen)] if n_points is None else n_points
    low, high = problem.bounds.T
    lines = tuple(np.linspace(low[i], high[i], count) for i in chosen)
    points = np.tile(problem.bounds.mean(1), (count ** len(chosen), 1))
    for place, value in held.items():
        points[:, place] = value
    for place, values in zip(chosen, np.meshgrid(*lines, indexing="ij"), strict=True):
        points[:, place] = values.ravel()
    fixed = {names[i]: float(points[0, i]) for i in range(d) if i not in chosen}
    inside = _inside(problem.domain, points)
    if not inside.any():
        raise ValueError(
            f"at must cut the domain {problem.domain!r}, got points outside only: {fixed}."
        )
    return Slice(lines, chosen, tuple(names[i] for i in chosen), fixed, points, inside)


def _names(d: int, has_time: bool) -> tuple[str, ...]:
    names = [f"x{i}" for i in range(d)]
    return (*names[:-1], "t") if has_time else tuple(names)


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


def _inside(domain: Domain, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Membership; everywhere for finite sets of points, which have no inside."""
    if not domain.knows_inside:
        return np.ones(len(points), bool)
    return np.asarray(domain.contains(points))
