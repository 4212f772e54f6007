"""efficient-kan's network as an estimator, trained as its own example trains it.

AdamW (0.001, weight decay 1e-4), batches of 64, a learning rate that falls to 0.8^10 of itself.
The example's ten passes are of 60,000 images; here it is 3,000 steps where ten passes are fewer.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler

from benchmarks.speed.models import find_peers

HIDDEN, GRID_SIZE, BATCH = 64, 5, 64
STEPS, PASSES, DECAY = 3000, 10, 0.8


def find_network(peers_dir: str | Path | None) -> Callable[[Sequence[int]], torch.nn.Module] | None:
    """What builds one of these widths; None where neither checkout nor package is there."""
    found, _ = find_peers(Path(peers_dir) if peers_dir else None)
    build = next((peer.build for peer in found if peer.key == "efficient-kan"), None)
    return build and (lambda widths: build(widths, GRID_SIZE, torch.device("cpu")))


class _EfficientKAN(BaseEstimator):
    def __init__(self, peers_dir: str | None = None, random_state: int = 0) -> None:
        self.peers_dir, self.random_state = peers_dir, random_state

    def _fit(self, kind: type, X: Any, y: Any, n_outputs: int, loss: type) -> Any:
        torch.manual_seed(self.random_state)
        X = np.asarray(X, dtype=np.float32)
        network = find_network(self.peers_dir)((X.shape[1], HIDDEN, n_outputs))
        epochs = max(PASSES, -(-STEPS // -(-len(X) // BATCH)))
        falls = LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=DECAY ** (10 / epochs))
        options = {"lr": 1e-3, "batch_size": BATCH, "max_epochs": epochs, "train_split": None}
        options |= {"optimizer__weight_decay": 1e-4, "iterator_train__shuffle": True, "verbose": 0}
        options |= {"criterion": loss, "optimizer": torch.optim.AdamW, "callbacks": [falls]}
        self.net_ = kind(network, **options).fit(X, y)
        self.n_parameters_ = sum(each.numel() for each in network.parameters())
        return self


class EfficientKANRegressor(RegressorMixin, _EfficientKAN):
    def fit(self, X: Any, y: Any) -> "EfficientKANRegressor":
        column = np.asarray(y, dtype=np.float32).reshape(-1, 1)
        return self._fit(NeuralNetRegressor, X, column, 1, torch.nn.MSELoss)

    def predict(self, X: Any) -> Any:
        return self.net_.predict(np.asarray(X, dtype=np.float32)).ravel()


class EfficientKANClassifier(ClassifierMixin, _EfficientKAN):
    """Of classes 0, 1, ..."""

    def fit(self, X: Any, y: Any) -> "EfficientKANClassifier":
        self.classes_ = np.unique(y)
        codes = np.asarray(y, dtype=np.int64)
        n = len(self.classes_)
        return self._fit(NeuralNetClassifier, X, codes, n, torch.nn.CrossEntropyLoss)

    def predict_proba(self, X: Any) -> Any:
        return self.net_.predict_proba(np.asarray(X, dtype=np.float32))
