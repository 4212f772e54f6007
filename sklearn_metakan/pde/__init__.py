"""Partial differential equations: solvers, domains, conditions, fields, problems, plots."""

from sklearn_metakan.pde import problems
from sklearn_metakan.pde.domains.adapters import DeepXDEGeometry, Points, Sampler, as_domain
from sklearn_metakan.pde.domains.domain import Domain
from sklearn_metakan.pde.domains.made import Ellipsoid, LevelSet, Moved, ParametricDomain, Product
from sklearn_metakan.pde.domains.polygon import Polygon
from sklearn_metakan.pde.domains.shapes import Ball, Box, Interval, SpaceTime, Sphere
from sklearn_metakan.pde.physics.conditions import (
    Condition,
    Dirichlet,
    Initial,
    Integral,
    Neumann,
    Periodic,
    Robin,
)
from sklearn_metakan.pde.physics.constants import Positive
from sklearn_metakan.pde.physics.field import Field
from sklearn_metakan.pde.physics.trial import TrialFunction, check_degree, order_of
from sklearn_metakan.pde.plot.display import SolutionDisplay
from sklearn_metakan.pde.solve.kan import KANPDESolver, MetaKANPDESolver

__all__ = [
    "Ball",
    "Box",
    "Condition",
    "DeepXDEGeometry",
    "Dirichlet",
    "Domain",
    "Ellipsoid",
    "Field",
    "Initial",
    "Integral",
    "Interval",
    "KANPDESolver",
    "LevelSet",
    "MetaKANPDESolver",
    "Moved",
    "Neumann",
    "ParametricDomain",
    "Periodic",
    "Points",
    "Polygon",
    "Positive",
    "Product",
    "Robin",
    "Sampler",
    "SolutionDisplay",
    "SpaceTime",
    "Sphere",
    "TrialFunction",
    "as_domain",
    "check_degree",
    "order_of",
    "problems",
]
