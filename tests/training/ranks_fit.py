"""Fits of processes that train together: ``torchrun ... ranks_fit.py folder name ...``.

Each process writes what it has, as ``name-rank.npz``; so does a single one, without torchrun.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANRegressor,
    StoredTable,
    data_parallel,
)
from sklearn_metakan.pde import KANPDESolver
from sklearn_metakan.pde.problems import Helmholtz
from sklearn_metakan.training import CapturedStep

sys.path.append(str(Path(__file__).parents[1]))
from replays import capture_on_cpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(307, 3))
Y = X[:, 0] + np.sin(2 * X[:, 1])
WEIGHT = RNG.random(307)
IMAGES = RNG.normal(size=(65, 6, 6))
LONG = {"random_state": 0, "batch_size": 64, "max_iter": 6, "precision": "float64"}
TABLE = {**LONG, "hidden_layer_sizes": (4,), "n_estimators": 2}


def others(folder):
    """Other rows in the second process."""
    shift = distributed.get_rank() if distributed.is_initialized() else 0
    KANRegressor(**TABLE).fit(X, Y + shift)


def lopsided(prediction, target):
    """A loss of the user's, by row: too low costs twice as much."""
    error = target - prediction
    return torch.where(error > 0, 2 * error, error) ** 2


class Counted:
    """A table that counts the rows that are read of it."""

    def __init__(self, table):
        self.table, self.shape, self.dtype, self.n_read = table, table.shape, table.dtype, 0

    def __getitem__(self, rows):
        found = self.table[rows]
        self.n_read += len(found)
        return found


def counted(make=KANRegressor, y=Y, **more):
    """A fit to a stored table of 26 blocks; how often each row was read on the average."""

    def fit(folder):
        source = Counted(np.where(X > 2.5, np.nan, X))
        table = StoredTable(source, memory=0.0045)
        model = make(**TABLE | {"max_iter": 4} | more).fit(table, y)
        model.n_read_ = source.n_read / len(X)
        return model

    return fit


def captured(train, in_all=True):
    """A fit whose steps are captured, on a CPU for show; by the first process only, or by all."""

    def refuse(self, part):
        raise RuntimeError("operation not permitted when stream is capturing")

    def fit(folder):
        with pytest.MonkeyPatch.context() as patch:
            if not torch.cuda.is_available():
                capture_on_cpu(patch)
            if not in_all and distributed.is_initialized() and distributed.get_rank():
                patch.setattr(CapturedStep, "_record", refuse)
            return train(folder)

    return fit


def points(folder):
    """Where the residual was asked in the last step, and a solution."""
    seen = []

    def residual(x, u):
        if len(x) == 50:  # not where it is checked at the end
            seen.append(x.detach())
        return Helmholtz().settings["residual"](x, u)

    settings = Helmholtz().settings | {"residual": residual, "lbfgs_iter": 30, "max_iter": 100}
    solver = KANPDESolver(**settings, hidden_layer_sizes=(4,), n_interior=50, random_state=0).fit()
    solver.seen_ = seen[-1].cpu().numpy()
    return solver


FITS = {
    "regressor": lambda folder: KANRegressor(**TABLE).fit(X, Y, WEIGHT),
    "meta": lambda folder: MetaKANRegressor(**TABLE).fit(X, Y),
    "terms": lambda folder: KANRegressor(**TABLE | {"grid_size": 2, "degree": 2}).fit(X, Y),
    "own loss": lambda folder: KANRegressor(**TABLE, loss=lopsided, early_stopping=True).fit(
        X, Y, WEIGHT
    ),
    "drawn": lambda folder: MetaKANRegressor(**TABLE | {"random_state": None}).fit(X, Y),
    "dropout": lambda folder: KANRegressor(**TABLE, dropout=0.2).fit(X, Y),
    "classifier": lambda folder: KANClassifier(**TABLE).fit(X, np.digitize(Y, [-1, 1])),
    "lbfgs": lambda folder: KANRegressor(3, solver="lbfgs", **LONG | {"max_iter": 10}).fit(X, Y),
    "images": lambda folder: KANImageClassifier((3,), norm="instance", **LONG).fit(
        IMAGES, Y[:65] > 0
    ),
    "stored": lambda folder: KANRegressor(**TABLE).fit(StoredTable(X, memory=0.01), Y),
    "counted": counted(early_stopping=False),
    "counted members": counted(MetaKANRegressor, early_stopping=True),
    "counted classes": counted(KANClassifier, Y > 0),
    "counted at once": counted(early_stopping=False, batch_size=400),
    "few rows": lambda folder: KANRegressor(**TABLE | {"batch_size": 1, "max_iter": 1}).fit(
        X[:20], Y[:20], X_val=X[:3], y_val=Y[:3]
    ),
    "time": lambda folder: KANRegressor(**TABLE | {"max_iter": 10_000}, time_limit=2.0).fit(X, Y),
    "checkpoints": lambda folder: KANRegressor(
        **TABLE, checkpoint_dir=Path(folder) / "run", checkpoint_every=(2, 0)
    ).fit(X, Y, resume=True),
    "batch norm": lambda folder: KANImageClassifier((3,), norm="batch", **LONG).fit(
        IMAGES, Y[:65] > 0
    ),
    "others": others,
    "pde": points,
    "on cards": lambda folder: MetaKANRegressor(**TABLE | {"precision": "auto"}).fit(
        X.astype(np.float32), Y, WEIGHT
    ),
    "captured": captured(lambda folder: KANRegressor(**TABLE).fit(X, Y, WEIGHT)),
    "captured by one": captured(
        lambda folder: MetaKANRegressor(
            **TABLE | {"precision": "float32"}, early_stopping=True
        ).fit(X, Y),
        in_all=False,
    ),
    "captured lbfgs": captured(
        lambda folder: (
            KANRegressor(3, solver="lbfgs", **LONG | {"max_iter": 10})
            .set_params(net__cuda_graph=True)
            .fit(X, Y)
        )
    ),
    "captured pde": captured(points),
    "pde by squares": lambda folder: KANPDESolver(
        **Helmholtz().settings | {"lm_iter": 5}, hidden_layer_sizes=(4,), random_state=0
    ).fit(),
}


def facts(name, folder):
    """What a fit left behind; of one that raises, the message."""
    try:
        model = FITS[name](folder)
    except ValueError as error:
        return {"error": np.array(str(error))}
    found = {"loss": np.array(model.loss_curve_), "seen": getattr(model, "seen_", np.empty(0))}
    if hasattr(model, "cuda_graph_"):
        found["captured"] = np.array(model.cuda_graph_)
    if hasattr(model, "n_read_"):
        found["n_read"] = np.array(model.n_read_)
    if getattr(model, "validation_scores_", None):
        found["scores"] = np.array(model.validation_scores_)
    for key, value in model.net_.module_.state_dict().items():
        found[f"weights {key}"] = value.detach().cpu().numpy()
    return found


def main(folder, *names):
    """Over NCCL where each process has a card; those that share one have to do with gloo.

    Of names, "nccl" stands for a group of the caller's own, of cards alone.
    """
    n_cards, size = torch.cuda.device_count(), int(os.environ.get("WORLD_SIZE", "1"))
    if n_cards and size > n_cards:
        distributed.init_process_group("gloo")
    elif names[0] == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl")
    names = [name for name in names if name != "nccl"]
    with data_parallel() as ranks:
        for name in names:
            np.savez(Path(folder) / f"{name}-{ranks.rank}.npz", **facts(name, folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
