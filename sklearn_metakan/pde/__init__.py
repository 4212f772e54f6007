"""Partial differential equations: solvers, domains, conditions, fields, problems, plots."""

from sklearn_metakan.pde import problems
from sklearn_metakan.pde.domains import (
    Ball,
    Box,
    DeepXDEGeometry,
    Domain,
    Interval,
    Points,
    Sampler,
    SpaceTime,
    Sphere,
    as_domain,
)
from sklearn_metakan.pde.physics import (
    Condition,
    Dirichlet,
    Field,
    Initial,
    Neumann,
    Periodic,
    Robin,
    TrialFunction,
    check_degree,
    order_of,
)
from sklearn_metakan.pde.plot import SolutionDisplay
from sklearn_metakan.pde.solve import KANPDESolver, MetaKANPDESolver

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
