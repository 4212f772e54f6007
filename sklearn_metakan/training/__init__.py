"""Training on skorch: the only place that configures it."""

from sklearn_metakan.training.callbacks import (
    AfterEpoch,
    LearningRateSchedule,
    Monitor,
    Progress,
    StopTraining,
    TimeLimit,
    warn_caller,
)
from sklearn_metakan.training.capture import CapturedStep, is_captured, recording
from sklearn_metakan.training.checkpoints import Checkpoints, open_checkpoints
from sklearn_metakan.training.data import MadeData, StoredData, TensorData, scales_by_batch
from sklearn_metakan.training.execution import LARGE_TABLE, Execution, choose_execution
from sklearn_metakan.training.memory import by_chunks, memory_for_rows
from sklearn_metakan.training.net import KANNet
from sklearn_metakan.training.optimisers import LBFGS, set_values
from sklearn_metakan.training.parallel import PRESENT, data_parallel, draw_apart
from sklearn_metakan.training.parameters import (
    COUNT,
    META_CONSTRAINTS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARED_CONSTRAINTS,
    WIDTHS,
    fill_docstring,
    get_params,
    refuse_misspelt,
    set_params,
)
from sklearn_metakan.training.pickles import getstate, setstate
from sklearn_metakan.training.saving import PARTS, restore, save
from sklearn_metakan.training.self_scaled import LINE_SEARCHED, SelfScaled
from sklearn_metakan.training.trainer import (
    Defaults,
    Found,
    Trainer,
    check_unchanged,
    check_widths,
    draw_seeds,
)

__all__ = [
    "COUNT",
    "LARGE_TABLE",
    "LBFGS",
    "LINE_SEARCHED",
    "META_CONSTRAINTS",
    "NOT_NEGATIVE",
    "PARTS",
    "POSITIVE",
    "PRESENT",
    "SHARED_CONSTRAINTS",
    "WIDTHS",
    "AfterEpoch",
    "CapturedStep",
    "Checkpoints",
    "Defaults",
    "Execution",
    "Found",
    "KANNet",
    "LearningRateSchedule",
    "MadeData",
    "Monitor",
    "Progress",
    "SelfScaled",
    "StopTraining",
    "StoredData",
    "TensorData",
    "TimeLimit",
    "Trainer",
    "by_chunks",
    "check_unchanged",
    "check_widths",
    "choose_execution",
    "data_parallel",
    "draw_apart",
    "draw_seeds",
    "fill_docstring",
    "get_params",
    "getstate",
    "is_captured",
    "memory_for_rows",
    "open_checkpoints",
    "recording",
    "refuse_misspelt",
    "restore",
    "save",
    "scales_by_batch",
    "set_params",
    "set_values",
    "setstate",
    "warn_caller",
]
