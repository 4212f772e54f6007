"""InputScaler and TargetScaler: inverse, monotone, weighted, whatever the columns hold."""

import numpy as np
import pytest

from sklearn_metakan.estimators import _scaling
from sklearn_metakan.estimators.inputs.table import InputScaler, TargetScaler

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
    "huge offset": 1e9 + EVEN,
    "huge": 1e200 * NORMAL,
    "tiny": 1e-200 * NORMAL,
    "integers": RNG.integers(-1000, 1000, size=N),
}
CONSTANTS = [0.0, 1.0, -7e5, 1e20, -1.7e18, 1e300, 1e-300]

spread_out = pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)


def table(column):
    return np.asarray(column, dtype=np.float64)[:, None]


def resolution(X):
    """Rounding of numbers of the size of X, by column."""
    return np.finfo(np.float64).eps * np.abs(X).max(axis=0)


# --- inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@spread_out
def test_inverse_gives_the_data_back(column, kind):
    X = table(column)
    scaler = InputScaler(kind).fit(X)
    back = scaler.inverse_transform(scaler.transform(X))
    # Values far below the largest one are known up to the rounding of scaled numbers.
    allowed = 1e-12 * np.abs(X) + (32 * resolution(X) if kind != "quantile" else 0)
    assert (np.abs(back - X) <= allowed + 1e-12 * np.ptp(X) * (kind == "quantile")).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_holds_beyond_the_data(kind):
    X = table(np.exp(NORMAL))
    scaler = InputScaler(kind).fit(X)
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
    scaled = InputScaler(kind).fit(table(column)).transform(table(X))[:, 0]
    assert np.isfinite(scaled).all()
    step = np.diff(X) / (X[-1] - X[0])
    resolved = step > 1e-14  # of the range: closer values may round to one
    assert (np.diff(scaled) >= 0).all()
    assert (np.diff(scaled)[resolved] > 0).all()


@pytest.mark.parametrize("kind", ["auto", "minmax", "quantile"])
@spread_out
def test_range_is_mapped_onto_minus_one_to_one(column, kind):
    X = table(column)
    scaled = InputScaler(kind).fit(X).transform(X)
    eps = np.finfo(np.float64).eps
    assert scaled[X.argmin()] == pytest.approx(-1, abs=8 * eps)
    assert scaled[X.argmax()] == pytest.approx(1, abs=8 * eps)
    assert np.abs(scaled).max() <= 1 + 8 * eps


@spread_out
def test_standard_gives_mean_zero_and_deviation_one(column):
    X = table(column)
    scaled = InputScaler("standard").fit(X).transform(X)
    rounding = float(resolution(X)[0] / np.ptp(X)) * N
    assert scaled.mean() == pytest.approx(0, abs=1e-12 + rounding)
    assert scaled.std() == pytest.approx(1, abs=1e-12 + rounding)


def test_none_leaves_the_data_alone():
    X = np.stack(list(COLUMNS.values()), axis=1)
    np.testing.assert_array_equal(InputScaler(None).fit(X).transform(X), X)


def test_quantile_spreads_ranks_evenly():
    X = table(COLUMNS["skewed"])
    scaled = np.sort(InputScaler("quantile").fit(X).transform(X)[:, 0])
    even = np.linspace(-1, 1, N)
    assert np.abs(scaled - even).max() < 2 / 128  # between break points it interpolates


@pytest.mark.parametrize("kind", ["auto", "quantile"])
@pytest.mark.parametrize("name", ["outlier", "two outliers"])
def test_extreme_outliers_leave_room_for_the_rest(name, kind):
    X = table(COLUMNS[name])
    rest = np.abs(X[:, 0]) <= 1
    scaled = InputScaler(kind).fit(X).transform(X)[rest, 0]
    assert np.ptp(scaled) > 0.9
    # Beyond the last break point, half a percent of the rows, nothing can be told apart.
    assert len(np.unique(scaled)) >= 0.98 * rest.sum()
    # ... evenly, since the rest is even
    assert np.abs(np.corrcoef(scaled, X[rest, 0])[0, 1]) > 0.99


def test_auto_is_minmax_for_even_columns_only():
    X = np.stack([EVEN, COLUMNS["skewed"], COLUMNS["binary"]], axis=1)
    auto, minmax = (InputScaler(kind).fit(X).transform(X) for kind in ("auto", "minmax"))
    np.testing.assert_array_equal(auto[:, [0, 2]], minmax[:, [0, 2]])
    assert auto[:, 1].std() > minmax[:, 1].std()


@pytest.mark.parametrize("kind", SCALING_KINDS)
@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_column_becomes_zero_and_comes_back(value, kind):
    X = np.full((N, 1), value)
    scaler = InputScaler(kind).fit(X)
    assert (scaler.transform(X) == 0).all()
    np.testing.assert_allclose(
        scaler.inverse_transform(np.zeros((2, 1))), X[:2], rtol=1e-15, atol=1e-15
    )
    other = scaler.transform(np.array([[value - 1e-3 * abs(value)], [value + 1e-3 * abs(value)]]))
    assert np.isfinite(other).all()


@pytest.mark.parametrize("kind", SCALING_KINDS)
def test_noise_of_rounding_is_not_blown_up(kind):
    X = table(np.where(np.arange(N) % 2, 0.1, 0.1 + 1e-16))
    assert np.abs(InputScaler(kind).fit(X).transform(X)).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_weights_count_like_repeated_rows(kind):
    X = np.stack(list(COLUMNS.values()), axis=1)
    weight = np.random.default_rng(1).integers(1, 5, size=N)
    weighted = InputScaler(kind).fit(X, weight.astype(float))
    repeated = InputScaler(kind).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weighted.quantiles_, repeated.quantiles_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_of_a_large_table_are_those_of_some_rows(kind, monkeypatch):
    X, weight = table(EVEN), 1 + EVEN
    whole = InputScaler(kind).fit(X, weight)
    monkeypatch.setattr(_scaling, "QUANTILE_ROWS", N // 2)
    some = InputScaler(kind).fit(X, weight)
    np.testing.assert_array_equal(some.transform(X), whole.transform(X))
    spread = np.ptp(whole.quantiles_)
    assert 0 < np.abs(some.quantiles_ - whole.quantiles_).max() < 0.1 * spread


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_scaled_each_by_itself(kind):
    """Straight lines all at once, where no column is bent."""
    columns = [EVEN, 3 * EVEN - 7, COLUMNS["skewed"]]
    together = InputScaler(kind).fit(np.stack(columns, axis=1))
    out = together.transform(np.stack(columns, axis=1))
    for column, scaled in zip(columns, out.T, strict=True):
        alone = InputScaler(kind).fit(table(column)).transform(table(column))
        np.testing.assert_array_equal(alone[:, 0], scaled)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_of_weights_does_not_matter(kind):
    X = np.stack([EVEN, COLUMNS["skewed"]], axis=1)
    weight = np.random.default_rng(1).uniform(0.5, 2, size=N)
    once, thrice = (InputScaler(kind).fit(X, factor * weight).transform(X) for factor in (1, 3))
    np.testing.assert_allclose(once, thrice, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SCALING_KINDS)
@spread_out
def test_units_do_not_matter(column, kind):
    X = table(column)
    plain = InputScaler(kind).fit(X).transform(X)
    other = InputScaler(kind).fit(1024 * X).transform(1024 * X)  # exact
    np.testing.assert_allclose(plain, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_input_is_the_same_numbers(kind):
    X = np.stack([EVEN, COLUMNS["skewed"], 1e9 + 1e4 * EVEN], axis=1).astype(np.float32)
    single, double = InputScaler(kind).fit(X), InputScaler(kind).fit(X.astype(np.float64))
    np.testing.assert_array_equal(single.transform(X), double.transform(X.astype(np.float64)))
    assert single.transform(X).dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_size_does_not_grow_with_the_table(kind):
    sizes = [
        sum(
            len(points)
            for points in InputScaler(kind)
            .fit(np.random.default_rng(1).normal(size=(n, 2)))
            .points_
        )
        for n in (1000, 4000)
    ]
    assert sizes[1] <= sizes[0] + 2
    assert sizes[1] <= 2 * 129


# --- targets --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standard", "robust", "mean", None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_target_inverse(kind, dtype):
    y = np.exp(np.random.default_rng(1).normal(size=(N, 2)) * [1, 2] + [0, 5]).astype(dtype)
    scaler = TargetScaler(kind).fit(y)
    scaled = scaler.transform(y)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaler.inverse_transform(scaled), y, rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("size", [1e-200, 1e-3, 1.0, 1e200])
def test_target_standard(size, offset):
    if offset and size < 1:
        size = 1e-2
    y = size * np.random.default_rng(1).normal(size=(N, 1)) + offset
    scaled = TargetScaler("standard").fit(y).transform(y)
    rounding = N * float(resolution(y)[0] / np.ptp(y))
    assert scaled.mean() == pytest.approx(0, abs=1e-12 + rounding)
    assert scaled.std() == pytest.approx(1, abs=1e-12 + rounding)


def test_target_robust_is_standard_for_normal_targets_and_blind_to_outliers():
    y = 3 * np.random.default_rng(1).normal(size=(20_000, 1)) + 7
    robust, standard = (TargetScaler(kind).fit(y) for kind in ("robust", "standard"))
    assert robust.location_ == pytest.approx(standard.location_, abs=0.1)
    assert robust.scale_ == pytest.approx(standard.scale_, rel=0.05)
    spoilt = np.r_[y, np.full((1000, 1), 1e9)]
    assert TargetScaler("robust").fit(spoilt).scale_ == pytest.approx(robust.scale_, rel=0.2)


def test_target_robust_falls_back_where_the_middle_half_is_one_value():
    y = np.where(np.arange(N) % 10 == 0, EVEN, 0.0)[:, None]
    robust, standard = (TargetScaler(kind).fit(y) for kind in ("robust", "standard"))
    assert robust.scale_ == standard.scale_ > 0


def test_target_mean_keeps_zero_and_sign():
    y = np.exp(NORMAL)[:, None] * np.array([1.0, 50.0])
    y[0] = 0
    scaled = TargetScaler("mean").fit(y).transform(y)
    np.testing.assert_allclose(scaled.mean(axis=0), 1)
    assert (scaled[0] == 0).all()


@pytest.mark.parametrize("kind", ["standard", "robust", "mean"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e20])
def test_constant_target_stays_finite(kind, value):
    y = np.full((N, 1), value)
    scaler = TargetScaler(kind).fit(y)
    scaled = scaler.transform(y)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= (1 if kind == "mean" else 16 * np.spacing(value))
    np.testing.assert_allclose(scaler.inverse_transform(scaled), y, rtol=1e-15)


@pytest.mark.parametrize("kind", ["standard", "robust", "mean"])
def test_target_weights_count_like_repeated_rows(kind):
    y = np.exp(np.random.default_rng(1).normal(size=(N, 2)))
    weight = np.random.default_rng(1).integers(1, 5, size=N)
    weighted = TargetScaler(kind).fit(y, weight.astype(float))
    repeated = TargetScaler(kind).fit(np.repeat(y, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(y), repeated.transform(y), rtol=1e-10, atol=1e-12)
