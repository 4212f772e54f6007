"""Quantile knots: always G strictly increasing cells that cover the data."""

import numpy as np
import pytest

from sklearn_metakan.basis import quantile_knots


def columns(n=60):
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(size=n),
        "skewed": rng.lognormal(sigma=3, size=n),
        "outlier": np.r_[rng.uniform(size=n - 1), 1e9],
        "integers": rng.integers(8, size=n).astype(float),
        "three": rng.choice([-1.0, 0.5, 4.0], size=n),
        "mostly_zero": np.where(np.arange(n) < n - 4, 0.0, rng.uniform(1, 2, size=n)),
        "binary": rng.integers(2, size=n).astype(float),
        "constant": np.full(n, 7.0),
        "tiny": 1e-12 * rng.normal(size=n),
    }


@pytest.mark.parametrize("grid_size", [1, 2, 5, 20])
@pytest.mark.parametrize("name", columns())
def test_always_g_increasing_cells_that_cover_the_data(name, grid_size):
    column = columns()[name]
    (knots,) = quantile_knots(column[:, None], grid_size)
    assert knots.shape == (grid_size + 1,)
    assert (np.diff(knots) > 0).all()
    assert knots[0] <= column.min() and column.max() <= knots[-1]
    if name != "constant":
        assert (knots[0], knots[-1]) == (column.min(), column.max())


@pytest.mark.parametrize(("name", "ends"), [("binary", (0, 1)), ("constant", (6, 8))])
def test_at_most_two_values_get_the_uniform_grid(name, ends):
    (knots,) = quantile_knots(columns()[name][:, None], 5)
    np.testing.assert_allclose(knots, np.linspace(*ends, 6))


def test_every_cell_of_a_continuous_column_holds_the_same_share():
    x = np.random.default_rng(1).normal(size=(10_000, 2))
    for column, knots in zip(x.T, quantile_knots(x, 8), strict=True):
        counts, _ = np.histogram(column, knots)
        assert np.abs(counts - 1250).max() <= 2


def test_knots_of_a_column_do_not_depend_on_the_others():
    x = np.column_stack(list(columns().values()))
    together = quantile_knots(x, 5)
    for i in range(x.shape[1]):
        np.testing.assert_array_equal(quantile_knots(x[:, [i]], 5)[0], together[i])


def test_knots_move_with_the_data():
    x = np.column_stack([columns()["normal"], columns()["three"]])
    np.testing.assert_allclose(quantile_knots(3 * x - 2, 6), 3 * quantile_knots(x, 6) - 2)


def test_knots_turn_with_the_data():
    x = np.column_stack([columns()["normal"], columns()["skewed"]])
    np.testing.assert_allclose(quantile_knots(-x, 6), -quantile_knots(x, 6)[:, ::-1])


def test_a_weight_is_a_repetition():
    x = np.column_stack([columns()[name] for name in ("normal", "integers", "three")])
    weight = np.random.default_rng(2).integers(0, 4, size=len(x))
    weighted = quantile_knots(x, 5, weight)
    np.testing.assert_allclose(weighted, quantile_knots(np.repeat(x, weight, axis=0), 5))
    assert not np.allclose(weighted, quantile_knots(x, 5))


def test_the_unit_of_weights_does_not_matter():
    x = columns()["normal"][:, None]
    weight = np.random.default_rng(3).uniform(size=len(x))
    np.testing.assert_allclose(quantile_knots(x, 5, weight), quantile_knots(x, 5, 100 * weight))


def test_rows_without_weight_are_ignored():
    x = columns()["normal"][:, None]
    weight = np.ones(len(x))
    padded, padded_weight = np.r_[x, [[50.0], [-50.0]]], np.r_[weight, 0.0, 0.0]
    np.testing.assert_array_equal(
        quantile_knots(padded, 5, padded_weight), quantile_knots(x, 5, weight)
    )
