"""Generated cases: an estimator fits with finite predictions, or says what is wrong with what.

The fast part draws the same cases each time; `make test-full` draws others, and prints the one that
fails in its smallest form. What was found is kept as tests of its own, beside what it was about.
"""

import pickle
import re
import tempfile
import warnings
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.model_selection import KFold

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

REGRESSORS, CLASSIFIERS = [KANRegressor, MetaKANRegressor], [KANClassifier, MetaKANClassifier]
QUICK = {"hidden_layer_sizes": (2,), "max_iter": 2, "n_estimators": 1, "random_state": 0}


def some(n):
    return settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate, Phase.shrink],
    )


def cases(fast, slow):
    """So many cases in the fast part and in the slow one."""
    of_all = settings(some(slow), derandomize=False, print_blob=True)
    slow_part = pytest.param(of_all, marks=pytest.mark.slow, id=f"{slow}")
    return pytest.mark.parametrize("profile", [pytest.param(some(fast), id=f"{fast}"), slow_part])


# --- tables ---------------------------------------------------------------------------

ODD = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    5e-324,
    1e-310,
    1e-300,
    1e-30,
    1e-5,
    1e15,
    1e30,
    3.5e38,
    1e300,
    1.7e308,
]
ODD += [-1.7e308, 2.0**53 + 2, 16777217.0]
GAPS = [np.nan, np.inf, -np.inf]
KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "even": lambda rng, n: np.arange(n) / n,
    "few": lambda rng, n: rng.integers(3, size=n).astype(float),
    "small": lambda rng, n: rng.normal(size=n) * 1e-300,
    "subnormal": lambda rng, n: rng.integers(4, size=n) * 5e-324,
    "large": lambda rng, n: rng.normal(size=n) * 1e300,
    "largest": lambda rng, n: rng.choice([-1.7e308, 1.7e308, 0.0], size=n),
    "far": lambda rng, n: 1e15 + rng.normal(size=n),
    "outlier": lambda rng, n: np.r_[rng.normal(size=n - 1), 1e300],
    "whole": lambda rng, n: 2.0**53 + 2 * rng.integers(100, size=n),
}
DTYPES = [np.float64, np.float32, np.float16, np.longdouble, np.int64, np.uint8, np.bool_, object]
DTYPES += [">f8", ">f4", ">i4"]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "mapped": lambda X: mapped(X),
    "list": lambda X: X.tolist(),
    "tensor": lambda X: torch.from_numpy(np.ascontiguousarray(X)),
    "pandas": lambda X: pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])]),
    "mixed pandas": lambda X: pd.DataFrame(
        {
            f"c{i}": X[:, i].astype(dtype)
            for i, dtype in zip(range(X.shape[1]), "fdfd", strict=False)
        }
    ),
    "Float64": lambda X: pd.DataFrame(X).add_prefix("c").astype("Float64"),
    "polars": lambda X: pl.DataFrame({f"c{i}": X[:, i] for i in range(X.shape[1])}),
    "pyarrow": lambda X: pa.table({f"c{i}": X[:, i] for i in range(X.shape[1])}),
}
PLAIN_DTYPES = [np.float64, np.float32, np.int64]  # those that every library has


def mapped(X):
    with tempfile.TemporaryDirectory() as folder:  # the map outlives the name
        np.save(Path(folder, "X.npy"), X)
        return np.load(Path(folder, "X.npy"), mmap_mode="r")


@st.composite
def columns(draw, n, kinds=tuple(KINDS)):
    """Numbers of one kind, constant, or picked one by one from odd ones."""
    kind = draw(st.sampled_from([*kinds, "constant", "picked"]))
    if kind == "constant":
        return np.full(n, draw(st.sampled_from(ODD)))
    if kind == "picked":
        return np.array(draw(st.lists(st.sampled_from(ODD), min_size=n, max_size=n)))
    return KINDS[kind](np.random.default_rng(draw(st.integers(0, 99))), n)


@st.composite
def tables(draw, n, gaps=True):
    """A table as a user has it, the same with its rows turned, and its columns."""
    X = np.column_stack(draw(st.lists(columns(n), min_size=1, max_size=4)))
    if gaps and draw(st.integers(0, 9)) == 9:
        row, column = draw(st.integers(0, n - 1)), draw(st.integers(0, X.shape[1] - 1))
        X[row, column] = draw(st.sampled_from(GAPS))
    layout = draw(st.sampled_from([*LAYOUTS]))
    of_numpy = layout in ("C", "F", "reversed", "strided", "list")
    dtype = draw(st.sampled_from(DTYPES if of_numpy else PLAIN_DTYPES))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        X = X.astype(dtype)
        return LAYOUTS[layout](X), LAYOUTS[layout](X[::-1].copy())


def rows():
    return st.one_of(st.integers(1, 12), st.sampled_from([30, 205]))


NUMBERS = ["float64", "float32", "int64", "object"]
LABELS = {
    "numbers": lambda codes: codes,
    "negative": lambda codes: -7 * codes,
    "floats": lambda codes: codes.astype(np.float32),
    "text": lambda codes: np.array(["low", "mid", "high", "top"])[codes],
    "objects": lambda codes: np.array(["low", "mid", "high", "top"], dtype=object)[codes],
    "bool": lambda codes: codes > 0,
    "polars": lambda codes: pl.Series(np.array(["low", "mid", "high", "top"])[codes]),
    "category": lambda codes: pd.Series(pd.Categorical(codes)),
    "column": lambda codes: codes[:, None],
}


@st.composite
def targets(draw, n, of_classes):
    if of_classes:
        codes = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        return LABELS[draw(st.sampled_from([*LABELS]))](np.array(codes))
    y = np.column_stack(draw(st.lists(columns(n), min_size=1, max_size=2)))
    y = y[:, 0] if y.shape[1] == 1 and draw(st.booleans()) else y
    if draw(st.integers(0, 9)) == 9:
        y[draw(st.integers(0, n - 1))] = draw(st.sampled_from(GAPS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        y = y.astype(draw(st.sampled_from(NUMBERS)))
    return y if y.ndim == 2 else draw(st.sampled_from([np.asarray, list, pd.Series]))(y)


@st.composite
def weights(draw, n):
    numbers = [0.0, 1.0, 2.0, 0.1, 1e-320, 1e-300, 1e300, 1.7e308, -1.0, np.nan, np.inf]
    usual = st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e-300, 1e300])
    each = draw(st.sampled_from([usual, usual, st.sampled_from(numbers)]))
    return np.array(draw(st.lists(each, min_size=n, max_size=n)))


# --- what must hold -------------------------------------------------------------------


def names_the_culprit(error, model):
    """Whether a message is one of ours or of scikit-learn's, about something that was given."""
    known = [*signature(type(model)).parameters, "sample_weight", "class", "column", "feature"]
    known += ["sample", "X", "y", "row", "gamma"]
    return re.search(rf"\b({'|'.join(known)})", str(error)) and len(str(error)) > 20


def fits_or_says_why(model, X, y, weight=None, others=()):
    """The fitted model, or None where the fit was refused properly."""
    before, of_classes = dict(vars(model)), isinstance(model, ClassifierMixin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no RuntimeWarning of NumPy's
        for category in (ConvergenceWarning, DataConversionWarning):
            warnings.simplefilter("ignore", category)
        try:
            model.fit(X, y, weight)
        except (TypeError, ValueError) as error:
            assert names_the_culprit(error, model), error
            assert vars(model) == before
            return None
        shape = np.shape(y)[:1] if of_classes or np.shape(y)[1:] == (1,) else np.shape(y)
        if np.ndim(getattr(model, "quantile", 0)) and model.loss == "quantile":
            shape += np.shape(model.quantile)
        for table in (X, *others):
            try:
                found = model.predict(table)
            except ValueError as error:  # far beyond training, and only there
                forbidden = model.extrapolation == "error" and "forbids" in str(error)
                assert forbidden or "too large to be held" in str(error), error
                continue
            assert found.shape == shape
            if of_classes:
                assert np.isin(found, model.classes_).all()
                found = model.predict_proba(table)
                np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
            elif model.n_estimators > 1:
                _, spread = model.predict(table, return_std=True)
                assert (spread >= 0).all()
                assert np.isfinite(spread).all()
            assert np.isfinite(found).all()
        assert np.isfinite(model.loss_) or not model.n_iter_  # within the time limit
    return model


@cases(40, 800)
@pytest.mark.parametrize("estimators", [REGRESSORS, CLASSIFIERS], ids=["numbers", "classes"])
def test_tables_targets_and_weights(profile, estimators, tried):
    of_classes = estimators is CLASSIFIERS

    @profile
    @given(st.data())
    def check(data):
        tried("generated inputs")
        n = data.draw(rows(), label="n")
        X, turned = data.draw(tables(n), label="X")
        y = data.draw(targets(n, of_classes), label="y")
        weight = data.draw(st.one_of(st.none(), weights(n)), label="weight")
        model = data.draw(st.sampled_from(estimators), label="estimator")(**QUICK)
        scaling = data.draw(st.sampled_from(["auto", "standard", "quantile"]), label="scaling")
        members = data.draw(st.sampled_from([1, 2]), label="members")
        model.set_params(scale_inputs=scaling, n_estimators=members)
        kept = repr(X.tolist()) if isinstance(X, np.ndarray) else None
        fitted = fits_or_says_why(model, X, y, weight, [turned])
        if kept is not None:
            assert repr(X.tolist()) == kept
        if fitted is not None:
            loaded = pickle.loads(pickle.dumps(fitted))
            np.testing.assert_array_equal(outputs(loaded, X), outputs(fitted, X))

    check()


def outputs(model, X):
    if hasattr(model, "classes_"):
        return model.predict_proba(X)
    try:
        return model.predict(X)
    except ValueError as error:  # of a row without weight
        assert "too large to be held" in str(error)
        return None


# --- parameters -----------------------------------------------------------------------

# Values at the borders of what is allowed, and beyond them.
WIDTHS = [(), (1,), (3, 2), [2], 3, np.array([2, 2]), (0,), (-1,), (2.5,), {2}, {2: 1}, "3", None]
COUNTS = [1, 2, np.int64(3), 0, -1, 2.5, True, None, "2", 10**12]
RATES = [1e-300, 1e-3, 1, np.float32(0.1), 0, -1.0, np.nan, np.inf, "0.1", None, "auto"]
SHARES = [0.01, 0.5, 0.99, 5e-324, 1 - 1e-16, 0, 1, -0.1, np.nan, "half"]
SWITCHES = [True, False, np.True_, 1, "yes", None]
PARAMETERS = {
    "hidden_layer_sizes": WIDTHS,
    "n_estimators": [1, 2, 3, 0, -1, 1.5, None, 10**6],
    "basis": [
        "rbf",
        "mexican_hat",
        "morlet",
        "dog",
        "shannon",
        "chebyshev",
        "legendre",
        "gram",
        "x",
    ],
    "grid_size": [1, 2, 7, 0, -1, 3.0, None, 10**7],
    "degree": [0, 1, 2, 5, -1, 1.5, 200, None],
    "knots": ["uniform", "quantile", "other", None],
    "extrapolation": ["linear", "base", "constant", "error", "x"],
    "scale_inputs": ["auto", "minmax", "standard", "quantile", None, "x", True],
    "dropout": [0.0, 0.5, 1 - 1e-9, 1.0, -0.1, np.nan, None],
    "solver": ["adamw", "lbfgs", "sgd", None],
    "learning_rate": RATES,
    "learning_rate_schedule": ["constant", "cosine", "exponential", "onecycle", "x"],
    "max_iter": [1, 2, 0, -1, 1.5, None],
    "batch_size": [1, 5, 10**9, "auto", *COUNTS],
    "weight_decay": [0, 1e-300, 0.1, 100.0, -1.0, np.nan, np.inf, "auto", None],
    "sparsity": [0, 1e-300, 1e-3, 1e4, -1.0, np.nan, np.inf, "auto", None],
    "interactions": [
        0,
        1,
        99,
        -1,
        1.5,
        [],
        [(0, 1)],
        [(0, 0)],
        [(0, 5)],
        [("c0", "c1")],
        3.0,
        None,
    ],
    "monotonic_cst": [None, [0, 0], [1, -1], [1], [2, 0], {"c0": 1}, {"x": 1}, "x", 3],
    "tol": [0, 1e-300, 1.0, -1.0, np.nan, None],
    "early_stopping": ["auto", *SWITCHES],
    "validation_fraction": SHARES,
    "validation_split": [None, 2, 3, KFold(2), 0, 1, 1.5, 99, "x", []],
    "scoring": [None, "neg_mean_squared_error", "accuracy", "neg_log_loss", "x", 3],
    "n_iter_no_change": ["auto", *COUNTS],
    "categorical_features": [None, "from_dtype", [0], [False, True], [5], [-1], ["c0"], "x", 3],
    "min_frequency": [None, 1, 3, 0.1, 100, 0, -1, 1.5, np.nan],
    "checkpoint_dir": [None, 3],
    "checkpoint_every": COUNTS,
    "time_limit": [1e-9, 0.5, None, 0, -1, np.nan, np.inf, "1"],
    "warm_start": SWITCHES,
    "random_state": [0, 2**32 - 1, None, np.random.RandomState(0), -1, 1.5, "seed"],
    "precision": ["auto", "float64", "float32", "bf16", "float16", None],
    "device": ["cpu", "auto", "cpu:0", "abacus", "meta", None, 3],
    "working_memory": [None, 1.0, 1e-6, 1e6, 0, -1, np.nan, "1"],
    "verbose": [0, False, "loud", None],
    "callbacks": [None, [], [3], 3, "x"],
    "net_params": [None, {}, {"nonsense": 1}, {"module__nonsense": 1}, {"module_": 1}, 3, "x"],
}
OF_REGRESSORS = {
    "loss": ["squared_error", "absolute_error", "huber", "quantile", "poisson", "x", None],
    "quantile": [*SHARES, [0.1, 0.9], [0.9, 0.5], [], [2.0], [[0.5]]],
    "scale_target": SWITCHES,
}
OF_CLASSIFIERS = {"class_weight": [None, "balanced", {0: 0.0}, {0: 2, 1: 1}, {"x": 1}, {}, "x", 3]}
OF_META = {
    "n_meta_learners": ["auto", "layer", 1, 2, 0, -1, 99, None, "x"],
    "prompt_dim": [1, 3, 0, -1, 1.5, 10**7, None],
    "meta_hidden_dim": [0, 1, 5, -1, 1.5, None],
    "meta_activation": ["relu", "sine", "tanh", "x", None],
    "edge_scale": SWITCHES,
    "prompt_learning_rate": RATES,
    "meta_learning_rate": RATES,
}


@st.composite
def parameters(draw, estimator):
    known = set(signature(estimator).parameters)
    drawn = {**PARAMETERS, **OF_REGRESSORS, **OF_CLASSIFIERS, **OF_META}
    assert known <= drawn.keys(), known - drawn.keys()
    names = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4, unique=True))
    return {name: draw(st.sampled_from(drawn[name]), label=name) for name in names}


PLAIN = np.random.default_rng(0).normal(size=(24, 2))
PLAIN_TARGETS = {"numbers": np.abs(PLAIN[:, 0]), "classes": (PLAIN[:, 0] > 0).astype(int)}


@cases(60, 800)
@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_parameters_at_their_borders(profile, kind, tried):
    @profile
    @given(st.data())
    def check(data):
        tried("generated inputs")
        estimators = REGRESSORS if kind == "numbers" else CLASSIFIERS
        estimator = data.draw(st.sampled_from(estimators), label="estimator")
        chosen = data.draw(parameters(estimator), label="parameters")
        model = estimator(**QUICK | chosen)
        fitted = fits_or_says_why(model, PLAIN, PLAIN_TARGETS[kind], None, [100 * PLAIN])
        if fitted is not None and fitted.solver == "adamw":
            goes_on(fitted, PLAIN_TARGETS[kind])

    check()


def goes_on(model, y):
    """A second fit from the first one's weights, and a pass over a few rows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(warm_start=True).fit(PLAIN, y)
            model.partial_fit(PLAIN[:5], y[:5])
    except ValueError as error:
        assert names_the_culprit(error, model), error
    assert np.isfinite(outputs(model, PLAIN)).all()


# --- the same in other words ----------------------------------------------------------

EXACT = {"solver": "lbfgs", "max_iter": 2, "early_stopping": False, "n_estimators": 1}
EXACT |= {"hidden_layer_sizes": (2,), "random_state": 0}


def assert_same(found, expected, rtol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@cases(20, 300)
def test_units_order_and_weights_change_nothing(profile, tried):
    @profile
    @given(st.data())
    def check(data):
        tried("generated inputs")
        rng = np.random.default_rng(data.draw(st.integers(0, 10**6), label="seed"))
        n, d = data.draw(st.integers(5, 40), label="n"), data.draw(st.integers(1, 3), label="d")
        X, noise = rng.normal(size=(n, d)), rng.normal(size=n)
        y = X.sum(1) + 0.1 * noise
        scaling = data.draw(st.sampled_from(["auto", "minmax", "standard", "quantile"]))
        model = KANRegressor(**EXACT, scale_inputs=scaling)
        weight = rng.integers(1, 3, size=n)
        expected = model.fit(X, y, weight).predict(X)
        match data.draw(st.sampled_from(["units", "far units", "order", "weights", "repeated"])):
            case "units":
                unit = 2.0 ** data.draw(st.integers(-900, 900), label="unit")
                assert_same(model.fit(unit * X, y, weight).predict(unit * X), expected)
            case "far units":
                unit = 2.0 ** data.draw(st.integers(-900, 900), label="unit")
                assert_same(model.fit(X, unit * y, weight).predict(X) / unit, expected)
            case "order":
                order = rng.permutation(n)
                found = model.fit(X[order], y[order], weight[order]).predict(X)
                assert_same(found, expected, 1e-4)
            case "weights":
                unit = 2.0 ** data.draw(st.integers(-900, 900), label="unit")
                assert_same(model.fit(X, y, unit * weight).predict(X), expected)
            case "repeated":
                found = model.fit(np.repeat(X, weight, 0), np.repeat(y, weight)).predict(X)
                assert_same(found, expected, 1e-4)

    check()


@cases(15, 200)
def test_containers_hold_the_same_table(profile, tried):
    """Layout, library and order of rows at predict do not matter."""

    @profile
    @given(st.data())
    def check(data):
        tried("generated inputs")
        n = data.draw(st.integers(2, 12), label="n")
        X = np.column_stack(
            data.draw(st.lists(columns(n, ["normal", "few", "far"]), min_size=2, max_size=4))
        )
        layout = data.draw(st.sampled_from(sorted({*LAYOUTS} - {"mixed pandas"})), label="layout")
        y = np.arange(n) % 3.0
        model = data.draw(st.sampled_from(REGRESSORS), label="estimator")(**QUICK)
        try:
            expected = model.fit(X, y).predict(X)
        except ValueError as error:
            assert names_the_culprit(error, model)
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X (has|does not have) (valid )?feature names")
            np.testing.assert_array_equal(model.fit(LAYOUTS[layout](X), y).predict(X), expected)
            turned = model.predict(LAYOUTS[layout](X[::-1].copy()))
        assert_same(turned, expected[::-1], 1e-9)

    check()
