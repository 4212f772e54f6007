"""Constructor parameters may be NumPy's numbers, and train as Python's own do."""

import warnings
from numbers import Number

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)

ALL = [KANRegressor, KANClassifier, KANImageClassifier]
ALL += [MetaKANRegressor, MetaKANClassifier, MetaKANImageClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 16))
Y = (X[:, 0] > 0).astype(int)

# All of them are float16 and uint8 to the last digit.
WHOLE = {"grid_size": 4, "degree": 3, "max_iter": 3, "batch_size": 16, "n_iter_no_change": 2}
WHOLE |= {"prompt_dim": 2, "meta_hidden_dim": 8, "n_meta_learners": 1, "kernel_size": 3}
WHOLE |= {"n_estimators": 2, "strides": 2, "random_state": 3, "verbose": 0, "interactions": 0}
REAL = {"learning_rate": 2**-6, "weight_decay": 2**-7, "dropout": 0.125, "tol": 2**-13}
REAL |= {"sparsity": 2**-10, "validation_fraction": 0.25, "working_memory": 1.0, "quantile": 0.75}
REAL |= {"prompt_learning_rate": 2**-5, "meta_learning_rate": 2**-6}
ONLY_ADAMW = {"dropout", "prompt_learning_rate", "meta_learning_rate"}


def outputs(model):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


@pytest.mark.parametrize("estimator", ALL)
def test_every_number_is_tried(estimator):
    for name, value in estimator().get_params().items():
        if isinstance(value, Number) and not isinstance(value, bool):
            assert name in WHOLE or name in REAL


@pytest.mark.parametrize(
    ("solver", "whole", "real"),
    [
        ("adamw", np.int64, np.float64),
        ("adamw", np.int32, np.float32),
        ("adamw", np.uint8, np.float16),
        ("lbfgs", np.uint8, np.float16),
    ],
)
@pytest.mark.parametrize("estimator", ALL)
def test_numbers_of_numpy_train_as_python_s_own(estimator, solver, whole, real):
    names = estimator().get_params().keys() - (ONLY_ADAMW if solver == "lbfgs" else set())
    plain = {name: value for name, value in (WHOLE | REAL).items() if name in names}
    of_numpy = {name: (whole if name in WHOLE else real)(plain[name]) for name in plain}
    more = {"solver": solver, "warm_start": np.bool_(True), "early_stopping": np.bool_(True)}
    if "quantile" in names:
        more["loss"] = "quantile"
    expected = outputs(estimator(**plain, **more).fit(X, Y))
    model = estimator(**of_numpy, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Training stopped at max_iter")
        model.fit(X, Y)
        np.testing.assert_array_equal(outputs(model), expected)
        model.set_params(grid_size=whole(8)).fit(X, Y)


def test_arrays_of_widths_and_strides():
    widths, strides = np.array([2, 3]), np.array([1, 2])
    settings = {"max_iter": 2, "random_state": 0}
    expected = KANImageClassifier((2, 3), strides=(1, 2), **settings).fit(X, Y)
    model = KANImageClassifier(widths, strides=strides, **settings).fit(X, Y)
    np.testing.assert_array_equal(outputs(model), outputs(expected))


def test_search_over_an_array_of_batch_sizes():
    model = MetaKANRegressor((3,), max_iter=2, random_state=0)
    search = GridSearchCV(model, {"batch_size": np.array([8, 16])}, cv=2, error_score="raise")
    assert search.fit(X, Y).best_params_["batch_size"] in (8, 16)
