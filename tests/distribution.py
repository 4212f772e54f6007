"""What an installed distribution must do, without any extra: python tests/distribution.py

It is run by `make test-dist`, with the Python of an environment that has nothing else.
"""

import sys
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import make_friedman1

import sklearn_metakan
from sklearn_metakan import KANClassifier, MetaKANImageClassifier, MetaKANRegressor, load, pde


def residual(x, u):
    return u.d(0, 0) + 1


def main() -> None:
    home = Path(sklearn_metakan.__file__).parent
    assert home.parent != Path(__file__).parents[1], "this is the folder, not the distribution"
    assert version("sklearn_metakan") == sklearn_metakan.__version__
    assert (home / "py.typed").is_file()
    assert requires("sklearn_metakan")
    assert not find_spec("matplotlib"), "the environment has more than the package needs"

    X, y = make_friedman1(300, random_state=0)
    settings = {"n_estimators": 1, "max_iter": 10, "random_state": 0}
    model = MetaKANRegressor(**settings).fit(X, y)
    images = X[:, :9].reshape(-1, 3, 3)
    MetaKANImageClassifier(kernel_size=1, max_iter=1, random_state=0).fit(images, y > 14)
    assert KANClassifier(**settings).fit(X, y > 14).predict_proba(X).shape == (300, 2)
    with TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.safetensors")
        loaded = load(Path(folder) / "model.safetensors")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    solver = pde.KANPDESolver(
        residual, domain=pde.Interval(0, 1), conditions=[pde.Dirichlet(0.0)],
        hidden_layer_sizes=(4,), n_interior=100, max_iter=0, lm_iter=10, random_state=0,
    ).fit()  # fmt: skip
    assert abs(solver.predict([[0.5]])[0] - 0.125) < 0.01
    print(f"sklearn_metakan {version('sklearn_metakan')} works in {sys.prefix}")


if __name__ == "__main__":
    main()
