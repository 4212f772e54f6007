"""Trial functions, equations and conditions: what is minimised."""

from sklearn_metakan.pde.physics.checks import check_conditions, check_physics
from sklearn_metakan.pde.physics.conditions import (
    BaseCondition,
    Condition,
    Dirichlet,
    DrawPoints,
    Initial,
    Neumann,
    Periodic,
    PointSet,
    Robin,
)
from sklearn_metakan.pde.physics.field import Field
from sklearn_metakan.pde.physics.physics import DATA, EQUATION, Batch, Physics
from sklearn_metakan.pde.physics.trial import (
    Derivatives,
    TrialFunction,
    check_degree,
    default_names,
    order_of,
)

__all__ = [
    "DATA",
    "EQUATION",
    "BaseCondition",
    "Batch",
    "Condition",
    "Derivatives",
    "Dirichlet",
    "DrawPoints",
    "Field",
    "Initial",
    "Neumann",
    "Periodic",
    "Physics",
    "PointSet",
    "Robin",
    "TrialFunction",
    "check_conditions",
    "check_degree",
    "check_physics",
    "default_names",
    "order_of",
]
