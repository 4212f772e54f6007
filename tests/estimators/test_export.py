"""torch.export and torch.jit.trace of ``to_torch()``: every basis, any number of rows."""

import numpy as np
import pytest
import torch

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*deprecated:DeprecationWarning"
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y = X[:, 0] + np.sin(X[:, 1])
BEYOND = torch.from_numpy(2 * RNG.normal(size=(9, 3)))  # some outside the grid
IMAGES = RNG.normal(size=(20, 5, 5))
SHORT = {"max_iter": 2, "random_state": 0}
TABLE = {**SHORT, "hidden_layer_sizes": (3,), "n_estimators": 1}
BASES = ("rbf", "mexican_hat", "morlet", "dog", "shannon", "chebyshev", "legendre", "gram")
MODELS = {
    **{basis: (KANRegressor, TABLE | {"basis": basis}) for basis in BASES},
    "spline": (KANRegressor, TABLE | {"scale_inputs": "minmax"}),
    "members": (KANRegressor, TABLE | {"n_estimators": 2}),
    "own knots": (KANRegressor, TABLE | {"knots": "quantile", "extrapolation": "constant"}),
    "many knots": (KANRegressor, TABLE | {"knots": "quantile", "grid_size": 40, "degree": 1}),
    "tails": (KANRegressor, TABLE | {"extrapolation": "base", "n_estimators": 2}),
    "meta": (MetaKANRegressor, TABLE | {"meta_hidden_dim": 4, "loss": "poisson"}),
    "two classes": (KANClassifier, TABLE),
    "classes": (MetaKANClassifier, TABLE | {"n_estimators": 2}),
}


def fitted(name):
    kind, settings = MODELS[name]
    y = {"poisson": np.exp(Y)}.get(settings.get("loss"), Y)
    if kind in (KANClassifier, MetaKANClassifier):
        y = Y > 0 if name == "two classes" else np.digitize(Y, [-0.5, 0.5])
    return kind(**settings).fit(X, y)


def program_of(module, x):
    rows = torch.export.Dim("rows", min=1)
    return torch.export.export(module, (x,), dynamic_shapes=({0: rows},))


def exported(module, x):
    return program_of(module, x).module()


def traced(module, x):
    return torch.jit.trace(module, (x,))


# One of each kind of graph; the other bases are such as "rbf" and "morlet".
FEW = {"rbf", "morlet", "spline", "own knots", "tails", "meta", "classes"}


@pytest.mark.parametrize("way", [exported, traced])
@pytest.mark.parametrize(
    "name",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_the_same_function_for_any_number_of_rows(name, way):
    module, x = fitted(name).to_torch(), torch.from_numpy(X)
    with torch.no_grad():
        expected = [module(each) for each in (BEYOND, x[:2], x)]
        program = way(module, x[:5])
        for each, wanted in zip((BEYOND, x[:2], x), expected, strict=True):
            torch.testing.assert_close(program(each), wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(module(x), expected[2], rtol=0, atol=0)  # nothing is left behind


@pytest.mark.parametrize("way", [exported, traced])
@pytest.mark.parametrize("kind", [KANImageClassifier, MetaKANImageClassifier])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images(kind, dtype, way):
    images = IMAGES.astype(dtype) if dtype is np.float32 else (40 * abs(IMAGES)).astype(dtype)
    model = kind((3,), **SHORT, norm="batch").fit(images, IMAGES[:, 0, 0] > 0)
    module, x = model.to_torch(), torch.from_numpy(images)
    with torch.no_grad():
        program = way(module, x[:5])
        torch.testing.assert_close(program(x), module(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rbf", "spline"])
def test_programs_have_the_gradients_of_the_module_or_raise(name):
    module, gradients = fitted(name).to_torch(), []
    for each in (module, exported(module, torch.from_numpy(X[:5]))):
        x = BEYOND.clone().requires_grad_()
        try:
            each(x).sum().backward()
        except RuntimeError:
            assert each is not module
            return
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)
