"""Training on skorch: the only place that configures it."""

from sklearn_metakan.training._base import BaseKANEstimator
from sklearn_metakan.training._callbacks import Monitor, Progress, warn_caller
from sklearn_metakan.training._capturable import is_captured
from sklearn_metakan.training._cuda_graph import CapturedStep
from sklearn_metakan.training._data import TensorData
from sklearn_metakan.training._docs import fill_docstring
from sklearn_metakan.training._execution import Execution, choose_execution
from sklearn_metakan.training._losses import (
    REGRESSION_LOSSES,
    weighted_accuracy,
    weighted_r2,
)
from sklearn_metakan.training._memory import by_chunks
from sklearn_metakan.training._net import KANNet
from sklearn_metakan.training._parameters import (
    COUNT,
    META_CONSTRAINTS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARED_CONSTRAINTS,
    WIDTHS,
    check_widths,
    check_working_memory,
)
from sklearn_metakan.training._schedules import LearningRateSchedule
from sklearn_metakan.training._seeding import draw_seeds
from sklearn_metakan.training._solvers import set_values
from sklearn_metakan.training._store import store

__all__ = [
    "COUNT",
    "META_CONSTRAINTS",
    "NOT_NEGATIVE",
    "POSITIVE",
    "REGRESSION_LOSSES",
    "SHARED_CONSTRAINTS",
    "WIDTHS",
    "BaseKANEstimator",
    "CapturedStep",
    "Execution",
    "KANNet",
    "LearningRateSchedule",
    "Monitor",
    "Progress",
    "TensorData",
    "by_chunks",
    "check_widths",
    "check_working_memory",
    "choose_execution",
    "draw_seeds",
    "fill_docstring",
    "is_captured",
    "set_values",
    "store",
    "warn_caller",
    "weighted_accuracy",
    "weighted_r2",
]
