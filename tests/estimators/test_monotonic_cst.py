"""monotonic_cst: no violation anywhere, in every form of the estimators, or an error."""

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_metakan import (
    KANClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
    load,
)
from sklearn_metakan.symbolic import prune

RNG = np.random.default_rng(0)
N, N_PAIRS = 300, 100_000
X = np.column_stack([RNG.normal(size=(N, 2)), RNG.lognormal(size=N), RNG.uniform(size=N)])
X[::11, 3] = np.nan
# Against both constraints in part, so that they matter.
F = np.sin(3 * X[:, 0]) + X[:, 0] + np.cos(2 * X[:, 2]) + X[:, 1] * np.nan_to_num(X[:, 3])
SIGNS = [1, 0, -1, 0]
SHORT = {"max_iter": 15, "batch_size": 60, "n_estimators": 2, "random_state": 0}
TARGETS = {
    KANRegressor: F,
    MetaKANRegressor: F,
    KANClassifier: F > 1,
    MetaKANClassifier: F > 1,
}
SETTINGS = {
    "additive": {},
    "quantiles": {"scale_inputs": "quantile", "knots": "quantile"},
    "standard": {"scale_inputs": "standard", "extrapolation": "constant"},
    "pairs": {"interactions": [(1, 3)]},
}
CASES = [(kind, (), name) for kind in (KANRegressor, MetaKANRegressor) for name in SETTINGS]
CASES += [(kind, (), "additive") for kind in (KANClassifier, MetaKANClassifier)]
CASES += [(kind, (6, 5), "additive") for kind in TARGETS]


def make(kind, widths=(), name="additive", **more):
    settings = {"monotonic_cst": SIGNS, **SHORT, **SETTINGS[name], **more}
    return kind(widths, **settings)


def violation(model, n=N_PAIRS):
    """How far answers fall at most, as a share of their size, and rise."""
    rng = np.random.default_rng(1)
    rows = X[rng.integers(N, size=n)]
    rows[n // 2 :, :3] = rng.normal(size=(n - n // 2, 3)) * 50  # far outside
    on = rows.copy()
    on[:, 0] += rng.exponential(size=n) * rng.choice([1e-3, 1, 100], size=n)
    on[:, 2] -= rng.exponential(size=n) * rng.choice([1e-3, 1, 100], size=n)
    answer = getattr(model, "decision_function", model.predict)
    low, high = answer(rows), answer(on)
    return ((low - high) / (1 + np.abs(low))).max(), (high - low).max()


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0].__name__}-{c[1]}-{c[2]}")
def fitted(request):
    kind = request.param[0]
    return make(*request.param).fit(X, TARGETS[kind])


def test_no_pair_of_rows_is_against_the_constraints(fitted):
    falls, rises = violation(fitted)
    assert falls < 1e-12
    assert rises > 0.1


def test_without_the_constraint_there_are_violations():
    model = KANRegressor((), **SHORT).fit(X, F)
    assert violation(model, 2000)[0] > 0.1


def test_every_member_and_form_of_it_is_monotone(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    other = load(tmp_path / "model")
    answer = getattr(fitted, "decision_function", fitted.predict)
    same = getattr(other, "decision_function", other.predict)
    np.testing.assert_array_equal(same(X), answer(X))
    with torch.no_grad():
        found = fitted.to_torch()(torch.tensor(X)).numpy()
    expected = getattr(fitted, "predict_proba", fitted.predict)(X)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_monotone_function_is_learned():
    y = np.arctan(3 * X[:, 0]) - X[:, 2]
    how = {"max_iter": 120, "batch_size": 60, "n_estimators": 1, "random_state": 0}
    for kind in (KANRegressor, MetaKANRegressor):
        assert kind((), monotonic_cst=SIGNS, **how).fit(X, y).score(X, y) > 0.98


def test_names_and_an_array_mean_the_same():
    frame = pd.DataFrame(X, columns=[*"abcd"])
    first = make(KANRegressor, monotonic_cst={"a": 1, "c": -1}).fit(frame, F)
    second = make(KANRegressor, monotonic_cst=np.array(SIGNS)).fit(frame, F)
    np.testing.assert_array_equal(first.predict(frame), second.predict(frame))
    second.set_params(warm_start=True, monotonic_cst=SIGNS).fit(frame, F)
    assert violation(make(KANRegressor, warm_start=True).fit(X, F).fit(X, F), 2000)[0] < 1e-12


def test_more_cells_go_on_monotone():
    model = make(KANRegressor, warm_start=True).fit(X, F)
    model.set_params(grid_size=10).fit(X, F)
    assert violation(model, 2000)[0] < 1e-12


def test_pairs_are_found_among_other_columns():
    model = make(KANRegressor, interactions=5).fit(X, F)
    assert model.interactions_ == [(1, 3)]


LETTERS = pd.DataFrame({"a": X[:, 0], "b": RNG.choice(list("xyz"), N)})


@pytest.mark.parametrize(
    ("settings", "table", "y", "message"),
    [
        ({"monotonic_cst": [1, 0]}, X, F, "monotonic_cst has shape"),
        ({"monotonic_cst": [2, 0, 0, 0]}, X, F, "-1, 0 or 1"),
        ({"monotonic_cst": {"z": 1}}, LETTERS, F, "monotonic_cst contains 1 unexpected"),
        ({"monotonic_cst": {"b": 1}}, LETTERS, F, "categories"),
        ({"interactions": [(0, 1)]}, X, F, "which monotonic_cst constrains"),
        ({"basis": "rbf"}, X, F, "basis='rbf'"),
        ({"extrapolation": "base"}, X, F, "extrapolation='base'"),
    ],
)
def test_what_cannot_be_kept_is_refused(settings, table, y, message):
    with pytest.raises(ValueError, match=message):
        make(KANRegressor, **settings).fit(table, y)


def test_more_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="more than two classes"):
        make(KANClassifier).fit(X, np.digitize(F, [0, 1]))


def test_nothing_constrained_is_no_constraint():
    free = make(KANRegressor, monotonic_cst=[0, 0, 0, 0]).fit(X, F)
    plain = make(KANRegressor, monotonic_cst=None).fit(X, F)
    np.testing.assert_array_equal(free.predict(X), plain.predict(X))


def test_what_knows_no_constraints_says_so():
    model = make(KANRegressor, monotonic_cst=[1, 0, 0]).fit(X[:, :3], F)
    with pytest.raises(ValueError, match="monotonic_cst=None"):
        prune(model, X=X[:, :3], y=F)
