"""Partial differential equations: solvers, domains, conditions, fields, problems, plots."""

from sklearn_metakan.pde import problems
from sklearn_metakan.pde._adapters import DeepXDEGeometry, Points, Sampler, as_domain
from sklearn_metakan.pde._conditions import Condition, Dirichlet, Initial, Neumann, Periodic, Robin
from sklearn_metakan.pde._display import SolutionDisplay
from sklearn_metakan.pde._domain import Domain
from sklearn_metakan.pde._field import Field
from sklearn_metakan.pde._shapes import Ball, Box, Interval, Sphere
from sklearn_metakan.pde._solvers import KANPDESolver, MetaKANPDESolver
from sklearn_metakan.pde._spacetime import SpaceTime
from sklearn_metakan.pde._trial import TrialFunction, check_degree, order_of

__all__ = [
    "Ball",
    "Box",
    "Condition",
    "DeepXDEGeometry",
    "Dirichlet",
    "Domain",
    "Field",
    "Initial",
    "Interval",
    "KANPDESolver",
    "MetaKANPDESolver",
    "Neumann",
    "Periodic",
    "Points",
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
