"""Partial differential equations: domains to draw points from, fields with their derivatives."""

from sklearn_metakan.pde import problems
from sklearn_metakan.pde._adapters import DeepXDEGeometry, Points, Sampler, as_domain
from sklearn_metakan.pde._domain import Domain
from sklearn_metakan.pde._field import Field
from sklearn_metakan.pde._shapes import Ball, Box, Interval, Sphere
from sklearn_metakan.pde._spacetime import SpaceTime
from sklearn_metakan.pde._trial import TrialFunction, check_degree, order_of

__all__ = [
    "Ball",
    "Box",
    "DeepXDEGeometry",
    "Domain",
    "Field",
    "Interval",
    "Points",
    "Sampler",
    "SpaceTime",
    "Sphere",
    "TrialFunction",
    "as_domain",
    "check_degree",
    "order_of",
    "problems",
]
