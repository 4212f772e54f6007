"""Training through the estimator against a hand-written PyTorch loop.

    python benchmarks/loop.py

Same network, rows, batch size, number of epochs and fused AdamW; one thread; the two take
turns. Prints the median seconds of five runs and their ratio, which must be at most 1.3.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sklearn_metakan import KANRegressor, MetaKANRegressor

MAX_RATIO = 1.3
REPEATS = 5
SHAPES = [  # rows, columns, batch size, epochs
    (2_000, 8, 256, 40),
    (20_000, 16, 256, 8),
    (20_000, 16, 1024, 8),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{'model':18}{'rows':>7}{'cols':>6}{'batch':>7}{'epochs':>8}"
          f"{'estimator s':>13}{'loop s':>9}{'ratio':>7}")  # fmt: skip
    worst = 0.0
    with threadpool_limits(1):
        for rows, columns, batch_size, epochs in SHAPES:
            for model in (MetaKANRegressor, KANRegressor):
                ours, loop = compare(model, rows, columns, batch_size, epochs, repeats)
                worst = max(worst, ours / loop)
                print(f"{model.__name__:18}{rows:7}{columns:6}{batch_size:7}{epochs:8}"
                      f"{ours:13.3f}{loop:9.3f}{ours / loop:7.2f}", flush=True)  # fmt: skip
    print(f"largest ratio {worst:.2f}, at most {MAX_RATIO} allowed")
    sys.exit(worst > MAX_RATIO)


def compare(
    model: type, rows: int, columns: int, batch_size: int, epochs: int, repeats: int
) -> tuple[float, float]:
    """Median seconds of the estimator's fit and of the hand-written loop, taking turns."""
    X, y = make_data(rows, columns)
    estimator = model(
        batch_size=batch_size,
        max_iter=epochs,
        tol=0.0,
        early_stopping=False,
        device="cpu",
        random_state=0,
    )
    estimator.fit(X, y)
    if estimator.n_iter_ != epochs:
        raise RuntimeError(f"fit stopped after {estimator.n_iter_} of {epochs} epochs")
    start = copy.deepcopy(estimator.module_)
    inputs = torch.as_tensor(estimator.input_scaler_.transform(X), dtype=torch.float32)
    target = torch.as_tensor((y - y.mean()) / y.std())[:, None]
    ours, loop = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: estimator.fit(X, y)))
        network = copy.deepcopy(start).train()
        loop.append(seconds(lambda net=network: train(net, inputs, target, batch_size, epochs)))
    return median(ours), median(loop)


def train(network: nn.Module, X: Tensor, y: Tensor, batch_size: int, epochs: int) -> None:
    """What one would write by hand."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(batch_size):
            optimizer.zero_grad()
            mse_loss(network(X[rows]), y[rows]).backward()
            optimizer.step()


def make_data(rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (rows, columns))
    y = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=rows)
    return X.astype(np.float32), y.astype(np.float32)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
