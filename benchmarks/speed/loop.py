"""Training through the estimators against a hand-written PyTorch loop.

    python -m benchmarks.speed.loop

Same network (one of 64; meta-learner: sine, edge scale), rows, batch size, number of epochs and
fused AdamW; one thread; in turns. Prints the median seconds of five runs and their ratio, which
must be at most 1.3.
"""

import argparse
import copy
import sys
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import tqdm

from benchmarks.common.measure import PeakMemory, free_memory, seconds
from benchmarks.common.report import Goal, goals, table
from benchmarks.speed.harness import Setting, noting, with_ratios
from benchmarks.speed.models import MLP_LABEL, make_mlp, n_parameters
from sklearn_metakan import KANRegressor, MetaKANRegressor

MAX_RATIO = 1.3
# Rows, columns, batch size, epochs.
SHAPES = [(2_000, 8, 256, 40), (20_000, 16, 256, 8), (20_000, 16, 1024, 8)]
TABULAR = "tabular"  # a large table, as a shape of memory_speed
ROWS, COLUMNS, BATCH, EPOCHS = 100_000, 64, 1024, 3
HIDDEN = (64,)
BETAS = {"optimizer__betas": (0.9, 0.999)}
ONE: dict[str, Any] = {"hidden_layer_sizes": HIDDEN, "n_estimators": 1, "net_params": BETAS}
SINE = {"prompt_dim": 1, "meta_hidden_dim": 32, "edge_scale": True, "n_meta_learners": "auto"}
MODELS = {
    "metakan": partial(MetaKANRegressor, learning_rate=0.03, **ONE, **SINE),
    "kan": partial(KANRegressor, learning_rate=0.02, weight_decay=0.03, **ONE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    cases = [(model, *shape) for shape in SHAPES for model in MODELS]
    with threadpool_limits(1):
        rows = [compare(*case, repeats) for case in tqdm(cases, unit="pair")]
    found = pd.DataFrame(rows)
    columns = {name: f"{{{name}}}" for name in found.columns[:5]}
    columns |= {"estimator s": "{estimator:.3f}", "loop s": "{loop:.3f}", "ratio": "{ratio:.2f}"}
    goal = Goal("largest ratio", found["ratio"].max(), MAX_RATIO)
    print(table(found, columns), goals([goal]), sep="\n\n")
    sys.exit(goal.verdict != "reached")


def compare(
    model: str, rows: int, columns: int, batch: int, epochs: int, repeats: int
) -> dict[str, Any]:
    """Median seconds of the estimator's fit and of the hand-written loop, taking turns."""
    X, y = make_data(rows, columns)
    options = {"batch_size": batch, "max_iter": epochs, "tol": 0.0, "early_stopping": False}
    estimator = MODELS[model](**options, device="cpu", random_state=0).fit(X, y)
    if estimator.n_iter_ != epochs:
        raise RuntimeError(f"fit stopped after {estimator.n_iter_} of {epochs} epochs")
    start = copy.deepcopy(estimator.module_)
    inputs = torch.as_tensor(estimator.input_scaler_.transform(X), dtype=torch.float32)
    target = torch.as_tensor((y - y.mean()) / y.std())[:, None]
    ours, loop = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: estimator.fit(X, y)))
        network = copy.deepcopy(start).train()
        loop.append(seconds(lambda net=network: train(net, inputs, target, batch, epochs)))
    sizes = {"rows": rows, "columns": columns, "batch": batch, "epochs": epochs}
    spent = {"estimator": median(ours), "loop": median(loop), "ratio": median(ours) / median(loop)}
    return {"model": type(estimator).__name__, **sizes, **spent}


def train(
    network: nn.Module, X: Tensor, y: Tensor, batch: int, epochs: int, half: bool = False
) -> None:
    """What one would write by hand; ``half``: the forward pass in bf16."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(X), device=X.device).split(batch):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(X.device.type, torch.bfloat16, half, cache_enabled=False):
                loss = mse_loss(network(X[rows]), y[rows])
            loss.backward()
            optimizer.step()


def make_data(rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (rows, columns))
    y = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=rows)
    return X.astype(np.float32), y.astype(np.float32)


def tabular_rows(
    setting: Setting, models: set[str] | None = None, rows: int = ROWS
) -> pd.DataFrame:
    """Seconds an epoch: a fit of a few epochs, its preparation included, over their number.

    The estimators are ``MODELS``; the MLP has their widths. A short fit comes first.
    """
    X, y = make_data(rows, COLUMNS)
    widths = (COLUMNS, *HIDDEN, 1)
    found = []
    for key, kind in {"mlp": None, **MODELS}.items():
        if models is not None and key not in models:
            continue
        row = {"shape": TABULAR, "model": key, "batch": BATCH, "precision": setting.precision}
        row["label"] = f"{kind.func.__name__}, one network" if kind else f"{MLP_LABEL}, loop"
        row |= {"widths": "-".join(map(str, widths)), "note": ""}
        with noting(row, "fit"):
            row |= _epoch(kind or partial(HandWritten, widths, setting), X, y, setting)
        free_memory(setting.device)
        found.append(row)
    return with_ratios(pd.DataFrame(found))


def _epoch(kind: Callable[..., Any], X: NDArray, y: NDArray, setting: Setting) -> dict[str, Any]:
    device = setting.device
    options = {"batch_size": BATCH, "max_iter": EPOCHS, "tol": 0.0, "early_stopping": False}
    options |= {"precision": setting.precision.replace("fp32", "float32"), "random_state": 0}
    first, model = (kind(**options, device=str(device)) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first.fit(X[: 2 * BATCH], y[: 2 * BATCH])
        memory = PeakMemory(device)
        spent = seconds(partial(model.fit, X, y), device)
    return {
        "epoch_seconds": spent / EPOCHS,
        "peak_mb": memory.megabytes(),
        "parameters": model.n_parameters_,
        "grid_size": getattr(model, "grid_size", 0),
        "rows_per_second": len(X) / seconds(partial(model.predict, X), device),
    }


class HandWritten:
    """An MLP and its loop, called like an estimator."""

    def __init__(self, widths: tuple[int, ...], setting: Setting, **options: Any) -> None:
        self.setting, self.network = setting, make_mlp(widths, device=setting.device)
        self.n_parameters_ = n_parameters(widths)

    def fit(self, X: NDArray, y: NDArray) -> None:
        self.X, y = (torch.as_tensor(t, device=self.setting.device) for t in (X, y[:, None]))
        with self.setting.products():
            train(self.network, self.X, y, BATCH, EPOCHS, self.setting.precision == "bf16")

    def predict(self, X: NDArray) -> None:
        """Of the rows that were fitted, which are on the device."""
        with torch.inference_mode(), self.setting.products():
            self.network(self.X)


if __name__ == "__main__":
    main()
