"""Maps of many columns at once are those of each by itself; pieces are found exactly."""

import numpy as np
import pytest
import torch

from sklearn_metakan.estimators.inputs.scaling import (
    LEVELS,
    PieceSearch,
    Rule,
    _fit_column,
    fit_block,
    weighted_quantiles,
)

N = 500
RNG = np.random.default_rng(0)
BLOCK = np.stack(
    [
        RNG.normal(size=N),
        RNG.exponential(size=N) ** 3,
        RNG.uniform(size=N),
        RNG.integers(0, 9, N),
        np.round(RNG.normal(size=N), 1),
        np.where(RNG.uniform(size=N) < 0.7, 0, RNG.exponential(size=N) ** 4),
        1e3 + RNG.normal(size=N),
    ]
)
EVERY = np.ones(len(BLOCK), dtype=bool)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("kind", ["auto", "quantile", "minmax", "standard"])
def test_columns_of_a_block_are_each_fitted_by_themselves(kind, is_large):
    rule = Rule(kind, is_large, 1.0)
    found = fit_block(BLOCK, EVERY, None, rule, None)
    for column, (pieces, quantiles, atoms) in zip(BLOCK, found, strict=True):
        wanted, wanted_atoms = _fit_column(column, None, rule)
        np.testing.assert_array_equal(atoms, wanted_atoms)
        for got, each in zip(pieces, wanted, strict=True):
            np.testing.assert_allclose(got, each, rtol=1e-9, atol=1e-9)
        wanted = weighted_quantiles([column], None, LEVELS)[:, 0]
        np.testing.assert_allclose(quantiles, wanted, rtol=1e-9, atol=1e-9)


def test_numbers_that_differ_by_rounding_alone_have_rising_points():
    column = 1 + np.arange(N) * np.finfo(float).eps
    rule = Rule("quantile", False, 1.0)
    ((pieces, *_),) = fit_block(column[None], EVERY[:1], None, rule, None)
    assert (np.diff(pieces[0]) > 0).all()


def test_a_column_that_does_not_vary_has_no_pieces():
    varies = np.array([False, True])
    first, second = fit_block(BLOCK[:2], varies, None, Rule("auto", False, 1.0), None)
    assert first[0] is None
    assert second[0] is not None


def test_pieces_are_found_as_by_a_binary_search():
    points = torch.full((4, 130), torch.inf, dtype=torch.float64)
    points[0, :129] = torch.linspace(-1, 1, 129)
    points[1, :129] = torch.linspace(-1, 1, 129, dtype=torch.float64) ** 9 * 1e9  # most in one cell
    points[2, :2] = torch.tensor([0.0, 1e-300])
    points[3, :5] = torch.tensor([-3.0, -2.9999, 0.0, 1.0, 1e6])
    search = PieceSearch(points)
    assert search.crowded.tolist() == [False, True, True, False]
    x = torch.randn(4, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    between = points.where(points.isfinite(), 0.0)
    x = torch.cat(
        [x, 1e9 * x, between, between.nextafter(x[:, :130]), -between[:, :1] - torch.inf], 1
    )
    last = points.isfinite().sum(1, keepdim=True) - 2
    wanted = (torch.searchsorted(points, x.contiguous(), right=True) - 1).clamp(min=0).minimum(last)
    assert torch.equal(search(x, slice(None)), wanted)
    assert torch.equal(search(x[1:3], slice(1, 3)), wanted[1:3])


@pytest.mark.parametrize("x", [torch.nan, torch.inf])
def test_what_is_no_number_lies_in_some_piece(x):
    search = PieceSearch(torch.tensor([[0.0, 1.0, torch.inf]]))
    assert 0 <= int(search(torch.tensor([[x]]), slice(None))) <= 2
