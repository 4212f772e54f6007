"""Domains: where points are drawn, inside and on the boundary."""

from sklearn_metakan.pde.domains.adapters import DeepXDEGeometry, Points, Sampler, as_domain
from sklearn_metakan.pde.domains.domain import MOST_TRIES, Domain, points_inside
from sklearn_metakan.pde.domains.draws import METHODS
from sklearn_metakan.pde.domains.shapes import Ball, Box, Interval, Sphere
from sklearn_metakan.pde.domains.spacetime import SpaceTime

__all__ = [
    "METHODS",
    "MOST_TRIES",
    "Ball",
    "Box",
    "DeepXDEGeometry",
    "Domain",
    "Interval",
    "Points",
    "Sampler",
    "SpaceTime",
    "Sphere",
    "as_domain",
    "points_inside",
]
