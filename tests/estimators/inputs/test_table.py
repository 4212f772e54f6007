"""TableInputs: inverse, monotone, weighted, whatever the columns hold."""

import numpy as np
import pytest

from sklearn_metakan import KANRegressor
from sklearn_metakan.estimators.inputs import table as table_module
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.table import TableInputs

KINDS = ["auto", "minmax", "standard", "quantile", None]
SCALING_KINDS = KINDS[:-1]
RNG = np.random.default_rng(0)
N = 400
EVEN, NORMAL = RNG.uniform(size=N), RNG.normal(size=N)
COLUMNS = {
    "even": EVEN,
    "normal": NORMAL,
    "skewed": np.exp(3 * NORMAL),
    "outlier": np.r_[EVEN[1:], 1e12],
    "two outliers": np.r_[EVEN[2:], -1e15, 1e30],
    "binary": np.arange(N) % 2,
    "three values": np.array([-5.0, 0.0, 1e4])[np.arange(N) % 3],
    "mostly zero": np.where(np.arange(N) % 20 == 0, EVEN, 0.0),
    "mostly zero, with a long tail": np.where(EVEN > 0.8, np.exp(4 * NORMAL), 0.0),
    "huge offset": 1e9 + EVEN,
    "large": 1e90 * NORMAL,
    "small": 1e-90 * NORMAL,
    "integers": RNG.integers(-1000, 1000, size=N),
}
# Too far from one to be left unscaled.
EXTREME = {
    "huge": 1e200 * NORMAL,
    "tiny": 1e-200 * NORMAL,
    "ends of float64": np.where(NORMAL > 0, 1.79e308, -1.79e308) * EVEN,
    "subnormal": np.where(NORMAL > 0, 5e-324, 0.0),
    "zero and subnormal": np.r_[5e-324, 1.0, np.zeros(N - 2)],
}
CONSTANTS = [0.0, 1.0, -7e5, 1e20, -1.7e18, 1e300, 1e-300]

spread_out = pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
of_any_size = pytest.mark.parametrize("column", (COLUMNS | EXTREME).values(), ids=COLUMNS | EXTREME)


def table(column):
    return np.asarray(column, dtype=np.float64)[:, None]


def fit(kind, X, weight=None):
    return TableInputs(kind).fit(Rows(X, None, np.zeros(len(X)), weight))


def resolution(X):
    """Rounding of numbers of the size of X, by column."""
    return np.finfo(np.float64).eps * np.abs(X).max(axis=0)


@pytest.mark.parametrize("kind", KINDS)
@spread_out
def test_inverse_gives_the_data_back(column, kind):
    X = table(column)
    scaler = fit(kind, X)
    back = scaler.inverse_transform(scaler.transform(X))
    # Values far below the largest one are known up to the rounding of scaled numbers.
    allowed = 1e-12 * np.abs(X) + (32 * resolution(X) if kind != "quantile" else 0)
    assert (np.abs(back - X) <= allowed + 1e-12 * np.ptp(X) * (kind == "quantile")).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_holds_beyond_the_data(kind):
    X = table(np.exp(NORMAL))
    scaler = fit(kind, X)
    beyond = table([X.min() - 3, X.max() + 5])
    scaled = scaler.transform(beyond)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), beyond, rtol=1e-10)
    inside = scaler.transform(X)
    assert scaled[0] < inside.min()
    assert scaled[1] > inside.max()


@pytest.mark.parametrize("kind", KINDS)
@spread_out
def test_strictly_increasing(column, kind):
    X = np.unique(column)
    scaled = fit(kind, table(column)).transform(table(X))[:, 0]
    assert np.isfinite(scaled).all()
    step = np.diff(X) / (X[-1] - X[0])
    resolved = step > 1e-14  # of the range: closer values may round to one
    assert (np.diff(scaled) >= 0).all()
    assert (np.diff(scaled)[resolved] > 0).all()


@pytest.mark.parametrize("kind", ["auto", "minmax", "quantile"])
@spread_out
def test_range_is_mapped_onto_minus_one_to_one(column, kind):
    X = table(column)
    scaled = fit(kind, X).transform(X)
    eps = np.finfo(np.float64).eps
    assert scaled[X.argmin()] == pytest.approx(-1, abs=8 * eps)
    assert scaled[X.argmax()] == pytest.approx(1, abs=8 * eps)
    assert np.abs(scaled).max() <= 1 + 8 * eps


@spread_out
def test_standard_gives_mean_zero_and_deviation_one(column):
    X = table(column)
    scaled = fit("standard", X).transform(X)
    rounding = float(resolution(X)[0] / np.ptp(X)) * N
    assert scaled.mean() == pytest.approx(0, abs=1e-12 + rounding)
    assert scaled.std() == pytest.approx(1, abs=1e-12 + rounding)


def test_none_leaves_the_data_alone():
    X = np.stack(list(COLUMNS.values()), axis=1)
    np.testing.assert_array_equal(fit(None, X).transform(X), X)


def test_quantile_spreads_ranks_evenly():
    X = table(COLUMNS["skewed"])
    scaled = np.sort(fit("quantile", X).transform(X)[:, 0])
    even = np.linspace(-1, 1, N)
    assert np.abs(scaled - even).max() < 2 / 128  # between break points it interpolates


@pytest.mark.parametrize("kind", ["auto", "quantile"])
@pytest.mark.parametrize("name", ["outlier", "two outliers"])
def test_extreme_outliers_leave_room_for_the_rest(name, kind):
    X = table(COLUMNS[name])
    rest = np.abs(X[:, 0]) <= 1
    scaled = fit(kind, X).transform(X)[rest, 0]
    assert np.ptp(scaled) > 0.9
    # Beyond the last break point, half a percent of the rows, nothing can be told apart.
    assert len(np.unique(scaled)) >= 0.98 * rest.sum()
    # ... evenly, since the rest is even
    assert np.abs(np.corrcoef(scaled, X[rest, 0])[0, 1]) > 0.99


def test_auto_is_minmax_for_even_columns_only():
    X = np.stack([EVEN, COLUMNS["skewed"], COLUMNS["binary"]], axis=1)
    auto, minmax = (fit(kind, X).transform(X) for kind in ("auto", "minmax"))
    np.testing.assert_array_equal(auto[:, [0, 2]], minmax[:, [0, 2]])
    assert auto[:, 1].std() > minmax[:, 1].std()


def test_the_few_rows_of_a_long_tail_have_room_beside_one_value():
    """They are a fifth of the rows; the one value counts for two of them, so half is theirs."""
    column = COLUMNS["mostly zero, with a long tail"]
    scaled = fit("auto", table(column)).transform(table(column))[:, 0]
    rest = column > 0
    assert (scaled[~rest] == -1).all()
    assert np.ptp(scaled[rest]) == pytest.approx(1.0, abs=0.05)
    order = np.argsort(column[rest])
    even = np.linspace(0, 1, rest.sum())
    np.testing.assert_allclose(scaled[rest][order], even, atol=0.05)
    # Where the rest is spread over the range, or no value has most rows, positions count as well.
    for other in (COLUMNS["mostly zero"], COLUMNS["skewed"]):
        auto, ranks = (fit(kind, table(other)).transform(table(other)) for kind in KINDS[::3])
        assert np.abs(auto - ranks).max() > 0.1


@pytest.mark.parametrize("kind", SCALING_KINDS)
@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_column_becomes_zero_and_comes_back(value, kind):
    X = np.full((N, 1), value)
    scaler = fit(kind, X)
    assert (scaler.transform(X) == 0).all()
    np.testing.assert_allclose(
        scaler.inverse_transform(np.zeros((2, 1))), X[:2], rtol=1e-15, atol=1e-15
    )
    other = scaler.transform(np.array([[value - 1e-3 * abs(value)], [value + 1e-3 * abs(value)]]))
    assert np.isfinite(other).all()


def test_points_too_near_for_a_slope():
    """Found by a generated table: 1e-300 beside 1e15."""
    column = np.array([[0.0], [0.0], [0.0], [0.0], [1e-300], [1e15]])
    for kind in ("auto", "quantile"):
        scaled = TableInputs(kind).fit(Rows(column, None, column, None)).transform(column)[:, 0]
        assert np.isfinite(scaled).all()
        assert scaled[0] < scaled[4] < scaled[5]


@pytest.mark.parametrize("kind", SCALING_KINDS)
def test_noise_of_rounding_is_not_blown_up(kind):
    X = table(np.where(np.arange(N) % 2, 0.1, 0.1 + 1e-16))
    assert np.abs(fit(kind, X).transform(X)).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_weights_count_like_repeated_rows(kind):
    X = np.stack(list(COLUMNS.values()), axis=1)
    weight = np.random.default_rng(1).integers(1, 5, size=N)
    weighted = fit(kind, X, weight.astype(float))
    repeated = fit(kind, np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weighted.quantiles_, repeated.quantiles_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_of_a_large_table_are_those_of_some_rows(kind, monkeypatch):
    X, weight = table(EVEN), 1 + EVEN
    whole = fit(kind, X, weight)
    monkeypatch.setattr(table_module, "QUANTILE_ROWS", N // 2)
    some = fit(kind, X, weight)
    np.testing.assert_array_equal(some.transform(X), whole.transform(X))
    spread = np.ptp(whole.quantiles_)
    assert 0 < np.abs(some.quantiles_ - whole.quantiles_).max() < 0.1 * spread


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_scaled_each_by_itself(kind):
    """Straight lines all at once, where no column is bent."""
    columns = [EVEN, 3 * EVEN - 7, COLUMNS["skewed"]]
    together = fit(kind, np.stack(columns, axis=1))
    out = together.transform(np.stack(columns, axis=1))
    for column, scaled in zip(columns, out.T, strict=True):
        alone = fit(kind, table(column)).transform(table(column))
        np.testing.assert_array_equal(alone[:, 0], scaled)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_of_weights_does_not_matter(kind):
    X = np.stack([EVEN, COLUMNS["skewed"]], axis=1)
    weight = np.random.default_rng(1).uniform(0.5, 2, size=N)
    once, thrice = (fit(kind, X, factor * weight).transform(X) for factor in (1, 3))
    np.testing.assert_allclose(once, thrice, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SCALING_KINDS)
@spread_out
def test_units_do_not_matter(column, kind):
    X = table(column)
    plain = fit(kind, X).transform(X)
    other = fit(kind, 1024 * X).transform(1024 * X)  # exact
    np.testing.assert_allclose(plain, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_input_is_the_same_numbers(kind):
    X = np.stack([EVEN, COLUMNS["skewed"], 1e9 + 1e4 * EVEN], axis=1).astype(np.float32)
    single, double = fit(kind, X), fit(kind, X.astype(np.float64))
    np.testing.assert_array_equal(single.transform(X), double.transform(X.astype(np.float64)))
    assert single.transform(X).dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_size_does_not_grow_with_the_table(kind):
    sizes = [
        sum(
            len(points)
            for points in fit(kind, np.random.default_rng(1).normal(size=(n, 2))).points_
        )
        for n in (1000, 4000)
    ]
    assert sizes[1] <= sizes[0] + 2
    assert sizes[1] <= 2 * 129


@pytest.mark.parametrize(
    ("settings", "columns", "wanted"),
    [
        ({}, 499, (5, 3)),
        ({}, 500, (2, 2)),
        ({"grid_size": 4}, 500, (4, 3)),
        ({"degree": 1}, 500, (2, 1)),
        ({"knots": "quantile"}, 500, (2, 2)),
    ],
)
def test_wide_tables_have_fewer_functions(settings, columns, wanted):
    X = np.random.default_rng(0).normal(size=(12, columns))
    model = KANRegressor((2,), max_iter=1, n_estimators=1, **settings).fit(X, X[:, 0])
    bases = [layer.basis for layer in model.module_.kan_layers()]
    assert {(basis.grid_size, basis.degree) for basis in bases} == {wanted}
