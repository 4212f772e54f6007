"""An epoch of a large table through the estimators, beside a hand-written loop for an MLP."""

import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from _models import MLP_LABEL, make_mlp, n_parameters
from _rows import Row, compare
from _timing import Setting
from _training_step import MEGABYTE, free_memory, products_in
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.nn.functional import mse_loss

from sklearn_metakan import KANRegressor, MetaKANRegressor

SHAPE = "tabular"
ROWS, COLUMNS, BATCH, EPOCHS = 100_000, 64, 1024, 3
PRECISIONS = {"fp32": "float32", "tf32": "tf32", "bf16": "bf16"}  # as the estimators name them


def tabular_rows(setting: Setting, models: set[str] | None = None, rows: int = ROWS) -> list[Row]:
    """Seconds an epoch: a fit of a few epochs, its preparation included, over their number.

    The estimators keep their defaults but for batch size and number of epochs; the MLP has
    hidden layers of the same widths. A short fit comes first.
    """
    X, y = _make_table(rows)
    hidden = KANRegressor().hidden_layer_sizes
    widths = (COLUMNS, *hidden, 1)
    wanted = [
        ("mlp", MLP_LABEL + ", loop", lambda row: _loop(row, X, y, widths, setting)),
        *(
            (key, f"{kind.__name__}, defaults", lambda row, k=kind: _fit(row, k, X, y, setting))
            for key, kind in (("metakan", MetaKANRegressor), ("kan", KANRegressor))
        ),
    ]
    result = []
    for key, label, run in wanted:
        if models is not None and key not in models:
            continue
        row = Row(SHAPE, key, label, "-".join(map(str, widths)), BATCH, 5, setting.precision)
        row.grid_size = 0 if key == "mlp" else KANRegressor().grid_size
        with row.noting("fit"):
            run(row)
        free_memory(setting.device)
        result.append(row)
    compare(result)
    return result


def _make_table(rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, COLUMNS)).clip(-1, 1).astype(np.float32)
    return X, (np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2]).astype(np.float32)


def _fit(row: Row, kind: type, X: NDArray, y: NDArray, setting: Setting) -> None:
    options = {
        "batch_size": BATCH,
        "max_iter": EPOCHS,
        "tol": 0.0,
        "early_stopping": False,
        "device": str(setting.device),
        "precision": PRECISIONS[setting.precision],
        "random_state": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kind(**options).fit(X[: 2 * BATCH], y[: 2 * BATCH])
        model = kind(**options)
        seconds = _measured(row, lambda: model.fit(X, y), setting)
    row.epoch_seconds = seconds / model.n_iter_
    row.parameters = model.n_parameters_
    row.rows_per_second = len(X) / _seconds(lambda: model.predict(X), setting)


def _loop(row: Row, X: NDArray, y: NDArray, widths: tuple[int, ...], setting: Setting) -> None:
    network = make_mlp(widths, device=setting.device)
    row.parameters = n_parameters(widths)
    with products_in(setting.device, setting.precision):
        _train(network, X[: 2 * BATCH], y[: 2 * BATCH], setting)
        run = lambda: _train(network, X, y, setting)  # noqa: E731
        row.epoch_seconds = _measured(row, run, setting) / EPOCHS
        inputs = torch.as_tensor(X, device=setting.device)
        with torch.inference_mode():
            row.rows_per_second = len(X) / _seconds(lambda: network(inputs), setting)


def _train(network: nn.Module, X: NDArray, y: NDArray, setting: Setting) -> None:
    """What one would write by hand."""
    device = setting.device
    inputs, target = (torch.as_tensor(t, device=device) for t in (X, y[:, None]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    half = torch.autocast(
        device.type, torch.bfloat16, setting.precision == "bf16", cache_enabled=False
    )
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs), device=device).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            with half:
                loss = mse_loss(network(inputs[rows]), target[rows])
            loss.backward()
            optimizer.step()


def _measured(row: Row, run: Callable[[], object], setting: Setting) -> float:
    """Seconds of a run; on a card, its peak of allocated memory goes into the row."""
    if setting.device.type != "cuda":
        return _seconds(run, setting)
    free_memory(setting.device)
    baseline = torch.cuda.memory_allocated(setting.device)
    torch.cuda.reset_peak_memory_stats(setting.device)
    seconds = _seconds(run, setting)
    row.peak_mb = (torch.cuda.max_memory_allocated(setting.device) - baseline) / MEGABYTE
    return seconds


def _seconds(run: Callable[[], object], setting: Setting) -> float:
    def wait() -> None:
        if setting.device.type == "cuda":
            torch.cuda.synchronize(setting.device)

    wait()
    begin = perf_counter()
    run()
    wait()
    return perf_counter() - begin
