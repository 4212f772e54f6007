"""A fit that goes on where it was killed: ``long_fit.py name folder result``.

It prints a line before each fit, and writes the weights to the result.
"""

import sys
import warnings

import numpy as np
import torch

from sklearn_metakan import KANClassifier, KANImageClassifier, KANRegressor, MetaKANRegressor
from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = X[:, 0] + np.sin(X[:, 1])
IMAGES = RNG.normal(size=(60, 6, 6))
LONG = {"random_state": 0, "batch_size": 32, "checkpoint_every": (1, 0)}
TABLE = {**LONG, "hidden_layer_sizes": (3,), "n_estimators": 2, "early_stopping": True}
TABLE |= {"dropout": 0.1, "max_iter": 150}
EQUATION = {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)], "n_interior": 20}
EQUATION |= {"hidden_layer_sizes": (3,), "max_iter": 400, "lbfgs_iter": 200, "resample_every": 10}
EQUATION |= {"random_state": 0, "checkpoint_every": (1, 0)}


def residual(x, u):
    return u.d(0, 0) + 100 * torch.sin(9 * x[:, 0])


FITS = {
    "meta": (lambda: MetaKANRegressor(**TABLE), X, Y),
    "classifier": (lambda: KANClassifier(**TABLE), X, Y > 0),
    "lbfgs": (lambda: KANRegressor(3, solver="lbfgs", max_iter=150, tol=0.0, **LONG), X, Y),
    "images": (
        lambda: KANImageClassifier((3,), augment="flip", norm="batch", max_iter=60, **LONG),
        IMAGES,
        Y[:60] > 0,
    ),
    "equations": (lambda: KANPDESolver(residual, **EQUATION), None, None),
}


def main(name, folder, result):
    make, inputs, target = FITS[name]
    model = make().set_params(checkpoint_dir=folder)
    print("starts", flush=True)
    model.fit(inputs, target, resume=True)
    np.savez(result, *(p.detach().numpy() for p in model.module_.parameters()))
    print("done", model.n_iter_, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
