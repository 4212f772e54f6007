"""How many operations PyTorch dispatches in a training step; the same on every machine."""

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_metakan import KANRegressor, MetaKANRegressor

X = np.random.default_rng(0).uniform(-1, 1, (2560, 10)).astype(np.float32)
Y = np.sin(X).sum(1)
BATCHES = 10  # a pass
LINEAR = {"prompt_dim": 3, "meta_hidden_dim": 0, "edge_scale": False}
SINE = {"prompt_dim": 1, "meta_hidden_dim": 32, "edge_scale": True, "meta_activation": "sin"}


class Counts(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(estimator, **settings):
    """Of a step within fit, from ten passes less two."""
    found = []
    for passes in (2, 10):
        options = {"hidden_layer_sizes": (64,), "early_stopping": False, "batch_size": 256}
        model = estimator(**options, max_iter=passes, random_state=0, **settings)
        with Counts() as counts:
            model.fit(X, Y)
        found.append(counts.count)
    return (found[1] - found[0]) / (8 * BATCHES)


@pytest.mark.parametrize(
    ("estimator", "settings", "most"),
    [
        (KANRegressor, {"n_estimators": 1}, 110),
        (MetaKANRegressor, {"n_estimators": 1} | LINEAR, 150),
        (MetaKANRegressor, {"n_estimators": 1} | SINE, 190),
        (KANRegressor, {"n_estimators": 8}, 130),
        (MetaKANRegressor, {"n_estimators": 8} | LINEAR, 170),
    ],
)
def test_operations_of_a_step(estimator, settings, most):
    assert operations(estimator, **settings) <= most
