"""Training on skorch: the only place that configures it."""

from sklearn_metakan.training._base import BaseKANEstimator
from sklearn_metakan.training._callbacks import Monitor
from sklearn_metakan.training._data import TensorData
from sklearn_metakan.training._execution import Execution
from sklearn_metakan.training._losses import (
    REGRESSION_LOSSES,
    weighted_accuracy,
    weighted_r2,
)
from sklearn_metakan.training._memory import by_chunks
from sklearn_metakan.training._net import KANNet
from sklearn_metakan.training._seeding import draw_seeds
from sklearn_metakan.training._store import store

__all__ = [
    "REGRESSION_LOSSES",
    "BaseKANEstimator",
    "Execution",
    "KANNet",
    "Monitor",
    "TensorData",
    "by_chunks",
    "draw_seeds",
    "store",
    "weighted_accuracy",
    "weighted_r2",
]
