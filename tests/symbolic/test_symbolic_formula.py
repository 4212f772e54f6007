"""Formulas are found from small tables, in the user's names, or it is said what is not."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sympy
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor
from sklearn_metakan.symbolic import prune, symbolic_formula
from sklearn_metakan.symbolic.reading import slopes

RULES = {
    "v**2*m/2": ({"m": (1, 5), "v": (1, 5)}, MetaKANRegressor),
    "exp(sin(pi*x) + y**2)": ({"x": (-1, 1), "y": (-1, 1)}, KANRegressor),
    "sqrt((a - b)**2 + c**2)": ({"a": (-1, 1), "b": (-1, 1), "c": (0.1, 1)}, KANRegressor),
    "(m*r + n*s)/(m + n)": (dict.fromkeys("mnrs", (1, 5)), KANRegressor),
    "q/sqrt(1 - v**2/c**2)": ({"q": (1, 5), "v": (1, 2), "c": (3, 9)}, MetaKANRegressor),
}


def table(rule, ranges, n=400, noise=0.0, unused=False):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({name: rng.uniform(*ends, n) for name, ends in ranges.items()})
    y = sympy.lambdify(list(X), sympy.sympify(rule))(*X.to_numpy().T)
    if unused:
        X["unused"] = rng.uniform(-1, 1, n)
    return X, y + noise * y.std() * rng.standard_normal(n)


def network(X, y, kind=KANRegressor, **given):
    return kind((10,), n_estimators=1, max_iter=150, random_state=0, **given).fit(X, y)


@pytest.mark.parametrize("rule", RULES)
def test_recovered_from_rows_without_noise(rule):
    ranges, kind = RULES[rule]
    X, y = table(rule, ranges, unused=True)
    formula = symbolic_formula(network(X, y, kind), X, y)
    assert sympy.simplify(formula.expression - sympy.sympify(rule)) == 0
    assert formula.r2 == pytest.approx(1, abs=1e-12) and formula.unresolved == []
    assert formula.names == [*ranges, "unused"]
    front = formula.front
    assert (front.complexity.diff()[1:] > 0).all() and (front.mse.diff()[1:] < 0).all()
    assert formula.expression in front.expression.tolist()


def test_recovered_with_noise():
    rule = "2*cos(x)*y"
    X, y = table(rule, {"x": (0, 5), "y": (1, 3)}, noise=0.01)
    formula = symbolic_formula(network(X, y), X, y)
    rounded = formula.expression.xreplace(
        {n: sympy.Float(n, 3) for n in formula.expression.atoms(sympy.Float)}
    )
    assert sympy.simplify(rounded - sympy.sympify(rule)) == 0
    assert 0.999 < formula.r2 < 1


def test_after_pruning_and_within_others():
    rule = "x*y"
    X, y = table(rule, {"x": (-1, 1), "y": (-1, 1)})
    small = prune(network(X, y), n_edges=12, X=X, y=y)
    pipeline = make_pipeline(StandardScaler(), KANRegressor((8,), n_estimators=1, max_iter=80))
    pipeline.set_params(kanregressor__random_state=0).fit(X, y)
    around = TransformedTargetRegressor(pipeline, transformer=StandardScaler()).fit(X, y)
    for estimator in (small, pipeline, around):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            formula = symbolic_formula(estimator, X, y)
        assert str(formula.expression) == "x*y"


def test_other_tables_names_and_outputs():
    X, y = table("x*y", {"x": (1, 2), "y": (1, 2)}, n=200)
    frame = pl.DataFrame({"body mass (kg)": X["x"].to_numpy(), "a$b": X["y"].to_numpy()})
    formula = symbolic_formula(network(frame, y), frame, y)
    product = sympy.Symbol("body mass (kg)") * sympy.Symbol("a$b")
    assert formula.expression == product
    both = np.column_stack([y, y**2])
    model = network(X.to_numpy(dtype=np.float32), both)
    with pytest.raises(ValueError, match="say which with output=0 to 1"):
        symbolic_formula(model, X.to_numpy(dtype=np.float32), both)
    second = symbolic_formula(model, X.to_numpy(dtype=np.float32), both, output=1)
    assert str(second.expression) == "x0**2*x1**2"


def test_what_is_not_found_is_named_with_numbers():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(-1, 1, size=(300, 2)), columns=["u", "v"])
    y = np.sin(7 * X.u * np.exp(X.v * X.u)) + np.abs(X.v - X.u**2) ** 0.7
    with pytest.warns(UserWarning, match="falls short of the estimator"):
        formula = symbolic_formula(network(X, y), X, y, library=["z^2", "exp"])
    assert formula.unresolved and all(isinstance(each, str) for each in formula.unresolved)
    assert np.isfinite(formula.predict(X)).all() and formula.r2 < formula.estimator_r2


@pytest.mark.parametrize("value", [0.0, 3.25])
def test_a_constant_and_few_rows(value):
    X = np.linspace(0, 1, 6)[:, None]
    y = np.full(6, value)
    formula = symbolic_formula(network(X, y), X, y)
    assert formula.predict(X) == pytest.approx(y) and formula.r2 == 1.0


def test_noise_alone_gives_numbers():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        formula = symbolic_formula(network(X, y), X, y, time_limit=2)
    assert np.isfinite(formula.predict(X)).all() and np.isfinite([formula.r2]).all()


def test_slopes_of_a_known_function():
    X = np.random.default_rng(0).uniform(1, 2, size=(20, 3))
    X[:, 2] = 5.0
    found = slopes(lambda t: t[:, 0] ** 2 * t[:, 1], X)
    np.testing.assert_allclose(found[:, 0], 2 * X[:, 0] * X[:, 1], rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], X[:, 0] ** 2, rtol=1e-6)
    assert not found[:, 2].any()


def test_what_cannot_be():
    X, y = table("x*y", {"x": (1, 2), "y": (1, 2)}, n=30)
    model = network(X, y)
    for given, message in [
        ({"library": ["sine"]}, "library must be 'default' or name functions"),
        ({"library": []}, "at least one function"),
        ({"tolerance": -0.1}, "tolerance must be"),
        ({"time_limit": 0}, "time_limit must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            symbolic_formula(model, X, y, **given)
    with pytest.raises(ValueError, match="finite"):
        symbolic_formula(model, X, np.where(y > 2, np.nan, y))
    with pytest.raises(ValueError, match="reads numbers"):
        symbolic_formula(model, X.assign(x="a"), y)
    with pytest.raises(ValueError, match="as many rows"):
        symbolic_formula(model, X, y[:5])
    with pytest.raises(TypeError, match="for regressors"):
        symbolic_formula(KANClassifier(max_iter=1).fit(X, y > 2), X, y)
    with pytest.raises(NotFittedError):
        symbolic_formula(KANRegressor(), X, y)


def test_many_columns_of_which_two_count():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(300, 40))
    y = X[:, 3] * X[:, 17]

    class Known(KANRegressor):
        def predict(self, X):
            return X[:, 3] * X[:, 17]

    formula = symbolic_formula(Known(max_iter=1).fit(X, y), X, y)
    assert str(formula.expression) == "x17*x3"


def test_rows_that_were_held_out_have_values():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.uniform(-2, 2, 300)})
    y = np.sqrt(np.abs(X.x) + 0.01) + X.x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        formula = symbolic_formula(network(X, y), X, y, time_limit=3)
    assert np.isfinite(formula.predict(X)).all() and formula.r2 > 0.9
